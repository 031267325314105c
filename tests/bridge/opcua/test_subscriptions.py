"""Monitored items on instance nodes: what changes is told once, in order, with its time; events reach all notifiers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.subscription import Subscription

from bridge.opcua import Instance, InstanceError, OpcUaServer

SIGNAL = "Monitoring.Process.Tool 0.AnalogSignal"
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENCE = 30  # seconds, only for a test that fails


class Recorder:
    """Keeps what a subscription told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.queue.put_nowait(data.monitored_item.Value)

    def event_notification(self, event: Any) -> None:
        self.queue.put_nowait(event)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.queue.get(), PATIENCE)


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
async def subscription(client: Client, told: Recorder) -> AsyncIterator[Subscription]:
    subscription = await client.create_subscription(10, told)
    yield subscription
    await subscription.delete()


async def test_a_write_is_told_with_value_status_and_source_time(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)))
    assert (await told.next()).StatusCode.value == ua.StatusCodes.UncertainInitialValue
    machine.write(SIGNAL, 210.5, THEN)
    value = await told.next()
    assert (value.Value.Value, value.StatusCode.value, value.SourceTimestamp) == (210.5, 0, THEN)


async def test_a_value_given_as_a_function_is_told_like_any_other(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    machine.write(SIGNAL, lambda: 1.0)
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)))
    assert (await told.next()).Value.Value == 1.0
    machine.write(SIGNAL, lambda: 2.0, THEN)
    value = await told.next()
    assert (value.Value.Value, value.SourceTimestamp) == (2.0, THEN)


async def test_only_a_new_value_or_status_is_told(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    machine.write(SIGNAL, 1.0)
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)), queuesize=100)
    await told.next()
    machine.write(SIGNAL, 1.0, THEN)
    machine.set_status(SIGNAL, ua.StatusCodes.UncertainLastUsableValue)
    machine.set_status(SIGNAL, ua.StatusCodes.UncertainLastUsableValue)
    machine.set_status(SIGNAL, ua.StatusCodes.BadNoCommunication)
    machine.set_status(SIGNAL, 0)
    machine.write(SIGNAL, 2.0)
    seen = [await told.next() for _ in range(4)]
    assert [(value.Value.Value, value.StatusCode.value) for value in seen] == [
        (1.0, ua.StatusCodes.UncertainLastUsableValue),
        (None, ua.StatusCodes.BadNoCommunication),
        (1.0, 0),
        (2.0, 0),
    ]


async def test_all_of_many_writes_arrive_in_order(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)), queuesize=1000)
    await told.next()
    for number in range(500):
        machine.write(SIGNAL, float(number + 1))
    assert [(await told.next()).Value.Value for _ in range(500)] == [float(n + 1) for n in range(500)]


async def test_a_deleted_item_is_told_nothing_more_and_the_others_are(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    node = client.get_node(machine.node_id(SIGNAL))
    gone = await subscription.subscribe_data_change(node)
    await told.next()
    await subscription.subscribe_data_change(node)
    await told.next()
    await subscription.unsubscribe(gone)
    machine.write(SIGNAL, 5.0)
    assert (await told.next()).Value.Value == 5.0
    machine.write(SIGNAL, 6.0)
    assert (await told.next()).Value.Value == 6.0


async def test_items_of_a_removed_instance_are_told_that_it_is_gone(
    client: Client, server: OpcUaServer, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    item = await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)))
    await told.next()
    server.remove_instance("m1")
    assert (await told.next()).StatusCode.value == ua.StatusCodes.BadNodeIdUnknown
    await subscription.unsubscribe(item)


async def test_other_attributes_and_constants_can_be_monitored(
    client: Client, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    root = client.get_node(machine.node_id())
    items = [
        await subscription.subscribe_data_change(root, attr=ua.AttributeIds.DisplayName),
        await subscription.subscribe_data_change(
            client.get_node(machine.node_id("Production.ActiveProgram.Progress.EURange"))
        ),
    ]
    first, second = await told.next(), await told.next()
    assert {type(first.Value.Value), type(second.Value.Value)} == {ua.LocalizedText, ua.Range}
    await subscription.unsubscribe(items)


@pytest.mark.parametrize("requested", [0.0, -1.0, 1.0, float("nan"), 10.0])
async def test_the_publishing_interval_has_a_lower_limit(client: Client, requested: float) -> None:
    async def publish(result: ua.PublishResult) -> None:
        """Nobody listens."""

    asked = ua.CreateSubscriptionParameters(RequestedPublishingInterval=requested)
    created = await client.uaclient.create_subscription(asked, publish)
    assert created.RevisedPublishingInterval == 10.0


async def test_a_clock_node_ticks(client: Client, subscription: Subscription, told: Recorder) -> None:
    await subscription.subscribe_data_change(
        client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)), queuesize=10
    )
    first, second = await told.next(), await told.next()
    assert second.Value.Value > first.Value.Value


async def test_an_event_reaches_subscribers_of_each_notifier_and_of_the_server(
    client: Client, server: OpcUaServer, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    notification = server.node_id("mt", 35)
    for node_id in (
        machine.node_id("Notification.Messages"),
        machine.node_id(),
        ua.NodeId(ua.ObjectIds.Server),
    ):
        await subscription.subscribe_events(client.get_node(node_id), evtypes=client.get_node(notification))
    server.emit_event(
        machine,
        ["", "Notification.Messages"],
        notification,
        {"Message": ua.LocalizedText("Done", "en"), "Severity": 300, "Identifier": "done"},
        source="Notification.Messages",
        source_time=THEN,
    )
    events = [await told.next() for _ in range(3)]
    assert len({event.EventId for event in events}) == 1
    event = events[0]
    assert (event.Message.Text, event.Severity, event.Identifier) == ("Done", 300, "done")
    assert (event.SourceNode, event.SourceName) == (machine.node_id("Notification.Messages"), "Messages")
    assert (event.EventType, event.Time) == (notification, THEN)


async def test_an_event_comes_after_the_values_written_before_it(
    client: Client, server: OpcUaServer, machine: Instance, told: Recorder
) -> None:
    subscription = await client.create_subscription(10, told)
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)))
    await told.next()
    await subscription.subscribe_events(client.get_node(machine.node_id()))
    machine.write(SIGNAL, 7.0)
    server.emit_event(
        machine, [""], ua.NodeId(ua.ObjectIds.BaseEventType), {"Message": ua.LocalizedText("hot")}
    )
    assert (await told.next()).Value.Value == 7.0
    assert (await told.next()).Message.Text == "hot"
    await subscription.delete()


