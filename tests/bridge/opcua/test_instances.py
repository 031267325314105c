"""Instances are nodes like all others to a client, and cost no node each."""

from datetime import UTC, datetime, timedelta

import pytest
from asyncua import Client, ua
from hypothesis import given
from hypothesis import strategies as st

from bridge.opcua import Instance, InstanceError, OpcUaServer, to_datetime, to_ticks
from bridge.opcua.names import escaped, joined

from .conftest import machine_template

SIGNAL = "Monitoring.Process.Tool 0.AnalogSignal"
THEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


async def test_a_written_value_is_read_with_its_source_time(client: Client, machine: Instance) -> None:
    machine.write(SIGNAL, ua.Variant(210.5), THEN)
    value = await client.get_node(machine.node_id(SIGNAL)).read_data_value()
    assert (value.Value.Value, value.SourceTimestamp) == (210.5, THEN)
    assert value.StatusCode.is_good()


async def test_a_status_can_be_written_without_a_value(client: Client, machine: Instance) -> None:
    node = client.get_node(machine.node_id(SIGNAL))
    machine.write(SIGNAL, None, THEN, ua.StatusCodes.BadWaitingForInitialData)
    assert SIGNAL not in machine.unwritten()
    value = await node.read_data_value(raise_on_bad_status=False)
    assert (value.StatusCode.value, value.SourceTimestamp) == (
        ua.StatusCodes.BadWaitingForInitialData,
        THEN,
    )
    machine.write(SIGNAL, 1.0)
    machine.write(SIGNAL, None, THEN, ua.StatusCodes.UncertainLastUsableValue)
    assert (await node.read_data_value(raise_on_bad_status=False)).Value.Value == 1.0


async def test_a_value_given_as_a_function_is_made_once_when_somebody_wants_it(
    client: Client, machine: Instance
) -> None:
    made = []

    def make() -> float:
        made.append(210.5)
        return 210.5

    machine.write(SIGNAL, make, THEN)
    assert made == []
    node = client.get_node(machine.node_id(SIGNAL))
    for _ in range(2):
        value = await node.read_data_value()
        assert (value.Value.Value, value.SourceTimestamp) == (210.5, THEN)
    assert made == [210.5]


async def test_a_value_nobody_wrote_is_neutral_and_uncertain(client: Client, machine: Instance) -> None:
    assert SIGNAL in machine.unwritten()
    value = await client.get_node(machine.node_id(SIGNAL)).read_data_value(raise_on_bad_status=False)
    assert (value.Value.Value, value.StatusCode.value) == (0.0, ua.StatusCodes.UncertainInitialValue)
    assert value.SourceTimestamp is not None
    machine.write(SIGNAL, 1.0)
    assert SIGNAL not in machine.unwritten()


async def test_a_bad_status_hides_the_value_and_a_good_one_brings_it_back(
    client: Client, machine: Instance
) -> None:
    node = client.get_node(machine.node_id(SIGNAL))
    machine.write(SIGNAL, 210.5, THEN)
    machine.set_status(SIGNAL, ua.StatusCodes.UncertainLastUsableValue)
    assert (await node.read_data_value(raise_on_bad_status=False)).Value.Value == 210.5
    machine.set_status(SIGNAL, ua.StatusCodes.BadNoCommunication)
    lost = await node.read_data_value(raise_on_bad_status=False)
    assert (lost.Value.Value, lost.StatusCode.value) == (None, ua.StatusCodes.BadNoCommunication)
    machine.set_status(SIGNAL, ua.StatusCodes.Good)
    assert await node.read_value() == 210.5


async def test_browse_paths_lead_to_instance_nodes_from_the_root_on(
    client: Client, server: OpcUaServer, machine: Instance
) -> None:
    machines = client.get_node(server.node_id("mach", 1001))
    name = [
        f"{server.namespaces[prefix]}:{part}"
        for prefix, part in (("own", "m1"), ("mt", "Monitoring"), ("mach", "Process"))
    ]
    assert (await machines.get_child(name)).nodeid == machine.node_id("Monitoring.Process")


