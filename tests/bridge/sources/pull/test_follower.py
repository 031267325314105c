"""What OctoPrint says to its clients, as the events that its plugin would push."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.log import PULLED, Record
from bridge.machine import JobState, Machine, Result, apply
from bridge.sources.pull.follower import Follower
from octoprint_mesbridge.occurrence import Occurrence
from tests.bridge.events import JOB, START, Story

FILE = {"name": "benchy.gcode", "path": "models/benchy.gcode", "origin": "local", "size": 12345}
FLAGS = {
    "Operational": ("operational", "ready"),
    "Printing": ("operational", "printing"),
    "Paused": ("operational", "paused"),
    "Offline after error": ("closedOrError",),
}
RUNAWAY = "Thermal Runaway, system stopped!"


def state(text: str, error: str = "") -> dict[str, Any]:
    return {"text": text, "flags": {name: True for name in FLAGS[text]}, "error": error}


def said(
    text: str = "Operational",
    print_time: float | None = None,
    completion: float | None = None,
    path: str | None = "models/benchy.gcode",
    tool: float = 20.0,
    error: str = "",
) -> dict[str, Any]:
    """A ``history`` or ``current``."""
    file = {**FILE, "path": path} if path else {"name": None, "path": None}
    return {
        "state": state(text, error),
        "job": {"file": file, "estimatedPrintTime": 600.0, "filament": None},
        "progress": {"completion": completion, "printTime": print_time, "printTimeLeft": None},
        "temps": [{"time": 1, "tool0": {"actual": tool, "target": 0.0}, "bed": {"actual": 20, "target": 0}}],
    }


class Watched:
    """A machine that a `Follower` follows: what it tells is applied, as the log would have it."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine = machine or Machine()
        self.now = START
        self.changes: list[str] = []
        self.told: list[Occurrence] = []
        self.follower = Follower(self.machine)
        self._position = 0

    def begin(self, data: Mapping[str, Any], files: Any = (), after: float = 1.0) -> None:
        self.now += timedelta(seconds=after)
        self.follower = Follower(self.machine)
        self._keep(self.follower.begin(self.now, data, files))

    def event(self, kind: str, /, after: float = 1.0, **payload: Any) -> None:
        self.now += timedelta(seconds=after)
        self._keep(self.follower.event(self.now, kind, payload or None))

    def state(self, *ids: str) -> None:
        for one in ids:
            self.event("PrinterStateChanged", 0.01, state_id=one)

    def current(self, data: Mapping[str, Any], after: float = 2.0) -> None:
        self.now += timedelta(seconds=after)
        self._keep(self.follower.current(self.now, data))

    def polled(self, answer: Mapping[str, Any], after: float = 5.0) -> None:
        self.now += timedelta(seconds=after)
        self._keep(self.follower.polled(self.now, answer))

    def _keep(self, occurrences: list[Occurrence]) -> None:
        for one in occurrences:
            self._position += 1
            data = wire.PAYLOADS[one.kind](one.data, one.kind)
            record = Record(self._position, "m", PULLED + "1", self._position, one.time, one.kind, data)
            transition = apply(self.machine, record)
            self.machine = transition.after
            self.changes += [type(change).__name__ for change in transition.changes]
        self.changes = [name for name in self.changes if name != "StateChanged"]
        self.told += occurrences

    @property
    def job(self) -> Any:
        assert self.machine.job is not None
        return self.machine.job


def printing() -> Watched:
    watched = Watched()
    watched.begin(said(path=None))
    watched.state("STARTING")
    watched.event("PrintStarted", **FILE)
    watched.state("PRINTING")
    return watched


def test_a_print_is_seen_from_its_beginning_to_its_end() -> None:
    watched = printing()
    begun = watched.now - timedelta(seconds=0.01)
    watched.current(said("Printing", 3, 10.0), after=4)
    watched.state("PAUSING")
    watched.event("PrintPaused", **FILE)
    watched.state("PAUSED", "RESUMING")
    watched.event("PrintResumed", **FILE)
    watched.state("PRINTING")
    watched.event("PrintDone", **FILE, time=9.5)
    watched.state("OPERATIONAL")
    assert watched.changes == ["JobStarted", "JobPaused", "JobResumed", "JobEnded"]
    assert (watched.job.started, watched.job.result, watched.job.print_time) == (begun, Result.COMPLETED, 9.5)
    assert watched.machine.heaters["tool0"].actual == 20.0
    assert watched.machine.printer is not None
    assert watched.machine.printer.plugin_version is None


