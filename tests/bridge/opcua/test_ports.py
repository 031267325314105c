"""Instances on ports of their own: what clients find on each."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asyncua import Client, ua
from structlog.testing import capture_logs

from bridge.opcua import Limits, OpcUaServer

from .clients import Raw
from .conftest import machine_template

PATH = "Production.ActiveProgram.Progress"


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        found: int = one.getsockname()[1]
    return found


def populate(server: OpcUaServer, *names: str) -> None:
    template = machine_template(server)
    for name in names:
        instance = server.add_instance(name, name, template, server.node_id("mach", 1001))
        instance.write(PATH, 42.0)


@pytest.fixture
async def server(make_server: Callable[..., OpcUaServer], port: int) -> AsyncIterator[OpcUaServer]:
    """Three machines, one of which has a port of its own."""
    server = make_server()
    server.give_port("own", port)
    await server.start()
    populate(server, "a", "own", "b")
    yield server
    await server.stop()


async def machines(client: Client) -> list[str]:
    """What a client finds by browsing Machines."""
    index = await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/")
    below = await client.get_node(ua.NodeId(1001, index)).get_children(refs=ua.ObjectIds.Organizes)
    return [str(one.nodeid.Identifier) for one in below]


async def test_a_port_of_its_own_shows_that_machine_and_the_common_one_the_others(
    server: OpcUaServer,
) -> None:
    async with Client(server.endpoint_url) as common, Client(server.endpoint_url_of("own")) as own:
        assert await machines(common) == ["a", "b"]
        assert await machines(own) == ["own"]


async def test_connections_are_limited_over_all_ports(
    make_server: Callable[..., OpcUaServer], port: int
) -> None:
    server = make_server(limits=Limits(connections=1))
    server.give_port("own", port)
    await server.start()
    async with Client(server.endpoint_url) as common:
        await (await Raw.to(server, port)).ended()
        assert await common.get_namespace_array()
    await server.stop()


async def test_nodes_of_another_port_do_not_exist_by_whatever_service(server: OpcUaServer) -> None:
    progress = server.instances.get("own").node_id(PATH)
    async with Client(server.endpoint_url) as common, Client(server.endpoint_url_of("own")) as own:
        assert await own.get_node(progress).read_value() == 42.0
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await common.get_node(progress).read_value()
        assert refused.value.code == ua.StatusCodes.BadNodeIdUnknown
        subscription = await common.create_subscription(100, Changes())
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await subscription.subscribe_data_change(common.get_node(progress))
        assert refused.value.code == ua.StatusCodes.BadNodeIdUnknown
        folder, name = common.get_node(server.node_id("mach", 1001)), server.instances.get("own").browse_name
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await folder.get_child(name)
        assert refused.value.code == ua.StatusCodes.BadNoMatch
        assert (await own.get_node(folder.nodeid).get_child(name)).nodeid.Identifier == "own"


class Changes:
    """Keeps what a subscription tells."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        self.values.append(value)


async def test_the_namespace_of_the_instances_is_described_on_every_port(server: OpcUaServer) -> None:
    for url in (server.endpoint_url, server.endpoint_url_of("own")):
        async with Client(url) as client:
            namespaces = client.get_node(ua.ObjectIds.Server_Namespaces)
            own = server.namespaces["own"]
            metadata = await namespaces.get_child(ua.QualifiedName("urn:example:plant", own))
            assert await metadata.read_type_definition() == ua.NodeId(ua.ObjectIds.NamespaceMetadataType)
            values = {
                (await one.read_browse_name()).Name: await one.read_value()
                for one in await metadata.get_properties()
            }
            assert values["NamespaceUri"] == "urn:example:plant"
            assert values["IsNamespaceSubset"] is False
            assert values["StaticNodeIdTypes"] == []
            for namespace, uri in enumerate(server.namespaces.uris):
                if namespace != 1:  # what is of this server alone has no nodes
                    await namespaces.get_child(ua.QualifiedName(uri, namespace))


async def test_events_of_the_server_object_are_those_of_the_machines_on_the_port(server: OpcUaServer) -> None:
    base = ua.NodeId(ua.ObjectIds.BaseEventType)
    heard: dict[str, Events] = {}
    async with Client(server.endpoint_url) as common, Client(server.endpoint_url_of("own")) as own:
        for name, client in (("common", common), ("own", own)):
            heard[name] = Events()
            subscription = await client.create_subscription(10, heard[name])
            await subscription.subscribe_events(ua.ObjectIds.Server)
        for name in ("a", "own", "b"):
            fields = {"Message": ua.LocalizedText(name), "Severity": 100}
            server.emit_event(server.instances.get(name), [""], base, fields)
        assert await heard["own"].messages(1) == ["own"]
        assert await heard["common"].messages(2) == ["a", "b"]


class Events:
    """Keeps the messages of events."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        if event.EventType == ua.NodeId(ua.ObjectIds.BaseEventType):
            self.queue.put_nowait(event.Message.Text)

    async def messages(self, count: int) -> list[str]:
        """The first ones; and that no other comes soon."""
        found = [await asyncio.wait_for(self.queue.get(), 30) for _ in range(count)]
        await asyncio.sleep(0.1)
        assert self.queue.empty()
        return found


async def test_an_endpoint_calls_itself_by_the_port_that_was_asked(server: OpcUaServer, port: int) -> None:
    assert server.endpoint_url_of("own") == f"opc.tcp://127.0.0.1:{port}/"
    for url in (server.endpoint_url, server.endpoint_url_of("own")):
        told = await Client(url).connect_and_get_server_endpoints()
        assert {endpoint.EndpointUrl.rstrip("/") for endpoint in told} == {url.rstrip("/")}
        (found,) = await Client(url).connect_and_find_servers()
        assert [discovery.rstrip("/") for discovery in found.DiscoveryUrls] == [url.rstrip("/")]


async def test_a_machine_whose_port_is_taken_is_on_the_common_one_and_the_log_says_why(
    make_server: Callable[..., OpcUaServer],
) -> None:
    server = make_server()
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as logged:
        taken = other.getsockname()[1]
        server.give_port("own", taken)
        await server.start()
        populate(server, "a", "own")
        try:
            async with Client(server.endpoint_url) as common:
                assert await machines(common) == ["a", "own"]
            assert server.endpoint_url_of("own") == server.endpoint_url
            assert server.own_ports == frozenset()
        finally:
            await server.stop()
    (told,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert (told["port"], told["shown"]) == (taken, ["own"])
    assert "another program uses it" in told["reason"]


async def test_the_common_port_is_no_port_of_its_own(
    make_server: Callable[..., OpcUaServer], port: int
) -> None:
    server = make_server(port=port)
    server.give_port("own", port)
    await server.start()
    populate(server, "a", "own")
    try:
        async with Client(server.endpoint_url) as common:
            assert await machines(common) == ["a", "own"]
    finally:
        await server.stop()


async def test_a_short_answer_does_not_wait_for_the_one_before_it(
    client: Client, server: OpcUaServer
) -> None:
    (connection,) = server._iserver.connections
    connected = connection.transport.get_extra_info("socket")
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
