"""Offline tells the truth: it shows in time, it goes when the cause is gone, and no job ends for it or begins twice."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.demo.octoprint import OctoPrint, slow_gcode
from tests.e2e.faults.plant import Plant, running_plant, wait
from tests.e2e.faults.printer import Printer
from tests.e2e.octoprint_server import running, versions

pytestmark = pytest.mark.e2e

VERSIONS = versions() or ["1.11.8"]
_DELIVERY_S = 2.0
"""What watching, telling and this loaded machine may take on top of what the settings say."""
_BACK_S = 15.0


@dataclass
class Print:
    """A machine in the middle of a print."""

    plant: Plant
    job: str

    def shows_offline(self, within: float) -> None:
        seconds = self.plant.within(within + _DELIVERY_S, "Offline")
        print(f"Offline after {seconds:.1f} s")
        assert self.plant.jobs == [(self.job, "running")], "nobody saw an end"

    def goes_on(self) -> None:
        seconds = self.plant.within(_BACK_S, "Running")
        print(f"Running again after {seconds:.1f} s")
        assert self.plant.jobs == [(self.job, "running")]


@pytest.fixture
def printing(tmp_path: Path) -> Iterator[Print]:
    """A simulated printer that prints for longer than any of these tests."""
    with running_plant(tmp_path) as plant:
        printer = Printer(
            10, plant.address, tmp_path, jobs=1, duration=3600.0, order=random.Random(1), rest=0
        )
        plant.serve(printer.entry)
        printer.start()
        try:
            plant.within(_BACK_S, "Running")
            yield Print(plant, "run-10-0")
        finally:
            printer.stop()


def test_a_bridge_that_was_killed_is_offline_when_its_lease_is_over(printing: Print) -> None:
    printing.plant.bridge.kill()
    printing.shows_offline(within=printing.plant.patience.lease)
    printing.plant.bridge.start()
    printing.goes_on()


def test_a_bridge_that_is_stopped_signs_off_at_once(printing: Print) -> None:
    assert printing.plant.bridge.stop() == 0
    printing.shows_offline(within=0)
    printing.plant.bridge.start()
    printing.goes_on()


def test_a_network_that_swallows_what_the_plugin_says_is_silence(printing: Print) -> None:
    printing.plant.to_bridge.stalled = True
    printing.shows_offline(within=printing.plant.patience.silent_after)
    printing.plant.to_bridge.stalled = False
    printing.goes_on()


def test_a_network_that_swallows_what_the_bridge_says_ends_its_lease(printing: Print) -> None:
    printing.plant.to_mes.stalled = True
    printing.shows_offline(within=printing.plant.patience.lease)
    printing.plant.to_mes.stalled = False
    printing.goes_on()


@contextmanager
def real_plant(folder: Path, version: str) -> Iterator[tuple[Plant, OctoPrint]]:
    """Ready, with a long print uploaded."""
    with running_plant(folder) as plant, running(version, folder / "octoprint") as octoprint:
        octoprint.upload("long.gcode", slow_gcode(2000, 50))
        key = octoprint.generate_key()
        entry = {"type": "OCTOPRINT", "url": octoprint.url, "authentication_file_path": key, "mes_id": [1]}
        plant.serve(entry)
        octoprint.configure_plugin(plant.address, sample_interval=1.0)
        plant.within(_BACK_S, "Idle")
        yield plant, octoprint


@pytest.mark.parametrize("version", VERSIONS)
def test_an_octoprint_that_is_silent_or_gone_and_a_printer_that_is_disconnected(
    tmp_path: Path, version: str
) -> None:
    with real_plant(tmp_path, version) as (plant, octoprint):
        octoprint.disconnect()
        print(f"disconnected: Offline after {plant.within(_DELIVERY_S, 'Offline'):.1f} s")
        octoprint.connect()
        plant.within(_BACK_S, "Idle")

        octoprint.print("long.gcode")
        ((run, _),) = wait(lambda: plant.jobs)
        printing = Print(plant, run)
        octoprint.signal(signal.SIGSTOP)
        printing.shows_offline(within=plant.patience.silent_after)
        octoprint.signal(signal.SIGCONT)
        printing.goes_on()

        last_heard = plant.machine["events"][0]["time"]
        octoprint.kill()
        printing.shows_offline(within=plant.patience.silent_after)
        octoprint.start()
        octoprint.wait_operational()
        plant.within(_BACK_S, "Idle")
        wait(lambda: plant.jobs == [(printing.job, "failed")])
        (job,) = plant.machine["jobs"]
        (died,) = [event for event in plant.machine["events"] if event["type"] == "job_finished"]
        assert last_heard <= job["ended"] == died["time"] < died["received"]
