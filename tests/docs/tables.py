"""Namespaces, states and events as tables."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import NamedTuple

from asyncua import Client, ua

from bridge.umati.job_orders import JobOrderStates
from bridge.umati.program import LEGAL, ProgramState
from bridge.umati.states import ItemState, Mode, OperationMode, Situation, State
from tests.bridge.opcua.type_system import TypeSystem
from tests.bridge.opcua.walker import Walker
from tests.docs.example import LAST, NAME, connected, happenings, printing
from tests.docs.notation import MODELS, Notation, table
from tests.docs.texts import EVENTS, SITUATIONS, Texts

DIFFERS = {"EventId": "unique", "ReceiveTime": "when the bridge heard of it"}
"""Fields whose values no two runs have in common."""
SECONDS = 30  # until an event counts as lost


async def namespace_table(client: Client) -> str:
    """The models, as Server/Namespaces describes them; the one of the machines has neither version nor date."""
    types = TypeSystem(client)
    rows = []
    async for reference in types.children(ua.NodeId(ua.ObjectIds.Server_Namespaces)):
        uri, version, date = [
            (await types.value(await types.child(reference.NodeId, name))).Value.Value
            for name in ("NamespaceUri", "NamespaceVersion", "NamespacePublicationDate")
        ]
        rows.append([MODELS[uri] or "(none)", f"`{uri}`", version, f"{date:%Y-%m-%d}" if version else ""])
    return table(("prefix", "namespace", "version", "published"), rows)


def situation_table() -> str:
    """Which states apply when."""
    rows = (
        [
            SITUATIONS[situation],
            *(f"{kind.value.text} {kind.value.number}" for kind in (situation.item_state, situation.mode)),
            f"{_camel(situation.operation_mode)} {situation.operation_mode.value}",
        ]
        for situation in Situation
    )
    return table(("OctoPrint", "MachineryItemState", "MachineryOperationMode", "OperationMode"), rows)


def state_table() -> str:
    """The states of each state machine with what `Number` and `Id` hold."""
    machines: dict[str, type[Enum]] = {
        "MachineryItemState": ItemState,
        "MachineryOperationMode": Mode,
        "ActiveProgram / State": ProgramState,
    }
    rows = []
    for machine, kind in machines.items():
        for state in kind:
            held: State = state.value
            following = ", ".join(after.value.text for after in LEGAL.get(state, ()))
            rows.append(
                [machine, held.text, str(held.number), f"`{held.prefix}:i={held.identifier}`", following]
            )
    for order in JobOrderStates:
        text, number, _, substate, substate_number = order.value
        below = [f" / {substate}", f" / {substate_number}"] if substate else ["", ""]
        rows.append(["job order", f"{text}{below[0]}", f"{number}{below[1]}", "", ""])
    return table(("state machine", "state", "Number", "Id", "followed by"), rows)


def _camel(mode: OperationMode) -> str:
    return "".join(word.capitalize() for word in mode.name.split("_"))


class _Field(NamedTuple):
    """A field of events: its browse path and data type."""

    path: tuple[ua.QualifiedName, ...]
    data_type: str


class _Events:
    """Takes the events of a subscription."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[list[ua.Variant]] = asyncio.Queue()

    def event_notification(self, event: ua.EventNotificationResult) -> None:
        self.seen.put_nowait(event.event_fields)


async def event_tables(texts: Texts) -> tuple[str, str]:
    """The events that happen to the example machine, and the fields of each type that are not null."""
    told, taken = printing(), _Events()
    async with connected(told) as (client, server):
        notation = await Notation.of(client)
        machine = ua.NodeId(NAME, await client.get_namespace_index("urn:mesbridge:machines"))
        fields = await _fields(notation, client)
        subscription = await client.create_subscription(10, taken)
        await subscription.subscribe_events(machine, evfilter=_filter(fields))
        for transition in happenings(told):
            server.handle(transition)
        events: list[dict[str, ua.Variant]] = []
        while not events or events[-1]["mt:ErrorCode"].Value != LAST:
            values = await asyncio.wait_for(taken.seen.get(), SECONDS)
            events.append(dict(zip(fields, values, strict=True)))
        await subscription.delete()
        kinds: dict[str, list[str]] = {}
        examples: dict[str, dict[str, ua.Variant]] = {}
        for event in events:
            event_type = await notation.type_name(event["EventType"].Value)
            name = event["mt:Identifier"].Value or event["mt:ErrorCode"].Value or ""
            kinds[name or event_type] = [event_type, name, str(event["Severity"].Value)]
            examples.setdefault(event_type, event)
    texts.check_events(kinds)
    rows = [
        [
            name.replace("/", " / "),
            field.data_type,
            *(_example(notation, name, e[name]) for e in examples.values()),
        ]
        for name, field in fields.items()
        if any(event[name].Value is not None for event in examples.values())
    ]
    return (
        table(
            ("type", "Identifier or ErrorCode", "severity", "when"),
            ([*kinds[name], texts.event(name)] for name in EVENTS),
        ),
        table(("field", "data type", *examples), rows),
    )


def _example(notation: Notation, field: str, variant: ua.Variant) -> str:
    return "" if variant.Value is None else DIFFERS.get(field) or notation.value(variant.Value)


async def _fields(notation: Notation, client: Client) -> dict[str, _Field]:
    """All fields of the event types that the objects of the machine generate, by name; first those of every event."""
    walker = Walker(client)
    await walker.walk(ua.NodeId(NAME, await client.get_namespace_index("urn:mesbridge:machines")))
    event_types = [ua.NodeId(ua.ObjectIds.BaseEventType)]
    for found in walker.found.values():
        if found.node_class is ua.NodeClass.Object:
            for type_id in await notation.types.supertypes(found.type_definition):
                event_types += await notation.types.targets(type_id, ua.NodeId(ua.ObjectIds.GeneratesEvent))
    fields: dict[str, _Field] = {}
    for event_type in dict.fromkeys(event_types):
        async for one in notation.types.variables(event_type):
            name = "/".join(notation.name(part.NamespaceIndex, part.Name) for part in one.path)
            fields.setdefault(name, _Field(one.path, await notation.data_type(one.node_id)))
    return fields


def _filter(fields: dict[str, _Field]) -> ua.EventFilter:
    return ua.EventFilter(
        SelectClauses=[
            ua.SimpleAttributeOperand(
                TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
                BrowsePath=list(field.path),
                AttributeId=ua.AttributeIds.Value,
            )
            for field in fields.values()
        ]
    )