def test_progress_of_the_print_before_is_not_that_of_the_next() -> None:
    watched = printing()
    watched.current(said("Printing", 300, 99.0), after=4)
    watched.event("PrintDone", **FILE, time=301)
    watched.state("OPERATIONAL", "STARTING")
    watched.event("PrintStarted", **FILE)
    watched.state("PRINTING")
    watched.current(said("Operational", 301, 100.0), after=0.2)
    watched.current(said("Printing", 301, 100.0), after=0.2)
    assert watched.job.completion is None
    watched.current(said("Printing", 3, 1.0), after=3.0)
    assert watched.job.completion == 1.0


def test_a_state_that_lags_behind_its_event_is_not_believed() -> None:
    watched = printing()
    watched.current(said("Operational"), after=0.4)
    assert (watched.machine.state, watched.follower.disagrees) == ("printing", False)
    watched.event("PrintDone", **FILE, time=9.5)
    watched.state("OPERATIONAL")
    watched.current(said("Printing", 9, 99.0))
    assert (watched.machine.state, watched.changes) == ("operational", ["JobStarted", "JobEnded"])


def test_an_event_that_never_came_is_noticed() -> None:
    watched = printing()
    for _ in range(6):
        watched.current(said("Operational", 9, 100.0))
    assert watched.follower.disagrees
    watched.begin(said("Operational", 9, 100.0))
    assert watched.changes == ["JobStarted", "JobEnded"]
    assert watched.job.result is Result.COMPLETED


def test_a_print_that_is_found_running_began_when_its_print_time_says() -> None:
    watched = Watched()
    watched.begin(said("Printing", 120.0, 20.0))
    assert watched.job.started == watched.now - timedelta(seconds=120)
    assert watched.job.completion == 20.0
    watched.event("PrintDone", **FILE, time=600.0)
    assert watched.changes == ["JobStarted", "JobEnded"]


def test_one_that_is_found_paused_is_told_as_begun_and_paused() -> None:
    watched = Watched()
    watched.begin(said("Paused", 120.0, 20.0))
    assert watched.changes == ["JobStarted", "JobPaused"]


@pytest.mark.parametrize(
    ("away", "print_time", "same"),
    [(60, 70.0, True), (60, 10.0, True), (600, 30.0, True), (60, 0.0, True), (600, 900.0, True)],
)
def test_a_print_that_goes_on_is_the_same_if_its_time_allows_that(
    away: float, print_time: float, same: bool
) -> None:
    watched = printing()
    watched.current(said("Printing", 10, 5.0), after=10)
    run = watched.job.run
    watched.begin(said("Printing", print_time, 30.0), after=away)
    assert (watched.job.run == run) is same


@pytest.mark.parametrize("ended_after", [-5, 20])
def test_it_is_another_one_if_octoprint_remembers_the_end_of_the_first(ended_after: float) -> None:
    watched = printing()
    watched.current(said("Printing", 10, 5.0), after=10)
    ended = watched.now + timedelta(seconds=ended_after)
    last = {"date": ended.timestamp(), "success": True, "printTime": 30.0}
    watched.begin(said("Printing", 100.0, 30.0), [{**FILE, "prints": {"last": last}}], after=600)
    jobs = ["JobStarted"] if ended_after < 0 else ["JobStarted", "JobEnded", "JobStarted"]
    assert watched.changes == jobs


@pytest.mark.parametrize("skew", [-60.0, 60.0])
def test_a_clock_that_another_source_had_not_known_divides_no_print(skew: float) -> None:
    watched = printing()
    watched.current(said("Printing", 300, 50.0), after=300)
    server_time = watched.now.timestamp() + 30 + skew
    watched.begin({**said("Printing", 330, 55.0), "serverTime": server_time}, after=30)
    assert watched.changes == ["JobStarted"]


def test_a_print_of_another_file_or_one_that_begins_anew_is_another_print() -> None:
    watched = printing()
    watched.current(said("Printing", 300, 50.0), after=300)
    watched.begin(said("Printing", 10.0, 3.0), after=60)
    assert watched.changes == ["JobStarted", "JobEnded", "JobStarted"]
    watched.begin(said("Printing", 20.0, 3.0, path="other.gcode"), after=10)
    assert watched.changes.count("JobStarted") == 3


def test_a_print_of_which_the_plugin_told_goes_on_under_its_name() -> None:
    story = Story()
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    watched = Watched(story.machine)
    watched.begin(said("Printing", 30.0, 5.0), after=31)
    watched.event("PrintDone", **FILE, time=600.0)
    assert (watched.job.run, watched.job.state) == (JOB["run"], JobState.ENDED)
    assert watched.machine.printer is not None
    assert watched.machine.printer.uuid == "0b9c"


