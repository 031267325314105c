"""Jobs as the structures that clients get."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.machine import Job, Spool
from bridge.opcua.typetable import TypeTable
from bridge.umati.job_orders import JobOrders
from tests.bridge.events import START, Story, printing
from tests.bridge.machine.test_transition import telling

TABLE = TypeTable()
TABLE.register_data_types()
ORDERS = JobOrders(lambda prefix, number: ua.NodeId(number, TABLE.prefixes[prefix]))
FEEDSTOCK = ua.NodeId("m.Equipment.Feedstock.Tool 0", 13)


def on(tool: str) -> ua.NodeId | None:
    """Where the first tool's filament is shown."""
    return FEEDSTOCK if tool == "tool0" else None


def nowhere(tool: str) -> None:
    return None


def half_done() -> Story:
    """A machine half way through a print, with a spool mounted."""
    story = printing()
    story.states("printing")
    story.tell(wire.FEEDSTOCK)
    story.tell(wire.PROGRESS)
    return story


def job_of(story: Story) -> Job:
    job = story.machine.job
    assert job is not None
    return job


def named(parameters: list[Any]) -> dict[str, Any]:
    return {parameter.ID: parameter.Value.Value for parameter in parameters}


def units(parameters: list[Any]) -> dict[str, int]:
    return {one.ID: one.EngineeringUnits.UnitId for one in parameters if one.EngineeringUnits is not None}


def states(job: Job) -> list[tuple[str, int, list[str]]]:
    """Text, number and path of each."""
    return [
        (state.StateText.Text, state.StateNumber, [one.TargetName.Name for one in state.BrowsePath.Elements])
        for state in ORDERS.states(job)
    ]


def test_an_order_says_what_was_asked_for() -> None:
    order = ORDERS.order(job_of(half_done()), on)
    assert (order.JobOrderID, order.StartTime, order.WorkMasterID[0].ID) == (
        "run-1",
        START,
        "models/benchy.gcode",
    )
    assert named(order.JobOrderParameters) == {
        "JobName": [ua.LocalizedText("benchy.gcode")],
        "RunsPlanned": 1,
        "LayersPlanned": 120,
        "FilePath": "models/benchy.gcode",
        "FileSize": 12345,
        "EstimatedPrintTime": 600.0,
    }
    assert units(order.JobOrderParameters) == {"FileSize": 16708, "EstimatedPrintTime": 5457219}
    needed = order.MaterialRequirements[0]
    assert (needed.MaterialClassID, needed.Quantity, needed.EngineeringUnits.UnitId) == (
        "Filament",
        "1200.5",
        5066068,
    )
    assert named(needed.Properties) == {"Tool": "tool0", "Volume": 2.9, "Feedstock": FEEDSTOCK}


def test_a_response_says_how_far_it_is_and_of_what_it_is_made() -> None:
    story = half_done()
    response = ORDERS.response(job_of(story), story.machine.spools, on)
    data = named(response.JobResponseData)
    run = data.pop("Runs")[0]
    assert (run.Identifier, run.CurrentLayer, run.RemainingTime, run.State.StateNumber) == (
        "run-1",
        59,
        290_000.0,
        3,
    )
    assert data == {
        "JobName": [ua.LocalizedText("benchy.gcode")],
        "RunsCompleted": 0,
        "JobResult": 0,
        "Progress": 50.0,
        "PrintTime": 290.0,
    }
    used = response.MaterialActuals[0]
    assert (used.MaterialDefinitionID, used.MaterialLotID, used.Description[0].Text) == (
        "PLA",
        "17",
        "Galaxy Black",
    )
    assert (used.Quantity, used.MaterialUse) == ("600.2", "Material consumed")
    assert named(used.Properties) == {"Tool": "tool0", "Volume": 1.45, "Feedstock": FEEDSTOCK}


