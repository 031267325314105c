"""OctoPrint's events in the wire's words, alike for 1.11 and 2.0."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from octoprint_mesbridge.observer import CLOSED, NO_TEXT, STATES, UNSAID, Observer
from octoprint_mesbridge.occurrence import Occurrence

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
RUNAWAY = "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!"
FILE = {"name": "part.gcode", "path": "lab/part.gcode", "origin": "local", "size": 1234}


class StillView:
    """A printer that stands still, in OctoPrint's shapes."""

    def __init__(self) -> None:
        self.firmware: str | None = "Marlin 2.1"
        self.measured = datetime.max.replace(tzinfo=timezone.utc)
        self.current: dict[str, Any] = {
            "file": {**FILE, "display": "part", "date": 1},
            "estimatedPrintTime": 3600.5,
            "filament": {"tool0": {"length": 1500.0, "volume": 3.6}},
        }

    def job(self) -> Mapping[str, Any]:
        return self.current

    def progress(self) -> Mapping[str, Any]:
        return {}

    def heaters(self, since: datetime | None = None) -> Mapping[str, Any]:
        if since is not None and since > self.measured:
            return {}
        return {"tool0": {"actual": 20.0, "target": 0.0, "offset": 0}}

    def printer(self) -> Mapping[str, Any]:
        return {
            "uuid": "u",
            "name": None,
            "octoprint_version": "2.0.0",
            "plugin_version": "0.1.0",
            "firmware": self.firmware,
            "profile": {
                "name": "Default",
                "model": None,
                "extruders": 1,
                "heated_bed": True,
                "heated_chamber": False,
            },
            "identity": {},
        }


class Printer:
    """Feeds an `Observer` one event a second, checks each occurrence as the bridge will, and keeps them."""

    def __init__(self, state_id: str = "OFFLINE") -> None:
        runs = (f"run{n}" for n in itertools.count(1))
        self.observer = Observer(state_id, lambda: next(runs))
        self.view = StillView()
        self.now = NOON
        self.told: list[Occurrence] = []

    def _keep(self, occurrences: list[Occurrence]) -> list[Occurrence]:
        for one in occurrences:
            wire.PAYLOADS[one.kind](one.data, one.kind)
        self.told += occurrences
        return occurrences

    def event(self, name: str, payload: Any = None, after: float = 1.0) -> list[Occurrence]:
        self.now += timedelta(seconds=after)
        return self._keep(self.observer.observe(self.now, name, payload, self.view))

    def states(self, *ids: str) -> None:
        for state_id in ids:
            self.event("PrinterStateChanged", {"state_id": state_id, "state_string": "?"})

    def sample(self, heaters: Any = None, after: float = 1.0, **progress: Any) -> list[Occurrence]:
        self.now += timedelta(seconds=after)
        return self._keep(self.observer.sample(self.now, heaters or {}, progress))

    def printing(self) -> Printer:
        self.states("OPERATIONAL", "STARTING")
        self.event("PrintStarted", FILE)
        self.states("PRINTING")
        self.told.clear()
        return self

    def summary(self) -> list[tuple[str, Any]]:
        """Kind and the one field that tells most, of all that was told."""
        return [(one.kind, one.data.get("result") or one.data.get("state")) for one in self.told]


def test_both_versions_tell_the_same_of_connecting() -> None:
    one, two = Printer(), Printer()
    one.states("DETECT_SERIAL", "OPEN_SERIAL", "CONNECTING", "OPERATIONAL")  # 1.11
    two.states("DETECTING", "CONNECTING", "CONNECTING", "OPERATIONAL")  # 2.0
    expected = [("state", "connecting"), ("state", "operational"), ("snapshot", "operational")]
    assert one.summary() == two.summary() == expected


def test_every_state_id_has_a_state_of_the_wire() -> None:
    assert set(STATES.values()) == wire.STATES


