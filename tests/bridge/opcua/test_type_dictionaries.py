"""Type dictionaries of companion models are there, or not at all."""

from __future__ import annotations

import pytest
from asyncua import Client, ua

SYSTEMS = (ua.ObjectIds.OPCBinarySchema_TypeSystem, ua.ObjectIds.XmlSchema_TypeSystem)


async def dictionaries(client: Client) -> list[ua.NodeId]:
    return [
        child.nodeid
        for system in SYSTEMS
        for child in await client.get_node(system).get_children()
        if child.nodeid.NamespaceIndex
    ]


async def test_they_are_there_unless_a_setting_hides_them(make_server) -> None:
    server = make_server(anonymous=True)
    await server.start()
    try:
        async with Client(server.endpoint_url) as client:
            found = await dictionaries(client)
            assert len(found) == 16 - 2
            assert b"TypeDictionary" in await client.get_node(found[0]).read_value()
    finally:
        await server.stop()


async def test_hidden_they_cannot_be_browsed_read_or_reached_from_their_types(make_server) -> None:
    shown = make_server()
    systems = [shown.space.node(ua.NodeId(system)) for system in SYSTEMS]
    all_dictionaries = [
        reference.NodeId
        for system in systems
        for reference in system.references
        if reference.IsForward and reference.NodeId.NamespaceIndex
    ]
    server = make_server(anonymous=True, type_dictionaries=False)
    await server.start()
    try:
        async with Client(server.endpoint_url) as client:
            assert await dictionaries(client) == []
            for node_id in all_dictionaries:
                with pytest.raises(ua.UaStatusCodeError) as refused:
                    await client.get_node(node_id).read_browse_name()
                assert refused.value.code == ua.StatusCodes.BadNodeIdUnknown
            order = client.get_node(server.node_id("isa", 3008))
            (binary,) = [
                encoding
                for encoding in await order.get_children(ua.ObjectIds.HasEncoding)
                if (await encoding.read_browse_name()).Name == "Default Binary"
            ]
            assert await binary.get_children(ua.ObjectIds.HasDescription) == []
            assert (await order.read_data_type_definition()).Fields[0].Name == "JobOrderID"
    finally:
        await server.stop()
