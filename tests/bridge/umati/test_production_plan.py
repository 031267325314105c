"""The deprecated production plan and statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncua import Client, ua

from bridge import wire
from bridge.umati.production_plan import ProductionPlan
from tests.bridge.events import START, Story, printing
from tests.bridge.umati.projected import NAMESPACES
from tests.bridge.umati.test_server import node, serving, story, value

PART = ProductionPlan(lambda prefix, number: ua.NodeId(number, NAMESPACES[prefix]))
JOB = "Production.ProductionPlan.Job"
PARTS = "Production.Statistics.PartsProducedInLifetime"


def test_the_states_of_a_print_come_one_by_one_and_legally() -> None:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    begun = len(story.transitions)
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    story.tell(wire.JOB_PAUSED)
    story.tell(wire.JOB_ENDED)
    story.tell(wire.JOB_STARTED, run="run-2")
    seen = [
        reading.value.Value.Text
        for transition in story.transitions[begun:]
        for path, reading in PART.changes(transition)
        if path == f"{JOB}.State.CurrentState"
    ]
    assert seen == ["Running", "Interrupted", "Running", "Ended", "Initializing", "Running"]


def test_a_completed_job_is_a_run_and_a_part() -> None:
    story = printing()
    written = dict(PART.changes(story.tell(wire.JOB_ENDED)))
    assert written[f"{JOB}.RunsCompleted"].value.Value == 1
    assert written[PARTS].value.Value == 1
    again = dict(PART.changes(story.tell(wire.JOB_STARTED, run="run-2")))
    assert again[f"{JOB}.RunsCompleted"].value.Value == 0
    assert again[f"{JOB}.Identifier"].value.Value == "run-2"
    assert PARTS not in again


def test_progress_alone_changes_nothing() -> None:
    story = printing()
    story.states("printing")
    assert list(PART.changes(story.tell(wire.PROGRESS))) == []


def test_of_a_machine_never_heard_of_no_part_is_known() -> None:
    assert dict(PART.whole(Story().machine, START))[PARTS].status == ua.StatusCodes.BadWaitingForInitialData


async def test_a_client_reads_the_plan_where_a_setting_asks_for_it(tmp_path: Path) -> None:
    told = story()
    told.tell(wire.JOB_STARTED)
    async with (
        serving(tmp_path, told, production_plan=True) as server,
        Client(server.endpoint_url) as client,
    ):
        assert await value(client, f"{JOB}.Identifier") == "run-1"
        assert await value(client, f"{JOB}.ProductionPrograms.Program.Name") == "benchy.gcode"
        assert await value(client, f"{JOB}.RunsPlanned.IsValid") is True
        assert (await value(client, f"{JOB}.State.CurrentState.Id")).Identifier == 5015


async def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path, story()) as server, Client(server.endpoint_url) as client:
        with pytest.raises(ua.UaStatusCodeError):
            await (await node(client, "Production.ProductionPlan")).read_browse_name()
