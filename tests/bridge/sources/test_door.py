"""The port for plugins on real sockets, some of which never finish what they begin."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from structlog.testing import capture_logs

from bridge import https
from bridge.settings import PushSettings
from bridge.sources import door

HALVES = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"POST /push HTTP/1.1\r\nHost:", id="half a head"),
    pytest.param(b"POST /push HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{", id="half a body"),
    pytest.param(
        b"POST /push HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", id="chunks"
    ),
    pytest.param(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", id="unknown path"),
]
WHOLE = b"POST /push HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
WITHIN = 2.0
MOST = 20


class Port:
    """A served port that answers each push with its body."""

    def __init__(self, secured: https.Https | None = None) -> None:
        self.secured = secured
        self.port = 0
        self.slow = 0.0
        self.writers: list[asyncio.StreamWriter] = []

    async def _push(self, request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self.slow)
        return web.Response(body=body)

    @contextlib.asynccontextmanager
    async def open(self, within: float = WITHIN) -> AsyncIterator[Port]:
        application = web.Application()
        application.router.add_post("/push", self._push)
        context = self.secured.context if self.secured else None
        async with door.serve(application, "127.0.0.1", 0, context, within, MOST) as (_, self.port):
            yield self
        for writer in self.writers:
            writer.close()

    def client(self) -> ClientSession:
        return ClientSession(connector=TCPConnector(ssl=False))

    async def push(self, client: ClientSession, body: bytes = b"{}") -> bytes:
        scheme = "https" if self.secured else "http"
        async with client.post(f"{scheme}://127.0.0.1:{self.port}/push", data=body) as answer:
            assert answer.status == 200
            return await answer.read()

    async def begin(self, half: bytes, *, tls: bool | None = None) -> asyncio.StreamReader:
        context = None
        if self.secured and tls is not False:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        writer.write(half)
        await writer.drain()
        self.writers.append(writer)
        return reader


@pytest.fixture(params=[False, True], ids=["http", "https"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> https.Https | None:
    return https.load(PushSettings(https=True), tmp_path) if request.param else None


@pytest.fixture
async def port(secured: https.Https | None) -> AsyncIterator[Port]:
    async with Port(secured).open() as made:
        yield made


async def ended(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


@pytest.mark.parametrize("half", HALVES)
async def test_what_is_never_finished_is_ended_and_keeps_no_honest_push_from_being_answered(
    port: Port, half: bytes
) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    readers = [await port.begin(half) for _ in range(10)]
    async with port.client() as client, asyncio.timeout(30):
        assert await port.push(client) == b"{}"
        await asyncio.gather(*map(ended, readers))
    assert loop.time() - begun >= WITHIN * 0.9


async def test_a_second_request_has_its_own_time_and_no_more(port: Port) -> None:
    reader = await port.begin(WHOLE)
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n{}")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(WITHIN * 1.5)
        port.writers[-1].write(WHOLE)
        assert (await reader.readuntil(b"\r\n\r\n{}")).startswith(b"HTTP/1.1 200 ")
        port.writers[-1].write(b"POST /push")
        await ended(reader)


@pytest.mark.parametrize("tls", [True, False], ids=["half a head", "nothing, not even TLS"])
async def test_when_there_are_too_many_the_oldest_unfinished_one_goes_and_this_is_told_once(
    secured: https.Https | None, tls: bool
) -> None:
    with capture_logs() as logged:
        async with Port(secured).open(60.0) as port, port.client() as client, asyncio.timeout(50):
            assert await port.push(client) == b"{}"
            half = b"POST /push" if tls else b""
            readers = [await port.begin(half, tls=tls) for _ in range(3 * MOST)]
            assert await port.push(client, b"[]") == b"[]"
            async with port.client() as another:
                assert await port.push(another) == b"{}"
            await asyncio.gather(*map(ended, readers[: 2 * MOST]))
    told = [line for line in logged if "too many connections" in line["event"]]
    assert [line["limit"] for line in told] == [MOST]


async def test_many_idle_connections_leave_room_for_a_new_one(port: Port) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(port.client()) for _ in range(MOST + 5)]
        for client in [*clients, *clients]:
            assert await port.push(client) == b"{}"


async def test_an_answer_may_take_longer_than_a_request(port: Port) -> None:
    async with port.client() as client, asyncio.timeout(30):
        port.slow = WITHIN * 1.5
        assert await port.push(client) == b"{}"


async def test_when_it_ends_all_connections_end(tmp_path: Path) -> None:
    async with Port().open() as port:
        readers = [await port.begin(b"POST"), await port.begin(b"")]
    async with asyncio.timeout(30):
        await asyncio.gather(*map(ended, readers))


async def test_an_address_that_is_taken_is_an_error() -> None:
    async with Port().open() as port:
        application = web.Application()
        with pytest.raises(OSError, match="in use"):
            async with door.serve(application, "127.0.0.1", port.port):
                pass


async def test_an_address_of_a_kind_that_this_computer_lacks_is_passed_over_if_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = socket.create_server

    def without_ipv6(address: tuple[str, int], **how: Any) -> socket.socket:
        if how["family"] == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return make(address, **how)

    async def both(*_: Any, **__: Any) -> list[Any]:
        kind = socket.SOCK_STREAM
        four = (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0))
        return [(socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)), *([four] if has_ipv4 else [])]

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    has_ipv4 = True
    async with door.serve(web.Application(), "localhost", 0) as (_, port):
        assert port > 0
    has_ipv4 = False
    with pytest.raises(OSError, match="Cannot assign"):
        async with door.serve(web.Application(), "localhost", 0):
            pass
