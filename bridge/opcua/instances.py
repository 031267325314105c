"""Instances without a node object each: a template, and per instance a list of values and one of times.

In: `add`, and writes by path. Out: the nodes of the instance namespace, made for each access (`find`), and a data
change for the monitored items of an attribute. A NodeId is `s=<name>` for the instance itself and
`s=<name>.<path>` below; monitored items hang on it, and outlive a change of the template.
"""

import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

from .changes import BAD, Change
from .declarations import HAS_TYPE_DEFINITION
from .errors import InstanceError
from .model_changes import ModelChange
from .names import escaped
from .ports import SCOPE
from .roles import role_permissions, user_role_permissions
from .space import LazyAddressSpace, Watchers
from .template import NO_SLOT, Template, TemplateNode
from .times import ticks_now, to_datetime, to_ticks
from .typetable import good

Id = ua.AttributeIds
Verb = ua.ModelChangeStructureVerbMask
Encoded = bytes | Callable[[], Any]  # a value as it is held: encoded, or what gives it
ModelChanged = Callable[[str, ua.NodeId, Sequence[ModelChange]], None]  # instance, its folder, what changed
Type = ua.VariantType
UNWRITTEN = 0  # the time of a value that nobody wrote yet
NOTHING = ua.Variant()
_OF_EVERY_NODE = {Id.NodeId, Id.RolePermissions, Id.UserRolePermissions}


class Instances:
    """All instances of a server, by name; they form one namespace of the address space."""

    def __init__(self, namespace: int) -> None:
        self.namespace = namespace
        self.space: LazyAddressSpace
        self.model_changed: ModelChanged = lambda instance, folder, changes: None
        self.elsewhere: Callable[[str], Instance | None] = lambda part: (
            None
        )  # instances that are not held here
        self._by_part: dict[str, Instance] = {}  # by escaped name, the first part of NodeIds

    def get(self, name: str) -> "Instance":
        """The instance, or InstanceError."""
        instance = self._by_part.get(escaped(name))
        if instance is None:
            raise InstanceError(f"there is no instance {name!r}")
        return instance

    def add(
        self,
        name: str,
        display_name: str,
        template: Template,
        parent: ua.NodeId,
        kind: "type[Instance] | None" = None,
    ) -> "Instance":
        """A new instance below a node of the type table, by Organizes."""
        if not name:
            raise InstanceError("an instance needs a name")
        part = escaped(name)
        if part in self._by_part:
            raise InstanceError(f"there is an instance {name!r} already: names must differ")
        instance = self._by_part[part] = (kind or Instance)(self, name, display_name, template, parent)
        root = template.root
        self.space.node(parent).references.append(
            ua.ReferenceDescription(
                root.reference_type,
                True,
                instance.node_id(),
                instance.browse_name,
                instance.display_name,
                root.node_class,
                root.type_definition,
            )
        )
        self.model_changed(name, parent, [instance.model_change(root, Verb.NodeAdded)])
        return instance

    def remove(self, name: str) -> None:
        """Take the instance away; its monitored items are told BadNodeIdUnknown."""
        instance = self.get(name)
        root = instance.node_id()
        references = self.space.node(instance.parent).references
        references[:] = [reference for reference in references if reference.NodeId != root]
        del self._by_part[escaped(name)]
        instance.tell_all()
        removed = instance.model_change(instance.template.root, Verb.NodeDeleted)
        self.model_changed(name, instance.parent, [removed])

    def find(self, node_id: ua.NodeId) -> "InstanceNode | None":
        """The node of the instance namespace with this id, if the request that is being served may find it."""
        identifier = node_id.Identifier
        if not isinstance(identifier, str):
            return None
        part, _, path = identifier.partition(".")
        instance = self._by_part.get(part)
        if instance is not None:
            scope = SCOPE.get()
            if scope is not None and instance.name not in scope:
                return None
        else:
            instance = self.elsewhere(part)
        if instance is None or (not path and len(part) != len(identifier)):
            return None
        node = instance.template.paths.get(path)
        return None if node is None else InstanceNode(instance, node)