def test_an_unknown_state_is_passed_over() -> None:
    printer = Printer("OPERATIONAL")
    printer.states("DREAMING")
    assert printer.told == []


def test_a_job_carries_what_is_known_of_it_and_the_moment_it_began() -> None:
    printer = Printer("OPERATIONAL")
    (started,) = printer.event("PrintStarted", {**FILE, "owner": "ann", "user": "ann"})
    assert started.data == {
        "run": "run1",
        "file": "part.gcode",
        "path": "lab/part.gcode",
        "origin": "local",
        "size": 1234,
        "started": wire.format_time(printer.now),
        "estimated_print_time": 3600.5,
        "filament": {"tool0": {"length": 1500.0, "volume": 3.6}},
    }


def test_what_is_known_of_another_file_is_not_told_of_this_job() -> None:
    printer = Printer("OPERATIONAL")
    (started,) = printer.event("PrintStarted", {"name": "other.gcode", "path": "other.gcode"})
    assert (started.data["estimated_print_time"], started.data["size"]) == (None, None)


@pytest.mark.parametrize("origin", ["sdcard", "printer"])
def test_the_printers_own_storage_has_one_name(origin: str) -> None:
    (started,) = Printer("OPERATIONAL").event("PrintStarted", {**FILE, "origin": origin})
    assert started.data["origin"] == "printer"


def test_a_whole_print_with_a_pause() -> None:
    printer = Printer("OPERATIONAL")
    printer.states("STARTING")
    printer.event("PrintStarted", FILE)
    printer.states("PRINTING", "PAUSING", "PAUSED")
    printer.event("PrintPaused", FILE)
    printer.states("RESUMING")
    printer.event("PrintResumed", FILE)
    printer.states("PRINTING", "FINISHING")
    printer.event("PrintDone", {**FILE, "time": 66.5})
    printer.states("OPERATIONAL")
    assert printer.summary() == [
        ("state", "starting"),
        ("job_started", None),
        ("state", "printing"),
        ("state", "pausing"),
        ("state", "paused"),
        ("job_paused", None),
        ("state", "resuming"),
        ("job_resumed", None),
        ("state", "printing"),
        ("state", "finishing"),
        ("job_ended", "completed"),
        ("state", "operational"),
    ]
    assert {one.data["run"] for one in printer.told if "run" in one.data} == {"run1"}
    ended = printer.told[-2].data
    assert (ended["print_time"], ended["completion"], ended["reason"]) == (66.5, 100.0, None)


def test_a_cancelled_print_ends_once_although_octoprint_also_calls_it_failed() -> None:
    printer = Printer().printing()
    printer.states("CANCELLING")
    printer.event("PrintCancelled", {**FILE, "progress": 42, "time": 12.0})
    printer.states("OPERATIONAL")
    printer.event("PrintFailed", {**FILE, "reason": "cancelled", "time": 12.0})
    assert printer.summary() == [
        ("state", "cancelling"),
        ("job_ended", "cancelled"),
        ("state", "operational"),
    ]
    assert (printer.told[1].data["completion"], printer.told[1].data["print_time"]) == (42, 12.0)


def test_the_late_failed_of_a_cancelled_print_does_not_end_the_next_one() -> None:
    printer = Printer().printing()
    printer.event("PrintCancelled", {**FILE, "progress": 42, "time": 12.0})
    printer.event("PrintStarted", FILE)
    printer.event("PrintFailed", {**FILE, "reason": "cancelled", "time": 12.0})
    assert printer.observer.job is not None
    assert printer.observer.job["run"] == "run2"


def firmware_kill_1_11(printer: Printer) -> None:
    printer.states("ERROR")
    printer.event("Error", {"error": RUNAWAY, "reason": "firmware"}, after=0.0001)
    printer.states("OFFLINE")
    printer.event("Disconnected")
    printer.event("PrintFailed", {**FILE, "reason": "error", "error": RUNAWAY, "progress": 0.4, "time": 5.0})


