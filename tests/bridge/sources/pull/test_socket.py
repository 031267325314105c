"""The push socket against servers that are no OctoPrint, or one gone mad."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.sources.octoprint import SocketRefused
from bridge.sources.pull import socket as module
from bridge.sources.pull.socket import Allowance, Lost, PushSocket, no_redirects, opened

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def connected(handler: Handler) -> AsyncIterator[PushSocket]:
    """The socket of a server that answers with `handler`."""
    app = web.Application()
    app.router.add_get("/sockjs/websocket", handler)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(trace_configs=[no_redirects()]) as http,
        opened(http, str(server.make_url("/")).rstrip("/"), "user:session", ("Shutdown",)) as one,
    ):
        yield one


def speaking(say: Callable[[web.WebSocketResponse], Awaitable[None]]) -> Handler:
    """A server that says something without end, whatever it hears."""

    async def handler(request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        try:
            while not connection.closed:
                await say(connection)
                await asyncio.sleep(0)
        except (ConnectionError, RuntimeError):
            pass
        return connection

    return handler


async def read_until_lost(one: PushSocket) -> str:
    try:
        while True:
            await one.messages(30)
    except Lost as lost:
        return str(lost)


@pytest.mark.parametrize(
    "say",
    [
        lambda connection: connection.send_str("{}"),
        lambda connection: connection.ping(),
        lambda connection: connection.send_str('{"current": {"x": "%s"}}' % ("y" * 500_000)),
    ],
    ids=["messages", "pings", "bytes"],
)
async def test_one_that_never_stops_is_given_up_and_keeps_no_other_waiting(
    say: Callable[[web.WebSocketResponse], Awaitable[None]],
) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.timeout(60), connected(speaking(say)) as one:
        beside = asyncio.create_task(others())
        assert "more than a printer" in await read_until_lost(one)
        beside.cancel()
    assert turns > 10


async def test_a_message_that_is_too_long_ends_the_socket() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        await connection.send_str("[" + "1," * (1 << 20) + "1]")
        await connection.receive()
        return connection

    async with asyncio.timeout(60), connected(handler) as one:
        assert "closed" in await read_until_lost(one)


async def test_the_login_is_not_told_to_another_place() -> None:
    heard: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        heard.append((await connection.receive()).data)
        return connection

    app = web.Application()
    app.router.add_get("/sockjs/websocket", elsewhere)
    async with TestServer(app) as other:
        target = str(other.make_url("/sockjs/websocket"))

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(target)

        with pytest.raises(SocketRefused, match="redirected"):
            async with connected(redirect):
                pass
    assert heard == []


async def test_a_handshake_that_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN_WITHIN_S", 0.3)

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    begun = time.monotonic()
    with pytest.raises(SocketRefused, match="no answer in time"):
        async with connected(silent):
            pass
    assert time.monotonic() - begun < 30


def test_an_allowance_fills_again_with_time_and_never_beyond_its_measure() -> None:
    now = 0.0
    allowance = Allowance(10, 2.0, lambda: now)
    assert [allowance.take(5) for _ in range(3)] == [True, True, False]
    now = 100.0
    assert [allowance.take(10), allowance.take(1)] == [True, False]
