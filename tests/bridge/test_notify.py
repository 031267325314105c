"""What a service manager hears, on a real datagram socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.notify import Notifier

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is a Linux thing")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(30)
        yield one


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), **more}


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_it_tells_that_it_serves_reloads_and_stops(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier(environment(tmp_path))
    notifier.ready("serves\n3 machines")
    assert heard(manager) == ["READY=1", "STATUS=serves 3 machines"]  # no line more than meant
    with notifier.reloading():
        reloading, since = heard(manager)
        assert reloading == "RELOADING=1"
        assert int(since.removeprefix("MONOTONIC_USEC=")) > 0
    assert heard(manager) == ["READY=1"]
    notifier.stopping()
    assert heard(manager)[0] == "STOPPING=1"


def test_an_abstract_address_is_one_too() -> None:
    name = f"mesbridge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(f"\0{name}")
        one.settimeout(30)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("well")
        assert heard(one) == ["STATUS=well"]


async def test_signs_of_life_end_while_something_is_unwell_and_that_is_said_once(
    manager: socket.socket, tmp_path: Path
) -> None:
    notifier = Notifier(environment(tmp_path, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid())))
    assert notifier.watchdog == pytest.approx(0.03)
    reasons: list[str] = []
    asked = 0

    async def unwell() -> list[str]:
        nonlocal asked
        asked += 1
        return reasons

    with capture_logs() as logs:
        watching = asyncio.create_task(notifier.watch(unwell))
        assert await asyncio.to_thread(heard, manager) == ["WATCHDOG=1"]
        reasons.append("log: its writer does not answer")
        until = asked + 5
        while asked < until:
            await asyncio.sleep(0.01)
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # what was sent before
            while True:
                manager.recv(4096)
        until = asked + 5
        while asked < until:
            await asyncio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        watching.cancel()
    assert [one["event"] for one in logs] == ["the bridge is not well: no sign of life is given"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"},
    ],
)
async def test_without_a_watchdog_for_this_process_there_are_no_signs(
    tmp_path: Path, said: dict[str, str]
) -> None:
    notifier = Notifier(environment(tmp_path, **said))
    assert notifier.watchdog is None
    await asyncio.wait_for(notifier.watch(lambda: pytest.fail("nobody asks")), 30)


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_manager_the_bridge_serves_all_the_same(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready("serves")
