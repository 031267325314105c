"""Printers of OctoPrint 2.0 that are not on a serial line: a connector of a third party, the same wire events."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import wire
from bridge.demo.octoprint import OctoPrint, slow_gcode
from octoprint_mesbridge.observer import UNSAID
from tests.e2e.octoprint_server import running, versions
from tests.e2e.story import Stream
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

PLUGIN = Path(__file__).with_name("network_printer.py")
STUCK = "The gantry is stuck"


@pytest.fixture(scope="module", params=[one for one in versions() if one[0] != "1"] or ["2.0.0rc7"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """An OctoPrint whose plugin is connected to a bridge and whose printer is not on a serial line."""
    folder = tmp_path_factory.mktemp("octoprint")
    (folder / "plugins").mkdir()
    shutil.copy(PLUGIN, folder / "plugins")
    bridge = Receiver()
    try:
        with running(request.param, folder) as octoprint:
            octoprint.upload("part.gcode", slow_gcode(5, 50))
            octoprint.disconnect()
            octoprint.wait_state("Offline")
            bridge.accept(octoprint.generate_key())
            octoprint.configure_plugin(bridge.url, sample_interval=0.5)
            bridge.wait_for(wire.SNAPSHOT, reason="start")
            yield Stream(octoprint, bridge)
    finally:
        bridge.stop()


def connect(octoprint: OctoPrint) -> None:
    body = {"command": "connect", "connector": "network_printer", "parameters": {}}
    octoprint._post("/api/connection?api_version=2.0.0", body)
    octoprint.wait_state("Operational")


def test_connecting(stream: Stream) -> None:
    with stream.expects(
        ("state", "connecting"),
        ("state", "operational"),
        ("snapshot", "connected", "operational"),
    ):
        connect(stream.octoprint)
    last = stream.bridge.events([wire.SNAPSHOT])[-1]
    assert last.data["printer"]["firmware"] == "NetFirm 7"
    assert last.data["heaters"] == {"tool0": {"actual": 24.5, "target": 210.0}}


def test_a_print_with_a_pause(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        ("state", "starting"),
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("state", "pausing"),
        ("job_paused",),
        ("state", "paused"),
        ("state", "resuming"),
        ("job_resumed",),
        ("state", "printing"),
        ("state", "finishing"),
        ("job_ended", "completed"),
        ("state", "operational"),
    ):
        octoprint.print("part.gcode")
        octoprint.wait_state("Printing")
        octoprint.pause()
        octoprint.wait_state("Paused")
        octoprint.resume()
        octoprint.wait_state("Operational")
    assert stream.bridge.events([wire.PROGRESS])[-1].data["completion"] > 10
    assert stream.bridge.events([wire.HEATERS])[-1].data["heaters"]["tool0"]["actual"] > 200


def test_a_cancelled_print(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        ("state", "starting"),
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("state", "cancelling"),
        ("job_ended", "cancelled"),
        ("state", "operational"),
    ):
        octoprint.print("part.gcode")
        octoprint.wait_state("Printing")
        octoprint.cancel()


def test_a_print_begun_at_the_printer_which_octoprint_reports_by_its_state_alone(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("state", "finishing"),
        ("job_ended", "completed"),
        ("state", "operational"),
    ):
        octoprint.send("!begin")
        octoprint.wait_state("Printing")
        octoprint.wait_state("Operational")


def test_a_print_whose_end_octoprint_reports_by_the_state_alone(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("state", "operational"),
        ("job_ended", "failed", UNSAID),
    ):
        octoprint.send("!begin")
        octoprint.wait_state("Printing")
        begun = len(stream.bridge.events([wire.PROGRESS]))
        while len(stream.bridge.events([wire.PROGRESS])) <= begun:
            time.sleep(0.02)
        octoprint.send("!vanish")
    last = stream.bridge.events([wire.JOB_ENDED])[-1]
    assert last.data["completion"] < 99


def test_a_fault_during_a_print_and_connecting_again(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        ("state", "starting"),
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("error", STUCK),
        ("job_ended", "failed", STUCK),
        ("state", "error", STUCK),
        ("state", "disconnected", STUCK),
    ):
        octoprint.print("part.gcode")
        octoprint.wait_state("Printing")
        octoprint.send("!fault")
    with stream.expects(
        ("state", "connecting"),
        ("state", "operational"),
        ("snapshot", "connected", "operational"),
    ):
        connect(octoprint)


def test_disconnecting(stream: Stream) -> None:
    with stream.expects(("state", "disconnected")):
        stream.octoprint.disconnect()
    assert stream.bridge.received.gaps == []
