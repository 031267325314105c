"""The subscription and monitored item services, each as a client sees it (Part 4, 5.13 and 5.14)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from bridge.opcua import Instance, OpcUaServer

from .conftest import PASSWORD, machine_template, secure_client

PROGRESS = "Production.ActiveProgram.Progress"
SIGNAL = "Monitoring.Process.Tool 0.AnalogSignal"
PATIENCE = 30  # seconds, only for a test that fails
Codes = ua.StatusCodes
Mode = ua.MonitoringMode
OVERFLOW = 0x480


class Told:
    """A subscription of a client, and all that it was told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = client.uaclient
        self.id = 0
        self.results: list[ua.PublishResult] = []
        self.values: list[tuple[int, Any, int]] = []  # client handle, value, status
        self.stamps: list[ua.DataValue] = []
        self.events: list[list[Any]] = []

    async def create(self, interval: float = 20, **wanted: Any) -> ua.CreateSubscriptionResult:
        asked = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=interval,
            RequestedLifetimeCount=wanted.pop("lifetime", 3000),
            RequestedMaxKeepAliveCount=wanted.pop("keep_alive", 1000),
            **wanted,
        )
        created = await self.session.create_subscription(asked, self._take)
        self.id = created.SubscriptionId
        return created

    async def _take(self, result: ua.PublishResult) -> None:
        self.results.append(result)
        for told in result.NotificationMessage.NotificationData or ():
            for item in getattr(told, "MonitoredItems", ()):
                self.stamps.append(item.Value)
                value = None if item.Value.Value is None else item.Value.Value.Value
                status = 0 if item.Value.StatusCode is None else item.Value.StatusCode.value
                self.values.append((item.ClientHandle, value, status))
            for event in getattr(told, "Events", ()):
                self.events.append([field.Value for field in event.EventFields])

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def values_are(self, *expected: Any) -> None:
        """Exactly these are told, and none more in the interval after."""
        await self.until(lambda: len(self.values) >= len(expected))
        await asyncio.sleep(0.06)
        assert [value for _, value, _ in self.values] == list(expected)

    async def monitor(
        self,
        instance: Instance,
        path: str,
        handle: int = 1,
        mode: ua.MonitoringMode = Mode.Reporting,
        timestamps: ua.TimestampsToReturn = ua.TimestampsToReturn.Both,
        attribute: ua.AttributeIds = ua.AttributeIds.Value,
        index_range: str | None = None,
        **wanted: Any,
    ) -> ua.MonitoredItemCreateResult:
        what = ua.ReadValueId(instance.node_id(path), attribute, index_range)
        parameters = ua.MonitoringParameters(
            handle,
            0.0,
            wanted.pop("filter", None),
            wanted.pop("queue", 100),
            wanted.pop("discard_oldest", True),
        )
        params = ua.CreateMonitoredItemsParameters(SubscriptionId=self.id, TimestampsToReturn=timestamps)
        params.ItemsToCreate = [ua.MonitoredItemCreateRequest(what, mode, parameters)]
        (created,) = await self.session.create_monitored_items(params)
        return created

    async def ask(self, request: Any, response: Any) -> Any:
        """A service that asyncua's client has no function for."""
        return struct_from_binary(response, await self.session.session._send_request(request))


@pytest.fixture
async def told(client: Client) -> Told:
    one = Told(client)
    await one.create()
    return one


async def refusal(asked: Any) -> int:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await asked
    code: int = refused.value.code
    return code


async def test_modify_revises_and_the_new_interval_counts(told: Told, machine: Instance) -> None:
    await told.monitor(machine, PROGRESS)
    asked = ua.ModifySubscriptionParameters(told.id, 1.0, 5, 100, 0, 7)
    revised = await told.session.update_subscription(asked)
    assert (revised.RevisedPublishingInterval, revised.RevisedMaxKeepAliveCount) == (10.0, 100)
    assert revised.RevisedLifetimeCount == 300  # three times the keep-alive count at least
    machine.write(PROGRESS, 5.0)
    await told.values_are(0.0, 5.0)
    asked.SubscriptionId = 999_999
    assert await refusal(told.session.update_subscription(asked)) == Codes.BadSubscriptionIdInvalid


