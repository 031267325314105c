from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from bridge import announce as module
from bridge.announce import SERVICE, Announcement, announce

zeroconf = pytest.importorskip("zeroconf")
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf  # noqa: E402

WHAT = Announcement("Hall 3.East", "bridge-1", "0.2.0", "127.0.0.1", 8484, https=True)


@pytest.fixture
def said() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


async def ended(announcing: asyncio.Task[None]) -> None:
    announcing.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(announcing, return_exceptions=True)


async def test_a_bridge_on_loopback_is_not_announced(said: list[dict[str, object]]) -> None:
    async with asyncio.timeout(30):
        await announce(WHAT)
    assert [line["event"] for line in said] == ["not announced: only this computer can reach the bridge"]


async def test_plugins_find_what_is_announced_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, said: list[dict[str, object]]
) -> None:
    monkeypatch.setattr(module, "_addresses", lambda host: ["127.0.0.1"])
    announcing = asyncio.create_task(announce(WHAT))
    async with asyncio.timeout(20):
        while not any(line["event"] == "announced by mDNS" for line in said):
            await asyncio.sleep(0.05)
    asking = AsyncZeroconf(interfaces=["127.0.0.1"])
    try:
        found = AsyncServiceInfo(SERVICE, f"Hall 3 East (ge-1).{SERVICE}")
        assert await found.async_request(asking.zeroconf, 5000)
        assert (found.port, found.parsed_addresses()) == (8484, ["127.0.0.1"])
        assert found.decoded_properties == {"version": "0.2.0", "id": "bridge-1", "https": "1"}
        await ended(announcing)
        again = AsyncServiceInfo(SERVICE, f"Hall 3 East (ge-1).{SERVICE}")
        assert not await again.async_request(asking.zeroconf, 1500)
    finally:
        await asking.async_close()


async def test_a_failure_is_told_once_stops_nothing_and_may_pass(
    monkeypatch: pytest.MonkeyPatch, said: list[dict[str, object]]
) -> None:
    found: list[str] = []

    def addresses(host: str) -> list[str]:
        if not found:
            raise OSError("no network")
        return found

    monkeypatch.setattr(module, "_addresses", addresses)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.05)
    announcing = asyncio.create_task(announce(WHAT))
    await asyncio.sleep(0.3)
    assert [(line["log_level"], line["error"]) for line in said] == [("warning", "no network")]
    found.append("127.0.0.1")
    async with asyncio.timeout(20):
        while not any(line["event"] == "announced by mDNS" for line in said):
            await asyncio.sleep(0.05)
    await ended(announcing)


def test_a_label_holds_what_fits_of_the_name_and_tells_two_bridges_of_one_name_apart() -> None:
    assert module._label("ä" * 60, "bridge-12ab") == "ä" * 28 + " (12ab)"
    assert module._label("...", "bridge-12ab") == "MESBridge (12ab)"
    assert module._label("vm", "bridge-12ab") != module._label("vm", "bridge-12ac")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_loopback_is_known_under_each_of_its_names(host: str) -> None:
    assert module._addresses(host) == []


def test_all_interfaces_means_the_addresses_that_others_can_use() -> None:
    assert not {"127.0.0.1", "0.0.0.0"} & set(module._addresses("0.0.0.0"))
    assert module._addresses("192.0.2.7") == ["192.0.2.7"]
