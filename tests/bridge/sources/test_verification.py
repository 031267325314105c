from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.aggregator import Secret
from bridge.machine import Link
from bridge.sources import verification as module
from bridge.sources.verification import Candidate, Verification


@pytest.fixture
async def octoprint() -> AsyncIterator[str]:
    """An OctoPrint that knows the key "good"."""

    async def answer(request: web.Request) -> web.Response:
        if request.headers["X-Api-Key"] != "good":
            return web.json_response({}, status=403)
        return web.json_response({"server": "1.11.8", "state": "Operational"})

    app = web.Application()
    app.router.add_get("/api/{what}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.fixture
async def verification(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Verification]:
    monkeypatch.setattr(module, "_FIRST_RETRY_S", 0.05)
    made = Verification(lambda machine: Link.UP)
    running = asyncio.create_task(made.run())
    yield made
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def outcome(verification: Verification, machine: str) -> module.Outcome:
    async with asyncio.timeout(10):
        while machine not in verification.outcomes:
            await asyncio.sleep(0.01)
    return verification.outcomes[machine]


async def test_what_came_of_it_can_be_read(verification: Verification, octoprint: str) -> None:
    verification.ask(Candidate("m", octoprint, Secret("good")))
    verification.ask(Candidate("n", octoprint, Secret("bad")))
    good, bad = await outcome(verification, "m"), await outcome(verification, "n")
    assert (good.ok, "1.11.8" in good.detail) == (True, True)
    assert (bad.ok, "does not know the key" in bad.detail) == (False, True)


async def test_a_new_key_is_asked_with_in_place_of_the_old(
    verification: Verification, octoprint: str
) -> None:
    verification.ask(Candidate("m", octoprint, Secret("bad")))
    assert not (await outcome(verification, "m")).ok
    verification.ask(Candidate("m", octoprint, Secret("good")))
    assert (await outcome(verification, "m")).ok
    await asyncio.sleep(0.3)
    assert verification.outcomes["m"].ok
