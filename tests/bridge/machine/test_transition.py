from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.log import Record
from bridge.machine import HISTORY, JobState, Link, Machine, Result, apply, codec
from tests.bridge.events import DATA, JOB, START, Story, printing


def test_a_whole_print_is_one_job_with_one_end() -> None:
    story = printing()
    story.tell(wire.PROGRESS)
    story.states("finishing")
    story.tell(wire.JOB_ENDED)
    story.states("operational")
    assert story.changes() == ["LinkChanged", "JobStarted", "JobEnded"]
    job = story.machine.job
    assert job is not None
    assert (job.state, job.result, job.started) == (JobState.ENDED, Result.COMPLETED, START)
    assert job.ended == story.now - timedelta(seconds=1)
    assert (job.completion, job.print_time, job.print_time_left) == (100.0, 580.0, 0.0)
    assert story.machine.active_job is None


def test_the_true_start_is_the_printers_however_late_the_event_comes() -> None:
    story = Story()
    story.position = 5000
    story.tell(wire.JOB_STARTED)
    assert story.machine.job is not None
    assert story.machine.job.started == START


def test_pause_and_resume_are_told_once_though_state_and_event_both_say_it() -> None:
    story = printing()
    story.states("pausing")
    story.tell(wire.JOB_PAUSED)
    story.states("paused", "resuming")
    story.tell(wire.JOB_RESUMED)
    story.states("printing")
    assert story.changes() == ["LinkChanged", "JobStarted", "JobPaused", "JobResumed"]


def test_a_cancelled_print_is_aborted() -> None:
    story = printing()
    story.states("cancelling")
    story.tell(wire.JOB_ENDED, result="cancelled", completion=40.0)
    job = story.machine.job
    assert job is not None
    assert (job.state, job.result, job.completion) == (JobState.ABORTED, Result.CANCELLED, 40.0)
    assert story.machine.counters.jobs_cancelled == 1


def test_a_second_end_of_the_same_run_changes_nothing() -> None:
    story = printing()
    story.tell(wire.JOB_ENDED, result="cancelled")
    before = story.machine
    again = story.tell(wire.JOB_ENDED, result="failed")
    assert again.changes == ()
    assert story.machine.job == before.job
    assert story.machine.counters == before.counters


def test_a_print_that_a_snapshot_no_longer_knows_ended_when_it_was_last_heard_of() -> None:
    story = printing()
    story.tell(wire.PROGRESS)
    last = story.now
    story.position += 3600
    transition = story.tell(wire.SNAPSHOT, job=None)
    assert [type(c).__name__ for c in transition.changes if type(c).__name__ != "StateChanged"] == [
        "JobEnded"
    ]
    job = story.machine.job
    assert job is not None
    assert (job.result, job.ended) == (Result.FAILED, last)
    assert job.reason


def test_a_snapshot_with_the_running_job_does_not_start_it_again() -> None:
    story = printing()
    story.tell(wire.SNAPSHOT, reason="requested", state="printing", job=JOB, progress=DATA[wire.PROGRESS])
    assert story.changes() == ["LinkChanged", "JobStarted"]
    assert story.machine.job is not None
    assert story.machine.job.completion == 50.0


def test_a_snapshot_with_another_job_ends_the_one_and_starts_the_other() -> None:
    story = printing()
    story.tell(wire.SNAPSHOT, state="paused", job={**JOB, "run": "run-2"})
    assert story.changes() == ["LinkChanged", "JobStarted", "JobEnded", "JobStarted", "JobPaused"]
    assert story.machine.job is not None
    assert story.machine.job.run == "run-2"


def test_losing_octoprint_ends_no_job() -> None:
    story = printing()
    story.link("lost")
    assert story.machine.link is Link.LOST
    assert story.machine.active_job is not None
    story.link("up")
    story.tell(wire.SNAPSHOT, state="printing", job=JOB, progress=None)
    assert story.changes() == ["LinkChanged", "JobStarted", "LinkChanged", "LinkChanged"]


def test_a_snapshot_that_still_tells_of_an_error_does_not_clear_it() -> None:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.ERROR, text="thermal runaway")
    since = story.machine.error_since
    story.tell(wire.SNAPSHOT, reason="requested", error="thermal runaway")
    assert (story.machine.error, story.machine.error_since) == ("thermal runaway", since)
    story.tell(wire.SNAPSHOT, reason="connected")
    assert story.machine.error is None


def test_an_error_stays_until_the_printer_is_connected_again() -> None:
    story = printing()
    begun = story.tell(wire.ERROR).record.time
    story.states("error", "disconnected", "connecting")
    assert (story.machine.error, story.machine.error_since) == ("thermal runaway", begun)
    story.states("operational")
    assert (story.machine.error, story.machine.error_since) == (None, None)


