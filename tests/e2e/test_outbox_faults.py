"""The plugin's queue inside a real OctoPrint when things go wrong: kill -9, a full or damaged disk, a bridge away."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from bridge import wire
from bridge.demo.octoprint import OctoPrint, OctoPrintError, slow_gcode
from tests.e2e.octoprint_server import running, versions
from tests.plugin.receiver import Receiver
from tests.plugin.test_outbox import damage

pytestmark = pytest.mark.e2e

VERSIONS = versions() or ["1.11.8"]


@contextmanager
def site(folder: Path, version: str = VERSIONS[-1]) -> Iterator[tuple[OctoPrint, Receiver]]:
    """An OctoPrint whose plugin is connected to a bridge."""
    bridge = Receiver()
    try:
        with running(version, folder) as octoprint:
            octoprint.upload("short.gcode", slow_gcode(30, 50))
            octoprint.upload("long.gcode", slow_gcode(2000, 50))
            bridge.accept(octoprint.generate_key())
            octoprint.configure_plugin(bridge.url, sample_interval=1.0)
            bridge.wait_for(wire.SNAPSHOT, reason="start")
            yield octoprint, bridge
    finally:
        bridge.stop()


def jobs(bridge: Receiver) -> list[tuple[str, str]]:
    """Kind and run of each job event that arrived, in the order of arrival."""
    return [(one.kind, one.data["run"]) for one in bridge.events() if one.kind.startswith("job_")]


def check_order(bridge: Receiver) -> None:
    """Everything arrived once, an instance after the other, and each in the order of its numbers."""
    arrived = [(instance, event.seq) for instance, event in bridge.received.events]
    assert len(arrived) == len(set(arrived))
    lives = list(dict.fromkeys(instance for instance, _ in arrived))
    assert arrived == sorted(arrived, key=lambda one: (lives.index(one[0]), one[1]))
    assert bridge.received.gaps == []
    runs: dict[str, list[str]] = {}
    for kind, run in jobs(bridge):
        runs.setdefault(run, []).append(kind)
    assert all(kinds[0] == wire.JOB_STARTED and kinds.count(wire.JOB_STARTED) == 1 for kinds in runs.values())
    assert all(kinds.count(wire.JOB_ENDED) <= 1 for kinds in runs.values())


def test_kill_9_at_random_moments_costs_no_job_event_and_doubles_none(tmp_path: Path) -> None:
    chance = random.Random()
    (tmp_path / "plugins").mkdir()
    shutil.copy(Path(__file__).with_name("witness.py"), tmp_path / "plugins")
    lives: list[tuple[str, float]] = []  # instance, moment of its death
    with site(tmp_path) as (octoprint, bridge):
        for round_ in range(6):
            if round_ % 2:
                bridge.stop()
            instance = octoprint.plugin_status()["instance"]
            person = threading.Thread(target=use, args=(octoprint,))
            person.start()
            time.sleep(1.5 + chance.random() * 2)
            lives.append((instance, time.time()))
            octoprint.kill()
            person.join()
            if round_ % 2:
                bridge.start()
            octoprint.start()
            octoprint.wait_operational()
            bridge.wait_for(wire.SNAPSHOT, round_ + 2, reason="start")
        octoprint.print("short.gcode")
        bridge.wait_for(wire.JOB_ENDED, result="completed")
        check_order(bridge)

    lines = (tmp_path / "plugins" / "witness.jsonl").read_text().splitlines()
    witnessed: dict[int, list[tuple[float, str]]] = {}
    for pid, moment, kind in map(json.loads, lines):
        witnessed.setdefault(pid, []).append((moment, kind))
    assert len(witnessed) == len(lives) + 1
    for (instance, death), happened in zip(lives, witnessed.values(), strict=False):
        arrived = [
            e.kind for name, e in bridge.received.events if name == instance and e.kind.startswith("job_")
        ]
        kinds = [kind for _, kind in happened]
        sure = sum(moment < death - 0.05 for moment, _ in happened)
        assert arrived == kinds[: len(arrived)]
        assert sure >= 2, "too little happened to show anything"
        assert len(arrived) >= sure


def use(octoprint: OctoPrint) -> None:
    """Print, pause and cancel in haste, until OctoPrint is gone."""
    with contextlib.suppress(OctoPrintError, requests.RequestException):
        while True:
            octoprint.print("short.gcode")
            octoprint.wait_state("Printing")
            for act, state in ((octoprint.pause, "Paused"), (octoprint.resume, "Printing")) * 2:
                act()
                octoprint.wait_state(state)
            octoprint.cancel()
            octoprint.wait_state("Operational")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_said_the_print_goes_on_and_it_heals_by_itself(tmp_path: Path) -> None:
    with site(tmp_path) as (octoprint, bridge):
        octoprint.stop()
        data = tmp_path / "data" / "mesbridge"
        with small_disk(data) as fill:
            octoprint.start()
            octoprint.wait_operational()
            bridge.wait_for(wire.SNAPSHOT, 2, reason="start")
            assert octoprint.plugin_status()["storage"] == {"full": False, "error": None}
            filler = fill()
            octoprint.print("long.gcode")
            octoprint.wait_state("Printing")
            for _ in range(40):
                octoprint.pause()
                octoprint.wait_state("Paused")
                octoprint.resume()
                octoprint.wait_state("Printing")
                if octoprint.plugin_status()["storage"]["full"]:
                    break
            status = octoprint.plugin_status()
            assert status["storage"]["full"], status
            assert octoprint.state() == "Printing"

            bridge.stop()
            octoprint.pause()
            octoprint.wait_state("Paused")
            octoprint.resume()
            octoprint.wait_state("Printing")
            octoprint.cancel()
            octoprint.wait_state("Operational")
            waiting = octoprint.plugin_status()["waiting"]
            assert waiting >= 3
            filler.unlink()
            settle(lambda: octoprint.plugin_status()["storage"] == {"full": False, "error": None})
            settle(lambda: "Events are stored again" in (tmp_path / "logs" / "octoprint.log").read_text())
            octoprint.kill()  # what was in memory is in the file now

            bridge.start()
            octoprint.start()
            octoprint.wait_operational()
            bridge.wait_for(wire.SNAPSHOT, 3, reason="start")
            ended = bridge.wait_for(wire.JOB_ENDED)
            assert ended.data["result"] == "cancelled"
            check_order(bridge)
            log = (tmp_path / "logs" / "octoprint.log").read_text()
            assert log.count("Events cannot be stored (") == 1
            assert log.count("Events are stored again") == 1

            octoprint.stop()
            filler = fill()
            octoprint.start()
            octoprint.wait_operational()
            bridge.wait_for(wire.SNAPSHOT, 4, reason="start")
            status = octoprint.plugin_status()
            assert (status["storage"]["full"], status["trouble"], status["error"]) == (True, None, None), (
                status["storage"],
                status["dropped"],
            )
            filler.unlink()
            settle(lambda: octoprint.plugin_status()["storage"] == {"full": False, "error": None})
            octoprint.stop()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="holding a file needs root")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_queue_that_cannot_be_moved_aside_costs_no_event_and_heals_by_itself(
    version: str, tmp_path: Path
) -> None:
    with site(tmp_path, version) as (octoprint, bridge):
        queue = tmp_path / "data" / "mesbridge" / "outbox.db"
        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        bridge.wait_for(wire.STATE, state="printing")  # what is stored during the damage would hide it
        settle(lambda: octoprint.plugin_status()["waiting"] == 0)
        with held_in_place(queue):
            damage(queue)
            octoprint.pause()
            octoprint.wait_state("Paused")
            bridge.wait_for(wire.JOB_PAUSED)
            assert "busy" in octoprint.plugin_status()["storage"]["error"]
            bridge.stop()
            octoprint.resume()
            octoprint.wait_state("Printing")
            octoprint.cancel()
            octoprint.wait_state("Operational")
            assert octoprint.plugin_status()["waiting"] >= 2
        settle(lambda: octoprint.plugin_status()["storage"] == {"full": False, "error": None})
        settle(lambda: "Events are stored again" in (tmp_path / "logs" / "octoprint.log").read_text())
        octoprint.kill()  # what was in memory is in the new file

        bridge.start()
        octoprint.start()
        octoprint.wait_operational()
        bridge.wait_for(wire.SNAPSHOT, 2, reason="start")
        check_order(bridge)
        turns = [wire.JOB_STARTED, wire.JOB_PAUSED, wire.JOB_RESUMED, wire.JOB_ENDED]
        assert [kind for kind, _ in jobs(bridge)] == turns
        assert len(list(queue.parent.glob("outbox.db.damaged-*"))) == 1
        log = (tmp_path / "logs" / "octoprint.log").read_text()
        for once in ("is damaged (", "Events cannot be stored (", "Events are stored again"):
            assert log.count(once) == 1


@contextmanager
def held_in_place(file: Path) -> Iterator[None]:
    """Meanwhile `file` cannot be renamed or removed, by anybody."""
    mounted = subprocess.run(["mount", "--bind", str(file), str(file)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file can be held in its place here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(file)], check=True)


def settle(holds: Callable[[], bool]) -> None:
    """Wait until it `holds`."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


