"""A template: all that the instances of one kind have in common, which is everything but their values.

In: a plan (a tree of Declared), that is, the nodes a type declares. Out: a Template, whose nodes carry shared
attributes, a slot for a value, or a constant value.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from asyncua import ua
from asyncua.ua import ua_binary

from .declarations import SCALAR, Declared
from .errors import TemplateError
from .names import joined
from .space import LazyAddressSpace
from .typetable import SharedValue, good
from .values import ValueType, encoder, value_type

Id = ua.AttributeIds
Type = ua.VariantType
Callback = Callable[..., Awaitable["list[ua.Variant] | ua.StatusCode | ua.CallMethodResult"]]

NO_SLOT = -1
SUBSCRIBE_TO_EVENTS = 1  # EventNotifier bit 0 (Part 3, 8.59)
READABLE = 1  # AccessLevel bit 0 (Part 3, 8.57)


class TemplateNode:
    """One node of a template. Its `path` is "" for the root; `slot` is its place in an instance's list of values."""

    __slots__ = (
        "attributes",
        "browse_name",
        "children",
        "constant",
        "default",
        "display_name",
        "encode",
        "extra_references",
        "for_observers",
        "method",
        "modelling_rule",
        "neutral",
        "node_class",
        "parent",
        "path",
        "reference_type",
        "slot",
        "type_definition",
        "value_type",
    )

    def __init__(self, path: str, parent: "TemplateNode | None", declared: Declared) -> None:
        self.path = path
        self.parent = parent
        self.children: list[TemplateNode] = []
        self.browse_name = declared.browse_name
        self.display_name = declared.display_name
        self.node_class = declared.node_class
        self.type_definition = declared.type_definition
        self.reference_type = declared.reference_type
        self.modelling_rule = declared.modelling_rule
        self.extra_references = declared.extra_references
        self.attributes: dict[ua.AttributeIds, SharedValue] = {}
        self.value_type: ValueType | None = None
        self.encode: Callable[[Any], bytes]  # of a variable: gives a value as an encoded Variant
        self.slot = NO_SLOT
        self.default = b""
        self.constant = False
        self.neutral = False
        self.method: Callback | None = None
        self.for_observers = False

    @property
    def data_type(self) -> ua.NodeId | None:
        """The data type of a variable."""
        return None if self.value_type is None else self.value_type.data_type

    @property
    def value_rank(self) -> int | None:
        """The value rank of a variable: -1 scalar, 1 array."""
        return None if self.value_type is None else self.value_type.value_rank

    def __repr__(self) -> str:
        return f"<TemplateNode {self.path or '(root)'}: {self.node_class.name}>"


class Template:
    """The nodes that every instance of one kind has, by path, and the values it begins with."""

    def __init__(self, nodes: dict[str, TemplateNode]) -> None:
        self._nodes = nodes
        self.paths: Mapping[str, TemplateNode] = MappingProxyType(nodes)
        """All nodes by path, parents before their children."""
        self.root = nodes[""]
        slots = [node for node in nodes.values() if node.slot != NO_SLOT]
        self.defaults: list[bytes] = [node.default for node in slots]
        self.slots = slots

    def on_call(self, path: str, callback: Callback, for_observers: bool = False) -> None:
        """Serve this method on all instances by `await callback(instance, *variants)`.

        The callback gives the output variants, a StatusCode, or a result with both; its arguments are as declared in
        number and type. A method that changes nothing may be `for_observers`; all others are for operators alone.
        """
        node = self._nodes.get(path)
        if node is None or node.node_class is not ua.NodeClass.Method:
            raise TemplateError(f"{path!r} is not a method of this template")
        node.method = callback
        node.for_observers = for_observers
        for attribute in (Id.Executable, Id.UserExecutable):
            node.attributes[attribute] = SharedValue(good(ua.Variant(True, Type.Boolean)))


def make_template(
    space: LazyAddressSpace,
    plan: Declared,
    constants: Mapping[str, Any],
    notifiers: Iterable[str],
    data_types: Mapping[str, ua.NodeId],
) -> Template:
    """The template of a plan; the mappings are by path.

    TemplateError for paths that do not exist, names that are not unique and values that do not fit.
    """
    maker = _Maker(space, constants, frozenset(notifiers), data_types)
    maker.add(plan, None, "")
    unknown = {*constants, *data_types, *maker.notifiers} - maker.nodes.keys()
    if unknown:
        raise TemplateError(
            f"the template of {plan.browse_name.Name} has no node {', '.join(sorted(unknown))}: "
            "include it or correct the path"
        )
    return Template(maker.nodes)