def firmware_kill_2_0(printer: Printer) -> None:
    printer.states("ERROR")
    printer.event("Error", {"error": RUNAWAY, "connector": "serial"}, after=0.0001)
    printer.event("PrintFailed", {**FILE, "reason": "error", "error": "unknown", "progress": 0.4, "time": 5})
    printer.event("Disconnected")
    printer.states("CLOSED_WITH_ERROR")


@pytest.mark.parametrize("kill", [firmware_kill_1_11, firmware_kill_2_0])
def test_a_firmware_kill_ends_the_print_once_with_the_firmwares_words(kill: Any) -> None:
    printer = Printer().printing()
    printer.sample(completion=40.0, printTime=5)
    printer.told.clear()
    kill(printer)
    assert printer.summary() == [
        ("error", None),
        ("job_ended", "failed"),
        ("state", "error"),
        ("state", "disconnected"),
    ]
    error, ended, state, gone = (one.data for one in printer.told)
    assert error["text"] == ended["reason"] == state["error"] == gone["error"] == RUNAWAY
    assert (ended["completion"], ended["print_time"]) == (40.0, 5)


def test_an_error_told_before_the_state_gives_the_same_picture() -> None:
    printer = Printer().printing()
    printer.event("Error", {"error": RUNAWAY})
    printer.states("ERROR")
    assert printer.summary() == [("error", None), ("job_ended", "failed"), ("state", "error")]
    assert printer.told[1].data["reason"] == RUNAWAY


def test_an_error_without_words_is_told_all_the_same_at_the_next_sample_or_event() -> None:
    one, two = Printer().printing(), Printer().printing()
    one.states("ERROR")
    one.sample()
    two.states("ERROR", "CLOSED")
    assert one.summary() == [("job_ended", "failed"), ("state", "error")]
    assert two.summary() == [*one.summary(), ("state", "disconnected")]
    assert one.told[0].data["reason"] == NO_TEXT
    assert one.told[0].time == one.now - timedelta(seconds=1), "told late, but it happened when it happened"


def test_a_print_that_loses_its_printer_ends_even_where_octoprint_does_not_say_so() -> None:
    printer = Printer().printing()
    printer.states("PAUSED", "OFFLINE")
    assert printer.summary() == [("state", "paused"), ("job_ended", "failed"), ("state", "disconnected")]
    assert printer.told[1].data["reason"] == CLOSED


def test_an_error_of_long_ago_is_not_the_reason_of_a_disconnection() -> None:
    printer = Printer().printing()
    printer.event("Error", {"error": "a harmless one"})
    printer.now += timedelta(seconds=60)
    printer.states("CLOSED")
    assert printer.told[-2].data["reason"] == CLOSED
    assert printer.told[-1].data["error"] is None


def test_an_error_of_long_ago_does_not_keep_the_next_one_from_its_words() -> None:
    printer = Printer().printing()
    printer.event("Error", {"error": "a harmless one"})
    printer.now += timedelta(seconds=60)
    printer.told.clear()
    printer.states("ERROR")
    printer.event("Error", {"error": RUNAWAY}, after=0.0001)
    assert printer.summary() == [("error", None), ("job_ended", "failed"), ("state", "error")]
    assert printer.told[1].data["reason"] == printer.told[2].data["error"] == RUNAWAY


def test_a_failure_told_between_the_error_and_its_words_has_those_words() -> None:
    printer = Printer().printing()
    printer.states("ERROR")
    printer.event("PrintFailed", {**FILE, "reason": "error", "error": "unknown"}, after=0.0001)
    assert printer.told == []
    printer.event("Error", {"error": RUNAWAY}, after=0.0001)
    assert printer.summary() == [("error", None), ("job_ended", "failed"), ("state", "error")]
    assert printer.told[1].data["reason"] == RUNAWAY


