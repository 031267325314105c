"""The thread between OctoPrint's events and the outbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.observer import Observer
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.outbox import Outbox
from octoprint_mesbridge.recorder import Recorder
from octoprint_mesbridge.stock import Stock

from .test_observer import StillView
from .test_outbox import damage
from .test_sender import eventually
from .test_stock import Shelf


class Desk:
    def __init__(self, folder: Path) -> None:
        self.view = StillView()
        self.supplies = Shelf()
        self.outbox = Outbox(folder / "outbox.db")
        self.stored = threading.Event()
        self.recorder = Recorder(
            Observer("OPERATIONAL"),
            self.view,
            Stock(self.supplies),
            self.outbox,
            logging.getLogger("mesbridge.test"),
            self.stored.set,
            sample_interval=0.05,
        )

    def kinds(self) -> list[str]:
        return [event.kind for event in self.outbox.next_batch().events if event.kind not in wire.COALESCED]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.recorder.stop(5.0)
    desk.outbox.close()


def test_recording_begins_with_a_snapshot_and_ends_with_a_goodbye(desk: Desk) -> None:
    desk.recorder.set_recording(True)
    desk.recorder.start()
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    desk.recorder.stop(5.0)
    assert desk.kinds() == ["snapshot", "job_started", "shutdown"]
    assert desk.outbox.next_batch().events[0].data["reason"] == "start"


def test_nothing_is_kept_until_there_is_somebody_to_send_it_to_but_the_print_is_known_then(
    desk: Desk,
) -> None:
    desk.recorder.start()
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    desk.recorder.set_recording(True)
    desk.recorder.stop(5.0)
    assert desk.kinds() == ["snapshot", "shutdown"]
    assert desk.outbox.next_batch().events[0].data["job"]["file"] == "a.gcode"


def test_switching_on_twice_gives_one_snapshot(desk: Desk) -> None:
    desk.recorder.set_recording(True)
    desk.recorder.set_recording(True)
    desk.recorder.start()
    desk.recorder.stop(5.0)
    assert desk.kinds() == ["snapshot", "shutdown"]


def test_events_that_mean_nothing_to_the_bridge_do_not_wake_the_thread(desk: Desk) -> None:
    desk.recorder.put("Dwelling", None)
    desk.recorder.put("ZChange", {"new": 1})
    assert desk.recorder._queue.empty()


def test_a_payload_nobody_foresaw_costs_its_own_event_only(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    class Trap(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("a trap")

    desk.recorder.set_recording(True)
    desk.recorder.start()
    desk.recorder.put("PrintStarted", Trap(name="x"))
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    desk.recorder.stop(5.0)
    assert desk.kinds() == ["snapshot", "job_started", "shutdown"]
    assert desk.recorder.refused == {"PrintStarted": 1}
    assert "could not make sense of PrintStarted" in caplog.text


def test_an_event_that_the_wire_would_refuse_is_left_out_and_counted(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.view.firmware = "x" * 1000  # longer than the wire allows
    desk.recorder.set_recording(True)
    desk.recorder.start()
    desk.recorder.put("Error", {"error": "hot"})
    desk.recorder.stop(5.0)
    assert desk.kinds() == ["error", "shutdown"]
    assert desk.recorder.refused == {"snapshot": 1}
    assert "snapshot.printer.firmware" in caplog.text


def test_samples_are_taken_by_itself(desk: Desk) -> None:
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot"])
    desk.view.heaters = lambda since=None: {"tool0": {"actual": 99.0, "target": 100.0}}  # type: ignore[method-assign]
    told = eventually(lambda: [e for e in desk.outbox.next_batch().events if e.kind == wire.HEATERS])
    assert told[0].data["heaters"]["tool0"] == {"actual": 99.0, "target": 100.0}


def test_while_the_disk_is_full_events_are_sent_from_memory_and_it_is_said_once(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("octoprint_mesbridge.recorder.RETRY_S", 0.05)
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot"])
    desk.outbox._database.execute("PRAGMA max_page_count=1")  # SQLite takes what is there already
    for number in range(30):
        desk.recorder.put("Error", {"error": str(number) * 500})
    eventually(lambda: desk.outbox.storage()["full"])
    assert "full" in desk.outbox.storage()["error"]
    eventually(lambda: desk.kinds() == ["snapshot"] + ["error"] * 30)
    desk.recorder.put("Error", {"error": "one more"})
    eventually(lambda: len(desk.kinds()) == 32)

    desk.outbox._database.execute("PRAGMA max_page_count=1000000")
    eventually(lambda: desk.outbox.storage() == {"full": False, "error": None})
    assert desk.kinds() == ["snapshot"] + ["error"] * 31
    desk.recorder.stop(5.0)  # it says that events are stored again a moment after they are
    messages = [record.getMessage() for record in caplog.records]
    assert sum("cannot be stored" in message for message in messages) == 1
    assert sum("stored again" in message for message in messages) == 1


def test_a_fault_that_nobody_foresaw_does_not_end_the_thread(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.recorder.RETRY_S", 0.05)
    append, calls = desk.outbox.append, []

    def odd(occurrences: Any) -> None:
        calls.append(occurrences)
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(desk.outbox, "append", odd)
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: len(calls) >= 3)
    monkeypatch.setattr(desk.outbox, "append", append)
    eventually(lambda: desk.kinds() == ["snapshot"])
    assert sum("nobody foresaw this" in (record.exc_text or "") for record in caplog.records) == 1


def test_progress_is_not_asked_for_while_nothing_is_printed(desk: Desk) -> None:
    asked = threading.Event()
    desk.view.progress = lambda: (asked.set(), {})[1]  # type: ignore[method-assign,func-returns-value]
    desk.recorder.set_recording(True)
    desk.recorder.start()
    time.sleep(0.3)
    assert not asked.is_set()
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    assert asked.wait(30.0)


def test_the_printer_is_not_looked_at_while_nobody_wants_to_know(desk: Desk) -> None:
    looked = threading.Event()
    desk.view.heaters = lambda since=None: (looked.set(), {})[1]  # type: ignore[method-assign,func-returns-value]
    desk.recorder.start()
    assert not looked.wait(0.3)
    desk.recorder.set_recording(True)
    assert looked.wait(30.0)
    desk.recorder.put("PrinterStateChanged", {"state_id": "OFFLINE"})
    eventually(lambda: desk.kinds() == ["snapshot", "state"])
    looked.clear()
    assert not looked.wait(0.3)


def test_an_error_that_gets_no_words_is_told_soon_however_rarely_the_printer_is_looked_at(desk: Desk) -> None:
    desk.recorder.sample_interval = 60.0
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot"])
    time.sleep(0.1)
    desk.recorder.put("PrinterStateChanged", {"state_id": "ERROR"})
    eventually(lambda: desk.kinds() == ["snapshot", "state"])


def test_a_print_is_looked_at_soon_after_it_began_however_rarely_that_is_done(desk: Desk) -> None:
    desk.recorder.sample_interval = 60.0
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot"])
    time.sleep(0.1)
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    eventually(lambda: [e for e in desk.outbox.next_batch().events if e.kind == wire.PROGRESS])


def test_a_queue_that_turns_out_damaged_and_cannot_be_begun_afresh_costs_no_event_after_that(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("octoprint_mesbridge.recorder.RETRY_S", 0.05)
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot"])
    damage(tmp_path / "outbox.db")
    tmp_path.rename(tmp_path.with_name("away"))
    for name in ("PrintStarted", "PrintPaused", "PrintResumed"):
        desk.recorder.put(name, {"name": "a.gcode"})
    turns = ["job_started", "job_paused", "job_resumed"]
    eventually(lambda: desk.kinds() == turns)
    assert desk.outbox.storage()["error"] is not None
    tmp_path.with_name("away").rename(tmp_path)
    eventually(lambda: desk.outbox.storage() == {"full": False, "error": None})
    desk.recorder.put("PrintDone", {"name": "a.gcode"})
    eventually(lambda: desk.kinds() == [*turns, "job_ended"])

    desk.recorder.stop(5.0)
    kept = Outbox(tmp_path / "outbox.db").next_batch()
    assert [event.kind for event in kept.events] == [*turns, "job_ended", "shutdown"]
    messages = [record.getMessage() for record in caplog.records]
    assert [
        sum(text in message for message in messages) for text in ("is damaged", "cannot be", "again")
    ] == [
        1,
        1,
        1,
    ]


def test_what_is_found_late_of_an_earlier_life_waits_for_the_end_of_the_print_and_the_present_follows_it(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.recorder.RETRY_S", 0.05)
    earlier = Outbox(tmp_path / "earlier.db")
    earlier.append([Occurrence(wire.utc_now(), wire.JOB_ENDED, {"run": "1", "result": "completed"})])
    earlier.close()
    desk.outbox._path = tmp_path / "away" / "outbox.db"
    desk.outbox._database = None
    desk.recorder.set_recording(True)
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    desk.recorder.start()
    eventually(lambda: desk.kinds() == ["snapshot", "job_started"])
    desk.outbox._path = tmp_path / "earlier.db"
    eventually(lambda: desk.outbox.has_late)
    assert desk.outbox.next_batch().instance == desk.outbox.name
    assert desk.outbox.backlog().waiting >= 3
    desk.recorder.put("PrintDone", {"name": "a.gcode"})
    eventually(lambda: not desk.outbox.has_late)
    batch = desk.outbox.next_batch()
    assert batch.instance == earlier.name
    desk.outbox.acknowledge(batch.instance, batch.through)
    eventually(lambda: desk.kinds() == ["snapshot", "job_started", "job_ended", "snapshot"])


def test_a_print_whose_end_waits_for_an_event_ends_with_octoprint(desk: Desk) -> None:
    desk.recorder.set_recording(True)
    desk.recorder.start()
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    for state in ("PRINTING", "FINISHING", "OPERATIONAL"):
        desk.recorder.put("PrinterStateChanged", {"state_id": state})
    desk.recorder.stop(5.0)
    events = desk.outbox.next_batch().events
    assert [event.kind for event in events[-2:]] == ["job_ended", "shutdown"]
    assert events[-2].data["result"] == "completed"


def test_ending_is_done_when_the_thread_has_ended_and_not_when_the_time_is_over(desk: Desk) -> None:
    going_on = threading.Event()
    desk.view.printer = lambda: (going_on.wait(5), {})[1]  # type: ignore[method-assign,func-returns-value]
    desk.recorder.set_recording(True)
    assert desk.recorder.stop(1.0), "it never ran"
    desk.recorder.start()
    assert not desk.recorder.stop(0.05)
    going_on.set()
    assert desk.recorder.stop(5.0)


def files_told(desk: Desk) -> list[list[str]]:
    events = desk.outbox.next_batch().events
    return [[file["path"] for file in event.data["files"]] for event in events if event.kind == wire.FILES]


def test_files_follow_the_snapshot_at_once(desk: Desk) -> None:
    desk.supplies.paths = ["a.gcode"]
    desk.recorder.sample_interval = 60.0
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: files_told(desk) == [["a.gcode"]], timeout=1.0)
    kinds = [event.kind for event in desk.outbox.next_batch().events]
    assert kinds.index(wire.SNAPSHOT) < kinds.index(wire.FILES)


def test_a_burst_of_uploads_reads_the_list_a_few_times_and_ends_with_the_truth(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.recorder.SETTLED_S", 0.1)
    desk.recorder.sample_interval = 0.3
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.supplies.reads == 1)
    for number in range(500):
        desk.supplies.paths = [f"{number}.gcode"]
        desk.recorder.put("UpdatedFiles", {"type": "printables"})
        time.sleep(0.001)
    eventually(lambda: files_told(desk) == [["499.gcode"]])
    assert desk.supplies.reads <= 1 + 500 * 0.01 / 0.3


def test_reading_a_list_that_takes_long_is_done_the_more_rarely(desk: Desk) -> None:
    desk.supplies.takes_s = 0.1
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.supplies.reads == 1)
    desk.recorder.put("UpdatedFiles", {})
    time.sleep(1.5)
    assert desk.supplies.reads == 1


def test_the_list_is_read_on_the_recorders_own_thread_alone(desk: Desk) -> None:
    desk.recorder.put("UpdatedFiles", {})
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(lambda: desk.supplies.threads)
    assert desk.supplies.threads == {"mesbridge.recorder"}


def test_a_folder_that_cannot_be_read_costs_the_files_only(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.supplies.fault = OSError("no such folder")
    desk.supplies.selections = {"SpoolManager": [7]}
    desk.recorder.set_recording(True)
    desk.recorder.start()
    eventually(
        lambda: wire.FEEDSTOCK in desk.outbox._samples and desk.recorder.refused == {wire.FILES: 1},
    )
    desk.recorder.put("PrintStarted", {"name": "a.gcode"})
    eventually(lambda: desk.kinds() == ["snapshot", "job_started"])
    assert "no such folder" in caplog.text


def test_nobody_looks_at_files_while_nothing_is_to_be_told(desk: Desk) -> None:
    desk.recorder.start()
    desk.recorder.put("UpdatedFiles", {})
    time.sleep(0.2)
    assert desk.supplies.reads == 0
