"""A machine that was followed from outside, and whose plugin is heard from then on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge import wire
from bridge.log import OWN, PULLED
from bridge.machine import JobState, Result
from bridge.machine.transition import HANDOVER
from tests.bridge.events import DATA, JOB, START, Story

OUTSIDE = PULLED + "1"
SEEN = {**JOB, "run": "pull-1"}


def followed() -> Story:
    """A print that the bridge has noticed from outside."""
    story = Story()
    story.tell(wire.SNAPSHOT, instance=OUTSIDE)
    story.tell(wire.STATE, instance=OUTSIDE, state="starting")
    story.tell(wire.JOB_STARTED, instance=OUTSIDE, **{**SEEN, "started": wire.format_time(story.now)})
    story.tell(wire.STATE, instance=OUTSIDE, state="printing")
    return story


def snapshot(**job: Any) -> dict[str, Any]:
    return {**DATA[wire.SNAPSHOT], "state": "printing", "reason": "requested", "job": {**JOB, **job}}


def test_the_print_that_runs_is_the_one_of_which_the_plugin_tells() -> None:
    story = followed()
    story.tell(wire.SNAPSHOT, **snapshot(started=wire.format_time(START)))
    story.tell(wire.PROGRESS)
    story.tell(wire.JOB_PAUSED)
    story.tell(wire.JOB_RESUMED)
    story.tell(wire.JOB_ENDED)
    assert story.changes() == ["JobStarted", "JobPaused", "JobResumed", "JobEnded"]
    job = story.machine.job
    assert job is not None
    assert (job.run, job.alias, job.state, job.completion) == ("pull-1", "run-1", JobState.ENDED, 100.0)


@pytest.mark.parametrize("kind", [wire.JOB_PAUSED, wire.JOB_ENDED])
def test_so_it_is_when_the_plugin_tells_of_it_before_its_snapshot(kind: str) -> None:
    story = followed()
    story.tell(kind)
    assert story.changes() == ["JobStarted", {"job_paused": "JobPaused", "job_ended": "JobEnded"}[kind]]


def test_the_end_of_an_earlier_print_is_not_taken_for_the_end_of_the_one_that_got_a_name() -> None:
    story = followed()
    story.tell(wire.SNAPSHOT, **snapshot(started=wire.format_time(START)))
    story.tell(wire.JOB_ENDED, run="another")
    assert story.machine.active_job is not None


@pytest.mark.parametrize(
    "other", [{"path": "other.gcode"}, {"started": wire.format_time(START + timedelta(hours=1))}]
)
def test_another_print_ends_the_one_that_was_seen(other: dict[str, Any]) -> None:
    story = followed()
    story.tell(wire.SNAPSHOT, **snapshot(**other))
    assert story.changes() == ["JobStarted", "JobEnded", "JobStarted"]
    assert [job.result for job in story.machine.finished] == [Result.FAILED]


def test_what_the_plugin_remembers_of_the_time_before_is_not_told_again() -> None:
    story = followed()
    story.tell(wire.JOB_ENDED, instance=OUTSIDE, run="pull-1")
    story.tell(wire.STATE, instance=OUTSIDE, state="operational")
    before = story.machine
    story.tell(wire.JOB_STARTED, ago=6)
    story.tell(wire.STATE, ago=6, state="printing")
    story.tell(wire.JOB_ENDED, ago=6, run="run-1", result="failed")
    story.tell(wire.ERROR, ago=6)
    assert story.machine == before
    story.tell(wire.SNAPSHOT, reason="requested")
    story.tell(wire.JOB_STARTED, run="run-2", started=wire.format_time(story.now))
    assert story.changes() == ["JobStarted", "JobEnded", "JobStarted"]


def test_a_snapshot_that_was_asked_for_counts_although_the_clock_is_some_minutes_behind() -> None:
    story = followed()
    story.tell(wire.SNAPSHOT, ago=300, reason="requested")
    story.tell(wire.STATE, ago=300, state="error")
    assert story.machine.state == "error"


def test_one_that_was_asked_for_long_ago_opens_the_way_for_no_old_story() -> None:
    story = followed()
    before = story.machine
    story.tell(wire.SNAPSHOT, ago=3600, reason="requested")
    story.tell(wire.JOB_STARTED, ago=3500, run="old")
    story.tell(wire.JOB_ENDED, ago=3400, run="old")
    assert story.machine == before


def test_from_the_handover_on_the_plugin_is_believed_whatever_its_clock_says() -> None:
    story = followed()
    heard = story.machine.heard
    story.tell(HANDOVER, instance=OWN + "1")
    assert story.machine.heard == heard
    story.tell(wire.SNAPSHOT, ago=3600, **snapshot(started=wire.format_time(START)))
    assert story.machine.printer is not None
    assert story.machine.printer.plugin_version == "0.1.0"
    assert story.changes() == ["JobStarted"]


def test_files_and_spools_of_the_time_before_are_taken() -> None:
    story = followed()
    story.tell(wire.FILES, ago=100)
    story.tell(wire.FEEDSTOCK, ago=100)
    assert story.machine.files
    assert story.machine.spools
    assert story.machine.pulled_until is not None


def test_two_prints_that_were_seen_from_outside_are_two() -> None:
    story = followed()
    again = {**SEEN, "run": "pull-2", "started": wire.format_time(story.now)}
    story.tell(wire.JOB_STARTED, instance=OUTSIDE, **again)
    assert story.changes() == ["JobStarted", "JobEnded", "JobStarted"]


def test_a_plugin_that_falls_silent_leaves_its_print_to_the_one_who_looks_from_outside() -> None:
    story = Story()
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.tell(wire.SNAPSHOT, instance=OUTSIDE, **snapshot())
    story.tell(wire.JOB_ENDED, instance=OUTSIDE)
    assert story.changes() == ["JobStarted", "JobEnded"]
