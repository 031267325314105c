"""The diagnostics nodes say what goes on at the moment they are read; what is about users is not for everybody."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge.opcua import Limits, OpcUaServer, Role

from .conftest import PASSWORD, secure_client

Ids = ua.ObjectIds
Codes = ua.StatusCodes
SUMMARY = Ids.Server_ServerDiagnostics_ServerDiagnosticsSummary
SESSIONS = Ids.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray
SECURITY = Ids.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray
SUBSCRIPTIONS = Ids.Server_ServerDiagnostics_SubscriptionDiagnosticsArray
PATIENCE = 30  # seconds; against hanging only


class Recorder:
    """Keeps what a subscription told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.queue.put_nowait(value)


async def read(client: Client, number: int) -> Any:
    return await client.get_node(ua.NodeId(number)).read_value()


async def test_diagnostics_are_on(client: Client) -> None:
    assert await read(client, Ids.Server_ServerDiagnostics_EnabledFlag) is True
    assert await read(client, Ids.Server_ServerDiagnostics_SamplingIntervalDiagnosticsArray) == []


async def test_the_summary_counts_sessions_and_subscriptions(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(sessions=2))
    await server.start()
    async with Client(server.endpoint_url) as client:
        async with Client(server.endpoint_url) as other:
            await other.create_subscription(100, Recorder())
            await other.create_subscription(200, Recorder())
            summary = await read(client, SUMMARY)
            assert (summary.CurrentSessionCount, summary.CumulatedSessionCount) == (2, 2)
            assert (summary.CurrentSubscriptionCount, summary.PublishingIntervalCount) == (2, 2)
            with pytest.raises(ua.UaStatusCodeError):
                await Client(server.endpoint_url).connect()
        summary = await read(client, SUMMARY)
        assert (summary.CurrentSessionCount, summary.CumulatedSessionCount) == (1, 2)
        assert (summary.CurrentSubscriptionCount, summary.CumulatedSubscriptionCount) == (0, 2)
        assert (summary.RejectedSessionCount, summary.SecurityRejectedSessionCount) == (1, 0)
        assert (summary.SessionTimeoutCount, summary.SessionAbortCount) == (0, 0)
        assert summary.RejectedRequestsCount == 1
        part = Ids.Server_ServerDiagnostics_ServerDiagnosticsSummary_CumulatedSubscriptionCount
        assert (await client.get_node(ua.NodeId(part)).read_data_value()).Value == ua.Variant(
            2, ua.VariantType.UInt32
        )
    await server.stop()


async def test_a_lost_connection_and_a_timeout_are_counted(server: OpcUaServer, client: Client) -> None:
    lost = Client(server.endpoint_url)
    await lost.connect()
    lost.disconnect_socket()
    server._iserver.min_session_timeout_ms = 10
    silent = Client(server.endpoint_url)
    silent.session_timeout = 10
    await silent.connect_socket()
    await silent.send_hello()
    await silent.open_secure_channel()
    await silent.create_session()
    await silent.activate_session()
    async with asyncio.timeout(PATIENCE):
        while len(server._iserver._external_sessions) > 1:
            await asyncio.sleep(0.01)
    summary = await read(client, SUMMARY)
    assert (summary.SessionAbortCount, summary.SessionTimeoutCount) == (1, 1)
    silent.disconnect_socket()