def test_what_nobody_knows_is_left_out() -> None:
    story = printing()
    job = job_of(story)
    response = ORDERS.response(job, {}, nowhere)
    assert response.MaterialActuals == []
    assert response.EndTime is None
    assert set(named(response.JobResponseData)) == {"JobName", "RunsCompleted", "JobResult", "Runs"}
    run = named(response.JobResponseData)["Runs"][0]
    assert (run.CurrentLayer, run.RemainingTime) == (None, None)
    assert "LayersPlanned" not in named(ORDERS.order(job, nowhere).JobOrderParameters)


@pytest.mark.parametrize(
    ("result", "number", "completed"), [("completed", 1, 1), ("cancelled", 2, 0), ("failed", 2, 0)]
)
def test_an_ended_job_tells_its_result(result: str, number: int, completed: int) -> None:
    story = half_done()
    story.tell(wire.JOB_ENDED, result=result, completion=80.0, reason="why")
    job = job_of(story)
    response = ORDERS.response(job, {}, nowhere)
    data = named(response.JobResponseData)
    assert (data["JobResult"], data["RunsCompleted"], data["Reason"]) == (number, completed, "why")
    assert response.EndTime == job.ended
    assert data["Runs"][0].RemainingTime is None
    assert data["Runs"][0].CurrentLayer == (120 if completed else 59)


def test_an_ended_job_remembers_its_spool_when_another_is_mounted() -> None:
    story = half_done()
    story.tell(wire.JOB_ENDED)
    story.tell(wire.FEEDSTOCK, tools={"tool0": {"identifier": "18"} | dict.fromkeys(("name",), None)})
    used = ORDERS.response(job_of(story), story.machine.spools, on).MaterialActuals[0]
    assert used.MaterialLotID == "17"
    assert "Feedstock" not in named(used.Properties)


def test_the_states_of_a_print_are_those_of_job_orders_with_their_substates() -> None:
    story = printing()
    assert states(job_of(story)) == [("Running", 3, [])]
    story.tell(wire.JOB_PAUSED)
    assert states(job_of(story)) == [("Interrupted", 4, []), ("Suspended", 2, ["InterruptedSubstates"])]
    story.tell(wire.JOB_RESUMED)
    assert states(job_of(story)) == [("Running", 3, [])]
    story.tell(wire.JOB_ENDED)
    assert states(job_of(story)) == [("Ended", 5, []), ("Completed", 1, ["EndedSubstates"])]
    story.tell(wire.JOB_STARTED, run="run-2")
    story.tell(wire.JOB_ENDED, run="run-2", result="failed")
    assert states(job_of(story)) == [("Aborted", 6, [])]


def test_work_masters_are_the_files_that_can_be_printed() -> None:
    told = Story().tell(wire.FILES).after
    masters = ORDERS.work_masters(told.files or ()).Value
    assert [master.ID for master in masters] == ["models/benchy.gcode"]
    assert named(masters[0].Parameters) == {"FileSize": 12345, "EstimatedPrintTime": 600.0}


@given(st.lists(telling(), max_size=30))
def test_every_job_can_be_told_whatever_happened(events: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story()
    for kind, changes in events:
        machine = story.tell(kind, **changes).after
    machine = story.machine
    orders, responses = ORDERS.order_list(machine, on), ORDERS.response_list(machine, on)
    decoded = [
        ua_binary.variant_from_binary(Buffer(ua_binary.variant_to_binary(variant))).Value
        for variant in (orders, responses, ORDERS.work_masters(machine.files or ()))
    ]
    ids = [entry.JobOrder.JobOrderID for entry in decoded[0]]
    assert ids == [response.JobOrderID for response in decoded[1]]
    states_of_orders = [[state.StateNumber for state in entry.State] for entry in decoded[0]]
    assert states_of_orders == [[state.StateNumber for state in one.JobState] for one in decoded[1]]


def test_a_spool_without_a_name_is_no_error() -> None:
    story = half_done()
    used = ORDERS.response(job_of(story), {"tool0": Spool()}, nowhere).MaterialActuals[0]
    assert (used.MaterialDefinitionID, used.MaterialLotID, used.Description) == (None, None, None)