async def test_a_disabled_subscription_keeps_what_there_is_until_it_is_enabled(
    client: Client, machine: Instance
) -> None:
    told = Told(client)
    await told.create(PublishingEnabled=False, keep_alive=1)
    await told.monitor(machine, PROGRESS)
    machine.write(PROGRESS, 1.0)
    await told.until(lambda: len(told.results) >= 2)
    assert not any(result.NotificationMessage.NotificationData for result in told.results)
    asked = ua.SetPublishingModeParameters(True, [told.id, 999_999])
    codes = await told.session.session.set_publishing_mode(asked)
    assert [code.value for code in codes] == [Codes.Good, Codes.BadSubscriptionIdInvalid]
    await told.values_are(0.0, 1.0)


async def test_no_message_has_more_notifications_than_were_asked_for(
    client: Client, machine: Instance
) -> None:
    told = Told(client)
    await told.create(MaxNotificationsPerPublish=3)
    await told.monitor(machine, PROGRESS)
    for number in range(1, 11):
        machine.write(PROGRESS, float(number))
    await told.values_are(*map(float, range(11)))
    full = [result for result in told.results if result.NotificationMessage.NotificationData]
    counts = [len(result.NotificationMessage.NotificationData[0].MonitoredItems) for result in full]
    assert max(counts) == 3
    assert [result.MoreNotifications for result in full][-1] is False
    assert any(result.MoreNotifications for result in full)


async def test_a_queue_keeps_the_newest_and_marks_where_others_were_lost(
    told: Told, machine: Instance
) -> None:
    created = await told.monitor(machine, PROGRESS, mode=Mode.Sampling, queue=3)
    for number in range(1, 6):
        machine.write(PROGRESS, float(number))
    asked = ua.SetMonitoringModeParameters(told.id, Mode.Reporting, [created.MonitoredItemId])
    await told.session.set_monitoring_mode(asked)
    await told.until(lambda: len(told.values) == 3)
    assert [(value, status) for _, value, status in told.values] == [(3.0, OVERFLOW), (4.0, 0), (5.0, 0)]


async def test_a_queue_may_keep_the_oldest_instead(told: Told, machine: Instance) -> None:
    created = await told.monitor(machine, PROGRESS, mode=Mode.Sampling, queue=2, discard_oldest=False)
    for number in range(1, 6):
        machine.write(PROGRESS, float(number))
    asked = ua.SetMonitoringModeParameters(told.id, Mode.Reporting, [created.MonitoredItemId])
    await told.session.set_monitoring_mode(asked)
    await told.until(lambda: len(told.values) == 2)
    unwritten = Codes.UncertainInitialValue
    assert [(value, status) for _, value, status in told.values] == [(0.0, unwritten), (5.0, OVERFLOW)]


async def test_a_deadband_is_around_what_was_told_last(told: Told, machine: Instance) -> None:
    machine.write(PROGRESS, 10.0)
    wanted = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, 1.0)
    await told.monitor(machine, PROGRESS, filter=wanted)
    for value in (10.6, 11.0, 11.1, 11.9, 12.2):
        machine.write(PROGRESS, value)
    await told.values_are(10.0, 11.1, 12.2)


async def test_a_percent_deadband_is_of_the_range(told: Told, machine: Instance) -> None:
    machine.write(PROGRESS, 10.0)
    percent = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Percent, 5.0)
    assert (await told.monitor(machine, PROGRESS, filter=percent)).StatusCode.value == Codes.Good
    for value in (14.9, 15.1):
        machine.write(PROGRESS, value)
    await told.values_are(10.0, 15.1)


@pytest.mark.parametrize(
    ("path", "kind", "width", "code"),
    [
        ("Identification.Model", ua.DeadbandType.Absolute, 1.0, Codes.BadFilterNotAllowed),
        (PROGRESS, ua.DeadbandType.Absolute, -1.0, Codes.BadDeadbandFilterInvalid),
        (PROGRESS, ua.DeadbandType.Absolute, float("nan"), Codes.BadDeadbandFilterInvalid),
        (PROGRESS, ua.DeadbandType.Percent, 101.0, Codes.BadDeadbandFilterInvalid),
        ("Nowhere", ua.DeadbandType.Percent, 1.0, Codes.BadNodeIdUnknown),
    ],
)
async def test_a_deadband_that_makes_no_sense_is_refused(
    told: Told, machine: Instance, path: str, kind: ua.DeadbandType, width: float, code: int
) -> None:
    machine.write("Identification.Model", ua.LocalizedText("X"))
    wanted = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, kind, width)
    assert (await told.monitor(machine, path, filter=wanted)).StatusCode.value == code