@pytest.mark.parametrize("nothing", ["", False, None, "unknown", "Unknown"])
def test_a_failure_without_words_has_those_of_the_error_just_before_or_tells_of_the_connection(
    nothing: Any,
) -> None:
    one, two = Printer().printing(), Printer().printing()
    one.event("Error", {"error": RUNAWAY})
    for printer in (one, two):
        printer.event("PrintFailed", {**FILE, "reason": "error", "error": nothing, "time": 3})
    assert one.told[-1].data["reason"] == RUNAWAY
    assert two.told == []
    failed = two.now
    two.sample()
    assert (two.told[-1].data["reason"], two.told[-1].data["print_time"]) == (CLOSED, 3)
    assert two.told[-1].time == failed


@pytest.mark.parametrize("order", ["words before the state", "state before the words"])
@pytest.mark.parametrize("words", ["unknown", RUNAWAY])
def test_a_failure_told_before_its_error_follows_the_error_and_has_its_words(order: str, words: str) -> None:
    printer = Printer().printing()
    printer.event("PrintFailed", {**FILE, "reason": "error", "error": words, "time": 5})
    assert printer.observer.awaits_more
    assert printer.told == []
    if order == "words before the state":
        printer.event("Error", {"error": RUNAWAY}, after=0.1)
        printer.states("ERROR")
    else:
        printer.event("PrinterStateChanged", {"state_id": "ERROR"}, after=0.1)
        printer.event("Error", {"error": RUNAWAY}, after=0.0001)
    assert printer.summary() == [("error", None), ("job_ended", "failed"), ("state", "error")]
    assert (printer.told[1].data["reason"], printer.told[1].data["print_time"]) == (RUNAWAY, 5)
    assert not printer.observer.awaits_more


@pytest.mark.parametrize("next_event", ["another print", "ready again", "shutdown"])
def test_a_failure_without_words_ends_the_print_before_whatever_follows(next_event: str) -> None:
    printer = Printer().printing()
    printer.event("PrintFailed", {**FILE, "reason": "error", "error": "unknown"})
    if next_event == "another print":
        printer.event("PrintStarted", FILE, after=0.1)
    elif next_event == "ready again":
        printer.event("PrinterStateChanged", {"state_id": "OPERATIONAL"}, after=0.1)
    else:
        printer._keep(printer.observer.unsaid())
    assert printer.summary()[0] == ("job_ended", "failed")
    assert printer.told[0].data["reason"] == CLOSED


def test_a_print_that_octoprint_gives_up_for_an_error_of_the_firmware_has_failed_with_its_words() -> None:
    printer = Printer().printing()
    printer.event("PrintCancelling", {**FILE, "firmwareError": RUNAWAY})
    printer.states("CANCELLING")
    printer.event("PrintCancelled", {**FILE, "progress": 42, "time": 12.0})
    printer.states("OPERATIONAL")
    assert printer.summary() == [
        ("error", None),
        ("state", "cancelling"),
        ("job_ended", "failed"),
        ("state", "operational"),
    ]
    assert printer.told[0].data["text"] == printer.told[2].data["reason"] == RUNAWAY
    assert printer.told[3].data["error"] is None
    printer.told.clear()
    printer.event("PrintStarted", FILE)
    printer.event("PrintCancelling", FILE)
    printer.event("PrintCancelled", FILE)
    assert printer.summary()[-1] == ("job_ended", "cancelled")


def begun_at_the_printer() -> Printer:
    """As the connectors of 2.0 do it: the file is known, but there is no event."""
    printer = Printer("OPERATIONAL")
    printer.states("PRINTING")
    return printer


def test_a_print_that_is_seen_in_the_state_alone_begins_with_it() -> None:
    printer = begun_at_the_printer()
    assert printer.summary() == [("job_started", None), ("state", "printing")]
    started = printer.told[0].data
    assert (started["file"], started["path"], started["origin"]) == ("part.gcode", "lab/part.gcode", "local")
    assert started["started"] == wire.format_time(printer.now)


