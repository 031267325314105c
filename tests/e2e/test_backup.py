"""`mesbridge backup` of a bridge at work, and `mesbridge restore` when its computer is gone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.octoprint import free_port
from bridge.sandbox import Sandbox
from tests.bridge.mes.chain import machines_of, running_sandbox
from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.faults.printer import Printer
from tests.e2e.faults.report import compare

pytestmark = pytest.mark.e2e

JOBS, JOB_S = 6, 2.0
MACHINE = {
    "type": "OCTOPRINT",
    "url": "http://127.0.0.1:9",
    "authentication_file_path": "a" * 43,
    "mes_id": [1],
}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge.cli", *arguments, "--settings", "settings.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def wait(what: Callable[[], Any], timeout: float = 90.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)
    return found


@contextmanager
def plant(tmp_path: Path) -> Iterator[tuple[Sandbox, BridgeProcess, list[Printer]]]:
    with running_sandbox(tmp_path / "mes", port=free_port()) as sandbox:
        (tmp_path / "outboxes").mkdir()
        (tmp_path / "bridge").mkdir()
        settings = (
            f'[[mes]]\nid = 1\nurl = "{sandbox.mes_url}"\nservice_id = "{sandbox.service_id}"\n'
            f'token_file = "{sandbox.token_file}"\nheartbeat = 1\nlease = 30\n'
        )
        bridge = BridgeProcess(tmp_path / "bridge", [], settings)
        address = f"http://127.0.0.1:{bridge.push_port}"
        printers = [
            Printer(number, address, tmp_path / "outboxes", JOBS, JOB_S, random.Random(number))
            for number in (10, 11, 12)
        ]
        (bridge.folder / "config.json").write_text(json.dumps([one.entry for one in printers]))
        try:
            yield sandbox, bridge, printers
        finally:
            for one in printers:
                one.stop()
            if bridge.process is not None:
                bridge.kill()


def test_machines_go_on_as_they_were_on_another_computer_and_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    with plant(tmp_path) as (sandbox, bridge, printers):
        bridge.start()
        for one in printers:
            one.start()
        wait(lambda: sum(len(one.printed) for one in printers) >= len(printers))
        made = command(bridge.folder, "backup", "../first.tar.gz", "--with-config", "config.json")
        assert made.returncode == 0, made.stderr
        wait(lambda: sum(len(one.printed) for one in printers) >= 3 * len(printers))
        known = {one["id"] for one in machines_of(sandbox)}
        bridge.kill()
        (bridge.folder / "state").rename(tmp_path / "lost")

        brought = command(bridge.folder, "restore", "../first.tar.gz", "--config-folder", "../config")
        assert brought.returncode == 0, brought.stderr
        assert (tmp_path / "config" / "config.json").read_bytes() == (
            bridge.folder / "config.json"
        ).read_bytes()
        bridge.output.unlink()
        bridge.start()
        assert "is an older copy" not in bridge.text()  # neither of the log nor of what waits for the MES
        wait(lambda: all(one.done for one in printers))

        def report() -> Any:
            return compare([one.life for one in printers], machines_of(sandbox))

        deadline = time.monotonic() + 60
        while not report().sound and time.monotonic() < deadline:
            time.sleep(0.2)
        assert report().sound, report().text({})
        assert {one["id"] for one in machines_of(sandbox)} == known
        assert "Traceback" not in bridge.text()


def test_a_bridge_that_runs_keeps_its_folder(tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, [MACHINE])
    bridge.start()
    try:
        assert command(bridge.folder, "backup", "a.tar.gz").returncode == 0
        refused = command(bridge.folder, "restore", "a.tar.gz")
        assert refused.returncode == 1
        assert "another mesbridge uses this state folder" in refused.stderr
        again = command(bridge.folder, "backup", "a.tar.gz")
        assert again.returncode == 1
        assert "is there already" in again.stderr
        assert bridge.stop() == 0
        assert command(bridge.folder, "restore", "a.tar.gz").returncode == 0
        assert len(list(bridge.folder.glob("state.before-*"))) == 1
        bridge.start()
    finally:
        bridge.kill()