async def test_triggers_decide_what_is_a_change(told: Told, machine: Instance) -> None:
    machine.write(PROGRESS, 1.0, source_time=10**17)
    triggers = (ua.DataChangeTrigger.Status, ua.DataChangeTrigger.StatusValueTimestamp)
    for handle, trigger in enumerate(triggers):
        wanted = ua.DataChangeFilter(trigger, ua.DeadbandType.None_, 0.0)
        await told.monitor(machine, PROGRESS, handle, filter=wanted)
    machine.write(PROGRESS, 2.0, source_time=2 * 10**17)
    machine.write(PROGRESS, 2.0, source_time=3 * 10**17)
    machine.set_status(PROGRESS, Codes.UncertainLastUsableValue, 3 * 10**17)
    uncertain = Codes.UncertainLastUsableValue
    await told.until(lambda: len(told.values) >= 6)
    assert [told_ for told_ in told.values if told_[0] == 0] == [(0, 1.0, 0), (0, 2.0, uncertain)]
    assert [told_ for told_ in told.values if told_[0] == 1] == [
        (1, 1.0, 0),
        (1, 2.0, 0),
        (1, 2.0, 0),
        (1, 2.0, uncertain),
    ]


async def test_a_part_of_a_value_is_told_when_that_part_changes(told: Told, machine: Instance) -> None:
    machine.write("Production.ActiveProgram.Name", "abcdef")
    await told.monitor(machine, "Production.ActiveProgram.Name", index_range="1:2")
    machine.write("Production.ActiveProgram.Name", "abcXYZ")
    machine.write("Production.ActiveProgram.Name", "aBcXYZ")
    machine.write("Production.ActiveProgram.Name", "a")
    await told.values_are("bc", "Bc", None)
    assert told.values[-1][2] == Codes.BadIndexRangeNoData
    bad = await told.monitor(machine, PROGRESS, index_range="2:1")
    assert bad.StatusCode.value == Codes.BadIndexRangeInvalid


async def test_an_item_that_is_sampled_reports_when_the_one_it_is_linked_to_changes(
    told: Told, machine: Instance
) -> None:
    machine.write(PROGRESS, 0.0)
    machine.write(SIGNAL, 0.0)
    trigger = await told.monitor(machine, PROGRESS, 1)
    linked = await told.monitor(machine, SIGNAL, 2, mode=Mode.Sampling)
    request = ua.SetTriggeringRequest()
    request.Parameters = ua.SetTriggeringParameters(
        told.id, trigger.MonitoredItemId, [linked.MonitoredItemId, 999_999], []
    )
    answer = await told.ask(request, ua.SetTriggeringResponse)
    codes = [code.value for code in answer.Parameters.AddResults]
    assert codes == [Codes.Good, Codes.BadMonitoredItemIdInvalid]
    await told.values_are(0.0)
    machine.write(SIGNAL, 5.0)
    await asyncio.sleep(0.06)
    assert len(told.values) == 1
    machine.write(PROGRESS, 1.0)
    await told.until(lambda: len(told.values) == 4)
    assert sorted(told.values[1:]) == [(1, 1.0, 0), (2, 0.0, 0), (2, 5.0, 0)]
    request.Parameters = ua.SetTriggeringParameters(
        told.id, trigger.MonitoredItemId, [], [linked.MonitoredItemId]
    )
    await told.ask(request, ua.SetTriggeringResponse)
    machine.write(SIGNAL, 6.0)
    machine.write(PROGRESS, 2.0)
    await told.until(lambda: len(told.values) == 5)
    assert told.values[-1] == (1, 2.0, 0)


