"""A client cannot exhaust the server: what asks too much is refused, and everybody else goes on being served."""

import asyncio
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from asyncua import Client, ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua import ua_binary

from bridge.opcua import Limits, OpcUaServer
from bridge.opcua.connections import MESSAGES_WAITING

from .conftest import PASSWORD, secure_client

Ids = ua.ObjectIds
Codes = ua.StatusCodes
PATIENCE = 30  # seconds; against hanging only
SMALL = Limits(
    operations=5,
    method_calls=2,
    subscriptions=3,
    subscriptions_per_session=2,
    monitored_items=8,
    monitored_items_per_subscription=4,
    select_clauses=3,
    where_elements=2,
    message_size=100_000,
    array_length=1000,
)
SERVER_OBJECT = ua.NodeId(Ids.Server)
STATUS = ua.NodeId(Ids.Server_ServerStatus)


@pytest.fixture
async def small(make_server: Callable[..., OpcUaServer]) -> AsyncIterator[OpcUaServer]:
    """A server with little patience."""
    server = make_server(limits=SMALL)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def guest(small: OpcUaServer) -> AsyncIterator[Client]:
    async with Client(small.endpoint_url) as client:
        yield client


async def refusal(request: object) -> int:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await request  # type: ignore[misc]
    return int(refused.value.code)


def requests(client: Client, count: int) -> dict[str, Callable[[], object]]:
    """By service a request for so many operations."""
    session = client.uaclient
    item = ua.MonitoredItemCreateRequest(ItemToMonitor=ua.ReadValueId(NodeId=STATUS, AttributeId=13))
    return {
        "read": lambda: session.read(ua.ReadParameters(NodesToRead=[ua.ReadValueId(STATUS, 13)] * count)),
        "write": lambda: session.write(ua.WriteParameters([ua.WriteValue(STATUS, 13)] * count)),
        "browse": lambda: session.browse(
            ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription(STATUS)] * count)
        ),
        "browse next": lambda: session.browse_next(
            ua.BrowseNextParameters(ContinuationPoints=[b"point"] * count)
        ),
        "translate": lambda: session.translate_browsepaths_to_nodeids([ua.BrowsePath(STATUS)] * count),
        "register": lambda: session.register_nodes([STATUS] * count),
        "unregister": lambda: session.unregister_nodes([STATUS] * count),
        "create items": lambda: session.create_monitored_items(
            ua.CreateMonitoredItemsParameters(SubscriptionId=1, ItemsToCreate=[item] * count)
        ),
        "modify items": lambda: session.modify_monitored_items(
            ua.ModifyMonitoredItemsParameters(
                SubscriptionId=1, ItemsToModify=[ua.MonitoredItemModifyRequest()] * count
            )
        ),
        "delete items": lambda: session.delete_monitored_items(
            ua.DeleteMonitoredItemsParameters(SubscriptionId=1, MonitoredItemIds=[1] * count)
        ),
        "delete subscriptions": lambda: session.delete_subscriptions([1] * count),
    }


SERVICES = list(requests(Client("opc.tcp://nowhere:1"), 1))


@pytest.mark.parametrize("service", SERVICES)
async def test_none_and_too_many_operations_are_refused(guest: Client, service: str) -> None:
    assert await refusal(requests(guest, 0)[service]()) == Codes.BadNothingToDo
    assert await refusal(requests(guest, 6)[service]()) == Codes.BadTooManyOperations


@pytest.mark.parametrize("service", ["read", "write", "browse", "browse next", "translate", "register"])
async def test_as_many_operations_as_are_allowed_are_done(guest: Client, service: str) -> None:
    assert len(await requests(guest, 5)[service]()) == 5  # type: ignore[misc]


async def test_calls_have_a_limit_of_their_own(guest: Client) -> None:
    call = ua.CallMethodRequest(ObjectId=SERVER_OBJECT, MethodId=ua.NodeId(Ids.Server_GetMonitoredItems))
    assert await refusal(guest.uaclient.call([])) == Codes.BadNothingToDo
    assert await refusal(guest.uaclient.call([call] * 3)) == Codes.BadTooManyOperations
    assert len(await guest.uaclient.call([call] * 2)) == 2


async def test_only_the_server_adds_and_deletes_nodes(guest: Client) -> None:
    assert await refusal(guest.uaclient.add_nodes([ua.AddNodesItem()])) == Codes.BadUserAccessDenied


