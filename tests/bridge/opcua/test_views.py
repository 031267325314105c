"""References come in portions as large as the client asks for, and only to the session that asked."""

import dataclasses

import pytest
from asyncua import Client, ua

from bridge.opcua import Instance, Limits, OpcUaServer

Ids = ua.ObjectIds
Codes = ua.StatusCodes
OBJECT_TYPES = ua.NodeId(Ids.BaseObjectType)
ALL = ua.BrowseResultMask.All


def description(node_id: ua.NodeId, mask: int = ALL, **fields: object) -> ua.BrowseDescription:
    return ua.BrowseDescription(NodeId=node_id, ResultMask=mask, **fields)


def request(*descriptions: ua.BrowseDescription, portion: int = 0) -> ua.BrowseParameters:
    return ua.BrowseParameters(RequestedMaxReferencesPerNode=portion, NodesToBrowse=list(descriptions))


async def browse(client: Client, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
    return await client.uaclient.browse(params)


async def browse_next(client: Client, *points: bytes, release: bool = False) -> list[ua.BrowseResult]:
    return await client.uaclient.browse_next(
        ua.BrowseNextParameters(ReleaseContinuationPoints=release, ContinuationPoints=list(points))
    )


async def whole(client: Client) -> list[ua.ReferenceDescription]:
    (result,) = await browse(client, request(description(OBJECT_TYPES)))
    assert result.ContinuationPoint is None
    return result.References


@pytest.mark.parametrize("portion", [1, 7, 1000])
async def test_the_portions_make_the_whole(client: Client, portion: int) -> None:
    expected = await whole(client)
    assert len(expected) > 20
    (result,) = await browse(client, request(description(OBJECT_TYPES), portion=portion))
    got = result.References
    while result.ContinuationPoint:
        assert len(result.References) == portion
        (result,) = await browse_next(client, result.ContinuationPoint)
        got += result.References
    assert got == expected


async def test_a_continuation_point_is_good_once_and_until_it_is_released(client: Client) -> None:
    (result,) = await browse(client, request(description(OBJECT_TYPES), portion=1))
    (after,) = await browse_next(client, result.ContinuationPoint)
    (again,) = await browse_next(client, result.ContinuationPoint)
    assert again.StatusCode.value == Codes.BadContinuationPointInvalid
    (released,) = await browse_next(client, after.ContinuationPoint, release=True)
    assert released.StatusCode.is_good()
    assert (released.References, released.ContinuationPoint) == ([], None)
    (gone,) = await browse_next(client, after.ContinuationPoint)
    assert gone.StatusCode.value == Codes.BadContinuationPointInvalid


async def test_a_continuation_point_is_the_sessions_own(server: OpcUaServer, client: Client) -> None:
    (result,) = await browse(client, request(description(OBJECT_TYPES), portion=1))
    async with Client(server.endpoint_url) as other:
        (stolen,) = await browse_next(other, result.ContinuationPoint)
    assert stolen.StatusCode.value == Codes.BadContinuationPointInvalid
    (own,) = await browse_next(client, result.ContinuationPoint)
    assert own.StatusCode.is_good()


async def test_only_so_many_continuation_points_are_held(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(continuation_points=2))
    await server.start()
    async with Client(server.endpoint_url) as client:
        large, small = description(OBJECT_TYPES), description(ua.NodeId(Ids.Server_ServerStatus_StartTime))
        results = await browse(client, request(large, large, large, small, portion=4))
        assert [result.StatusCode.value for result in results] == [0, 0, Codes.BadNoContinuationPoints, 0]
        assert results[2].References == []
        await browse_next(client, results[0].ContinuationPoint, release=True)
        (result,) = await browse(client, request(large, portion=4))
        assert result.ContinuationPoint
    await server.stop()


async def test_a_session_that_ends_leaves_no_continuation_point(server: OpcUaServer) -> None:
    async with Client(server.endpoint_url) as client:
        await browse(client, request(description(OBJECT_TYPES), portion=1))
        (session,) = server._iserver._external_sessions.values()
        assert len(session.continuation_points) == 1
    assert len(session.continuation_points) == 0


async def test_one_response_has_only_so_many_references(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(references_per_response=10, continuation_points=2))
    await server.start()
    async with Client(server.endpoint_url) as client:
        results = await browse(client, request(*[description(OBJECT_TYPES)] * 3))
        assert [len(result.References) for result in results] == [10, 0, 0]
        assert results[1].ContinuationPoint
        assert results[2].StatusCode.value == Codes.BadNoContinuationPoints
        (more,) = await browse_next(client, results[1].ContinuationPoint)
        assert more.References == results[0].References
    await server.stop()


async def test_only_the_fields_that_are_asked_for_are_told(client: Client) -> None:
    (plain,) = await browse(client, request(description(OBJECT_TYPES, mask=0)))
    nothing = ua.ReferenceDescription(IsForward=False)
    for reference in plain.References:
        assert not reference.NodeId.is_null()
        reference.NodeId = nothing.NodeId
        assert reference == nothing
    fields = ["ReferenceTypeId", "IsForward", "NodeClass", "BrowseName", "DisplayName", "TypeDefinition"]
    server = description(ua.NodeId(Ids.ObjectsFolder))
    (every,) = await browse(client, request(server))
    for bit, field in enumerate(fields):
        server.ResultMask = 1 << bit
        (result,) = await browse(client, request(server))
        for reference, known in zip(result.References, every.References, strict=True):
            shown = {name for name in fields if getattr(reference, name) != getattr(nothing, name)}
            assert shown <= {field}
            assert getattr(reference, field) == getattr(known, field)


async def test_instances_are_browsed_in_portions_too(client: Client, machine: Instance) -> None:
    (every,) = await browse(client, request(description(machine.node_id())))
    (first,) = await browse(client, request(description(machine.node_id()), portion=2))
    (rest,) = await browse_next(client, first.ContinuationPoint)
    while rest.ContinuationPoint:
        first.References += rest.References
        (rest,) = await browse_next(client, rest.ContinuationPoint)
    assert first.References + rest.References == every.References


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"NodeId": ua.NodeId(999999)}, Codes.BadNodeIdUnknown),
        ({"BrowseDirection": ua.BrowseDirection.Invalid}, Codes.BadBrowseDirectionInvalid),
        ({"ReferenceTypeId": ua.NodeId(999999)}, Codes.BadReferenceTypeIdInvalid),
        ({"ReferenceTypeId": OBJECT_TYPES}, Codes.BadReferenceTypeIdInvalid),
    ],
)
async def test_what_cannot_be_browsed_is_told_node_by_node(client: Client, fields: dict, code: int) -> None:
    wrong = description(OBJECT_TYPES)
    for name, value in fields.items():
        setattr(wrong, name, value)
    bad, good = await browse(client, request(wrong, description(OBJECT_TYPES)))
    assert (bad.StatusCode.value, bad.References) == (code, [])
    assert good.StatusCode.is_good()