async def test_references_lead_to_the_parent_the_type_and_the_children(
    client: Client, server: OpcUaServer, machine: Instance
) -> None:
    root = client.get_node(machine.node_id())
    assert (await root.get_parent()).nodeid == server.node_id("mach", 1001)
    assert await root.read_type_definition() == server.node_id("am", 1005)
    node = client.get_node(machine.node_id("Monitoring.Process"))
    assert (await node.get_parent()).nodeid == machine.node_id("Monitoring")
    assert [child.nodeid for child in await node.get_children()] == [
        machine.node_id("Monitoring.Process.Tool 0")
    ]
    assert (await root.read_display_name()).Text == "Machine 1"


async def test_clients_can_neither_write_nor_add_nor_delete(
    client: Client, server: OpcUaServer, machine: Instance
) -> None:
    node = client.get_node(machine.node_id(SIGNAL))
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await node.write_value(1.0)
    assert refused.value.code == ua.StatusCodes.BadNotWritable
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(ua.NodeId(ua.ObjectIds.Server_ServiceLevel)).write_value(
            ua.Variant(0, ua.VariantType.Byte)
        )
    assert refused.value.code == ua.StatusCodes.BadNotWritable
    with pytest.raises(ua.UaStatusCodeError):
        await client.get_node(machine.node_id()).add_object(server.namespaces["own"], "new")
    with pytest.raises(ua.UaStatusCodeError):
        await client.delete_nodes([node])


async def test_not_even_the_server_itself_adds_to_instances(server: OpcUaServer, machine: Instance) -> None:
    service = server._iserver.node_mgt_service
    added = ua.AddNodesItem(
        ParentNodeId=machine.node_id(), RequestedNewNodeId=ua.NodeId("new", 1), NodeClass=ua.NodeClass.Object
    )
    assert service.add_nodes([added])[0].StatusCode.value == ua.StatusCodes.BadUserAccessDenied
    deleted = ua.DeleteNodesParameters([ua.DeleteNodesItem(machine.node_id())])
    assert service.delete_nodes(deleted)[0].value == ua.StatusCodes.BadUserAccessDenied
    assert machine.node_id() in server.space


async def test_a_removed_instance_is_gone_and_its_name_free_again(
    client: Client, server: OpcUaServer, machine: Instance
) -> None:
    server.remove_instance("m1")
    assert await client.get_node(server.node_id("mach", 1001)).get_children(refs=ua.ObjectIds.Organizes) == []
    with pytest.raises(ua.UaStatusCodeError):
        await client.get_node(machine.node_id(SIGNAL)).read_value()
    with pytest.raises(InstanceError, match="no instance 'm1'"):
        server.remove_instance("m1")
    server.add_instance("m1", "Again", machine.template, server.node_id("mach", 1001))


async def test_wrong_paths_types_and_names_are_refused(server: OpcUaServer, machine: Instance) -> None:
    with pytest.raises(InstanceError, match="m1 has no variable 'Monitoring.Nothing'"):
        machine.write("Monitoring.Nothing", 1.0)
    with pytest.raises(InstanceError, match="no variable 'Monitoring'"):
        machine.read("Monitoring")
    with pytest.raises(InstanceError, match="String where Double belongs"):
        machine.write(SIGNAL, ua.Variant("hot"))
    with pytest.raises(InstanceError, match="an array where a single value belongs"):
        machine.write(SIGNAL, [1.0])
    with pytest.raises(InstanceError, match="is a constant of its template"):
        machine.write("Production.ActiveProgram.Progress.EURange", ua.Range(0, 1))
    with pytest.raises(InstanceError, match="there is an instance 'm1' already"):
        server.add_instance("m1", "", machine.template, server.node_id("mach", 1001))


async def test_a_refused_write_leaves_the_value_as_it_was(machine: Instance) -> None:
    machine.write(SIGNAL, 1.0, THEN)
    with pytest.raises(InstanceError):
        machine.write(SIGNAL, "hot")
    assert (machine.read(SIGNAL).Value.Value, machine.read(SIGNAL).SourceTimestamp) == (1.0, THEN)


