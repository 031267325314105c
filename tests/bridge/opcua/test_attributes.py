"""Read gives what its parameters ask for: a part, timestamps, an encoding, or the reason why not."""

from datetime import UTC, datetime

import pytest
from asyncua import Client, ua
from asyncua.common.utils import ServiceError

from bridge.opcua import Instance, Limits, OpcUaServer

Ids = ua.ObjectIds
Codes = ua.StatusCodes
Times = ua.TimestampsToReturn
SIGNAL = "Monitoring.Process.Tool 0.AnalogSignal"
NAMESPACES = ua.NodeId(Ids.Server_NamespaceArray)
STATUS = ua.NodeId(Ids.Server_ServerStatus)
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def read(
    client: Client, *items: ua.ReadValueId, times: ua.TimestampsToReturn = Times.Both, max_age: float = 0
) -> list[ua.DataValue]:
    return await client.uaclient.read(
        ua.ReadParameters(MaxAge=max_age, TimestampsToReturn=times, NodesToRead=list(items))
    )


def item(node_id: ua.NodeId, **fields: object) -> ua.ReadValueId:
    return ua.ReadValueId(**{"NodeId": node_id, "AttributeId": ua.AttributeIds.Value, **fields})


async def test_an_index_range_names_a_part(client: Client, machine: Instance) -> None:
    namespaces = await client.get_namespace_array()
    build = ua.NodeId(Ids.Server_ServerStatus_BuildInfo_SoftwareVersion)
    array, element, text = await read(
        client,
        item(NAMESPACES, IndexRange="1:2"),
        item(NAMESPACES, IndexRange="0,0:3"),
        item(build, IndexRange="0:2"),
    )
    assert array.Value.Value == namespaces[1:3]
    assert element.Value.Value == ["http"]
    assert text.Value.Value == "1.2"


async def test_a_range_that_is_none_or_names_nothing_is_refused_alone(client: Client) -> None:
    wrong, nothing, scalar, good = await read(
        client,
        item(NAMESPACES, IndexRange="3:1"),
        item(NAMESPACES, IndexRange="9999"),
        item(STATUS, IndexRange="0"),
        item(NAMESPACES, IndexRange="0"),
    )
    assert [value.StatusCode.value for value in (wrong, nothing, scalar, good)] == [
        Codes.BadIndexRangeInvalid,
        Codes.BadIndexRangeNoData,
        Codes.BadIndexRangeNoData,
        0,
    ]
    assert nothing.Value.Value is None


async def test_a_bad_value_stays_bad_whatever_part_is_asked_for(client: Client, machine: Instance) -> None:
    machine.write(SIGNAL, 1.0, status=Codes.BadNoCommunication)
    (value,) = await read(client, item(machine.node_id(SIGNAL), IndexRange="0"))
    assert value.StatusCode.value == Codes.BadNoCommunication


@pytest.mark.parametrize(
    ("times", "with_source", "with_server"),
    [
        (Times.Source, True, False),
        (Times.Server, False, True),
        (Times.Both, True, True),
        (Times.Neither, False, False),
    ],
)
async def test_the_timestamps_asked_for_are_returned(
    client: Client, machine: Instance, times: ua.TimestampsToReturn, with_source: bool, with_server: bool
) -> None:
    machine.write(SIGNAL, 1.5, WHEN)
    before = datetime.now(UTC)
    value, name = await read(
        client,
        item(machine.node_id(SIGNAL)),
        item(machine.node_id(SIGNAL), AttributeId=ua.AttributeIds.BrowseName),
        times=times,
    )
    assert value.Value.Value == 1.5
    assert value.SourceTimestamp == (WHEN if with_source else None)
    assert (value.ServerTimestamp is not None) == with_server
    if with_server:
        assert before <= value.ServerTimestamp <= datetime.now(UTC)
    assert name.SourceTimestamp is None  # only values have one
    assert (name.ServerTimestamp is not None) == with_server


@pytest.mark.parametrize("max_age", [-1.0, float("-inf"), float("nan")])
async def test_a_negative_age_is_refused(client: Client, max_age: float) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await read(client, item(NAMESPACES), max_age=max_age)
    assert refused.value.code == Codes.BadMaxAgeInvalid


async def test_timestamps_that_do_not_exist_are_refused(client: Client) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await read(client, item(NAMESPACES), times=Times.Invalid)
    assert refused.value.code == Codes.BadTimestampsToReturnInvalid


async def test_structures_alone_have_an_encoding_and_only_the_binary_one(client: Client) -> None:
    binary, xml = ua.QualifiedName("Default Binary", 0), ua.QualifiedName("Default XML", 0)
    values = await read(
        client,
        item(STATUS, DataEncoding=binary),
        item(STATUS, DataEncoding=xml),
        item(NAMESPACES, DataEncoding=binary),
        item(STATUS, AttributeId=ua.AttributeIds.BrowseName, DataEncoding=binary),
        item(STATUS, DataEncoding=ua.QualifiedName("", 0)),
    )
    assert [value.StatusCode.value for value in values] == [
        0,
        Codes.BadDataEncodingUnsupported,
        Codes.BadDataEncodingInvalid,
        Codes.BadDataEncodingInvalid,
        0,
    ]


async def test_an_unknown_node_or_attribute_is_told_so_whatever_else_is_asked(client: Client) -> None:
    binary = ua.QualifiedName("Default Binary", 0)
    values = await read(
        client,
        item(ua.NodeId(999999), DataEncoding=binary),
        item(STATUS, AttributeId=99, IndexRange="0"),
        item(ua.NodeId(Ids.Server), IndexRange="0"),
    )
    assert [value.StatusCode.value for value in values] == [
        Codes.BadNodeIdUnknown,
        Codes.BadAttributeIdInvalid,
        Codes.BadAttributeIdInvalid,
    ]


async def test_a_response_that_would_be_too_large_is_refused(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(message_size=100_000))
    await server.start()
    async with Client(server.endpoint_url) as client:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await read(client, *[item(NAMESPACES)] * 1000)
        assert refused.value.code == Codes.BadResponseTooLarge
        params = ua.ReadParameters(NodesToRead=[item(NAMESPACES)] * 1000)
        with pytest.raises(ServiceError):  # before it is even encoded
            server._iserver.attribute_service.read(params)
        assert len(await read(client, *[item(NAMESPACES)] * 100)) == 100
    await server.stop()