async def test_timestamps_are_those_that_were_asked_for(told: Told, machine: Instance) -> None:
    machine.write(PROGRESS, 1.0)
    for handle in range(4):
        await told.monitor(machine, PROGRESS, handle, timestamps=ua.TimestampsToReturn(handle))
    await told.until(lambda: len(told.stamps) == 4)
    shown = [(stamp.SourceTimestamp is not None, stamp.ServerTimestamp is not None) for stamp in told.stamps]
    assert shown == [(True, False), (False, True), (True, True), (False, False)]
    asked = told.monitor(machine, PROGRESS, timestamps=ua.TimestampsToReturn.Invalid)
    assert await refusal(asked) == Codes.BadTimestampsToReturnInvalid


async def test_modified_items_go_on_as_they_are_then(told: Told, machine: Instance) -> None:
    machine.write(PROGRESS, 1.0)
    created = await told.monitor(machine, PROGRESS, 1)
    wanted = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, 10.0)
    params = ua.ModifyMonitoredItemsParameters(told.id, ua.TimestampsToReturn.Both)
    params.ItemsToModify = [
        ua.MonitoredItemModifyRequest(identifier, ua.MonitoringParameters(9, 0.0, wanted, 10**6, True))
        for identifier in (created.MonitoredItemId, 999_999)
    ]
    known, unknown = await told.session.modify_monitored_items(params)
    assert (known.StatusCode.value, known.RevisedQueueSize) == (Codes.Good, 1000)
    assert unknown.StatusCode.value == Codes.BadMonitoredItemIdInvalid
    await told.until(lambda: told.values)
    machine.write(PROGRESS, 5.0)
    machine.write(PROGRESS, 20.0)
    await told.values_are(1.0, 20.0)
    assert told.values[-1][0] == 9


async def test_a_disabled_item_forgets_and_tells_the_present_value_when_it_is_back(
    told: Told, machine: Instance
) -> None:
    machine.write(PROGRESS, 1.0)
    created = await told.monitor(machine, PROGRESS)
    await told.until(lambda: told.values)
    for mode in (Mode.Disabled, Mode.Reporting):
        asked = ua.SetMonitoringModeParameters(told.id, mode, [created.MonitoredItemId])
        await told.session.set_monitoring_mode(asked)
        if mode == Mode.Disabled:
            machine.write(PROGRESS, 2.0)
            machine.write(PROGRESS, 3.0)
    await told.values_are(1.0, 3.0)


@pytest.mark.parametrize(
    ("path", "attribute", "code"),
    [
        ("Nowhere", ua.AttributeIds.Value, Codes.BadNodeIdUnknown),
        ("", ua.AttributeIds.Value, Codes.BadAttributeIdInvalid),
        (PROGRESS, ua.AttributeIds.EventNotifier, Codes.BadAttributeIdInvalid),
    ],
)
async def test_what_cannot_be_monitored_says_why(
    told: Told, machine: Instance, path: str, attribute: ua.AttributeIds, code: int
) -> None:
    assert (await told.monitor(machine, path, attribute=attribute)).StatusCode.value == code


async def test_a_message_can_be_had_again_until_it_is_acknowledged(client: Client, machine: Instance) -> None:
    session = client.uaclient.session
    machine.write(PROGRESS, 1.0)
    asked = ua.CreateSubscriptionParameters(10.0, 3000, 1000, 0, True, 0)
    request = ua.CreateSubscriptionRequest(Parameters=asked)
    data = await session._send_request(request)
    number = struct_from_binary(ua.CreateSubscriptionResponse, data).Parameters.SubscriptionId
    told = Told(client)
    told.id = number
    await told.monitor(machine, PROGRESS)
    first = (await session.publish([])).Parameters
    sequence_number = first.NotificationMessage.SequenceNumber
    again = await session.republish(number, sequence_number)
    assert again.NotificationData[0].MonitoredItems[0].Value.Value.Value == 1.0
    machine.write(PROGRESS, 2.0)
    ack = ua.SubscriptionAcknowledgement(number, sequence_number)
    unknown = ua.SubscriptionAcknowledgement(number, 4000)
    foreign = ua.SubscriptionAcknowledgement(999_999, 1)
    second = (await session.publish([ack, unknown, foreign])).Parameters
    assert [code.value for code in second.Results] == [
        Codes.Good,
        Codes.BadSequenceNumberUnknown,
        Codes.BadSubscriptionIdInvalid,
    ]
    assert second.AvailableSequenceNumbers == [second.NotificationMessage.SequenceNumber]
    request = ua.RepublishRequest(Parameters=ua.RepublishParameters(number, sequence_number))
    assert await refusal(session._send_request(request)) == Codes.BadMessageNotAvailable


