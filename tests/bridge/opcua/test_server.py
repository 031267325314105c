"""The server says the truth about itself, listens only where it should, starts quietly and stops cleanly."""

import asyncio
import logging
import socket
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from asyncua import Client, ua
from structlog.testing import capture_logs

from bridge.opcua import AddressUnavailable, BuildInfo, CertificateError, Limits, OpcUaServer

Ids = ua.ObjectIds


async def value(client: Client, number: int) -> object:
    return await client.get_node(ua.NodeId(number)).read_value()


async def test_build_info_and_uris_are_the_applications_own(make_server) -> None:
    built = datetime(2026, 1, 2, tzinfo=UTC)
    server: OpcUaServer = make_server(
        build_info=BuildInfo("urn:example:product", "Example Ltd", "Bridge", "1.2.3", "77", built)
    )
    await server.start()
    async with Client(server.endpoint_url) as client:
        info = await value(client, Ids.Server_ServerStatus_BuildInfo)
        assert (info.ProductUri, info.ManufacturerName, info.ProductName) == (
            "urn:example:product",
            "Example Ltd",
            "Bridge",
        )
        assert (info.SoftwareVersion, info.BuildNumber, info.BuildDate) == ("1.2.3", "77", built)
        status = await value(client, Ids.Server_ServerStatus)
        assert status.BuildInfo == info
        assert status.State == ua.ServerState.Running
        uris = await client.get_namespace_array()
        assert uris[1] == server.application_uri
        assert (await value(client, Ids.Server_ServerArray)) == [server.application_uri]
        assert uris[server.namespaces["own"]] == "urn:example:plant"
        assert [uris[server.namespaces[prefix]] for prefix in ("di", "mt", "am")] == [
            "http://opcfoundation.org/UA/DI/",
            "http://opcfoundation.org/UA/MachineTool/",
            "http://opcfoundation.org/UA/AdditiveManufacturing/",
        ]
        described = (await client.get_endpoints())[0].Server
        assert described.ApplicationType == ua.ApplicationType.Server
        assert (described.ApplicationUri, described.ProductUri) == (
            server.application_uri,
            "urn:example:product",
        )
    await server.stop()


async def test_capabilities_tell_the_limits_that_are_kept(make_server) -> None:
    server: OpcUaServer = make_server(
        limits=Limits(
            sessions=7,
            subscriptions=8,
            subscriptions_per_session=3,
            monitored_items=90,
            monitored_items_per_subscription=50,
            queue_size=20,
            select_clauses=30,
            where_elements=5,
            operations=60,
            method_calls=4,
            continuation_points=2,
            message_size=100_000,
            array_length=5000,
        ),
        min_publishing_interval=25.0,
    )
    await server.start()
    async with Client(server.endpoint_url) as client:
        told = {
            (await child.read_browse_name()).Name: await child.read_data_value()
            for folder in (Ids.Server_ServerCapabilities, Ids.Server_ServerCapabilities_OperationLimits)
            for child in await client.get_node(ua.NodeId(folder)).get_properties()
        }
        limits = {name: value for name, value in told.items() if name.startswith("MaxNodesPer")}
        per_call = limits.pop("MaxNodesPerMethodCall")
        assert per_call.Value.Value == 4
        assert len(limits) == 10
        assert {value.Value.Value for value in limits.values()} == {60}
        expected = {
            "MaxMonitoredItemsPerCall": 60,
            "MaxSessions": 7,
            "MaxSubscriptions": 8,
            "MaxSubscriptionsPerSession": 3,
            "MaxMonitoredItems": 90,
            "MaxMonitoredItemsPerSubscription": 50,
            "MaxMonitoredItemsQueueSize": 20,
            "MaxSelectClauseParameters": 30,
            "MaxWhereClauseParameters": 5,
            "MaxArrayLength": 5000,
            "MaxStringLength": 100_000,
            "MaxByteStringLength": 100_000,
            "MaxBrowseContinuationPoints": 2,
            "MaxQueryContinuationPoints": 0,
            "MaxHistoryContinuationPoints": 0,
            "MinSupportedSampleRate": 25.0,
            "LocaleIdArray": ["en"],
            "ServerProfileArray": ["http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"],
            "SoftwareCertificates": [],
        }
        assert {name: told[name].Value.Value for name in expected} == expected
        types = {name: told[name].Value.VariantType for name in expected}
        assert types["MaxSessions"] == ua.VariantType.UInt32
        assert types["MaxBrowseContinuationPoints"] == ua.VariantType.UInt16
    await server.stop()