class _Maker:
    def __init__(
        self,
        space: LazyAddressSpace,
        constants: Mapping[str, Any],
        notifiers: frozenset[str],
        data_types: Mapping[str, ua.NodeId],
    ) -> None:
        self.space = space
        self.constants = constants
        self.notifiers = notifiers
        self.data_types = data_types
        self.nodes: dict[str, TemplateNode] = {}
        self._slots = 0
        self._shared: dict[Any, SharedValue] = {}

    def add(self, declared: Declared, parent: TemplateNode | None, path: str) -> TemplateNode:
        if path in self.nodes:
            raise TemplateError(
                f"two nodes of the template would be called {path}: paths leave namespaces out, so names must differ"
            )
        node = self.nodes[path] = TemplateNode(path, parent, declared)
        node.attributes = dict(self._attributes(node, declared))
        if node.node_class is ua.NodeClass.Variable:
            self._give_value(node, declared)
        elif path in self.constants or path in self.data_types:
            raise TemplateError(f"{path} is not a variable: it has neither a value nor a data type")
        for child in declared.children:
            node.children.append(self.add(child, node, joined(path, child.browse_name.Name)))
        return node

    def _attributes(
        self, node: TemplateNode, declared: Declared
    ) -> Iterator[tuple[ua.AttributeIds, SharedValue]]:
        node_class = node.node_class
        yield Id.NodeClass, self._share(node_class, Type.Int32)
        yield Id.BrowseName, self._share(node.browse_name, Type.QualifiedName)
        yield Id.DisplayName, self._share(node.display_name, Type.LocalizedText)
        yield Id.WriteMask, self._share(0, Type.UInt32)
        yield Id.UserWriteMask, self._share(0, Type.UInt32)
        description = self._declared(declared, Id.Description)
        if description is not None and description.Text:
            yield Id.Description, self._share(description, Type.LocalizedText)
        if node_class is ua.NodeClass.Object:
            notifier = self._declared(declared, Id.EventNotifier) or 0
            if node.path in self.notifiers:
                notifier |= SUBSCRIBE_TO_EVENTS
            yield Id.EventNotifier, self._share(notifier, Type.Byte)
        elif node_class is ua.NodeClass.Method:
            yield Id.Executable, self._share(False, Type.Boolean)
            yield Id.UserExecutable, self._share(False, Type.Boolean)
        else:
            data_type = self.data_types.get(node.path) or declared.data_type
            if data_type is None:
                data_type = self._declared(declared, Id.DataType)
            rank = declared.value_rank
            if rank is None:
                rank = self._declared(declared, Id.ValueRank)
            if node.path in self.data_types:  # narrowed: a type for any values gets single ones
                rank = rank if rank >= 1 else SCALAR
            node.value_type = value_type(self.space, data_type, rank)
            yield Id.DataType, self._share(data_type, Type.NodeId)
            yield Id.ValueRank, self._share(int(rank), Type.Int32)
            yield Id.AccessLevel, self._share(READABLE, Type.Byte)
            yield Id.UserAccessLevel, self._share(READABLE, Type.Byte)
            yield Id.MinimumSamplingInterval, self._share(0.0, Type.Double)
            yield Id.Historizing, self._share(False, Type.Boolean)
            if rank >= 1:
                dimensions = self._declared(declared, Id.ArrayDimensions) or [0] * rank
                yield (
                    Id.ArrayDimensions,
                    SharedValue(good(ua.Variant(dimensions, Type.UInt32, is_array=True))),
                )

    def _give_value(self, node: TemplateNode, declared: Declared) -> None:
        assert node.value_type is not None  # noqa: S101 (mypy: a variable has one)
        if node.path in self.constants:
            try:
                variant = node.value_type.variant(self.constants[node.path])
            except TypeError as error:
                raise TemplateError(f"the constant for {node.path} is {error}") from None
            node.constant = True
        else:
            held = self._declared_variant(declared)
            node.neutral = held is None
            variant = node.value_type.neutral() if held is None else held
            node.constant = declared.fixed and not node.neutral
        node.encode = encoder(node.value_type)
        node.default = ua_binary.variant_to_binary(variant)
        if not node.constant:
            node.slot = self._slots
            self._slots += 1

    def _declared(self, declared: Declared, attribute: ua.AttributeIds) -> Any:
        """The attribute as the most derived declaration that has it says, or else the type."""
        types = () if attribute is Id.Description else declared.types
        for source in (*declared.sources, *types):
            value = self.space.value(source, attribute)
            if value is not None:
                return value
        return None

    def _declared_variant(self, declared: Declared) -> ua.Variant | None:
        for source in (*declared.sources, *declared.types):
            variant = self.space.read_attribute_value(source, Id.Value).Value
            if variant is not None and variant.Value is not None:
                return variant
        return None

    def _share(self, value: Any, kind: ua.VariantType) -> SharedValue:
        key = (kind, repr(value))
        held = self._shared.get(key)
        if held is None:
            held = self._shared[key] = SharedValue(good(ua.Variant(value, kind)))
        return held