async def test_a_subscription_is_nobody_elses(told: Told, server: OpcUaServer, machine: Instance) -> None:
    await told.monitor(machine, PROGRESS)
    async with Client(server.endpoint_url) as other:
        (code,) = await other.uaclient.delete_subscriptions([told.id])
        assert code.value == Codes.BadSubscriptionIdInvalid
        stranger = Told(other)
        stranger.id = told.id
        assert await refusal(stranger.monitor(machine, PROGRESS)) == Codes.BadSubscriptionIdInvalid
    machine.write(PROGRESS, 4.0)
    await told.values_are(0.0, 4.0)


async def test_a_subscription_goes_to_another_session_of_the_same_user_alone(
    make_server: Callable[..., OpcUaServer], tmp_path: Path
) -> None:
    server = make_server()
    for name in ("ann", "bob"):
        server._iserver.logins._users.add(name, PASSWORD)
    await server.start()
    machine = server.add_instance("m1", "One", machine_template(server), server.node_id("mach", 1001))
    mode = ua.MessageSecurityMode.SignAndEncrypt
    try:
        async with (
            secure_client(server, tmp_path / "1", mode, "ann", PASSWORD) as first,
            secure_client(server, tmp_path / "2", mode, "ann", PASSWORD) as second,
            secure_client(server, tmp_path / "3", mode, "bob", PASSWORD) as other,
            Client(server.endpoint_url) as nobody,
        ):
            told, unnamed = Told(first), Told(nobody)
            for one in (told, unnamed):
                await one.create()
            await told.monitor(machine, PROGRESS)
            await told.until(lambda: told.values)
            for thief in (other, nobody):
                (denied,) = await transferred(thief, told.id)
                assert denied.StatusCode.value == Codes.BadUserAccessDenied
            (denied,) = await transferred(nobody, unnamed.id)
            assert denied.StatusCode.value == Codes.BadUserAccessDenied
            heir = Told(second)
            await heir.create()
            second.uaclient.session._subscription_callbacks[told.id] = heir._take
            (given,) = await transferred(second, told.id)
            assert given.StatusCode.value == Codes.Good
            machine.write(PROGRESS, 8.0)
            await heir.until(lambda: any(value == 8.0 for _, value, _ in heir.values))
            assert all(value != 8.0 for _, value, _ in told.values)
    finally:
        await server.stop()


async def transferred(client: Client, number: int) -> list[ua.TransferResult]:
    """What TransferSubscriptions answers, with the present values asked for."""
    params = ua.TransferSubscriptionsParameters(SubscriptionIds=[number], SendInitialValues=True)
    results: list[ua.TransferResult] = await client.uaclient.transfer_subscriptions(params)
    return results


async def test_a_subscription_whose_client_asks_no_more_ends(client: Client, server: OpcUaServer) -> None:
    asked = ua.CreateSubscriptionParameters(10.0, 3, 1, 0, True, 0)
    await client.uaclient.session._send_request(ua.CreateSubscriptionRequest(Parameters=asked))
    held = server._iserver.subscription_service.subscriptions
    assert len(held) == 1
    async with asyncio.timeout(PATIENCE):
        while held:
            await asyncio.sleep(0.01)


async def test_a_silent_subscription_gives_signs_of_life(client: Client, machine: Instance) -> None:
    told = Told(client)
    await told.create(interval=10, keep_alive=2)
    await told.until(lambda: len(told.results) >= 3)
    numbers = {result.NotificationMessage.SequenceNumber for result in told.results}
    assert numbers == {1}, "the number of the next message, which is not used up"


