"""What a MES is told of a machine's life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge import wire
from bridge.machine import Machine
from bridge.mes.messages import events_of, status_of
from tests.bridge.events import START, Story


@pytest.fixture
def story() -> Story:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    return story


def told(story: Story) -> list[dict[str, Any]]:
    return [dict(event.body) for transition in story.transitions for event in events_of(transition)]


def test_a_machine_that_was_never_heard_of_is_offline() -> None:
    assert status_of(Machine()).body() == {"status": "Offline", "since": None, "stack_light": "off"}


@pytest.mark.parametrize(
    ("state", "status", "light"),
    [
        ("disconnected", "Offline", "off"),
        ("connecting", "Offline", "off"),
        ("operational", "Idle", "white"),
        ("transferring", "Idle", "white"),
        ("starting", "Running", "green"),
        ("printing", "Running", "green"),
        ("pausing", "Running", "green"),
        ("paused", "Running", "yellow"),
        ("resuming", "Running", "green"),
        ("finishing", "Running", "green"),
        ("cancelling", "Running", "green"),
        ("error", "Stopped", "red"),
    ],
)
def test_each_state_of_a_printer_has_its_status(story: Story, state: str, status: str, light: str) -> None:
    if state not in ("disconnected", "connecting", "operational", "transferring", "error"):
        story.tell(wire.JOB_STARTED)
    story.states(state)
    assert status_of(story.machine).look == (status, light)


def test_every_state_is_in_the_table_above() -> None:
    (mark,) = test_each_state_of_a_printer_has_its_status.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == wire.STATES


@pytest.mark.parametrize("result", sorted(wire.RESULTS))
def test_after_a_job_the_machine_is_idle_whatever_the_result(story: Story, result: str) -> None:
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    story.tell(wire.JOB_ENDED, result=result)
    story.states("operational")
    assert status_of(story.machine).status == "Idle"


def test_running_counts_from_the_true_start_through_pauses(story: Story) -> None:
    started = wire.format_time(START - timedelta(hours=3))
    story.tell(wire.JOB_STARTED, started=started)
    story.states("printing", "paused", "printing")
    assert status_of(story.machine).body()["since"] == started


def test_an_error_stays_stopped_when_the_printer_disconnects_until_it_is_connected_again(
    story: Story,
) -> None:
    begun = story.tell(wire.ERROR)
    assert status_of(begun.after).body() == {
        "status": "Stopped",
        "since": wire.format_time(begun.record.time),
        "stack_light": "red",
    }
    story.states("error", "disconnected", "connecting")
    assert status_of(story.machine).status == "Stopped"
    story.states("operational")
    assert status_of(story.machine).status == "Idle"


def test_a_new_job_ends_stopped(story: Story) -> None:
    story.tell(wire.ERROR)
    story.tell(wire.JOB_STARTED)
    assert status_of(story.machine).status == "Running"


def test_an_octoprint_out_of_reach_is_offline_and_the_job_goes_on_unended(story: Story) -> None:
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    lost = story.link("lost")
    assert status_of(story.machine).body()["status"] == "Offline"
    assert status_of(story.machine).since == lost.record.time
    story.link("up")
    assert status_of(story.machine).look == ("Running", "green")
    assert [body["type"] for body in told(story)] == ["job_started"]


def test_a_job_is_told_with_true_times_however_late_it_is_heard_of(story: Story) -> None:
    started = wire.format_time(START - timedelta(days=1))
    story.tell(wire.JOB_STARTED, started=started)
    ended = story.tell(wire.JOB_ENDED, result="cancelled", reason="by a person")
    first, last = told(story)
    job = {"id": "run-1", "file": "benchy.gcode", "started": started, "estimated_duration": 600.0}
    assert first == {"type": "job_started", "severity": "info", "time": started, "job": job}
    assert last["job"] == job
    assert (last["time"], last["result"], last["reason"], last["severity"]) == (
        wire.format_time(ended.record.time),
        "cancelled",
        "by a person",
        "warning",
    )


def test_an_error_that_octoprint_tells_twice_is_one_event(story: Story) -> None:
    story.tell(wire.ERROR, text="thermal runaway")
    story.tell(wire.STATE, state="error", error="thermal runaway")
    story.tell(wire.ERROR, text="thermal runaway")
    assert [(body["type"], body["text"]) for body in told(story)] == [("error", "thermal runaway")]


def test_an_error_that_only_the_state_tells_is_an_event_too(story: Story) -> None:
    story.tell(wire.STATE, state="error", error=None)
    (body,) = told(story)
    assert body["text"] == "The printer stopped with an error that it did not name."


def test_a_filament_change_is_a_warning(story: Story) -> None:
    story.tell(wire.FILAMENT_CHANGE)
    (body,) = told(story)
    assert (body["type"], body["severity"], body["job"]) == ("warning", "warning", None)


def test_each_part_of_what_one_record_did_has_a_key_of_its_own(story: Story) -> None:
    story.tell(wire.JOB_STARTED)
    both = story.tell(wire.JOB_STARTED, run="run-2")  # the first one ended unseen
    assert [(event.key, event.body["type"]) for event in events_of(both)] == [
        ("m:i:4:0", "job_finished"),
        ("m:i:4:1", "job_started"),
    ]


def test_temperatures_and_progress_tell_a_mes_nothing(story: Story) -> None:
    story.tell(wire.HEATERS)
    story.tell(wire.PROGRESS)
    assert told(story) == []


def test_an_error_without_a_name_stays_stopped_too_and_keeps_its_beginning(story: Story) -> None:
    begun = story.tell(wire.STATE, state="error", error=None)
    story.tell(wire.STATE, state="disconnected", error=None)
    story.tell(wire.HEATERS)
    assert status_of(story.machine) == status_of(begun.after)
    assert (status_of(story.machine).status, status_of(story.machine).since) == ("Stopped", begun.record.time)
    story.states("connecting", "operational")
    assert status_of(story.machine).status == "Idle"


def test_a_machine_that_is_registered_in_the_middle_of_an_error_says_since_when(story: Story) -> None:
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    begun = story.tell(wire.ERROR)
    story.tell(wire.PROGRESS)
    story.states("error", "disconnected")
    assert status_of(story.machine).since == begun.record.time