async def test_objects_that_notify_of_nothing_refuse_event_items(
    client: Client, machine: Instance, subscription: Subscription
) -> None:
    with pytest.raises(ua.UaStatusCodeError):
        await subscription.subscribe_events(client.get_node(machine.node_id("Monitoring")))


async def test_fields_that_an_event_type_lacks_are_refused(server: OpcUaServer, machine: Instance) -> None:
    base = ua.NodeId(ua.ObjectIds.BaseEventType)
    with pytest.raises(InstanceError, match="has no field Colour"):
        server.emit_event(machine, [""], base, {"Colour": "red"})
    with pytest.raises(InstanceError, match="event field Severity cannot hold"):
        server.emit_event(machine, [""], base, {"Severity": ua.Variant("high")})
    with pytest.raises(InstanceError, match="no object 'Nowhere'"):
        server.emit_event(machine, ["Nowhere"], base, {})


EVENT = ua.NodeId(ua.ObjectIds.BaseEventType)
PROGRESS = "Production.ActiveProgram.Progress"


async def test_items_outlive_another_template_and_those_of_lost_nodes_are_told_so(
    client: Client, server: OpcUaServer, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    machine.write(SIGNAL, 1.0, THEN)
    machine.write("Production.ActiveProgram.Name", "a", THEN)
    for path in (SIGNAL, "Production.ActiveProgram.Name", f"{PROGRESS}.EURange"):
        await subscription.subscribe_data_change(client.get_node(machine.node_id(path)))
        await told.next()
    await subscription.subscribe_events(client.get_node(machine.node_id()))
    with_tool = machine.template
    bare = server.build_template(server.node_id("am", 1005), notifiers=[""])
    machine.refit(bare)
    assert [(await told.next()).StatusCode.value for _ in range(2)] == [ua.StatusCodes.BadNodeIdUnknown] * 2
    machine.write("Production.ActiveProgram.Name", "b")
    assert (await told.next()).Value.Value == "b"
    server.emit_event(machine, [""], EVENT, {"Message": ua.LocalizedText("still here")})
    assert (await told.next()).Message.Text == "still here"
    machine.refit(with_tool)
    assert (await told.next()).StatusCode.value == ua.StatusCodes.UncertainInitialValue
    assert (await told.next()).Value.Value == ua.Range(0, 100)
    machine.write(SIGNAL, 2.0)
    assert (await told.next()).Value.Value == 2.0
    assert told.queue.empty()


async def test_another_template_leaves_values_statuses_and_times_as_they_were(
    server: OpcUaServer, machine: Instance
) -> None:
    machine.write("Production.ActiveProgram.Name", "a", THEN)
    machine.write("Production.ActiveProgram.NumberInList", 7, THEN, ua.StatusCodes.UncertainLastUsableValue)
    before = {path: machine.read(path) for path, node in machine.template.paths.items() if node.value_type}
    machine.refit(server.build_template(server.node_id("am", 1005)))
    after = {path: machine.read(path) for path, node in machine.template.paths.items() if node.value_type}
    assert after.keys() < before.keys()
    assert after == {path: before[path] for path in after}


async def test_an_item_that_was_deleted_while_its_node_was_away_stays_deleted(
    client: Client, server: OpcUaServer, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    node = client.get_node(machine.node_id(SIGNAL))
    item = await subscription.subscribe_data_change(node)
    await told.next()
    with_tool = machine.template
    machine.refit(server.build_template(server.node_id("am", 1005)))
    assert (await told.next()).StatusCode.value == ua.StatusCodes.BadNodeIdUnknown
    await subscription.unsubscribe(item)
    machine.refit(with_tool)
    await subscription.subscribe_data_change(node)
    await told.next()
    machine.write(SIGNAL, 3.0)
    assert (await told.next()).Value.Value == 3.0
    assert told.queue.empty()


async def test_a_new_name_is_told_and_seen_from_all_sides(
    client: Client, server: OpcUaServer, machine: Instance, subscription: Subscription, told: Recorder
) -> None:
    root = client.get_node(machine.node_id())
    await subscription.subscribe_data_change(root, attr=ua.AttributeIds.DisplayName)
    await subscription.subscribe_data_change(client.get_node(machine.node_id(SIGNAL)))
    await told.next()
    await told.next()
    machine.rename("Left")
    assert (await told.next()).Value.Value.Text == "Left"
    assert (await root.read_display_name()).Text == "Left"
    folder = client.get_node(server.node_id("mach", 1001))
    (below,) = await folder.get_references(ua.ObjectIds.Organizes, direction=ua.BrowseDirection.Forward)
    assert below.DisplayName.Text == "Left"
    child = client.get_node(machine.node_id("Monitoring"))
    (parent,) = await child.get_references(
        ua.ObjectIds.HierarchicalReferences, direction=ua.BrowseDirection.Inverse
    )
    assert parent.DisplayName.Text == "Left"
    assert told.queue.empty()