SLOW_PLUGIN = """
import time
import octoprint.plugin

__plugin_name__ = "Slow"
__plugin_pythoncompat__ = ">=3.9,<4"

class Slow(octoprint.plugin.EventHandlerPlugin):
    def on_event(self, event, payload):
        if event == "PrinterStateChanged" and payload["state_id"] == "PAUSING":
            time.sleep(0.8)

__plugin_implementation__ = Slow()
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_neither_a_wrong_address_nor_a_slow_plugin_at_the_end_costs_an_event(
    version: str, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(SLOW_PLUGIN)
    with site(tmp_path, version) as (octoprint, bridge):
        octoprint.configure_plugin("not an address")
        octoprint.print("short.gcode")
        octoprint.wait_state("Operational")
        settle(lambda: octoprint.plugin_status()["waiting"] >= 5)
        status = octoprint.plugin_status()
        assert "not an address" in status["trouble"]
        assert not bridge.events([wire.JOB_STARTED])
        octoprint.configure_plugin(bridge.url)
        bridge.wait_for(wire.JOB_ENDED, result="completed")

        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        octoprint.pause()
        octoprint.wait_state("Paused")
        octoprint.stop()  # OctoPrint knows that it is paused; its plugins do not yet
        bridge.wait_for(wire.SHUTDOWN)
        assert [kind for kind, _ in jobs(bridge)][2:] == [wire.JOB_STARTED, wire.JOB_PAUSED]
        check_order(bridge)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_orderly_end_leaves_nothing_that_the_bridge_has_and_nothing_for_others_to_read(
    version: str, tmp_path: Path
) -> None:
    with site(tmp_path, version) as (octoprint, bridge):
        data = tmp_path / "data" / "mesbridge"
        modes = {file.name: file.stat().st_mode & 0o777 for file in data.glob("outbox.db*")}
        assert modes == dict.fromkeys(["outbox.db", "outbox.db-wal", "outbox.db-shm"], 0o600)
        (data / "outbox.db").chmod(0o644)  # as version 0.1.0 made it
        octoprint.stop()
        bridge.wait_for(wire.SHUTDOWN)
        assert [file.name for file in data.glob("outbox.db*")] == ["outbox.db"]
        with contextlib.closing(sqlite3.connect(data / "outbox.db")) as left:
            assert left.execute("SELECT count(*) FROM events").fetchone() == (0,)

        bridge.received.behaviour = "silent"
        octoprint.start()
        octoprint.wait_operational()
        assert (data / "outbox.db").stat().st_mode & 0o777 == 0o600
        octoprint.stop()
        with contextlib.closing(sqlite3.connect(data / "outbox.db")) as left:
            kinds = [row[0] for row in left.execute("SELECT kind FROM events ORDER BY instance, seq")]
        assert kinds[0] == wire.SNAPSHOT
        assert kinds[-1] == wire.SHUTDOWN
        log = (tmp_path / "logs" / "octoprint.log").read_text()
        assert "closed database" not in log


@contextmanager
def small_disk(folder: Path) -> Iterator:
    """Put a disk of half a megabyte under `folder`, with what is in it; gives what fills that disk to the brim."""
    kept = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")

    def fill() -> Path:
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                return filler

    try:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_happened_while_the_bridge_was_away_is_replayed_in_order(tmp_path: Path) -> None:
    with site(tmp_path) as (octoprint, bridge):
        bridge.stop()
        for _ in range(3):
            octoprint.print("short.gcode")
            octoprint.wait_state("Printing")
            octoprint.wait_state("Operational")
        status = octoprint.plugin_status()
        assert status["waiting"] >= 18
        assert status["oldest_waiting"] < wire.format_time(wire.utc_now())
        bridge.start()
        bridge.wait_for(wire.JOB_ENDED, 3, result="completed")
        check_order(bridge)
        deadline = time.monotonic() + 30
        while octoprint.plugin_status()["waiting"] and time.monotonic() < deadline:
            time.sleep(0.1)
        status = octoprint.plugin_status()
        assert (status["waiting"], status["oldest_waiting"], status["dropped"]) == (0, None, {})
        assert set(status["acknowledged_event"]) == {"seq", "kind", "time"}
