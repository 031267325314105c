"""A bridge that a service manager and a monitor watch over: readiness, signs of life, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.bridge_process import BridgeProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and sockets"),
]

MACHINE = {
    "type": "OCTOPRINT",
    "url": "http://127.0.0.1:9",
    "authentication_file_path": "a" * 43,
    "mes_id": [1],
}
LOCKED_DOWN = (
    "import ctypes; libc = ctypes.CDLL(None); libc.prctl(38, 1, 0, 0, 0); libc.prctl(65, 1, 0, 0, 0)"
)
"""As in extras/mesbridge.service: no new privileges, and no memory that is written and run."""
HANGING = """
import threading
from pathlib import Path
from bridge.log import sqlite
commit = sqlite.SqliteLog._commit
def hang(self, batch):
    while Path("hang").exists():
        threading.Event().wait(0.05)
    commit(self, batch)
sqlite.SqliteLog._commit = hang
"""
SLOW = """
import asyncio
from pathlib import Path
from bridge.umati import UmatiServer
start = UmatiServer.start
async def later(self):
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    await start(self)
UmatiServer.start = later
"""


class Manager:
    """What systemd does: hears, and counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.words: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.words += self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()

    @property
    def signs(self) -> int:
        return self.words.count("WATCHDOG=1")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    one = BridgeProcess(tmp_path, [MACHINE])
    yield one
    if one.process is not None and one.process.poll() is None:
        os.kill(one.process.pid, signal.SIGCONT)
        one.kill()


def start(bridge: BridgeProcess, manager: Manager, before: str, watchdog_s: float = 0.6) -> None:
    # Without WATCHDOG_PID, which only who starts the process can know after the fact.
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
    bridge.start(before=before, environment=environment)


def wait(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 40
    while not (found := what()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.02)
    return found


def get(bridge: BridgeProcess, path: str) -> tuple[int, dict[str, Any]]:
    answer = requests.get(bridge.web_url + path, timeout=30)
    return answer.status_code, answer.json()


def test_systemd_hears_of_a_start_a_life_and_an_end(bridge: BridgeProcess, manager: Manager) -> None:
    start(bridge, manager, LOCKED_DOWN)
    wait(lambda: manager.signs >= 2)
    assert manager.words[:2] == ["READY=1", "STATUS=serves 1 machines"]
    assert get(bridge, "/healthz") == (200, {"alive": True, "reasons": []})
    assert get(bridge, "/readyz") == (200, {"ready": True, "reasons": []})
    assert bridge.process is not None
    os.kill(bridge.process.pid, signal.SIGHUP)
    wait(lambda: manager.words.count("READY=1") == 2)
    assert manager.words.index("RELOADING=1") < len(manager.words) - manager.words[::-1].index("READY=1")
    os.kill(bridge.process.pid, signal.SIGSTOP)
    stopped = "State:\tT"
    wait(lambda: stopped in Path(f"/proc/{bridge.process.pid}/status").read_text())
    before = manager.signs
    time.sleep(2)  # ten signs of life, if there were any
    assert manager.signs <= before + 1  # one may have been on its way
    os.kill(bridge.process.pid, signal.SIGCONT)
    wait(lambda: manager.signs > before + 1)
    assert bridge.stop() == 0
    assert "STOPPING=1" in manager.words


def test_a_log_that_does_not_answer_is_no_life(bridge: BridgeProcess, manager: Manager) -> None:
    start(bridge, manager, HANGING)
    wait(lambda: manager.signs)
    (bridge.folder / "hang").touch()
    status, said = get(bridge, "/healthz")
    assert (status, said["alive"]) == (503, False)
    assert "its writer has not answered" in said["reasons"][0]
    assert get(bridge, "/readyz")[0] == 503
    bridge.wait_for("the bridge is not well: no sign of life is given")
    before = manager.signs
    time.sleep(2)
    assert manager.signs == before
    (bridge.folder / "hang").unlink()
    wait(lambda: manager.signs > before)
    assert get(bridge, "/healthz")[0] == 200


def test_nothing_but_health_is_shown_before_the_bridge_serves(bridge: BridgeProcess) -> None:
    bridge.start(wait=False, before=SLOW)
    bridge.wait_for("status page")
    assert get(bridge, "/readyz") == (503, {"ready": False, "reasons": ["the bridge is starting"]})
    assert get(bridge, "/healthz")[0] == 200
    waiting = requests.get(bridge.web_url + "/metrics", timeout=30)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (503, "2")
    (bridge.folder / "go").touch()
    bridge.wait_for("MESBridge serves")
    assert get(bridge, "/readyz")[0] == 200
    assert requests.get(bridge.web_url + "/metrics", timeout=30).status_code == 200
