"""Nodes that come and go, told to clients (Part 3, 9.32; Part 5, 6.4.31): GeneralModelChangeEvents and NodeVersions.

In: what was added or removed below which folder. Out: the folder's NodeVersion, counted up, and an event of the Server
object that names the nodes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData

from .changes import Change
from .space import LazyAddressSpace
from .times import ticks_now, to_datetime
from .typetable import good

Id = ua.AttributeIds
Type = ua.VariantType
Verb = ua.ModelChangeStructureVerbMask
Emit = Callable[[str, ua.NodeId, Mapping[str, Any]], None]  # instance, event type, fields
EVENT_TYPE = ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType)
_NAME = ua.QualifiedName("NodeVersion", 0)
_HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
_HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_PROPERTY_TYPE = ua.NodeId(ua.ObjectIds.PropertyType)


class ModelChange(NamedTuple):
    """One node, its type (Null for a method) and what happened to it."""

    affected: ua.NodeId
    type_definition: ua.NodeId
    verb: ua.ModelChangeStructureVerbMask


class ModelChanges:
    """Tells what changed; the NodeVersions are nodes of the namespace of the instances."""

    def __init__(self, space: LazyAddressSpace, namespace: int, emit: Emit) -> None:
        self._space = space
        self._namespace = namespace
        self._emit = emit
        self._versions: dict[ua.NodeId, int] = {}

    def tell(self, instance: str, folder: ua.NodeId, changes: Iterable[ModelChange]) -> None:
        """`changes` are at and below `instance`, which is in `folder`."""
        told = [
            ua.ModelChangeStructureDataType(change.affected, change.type_definition, change.verb)
            for change in changes
        ]
        if told:
            self._count_up(folder)
            self._emit(
                instance,
                EVENT_TYPE,
                {
                    "Message": ua.LocalizedText("Nodes were added or removed"),
                    "Severity": 100,
                    "Changes": told,
                },
            )

    def _count_up(self, folder: ua.NodeId) -> None:
        known = folder in self._versions
        number = self._versions[folder] = self._versions.get(folder, 0) + 1
        now = to_datetime(ticks_now())
        value = ua.DataValue(ua.Variant(str(number), Type.String), ua.StatusCode(), now, now)
        if not known:
            self._add_version(folder, value)
            return
        held = self._space.node(self._node_id(folder)).attributes[Id.Value]
        held.value = value
        for item in tuple(held.datachange_callbacks.values()):
            item.push(Change.of(value))

    def _node_id(self, folder: ua.NodeId) -> ua.NodeId:
        return ua.NodeId(f"NodeVersion of {folder.to_string()}", self._namespace)

    def _add_version(self, folder: ua.NodeId, value: ua.DataValue) -> None:
        node = NodeData(self._node_id(folder))
        label = ua.LocalizedText(_NAME.Name)
        attributes = {
            Id.NodeId: ua.Variant(node.nodeid, Type.NodeId),
            Id.NodeClass: ua.Variant(ua.NodeClass.Variable, Type.Int32),
            Id.BrowseName: ua.Variant(_NAME, Type.QualifiedName),
            Id.DisplayName: ua.Variant(label, Type.LocalizedText),
            Id.WriteMask: ua.Variant(0, Type.UInt32),
            Id.UserWriteMask: ua.Variant(0, Type.UInt32),
            Id.DataType: ua.Variant(ua.NodeId(ua.ObjectIds.String), Type.NodeId),
            Id.ValueRank: ua.Variant(-1, Type.Int32),
            Id.AccessLevel: ua.Variant(1, Type.Byte),
            Id.UserAccessLevel: ua.Variant(1, Type.Byte),
            Id.MinimumSamplingInterval: ua.Variant(0.0, Type.Double),
            Id.Historizing: ua.Variant(False, Type.Boolean),
        }
        node.attributes = {key: AttributeValue(good(variant)) for key, variant in attributes.items()}
        node.attributes[Id.Value] = AttributeValue(value)
        property_class = ua.NodeClass.Variable
        self._space.node(folder).references.append(
            ua.ReferenceDescription(
                _HAS_PROPERTY, True, node.nodeid, _NAME, label, property_class, _PROPERTY_TYPE
            )
        )
        node.references = [
            self._reference(_HAS_PROPERTY, False, folder),
            self._reference(_HAS_TYPE_DEFINITION, True, _PROPERTY_TYPE),
        ]
        self._space.put(node)

    def _reference(self, kind: ua.NodeId, forward: bool, target: ua.NodeId) -> ua.ReferenceDescription:
        face = (self._space.value(target, name) for name in (Id.BrowseName, Id.DisplayName, Id.NodeClass))
        return ua.ReferenceDescription(kind, forward, target, *face, ua.NodeId())