async def test_arrays_longer_than_allowed_are_not_even_decoded(guest: Client) -> None:
    nulls = ua.Variant([0] * 1001, ua.VariantType.Byte)
    call = ua.CallMethodRequest(SERVER_OBJECT, ua.NodeId(Ids.Server_GetMonitoredItems), [nulls])
    assert await refusal(guest.uaclient.call([call])) == Codes.BadEncodingLimitsExceeded
    call.InputArguments = [ua.Variant([0] * 400, ua.VariantType.Byte)] * 3  # the limit is for all together
    assert await refusal(guest.uaclient.call([call])) == Codes.BadEncodingLimitsExceeded
    assert await guest.get_namespace_array()


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        (b"\x80" + struct.pack("<i", 2**31 - 1), Codes.BadEncodingLimitsExceeded),  # Nulls take no bytes each
        (b"\xc3" + struct.pack("<iBiii", 1, 7, 2, 2**20, 2**10), Codes.BadDecodingError),
        (b"\xc3" + struct.pack("<iBiii", 1, 7, 2, -1, -1), Codes.BadDecodingError),
        (b"\x18" * 3000, Codes.BadDecodingError),
        (b"\x3f", Codes.BadDecodingError),
    ],
)
async def test_bytes_that_claim_to_be_more_than_they_are_do_no_harm(
    guest: Client, monkeypatch: pytest.MonkeyPatch, encoded: bytes, code: int
) -> None:
    plain = ua_binary.variant_to_binary
    marker = ua.Variant("marker", ua.VariantType.String)
    call = ua.CallMethodRequest(SERVER_OBJECT, ua.NodeId(Ids.Server_GetMonitoredItems), [marker])
    body = ua_binary.struct_to_binary(ua.CallRequest(Parameters=ua.CallParameters([call])))
    evil = body.replace(plain(marker), encoded)
    monkeypatch.setattr(
        "asyncua.client.ua_client.struct_to_binary",
        lambda request: evil_of(request, plain(marker), encoded),
    )
    assert evil != body
    assert await asyncio.wait_for(refusal(guest.uaclient.call([call])), PATIENCE) == code
    assert await guest.get_namespace_array()


def evil_of(request: object, marker: bytes, encoded: bytes) -> bytes:
    return ua_binary.struct_to_binary(request).replace(marker, encoded)


async def test_what_cannot_be_decoded_is_told_so(guest: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asyncua.client.ua_client.struct_to_binary", lambda request: ua_binary.struct_to_binary(request)[:-3]
    )
    assert await refusal(requests(guest, 1)["read"]()) == Codes.BadDecodingError
    monkeypatch.undo()
    assert await guest.get_namespace_array()


async def test_a_message_larger_than_allowed_ends_the_connection(small: OpcUaServer, guest: Client) -> None:
    other = Client(small.endpoint_url)
    await other.connect()
    call = ua.CallMethodRequest(
        SERVER_OBJECT, ua.NodeId(Ids.Server_GetMonitoredItems), [ua.Variant(b"x" * 200_000)]
    )
    with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError, asyncio.CancelledError)):
        await other.uaclient.call([call])
    other.disconnect_socket()
    assert await guest.get_namespace_array()


async def test_a_session_that_is_not_activated_may_send_one_chunk_only(small: OpcUaServer) -> None:
    client = Client(small.endpoint_url)
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    params = ua.CreateSessionParameters(SessionName="x" * 70_000)
    with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError, asyncio.CancelledError)):
        await client.uaclient.create_session(params)
    client.disconnect_socket()
    assert len(small._iserver._external_sessions) == 0