class Instance:
    """One object of a template: values are written and read by path."""

    __slots__ = (
        "_created",
        "_instances",
        "_statuses",
        "_times",
        "_values",
        "_watchers",
        "browse_name",
        "display_name",
        "name",
        "parent",
        "template",
    )

    def __init__(
        self, instances: Instances, name: str, display_name: str, template: Template, parent: ua.NodeId
    ) -> None:
        self.name = name
        self.parent = parent
        self.browse_name = ua.QualifiedName(name, instances.namespace)
        self.display_name = ua.LocalizedText(display_name)
        self._instances = instances
        self._created = ticks_now()
        self._watchers: dict[str, dict[int, Watchers]] = {}  # by path and attribute, once monitored
        self._begin(template)

    def _begin(self, template: Template) -> None:
        self.template = template
        self._values: list[Encoded] = list(template.defaults)
        self._times = [UNWRITTEN if node.neutral else self._created for node in template.slots]
        self._statuses: dict[int, int] = {}  # by slot, only those that are not Good

    def node_id(self, path: str = "") -> ua.NodeId:
        """The id of a node of this instance; the instance's own without a path."""
        name = escaped(self.name)
        return ua.NodeId(f"{name}.{path}" if path else name, self._instances.namespace)

    def write(
        self, path: str, value: Any, source_time: datetime | int | None = None, status: int = 0
    ) -> None:
        """Give a variable a value: a Variant, or what its data type takes (e.g. a float for a Double).

        A value that is costly to make may be given as a function, called once when somebody first wants the value;
        None leaves the value as it is.
        `source_time` is when the value came to be at its source (a datetime with time zone, or ticks); now if
        left out. `status` is a status code; while it is Bad, clients see no value. InstanceError for an unknown
        path, a constant or a value of another type.
        """
        node = self._variable(path)
        if value is None:
            value = self._values[node.slot]
        elif not callable(value):
            value = self._encode(node, value)
        self._store(node, value, source_time, status)

    def set_status(self, path: str, status: int, source_time: datetime | int | None = None) -> None:
        """Change the status alone; the value is kept, and comes back with a status that is not Bad."""
        node = self._variable(path)
        if self._times[node.slot] != UNWRITTEN:
            self._store(node, self._values[node.slot], source_time, status)

    def rename(self, display_name: str) -> None:
        """Give the instance another display name."""
        self.display_name = ua.LocalizedText(display_name)
        root = self.node_id()
        for reference in self._instances.space.node(self.parent).references:
            if reference.NodeId == root:
                reference.DisplayName = self.display_name
        self.tell_all()

    def refit(self, template: Template) -> None:
        """Take another template. Variables that both have keep what they hold, and all nodes their monitored items.

        Items of nodes that are no more are told BadNodeIdUnknown, and go on should their node come back.
        """
        before, values, times, statuses = self.template, self._values, self._times, self._statuses
        self._begin(template)
        for node in template.slots:
            old = before.paths.get(node.path)
            if old is None or old.slot == NO_SLOT or old.value_type != node.value_type:
                continue
            self._values[node.slot] = values[old.slot]
            self._times[node.slot] = times[old.slot]
            if old.slot in statuses:
                self._statuses[node.slot] = statuses[old.slot]
        self.tell_all()
        was, now = before.paths, template.paths
        changes = [
            *(self.model_change(was[path], Verb.NodeDeleted) for path in was if path not in now),
            *(self.model_change(now[path], Verb.NodeAdded) for path in now if path not in was),
        ]
        self._instances.model_changed(self.name, self.parent, changes)

    def model_change(self, node: TemplateNode, verb: ua.ModelChangeStructureVerbMask) -> ModelChange:
        """What is to be told when this node comes or goes."""
        return ModelChange(self.node_id(node.path), node.type_definition or ua.NodeId(), verb)

    def read(self, path: str) -> ua.DataValue:
        """What a client reads there: value, status and times."""
        node = self.template.paths.get(path)
        if node is None or node.value_type is None:
            raise InstanceError(f"{self.name} has no variable {path!r}")
        return self.data_value(node)

    def unwritten(self) -> list[str]:
        """Paths of the variables that nobody wrote yet and no type gives a value; they read as Uncertain."""
        return [
            node.path
            for node, time in zip(self.template.slots, self._times, strict=True)
            if time == UNWRITTEN
        ]

    def data_value(self, node: TemplateNode) -> ua.DataValue:
        """The present value of a variable of the template."""
        slot = node.slot
        if slot == NO_SLOT:
            return _data_value(node.default, self._created, 0)
        time = self._times[slot]
        if time == UNWRITTEN:
            return _data_value(self._encoded(node), self._created, ua.StatusCodes.UncertainInitialValue)
        return _data_value(self._encoded(node), time, self._statuses.get(slot, 0))

    def watchers(self, path: str, attribute: int) -> Watchers:
        """The monitored items of an attribute; asyncua adds its own here."""
        return self._watchers.setdefault(path, {}).setdefault(attribute, {})

    def tell_all(self) -> None:
        """Tell every monitored item how things stand; each passes on only what it did not know."""
        for path, attributes in self._watchers.items():
            for attribute, watchers in attributes.items():
                if watchers:
                    value = self._instances.space.read_attribute_value(self.node_id(path), attribute)
                    _tell(watchers, Change.of(value))

    def _encode(self, node: TemplateNode, value: Any) -> bytes:
        try:
            return node.encode(value)
        except (TypeError, ValueError, OverflowError, AttributeError, struct.error, ua.UaError) as error:
            raise InstanceError(f"{self.name}.{node.path} cannot hold {value!r}: {error}") from error

    def _encoded(self, node: TemplateNode) -> bytes:
        held = self._values[node.slot]
        if not isinstance(held, bytes):
            held = self._values[node.slot] = self._encode(node, held())
        return held

    def _variable(self, path: str) -> TemplateNode:
        node = self.template.paths.get(path)
        if node is None or node.value_type is None:
            raise InstanceError(f"{self.name} has no variable {path!r}")
        if node.slot == NO_SLOT:
            raise InstanceError(f"{self.name}.{path} is a constant of its template: it cannot be written")
        return node

    def _store(
        self, node: TemplateNode, value: Encoded, source_time: datetime | int | None, status: int
    ) -> None:
        slot = node.slot
        now = ticks_now()
        time = now if source_time is None else to_ticks(source_time)
        self._values[slot] = value
        self._times[slot] = time
        if status:
            self._statuses[slot] = status
        elif self._statuses:
            self._statuses.pop(slot, None)
        watched = self._watchers.get(node.path)
        watchers = watched and watched.get(Id.Value)
        if watchers:
            _tell(watchers, Change(self._encoded(node), status, time, now))

    @property
    def instances(self) -> Instances:
        """Where the instance belongs."""
        return self._instances


