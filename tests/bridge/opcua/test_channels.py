"""Who may open a secure channel, and what ends one: seen over real sockets."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyNone,
)
from asyncua.ua.ua_binary import struct_to_binary
from cryptography.hazmat.primitives import serialization

from bridge.opcua import Limits, OpcUaServer, TrustList, transport
from bridge.opcua import server as server_module
from bridge.opcua.trust import thumbprint

from .authority import DAY, NOW, Holder, issue, revocations
from .clients import SECONDS, Mode, Raw, connected, gone, prepared
from .conftest import PASSWORD
from .test_security import node_opcua

Codes = ua.StatusCodes
CLIENT = issue()
POLICIES = [SecurityPolicyBasic256Sha256, SecurityPolicyAes128Sha256RsaOaep, SecurityPolicyAes256Sha256RsaPss]
MODES = [Mode.Sign, Mode.SignAndEncrypt]
SERVER_STATE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
Start = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The trust list's."""
    return tmp_path / "pki"


@pytest.fixture
async def start(make_server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Servers with a trust list that look at it all the time, and the user ann."""
    monkeypatch.setattr(server_module, "_LOOK_EVERY_S", 0.01)
    started = []

    async def begin(**settings: Any) -> OpcUaServer:
        server: OpcUaServer = make_server(**{"anonymous": False, "trust": TrustList(folder), **settings})
        server._iserver.logins._users.add("ann", PASSWORD)
        await server.start()
        started.append(server)
        return server

    yield begin
    for server in started:
        await server.stop()


def trust(folder: Path, holder: Holder, name: str = "client") -> None:
    certs = folder / "trusted" / "certs"
    certs.mkdir(parents=True, exist_ok=True)
    (certs / f"{name}.der").write_bytes(holder.der)


async def refusal(client: Client) -> int:
    """The status with which the client's connection is refused."""
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.connect()
    return refused.value.code


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES)
async def test_a_trusted_client_gets_in_with_every_policy_and_mode(
    start: Start, folder: Path, tmp_path: Path, policy: Any, mode: Mode
) -> None:
    trust(folder, CLIENT)
    server = await start()
    async with connected(server, CLIENT, tmp_path / "client", policy=policy, mode=mode) as client:
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
        await client.open_secure_channel(renew=True)
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


@pytest.mark.e2e
@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"])
async def test_node_opcua_gets_in_with_every_policy_once_it_is_accepted(
    start: Start, folder: Path, tmp_path: Path, policy: str
) -> None:
    server = await start()
    for mode in ("Sign", "SignAndEncrypt"):
        arguments = (server.endpoint_url, mode, str(tmp_path / "node"), "ann", PASSWORD, "", policy)
        if mode == "Sign":
            assert not (await node_opcua(*arguments))["connected"]
            waiting = TrustList(folder).rejected()
            TrustList(folder).accept(waiting[0].thumbprint)
        answer = await node_opcua(*arguments)
        assert answer["connected"], answer


async def test_an_unknown_client_is_refused_until_it_is_accepted(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    server = await start()
    assert await refusal(await prepared(server, CLIENT, tmp_path / "client")) == Codes.BadSecurityChecksFailed
    TrustList(folder).accept(thumbprint(CLIENT.certificate))
    async with connected(server, CLIENT, tmp_path / "client") as client:
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (issue(begin=NOW - 2 * DAY, end=NOW - DAY), Codes.BadCertificateTimeInvalid),
        (issue(begin=NOW + DAY), Codes.BadCertificateTimeInvalid),
        (issue(uses={"digital_signature": False}), Codes.BadCertificateUseNotAllowed),
        (issue("weak", bits=1024), Codes.BadSecurityChecksFailed),
    ],
)
async def test_a_certificate_that_may_not_be_used_is_refused_though_it_is_trusted(
    start: Start, folder: Path, tmp_path: Path, client: Holder, expected: int
) -> None:
    trust(folder, client)
    server = await start()
    assert await refusal(await prepared(server, client, tmp_path / "client")) == expected


