"""The plugin's queue inside a real OctoPrint when things go wrong: kill -9, a full disk, a bridge that is away."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from bridge import wire
from bridge.demo.octoprint import OctoPrint, OctoPrintError, slow_gcode
from tests.e2e.octoprint_server import running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

VERSION = (versions() or ["1.11.8"])[-1]


@contextmanager
def site(folder: Path) -> Iterator[tuple[OctoPrint, Receiver]]:
    """An OctoPrint whose plugin is connected to a bridge."""
    bridge = Receiver()
    try:
        with running(VERSION, folder) as octoprint:
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
            deadline = time.monotonic() + 20
            while octoprint.plugin_status()["storage"]["full"] and time.monotonic() < deadline:
                time.sleep(0.2)
            assert octoprint.plugin_status()["storage"] == {"full": False, "error": None}
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
        deadline = time.monotonic() + 10
        while octoprint.plugin_status()["waiting"] and time.monotonic() < deadline:
            time.sleep(0.1)
        status = octoprint.plugin_status()
        assert (status["waiting"], status["oldest_waiting"], status["dropped"]) == (0, None, {})
        assert set(status["acknowledged_event"]) == {"seq", "kind", "time"}
