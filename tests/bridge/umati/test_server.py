from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, Node, ua
from structlog.testing import capture_logs

from bridge import wire
from bridge.opcua import Users, UsersError
from bridge.settings import IdentificationSettings, OpcUaLimits, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from tests.bridge.events import HEATERS, JOB, PRINTER, Story
from tests.bridge.opcua.walker import walk

URL = "http://pi.plant:5000"
NAME = "octoprint-1"
COUNTERS = (
    "MachineryBuildingBlocks.OperationCounters.OperationCycleCounter",
    "MachineryBuildingBlocks.OperationCounters.OperationDuration",
    "MachineryBuildingBlocks.OperationCounters.PowerOnDuration",
    "MachineryBuildingBlocks.OperationCounters.PartsProducedInLifetime",
    "Monitoring.MachineTool.OperationCounters.PartsProducedInLifetime",
    "Monitoring.MachineTool.OperationCounters.PowerOnDuration",
    "Monitoring.MachineTool.PowerOnDuration",
)
JOB_END = (
    "Notification.Prognoses.JobEnd.PredictedTime",
    "Notification.Prognoses.JobEnd.SourceIdentifier",
)
JOBS = "MachineryBuildingBlocks.JobManagement"
JOB_LISTS = (
    f"{JOBS}.JobOrderControl.JobOrderList",
    f"{JOBS}.JobOrderControl.WorkMaster",
    f"{JOBS}.JobOrderResults.JobOrderResponseList",
)
LAST_TRANSITIONS = tuple(
    f"{machine}.LastTransition{part}"
    for machine in (
        "MachineryBuildingBlocks.MachineryItemState",
        "MachineryBuildingBlocks.MachineryOperationMode",
        "Production.ActiveProgram.State",
    )
    for part in ("", ".Id", ".Number", ".TransitionTime")
)
IN_NO_STATE = (f"{JOBS}.JobOrderControl.CurrentState", f"{JOBS}.JobOrderControl.CurrentState.Id")
SECONDS = 30  # until a notification counts as lost


@asynccontextmanager
async def serving(
    tmp_path: Path, *stories: Story, name: str | None = "FDM 7", **settings: Any
) -> AsyncIterator[UmatiServer]:
    """A server with the machine of each story as it stands, to which anyone may connect."""
    server = UmatiServer(OpcUaSettings(port=0, anonymous=True, **settings), tmp_path)
    for story in stories:
        server.add_machine(story.name, MachineIdentity(name, URL, IdentificationSettings()), story.machine)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def node(client: Client, path: str = "", machine: str = NAME) -> Node:
    """The machine's node, as anyone finds it who knows the NodeId that the MES was told."""
    index = await client.get_namespace_index("urn:mesbridge:machines")
    return client.get_node(ua.NodeId(f"{machine}.{path}" if path else machine, index))


async def value(client: Client, path: str) -> Any:
    return await (await node(client, path)).read_value()


def story(**profile: Any) -> Story:
    """A machine that is ready, with a printer of this profile."""
    told = Story(name=NAME)
    told.link("up")
    heaters = {} if profile.get("extruders") == 0 else HEATERS
    told.tell(
        wire.SNAPSHOT, printer={**PRINTER, "profile": {**PRINTER["profile"], **profile}}, heaters=heaters
    )
    return told


async def test_a_client_finds_the_machine_below_machines_as_a_machine_tool_for_additive_manufacturing(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, story()) as server, Client(server.endpoint_url) as client:
        assert server.node_id(NAME) == "nsu=urn:mesbridge:machines;s=octoprint-1"
        index = await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/")
        machines = client.get_node(ua.NodeId(1001, index))
        (machine,) = await machines.get_children(refs=ua.ObjectIds.Organizes)
        assert machine == await node(client)
        assert (await machine.read_display_name()).Text == "FDM 7"
        am = await client.get_namespace_index("http://opcfoundation.org/UA/AdditiveManufacturing/")
        assert await machine.read_type_definition() == ua.NodeId(1005, am)
        assert (await value(client, "Identification.ComponentName")).Text == "FDM 7"
        assert await value(client, "Identification.AMTechnologyIdentifier") == "MEX"