def _tell(watchers: Watchers, change: Change) -> None:
    for item in watchers.values():
        item.push(change)


def _data_value(encoded: bytes, time: int, status: int) -> ua.DataValue:
    moment = to_datetime(time)
    variant = NOTHING if status & BAD else ua_binary.variant_from_binary(Buffer(encoded))
    return ua.DataValue(variant, ua.StatusCode(status), moment, moment)


class InstanceNode:
    """A node of an instance, as asyncua's services expect one; made for one access."""

    __slots__ = ("instance", "node")
    call = None  # LazyMethodService finds the template's callback instead

    def __init__(self, instance: Instance, node: TemplateNode) -> None:
        self.instance = instance
        self.node = node

    @property
    def nodeid(self) -> ua.NodeId:
        """The node's id."""
        return self.instance.node_id(self.node.path)

    @property
    def attributes(self) -> "InstanceAttributes":
        """The node's attributes, by id."""
        return InstanceAttributes(self.instance, self.node)

    @property
    def references(self) -> list[ua.ReferenceDescription]:
        """References to its parent (inverse), its type, its children, and the interfaces its declaration names."""
        instance, node = self.instance, self.node
        space = instance.instances.space
        references = [self._to_parent(space)]
        if node.type_definition is not None:
            references.append(
                ua.ReferenceDescription(
                    HAS_TYPE_DEFINITION,
                    True,
                    node.type_definition,
                    *_face(space, node.type_definition),
                    ua.NodeId(),
                )
            )
        references += [
            ua.ReferenceDescription(
                child.reference_type,
                True,
                instance.node_id(child.path),
                child.browse_name,
                child.display_name,
                child.node_class,
                child.type_definition or ua.NodeId(),
            )
            for child in node.children
        ]
        return references + node.extra_references

    def _to_parent(self, space: LazyAddressSpace) -> ua.ReferenceDescription:
        instance, node = self.instance, self.node
        parent = node.parent
        if parent is None:
            face = _face(space, instance.parent)
            type_definition = next(
                (
                    reference.NodeId
                    for reference in space.node(instance.parent).references
                    if reference.IsForward and reference.ReferenceTypeId == HAS_TYPE_DEFINITION
                ),
                ua.NodeId(),
            )
            return ua.ReferenceDescription(
                node.reference_type, False, instance.parent, *face, type_definition
            )
        is_root = parent.parent is None
        return ua.ReferenceDescription(
            node.reference_type,
            False,
            instance.node_id(parent.path),
            instance.browse_name if is_root else parent.browse_name,
            instance.display_name if is_root else parent.display_name,
            parent.node_class,
            parent.type_definition or ua.NodeId(),
        )


