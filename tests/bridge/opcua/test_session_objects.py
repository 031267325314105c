"""Each session has an object of its diagnostics, which operators and its own user find, and nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge.opcua import OpcUaServer, Role
from bridge.opcua.session_objects import FOLDER

from .authority import issue
from .clients import connected
from .conftest import PASSWORD

Codes = ua.StatusCodes
Mode = ua.MessageSecurityMode
CLIENT = issue()


@pytest.fixture
async def server(make_server: Any) -> AsyncIterator[OpcUaServer]:
    """A server with two observers and an operator."""
    server: OpcUaServer = make_server(anonymous=False)
    users = server._iserver.logins._users
    for name, role in (("ann", Role.OBSERVER), ("bob", Role.OBSERVER), ("olga", Role.OPERATOR)):
        users.add(name, PASSWORD, role)
    await server.start()
    yield server
    await server.stop()


async def objects(client: Client) -> list[Any]:
    return list(await client.get_node(FOLDER).get_children(nodeclassmask=ua.NodeClass.Object))


async def value(client: Client, session: Any, path: str) -> Any:
    return await client.get_node(
        ua.NodeId(f"{session.nodeid.Identifier}.{path}", session.nodeid.NamespaceIndex)
    ).read_value()


async def users_seen(client: Client) -> list[str]:
    path = "SessionSecurityDiagnostics.ClientUserIdOfSession"
    return sorted([await value(client, one, path) for one in await objects(client)])


async def test_everybody_finds_his_own_sessions_and_an_operator_all(
    server: OpcUaServer, tmp_path: Path
) -> None:
    async with (
        connected(server, CLIENT, tmp_path, user="ann") as ann,
        connected(server, CLIENT, tmp_path, user="ann"),
        connected(server, CLIENT, tmp_path, user="bob") as bob,
        connected(server, CLIENT, tmp_path, user="olga") as olga,
    ):
        assert await users_seen(ann) == ["ann", "ann"]
        assert await users_seen(bob) == ["bob"]
        assert await users_seen(olga) == ["ann", "ann", "bob", "olga"]
        (of_bob,) = await objects(bob)
        with pytest.raises(ua.UaStatusCodeError) as refused:  # who knows the id finds nothing there either
            await value(ann, of_bob, "SessionSecurityDiagnostics")
        assert refused.value.code == Codes.BadNodeIdUnknown
        assert await ann.get_node(of_bob.nodeid).get_children() == []
        server._iserver.logins._users.set_role("ann", Role.OPERATOR)
        assert len(await objects(ann)) == 4  # another role counts for the next request


async def test_the_object_tells_what_the_arrays_tell(server: OpcUaServer, tmp_path: Path) -> None:
    async with connected(server, CLIENT, tmp_path, user="ann") as client:
        subscription = await client.create_subscription(100, None)
        (one,) = await objects(client)
        assert await one.read_type_definition() == ua.NodeId(ua.ObjectIds.SessionDiagnosticsObjectType)
        assert (await one.get_parent()).nodeid == FOLDER
        whole = await value(client, one, "SessionDiagnostics")
        assert whole.SessionId == one.nodeid  # the SessionId leads to it (Part 4, 5.7.2)
        assert await value(client, one, "SessionDiagnostics.SessionName") == whole.SessionName
        assert (await one.read_browse_name()).Name == whole.SessionName
        before = await value(client, one, "SessionDiagnostics.ReadCount")
        assert (await value(client, one, "SessionDiagnostics.ReadCount")).TotalCount == before.TotalCount + 1
        security = await value(client, one, "SessionSecurityDiagnostics")
        assert (security.ClientUserIdOfSession, security.SecurityMode) == ("ann", Mode.SignAndEncrypt)
        assert await value(client, one, "SessionSecurityDiagnostics.Encoding") == "UA Binary"
        (listed,) = await value(client, one, "SubscriptionDiagnosticsArray")
        assert listed.SubscriptionId == subscription.subscription_id
        for variable in await one.get_children():
            for part in await variable.get_children():
                assert (await part.read_data_value()).StatusCode.is_good()


async def test_every_variable_has_the_type_that_it_declares(server: OpcUaServer, tmp_path: Path) -> None:
    async with connected(server, CLIENT, tmp_path, user="ann") as client:
        (one,) = await objects(client)
        for path, node in server.instances.find(one.nodeid).instance.template.paths.items():
            if path:
                held = await client.get_node(
                    server.instances.find(one.nodeid).instance.node_id(path)
                ).read_data_value()
                assert held.Value.VariantType is node.value_type.built_in, path


async def test_an_object_goes_with_its_session(server: OpcUaServer, tmp_path: Path) -> None:
    async with connected(server, CLIENT, tmp_path, user="olga") as olga:
        async with connected(server, CLIENT, tmp_path, user="ann") as ann:
            (of_ann,) = await objects(ann)
            assert len(await objects(olga)) == 2
        assert len(await objects(olga)) == 1
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await value(olga, of_ann, "SessionDiagnostics")
        assert refused.value.code == Codes.BadNodeIdUnknown


async def test_what_is_about_security_is_told_over_encrypted_channels_alone(
    server: OpcUaServer, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path, user="olga", mode=Mode.Sign) as client:
        (one,) = await objects(client)
        assert (await value(client, one, "SessionDiagnostics")).SessionId == one.nodeid
        array = (
            ua.ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray
        )
        for node in ("SessionSecurityDiagnostics", "SessionSecurityDiagnostics.ClientCertificate"):
            with pytest.raises(ua.UaStatusCodeError) as refused:
                await value(client, one, node)
            assert refused.value.code == Codes.BadSecurityModeInsufficient
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await client.get_node(ua.NodeId(array)).read_value()
        assert refused.value.code == Codes.BadSecurityModeInsufficient


async def test_it_is_read_and_not_monitored(server: OpcUaServer, tmp_path: Path) -> None:
    async with connected(server, CLIENT, tmp_path, user="olga") as client:
        (one,) = await objects(client)
        subscription = await client.create_subscription(100, None)
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await subscription.subscribe_data_change(client.get_node(one.nodeid), ua.AttributeIds.DisplayName)
        assert refused.value.code == Codes.BadNodeIdUnknown


async def test_an_anonymous_operator_sees_no_session_but_its_own(make_server: Any, tmp_path: Path) -> None:
    server: OpcUaServer = make_server(anonymous=True, anonymous_role=Role.OPERATOR)
    server._iserver.logins._users.add("ann", PASSWORD)
    await server.start()
    try:
        async with (
            connected(server, CLIENT, tmp_path / "ann", user="ann") as ann,
            Client(server.endpoint_url) as anybody,
        ):
            assert len(await objects(anybody)) == 1
            (of_ann,) = await objects(ann)
            with pytest.raises(ua.UaStatusCodeError):
                await anybody.get_node(of_ann.nodeid).read_browse_name()
    finally:
        await server.stop()


async def test_what_is_unknown_is_looked_up_once_for_a_request(server: OpcUaServer, tmp_path: Path) -> None:
    async with connected(server, CLIENT, tmp_path / "ann", user="ann") as client:
        asked = []
        logins = server._iserver.logins
        role = logins.role
        logins.role = lambda user: asked.append(user) or role(user)
        unknown = [ua.NodeId(f"nobody{number}", server.namespaces.own) for number in range(500)]
        told = await client.uaclient.read_attributes(unknown, ua.AttributeIds.DisplayName)
        assert {value.StatusCode.value for value in told} == {Codes.BadNodeIdUnknown}
        assert len(asked) < 10


async def test_nothing_is_made_while_nobody_looks(
    server: OpcUaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("bridge.opcua.session_objects.SessionObject", lambda *_: made.append(1))
    async with connected(server, CLIENT, tmp_path, user="ann") as client:
        await client.nodes.server.get_children()
    assert made == []
