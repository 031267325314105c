from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from bridge.aggregator import Secret
from bridge.sources import verification as module
from bridge.sources.octoprint import Verified
from bridge.sources.verification import Candidate, Verification

KEYS_SEEN: list[str] = []
VERIFIED: list[Candidate] = []


@pytest.fixture
async def octoprint() -> AsyncIterator[str]:
    """An OctoPrint that knows the key "good"."""

    async def answer(request: web.Request) -> web.Response:
        KEYS_SEEN.append(request.headers["X-Api-Key"])
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
    made = Verification(VERIFIED.append)
    running = asyncio.create_task(made.run())
    yield made
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def outcome(verification: Verification, machine: str) -> module.Outcome:
    async with asyncio.timeout(30):
        while machine not in verification.outcomes:
            await asyncio.sleep(0.01)
    return verification.outcomes[machine]


async def test_what_came_of_it_can_be_read(verification: Verification, octoprint: str) -> None:
    VERIFIED.clear()
    verification.ask(Candidate("m", octoprint, Secret("good")))
    verification.ask(Candidate("n", octoprint, Secret("bad")))
    good, bad = await outcome(verification, "m"), await outcome(verification, "n")
    assert (good.ok, "1.11.8" in good.detail) == (True, True)
    assert (bad.ok, "does not know the key" in bad.detail) == (False, True)
    assert [one.machine for one in VERIFIED] == ["m"]


async def test_a_new_key_is_asked_with_in_place_of_the_old(
    verification: Verification, octoprint: str
) -> None:
    verification.ask(Candidate("m", octoprint, Secret("bad")))
    assert not (await outcome(verification, "m")).ok
    verification.ask(Candidate("m", octoprint, Secret("good")))
    assert (await outcome(verification, "m")).ok
    await asyncio.sleep(0.3)
    assert verification.outcomes["m"].ok


async def test_an_unforeseen_fault_with_one_machine_is_told_once_and_keeps_none_of_the_others(
    verification: Verification, octoprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = module.verify

    async def odd(http: aiohttp.ClientSession, url: str, key: str) -> Verified:
        asked.append(url)
        if url == "http://odd":
            raise RecursionError
        return await real(http, url, key)

    monkeypatch.setattr(module, "verify", odd)
    with capture_logs() as logged:
        verification.ask(Candidate("odd", "http://odd", Secret("good")))
        assert "unforeseen way (RecursionError)" in (await outcome(verification, "odd")).detail
        verification.ask(Candidate("m", octoprint, Secret("good")))
        assert (await outcome(verification, "m")).ok
        async with asyncio.timeout(30):
            while asked.count("http://odd") < 3:
                await asyncio.sleep(0.01)
    [told] = [one for one in logged if one.get("machine") == "odd"]
    assert (told["log_level"], told["exc_info"]) == ("error", True)
    assert "config.json" in told["detail"]


async def test_a_paired_machine_over_plain_http_is_not_asked_but_waits_for_its_plugin(
    verification: Verification, octoprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLUGIN_EXPECTED_WITHIN_S", 0.0)
    KEYS_SEEN.clear()
    with capture_logs() as logged:
        verification.ask(Candidate("m", octoprint, Secret("good"), paired=True))
        verification.ask(Candidate("n", octoprint, Secret("good")))
        assert (await outcome(verification, "n")).ok
        assert KEYS_SEEN == ["good"] * 3
        await asyncio.sleep(0.1)
    assert "m" in verification.by_plugin
    assert "m" not in verification.outcomes
    told = [one["event"] for one in logged if one.get("machine") == "m"]
    assert ["waits for its plugin" in told[0], "does not deliver yet" in told[1]] == [True, True]
    verification.heard("m")
    assert verification.outcomes["m"].ok


async def test_a_push_proves_nothing_of_a_machine_that_is_asked(verification: Verification) -> None:
    verification.ask(Candidate("m", "http://127.0.0.1:9", Secret("good")))
    assert not (await outcome(verification, "m")).ok
    verification.heard("m")
    assert not verification.outcomes["m"].ok


@pytest.mark.parametrize(
    ("url", "paired", "by_plugin"),
    [
        ("http://h", True, True),
        ("HTTP://h", True, True),
        ("https://h", True, False),
        ("HTTPS://h", True, False),
        ("http://h", False, False),
    ],
)
def test_only_a_paired_key_over_plain_http_is_left_to_the_plugin(
    url: str, paired: bool, by_plugin: bool
) -> None:
    assert Candidate("m", url, Secret("good"), paired).by_plugin is by_plugin