def _face(space: LazyAddressSpace, node_id: ua.NodeId) -> tuple[Any, Any, Any]:
    return (
        space.value(node_id, Id.BrowseName),
        space.value(node_id, Id.DisplayName),
        space.value(node_id, Id.NodeClass),
    )


class InstanceAttributes:
    """The attributes of an instance node: the template's, and what is the instance's own."""

    __slots__ = ("_instance", "_node")

    def __init__(self, instance: Instance, node: TemplateNode) -> None:
        self._instance = instance
        self._node = node

    def __contains__(self, attribute: object) -> bool:
        if attribute == Id.Value:
            return self._node.value_type is not None
        return attribute in _OF_EVERY_NODE or attribute in self._node.attributes

    def __getitem__(self, attribute: int) -> "InstanceAttribute":
        if attribute not in self:
            raise KeyError(attribute)
        return InstanceAttribute(self._instance, self._node, attribute)

    def get(self, attribute: int, default: Any = None) -> Any:
        """The attribute, or the default when the node has none such."""
        return InstanceAttribute(self._instance, self._node, attribute) if attribute in self else default


class InstanceAttribute:
    """An attribute of an instance node, as asyncua's services expect it."""

    __slots__ = ("_attribute", "_instance", "_node")
    value_callback = None
    value_setter = None

    def __init__(self, instance: Instance, node: TemplateNode, attribute: int) -> None:
        self._instance = instance
        self._node = node
        self._attribute = attribute

    @property
    def value(self) -> ua.DataValue:
        """The present value."""
        instance, node, attribute = self._instance, self._node, self._attribute
        if attribute == Id.Value:
            return instance.data_value(node)
        if attribute == Id.RolePermissions:
            return role_permissions(node.for_observers)
        if attribute == Id.UserRolePermissions:
            return user_role_permissions(node.for_observers)
        if attribute == Id.NodeId:
            return good(ua.Variant(instance.node_id(node.path), Type.NodeId))
        if node.parent is None:
            if attribute == Id.BrowseName:
                return good(ua.Variant(instance.browse_name, Type.QualifiedName))
            if attribute == Id.DisplayName:
                return good(ua.Variant(instance.display_name, Type.LocalizedText))
        return node.attributes[attribute].value

    @property
    def datachange_callbacks(self) -> Watchers:
        """The monitored items."""
        return self._instance.watchers(self._node.path, self._attribute)