async def test_there_are_no_views(client: Client) -> None:
    params = request(description(OBJECT_TYPES))
    params.View.ViewId = ua.NodeId(Ids.ViewsFolder)
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await browse(client, params)
    assert refused.value.code == Codes.BadViewIdUnknown


def path(start: ua.NodeId, *names: str, inverse: bool = False) -> ua.BrowsePath:
    elements = [
        ua.RelativePathElement(TargetName=ua.QualifiedName(name, 0), IsInverse=inverse) for name in names
    ]
    return ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=elements))


async def test_browse_paths_are_translated_one_by_one(client: Client) -> None:
    results = await client.uaclient.translate_browsepaths_to_nodeids(
        [
            path(ua.NodeId(Ids.ObjectsFolder), "Server", "ServerStatus"),
            path(ua.NodeId(Ids.ObjectsFolder), "Nowhere"),
            path(ua.NodeId(999999), "Server"),
            path(ua.NodeId(Ids.ObjectsFolder)),
            path(ua.NodeId(Ids.ObjectsFolder), "Server", ""),
        ]
    )
    assert [result.StatusCode.value for result in results] == [
        0,
        Codes.BadNoMatch,
        Codes.BadNodeIdUnknown,
        Codes.BadNothingToDo,
        Codes.BadBrowseNameInvalid,
    ]
    (target,) = results[0].Targets
    assert target.TargetId == ua.NodeId(Ids.Server_ServerStatus)
    assert target.RemainingPathIndex == 2**32 - 1


async def test_nodes_are_registered_under_their_own_ids(client: Client) -> None:
    nodes = [ua.NodeId(Ids.Server), ua.NodeId("m1", 13)]
    assert await client.uaclient.register_nodes(nodes) == nodes
    await client.uaclient.unregister_nodes(nodes)


async def test_the_subtypes_of_what_is_no_reference_type_are_not_remembered(server: OpcUaServer) -> None:
    view = server._iserver.view_service
    async with Client(server.endpoint_url) as client:
        await browse(client, request(description(ua.NodeId(Ids.ObjectsFolder), ReferenceTypeId=OBJECT_TYPES)))
        element = ua.RelativePathElement(
            ReferenceTypeId=OBJECT_TYPES, TargetName=ua.QualifiedName("Server", 0)
        )
        await client.uaclient.translate_browsepaths_to_nodeids(
            [ua.BrowsePath(ua.NodeId(Ids.ObjectsFolder), ua.RelativePath([element]))]
        )
    assert OBJECT_TYPES not in view._subtypes


async def test_a_node_that_is_reached_by_two_references_is_one_target(
    server: OpcUaServer, client: Client
) -> None:
    references = server.space.node(ua.NodeId(Ids.ObjectsFolder)).references
    known = next(held for held in references if held.NodeId == ua.NodeId(Ids.Server))
    references.append(dataclasses.replace(known, ReferenceTypeId=ua.NodeId(Ids.HasComponent)))
    (result,) = await client.uaclient.translate_browsepaths_to_nodeids(
        [path(ua.NodeId(Ids.ObjectsFolder), "Server", "ServerStatus")]
    )
    assert [target.TargetId for target in result.Targets] == [ua.NodeId(Ids.Server_ServerStatus)]


async def test_references_that_make_too_large_a_response_are_refused(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(message_size=20_000))
    await server.start()
    async with Client(server.endpoint_url) as client:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await browse(client, request(*[description(OBJECT_TYPES)] * 20))
        assert refused.value.code == Codes.BadResponseTooLarge
        await browse(client, request(*[description(OBJECT_TYPES)] * 20, portion=5))
    await server.stop()


async def test_requests_that_look_through_too_many_references_are_refused(make_server) -> None:
    server: OpcUaServer = make_server(limits=Limits(references_examined=200))
    await server.start()
    async with Client(server.endpoint_url) as client:
        nothing = description(OBJECT_TYPES, NodeClassMask=ua.NodeClass.View)
        assert [result.References for result in await browse(client, request(nothing))] == [[]]
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await browse(client, request(*[nothing] * 20))
        assert refused.value.code == Codes.BadTooManyOperations
        nowhere = path(OBJECT_TYPES, "Nowhere")
        (result,) = await client.uaclient.translate_browsepaths_to_nodeids([nowhere])
        assert result.StatusCode.value == Codes.BadNoMatch
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await client.uaclient.translate_browsepaths_to_nodeids([nowhere] * 20)
        assert refused.value.code == Codes.BadTooManyOperations
    await server.stop()
