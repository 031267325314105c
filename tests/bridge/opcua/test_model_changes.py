"""Machines and nodes that come and go, as a client hears of them."""

import asyncio
from typing import Any

from asyncua import Client, ua

from bridge.opcua import OpcUaServer

from .conftest import machine_template

Verb = ua.ModelChangeStructureVerbMask
PATIENCE = 30  # seconds, only for a test that fails


class Heard:
    """Keeps model changes and node versions."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[list[tuple[str, int]]] = asyncio.Queue()
        self.versions: asyncio.Queue[str] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        if event.EventType == ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType):
            changes = [(str(change.Affected.Identifier), int(change.Verb)) for change in event.Changes]
            self.changes.put_nowait(changes)

    def datachange_notification(self, node: object, value: str, data: object) -> None:
        self.versions.put_nowait(value)

    async def next(self, queue: asyncio.Queue[Any]) -> Any:
        return await asyncio.wait_for(queue.get(), PATIENCE)


async def test_machines_that_come_and_go_are_told_and_count_the_folders_version_up(
    client: Client, server: OpcUaServer
) -> None:
    template, folder = machine_template(server), server.node_id("mach", 1001)
    server.add_instance("m1", "Machine 1", template, folder)
    version = await client.get_node(folder).get_child("0:NodeVersion")
    assert await version.read_type_definition() == ua.NodeId(ua.ObjectIds.PropertyType)
    assert await version.read_value() == "1"
    heard = Heard()
    subscription = await client.create_subscription(10, heard)
    await subscription.subscribe_events(ua.ObjectIds.Server, ua.ObjectIds.GeneralModelChangeEventType)
    await subscription.subscribe_data_change(version, queuesize=10)
    assert await heard.next(heard.versions) == "1"
    server.add_instance("m2", "Machine 2", template, folder)
    assert await heard.next(heard.changes) == [("m2", Verb.NodeAdded)]
    assert await heard.next(heard.versions) == "2"
    server.remove_instance("m1")
    assert await heard.next(heard.changes) == [("m1", Verb.NodeDeleted)]
    assert await heard.next(heard.versions) == "3"


async def test_nodes_of_a_machine_that_come_and_go_are_named(client: Client, server: OpcUaServer) -> None:
    full, folder = machine_template(server), server.node_id("mach", 1001)
    plain = server.build_template(server.node_id("am", 1005))
    machine = server.add_instance("m1", "Machine 1", full, folder)
    heard = Heard()
    subscription = await client.create_subscription(10, heard)
    await subscription.subscribe_events(ua.ObjectIds.Server, ua.ObjectIds.GeneralModelChangeEventType)
    machine.refit(plain)
    gone = await heard.next(heard.changes)
    assert {verb for _, verb in gone} == {Verb.NodeDeleted}
    assert {path for path, _ in gone} == {f"m1.{path}" for path in full.paths.keys() - plain.paths.keys()}
    machine.refit(plain)
    machine.refit(full)
    back = await heard.next(heard.changes)
    assert {verb for _, verb in back} == {Verb.NodeAdded}
    assert {path for path, _ in back} == {path for path, _ in gone}