async def test_every_value_is_good_or_says_that_it_is_not_known(tmp_path: Path) -> None:
    async with serving(tmp_path, Story(name=NAME)) as server, Client(server.endpoint_url) as client:
        unsure = {}
        for at, found in (await below(await node(client))).items():
            if await found.read_node_class() is ua.NodeClass.Variable:
                data = await found.read_data_value(raise_on_bad_status=False)
                assert data.SourceTimestamp is not None, at
                if not data.StatusCode.is_good() or data.Value.Value is None:
                    unsure[at] = data.StatusCode.name
    assert unsure == {
        "Identification.InitialOperationDate": "BadWaitingForInitialData",
        "Identification.YearOfConstruction": "UncertainInitialValue",
        "Production.ActiveProgram.Progress": "BadWaitingForInitialData",
        **dict.fromkeys((*COUNTERS, *JOB_END, *JOB_LISTS, *LAST_TRANSITIONS), "BadWaitingForInitialData"),
        **dict.fromkeys(IN_NO_STATE, "BadStateNotActive"),
    }


async def below(start: Node) -> dict[str, Node]:
    """All nodes below `start` by path, found by browsing."""
    found = {}
    for child in await start.get_children():
        path = child.nodeid.Identifier.partition(".")[2]
        found |= {path: child, **await below(child)}
    return found


