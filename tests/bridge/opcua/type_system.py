"""The type system of a server as a client reads it: references, attributes, and what types declare.

In: a client. Out: `Declaration`s by browse name, as OPC UA's rules merge them (Part 3, 6.3 to 6.4; interfaces: 4.10).
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from asyncua import Client, ua

Id = ua.AttributeIds
HAS_SUBTYPE = ua.NodeId(ua.ObjectIds.HasSubtype)
HAS_INTERFACE = ua.NodeId(ua.ObjectIds.HasInterface)
HAS_MODELLING_RULE = ua.NodeId(ua.ObjectIds.HasModellingRule)
HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
HIERARCHICAL = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
RULES = {
    ua.NodeId(ua.ObjectIds.ModellingRule_Optional): "optional",
    ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory): "mandatory",
    ua.NodeId(ua.ObjectIds.ModellingRule_OptionalPlaceholder): "optional placeholder",
    ua.NodeId(ua.ObjectIds.ModellingRule_MandatoryPlaceholder): "mandatory placeholder",
}
ATTRIBUTES = [
    Id.NodeClass,
    Id.BrowseName,
    Id.DisplayName,
    Id.IsAbstract,
    Id.EventNotifier,
    Id.DataType,
    Id.ValueRank,
    Id.ArrayDimensions,
    Id.DataTypeDefinition,
]
STRENGTH = ["", *RULES.values()]
INSTANCES = {ua.NodeClass.Object, ua.NodeClass.Variable, ua.NodeClass.Method}

NameKey = tuple[int, str]


@dataclass
class Declaration:
    """One instance declaration; `nodes` and `types` are its own and those that it overrides, most derived first."""

    browse_name: ua.QualifiedName
    node_class: ua.NodeClass
    reference_type: ua.NodeId
    rule: str = ""
    nodes: list[ua.NodeId] = field(default_factory=list)
    types: list[ua.NodeId] = field(default_factory=list)

    @property
    def is_placeholder(self) -> bool:
        return self.rule.endswith("placeholder")


class DeclaredVariable(NamedTuple):
    """A variable of a type: its browse path, its declaration, and whether every instance has it."""

    path: tuple[ua.QualifiedName, ...]
    node_id: ua.NodeId
    mandatory: bool


class TypeSystem:
    """Reads each node once."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._references: dict[ua.NodeId, list[ua.ReferenceDescription]] = {}
        self._supertypes: dict[ua.NodeId, list[ua.NodeId]] = {}
        self._attributes: dict[ua.NodeId, dict[ua.AttributeIds, Any]] = {}

    async def references(self, node_id: ua.NodeId) -> list[ua.ReferenceDescription]:
        if node_id not in self._references:
            self._references[node_id] = await self.client.get_node(node_id).get_references()
        return self._references[node_id]

    async def attribute(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> Any:
        """One of `ATTRIBUTES`; None where the node has no such attribute."""
        if node_id not in self._attributes:
            values = await self.client.get_node(node_id).read_attributes(ATTRIBUTES)
            found = (data.Value.Value if data.StatusCode.is_good() else None for data in values)
            self._attributes[node_id] = dict(zip(ATTRIBUTES, found, strict=True))
        return self._attributes[node_id][attribute]

    async def value(self, node_id: ua.NodeId) -> ua.DataValue:
        return await self.client.get_node(node_id).read_data_value(raise_on_bad_status=False)

    async def targets(self, node_id: ua.NodeId, kind: ua.NodeId, forward: bool = True) -> list[ua.NodeId]:
        return [
            r.NodeId
            for r in await self.references(node_id)
            if r.ReferenceTypeId == kind and r.IsForward == forward
        ]

    async def children(self, node_id: ua.NodeId) -> AsyncIterator[ua.ReferenceDescription]:
        """The references to objects, variables and methods below a node."""
        for reference in await self.references(node_id):
            if not reference.IsForward or reference.NodeClass not in INSTANCES:
                continue
            if await self.is_a(reference.ReferenceTypeId, HIERARCHICAL):
                yield reference

    async def child(self, node_id: ua.NodeId, name: str) -> ua.NodeId | None:
        """The child with this name of the standard namespace."""
        async for reference in self.children(node_id):
            if reference.BrowseName == ua.QualifiedName(name, 0):
                return reference.NodeId
        return None

    async def supertypes(self, type_id: ua.NodeId) -> list[ua.NodeId]:
        """The type itself, then its supertypes up to the root of its kind."""
        chain = self._supertypes.get(type_id)
        if chain is None:
            chain = [type_id]
            for above in (await self.targets(type_id, HAS_SUBTYPE, forward=False))[:1]:
                chain += await self.supertypes(above)
            self._supertypes[type_id] = chain
        return chain

    async def is_a(self, type_id: ua.NodeId, ancestor: ua.NodeId) -> bool:
        return ancestor in await self.supertypes(type_id)

    async def declarations(
        self,
        type_ids: Iterable[ua.NodeId],
        overriding: Iterable[ua.NodeId],
        instance: ua.NodeId | None = None,
    ) -> dict[NameKey, Declaration]:
        """What these types, overriding declarations and the instance's own interfaces declare, by browse name."""
        sources = list(overriding)
        for type_id in type_ids:
            sources += await self.supertypes(type_id)
        for source in [*sources, *([] if instance is None else [instance])]:
            for interface in await self.targets(source, HAS_INTERFACE):
                sources += await self.supertypes(interface)
        declared: dict[NameKey, Declaration] = {}
        for source in dict.fromkeys(sources):
            async for reference in self.children(source):
                entry = declared.setdefault(
                    key_of(reference),
                    Declaration(reference.BrowseName, reference.NodeClass, reference.ReferenceTypeId),
                )
                if reference.NodeId not in entry.nodes:
                    entry.nodes.append(reference.NodeId)
                entry.types += await self.targets(reference.NodeId, HAS_TYPE_DEFINITION)
                for rule in await self.targets(reference.NodeId, HAS_MODELLING_RULE):
                    entry.rule = max(entry.rule, RULES.get(rule, ""), key=STRENGTH.index)
        return declared

    async def variables(self, type_id: ua.NodeId) -> AsyncIterator[DeclaredVariable]:
        """All variables that a type declares or inherits, with those below them: the fields of an event type."""
        waiting = [((), [type_id], [], True)]
        while waiting:
            above, type_ids, overriding, needed = waiting.pop(0)
            for one in (await self.declarations(type_ids, overriding)).values():
                if one.node_class is ua.NodeClass.Variable and one.rule:
                    path, mandatory = (*above, one.browse_name), needed and one.rule == "mandatory"
                    yield DeclaredVariable(path, one.nodes[0], mandatory)
                    waiting.append((path, one.types[:1], one.nodes, mandatory))

    async def fills(self, reference: ua.ReferenceDescription, placeholder: Declaration) -> bool:
        """Whether what is referred to is an instance of the placeholder (Part 3, 6.4.4.4.4 and 6.4.4.4.5)."""
        if reference.NodeClass != placeholder.node_class:
            return False
        if not await self.is_a(reference.ReferenceTypeId, placeholder.reference_type):
            return False
        return all([await self.is_a(reference.TypeDefinition, wanted) for wanted in placeholder.types])


def key_of(reference: ua.ReferenceDescription) -> NameKey:
    """The browse name of what is referred to, as a key."""
    return reference.BrowseName.NamespaceIndex, reference.BrowseName.Name


def placeholders(declared: dict[NameKey, Declaration]) -> Iterator[Declaration]:
    """Those that instances fill with nodes of other names."""
    return (declaration for declaration in declared.values() if declaration.is_placeholder)
