from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge import wire
from tests.bridge.events import Story
from tests.bridge.umati.projected import shown, whole

COLD = {"tool0": {"actual": 21.0, "target": 0.0}, "bed": {"actual": 21.0, "target": 0.0}}

NOT_AVAILABLE = ("NotAvailable", ("mach", 5005), 0)
OUT_OF_SERVICE = ("OutOfService", ("mach", 5004), 1)
NOT_EXECUTING = ("NotExecuting", ("mach", 5007), 2)
EXECUTING = ("Executing", ("mach", 5006), 3)
NONE = ("None", ("mt", 5059), 0)
SETUP = ("Setup", ("mt", 5061), 2)
PROCESSING = ("Processing", ("mt", 5060), 3)
INITIALIZING = ("Initializing", ("mt", 5039), 0)
RUNNING = ("Running", ("mt", 5041), 1)
ENDED = ("Ended", ("mt", 5038), 2)
INTERRUPTED = ("Interrupted", ("mt", 5040), 3)
ABORTED = ("Aborted", ("mt", 5037), 4)
AUTOMATIC, MANUAL_SETUP, INTERVENTION, OTHER = 1, 2, 3, 5


def ready(story: Story) -> None:
    story.link("up")
    story.tell(wire.SNAPSHOT, heaters=COLD)


def printing(story: Story) -> None:
    ready(story)
    story.states("starting")
    story.tell(wire.JOB_STARTED)
    story.states("printing")


def after(begin: Callable[[Story], None], *states: str, **ended: Any) -> Callable[[Story], None]:
    def tell(story: Story) -> None:
        begin(story)
        story.states(*states)
        if ended:
            story.tell(wire.JOB_ENDED, **ended)
            story.states("operational")

    return tell


def failed(story: Story) -> None:
    printing(story)
    story.tell(wire.JOB_ENDED, result="failed", reason="thermal runaway")
    story.tell(wire.STATE, state="error", error="thermal runaway")


def closed_with_error(story: Story) -> None:
    failed(story)
    story.states("disconnected")


def reported_error(story: Story) -> None:
    ready(story)
    story.tell(wire.ERROR)


def heating(story: Story) -> None:
    ready(story)
    story.tell(wire.HEATERS)


def lost(story: Story) -> None:
    printing(story)
    story.link("lost")


def starting(story: Story) -> None:
    ready(story)
    story.states("starting")
    story.tell(wire.JOB_STARTED)


def started_before_its_state(story: Story) -> None:
    ready(story)
    story.tell(wire.JOB_STARTED)


def paused_before_its_state(story: Story) -> None:
    printing(story)
    story.states("pausing")
    story.tell(wire.JOB_PAUSED)


def resumed_before_its_state(story: Story) -> None:
    after(printing, "paused")(story)
    story.tell(wire.JOB_RESUMED)


ROWS = {
    "never heard of": (lambda story: None, NOT_AVAILABLE, NONE, INITIALIZING, OTHER),
    "out of reach while printing": (lost, NOT_AVAILABLE, NONE, RUNNING, OTHER),
    "disconnected": (after(ready, "disconnected"), NOT_AVAILABLE, NONE, INITIALIZING, OTHER),
    "connecting": (after(ready, "connecting"), NOT_AVAILABLE, NONE, INITIALIZING, OTHER),
    "error": (after(ready, "error"), OUT_OF_SERVICE, NONE, INITIALIZING, OTHER),
    "error that ended a job": (failed, OUT_OF_SERVICE, NONE, ABORTED, OTHER),
    "closed with error": (closed_with_error, OUT_OF_SERVICE, NONE, ABORTED, OTHER),
    "error flag without a job": (reported_error, OUT_OF_SERVICE, NONE, INITIALIZING, OTHER),
    "ready": (ready, NOT_EXECUTING, PROCESSING, INITIALIZING, AUTOMATIC),
    "heating without a job": (heating, NOT_EXECUTING, SETUP, INITIALIZING, MANUAL_SETUP),
    "transferring": (after(ready, "transferring"), NOT_EXECUTING, SETUP, INITIALIZING, MANUAL_SETUP),
    "starting": (starting, EXECUTING, PROCESSING, INITIALIZING, AUTOMATIC),
    "started before its state": (started_before_its_state, EXECUTING, PROCESSING, INITIALIZING, AUTOMATIC),
    "printing": (printing, EXECUTING, PROCESSING, RUNNING, AUTOMATIC),
    **{
        state: (after(printing, state), EXECUTING, PROCESSING, RUNNING, AUTOMATIC)
        for state in ("pausing", "finishing", "cancelling")
    },
    "paused": (after(printing, "paused"), NOT_EXECUTING, PROCESSING, INTERRUPTED, INTERVENTION),
    "paused without a known job": (
        after(ready, "paused"),
        NOT_EXECUTING,
        PROCESSING,
        INITIALIZING,
        INTERVENTION,
    ),
    "paused before its state": (
        paused_before_its_state,
        NOT_EXECUTING,
        PROCESSING,
        INTERRUPTED,
        INTERVENTION,
    ),
    "resumed before its state": (resumed_before_its_state, EXECUTING, PROCESSING, RUNNING, AUTOMATIC),
    "resuming": (after(printing, "paused", "resuming"), EXECUTING, PROCESSING, RUNNING, AUTOMATIC),
    "done": (after(printing, "finishing", result="completed"), NOT_EXECUTING, PROCESSING, ENDED, AUTOMATIC),
    "cancelled": (
        after(printing, "cancelling", result="cancelled"),
        NOT_EXECUTING,
        PROCESSING,
        ABORTED,
        AUTOMATIC,
    ),
    "failed, and the error is gone": (
        after(printing, result="failed"),
        NOT_EXECUTING,
        PROCESSING,
        ABORTED,
        AUTOMATIC,
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_situation_shows_the_states_that_the_table_gives_it(row: str) -> None:
    tell, item_state, mode, program, operation_mode = ROWS[row]
    story = Story()
    tell(story)
    readings = whole(story.machine)
    assert shown(readings, "MachineryBuildingBlocks.MachineryItemState") == item_state
    assert shown(readings, "MachineryBuildingBlocks.MachineryOperationMode") == mode
    assert shown(readings, "Production.ActiveProgram.State") == program
    assert readings["Monitoring.MachineTool.OperationMode"].value.Value == operation_mode


@pytest.mark.parametrize("row", ROWS)
def test_states_are_good_in_every_situation(row: str) -> None:
    story = Story()
    ROWS[row][0](story)
    for path, reading in whole(story.machine).items():
        if ("State" in path or "Mode" in path) and "LastTransition" not in path:
            assert reading.status == 0, path
