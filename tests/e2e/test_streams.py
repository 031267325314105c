"""The event streams of the OctoPrint versions, each told in the same wire events: one story for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bridge import wire
from bridge.demo.octoprint import slow_gcode
from tests.e2e.octoprint_server import running, versions
from tests.e2e.story import Stream
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

RUNAWAY = "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!"
STOPPED = "Printer halted. kill() called!"
JAMMED = "The extruder is jammed"
ANOTHER = "Another print began without an end of this one"

CONNECTING = (("state", "connecting"), ("state", "operational"), ("snapshot", "connected", "operational"))


def begins(file: str, origin: str = "local") -> tuple[tuple[str, ...], ...]:
    return (("state", "starting"), ("job_started", file, origin), ("state", "printing"))


PAUSING = (("state", "pausing"), ("job_paused",), ("state", "paused"))
RESUMING = (("state", "resuming"), ("job_resumed",), ("state", "printing"))
COMPLETED = (("state", "finishing"), ("job_ended", "completed"), ("state", "operational"))
CANCELLED = (("state", "cancelling"), ("job_ended", "cancelled"), ("state", "operational"))


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    bridge = Receiver()
    try:
        folder = tmp_path_factory.mktemp("octoprint")
        (folder / "virtualSd").mkdir()
        # The virtual printer shortens names; in 1.11 it lists none that is short already.
        (folder / "virtualSd" / "printed_on_card.gco").write_text(slow_gcode(40, 50))
        with running(request.param, folder) as octoprint:
            octoprint.upload("part.gcode", slow_gcode(60, 50))
            octoprint.upload("long.gcode", slow_gcode(400, 50))
            octoprint.upload("change.gcode", slow_gcode(20, 50) + "M600\n" + slow_gcode(20, 50))
            bridge.accept(octoprint.generate_key())
            octoprint.configure_plugin(bridge.url, sample_interval=0.5)
            bridge.wait_for(wire.SNAPSHOT, reason="start")
            yield Stream(octoprint, bridge)
        assert bridge.received.gaps == []
    finally:
        bridge.stop()


def test_disconnecting_and_connecting(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(("state", "disconnected")):
        octoprint.disconnect()
        octoprint.wait_state("Offline")
    with stream.expects(*CONNECTING, or_again="snapshot"):
        octoprint.connect()
        octoprint.wait_operational()
    assert stream.bridge.events([wire.SNAPSHOT])[-1].data["printer"]["firmware"] == "Virtual Marlin 1.0"


def test_a_print_with_a_pause(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(*begins("part.gcode"), *PAUSING, *RESUMING, *COMPLETED):
        octoprint.print("part.gcode")
        octoprint.wait_state("Printing")
        octoprint.pause()
        octoprint.wait_state("Paused")
        octoprint.resume()
        octoprint.wait_state("Operational")


def test_a_filament_change_for_which_the_printer_pauses_the_print(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(*begins("change.gcode"), ("filament_change",), *PAUSING, *RESUMING, *COMPLETED):
        octoprint.print("change.gcode")
        stream.bridge.wait_for(wire.FILAMENT_CHANGE)
        octoprint.wait_state("Pausing", "Paused")
        octoprint._post("/api/connection", {"command": "fake_ack"})  # the virtual printer waits for an answer
        octoprint.wait_state("Paused")
        octoprint.send("M876 S0")
        octoprint.resume()
        octoprint.wait_state("Operational")
    (change,) = stream.bridge.events([wire.FILAMENT_CHANGE])
    assert change.data["run"] == stream.bridge.events([wire.JOB_STARTED])[-1].data["run"]


def test_a_cancelled_print(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(*begins("long.gcode"), *CANCELLED):
        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        octoprint.cancel()
        octoprint.wait_state("Operational")


def test_a_paused_print_that_is_cancelled(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(*begins("long.gcode"), *PAUSING, *CANCELLED):
        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        octoprint.pause()
        octoprint.wait_state("Paused")
        octoprint.cancel()
        octoprint.wait_state("Operational")


def test_a_paused_print_that_is_begun_anew(stream: Stream) -> None:
    octoprint = stream.octoprint
    first = len(stream.bridge.events())
    octoprint.print("part.gcode")
    octoprint.wait_state("Printing")
    octoprint.pause()
    octoprint.wait_state("Paused")
    octoprint._post("/api/job", {"command": "restart"})
    time.sleep(2.0)
    again = octoprint.state() != "Paused"
    if not again:  # OctoPrint 2.0 does not begin a paused print anew
        octoprint.cancel()
    octoprint.wait_state("Operational")
    time.sleep(0.7)
    jobs = [one[:2] for one in stream.story(first) if one[0] in (wire.JOB_STARTED, wire.JOB_ENDED)]
    anew = [("job_started", "part.gcode"), ("job_ended", "completed")]
    assert jobs == [("job_started", "part.gcode"), ("job_ended", "cancelled"), *(anew if again else [])]


def test_a_print_from_the_printers_own_card(stream: Stream) -> None:
    octoprint = stream.octoprint
    (listed,) = (file for file in octoprint._get("/api/files").json()["files"] if file["origin"] != "local")
    with stream.expects(*begins("printe~1.gco", "printer"), *COMPLETED):
        octoprint._post(
            f"/api/files/{listed['origin']}/{listed['path']}", {"command": "select", "print": True}
        )


def test_a_firmware_that_kills_itself_and_connecting_again(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(
        *begins("long.gcode"),
        ("error", RUNAWAY),
        ("job_ended", "failed", RUNAWAY),
        ("state", "error", RUNAWAY),
        ("state", "disconnected", RUNAWAY),
    ):
        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        octoprint.send("!!DEBUG:trigger_fatal_error_marlin")
    with stream.expects(*CONNECTING, or_again="snapshot"):
        octoprint.connect()
        octoprint.wait_operational()
    assert stream.bridge.events([wire.SNAPSHOT])[-1].data["error"] is None


def test_a_print_that_octoprint_gives_up_for_an_error_of_the_firmware(stream: Stream) -> None:
    octoprint = stream.octoprint
    with stream.expects(("state", "disconnected"), *CONNECTING, or_again="snapshot"):
        octoprint.disconnect()
        octoprint.wait_state("Offline")
        octoprint._post("/api/settings", {"serial": {"disconnectOnErrors": False}})
        octoprint.connect()
        octoprint.wait_operational()
    with stream.expects(
        *begins("long.gcode"),
        ("error", JAMMED),
        ("state", "cancelling"),
        ("job_ended", "failed", JAMMED),
        ("state", "operational"),
    ):
        octoprint.print("long.gcode")
        octoprint.wait_state("Printing")
        octoprint.send(f"!!DEBUG:send Error:{JAMMED}")
        octoprint.wait_state("Operational")
    octoprint._post("/api/settings", {"serial": {"disconnectOnErrors": True}})


def test_a_connection_that_is_closed_during_a_print(stream: Stream) -> None:
    octoprint = stream.octoprint
    first = len(stream.bridge.events())
    octoprint.print("long.gcode")
    octoprint.wait_state("Printing")
    octoprint.disconnect()
    octoprint.wait_state("Offline", "Offline after error")
    time.sleep(1.0)
    story = stream.story(first)
    assert [one[:2] for one in story if one[0].startswith("job_")] == [
        ("job_started", "long.gcode"),
        ("job_ended", "failed"),
    ]
    assert story[-1][:2] == ("state", "disconnected")
    with stream.expects(*CONNECTING, or_again="snapshot"):
        octoprint.connect()
        octoprint.wait_operational()


def test_a_restart_of_octoprint(stream: Stream) -> None:
    octoprint = stream.octoprint
    first = len(stream.bridge.events())
    octoprint.stop()
    stream.bridge.wait_for(wire.SHUTDOWN)
    octoprint.start()
    octoprint.wait_operational()
    stream.bridge.wait_for(wire.SNAPSHOT, reason="start")
    time.sleep(1.0)
    story = stream.story(first)
    assert story[-1] == ("snapshot", "connected", "operational") or story[-1][0] == "snapshot"
    begun = story.index(("shutdown",))
    assert {one[0] for one in story[begun + 1 :]} <= {"snapshot", "state"}
    assert all(one[0] != "job_ended" for one in story)
