"""The numbers that the facets of OPC 10000-7 ask for at least; the services themselves are tested beside."""

import asyncio
import re
from pathlib import Path

from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from bridge.opcua import OpcUaServer

from .conftest import machine_template

PATIENCE = 30  # seconds, only for a test that fails
SUBSCRIPTIONS, ITEMS, QUEUE, PUBLISH_REQUESTS = 5, 500, 5, 10
PATH = "Production.ActiveProgram.Progress"


async def test_the_minima_of_enhanced_datachange_subscription(client: Client, server: OpcUaServer) -> None:
    template = machine_template(server)
    machine = server.add_instance("m1", "Machine 1", template, server.node_id("mach", 1001))
    machine.write(PATH, 0.0)
    session = client.uaclient.session
    numbers = []
    for _ in range(SUBSCRIPTIONS):
        asked = ua.CreateSubscriptionParameters(50.0, 3000, 1000, 0, True, 0)
        data = await session._send_request(ua.CreateSubscriptionRequest(Parameters=asked))
        number = struct_from_binary(ua.CreateSubscriptionResponse, data).Parameters.SubscriptionId
        params = ua.CreateMonitoredItemsParameters(SubscriptionId=number)
        params.TimestampsToReturn = ua.TimestampsToReturn.Both
        params.ItemsToCreate = [
            ua.MonitoredItemCreateRequest(
                ua.ReadValueId(machine.node_id(PATH), ua.AttributeIds.Value),
                ua.MonitoringMode.Reporting,
                ua.MonitoringParameters(handle, 0.0, None, QUEUE, True),
            )
            for handle in range(ITEMS)
        ]
        created = await session.create_monitored_items(params)
        assert {(one.StatusCode.value, one.RevisedQueueSize) for one in created} == {(0, QUEUE)}
        numbers.append(number)
    for value in range(1, QUEUE):
        machine.write(PATH, float(value))
    waiting = [asyncio.create_task(session.publish([])) for _ in range(PUBLISH_REQUESTS)]
    told: dict[int, int] = {}
    async with asyncio.timeout(PATIENCE):
        for answer in asyncio.as_completed(waiting[:SUBSCRIPTIONS]):
            result = (await answer).Parameters
            (notification,) = result.NotificationMessage.NotificationData
            told[result.SubscriptionId] = len(notification.MonitoredItems)
    assert told == dict.fromkeys(numbers, ITEMS * QUEUE)
    assert not any(one.done() for one in waiting[SUBSCRIPTIONS:]), "ten requests may wait"
    for one in waiting:
        one.cancel()


async def test_two_clients_have_a_session_each(client: Client, server: OpcUaServer) -> None:
    async with Client(server.endpoint_url) as other:
        for one in (client, other):
            assert await one.nodes.server_state.read_value() == ua.ServerState.Running


def test_what_the_document_names_is_there() -> None:
    tree = Path(__file__).parents[3]
    document = (tree / "docs" / "opcua-conformance.md").read_text()
    files = {path.name for path in (tree / "tests" / "bridge").rglob("test_*.py")}
    named = set(re.findall(r"test_\w+\.py", document))
    assert named <= files
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)(?:\.\.\.)?`", document):
        assert f"def {name}" in tests, name
