"""Events from instances: the fields of an event type, and the events themselves as asyncua's subscriptions take them.

In: an event type, field values by name. Out: one event for each node that emits it, with the same EventId.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from asyncua import ua
from asyncua.server.address_space import NodeData

from .declarations import Planner
from .errors import InstanceError
from .space import HAS_SUBTYPE, LazyAddressSpace
from .times import ticks_now, to_datetime
from .typetable import SharedValue, good
from .values import ValueType, value_type

Id = ua.AttributeIds
SERVER = ua.NodeId(ua.ObjectIds.Server)


class EventTypes:
    """Fields of event types by name, a nested field as `Outer/Inner`; looked up once a type."""

    def __init__(self, space: LazyAddressSpace, planner: Planner) -> None:
        self._space = space
        self._planner = planner
        self._fields: dict[ua.NodeId, dict[str, ValueType]] = {}
        self._derived = 0  # how many, and the NodeId of the newest

    def fields(self, event_type: ua.NodeId) -> dict[str, ValueType]:
        """The fields that events of this type may have, inherited ones too."""
        known = self._fields.get(event_type)
        if known is None:
            known = {}
            for path, data_type, rank in self._planner.variables(event_type):
                known["/".join(name for _, name in path)] = value_type(self._space, data_type, rank)
            self._fields[event_type] = known
        return known

    def derive(self, name: str, supertype: ua.NodeId, namespace: int) -> ua.NodeId:
        """Add a type of the server's own: an abstract one has no events itself (Part 3, 4.7.2)."""
        self._derived += 1
        node_id, browse_name = ua.NodeId(self._derived, namespace), ua.QualifiedName(name, namespace)
        display_name, node_class = ua.LocalizedText(name), ua.NodeClass.ObjectType
        node = NodeData(node_id)
        for attribute, value, kind in (
            (Id.NodeId, node_id, ua.VariantType.NodeId),
            (Id.NodeClass, node_class, ua.VariantType.Int32),
            (Id.BrowseName, browse_name, ua.VariantType.QualifiedName),
            (Id.DisplayName, display_name, ua.VariantType.LocalizedText),
            (Id.IsAbstract, False, ua.VariantType.Boolean),
            (Id.WriteMask, 0, ua.VariantType.UInt32),
            (Id.UserWriteMask, 0, ua.VariantType.UInt32),
        ):
            node.attributes[attribute] = SharedValue(good(ua.Variant(value, kind)))
        above = self._space.node(supertype)
        names = (self._space.value(supertype, attribute) for attribute in (Id.BrowseName, Id.DisplayName))
        node.references.append(
            ua.ReferenceDescription(HAS_SUBTYPE, False, supertype, *names, node_class, ua.NodeId())
        )
        above.references.append(
            ua.ReferenceDescription(
                HAS_SUBTYPE, True, node_id, browse_name, display_name, node_class, ua.NodeId()
            )
        )
        self._space.put(node)
        return node_id

    def variants(self, event_type: ua.NodeId, values: Mapping[str, Any]) -> dict[str, ua.Variant]:
        """The given values as Variants of their fields' types; InstanceError for a field the type lacks."""
        fields = self.fields(event_type)
        unknown = values.keys() - fields.keys()
        if unknown:
            raise InstanceError(
                f"event type {event_type.to_string()} has no field {', '.join(sorted(unknown))}; "
                f"it has {', '.join(sorted(fields))}"
            )
        variants = {}
        for name, value in values.items():
            try:
                variants[name] = fields[name].variant(value)
            except (TypeError, ValueError, ua.UaError) as error:
                raise InstanceError(f"event field {name} cannot hold {value!r}: {error}") from error
        return variants


class Event:
    """An event as one node emits it. asyncua reads fields as attributes when it evaluates a where clause.

    What is `confidential` is for named operators alone. `instance` is the name of the one that it is about, if any.
    """

    def __init__(
        self,
        emitting_node: ua.NodeId,
        fields: Mapping[str, ua.Variant],
        confidential: bool = False,
        instance: str | None = None,
    ) -> None:
        self.emitting_node = emitting_node
        self.confidential = confidential
        self.instance = instance
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name].Value
        except KeyError:
            raise AttributeError(name) from None

    def to_event_fields(self, select_clauses: list[ua.SimpleAttributeOperand]) -> list[ua.Variant]:
        """What one monitored item selected; Null where the event has no such field."""
        return [
            self._fields.get("/".join(name.Name for name in clause.BrowsePath or ()), ua.Variant())
            if clause.AttributeId == ua.AttributeIds.Value
            else ua.Variant()
            for clause in select_clauses
        ]


def overflow_event() -> Event:
    """Tells a client that events for it were lost (Part 5, 6.4.29)."""
    now = ticks_now()
    event_type = ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
    values = base_fields(event_type, SERVER, "Server", now, now)
    values |= {"Message": ua.LocalizedText("Events were lost: the queue was too short"), "Severity": 500}
    kinds = {"EventId": ua.VariantType.ByteString, "Severity": ua.VariantType.UInt16}
    return Event(SERVER, {name: ua.Variant(value, kinds.get(name)) for name, value in values.items()})


def base_fields(
    event_type: ua.NodeId, source: ua.NodeId, source_name: str, ticks: int, received: int
) -> dict[str, Any]:
    """The fields of every event (Part 5, 6.4.2) but Message and Severity, which have no sensible default."""
    return {
        "EventId": secrets.token_bytes(16),
        "EventType": event_type,
        "SourceNode": source,
        "SourceName": source_name,
        "Time": to_datetime(ticks),
        "ReceiveTime": to_datetime(received),
        "Message": ua.LocalizedText(""),
        "Severity": 1,
    }