def test_of_a_print_whose_file_is_not_known_that_is_told() -> None:
    printer = Printer("OPERATIONAL")
    printer.view.current = {"file": dict.fromkeys(FILE), "estimatedPrintTime": None, "filament": None}
    printer.states("PRINTING")
    assert (printer.told[0].data["file"], printer.told[0].data["path"]) == ("unknown", None)


@pytest.mark.parametrize("later", [0.5, 10.0])
def test_an_event_that_follows_the_state_begins_no_second_print_but_one_long_after_does(later: float) -> None:
    printer = begun_at_the_printer()
    printer.event("PrintStarted", FILE, after=later)
    started = [one.data["run"] for one in printer.told if one.kind == wire.JOB_STARTED]
    assert started == (["run1"] if later < 1 else ["run1", "run2"])


def test_an_event_about_another_file_than_that_of_the_state_begins_a_second_print() -> None:
    printer = begun_at_the_printer()
    printer.event("PrintStarted", {"name": "other.gcode", "path": "other.gcode"}, after=0.1)
    assert printer.summary()[-2:] == [("job_ended", "failed"), ("job_started", None)]


def test_a_resumed_print_is_no_new_one() -> None:
    printer = Printer().printing()
    printer.states("PAUSING", "PAUSED", "RESUMING", "PRINTING")
    assert wire.JOB_STARTED not in [one.kind for one in printer.told]


@pytest.mark.parametrize(
    ("before", "done", "end"),
    [
        (["FINISHING"], 10.0, ("completed", None, 100.0)),
        (["CANCELLING"], 10.0, ("cancelled", None, 10.0)),
        ([], 99.9, ("completed", None, 100.0)),
        ([], 10.0, ("failed", UNSAID, 10.0)),
    ],
)
def test_a_print_whose_end_is_seen_in_the_state_alone_ends_when_no_event_follows(
    before: list[str], done: float, end: tuple[Any, ...]
) -> None:
    printer = begun_at_the_printer()
    printer.sample(completion=done, printTime=7)
    printer.states(*before, "OPERATIONAL")
    rested = printer.now
    assert printer.observer.awaits_more
    assert printer.sample(completion=None, after=1.0) == []
    (ended,) = printer.sample(completion=None, after=2.0)
    data = ended.data
    assert (data["result"], data["reason"], data["completion"], data["print_time"]) == (*end, 7)
    assert ended.time == rested, "told late, but it ended when it ended"
    assert not printer.observer.awaits_more


def test_how_far_a_print_came_is_looked_at_once_more_when_the_printer_is_idle() -> None:
    whole, forgotten = begun_at_the_printer(), begun_at_the_printer()
    for printer, last in ((whole, 100.0), (forgotten, None)):
        printer.sample(completion=98.0, printTime=70)
        printer.view.progress = lambda last=last: {"completion": last, "printTime": 72}  # type: ignore[method-assign, misc]
        printer.states("OPERATIONAL")
        printer.sample(after=5)
    assert (whole.told[-1].data["result"], whole.told[-1].data["print_time"]) == ("completed", 72)
    assert (forgotten.told[-1].data["result"], forgotten.told[-1].data["completion"]) == ("failed", 98.0)


def test_an_event_that_follows_the_idle_state_tells_the_end_itself() -> None:
    printer = Printer().printing()
    printer.states("OPERATIONAL")
    (ended,) = printer.event("PrintDone", {**FILE, "time": 66.5})
    assert (ended.data["result"], ended.data["print_time"]) == ("completed", 66.5)
    assert printer.sample(after=5) == []