async def test_a_session_says_who_it_is_and_what_it_asked_for(server: OpcUaServer) -> None:
    client = Client(server.endpoint_url)
    client.name, client.description = "A" * 1000, "the description"
    client.application_uri, client.session_timeout = "urn:example:client", 60_000
    async with client:
        subscription = await client.create_subscription(100, Recorder())
        await subscription.subscribe_data_change(client.get_node(ua.NodeId(Ids.Server_ServiceLevel)))
        await client.nodes.objects.get_children()
        with pytest.raises(ua.UaStatusCodeError):
            await client.uaclient.read(ua.ReadParameters())
        (session,) = await read(client, SESSIONS)
        assert session.ClientDescription.ApplicationUri == "urn:example:client"
        assert session.SessionName.startswith("the description")
        assert session.ClientDescription.ApplicationName.Text == "A" * 256  # no longer text than is useful
        assert session.EndpointUrl == server.endpoint_url
        assert session.ActualSessionTimeout == 60_000
        assert session.ClientConnectionTime <= session.ClientLastContactTime
        assert (session.CurrentSubscriptionsCount, session.CurrentMonitoredItemsCount) == (1, 1)
        assert (session.BrowseCount.TotalCount, session.BrowseCount.ErrorCount) == (1, 0)
        assert (session.ReadCount.TotalCount, session.ReadCount.ErrorCount) == (1, 1)
        assert session.CreateSubscriptionCount.TotalCount == 1
        assert session.TotalRequestCount.TotalCount > session.ReadCount.TotalCount
        assert session.TotalRequestCount.ErrorCount == 1
        assert session.UnauthorizedRequestCount == 0
        again = (await read(client, SESSIONS))[0]
        assert again.ReadCount.TotalCount == session.ReadCount.TotalCount + 1


async def test_a_subscription_says_how_it_stands(server: OpcUaServer, client: Client) -> None:
    told = Recorder()
    subscription = await client.create_subscription(250, told)
    await subscription.subscribe_data_change(client.get_node(ua.NodeId(Ids.Server_ServiceLevel)))
    await asyncio.wait_for(told.queue.get(), PATIENCE)
    (shown,) = await read(client, SUBSCRIPTIONS)
    (session,) = await read(client, SESSIONS)
    assert (shown.SubscriptionId, shown.SessionId) == (subscription.subscription_id, session.SessionId)
    assert (shown.PublishingInterval, shown.PublishingEnabled) == (250.0, True)
    assert (shown.MonitoredItemCount, shown.DisabledMonitoredItemCount) == (1, 0)
    assert shown.NextSequenceNumber == 2
    await subscription.delete()
    assert await read(client, SUBSCRIPTIONS) == []


async def test_monitored_diagnostics_are_told(server: OpcUaServer, client: Client) -> None:
    told = Recorder()
    subscription = await client.create_subscription(10, told)
    count = Ids.Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount
    await subscription.subscribe_data_change(client.get_node(ua.NodeId(count)))
    assert await asyncio.wait_for(told.queue.get(), PATIENCE) == 1
    async with Client(server.endpoint_url):
        assert await asyncio.wait_for(told.queue.get(), PATIENCE) == 2


async def test_what_is_about_users_is_for_operators_alone(make_server, tmp_path: Path) -> None:
    server: OpcUaServer = make_server(anonymous=False)
    server._iserver.logins._users.add("ann", PASSWORD)
    await server.start()
    mode = ua.MessageSecurityMode.SignAndEncrypt
    async with secure_client(server, tmp_path / "client", mode, "ann", PASSWORD) as client:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await read(client, SECURITY)
        assert refused.value.code == Codes.BadUserAccessDenied
        told = Recorder()
        subscription = await client.create_subscription(10, told)
        await subscription.subscribe_data_change(client.get_node(ua.NodeId(SECURITY)))
        assert await asyncio.wait_for(told.queue.get(), PATIENCE) is None
        server._iserver.logins._users.set_role("ann", Role.OPERATOR)
        (session,) = await read(client, SECURITY)
        assert (session.ClientUserIdOfSession, session.ClientUserIdHistory) == ("ann", ["ann"])
        assert (session.AuthenticationMechanism, session.TransportProtocol) == ("UserName", "opc.tcp")
        assert session.SecurityMode == mode
        assert session.SecurityPolicyUri.endswith("#Basic256Sha256")
        assert session.ClientCertificate == (tmp_path / "client" / "certificate.der").read_bytes()
    await server.stop()


async def test_a_value_is_made_once_for_a_request_and_anew_for_the_next(
    server: OpcUaServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    diagnostics = server._iserver.diagnostics
    summary = diagnostics.summary
    monkeypatch.setattr(diagnostics, "summary", lambda: made.append(1) or summary())
    value = ua.ReadValueId(ua.NodeId(SUMMARY), ua.AttributeIds.Value)
    await client.uaclient.read(ua.ReadParameters(NodesToRead=[value] * 100))
    assert len(made) == 1
    async with Client(server.endpoint_url):
        assert (await read(client, SUMMARY)).CurrentSessionCount == 2