def hello(largest_message: int = 0) -> bytes:
    message = ua.Hello(
        ProtocolVersion=0,
        ReceiveBufferSize=65535,
        SendBufferSize=65535,
        MaxMessageSize=largest_message,
        EndpointUrl="opc.tcp://x",
    )
    return ua_binary.uatcp_to_binary(ua.MessageType.Hello, message)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server hangs up."""
    return await asyncio.wait_for(reader.read(), PATIENCE)


@pytest.mark.parametrize(
    "header",
    [
        b"MSGF" + struct.pack("<II", 2**32 - 1, 1),
        b"HELF" + struct.pack("<I", 65536),
        b"MSGF" + struct.pack("<II", 12, 1),
        b"HELF" + struct.pack("<I", 0),
    ],
)
async def test_a_size_that_no_message_has_ends_the_connection_at_once(
    server: OpcUaServer, header: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(header)
    told = await answer(reader)
    assert told[:4] == b"ERRF"
    assert struct.unpack("<I", told[8:12]) == (Codes.BadTcpMessageTooLarge,)
    writer.close()


@pytest.mark.parametrize(
    "message",
    [
        b"XYZF" + struct.pack("<I", 12) + b"data",
        b"HELF" + struct.pack("<I", 12) + b"\0\0\0\0",
        b"OPNF" + struct.pack("<II", 20, 0) + b"\xff" * 8,
        b"MSGF" + struct.pack("<II", 28, 7) + b"\0" * 16,
        b"MSGC" + struct.pack("<II", 28, 0) + b"\0" * 16,
    ],
)
async def test_what_breaks_the_rules_of_the_transport_ends_the_connection(
    server: OpcUaServer, message: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(hello() + message)
    told = await answer(reader)
    assert told[:4] == b"ACKF"
    assert told[struct.unpack("<I", told[4:8])[0] :][:4] == b"ERRF"
    writer.close()


async def test_messages_that_come_faster_than_they_are_served_wait_and_are_all_answered(
    server: OpcUaServer, client: Client
) -> None:
    many = 20 * MESSAGES_WAITING
    answers = await asyncio.gather(*(client.get_namespace_array() for _ in range(many)))
    assert len(answers) == many


async def test_a_client_that_takes_no_answers_is_cut_off(small: OpcUaServer, guest: Client) -> None:
    greedy = Client(small.endpoint_url)
    await greedy.connect()
    protocol = greedy.uaclient.protocol
    own_address = protocol.transport.get_extra_info("sockname")
    served = small._binaries[0].clients
    (connection,) = (one for one in served if one.peer_name == own_address)
    protocol.transport.pause_reading()
    item = ua.ReadValueId(ua.NodeId(Ids.Server_NamespaceArray), ua.AttributeIds.Value)
    request = ua.ReadRequest(Parameters=ua.ReadParameters(NodesToRead=[item] * 5))
    request.RequestHeader.AuthenticationToken = protocol.authentication_token
    body = ua_binary.struct_to_binary(request)
    async with asyncio.timeout(PATIENCE):
        while connection in served:
            protocol.transport.write(protocol._connection.message_to_binary(body, request_id=7))
            await asyncio.sleep(0)
    assert await guest.get_namespace_array()
    greedy.disconnect_socket()


async def test_connections_are_limited_and_that_is_logged_once(
    small: OpcUaServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(small._iserver, "max_connections", 1)
    async with Client(small.endpoint_url) as client:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
            assert await answer(reader) == b""
            writer.close()
        assert await client.get_namespace_array()
    lines = capsys.readouterr().out.splitlines()
    (warning,) = (line for line in lines if "[warning" in line and "refused" in line.lower())
    assert "limit=1" in warning


async def test_a_session_that_nobody_is_in_yet_stays_where_it_was_made(small: OpcUaServer) -> None:
    before, after = Client(small.endpoint_url), Client(small.endpoint_url)
    for client in (before, after):
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
    await before.create_session()
    after.uaclient.protocol.authentication_token = before.uaclient.protocol.authentication_token
    params = ua.ActivateSessionParameters(UserIdentityToken=ua.AnonymousIdentityToken(PolicyId="anonymous"))
    assert await refusal(after.uaclient.activate_session(params)) == Codes.BadSessionIdInvalid
    await before.uaclient.activate_session(params)
    assert await before.get_namespace_array()
    before.disconnect_socket()
    after.disconnect_socket()


async def test_strangers_cannot_fill_the_log(server: OpcUaServer, capsys: pytest.CaptureFixture[str]) -> None:
    channel = SecureConnection(SecurityPolicyNone(), TransportLimits()).message_to_binary(
        ua_binary.struct_to_binary(ua.OpenSecureChannelRequest()), ua.MessageType.SecureOpen
    )
    nonsense = b"XYZF" + struct.pack("<I", 12) + b"data"
    for message in (
        hello() + nonsense,
        hello() + b"HELF" + struct.pack("<I", 2**31),
        hello(largest_message=1) + channel + nonsense,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(message)
        await answer(reader)
        writer.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "[debug" not in line and "server listens" not in line] == []


async def test_tokens_of_sessions_cannot_be_guessed(small: OpcUaServer, guest: Client) -> None:
    async with Client(small.endpoint_url) as other:
        tokens = {client.uaclient.protocol.authentication_token for client in (guest, other)}
    assert len(tokens) == 2
    assert {len(token.Identifier) for token in tokens} == {32}


class Ignored:
    """Takes notifications."""

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        """Nothing."""


async def test_subscriptions_are_limited_for_each_session_and_for_all(
    small: OpcUaServer, guest: Client
) -> None:
    for _ in range(2):
        await guest.create_subscription(1000, Ignored())
    assert await refusal(guest.create_subscription(1000, Ignored())) == Codes.BadTooManySubscriptions
    async with Client(small.endpoint_url) as other:
        await other.create_subscription(1000, Ignored())
        assert await refusal(other.create_subscription(1000, Ignored())) == Codes.BadTooManySubscriptions


async def test_monitored_items_are_limited_for_each_subscription_and_for_all(
    small: OpcUaServer, guest: Client
) -> None:
    item = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(STATUS, ua.AttributeIds.Value),
        RequestedParameters=ua.MonitoringParameters(QueueSize=1),
    )

    async def create(client: Client, subscription: int, count: int) -> list[int]:
        params = ua.CreateMonitoredItemsParameters(SubscriptionId=subscription, ItemsToCreate=[item] * count)
        return [result.StatusCode.value for result in await client.uaclient.create_monitored_items(params)]

    first = await guest.create_subscription(1000, Ignored())
    second = await guest.create_subscription(1000, Ignored())
    full = Codes.BadTooManyMonitoredItems
    assert await create(guest, first.subscription_id, 5) == [0, 0, 0, 0, full]
    assert await create(guest, second.subscription_id, 4) == [0, 0, 0, 0]
    async with Client(small.endpoint_url) as other:
        third = await other.create_subscription(1000, Ignored())
        assert await create(other, third.subscription_id, 1) == [full]
        await first.delete()
        assert await create(other, third.subscription_id, 1) == [0]


async def test_filters_of_events_have_a_limit(guest: Client) -> None:
    clause = ua.SimpleAttributeOperand(BrowsePath=[ua.QualifiedName("Message", 0)], AttributeId=13)
    element = ua.ContentFilterElement(ua.FilterOperator.IsNull, [ua.LiteralOperand(ua.Variant(1))])

    def parameters(clauses: int, elements: int) -> ua.MonitoringParameters:
        where = ua.ContentFilter([element] * elements)
        return ua.MonitoringParameters(QueueSize=1, Filter=ua.EventFilter([clause] * clauses, where))

    def item(clauses: int, elements: int) -> ua.MonitoredItemCreateRequest:
        return ua.MonitoredItemCreateRequest(
            ua.ReadValueId(SERVER_OBJECT, ua.AttributeIds.EventNotifier),
            ua.MonitoringMode.Reporting,
            parameters(clauses, elements),
        )

    number = (await guest.create_subscription(1000, Ignored())).subscription_id
    items = [item(3, 2), item(4, 0), item(1, 3), item(1, 0)]
    created = await guest.uaclient.create_monitored_items(ua.CreateMonitoredItemsParameters(number, 2, items))
    too_large = Codes.BadMonitoredItemFilterInvalid
    assert [result.StatusCode.value for result in created] == [0, too_large, too_large, 0]
    changes = [
        ua.MonitoredItemModifyRequest(result.MonitoredItemId, parameters(*size))
        for result, size in zip((created[0], created[3]), ((4, 0), (2, 0)), strict=True)
    ]
    modified = await guest.uaclient.modify_monitored_items(
        ua.ModifyMonitoredItemsParameters(number, 2, changes)
    )
    assert [result.StatusCode.value for result in modified] == [too_large, 0]


def damaged(encoded: bytes, header: int, chance: random.Random) -> bytes:
    """A request with a few bytes behind its header changed, taken out or put in."""
    body = bytearray(encoded)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(header, max(len(body), header + 1))
        length = chance.randrange(1, 8)
        match chance.randrange(4):
            case 0:
                body[place : place + 1] = chance.randbytes(1)
            case 1:
                body[place : place + 4] = chance.choice(
                    [b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x80", b"\0" * 4]
                )
            case 2:
                del body[place : place + length]
            case _:
                body[place:place] = chance.randbytes(length)
    return bytes(body)


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_requests_are_answered_and_never_break_a_service(
    server: OpcUaServer, client: Client, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    text, matrix = (
        ua.Variant("text", ua.VariantType.String),
        ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int32),
    )
    call = ua.CallMethodRequest(SERVER_OBJECT, ua.NodeId(Ids.Server_GetMonitoredItems), [text, matrix])
    path = ua.BrowsePath(SERVER_OBJECT, ua.RelativePath([ua.RelativePathElement()]))
    value = ua.ReadValueId(STATUS, ua.AttributeIds.Value, "0:1", ua.QualifiedName("Default Binary", 0))
    whole = [
        ua.ReadRequest(Parameters=ua.ReadParameters(NodesToRead=[value] * 2)),
        ua.WriteRequest(
            Parameters=ua.WriteParameters([ua.WriteValue(STATUS, 13, None, ua.DataValue(matrix))])
        ),
        ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription(STATUS)])),
        ua.BrowseNextRequest(Parameters=ua.BrowseNextParameters(False, [b"one", b"another"])),
        ua.RegisterNodesRequest(Parameters=ua.RegisterNodesParameters([STATUS])),
        ua.CallRequest(Parameters=ua.CallParameters([call])),
        ua.TranslateBrowsePathsToNodeIdsRequest(
            Parameters=ua.TranslateBrowsePathsToNodeIdsParameters([path])
        ),
    ]

    def encoded(request: ua.ReadRequest) -> bytes:
        header = ua_binary.nodeid_to_binary(request.TypeId) + ua_binary.struct_to_binary(
            request.RequestHeader
        )
        return damaged(ua_binary.struct_to_binary(request), len(header), chance)

    monkeypatch.setattr("asyncua.client.ua_client.struct_to_binary", encoded)
    answers: Counter[int] = Counter()
    async with asyncio.timeout(PATIENCE):
        for _ in range(300):
            try:
                await client.uaclient.protocol.send_request(chance.choice(whole))
            except ua.UaStatusCodeError as error:
                answers[error.code] += 1
    assert answers[Codes.BadDecodingError]
    assert Codes.BadInternalError not in answers
    monkeypatch.undo()
    assert await client.get_namespace_array()


async def test_a_session_cannot_be_taken_over_from_a_channel_of_another_kind(
    small: OpcUaServer, guest: Client, tmp_path: Path
) -> None:
    mode = ua.MessageSecurityMode.Sign
    small._iserver.logins._users.add("ann", PASSWORD)
    async with secure_client(small, tmp_path / "ann", mode, "ann", PASSWORD) as ann:
        thief = Client(small.endpoint_url)
        await thief.connect_socket()
        await thief.send_hello()
        await thief.open_secure_channel()
        thief.uaclient.protocol.authentication_token = ann.uaclient.protocol.authentication_token
        params = ua.ActivateSessionParameters(
            UserIdentityToken=ua.AnonymousIdentityToken(PolicyId="anonymous")
        )
        assert await refusal(thief.uaclient.activate_session(params)) == Codes.BadSecurityChecksFailed
        assert await ann.get_namespace_array()
        thief.disconnect_socket()


async def test_a_session_that_moved_to_another_connection_is_at_that_one_alone(small: OpcUaServer) -> None:
    before, after = Client(small.endpoint_url), Client(small.endpoint_url)
    await before.connect()
    await after.connect_socket()
    await after.send_hello()
    await after.open_secure_channel()
    after.uaclient.protocol.authentication_token = before.uaclient.protocol.authentication_token
    params = ua.ActivateSessionParameters(UserIdentityToken=ua.AnonymousIdentityToken(PolicyId="anonymous"))
    await after.uaclient.activate_session(params)
    read = requests(before, 1)["read"]
    assert await refusal(read()) == Codes.BadSessionIdInvalid
    before.disconnect_socket()
    async with asyncio.timeout(PATIENCE):
        while len(small._binaries[0].clients) > 1:
            await asyncio.sleep(0.01)
    await asyncio.gather(*small._binaries[0].closing_tasks)
    assert len(await requests(after, 1)["read"]()) == 1
    after.disconnect_socket()