async def test_another_application_uri_than_in_the_certificate_is_refused_and_told_once(
    start: Start, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust(folder, CLIENT)
    server = await start()
    for _ in range(2):
        client = await prepared(server, CLIENT, tmp_path / "client", uri="urn:example:other")
        assert await refusal(client) == Codes.BadCertificateUriInvalid
    assert capsys.readouterr().out.count("application URI is urn:example:other") == 1


async def test_a_client_of_an_authority_gets_in_until_it_is_revoked(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    root = issue("root", ca=True, uri=None)
    holder = issue(issuer=root)
    trust(folder, root)
    server = await start()
    crl = folder / "trusted" / "crl" / "root.crl"
    crl.write_bytes(revocations(root).public_bytes(serialization.Encoding.DER))
    async with connected(server, holder, tmp_path / "client") as client:
        crl.write_bytes(revocations(root, holder).public_bytes(serialization.Encoding.DER))
        await gone(client)
    assert await refusal(await prepared(server, holder, tmp_path / "client")) == Codes.BadSecurityChecksFailed


async def test_removing_a_certificate_ends_its_connections_and_no_others(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    other = issue("other")
    trust(folder, CLIENT)
    trust(folder, other, "other")
    server = await start()
    async with (
        connected(server, CLIENT, tmp_path / "client") as client,
        connected(server, other, tmp_path / "other") as stays,
    ):
        await client.create_subscription(100, None)  # for which a session outlives its connection
        TrustList(folder).remove(thumbprint(CLIENT.certificate))
        await gone(client)
        assert len(server._iserver._external_sessions) == 1
        assert await stays.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


async def test_where_any_client_is_accepted_the_password_decides(start: Start, tmp_path: Path) -> None:
    server = await start(trust=TrustList(tmp_path / "pki", accept_any=True))
    async with connected(server, CLIENT, tmp_path / "client") as client:
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
    client = await prepared(server, CLIENT, tmp_path / "client", password="wrong")
    assert await refusal(client) == Codes.BadUserAccessDenied


def sent_by(client: Client) -> list[bytes]:
    """Notes what the client sends from now on."""
    wire: list[bytes] = []
    write = client.uaclient.protocol.transport.write

    def noting(data: bytes) -> None:
        wire.append(data)
        write(data)

    client.uaclient.protocol.transport.write = noting  # type: ignore[method-assign]
    return wire


@pytest.fixture
async def client(start: Start, folder: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """A trusted client with a session."""
    trust(folder, CLIENT)
    async with connected(await start(), CLIENT, tmp_path / "client", mode=Mode.Sign) as client:
        yield client


async def test_a_message_that_is_sent_again_ends_the_connection(client: Client) -> None:
    wire = sent_by(client)
    await client.get_node(SERVER_STATE).read_value()
    client.uaclient.protocol.transport.write(wire[0])
    await gone(client)


async def test_a_message_out_of_order_ends_the_connection(client: Client) -> None:
    client.uaclient.protocol._connection._sequence_number += 1
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(SERVER_STATE).read_value()
    assert refused.value.code == Codes.BadSecurityChecksFailed


@pytest.mark.parametrize("position", [-1, -40, 24])
async def test_a_message_that_was_changed_ends_the_connection(client: Client, position: int) -> None:
    write = client.uaclient.protocol.transport.write

    def changing(data: bytes) -> None:
        changed = bytearray(data)
        changed[position] ^= 1
        write(bytes(changed))

    client.uaclient.protocol.transport.write = changing  # type: ignore[method-assign]
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(SERVER_STATE).read_value()
    assert refused.value.code == Codes.BadSecurityChecksFailed


async def test_a_channel_is_not_opened_a_second_time_but_renewed(client: Client) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.open_secure_channel(renew=False)
    assert refused.value.code == Codes.BadRequestTypeInvalid


async def test_messages_under_the_last_token_are_taken_until_the_new_one_is_used(client: Client) -> None:
    for _ in range(3):
        await client.open_secure_channel(renew=True)  # answered under the old token
        values = await asyncio.gather(*(client.get_node(SERVER_STATE).read_value() for _ in range(5)))
        assert values == [ua.ServerState.Running] * 5


async def test_a_channel_that_nobody_renews_ends_and_its_lifetime_has_bounds(
    start: Start, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(folder, CLIENT)
    monkeypatch.setattr(transport, "SHORTEST_LIFETIME", 300)
    monkeypatch.setattr(transport, "LONGEST_LIFETIME", 300)
    server = await start()
    client = await prepared(server, CLIENT, tmp_path / "client")
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    assert client.uaclient.protocol._connection.security_token.RevisedLifetime == 300
    await gone(client)


async def take_over(client: Client, new: Client, user: str = "ann") -> None:
    """Activate the session of `client` on a channel of `new`."""
    await new.connect_socket()
    await new.send_hello()
    await new.open_secure_channel()
    new.uaclient.protocol.authentication_token = client.uaclient.protocol.authentication_token
    new._server_nonce = client._server_nonce
    new._policy_ids = client._policy_ids
    await new.activate_session(user, PASSWORD)


async def test_a_client_takes_its_session_to_a_new_channel(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    trust(folder, CLIENT)
    server = await start()
    async with connected(server, CLIENT, tmp_path / "client") as client:
        new = await prepared(server, CLIENT, tmp_path / "client")
        await take_over(client, new)
        with pytest.raises(ua.UaStatusCodeError):
            await client.get_node(SERVER_STATE).read_value()
        assert await new.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
        new.disconnect_socket()


@pytest.mark.parametrize(
    ("name", "user", "expected"),
    [
        ("thief", "ann", Codes.BadSecurityChecksFailed),
        ("client", "bob", Codes.BadIdentityChangeNotSupported),
    ],
)
async def test_a_session_cannot_be_taken_over_by_another_client_or_user(
    start: Start, folder: Path, tmp_path: Path, name: str, user: str, expected: int
) -> None:
    holder = CLIENT if name == "client" else issue(name)
    trust(folder, CLIENT)
    trust(folder, holder, name)
    server = await start()
    server._iserver.logins._users.add("bob", PASSWORD)
    async with connected(server, CLIENT, tmp_path / "client") as client:
        new = await prepared(server, holder, tmp_path / "new")
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await take_over(client, new, user)
        assert refused.value.code == expected
        new.disconnect_socket()
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


async def test_a_request_with_the_token_of_another_session_is_refused(client: Client) -> None:
    client.uaclient.protocol.authentication_token = ua.NodeId(1001)
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(SERVER_STATE).read_value()
    assert refused.value.code == Codes.BadSessionIdInvalid


@pytest.mark.parametrize("size", [65536, 2**31, 2**32 - 1])
async def test_a_chunk_that_says_it_is_too_long_is_not_waited_for(start: Start, size: int) -> None:
    raw = await Raw.to(await start())
    await raw.greet()
    raw.send(b"OPNF" + size.to_bytes(4, "little") + bytes(100))
    assert await raw.error() == Codes.BadTcpMessageTooLarge


async def test_a_chunk_that_is_too_long_is_found_however_it_arrives(start: Start) -> None:
    raw = await Raw.to(await start())
    await raw.greet()
    for byte in b"OPNF" + (2**31).to_bytes(4, "little"):
        raw.send(bytes([byte]))
        await raw.writer.drain()
        await asyncio.sleep(0)
    assert await raw.error() == Codes.BadTcpMessageTooLarge


@pytest.mark.parametrize("kind", [b"HEL", b"OPN", b"MSG", b"CLO", b"ACK", b"ERR", b"RHE", b"GET"])
async def test_nonsense_ends_its_connection_and_disturbs_nobody(
    start: Start, folder: Path, tmp_path: Path, kind: bytes
) -> None:
    trust(folder, CLIENT)
    server = await start()
    chance = random.Random(kind)
    async with connected(server, CLIENT, tmp_path / "client") as client:
        for greeted in (False, True):
            for chunk in b"FCAx":
                raw = await Raw.to(server)
                if greeted:
                    await raw.greet()
                body = chance.randbytes(chance.randrange(4, 500))
                raw.send(kind + bytes([chunk]) + (8 + len(body)).to_bytes(4, "little") + body)
                raw.send(b"nonsense")  # after what may have been a greeting by chance
                await raw.said_no()
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


async def test_a_client_without_a_session_cannot_fill_the_memory(start: Start) -> None:
    raw = await Raw.to(await start())
    await raw.greet()
    connection = SecureConnection(SecurityPolicyNone(), TransportLimits())
    request = ua.OpenSecureChannelRequest()
    request.Parameters.SecurityMode = Mode.None_
    request.Parameters.RequestedLifetime = 3_600_000
    raw.send(connection.message_to_binary(struct_to_binary(request), ua.MessageType.SecureOpen, 1))
    kind, body = await raw.receive()
    assert kind == b"OPN"
    channel = int.from_bytes(body[:4], "little")
    connection.security_token = ua.ChannelSecurityToken(ChannelId=channel, TokenId=13)
    raw.send(connection.message_to_binary(bytes(10_000_000), request_id=2))
    assert await raw.error() == Codes.BadTcpMessageTooLarge


async def test_a_message_of_too_many_chunks_ends_the_connection(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    trust(folder, CLIENT)
    server = await start()
    server._binaries[0].limits.max_chunk_count = 3
    async with connected(server, CLIENT, tmp_path / "client") as client:
        long = [client.get_node(ua.NodeId("x" * 1000, 2)) for _ in range(100)]
        assert len(await client.read_attributes(long, ua.AttributeIds.NodeClass)) == 100
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await client.read_attributes(long * 3, ua.AttributeIds.NodeClass)
        assert refused.value.code == Codes.BadRequestTooLarge
        await gone(client)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"MSGF" + (32).to_bytes(4, "little") + bytes(24), Codes.BadTcpSecureChannelUnknown),
        (b"CLOF" + (32).to_bytes(4, "little") + bytes(24), Codes.BadTcpSecureChannelUnknown),
        (b"OPNC" + (32).to_bytes(4, "little") + bytes(24), Codes.BadTcpMessageTypeInvalid),
        (b"OPNF" + (32).to_bytes(4, "little") + bytes(24), Codes.BadSecurityChecksFailed),
        (b"HELF" + (32).to_bytes(4, "little") + bytes(24), Codes.BadTcpMessageTypeInvalid),
    ],
)
async def test_after_the_greeting_nothing_comes_before_the_channel(
    start: Start, message: bytes, expected: int
) -> None:
    raw = await Raw.to(await start())
    await raw.greet()
    raw.send(message)
    assert await raw.error() == expected


async def test_a_connection_that_does_not_begin_with_a_greeting_is_ended(start: Start) -> None:
    raw = await Raw.to(await start())
    raw.send(b"OPNF" + (32).to_bytes(4, "little") + bytes(24))
    assert await raw.error() == Codes.BadTcpMessageTypeInvalid


async def test_buffers_that_are_too_small_to_talk_are_refused(start: Start) -> None:
    raw = await Raw.to(await start())
    await raw.greet(buffer_size=100)
    assert await raw.error() == Codes.BadConnectionRejected


@pytest.mark.parametrize("greeted", [False, True])
async def test_a_connection_that_goes_no_further_is_ended(start: Start, greeted: bool) -> None:
    raw = await Raw.to(await start(activation_timeout=0.2))
    if greeted:
        await raw.greet()
    await raw.ended()


async def test_a_channel_without_a_session_is_ended(start: Start, folder: Path, tmp_path: Path) -> None:
    trust(folder, CLIENT)
    client = await prepared(await start(activation_timeout=0.5), CLIENT, tmp_path / "client")
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    await gone(client)


async def test_of_too_many_connections_the_oldest_without_a_session_makes_room(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    trust(folder, CLIENT)
    server = await start(limits=Limits(connections=3))
    async with connected(server, CLIENT, tmp_path / "client") as client:
        oldest, second = await Raw.to(server), await Raw.to(server)
        await oldest.greet()
        await second.greet()
        newest = await Raw.to(server)
        await newest.greet()
        await oldest.ended()
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
        second.writer.close()
        newest.writer.close()


async def test_sessions_keep_their_places_when_there_are_too_many_connections(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    trust(folder, CLIENT)
    server = await start(limits=Limits(connections=1))
    async with connected(server, CLIENT, tmp_path / "client") as client:
        await (await Raw.to(server)).ended()
        async with asyncio.timeout(SECONDS):
            assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
