"""The bridge is killed, the MES is away, the plugins repeat themselves: at the end the MES holds what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge import wire
from bridge.demo.octoprint import free_port
from tests.bridge.events import DATA, JOB
from tests.bridge.mes.chain import machines_of, running_sandbox
from tests.e2e.bridge_process import BridgeProcess, Plugin
from tests.e2e.faults.siege import SHORT, Siege

pytestmark = pytest.mark.e2e

MACHINES = 3
RESULTS = ("completed", "cancelled", "failed")


class Printer:
    """A printer whose plugin keeps each event until the bridge has it, however often it must be sent."""

    def __init__(self, number: int, push_url: str) -> None:
        self.number = number
        self.key = f"{number}" * 43
        self.plugin = Plugin(push_url, self.key, f"instance-{number}")
        self.outbox: list[tuple[str, dict[str, Any]]] = []
        self.jobs: dict[str, tuple[str, str]] = {}
        self.outbox.append((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))

    @property
    def entry(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.number + 1}"
        return {"type": "OCTOPRINT", "url": url, "authentication_file_path": self.key, "mes_id": [1]}

    def print(self) -> None:
        """One job with a pause; it began an hour and more ago."""
        number = len(self.jobs)
        run, result = f"run-{self.number}-{number}", RESULTS[number % len(RESULTS)]
        started = wire.format_time(wire.utc_now() - timedelta(hours=9 - number))
        self.jobs[run] = (started, result)
        reason = None if result == "completed" else result
        ended = {**DATA[wire.JOB_ENDED], "run": run, "result": result, "reason": reason}
        self.outbox += [
            (wire.JOB_STARTED, {**JOB, "run": run, "started": started}),
            (wire.STATE, {"state": "printing", "error": None}),
            (wire.PROGRESS, {**DATA[wire.PROGRESS], "run": run}),
            (wire.STATE, {"state": "paused", "error": None}),
            (wire.STATE, {"state": "printing", "error": None}),
            (wire.JOB_ENDED, ended),
            (wire.STATE, {"state": "operational", "error": None}),
        ]

    def push(self, most: int) -> None:
        """Send what waits, at most so many events; they stay when no answer comes."""
        batch = self.outbox[:most]
        try:
            reply = self.plugin.push(*batch)
        except requests.RequestException:
            return
        del self.outbox[: len(batch)]
        if reply.snapshot:
            self.outbox.append((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))


@contextmanager
def bridge_for(
    folder: Path, mes_port: int, token_file: Path
) -> Iterator[tuple[BridgeProcess, list[Printer]]]:
    settings = (
        f'[[mes]]\nid = 1\nurl = "http://127.0.0.1:{mes_port}/api/v2.0/service-panel"\n'
        f'service_id = "sandbox"\ntoken_file = "{token_file}"\nheartbeat = 1\nlease = 3\n'
    )
    folder.mkdir()
    bridge = BridgeProcess(folder, [], settings)
    printers = [Printer(number, bridge.push_url) for number in range(1, MACHINES + 1)]
    (folder / "config.json").write_text(json.dumps([printer.entry for printer in printers]))
    try:
        yield bridge, printers
    finally:
        if bridge.process is not None:
            bridge.kill()


def wait(what: Callable[[], Any], timeout: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)
    return found


def restart(bridge: BridgeProcess) -> None:
    """Kill the bridge at whatever it is doing, and start it again."""
    bridge.kill()
    bridge.output.unlink()
    bridge.start()


def jobs_in(machines: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {job["id"]: (job["started"], job["state"]) for machine in machines for job in machine["jobs"]}


def test_nothing_is_lost_doubled_or_shifted_whatever_fails(tmp_path: Path) -> None:
    """The short form of `make soak`: every kind of fault at least once."""
    siege = Siege(tmp_path, SHORT, print)
    report = siege.run()
    text = report.text(siege.circumstances())
    assert report.sound, text
    assert siege.done["bridge killed -9"] >= SHORT.kills
    assert siege.to_mes.lost, "no answer was lost"
    assert "Traceback" not in siege.bridge.text()


def test_what_is_truly_lost_is_found_out(tmp_path: Path) -> None:
    """The report is worth something only if it notices."""
    plan = replace(SHORT, machines=2, jobs_each=1, job_s=0.5, kills=0, faults=("lose_state",), settled_s=2.0)
    report = Siege(tmp_path, plan, print).run()
    assert report.lost


def test_a_machine_taken_out_of_config_json_is_offline_in_its_mes(tmp_path: Path) -> None:
    port = free_port()
    with (
        running_sandbox(tmp_path / "mes", port=port) as sandbox,
        bridge_for(tmp_path / "bridge", port, sandbox.token_file) as (bridge, printers),
    ):
        bridge.start()
        for printer in printers:
            printer.push(1)
        wait(lambda: [m["status"] for m in machines_of(sandbox)] == ["Idle"] * MACHINES)
        (bridge.folder / "config.json").write_text(json.dumps([printer.entry for printer in printers[1:]]))
        restart(bridge)
        wait(lambda: sorted(m["status"] for m in machines_of(sandbox)) == ["Idle", "Idle", "Offline"])
        (offline,) = [m for m in machines_of(sandbox) if m["status"] == "Offline"]
        assert offline["url"] == printers[0].entry["url"]


def test_a_mes_store_that_is_older_than_the_log_is_named(tmp_path: Path) -> None:
    port = free_port()
    with (
        running_sandbox(tmp_path / "mes", port=port) as sandbox,
        bridge_for(tmp_path / "bridge", port, sandbox.token_file) as (bridge, printers),
    ):
        bridge.start()
        printers[0].push(1)
        assert bridge.stop() == 0
        bridge.output.unlink()
        bridge.start()
        assert "mes.sqlite is an older copy" not in bridge.text()
        assert bridge.stop() == 0
        for name in ("mes.sqlite", "mes.sqlite-wal", "mes.sqlite-shm"):
            (bridge.folder / "state" / name).unlink(missing_ok=True)
        bridge.output.unlink()
        bridge.start()
        said = bridge.wait_for("mes.sqlite is an older copy than log.sqlite")
        assert said["told_up_to"] < said["log_begins_at"]


@pytest.mark.parametrize("state", ["deleted", "older"])
def test_events_after_a_log_that_was_lost_or_brought_back_reach_the_mes(tmp_path: Path, state: str) -> None:
    port = free_port()
    with (
        running_sandbox(tmp_path / "mes", port=port) as sandbox,
        bridge_for(tmp_path / "bridge", port, sandbox.token_file) as (bridge, printers),
    ):
        log, printer = bridge.folder / "state" / "log.sqlite", printers[0]
        bridge.start()
        printer.push(1)
        assert bridge.stop() == 0
        older = log.read_bytes()
        bridge.start()
        printer.print()
        wait(lambda: not [printer.push(20), *printer.outbox][1:])
        wait(lambda: len(jobs_in(machines_of(sandbox))) == 1)
        bridge.kill()
        for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
            (log.parent / name).unlink(missing_ok=True)
        if state == "older":
            log.write_bytes(older)
        bridge.output.unlink()
        bridge.start()
        bridge.wait_for("the log is another one, or an older copy")
        printer.print()
        wait(lambda: not [printer.push(20), *printer.outbox][1:])
        wait(lambda: jobs_in(machines_of(sandbox)) == printer.jobs)