@pytest.mark.parametrize("name", ["mk.3", "100%", "a%2Eb", ".", "ü/ß"])
async def test_every_name_gives_an_unambiguous_node_id(
    client: Client, server: OpcUaServer, name: str
) -> None:
    template = machine_template(server)
    parent = server.node_id("mach", 1001)
    instance = server.add_instance(name, name, template, parent)
    other = server.add_instance(name + ".Monitoring", "other", template, parent)
    instance.write(SIGNAL, 1.0)
    other.write(SIGNAL, 2.0)
    assert await client.get_node(instance.node_id(SIGNAL)).read_value() == 1.0
    assert await client.get_node(other.node_id(SIGNAL)).read_value() == 2.0


async def test_a_method_nobody_serves_says_so_and_a_served_one_answers(
    client: Client, machine: Instance, server: OpcUaServer
) -> None:
    results = "MachineryBuildingBlocks.JobManagement.JobOrderResults"
    path = f"{results}.RequestJobResponseByJobOrderID"
    owner, method = client.get_node(machine.node_id(results)), machine.node_id(path)
    executable = client.get_node(method)
    assert (await executable.read_attribute(ua.AttributeIds.Executable)).Value.Value is False
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await owner.call_method(method, "job 1")
    assert refused.value.code == ua.StatusCodes.BadNotImplemented

    async def answer(instance: Instance, job: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(f"{instance.name}: {job.Value}")]

    machine.template.on_call(path, answer)
    assert (await executable.read_attribute(ua.AttributeIds.Executable)).Value.Value is True
    assert await owner.call_method(method, "job 1") == "m1: job 1"
    declaration = server.node_id("isa", 7006)
    if (await client.get_node(declaration).read_browse_name()).Name == "RequestJobResponseByJobOrderID":
        assert await owner.call_method(declaration, "job 2") == "m1: job 2"


async def test_a_callback_that_fails_costs_its_caller_alone(client: Client, machine: Instance) -> None:
    results = "MachineryBuildingBlocks.JobManagement.JobOrderResults"
    path = f"{results}.RequestJobResponseByJobOrderID"

    async def broken(instance: Instance, job: ua.Variant) -> list[ua.Variant]:
        raise KeyError(job.Value)

    machine.template.on_call(path, broken)
    with pytest.raises(ua.UaStatusCodeError) as failed:
        await client.get_node(machine.node_id(results)).call_method(machine.node_id(path), "job 1")
    assert failed.value.code == ua.StatusCodes.BadInternalError
    assert await client.get_node(machine.node_id()).read_browse_name()


async def test_node_ids_that_are_nearly_right_are_unknown(
    client: Client, server: OpcUaServer, machine: Instance
) -> None:
    own = server.namespaces["own"]
    near = ["m1.", "m1.Monitoring.", "m1..Monitoring", "m2", "m1.monitoring", "", "."]
    nodes = [ua.NodeId(identifier, own) for identifier in near]
    nodes += [ua.NodeId(1, own), ua.NodeId(b"m1", own), ua.NodeId("m1", own - 1), ua.NodeId("m1", own + 1)]
    for node_id in nodes:
        value = server.space.read_attribute_value(node_id, ua.AttributeIds.NodeId)
        assert value.StatusCode.value == ua.StatusCodes.BadNodeIdUnknown, node_id
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(machine.node_id()).read_attribute(ua.AttributeIds.Value)
    assert refused.value.code == ua.StatusCodes.BadAttributeIdInvalid


@given(st.text(), st.text())
def test_escaping_is_reversible_and_keeps_parts_apart(one: str, two: str) -> None:
    assert escaped(one).replace("%2E", ".").replace("%25", "%") == one
    assert joined(escaped(one), two).split(".", 1) == [escaped(one), escaped(two)] or not one


@given(st.datetimes(min_value=datetime(1601, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_survive_as_ticks(moment: datetime) -> None:
    assert to_datetime(to_ticks(moment)) == moment
    assert to_ticks(moment + timedelta(microseconds=1)) - to_ticks(moment) == 10


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_ticks(datetime(2026, 1, 1))  # noqa: DTZ001