@pytest.mark.parametrize("next_one", ["PRINTING", "STARTING", "CLOSED"])
def test_a_print_whose_end_was_not_told_ends_before_whatever_comes_next(next_one: str) -> None:
    printer = begun_at_the_printer()
    printer.states("FINISHING", "OPERATIONAL", next_one)
    told = [one.kind for one in printer.told if one.kind != wire.STATE]
    assert told[:2] == [wire.JOB_STARTED, wire.JOB_ENDED]
    assert printer.told[-2].kind == (wire.JOB_STARTED if next_one == "PRINTING" else wire.JOB_ENDED)
    if next_one == "STARTING":
        assert printer.event("PrintStarted", FILE)[0].data["run"] == "run2"


def test_connecting_again_clears_the_error() -> None:
    printer = Printer().printing()
    firmware_kill_2_0(printer)
    printer.states("CONNECTING")
    assert printer.told[-1].data == {"state": "connecting", "error": None}


def test_a_print_that_begins_during_another_ends_that_one() -> None:
    printer = Printer().printing()
    printer.event("PrintStarted", FILE)
    assert [one.data["run"] for one in printer.told] == ["run1", "run2"]
    assert printer.summary()[0] == ("job_ended", "failed")


def test_a_paused_print_that_is_begun_anew_was_given_up() -> None:
    printer = Printer().printing()
    printer.states("PAUSED")
    printer.event("PrintPaused", FILE)
    printer.states("STARTING")
    printer.event("PrintStarted", FILE)
    printer.event("PrintStarted", FILE)
    ends = [one.data["result"] for one in printer.told if one.kind == wire.JOB_ENDED]
    assert ends == ["cancelled", "failed"]


def test_temperatures_of_an_earlier_connection_are_not_told() -> None:
    printer = Printer()
    printer.view.measured = printer.now
    printer.states("CONNECTING", "OPERATIONAL")
    assert printer.told[-1].data["heaters"] == {}
    assert printer.observer.measured_since == printer.now
    printer.sample({"tool0": {"actual": 21.0, "target": 0.0}})
    assert printer.observer.measured_since is None
    (taken,) = printer.observer.snapshot(printer.now, "requested", printer.view)
    assert taken.data["heaters"] == {"tool0": {"actual": 20.0, "target": 0.0}}


def test_a_filament_change_names_the_job_if_there_is_one() -> None:
    printer = Printer("OPERATIONAL")
    assert printer.event("FilamentChange", {"command": "M600"})[0].data == {"run": None}
    assert printer.printing().event("FilamentChange", {"command": "M600"})[0].data == {"run": "run1"}


def test_a_snapshot_in_the_middle_of_a_print_holds_the_job_and_its_progress() -> None:
    printer = Printer().printing()
    printer.sample(completion=12.5, printTime=30, printTimeLeft=None)
    (taken,) = printer._keep(printer.observer.snapshot(printer.now, "requested", printer.view))
    assert taken.data["job"]["run"] == "run1"
    assert taken.data["progress"] == {
        "run": "run1",
        "completion": 12.5,
        "print_time": 30,
        "print_time_left": None,
        "layer": None,
        "layers": None,
    }
    assert taken.data["heaters"] == {"tool0": {"actual": 20.0, "target": 0.0}}


def test_firmware_that_is_known_late_is_told_with_a_second_snapshot() -> None:
    printer = Printer()
    printer.view.firmware = None
    printer.states("CONNECTING", "OPERATIONAL")
    printer.view.firmware = "Marlin 2.1"
    assert [one.kind for one in printer.event("FirmwareData", {"name": "Marlin 2.1"})] == ["snapshot"]
    assert printer.event("FirmwareData", {"name": "Marlin 2.1"}) == []


def test_samples_are_told_only_when_they_moved() -> None:
    printer = Printer().printing()
    tool = {"tool0": {"actual": 100.0, "target": 200.0}}
    assert [o.kind for o in printer.sample(tool, completion=1.0, printTime=10)] == ["heaters", "progress"]
    assert printer.sample({"tool0": {"actual": 100.4, "target": 200.0}}, completion=1.05, printTime=12) == []
    assert [o.kind for o in printer.sample({"tool0": {"actual": 100.5, "target": 200.0}})] == [
        "heaters",
        "progress",
    ]
    assert [o.kind for o in printer.sample({"tool0": {"actual": 100.5, "target": 210.0}})] == ["heaters"]