async def test_requests_that_wait_are_answered_when_the_last_subscription_goes(client: Client) -> None:
    session = client.uaclient.session
    asked = ua.CreateSubscriptionParameters(1000.0, 3000, 1000, 0, True, 0)
    data = await session._send_request(ua.CreateSubscriptionRequest(Parameters=asked))
    number = struct_from_binary(ua.CreateSubscriptionResponse, data).Parameters.SubscriptionId
    await session.publish([])  # the first message
    waiting = asyncio.create_task(session._send_request(ua.PublishRequest()))
    await asyncio.sleep(0.05)
    await session.delete_subscriptions([number])
    async with asyncio.timeout(PATIENCE):
        assert await refusal(waiting) == Codes.BadNoSubscription


async def test_a_client_can_ask_which_items_there_are_and_for_their_values_again(
    told: Told, server: OpcUaServer, machine: Instance
) -> None:
    machine.write(PROGRESS, 1.0)
    created = await told.monitor(machine, PROGRESS, 42)
    objects = told.client.nodes.server
    number = ua.Variant(told.id, ua.VariantType.UInt32)
    handles = await objects.call_method("0:GetMonitoredItems", number)
    assert handles == [[created.MonitoredItemId], [42]]
    await told.until(lambda: told.values)
    await objects.call_method("0:ResendData", number)
    await told.values_are(1.0, 1.0)
    unknown = ua.Variant(999_999, ua.VariantType.UInt32)
    assert await refusal(objects.call_method("0:ResendData", unknown)) == Codes.BadSubscriptionIdInvalid
    async with Client(server.endpoint_url) as other:
        asked = other.nodes.server.call_method("0:GetMonitoredItems", number)
        assert await refusal(asked) == Codes.BadUserAccessDenied


def events_of(*names: str, of_type: int | None = None) -> ua.EventFilter:
    """These fields of all events, or of those of a type."""
    wanted = ua.EventFilter()
    wanted.SelectClauses = [
        ua.SimpleAttributeOperand(
            ua.NodeId(ua.ObjectIds.BaseEventType), [ua.QualifiedName(name, 0)], ua.AttributeIds.Value
        )
        for name in names
    ]
    if of_type is not None:
        operand = ua.LiteralOperand(Value=ua.Variant(ua.NodeId(of_type)))
        element = ua.ContentFilterElement(ua.FilterOperator.OfType, [operand])
        wanted.WhereClause = ua.ContentFilter([element])
    return wanted


async def test_events_of_a_type_are_those_of_its_subtypes_too(
    told: Told, server: OpcUaServer, machine: Instance
) -> None:
    wanted = events_of("Message", of_type=ua.ObjectIds.SystemEventType)
    notifier = ua.AttributeIds.EventNotifier
    created = await told.monitor(machine, "", attribute=notifier, filter=wanted)
    assert created.StatusCode.value == Codes.Good
    types = (ua.ObjectIds.BaseEventType, ua.ObjectIds.SystemEventType, ua.ObjectIds.DeviceFailureEventType)
    for number in types:
        fields = {"Message": ua.LocalizedText(str(number)), "Severity": 100}
        server.emit_event(machine, [""], ua.NodeId(number), fields)
    await told.until(lambda: len(told.events) == 2)
    assert [message.Text for (message,) in told.events] == [str(number) for number in types[1:]]


async def test_lost_events_are_told_of(told: Told, server: OpcUaServer, machine: Instance) -> None:
    notifier, wanted = ua.AttributeIds.EventNotifier, events_of("EventType", "Message")
    created = await told.monitor(machine, "", attribute=notifier, filter=wanted, queue=2, mode=Mode.Sampling)
    assert created.StatusCode.value == Codes.Good
    for number in range(4):
        fields = {"Message": ua.LocalizedText(str(number)), "Severity": 100}
        server.emit_event(machine, [""], ua.NodeId(ua.ObjectIds.BaseEventType), fields)
    asked = ua.SetMonitoringModeParameters(told.id, Mode.Reporting, [created.MonitoredItemId])
    await told.session.set_monitoring_mode(asked)
    await told.until(lambda: len(told.events) == 3)
    assert told.events[0][0] == ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
    assert [message.Text for _, message in told.events[1:]] == ["2", "3"]
