from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge import wire
from bridge.settings import FeedstockSettings, IdentificationSettings, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from bridge.umati.feedstock import NODE_VERSION, Feedstock
from bridge.umati.readings import Reading
from tests.bridge.events import START, Story
from tests.bridge.opcua.walker import walk
from tests.bridge.umati.test_other_client import read_with_node_opcua
from tests.bridge.umati.test_server import NAME, URL, Notes, node, serving, story, value

TOOL = "Equipment.Feedstock.Tool 0"
GRAMS = f"{TOOL}.RemainingQuantity"
MINE = FeedstockSettings(tool=0, name="My black", identifier="PLA-0017", external_identifier="4711")


def told(*settings: FeedstockSettings, **spool: Any) -> dict[str, Reading]:
    """The readings of a machine with these settings and this spool on its first tool."""
    about = story()
    if spool:
        about.tell(wire.FEEDSTOCK, tools={"tool0": spool})
    return dict(Feedstock("m", settings).whole(about.machine, START))


def texts(readings: dict[str, Reading]) -> dict[str, Any]:
    return {p.rpartition(".")[2]: r.value.Value for p, r in readings.items() if p.startswith(TOOL)}


def test_nothing_known_is_no_list_at_all() -> None:
    assert told() == {}


def test_field_by_field_the_settings_come_before_the_spool() -> None:
    shown = texts(told(MINE, identifier="17", name="Galaxy", manufacturer="Prusament", remaining=412.5))
    assert shown == {
        "Identifier": "PLA-0017",
        "ExternalIdentifier": "4711",
        "Name": "My black",
        "Manufacturer": "Prusament",
        "RemainingQuantity": 412.5,
    }


def test_a_feedstock_without_an_identifier_has_that_of_its_place() -> None:
    shown = texts(told(material="PETG"))
    assert (shown["Identifier"], shown["Name"], shown["Manufacturer"]) == ("m:tool0", "PETG", "")


def test_a_quantity_that_nobody_tells_is_bad_and_not_zero() -> None:
    assert told(MINE)[GRAMS].status == ua.StatusCodes.BadWaitingForInitialData


def test_a_spool_that_is_out_of_reach_keeps_its_name_and_loses_its_quantity() -> None:
    about = story()
    about.tell(wire.FEEDSTOCK)
    feedstock = Feedstock("m", ())
    written = dict(feedstock.changes(about.link("lost")))
    assert {path: reading.status for path, reading in written.items()} == {
        GRAMS: ua.StatusCodes.BadNoCommunication
    }


def test_only_what_differs_is_told() -> None:
    about = story()
    about.tell(wire.FEEDSTOCK, tools={"tool0": {"identifier": "17", "remaining": 400.0}})
    feedstock = Feedstock("m", ())
    used = about.tell(wire.FEEDSTOCK, tools={"tool0": {"identifier": "17", "remaining": 399.0}})
    assert [(path, reading.value.Value) for path, reading in feedstock.changes(used)] == [(GRAMS, 399.0)]
    assert list(feedstock.changes(about.tell(wire.HEATERS))) == []


@pytest.mark.parametrize("tool", ["tool00", "bed", "tool-1", "tool٣", "tool"])
def test_spools_of_what_is_no_tool_are_left_out(tool: str) -> None:
    about = story()
    about.tell(wire.FEEDSTOCK, tools={tool: {"identifier": "17"}})
    assert Feedstock("m", ()).tools(about.machine) == ()


def test_the_list_is_in_the_order_of_the_tools() -> None:
    about = story()
    about.tell(wire.FEEDSTOCK, tools={"tool10": {}, "tool2": {}})
    assert Feedstock("m", [MINE]).tools(about.machine) == ("tool0", "tool2", "tool10")


async def test_a_client_reads_a_feedstock_that_is_complete_and_valid(tmp_path: Path) -> None:
    about = story(extruders=2)
    about.tell(wire.FEEDSTOCK)
    async with serving(tmp_path, about) as server, Client(server.endpoint_url) as client:
        assert await walk(client, (await node(client)).nodeid) == []
        assert await value(client, f"{TOOL}.Identifier") == "17"
        assert await value(client, f"{TOOL}.Function") == 1
        assert await value(client, GRAMS) == 412.5
        unit = await value(client, f"{GRAMS}.EngineeringUnits")
        assert (unit.UnitId, unit.DisplayName.Text) == (4674125, "g")
        assert (await (await node(client, TOOL)).read_display_name()).Text == "Tool 0"