async def test_no_history_is_promised(client: Client) -> None:
    assert await value(client, Ids.HistoryServerCapabilities_AccessHistoryDataCapability) in (False, None)


async def test_a_taken_port_is_named_with_a_remedy(make_server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            AddressUnavailable, match=rf"127\.0\.0\.1:{port}: another program uses it: stop"
        ) as refused:
            await make_server(port=port).start()
    assert isinstance(refused.value.__cause__, OSError)


async def test_a_host_name_nobody_knows_is_refused(make_server) -> None:
    with pytest.raises(AddressUnavailable, match=r"nowhere\.invalid:0: this machine has no such address"):
        await make_server(host="nowhere.invalid").start()


async def test_a_certificate_that_cannot_be_used_leaves_nothing_listening(make_server, tmp_path) -> None:
    (tmp_path / "certificate.der").write_bytes(b"nonsense")
    server = make_server(certificate_folder=tmp_path)
    with pytest.raises(CertificateError):
        await server.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_an_address_of_another_machine_is_refused(make_server) -> None:
    with pytest.raises(AddressUnavailable, match=r"192\.0\.2\.1:0: this machine has no such address"):
        await make_server(host="192.0.2.1").start()


async def test_only_the_chosen_address_is_bound(server: OpcUaServer) -> None:
    assert server.endpoint_url == f"opc.tcp://127.0.0.1:{server.port}/"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", server.port)


async def test_a_stopped_server_frees_its_port_and_leaves_no_task(make_server) -> None:
    before = asyncio.all_tasks()
    server = make_server()
    await server.start()
    client = Client(server.endpoint_url)
    await client.connect()
    await server.stop()
    await client.disconnect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
    again = make_server(port=server.port)
    await again.start()
    await again.stop()


async def test_a_server_that_could_not_start_can_be_started_again(make_server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = make_server(port=taken.getsockname()[1])
        with pytest.raises(AddressUnavailable):
            await server.start()
    await server.start()
    await server.stop()


def test_asyncua_writes_nothing_of_its_own(tmp_path) -> None:
    program = f"""
import asyncio, pathlib, structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
from bridge.opcua import BuildInfo, OpcUaServer, Users
folder = pathlib.Path({str(tmp_path)!r})
async def main():
    server = OpcUaServer(host="127.0.0.1", port=0, instance_namespace_uri="urn:x", application_name="X",
        certificate_folder=folder, users=Users(folder / "u"), build_info=BuildInfo("urn:p", "m", "p", "1"))
    await server.start()
    await server.stop()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_warnings_of_asyncua_reach_structlog(make_server, capsys) -> None:
    make_server()
    logging.getLogger("asyncua.server.history").warning("disk full: %s", "x")
    assert "disk full: x" in capsys.readouterr().out


async def test_only_so_many_sessions_are_open_at_once(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(sessions=2))
    await server.start()
    async with Client(server.endpoint_url) as first, Client(server.endpoint_url):
        with capture_logs() as logs, pytest.raises(ua.UaStatusCodeError) as refused:
            await Client(server.endpoint_url).connect()
        assert refused.value.code == ua.StatusCodes.BadTooManySessions
        assert [entry["limit"] for entry in logs if "too many sessions" in entry["event"]] == [2]
        assert await first.get_namespace_array()
    async with Client(server.endpoint_url) as client:
        assert await client.get_namespace_array()
    await server.stop()


async def test_sessions_that_nobody_activates_make_room_for_others(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(sessions=2))
    await server.start()
    idle = [Client(server.endpoint_url) for _ in range(2)]
    for client in idle:
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        for _ in range(3):  # asyncua would forget all but the last
            await client.create_session()
    assert len(server._iserver._external_sessions) == 2
    async with Client(server.endpoint_url) as client:
        assert await client.get_namespace_array()
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await idle[0].activate_session()
    assert refused.value.code == ua.StatusCodes.BadSessionIdInvalid
    await idle[1].activate_session()
    assert await idle[1].get_namespace_array()
    for client in idle:
        await client.close_secure_channel()
        client.disconnect_socket()
    await server.stop()
