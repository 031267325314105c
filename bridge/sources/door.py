"""The port for plugins: how many connections there may be, and how long each may take to say what it wants.

In: an HTTP application and an address. Out: the application, served. Anybody in the network can connect, so that
nothing may be kept for those who never finish a request: each is given some seconds, from its first byte (or
the connection) to its last, and when there are too many connections at once the one that takes longest has to go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

log = structlog.get_logger(__name__)

REQUEST_WITHIN_S: Final = 15.0
"""From the beginning of a request (the first one: of the connection) until all of it is there."""

_IDLE_S: Final = 75.0
_END_WITHIN_S: Final = 2.0
_MOST: Final = 4096
_WHERE_LIMIT_UNKNOWN: Final = 512
_BACKLOG: Final = 128
_TELL_AGAIN_S: Final = 600.0
_AGAIN_S: Final = 1.0
_NOT_HERE: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@contextlib.asynccontextmanager
async def serve(
    application: web.Application,
    host: str,
    port: int,
    ssl_context: ssl.SSLContext | None = None,
    within: float = REQUEST_WITHIN_S,
    most: int | None = None,
) -> AsyncIterator[tuple[str, int]]:
    """Serve `application` as long as the context lasts; gives host and port. Raises `OSError`.

    `within` is the time for each request, in seconds, and `most` how many connections there may be at once.
    """
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=_END_WITHIN_S, keepalive_timeout=_IDLE_S
    )
    door = _Door(lambda: cast(web.Server, runner.server)(), ssl_context, within, most or _most())
    application.middlewares.append(door.middleware)
    await runner.setup()
    listening: list[socket.socket] = []
    try:
        listening += await _listen(host, port)
        accepting = [asyncio.create_task(door.accept(one), name="door") for one in listening]
        try:
            yield host, listening[0].getsockname()[1]
        finally:
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)
    finally:
        for one in listening:
            one.close()
        await runner.cleanup()
        await door.close()


class _Door:
    """All connections, in two rows: those that owe the rest of a request, and the others; the oldest first."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        ssl_context: ssl.SSLContext | None,
        within: float,
        most: int,
    ) -> None:
        self.protocol = protocol
        self.ssl_context = ssl_context
        self.within = within
        self._most = most
        self._owing: dict[_Guest, None] = {}
        self._settled: dict[_Guest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_protocol: dict[object, _Guest] = {}
        self._told: dict[str, float] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Has each connection be asked for the rest of its request, until that is there."""
        guest = self._by_protocol.get(request.protocol)
        if guest is not None:
            guest.owe()
            request.content.on_eof(guest.settle)
        return await handler(request)

    async def accept(self, listening: socket.socket) -> None:
        """Let in whoever comes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._tell("a plugin's connection cannot be accepted", error=error.strerror or str(error))
                await asyncio.sleep(_AGAIN_S)
                continue
            if len(self._owing) + len(self._settled) >= self._most:
                self._make_room()
            guest = _Guest(self)
            task = loop.create_task(guest.stay(connection))
            guest.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # so that it has begun before it can be ended

    async def close(self) -> None:
        """End all connections."""
        for guest in [*self._owing, *self._settled]:
            guest.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def know(self, guest: _Guest, protocol: object) -> None:
        self._by_protocol[protocol] = guest

    def move(self, guest: _Guest, *, owing: bool) -> None:
        """Put `guest` at the end of one row."""
        self._owing.pop(guest, None)
        self._settled.pop(guest, None)
        (self._owing if owing else self._settled)[guest] = None

    def leave(self, guest: _Guest, protocol: object) -> None:
        self._owing.pop(guest, None)
        self._settled.pop(guest, None)
        self._by_protocol.pop(protocol, None)

    def _make_room(self) -> None:
        # A plugin that is idle makes its connection anew when it finds it closed, and loses nothing.
        longest = next(iter(self._owing), None) or next(iter(self._settled))
        self._tell(
            "too many connections of plugins: the oldest are closed; look who connects, or allow the bridge more"
            " open files (ulimit -n, LimitNOFILE=)",
            limit=self._most,
        )
        self.leave(longest, None)
        longest.end()

    def _tell(self, event: str, **values: object) -> None:
        """Once, and again when it has lasted."""
        now = time.monotonic()
        if now - self._told.get(event, float("-inf")) > _TELL_AGAIN_S:
            self._told[event] = now
            log.warning(event, **values)


class _Guest(asyncio.Protocol):
    """One connection, from its acceptance to its end; HTTP is left to the protocol behind it."""

    def __init__(self, door: _Door) -> None:
        self.task: asyncio.Task[None] | None = None
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._http: asyncio.Protocol | None = None
        self._limit: asyncio.TimerHandle | None = None
        self.owe()

    async def stay(self, connection: socket.socket) -> None:
        """Until the connection is lost. TLS begins here, and its time counts."""
        try:
            await self._loop.connect_accepted_socket(lambda: self, connection, ssl=self._door.ssl_context)
            await self._lost
        except OSError:  # of TLS, too: somebody who does not speak it, or has gone
            pass
        finally:
            self._stop_clock()
            self._door.leave(self, self._http)

    def owe(self) -> None:
        """A request has begun, or at least the connection."""
        if self._limit is None:
            self._limit = self._loop.call_later(self._door.within, self.end)
            self._door.move(self, owing=True)

    def settle(self) -> None:
        """All of the request is there."""
        self._stop_clock()
        self._door.move(self, owing=False)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def _stop_clock(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    # ----------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._http = self._door.protocol()
        self._door.know(self, self._http)
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.owe()
        if self._http is not None:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._http is None else self._http.eof_received()

    def pause_writing(self) -> None:
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._http is not None:
            self._http.connection_lost(error)
        if not self._lost.done():
            self._lost.set_result(None)


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at each address of `host` that this computer has. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            listening.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            listening[-1].setblocking(False)
        except OSError as error:
            if error.errno in _NOT_HERE:  # of IPv6 where there is none
                missing = error
                continue
            for one in listening:
                one.close()
            raise
    if missing is not None and not listening:
        raise missing
    return listening


def _most() -> int:
    """So many that the log, the MES and OPC UA clients have files left to open."""
    if sys.platform == "win32":
        return _WHERE_LIMIT_UNKNOWN
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(1, min(_MOST, files * 2 // 3))