PROFILES: dict[str, dict[str, Any] | None] = {
    "never heard of": None,
    "one tool and a bed": {},
    "two tools, a bed and a chamber": {"extruders": 2, "heated_chamber": True},
    "no heaters": {"extruders": 0, "heated_bed": False},
}


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_object_is_complete_and_valid_by_the_rules_of_opc_ua(tmp_path: Path, profile: str) -> None:
    known = PROFILES[profile]
    told = Story(name=NAME) if known is None else story(**known)
    everything = {"stacklight": True, "production_plan": True}
    async with serving(tmp_path, told, **everything) as server, Client(server.endpoint_url) as client:
        machines = ua.NodeId(1001, await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/"))
        assert await walk(client, machines) == []
        if known is not None:
            told.tell(wire.JOB_STARTED)
            told.states("printing")
            told.tell(wire.PROGRESS)
            for transition in told.transitions[-3:]:
                server.handle(transition)
            assert await walk(client, machines) == []


@pytest.mark.parametrize(
    ("profile", "heaters"),
    [
        ({}, {"Tool 0", "Bed"}),
        ({"extruders": 2, "heated_chamber": True}, {"Tool 0", "Tool 1", "Bed", "Chamber"}),
        ({"extruders": 0, "heated_bed": False}, set()),
    ],
)
async def test_each_heater_is_a_process_value_with_unit_and_range(
    tmp_path: Path, profile: dict[str, Any], heaters: set[str]
) -> None:
    async with serving(tmp_path, story(**profile)) as server, Client(server.endpoint_url) as client:
        process = await node(client, "Monitoring.Process")
        assert {(await child.read_browse_name()).Name for child in await process.get_children()} == heaters
        for heater in heaters:
            for signal in ("AnalogSignal", "ProcessValueSetpoint"):
                path = f"Monitoring.Process.{heater}.{signal}"
                assert await (await node(client, path)).read_data_type() == ua.NodeId(ua.ObjectIds.Double)
                unit = await value(client, f"{path}.EngineeringUnits")
                assert (unit.UnitId, unit.DisplayName.Text) == (4408652, "°C")
                limits = await value(client, f"{path}.EURange")
                assert limits.Low < limits.High


class Notes:
    """Notes what a subscription says."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.events: list[Any] = []
        self.statuses: list[str] = []
        self.heard = asyncio.Event()

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        self.values.append(value.Text if isinstance(value, ua.LocalizedText) else value)
        self.heard.set()

    def event_notification(self, event: Any) -> None:
        self.events.append(event)
        self.heard.set()

    def status_change_notification(self, status: Any) -> None:
        raise AssertionError(f"the subscription was closed: {status}")

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self.heard.clear()
                await self.heard.wait()


async def test_a_subscriber_sees_every_state_of_a_whole_print_in_order(tmp_path: Path) -> None:
    told = story()
    begun = len(told.transitions)
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        programs, items, progress = Notes(), Notes(), Notes()
        for notes, path in (
            (programs, "Production.ActiveProgram.State.CurrentState"),
            (items, "MachineryBuildingBlocks.MachineryItemState.CurrentState"),
            (progress, "Production.ActiveProgram.Progress"),
        ):
            subscription = await client.create_subscription(10, notes)
            await subscription.subscribe_data_change(await node(client, path), queuesize=100)
            await notes.until(lambda notes=notes: notes.values)
        told.states("starting")
        told.tell(wire.JOB_STARTED)
        told.states("printing")
        told.tell(wire.PROGRESS)
        told.states("pausing", "paused", "resuming", "printing")
        told.states("finishing")
        told.tell(wire.JOB_ENDED)
        told.states("operational")
        told.tell(wire.SNAPSHOT, state="printing", job={**JOB, "run": "run-2"})
        for transition in told.transitions[begun:]:
            server.handle(transition)
        expected = [
            "Initializing",
            "Running",
            "Interrupted",
            "Running",
            "Ended",
            "Initializing",
            "Running",
        ]
        await programs.until(lambda: len(programs.values) >= len(expected))
        assert programs.values == expected
        expected = ["NotExecuting", "Executing", "NotExecuting", "Executing", "NotExecuting", "Executing"]
        await items.until(lambda: len(items.values) >= len(expected))
        assert items.values == expected
        await progress.until(lambda: len(progress.values) >= 4)
        assert progress.values == [None, 50.0, 100.0, None]
        assert await value(client, "Production.ActiveProgram.JobIdentifier") == "run-2"


async def test_a_machine_gets_its_heaters_when_its_printer_becomes_known(tmp_path: Path) -> None:
    told = Story(name=NAME)
    async with serving(tmp_path, told, name=None) as server, Client(server.endpoint_url) as client:
        assert await (await node(client, "Monitoring.Process")).get_children() == []
        told.link("up")
        told.tell(wire.SNAPSHOT)
        for transition in told.transitions:
            server.handle(transition)
        assert await value(client, "Monitoring.Process.Tool 0.AnalogSignal") == 210.1
        assert (await (await node(client)).read_display_name()).Text == "Left printer"
        assert server.node_id(NAME) == "nsu=urn:mesbridge:machines;s=octoprint-1"


@pytest.mark.parametrize(
    ("custom_name", "shown"),
    [(None, "Renamed in OctoPrint"), ("FDM 7", "FDM 7")],
    ids=["OctoPrint", "config"],
)
async def test_a_new_name_in_octoprint_is_shown_on_the_same_machine_unless_config_json_names_it(
    custom_name: str | None, shown: str, tmp_path: Path
) -> None:
    told = story()
    async with serving(tmp_path, told, name=custom_name) as server, Client(server.endpoint_url) as client:
        machine = await node(client)
        server.handle(told.tell(wire.SNAPSHOT, printer={**PRINTER, "name": "Renamed in OctoPrint"}))
        assert (await machine.read_display_name()).Text == shown
        assert (await value(client, "Identification.ComponentName")).Text == shown


async def test_new_firmware_is_shown_on_the_same_nodes(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        notes = Notes()
        subscription = await client.create_subscription(10, notes)
        watched = await node(client, "Identification.SoftwareRevision")
        await subscription.subscribe_data_change(watched, queuesize=10)
        server.handle(told.tell(wire.SNAPSHOT, printer={**PRINTER, "firmware": "Marlin 3"}))
        await notes.until(lambda: "Marlin 3" in notes.values)
        assert notes.values == ["Marlin 2.1", "Marlin 3"]


async def test_a_lost_printer_leaves_bad_values_and_good_states(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        lost = told.link("lost")
        server.handle(lost)
        temperature = await node(client, "Monitoring.Process.Bed.AnalogSignal")
        data = await temperature.read_data_value(raise_on_bad_status=False)
        assert data.StatusCode.value == ua.StatusCodes.BadNoCommunication
        assert data.SourceTimestamp == lost.record.time
        item_state = await value(client, "MachineryBuildingBlocks.MachineryItemState.CurrentState")
        assert item_state.Text == "NotAvailable"
        server.handle(told.link("up"))
        assert await temperature.read_value() == HEATERS["bed"]["actual"]


async def test_errors_reach_those_who_listen_at_the_messages_and_at_the_server(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        index = await client.get_namespace_index("http://opcfoundation.org/UA/MachineTool/")
        alert, notification = ua.NodeId(39, index), ua.NodeId(35, index)
        here, anywhere = Notes(), Notes()
        for notes, source in (
            (here, await node(client, "Notification.Messages")),
            (anywhere, client.nodes.server),
        ):
            subscription = await client.create_subscription(10, notes)
            await subscription.subscribe_events(source, [ua.NodeId(ua.ObjectIds.BaseEventType)])
        server.handle(told.tell(wire.JOB_STARTED))
        server.handle(told.tell(wire.ERROR))
        for notes in (here, anywhere):
            await notes.until(lambda notes=notes: len(notes.events) >= 2 + (notes is anywhere))
            messages = [event for event in notes.events if event.EventType in (alert, notification)]
            assert [(e.EventType, e.Severity, e.Message.Text) for e in messages] == [
                (notification, 100, "Print of benchy.gcode started"),
                (alert, 900, "thermal runaway"),
            ]
            assert messages[1].Time == told.now
            assert messages[1].SourceNode == (await node(client)).nodeid


async def test_what_a_failure_left_out_is_made_up_for_with_the_next_event(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        told.tell(wire.JOB_STARTED)  # as if showing it had failed
        server.handle(told.tell(wire.PROGRESS))
        assert await value(client, "Production.ActiveProgram.Name") == "benchy.gcode"
        assert len(await value(client, f"{JOBS}.JobOrderControl.JobOrderList")) == 1


async def test_records_of_machines_that_are_not_served_are_left_alone(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        server.handle(Story(name="elsewhere").tell(wire.SNAPSHOT))
        server.remove_machine(NAME)
        server.handle(told.tell(wire.HEATERS))
        with pytest.raises(ua.UaStatusCodeError):
            await (await node(client)).read_browse_name()


async def test_the_node_id_told_to_others_leads_to_the_machine_whatever_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path, Story(name="Mk. 3 100%")) as server, Client(server.endpoint_url) as client:
        uri, identifier = server.node_id("Mk. 3 100%").removeprefix("nsu=").split(";s=")
        machine = client.get_node(ua.NodeId(identifier, await client.get_namespace_index(uri)))
        assert (await machine.read_browse_name()).Name == "Mk. 3 100%"
        assert await walk(client, machine.nodeid) == []


async def test_the_limits_that_are_set_are_kept(tmp_path: Path) -> None:
    settings = OpcUaSettings(port=0, anonymous=True, limits=OpcUaLimits(sessions=1))
    server = UmatiServer(settings, tmp_path)
    await server.start()
    async with Client(server.endpoint_url):
        with pytest.raises(ua.UaStatusCodeError):
            await Client(server.endpoint_url).connect()
    await server.stop()


async def test_a_server_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    await UmatiServer(OpcUaSettings(port=0), tmp_path).stop()


async def test_machines_of_one_profile_do_not_share_values(tmp_path: Path) -> None:
    one, other = story(), Story(name="octoprint-2")
    other.link("up")
    other.tell(wire.SNAPSHOT, heaters={"tool0": {"actual": 20.0, "target": 0.0}})
    async with serving(tmp_path, one, other) as server, Client(server.endpoint_url) as client:
        path = "Monitoring.Process.Tool 0.AnalogSignal"
        assert await value(client, path) == 210.1
        assert await (await node(client, path, "octoprint-2")).read_value() == 20.0


@pytest.mark.parametrize(
    ("anonymous", "user", "warned"), [(False, None, True), (False, "ann", False), (True, None, False)]
)
async def test_a_server_that_nobody_can_log_in_to_says_how_to_add_a_user(
    tmp_path: Path, anonymous: bool, user: str | None, warned: bool
) -> None:
    if user is not None:
        Users(tmp_path / "users.json").add(user, "a password for tests")
    server = UmatiServer(OpcUaSettings(port=0, anonymous=anonymous), tmp_path)
    with capture_logs() as logs:
        await server.start()
    await server.stop()
    said = [entry["event"] for entry in logs if "mesbridge user add NAME" in entry["event"]]
    assert len(said) == warned


async def test_a_users_file_that_cannot_be_used_stops_the_start_in_words(tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text("{")
    server = UmatiServer(OpcUaSettings(port=0), tmp_path)
    with pytest.raises(UsersError, match=r"users\.json, line 1: .*correct it, or delete the file"):
        await server.start()
    await server.stop()


async def test_a_client_sees_when_the_job_will_end(tmp_path: Path) -> None:
    told = story()
    told.tell(wire.JOB_STARTED)
    told.states("printing")
    predicted, source = JOB_END
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        heard = told.tell(wire.PROGRESS, print_time_left=290.0)
        server.handle(heard)
        end = heard.record.time + timedelta(seconds=290)
        assert await value(client, predicted) == end
        assert await value(client, source) == "run-1"