def test_a_printer_killed_by_its_firmware_ends_its_job_after_the_disconnect() -> None:
    story = printing()
    story.tell(wire.ERROR)
    story.states("error", "disconnected")
    story.tell(wire.JOB_ENDED, result="failed", reason="error")
    assert story.machine.job is not None
    assert story.machine.job.result is Result.FAILED
    assert story.machine.error == "thermal runaway"


def test_progress_of_another_run_is_not_shown() -> None:
    story = printing()
    story.tell(wire.PROGRESS, run="run-0", completion=99.0)
    assert story.machine.job is not None
    assert story.machine.job.completion is None


def test_time_connected_is_counted() -> None:
    story = Story()
    story.states("operational")
    story.position += 99
    story.states("disconnected")
    assert story.machine.counters.connected == 100.0


kinds = st.sampled_from(sorted(DATA))
runs = st.sampled_from(["run-1", "run-2"])


@st.composite
def telling(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    kind = draw(kinds)
    changes: dict[str, Any] = {}
    if "run" in DATA[kind]:
        changes["run"] = draw(runs)
    if "state" in DATA[kind]:
        changes["state"] = draw(st.sampled_from(sorted(wire.STATES)))
    if kind == wire.SNAPSHOT and draw(st.booleans()):
        changes["job"] = {**JOB, "run": draw(runs)}
    if kind == wire.JOB_ENDED:
        changes["result"] = draw(st.sampled_from(sorted(wire.RESULTS)))
    return kind, changes


@given(st.lists(telling(), max_size=40))
def test_whatever_happens_jobs_start_once_and_end_at_most_once(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    story = Story()
    running = None
    for kind, changes in events:
        for change in story.tell(kind, **changes).changes:
            name = type(change).__name__
            if name == "JobStarted":
                assert running is None
                running = change.job.run  # type: ignore[union-attr]
            elif name == "JobEnded":
                assert change.job.run == running  # type: ignore[union-attr]
                assert change.job.ended >= change.job.started  # type: ignore[union-attr]
                running = None
        assert (story.machine.active_job.run if story.machine.active_job else None) == running
    counters = story.machine.counters
    ended = counters.jobs_completed + counters.jobs_cancelled + counters.jobs_failed
    assert counters.jobs_started == ended + (running is not None)


def test_the_last_jobs_that_ended_are_remembered_newest_last_and_no_more_than_the_history() -> None:
    story = printing()
    for number in range(HISTORY + 5):
        story.tell(wire.JOB_STARTED, run=f"run {number}")
    ended = [job.run for job in story.machine.finished]
    assert ended == [f"run {number}" for number in range(4, HISTORY + 4)]
    assert story.machine.active_job is not None
    assert story.machine.active_job.run not in ended


def test_a_layer_is_known_while_it_is_told_and_how_many_there_are_stays_known() -> None:
    story = printing()
    story.tell(wire.PROGRESS, layer=3, layers=120)
    story.tell(wire.PROGRESS, layer=None, layers=None)
    job = story.machine.job
    assert job is not None
    assert (job.layer, job.layers) == (None, 120)


def test_files_and_spools_are_what_was_told_last() -> None:
    story = Story()
    assert story.machine.files is None
    told = story.tell(wire.FILES).after
    again = story.tell(wire.FILES).after
    assert told.files is not None
    assert [file.path for file in told.files] == ["models/benchy.gcode"]
    assert again.files_since == told.files_since
    assert story.tell(wire.FILES, files=[]).after.files == ()
    assert story.tell(wire.FEEDSTOCK).after.spools["tool0"].remaining == 412.5
    assert story.tell(wire.FEEDSTOCK, tools={}).after.spools == {}


def test_what_an_older_bridge_wrote_is_still_read() -> None:
    story = printing()
    plain = json.loads(codec.dump({"m": story.machine}))
    for name in ("finished", "files", "files_since", "spools"):
        del plain["m"][name]
    for name in ("layer", "layers"):
        del plain["m"]["job"][name]
    assert codec.load(json.dumps(plain)) == {"m": story.machine}
    story.tell(wire.PROGRESS)
    del story.transitions
    old = {name: value for name, value in DATA[wire.PROGRESS].items() if not name.startswith("layer")}
    record = Record(99, "m", "i", 99, story.now, wire.PROGRESS, old)
    assert apply(story.machine, record).after.job is not None


@given(st.lists(telling(), max_size=30))
def test_a_checkpoint_gives_the_same_machine(events: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story()
    for kind, changes in events:
        story.tell(kind, **changes)
    assert codec.load(codec.dump({"m": story.machine, "n": Machine()})) == {
        "m": story.machine,
        "n": Machine(),
    }