def test_heaters_that_are_not_there_are_not_told() -> None:
    printer = Printer("OPERATIONAL")
    nothing = {"actual": None, "target": None}
    (told,) = printer.sample({"tool0": {"actual": 20.0, "target": math.nan}, "chamber": nothing, "time": 5})
    assert told.data == {"heaters": {"tool0": {"actual": 20.0, "target": None}}}


def test_a_file_name_that_is_no_utf_8_is_told_as_far_as_it_can_be() -> None:
    (started,) = Printer("OPERATIONAL").event("PrintStarted", {"name": "caf\udce9.gcode"})
    assert started.data["file"] == "caf?.gcode"


def layer(current: str, total: str = "120") -> dict[str, Any]:
    return {"updateReason": "layerChanged", "currentLayer": current, "totalLayer": total, "progress": "5"}


def test_a_layer_is_told_with_the_next_sample_and_is_a_reason_for_one() -> None:
    printer = Printer("OPERATIONAL").printing()
    (told,) = printer.sample(completion=5.0)
    assert (told.data["layer"], told.data["layers"]) == (None, None)
    for number in range(1, 50):
        assert printer.event("DisplayLayerProgress_layerChanged", layer(str(number))) == []
    (told,) = printer.sample(completion=5.0)
    assert (told.data["layer"], told.data["layers"]) == (49, 120)
    assert printer.sample(completion=5.0) == []


def test_a_print_does_not_begin_with_the_layer_of_the_one_before() -> None:
    printer = Printer("OPERATIONAL").printing()
    printer.event("DisplayLayerProgress_layerChanged", layer("120"))
    printer.event("PrintDone", {"time": 9.0})
    printer.event("DisplayLayerProgress_layerChanged", layer("0"))
    printer.printing()
    assert printer.sample(completion=0.0)[-1].data["layer"] is None
    printer.event("DisplayLayerProgress_layerChanged", layer("1"))
    assert printer.sample(completion=1.0)[-1].data["layer"] == 1


def test_nothing_is_sampled_from_a_printer_that_is_not_connected() -> None:
    assert Printer().sample({"tool0": {"actual": 20.0, "target": 0.0}}, completion=5.0) == []


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = [
    "state_id",
    "name",
    "path",
    "origin",
    "size",
    "time",
    "progress",
    "reason",
    "error",
    "firmwareError",
    "currentLayer",
    "totalLayer",
]
payloads = anything | st.fixed_dictionaries({}, optional={field: anything for field in fields})


@given(
    st.lists(
        st.tuples(st.sampled_from([*sorted(Observer().events), "Other"]), payloads)
        | st.tuples(
            st.just("PrinterStateChanged"), st.fixed_dictionaries({"state_id": st.sampled_from([*STATES])})
        ),
        max_size=12,
    ),
    anything,
)
def test_whatever_octoprint_says_is_sound_on_the_wire_and_ends_each_print_at_most_once(
    events: list[tuple[str, Any]], current: Any
) -> None:
    printer = Printer()
    printer.view.current = {"file": current, "estimatedPrintTime": current, "filament": {"tool0": current}}
    for name, payload in events:
        printer.event(name, payload)
        printer.sample({"tool0": current, "bed": {"actual": current}}, completion=current, printTime=current)
    started = [one.data["run"] for one in printer.told if one.kind == wire.JOB_STARTED]
    ended = [one.data["run"] for one in printer.told if one.kind == wire.JOB_ENDED]
    assert ended == started[: len(ended)]
    assert len(started) - len(ended) in (0, 1)