async def test_a_machine_with_all_parts_is_complete_and_valid(tmp_path: Path) -> None:
    about = story(extruders=2, heated_chamber=True)
    about.tell(wire.FEEDSTOCK, tools={"tool0": {"identifier": "17"}, "tool1": {"remaining": 3.0}})
    async with (
        serving(tmp_path, about, stacklight=True, production_plan=True, type_dictionaries=False) as server,
        Client(server.endpoint_url) as client,
    ):
        assert await walk(client, (await node(client)).nodeid) == []


async def test_feedstock_that_comes_and_goes_is_told_and_changes_the_version_of_the_list(
    tmp_path: Path,
) -> None:
    about = story()
    async with serving(tmp_path, about) as server, Client(server.endpoint_url) as client:
        heard = Notes()
        subscription = await client.create_subscription(10, heard)
        await subscription.subscribe_events(ua.ObjectIds.Server, ua.ObjectIds.GeneralModelChangeEventType)

        async def change(tools: dict[str, Any]) -> set[tuple[str, int]]:
            count = len(heard.events)
            server.handle(about.tell(wire.FEEDSTOCK, tools=tools))
            await heard.until(lambda: len(heard.events) > count)
            return {(str(c.Affected.Identifier), int(c.Verb)) for c in heard.events[-1].Changes}

        verb = ua.ModelChangeStructureVerbMask
        assert (f"{NAME}.{TOOL}", int(verb.NodeAdded)) in await change({"tool0": {"identifier": "17"}})
        first = await value(client, NODE_VERSION)
        await change({"tool0": {"identifier": "17"}, "tool1": {"identifier": "18"}})
        assert await value(client, NODE_VERSION) != first
        assert await value(client, f"{TOOL}.Identifier") == "17"
        assert await walk(client, (await node(client)).nodeid) == []
        gone = await change({})
        assert (f"{NAME}.Equipment.Feedstock", int(verb.NodeDeleted)) in gone
        with pytest.raises(ua.UaStatusCodeError):
            await value(client, f"{TOOL}.Identifier")


async def test_feedstock_of_the_settings_is_there_from_the_start_and_named_in_job_orders(
    tmp_path: Path,
) -> None:
    about = story()
    about.tell(wire.JOB_STARTED)
    about.states("printing")
    server = UmatiServer(OpcUaSettings(port=0, anonymous=True), tmp_path)
    server.add_machine(NAME, MachineIdentity("FDM", URL, IdentificationSettings(), (MINE,)), about.machine)
    await server.start()
    try:
        async with Client(server.endpoint_url) as client:
            assert await value(client, f"{TOOL}.Name") == "My black"
            assert await walk(client, (await node(client)).nodeid) == []
            control = "MachineryBuildingBlocks.JobManagement.JobOrderControl"
            (order,) = await value(client, f"{control}.JobOrderList")
            named = [
                one.Value.Value
                for material in order.JobOrder.MaterialRequirements
                for one in material.Properties
                if one.ID == "Feedstock"
            ]
            assert named == [(await node(client, TOOL)).nodeid]
    finally:
        await server.stop()


async def test_node_opcua_reads_a_feedstock(tmp_path: Path) -> None:
    about = story()
    about.tell(wire.FEEDSTOCK)
    async with serving(tmp_path, about) as server:
        found = (await read_with_node_opcua(server.endpoint_url))["found"]
    one = found["Equipment/Feedstock/Tool 0/RemainingQuantity"]
    assert (one["type"], one["value"], one["status"]) == ("Double", 412.5, "Good")
    assert found["Equipment/Feedstock/Tool 0/Manufacturer"]["value"] == "Prusament"


def test_a_machine_never_heard_of_shows_what_the_settings_say() -> None:
    shown = texts(dict(Feedstock("m", [MINE]).whole(Story().machine, START)))
    assert shown["Name"] == "My black"
