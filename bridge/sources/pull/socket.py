"""OctoPrint's push socket: logged in with an API key, subscribed to what is wanted, and read message by message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from bridge.sources.octoprint import KeyRefused, SocketRefused, Unreachable, ask
from bridge.tables import cell

_PATH = "/sockjs/websocket"
_LONGEST_ADDRESS = 256
_OPEN_WITHIN_S = 10.0
_CLOSE_WITHIN_S = 2.0
_PING_EVERY_S = 10.0
_LARGEST_MESSAGE = 1 << 20
_EVERY = 4
"""Of OctoPrint's half seconds, so often it tells state, progress and temperatures. Events come at once."""


_MOST_AT_ONCE, _MOST_A_SECOND = 500, 20.0
_BYTES_AT_ONCE, _BYTES_A_SECOND = 4 << 20, 100_000.0


class Lost(Exception):
    """The socket ended; it is opened again."""


class PushSocket:
    """One open socket; see `opened`."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._messages = Allowance(_MOST_AT_ONCE, _MOST_A_SECOND)
        self._bytes = Allowance(_BYTES_AT_ONCE, _BYTES_A_SECOND)

    async def messages(self, within: float) -> Sequence[tuple[str, Any]]:
        """The next message's parts by name, such as ``current``; nothing when none came `within` these seconds.

        Raises `Lost`, also when more comes than any printer has to tell.
        """
        await asyncio.sleep(0)  # else one that never stops would keep all others waiting
        try:
            message = await self._connection.receive(timeout=within)
        except TimeoutError:
            return ()
        size = len(message.data) if isinstance(message.data, (str, bytes)) else 0
        if not (self._messages.take(1) and self._bytes.take(size)):
            raise Lost("it tells more than a printer has to tell; look what is behind this address")
        if message.type is aiohttp.WSMsgType.PING:
            await self._say(self._connection.pong(message.data))
            return ()
        if message.type is aiohttp.WSMsgType.PONG:
            return ()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Lost(f"closed by OctoPrint or the network ({message.type.name.lower()})")
        try:
            said = json.loads(message.data)
        except (ValueError, RecursionError):
            return ()
        return tuple(said.items()) if isinstance(said, Mapping) else ()

    async def log_in(self, auth: str) -> None:
        """Say who one is: what `login` returned. Raises `Lost`."""
        await self._say(self._connection.send_json({"auth": auth}))

    async def subscribe(self, events: Sequence[str]) -> None:
        """Have the state told now and then, and `events` at once. Raises `Lost`."""
        await self._say(self._connection.send_json({"throttle": _EVERY}))
        state = {"logs": False, "messages": False}
        wanted = {"state": state, "events": list(events), "plugins": False}
        await self._say(self._connection.send_json({"subscribe": wanted}))

    @staticmethod
    async def _say(saying: Awaitable[None]) -> None:
        try:
            await saying
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"closed by OctoPrint or the network ({error})") from None


class Allowance:
    """How much may come: `most` at once, and `a_second` in the long run."""

    def __init__(self, most: float, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._left = most
        self._a_second = a_second
        self._clock = clock
        self._at = clock()

    def take(self, amount: float) -> bool:
        """Whether so much may come now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._a_second) - amount
        self._at = now
        return self._left >= 0


def no_redirects() -> aiohttp.TraceConfig:
    """For the session of `opened`: a handshake that is sent elsewhere is given up; the login is for this host alone."""

    async def refuse(_: aiohttp.ClientSession, __: object, sent: aiohttp.TraceRequestRedirectParams) -> None:
        target = cell(sent.response.headers.get("Location", "elsewhere"), _LONGEST_ADDRESS)
        raise aiohttp.ClientError(f"redirected to {target}")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


@contextlib.asynccontextmanager
async def opened(
    http: aiohttp.ClientSession, base: str, auth: str, events: Sequence[str]
) -> AsyncIterator[PushSocket]:
    """The socket of the OctoPrint at `base`, subscribed to its state and to `events`, and then logged in, so that it
    begins with one ``history``.

    Raises `SocketRefused`, `Lost`.
    """
    scheme, _, place = base.partition("://")
    address = f"{'wss' if scheme.lower() == 'https' else 'ws'}://{place}{_PATH}"
    try:
        async with asyncio.timeout(_OPEN_WITHIN_S):
            connection = await http.ws_connect(
                address,
                autoping=False,
                heartbeat=_PING_EVERY_S,
                max_msg_size=_LARGEST_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_WITHIN_S),
            )
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
        raise SocketRefused(
            f"the push socket of {base} cannot be opened ({str(error) or 'no answer in time'}); a reverse proxy before"
            f" OctoPrint has to let websockets through to {_PATH}"
        ) from None
    try:
        socket = PushSocket(connection)
        await socket.subscribe(events)
        await socket.log_in(auth)
        yield socket
    finally:
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_CLOSE_WITHIN_S):  # of all that may still come before its answer
                await connection.close()


async def login(http: aiohttp.ClientSession, base: str, api_key: str) -> str:
    """What the socket wants as ``auth``: a session of the user to whom the key belongs.

    Raises `Unreachable`, `KeyRefused`, and `SocketRefused` when there is no such session.
    """
    status, user = await ask(http, "POST", base, "/api/login", api_key, {"passive": True})
    name, session = user.get("name"), user.get("session")
    if status in (400, 401, 403):  # 400: without a valid key OctoPrint misses what a browser would send
        raise KeyRefused(f"{base} does not accept the key of this machine any more; put in another one")
    if status != 200:
        raise Unreachable(f"{base}/api/login answers {status}; look into OctoPrint's log (octoprint.log)")
    if not isinstance(name, str) or not isinstance(session, str) or not name or ":" in name:
        raise SocketRefused(f"{base} gives no session for the key of this machine, so it has no push socket")
    return f"{name}:{session}"
