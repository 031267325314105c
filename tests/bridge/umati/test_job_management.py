"""Job management as clients use it: lists, methods and events."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge import wire
from bridge.umati import UmatiServer
from bridge.umati.job_management import (
    BY_ID,
    BY_STATE,
    CONTROL,
    ORDER_LIST,
    RESPONSE_LIST,
    RESULTS,
    WORK_MASTERS,
)
from tests.bridge.events import JOB, Story
from tests.bridge.umati.test_other_client import SECONDS, node_opcua
from tests.bridge.umati.test_server import NAME, Notes, node, serving, story, value

ISA = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"


def two_jobs() -> Story:
    """A job that is done and one that runs."""
    told = story()
    told.tell(wire.FILES)
    for run in ("run-1", "run-2"):
        told.tell(wire.JOB_STARTED, run=run)
        told.states("printing")
        told.tell(wire.PROGRESS, run=run)
        if run == "run-1":
            told.tell(wire.JOB_ENDED, run=run)
            told.states("operational")
    return told


async def shown(client: Client) -> dict[str, str]:
    """The jobs that both lists show, and their state."""
    orders = {one.JobOrder.JobOrderID: one.State[0].StateText.Text for one in await value(client, ORDER_LIST)}
    responses = {one.JobOrderID: one.JobState[0].StateText.Text for one in await value(client, RESPONSE_LIST)}
    assert orders == responses  # as OPC 40001-3, 8.1 demands
    return orders


async def test_both_lists_hold_what_ended_and_what_runs(tmp_path: Path) -> None:
    told = two_jobs()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        assert await shown(client) == {"run-1": "Ended", "run-2": "Running"}
        server.handle(told.tell(wire.JOB_PAUSED, run="run-2"))
        assert await shown(client) == {"run-1": "Ended", "run-2": "Interrupted"}
        server.handle(told.tell(wire.JOB_ENDED, run="run-2", result="cancelled"))
        assert await shown(client) == {"run-1": "Ended", "run-2": "Aborted"}
        assert [one.ID for one in await value(client, WORK_MASTERS)] == ["models/benchy.gcode"]
        assert await value(client, f"{CONTROL}.EquipmentID") == []


async def test_a_subscriber_of_orders_hears_of_states_and_one_of_responses_of_progress(
    tmp_path: Path,
) -> None:
    told = two_jobs()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        orders, responses = Notes(), Notes()
        for notes, path in ((orders, ORDER_LIST), (responses, RESPONSE_LIST)):
            subscription = await client.create_subscription(10, notes)
            await subscription.subscribe_data_change(await node(client, path), queuesize=100)
            await notes.until(lambda notes=notes: notes.values)
        server.handle(told.tell(wire.PROGRESS, run="run-2", completion=50.4))  # too little to be worth a list
        server.handle(told.tell(wire.PROGRESS, run="run-2", completion=60.0))
        server.handle(told.tell(wire.JOB_PAUSED, run="run-2"))
        await orders.until(lambda: len(orders.values) >= 2)
        await responses.until(lambda: len(responses.values) >= 3)
        assert len(orders.values) == 2
        assert len(responses.values) == 3


async def test_an_active_job_that_may_go_on_unseen_is_uncertain_and_history_is_not(tmp_path: Path) -> None:
    told = two_jobs()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        found = await node(client, RESPONSE_LIST)
        server.handle(told.link("lost"))
        lost = await found.read_data_value(raise_on_bad_status=False)
        assert lost.StatusCode.value == ua.StatusCodes.UncertainLastUsableValue
        assert len(lost.Value.Value) == 2
        server.handle(told.link("up"))
        server.handle(told.tell(wire.JOB_ENDED, run="run-2"))
        server.handle(told.link("lost"))
        assert (await found.read_data_value()).StatusCode.is_good()


async def call(client: Client, method: str, argument: ua.Variant | None) -> ua.CallMethodResult:
    request = ua.CallMethodRequest(
        (await node(client, RESULTS)).nodeid,
        (await node(client, method)).nodeid,
        [] if argument is None else [argument],
    )
    return (await client.uaclient.call([request]))[0]


async def test_a_response_is_found_by_its_job_order_id(tmp_path: Path) -> None:
    async with serving(tmp_path, two_jobs()) as server, Client(server.endpoint_url) as client:
        found = await call(client, BY_ID, ua.Variant("run-1"))
        assert found.StatusCode.is_good()
        assert found.OutputArguments[0].Value.JobOrderID == "run-1"
        assert found.OutputArguments[1] == ua.Variant(1, ua.VariantType.UInt64)
        missing = await call(client, BY_ID, ua.Variant("run-3"))
        assert missing.StatusCode.is_uncertain()
        assert missing.OutputArguments[1].Value == 2


async def test_responses_are_found_by_state_and_substate(tmp_path: Path) -> None:
    async with serving(tmp_path, two_jobs()) as server, Client(server.endpoint_url) as client:
        ended = (await value(client, RESPONSE_LIST))[0].JobState

        async def asked(*states: Any) -> tuple[list[str], int]:
            found = await call(client, BY_STATE, ua.Variant(list(states), ua.VariantType.ExtensionObject))
            return [one.JobOrderID for one in found.OutputArguments[0].Value], found.OutputArguments[1].Value

        assert await asked(*ended) == (["run-1"], 1)
        assert await asked(ended[0]) == (["run-1"], 1)
        kind = type(ended[0])
        running = kind(ua.RelativePath(), ua.LocalizedText("Running"), 3)
        assert await asked(running) == (["run-2"], 1)
        assert await asked(running, ended[1]) == ([], 1)
        assert await asked(kind(ua.RelativePath(), ua.LocalizedText("?"), 77)) == ([], 8)
        assert await asked(ended[1]) == ([], 1 << 32)
        assert await asked() == ([], 1 << 32)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (None, ua.StatusCodes.BadArgumentsMissing),
        (ua.Variant(5), ua.StatusCodes.BadInvalidArgument),
        (ua.Variant(["run-1"]), ua.StatusCodes.BadInvalidArgument),
    ],
)
async def test_a_call_with_other_arguments_than_declared_is_refused(
    tmp_path: Path, argument: ua.Variant | None, code: int
) -> None:
    async with serving(tmp_path, two_jobs()) as server, Client(server.endpoint_url) as client:
        refused = await call(client, BY_ID, argument)
        assert refused.StatusCode.value == code
        if argument is not None:
            assert [one.value for one in refused.InputArgumentResults] == [ua.StatusCodes.BadTypeMismatch]


async def test_an_array_that_is_null_is_an_invalid_request_and_no_error_of_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, two_jobs()) as server, Client(server.endpoint_url) as client:
        nothing = ua.Variant(None, ua.VariantType.ExtensionObject, is_array=True)
        answer = await call(client, BY_STATE, nothing)
        assert answer.OutputArguments[1].Value == 1 << 32


async def test_a_structure_of_another_type_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, two_jobs()) as server, Client(server.endpoint_url) as client:
        wrong = ua.Variant([ua.Range(0, 1)], ua.VariantType.ExtensionObject)
        assert (await call(client, BY_STATE, wrong)).StatusCode.value == ua.StatusCodes.BadInvalidArgument


async def watch(client: Client, server: UmatiServer, path: str | None) -> Notes:
    notes = Notes()
    subscription = await client.create_subscription(10, notes)
    source = client.nodes.server if path is None else await node(client, path)
    index = await client.get_namespace_index(ISA)
    await subscription.subscribe_events(source, [ua.NodeId(1006, index)])
    return notes


@pytest.mark.parametrize("path", [RESULTS, CONTROL, "", None])
async def test_each_change_of_a_job_orders_state_is_an_event(tmp_path: Path, path: str | None) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        notes = await watch(client, server, path)
        begun = len(told.transitions)
        told.tell(wire.JOB_STARTED)
        told.tell(wire.PROGRESS)
        told.tell(wire.JOB_PAUSED)
        told.tell(wire.JOB_RESUMED)
        told.tell(wire.JOB_ENDED)
        for transition in told.transitions[begun:]:
            server.handle(transition)
        await notes.until(lambda: len(notes.events) >= 4)
        seen = [[state.StateText.Text for state in event.JobState] for event in notes.events]
        assert seen == [["Running"], ["Interrupted", "Suspended"], ["Running"], ["Ended", "Completed"]]
        last = notes.events[-1]
        assert last.JobOrder.JobOrderID == last.JobResponse.JobOrderID == "run-1"
        assert last.JobResponse == (await value(client, RESPONSE_LIST))[-1]
        assert last.JobOrder == (await value(client, ORDER_LIST))[-1].JobOrder
        assert last.Time == told.now


async def test_a_job_found_paused_starts_running_and_is_then_interrupted(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        notes = await watch(client, server, RESULTS)
        server.handle(told.tell(wire.SNAPSHOT, state="paused", job=JOB))
        await notes.until(lambda: len(notes.events) >= 2)
        assert [event.JobState[0].StateText.Text for event in notes.events] == ["Running", "Interrupted"]


async def test_the_type_of_the_events_is_a_concrete_one_below_the_abstract_one(tmp_path: Path) -> None:
    async with serving(tmp_path, story()) as server, Client(server.endpoint_url) as client:
        index = await client.get_namespace_index(ISA)
        abstract = client.get_node(ua.NodeId(1006, index))
        (own,) = await abstract.get_children(ua.ObjectIds.HasSubtype)
        assert (await own.read_browse_name()).Name == "JobOrderStatusEventType"
        assert (await own.read_attribute(ua.AttributeIds.IsAbstract)).Value.Value is False
        assert await own.get_parent() == abstract


async def test_node_opcua_asks_for_job_responses(tmp_path: Path) -> None:
    async with serving(tmp_path, two_jobs()) as server:
        arguments = (server.endpoint_url, "urn:mesbridge:machines", NAME, "run-1")
        async with node_opcua("job_responses.js", *arguments) as process, asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    answers = json.loads(next(line for line in output.decode().splitlines() if line.startswith("{")))
    assert (answers["known"]["status"], answers["known"]["returned"]) == ("Good", 1)
    assert answers["known"]["output"]["jobOrderID"] == "run-1"
    assert (answers["unknown"]["status"], answers["unknown"]["returned"]) == ("Uncertain", 2)
    assert [one["jobOrderID"] for one in answers["running"]["output"]] == ["run-2"]
    assert [one["jobOrderID"] for one in answers["ended"]["output"]] == ["run-1"]
    assert answers["impossible"]["returned"] == 8


async def test_the_control_object_is_of_the_type_that_describes_the_substates(tmp_path: Path) -> None:
    async with serving(tmp_path, story()) as server, Client(server.endpoint_url) as client:
        index = await client.get_namespace_index(ISA)
        assert await (await node(client, CONTROL)).read_type_definition() == ua.NodeId(1008, index)