def test_an_error_is_told_with_its_words_also_when_it_was_there_before() -> None:
    watched = printing()
    watched.event("Error", error=RUNAWAY)
    watched.state("ERROR", "OFFLINE")
    assert (watched.machine.error, watched.job.reason) == (RUNAWAY, RUNAWAY)
    found = Watched()
    found.begin(said("Offline after error", path=None, error=RUNAWAY))
    assert (found.machine.state, found.machine.error) == ("disconnected", RUNAWAY)


def test_octoprint_that_shuts_down_says_so() -> None:
    watched = Watched()
    watched.begin(said())
    watched.event("Shutdown")
    assert watched.machine.state == "disconnected"


def test_times_are_those_of_octoprints_clock() -> None:
    watched = Watched()
    watched.begin({**said(), "serverTime": START.timestamp() + 3600})
    watched.event("PrintStarted", **FILE)
    ahead = watched.job.started - watched.now
    assert timedelta(seconds=3598) < ahead < timedelta(seconds=3600)


@pytest.mark.parametrize("odd", [None, True, "now", float("nan"), float("inf"), 10**400, -1])
def test_a_clock_that_tells_no_time_is_not_followed(odd: Any) -> None:
    follower = Follower(Machine())
    follower.note_clock(odd, START)
    assert follower.time_of(START) == START


def test_a_clock_that_trembles_is_not_followed() -> None:
    follower = Follower(Machine())
    follower.note_clock(START.timestamp() + 0.1, START)
    assert follower.time_of(START) == START


# ------------------------------------------------------------------ by REST alone


def job_answer(text: str, print_time: float | None = None, completion: float | None = None) -> dict[str, Any]:
    return {
        "state": text,
        "job": {"file": FILE},
        "progress": {"completion": completion, "printTime": print_time},
    }


def test_without_events_a_print_is_seen_by_its_states() -> None:
    watched = Watched()
    watched.begin(said(path=None))
    watched.polled(job_answer("Printing", 3.0, 1.0))
    assert watched.job.started == watched.now - timedelta(seconds=3)
    watched.polled({"temperature": {"tool0": {"actual": 200.0, "target": 205.0}}, "state": {}})
    assert watched.machine.heaters["tool0"].target == 205.0
    watched.polled(job_answer("Paused", 8.0, 40.0))
    watched.polled(job_answer("Printing", 12.0, 60.0))
    watched.polled(job_answer("Operational", 20.0, 100.0))
    watched.polled(job_answer("Operational", 20.0, 100.0))
    assert watched.changes == ["JobStarted", "JobPaused", "JobResumed", "JobEnded"]
    assert watched.job.result is Result.COMPLETED


def test_two_prints_between_two_looks_are_two() -> None:
    watched = Watched()
    watched.begin(said(path=None))
    watched.polled(job_answer("Printing", 300.0, 80.0))
    watched.polled(job_answer("Printing", 2.0, 1.0))
    assert watched.changes == ["JobStarted", "JobEnded", "JobStarted"]


def test_an_error_is_seen_in_the_state() -> None:
    watched = Watched()
    watched.begin(said(path=None))
    watched.polled({**job_answer("Offline after error"), "error": RUNAWAY})
    assert (watched.machine.state, watched.machine.error) == ("disconnected", RUNAWAY)


# ------------------------------------------------------------------ whatever comes

ODD: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                [
                    "state",
                    "text",
                    "flags",
                    "job",
                    "file",
                    "path",
                    "progress",
                    "printTime",
                    "temps",
                    "tool0",
                    "actual",
                    "error",
                    "serverTime",
                    "completion",
                    "name",
                    "temperature",
                    "state_id",
                    "time",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(
    st.sampled_from(["state", "job", "progress", "temps", "serverTime", "temperature", "error"]), ODD
)


@given(
    OBJECTS, st.lists(st.one_of(OBJECTS, st.tuples(st.sampled_from(Follower.EVENTS), ODD)), max_size=6), ODD
)
def test_odd_messages_make_no_odd_events(first: Any, then: list[Any], files: Any) -> None:
    watched = Watched()
    watched.begin(first, files if isinstance(files, list) else ())
    for one in then:
        watched.now += timedelta(seconds=1)
        if isinstance(one, tuple):
            watched._keep(watched.follower.event(watched.now, *one))
        else:
            watched.current(one)
            watched.polled(one)


def test_the_moment_of_a_print_that_runs_for_ever_can_be_told() -> None:
    watched = Watched()
    watched.begin(said("Printing", 9e8, 20.0))
    assert isinstance(watched.job.started, datetime)
