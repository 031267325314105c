"""Events carry what their types make mandatory, as a client that knows only the types reads them."""

from __future__ import annotations

import asyncio

from asyncua import Client, ua

from tests.bridge.opcua.type_system import DeclaredVariable, TypeSystem
from tests.docs.example import NAME, connected, happenings, printing

SECONDS = 30  # until an event counts as lost
MESSAGES_TYPE = 38  # in mt


class Heard:
    """Keeps the fields of events."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[list[ua.Variant]] = asyncio.Queue()

    def event_notification(self, event: ua.EventNotificationResult) -> None:
        self.events.put_nowait(event.event_fields)


async def test_every_event_is_of_a_type_that_messages_generate_and_has_its_mandatory_fields() -> None:
    told = printing()
    async with connected(told) as (client, server):
        types = TypeSystem(client)
        mt = await client.get_namespace_index("http://opcfoundation.org/UA/MachineTool/")
        generated = await types.targets(ua.NodeId(MESSAGES_TYPE, mt), ua.NodeId(ua.ObjectIds.GeneratesEvent))
        fields = {one: [field async for field in types.variables(one)] for one in generated}
        heard = {one: await listening(client, one, fields[one]) for one in generated}
        for transition in happenings(told):
            server.handle(transition)
        for event_type in generated:
            values = await asyncio.wait_for(heard[event_type].events.get(), SECONDS)
            for field, variant in zip(fields[event_type], values, strict=True):
                name = "/".join(part.Name for part in field.path)
                if field.mandatory:
                    assert variant.Value is not None, f"{name} of {event_type.to_string()}"
                if name == "EventType":
                    assert variant.Value == event_type


async def listening(client: Client, event_type: ua.NodeId, fields: list[DeclaredVariable]) -> Heard:
    """What hears the events of this type that the machine tells, with all their fields."""
    heard = Heard()
    subscription = await client.create_subscription(10, heard)
    machine = ua.NodeId(NAME, await client.get_namespace_index("urn:mesbridge:machines"))
    base = ua.NodeId(ua.ObjectIds.BaseEventType)
    clauses = [
        ua.SimpleAttributeOperand(base, BrowsePath=list(field.path), AttributeId=ua.AttributeIds.Value)
        for field in fields
    ]
    of_type = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.OfType, FilterOperands=[ua.LiteralOperand(ua.Variant(event_type))]
    )
    where = ua.ContentFilter(Elements=[of_type])
    await subscription.subscribe_events(
        machine, evfilter=ua.EventFilter(SelectClauses=clauses, WhereClause=where)
    )
    return heard
