"""Walks an instance through a client and says what OPC UA's own rules find wrong with it (Part 3, 6.3 to 6.4).

It reads the type definitions from the served address space and knows nothing of templates or of any domain:

    problems = await walk(client, node_id)      # a list of sentences; empty when the object is complete and valid

Checked for the object and all below it: every mandatory declaration of its type, the supertypes, interfaces and
overriding declarations exists, and so does an instance of every mandatory placeholder, with the right BrowseName,
NodeClass, reference, type definition, data type and value rank; references are of a kind that may be between such
nodes, and lead back; methods have the declared arguments; values fit their data type and have a source time; analog
items have a unit and a range; state variables show states of their type; what generates events can be subscribed to.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from asyncua import Client, ua

from . import value_rules
from .type_system import HAS_TYPE_DEFINITION, Declaration, Id, TypeSystem, key_of, placeholders

HAS_ADD_IN = ua.NodeId(ua.ObjectIds.HasAddIn)
HAS_COMPONENT = ua.NodeId(ua.ObjectIds.HasComponent)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
GENERATES_EVENT = ua.NodeId(ua.ObjectIds.GeneratesEvent)
PROPERTY_TYPE = ua.NodeId(ua.ObjectIds.PropertyType)
SUBSCRIBE_TO_EVENTS = 1  # EventNotifier bit 0 (Part 3, 8.59)


@dataclass(frozen=True)
class Found:
    """A node that was walked over. `rule` is that of its declaration, or of the placeholder it fills; else ""."""

    node_id: ua.NodeId
    node_class: ua.NodeClass
    type_definition: ua.NodeId | None
    rule: str


async def walk(client: Client, node_id: ua.NodeId) -> list[str]:
    """What is wrong with this object and everything below it."""
    walker = Walker(client)
    await walker.walk(node_id)
    return walker.problems


class Walker:
    """Goes through one object. `found` are its nodes by browse path, with namespace indexes: ``/11:Production``."""

    def __init__(self, client: Client) -> None:
        self.types = TypeSystem(client)
        self.problems: list[str] = []
        self.found: dict[str, Found] = {}
        self._visited: set[ua.NodeId] = set()

    async def walk(self, node_id: ua.NodeId) -> None:
        await self._check(node_id, [], "", heard=False)

    async def _check(self, node_id: ua.NodeId, overriding: list[ua.NodeId], path: str, heard: bool) -> None:
        """Check a node and all below it; `heard` is whether a node above it tells the events of this one."""
        if node_id in self._visited:
            return
        self._visited.add(node_id)
        where = path or node_id.to_string()
        node_class = ua.NodeClass(await self.types.attribute(node_id, Id.NodeClass))
        if not (await self.types.attribute(node_id, Id.DisplayName)).Text:
            self.problems.append(f"{where}: its DisplayName is empty")
        types = await self.types.targets(node_id, HAS_TYPE_DEFINITION)
        if len(types) != (node_class is not ua.NodeClass.Method):
            self.problems.append(f"{where}: has {len(types)} type definitions")
            return
        if types and await self.types.attribute(types[0], Id.IsAbstract):
            self.problems.append(f"{where}: its type {types[0].to_string()} is abstract")
        if node_class is ua.NodeClass.Object:
            heard |= bool(await self.types.attribute(node_id, Id.EventNotifier) & SUBSCRIBE_TO_EVENTS)
            await self._gather(where, self._events(node_id, types[0], heard))
        elif node_class is ua.NodeClass.Variable:
            await self._check_variable(node_id, types[0], where)
        await self._check_children(node_id, types, overriding, path, heard)

    async def _check_variable(self, node_id: ua.NodeId, type_id: ua.NodeId, where: str) -> None:
        await self._gather(where, value_rules.kind_of_value(self.types, node_id, type_id))
        await self._gather(where, value_rules.value(self.types, node_id))
        await self._gather(where, value_rules.unit_and_range(self.types, node_id))

    async def _check_children(
        self, node_id: ua.NodeId, types: list[ua.NodeId], overriding: list[ua.NodeId], path: str, heard: bool
    ) -> None:
        where = path or node_id.to_string()
        declared = await self.types.declarations(types, overriding, node_id)
        children = {}
        async for reference in self.types.children(node_id):
            key = key_of(reference)
            if key in children and children[key].NodeId != reference.NodeId:
                self.problems.append(f"{where}: two children are called {key[0]}:{key[1]}")
            children[key] = reference
        for key, declaration in declared.items():
            if declaration.rule == "mandatory" and key not in children:
                self.problems.append(f"{where}: mandatory {key[0]}:{key[1]} is missing")
        filled = {}
        for placeholder in placeholders(declared):
            inside = {
                key
                for key, reference in children.items()
                if key not in declared and await self.types.fills(reference, placeholder)
            }
            if placeholder.rule == "mandatory placeholder" and not inside:
                name = placeholder.browse_name
                self.problems.append(f"{where}: no instance of {name.NamespaceIndex}:{name.Name}")
            filled |= dict.fromkeys(inside, placeholder.rule)
        for key, reference in children.items():
            below = f"{path}/{key[0]}:{key[1]}"
            await self._gather(below, self._reference(node_id, reference))
            declaration = declared.get(key)
            rule = declaration.rule if declaration else filled.get(key, "")
            kind = ua.NodeClass(reference.NodeClass)
            type_id = None if kind is ua.NodeClass.Method else reference.TypeDefinition
            self.found[below] = Found(reference.NodeId, kind, type_id, rule)
            if declaration is not None:
                await self._gather(below, self._against(reference, declaration))
            if reference.TypeDefinition in value_rules.FINITE_VARIABLES:
                await self._gather(
                    below, value_rules.state(self.types, types[0], reference.NodeId, reference.TypeDefinition)
                )
            await self._check(reference.NodeId, declaration.nodes if declaration else [], below, heard)

    async def _gather(self, where: str, problems: AsyncIterator[str]) -> None:
        self.problems += [f"{where}: {problem}" async for problem in problems]

    async def _events(self, node_id: ua.NodeId, type_id: ua.NodeId, heard: bool) -> AsyncIterator[str]:
        """Only types and methods say that they generate events, and who does can be listened to (Part 3, 7.15, 5.5)."""
        if await self.types.targets(node_id, GENERATES_EVENT):
            yield "an object refers to events by GeneratesEvent: that is for its type"
        for above in await self.types.supertypes(type_id):
            if not heard and await self.types.targets(above, GENERATES_EVENT):
                yield f"its type {above.to_string()} generates events, but nobody can subscribe to them"

    async def _reference(self, parent: ua.NodeId, reference: ua.ReferenceDescription) -> AsyncIterator[str]:
        """The reference may be between two such nodes, is true of its target, and the target refers back."""
        target, kind = reference.NodeId, reference.ReferenceTypeId
        for attribute in (Id.BrowseName, Id.NodeClass, Id.DisplayName):
            if await self.types.attribute(target, attribute) != getattr(reference, attribute.name):
                yield f"its {attribute.name} differs from its reference's"
        if parent not in await self.types.targets(target, kind, forward=False):
            yield "it does not refer back to its parent"
        is_property = reference.TypeDefinition == PROPERTY_TYPE
        if await self.types.is_a(kind, HAS_PROPERTY) != is_property:
            yield f"referred to by {kind.to_string()}: HasProperty is for properties, and for them alone"
        above = ua.NodeClass(await self.types.attribute(parent, Id.NodeClass))
        if PROPERTY_TYPE in await self.types.targets(parent, HAS_TYPE_DEFINITION):
            yield "it is below a property"
        if above is ua.NodeClass.Variable and reference.NodeClass != ua.NodeClass.Variable:
            yield f"a variable has {reference.NodeClass.name} below it"
        if await self.types.is_a(kind, HAS_ADD_IN) and reference.NodeClass != ua.NodeClass.Object:
            yield "an add-in is not an object"

    async def _against(
        self, reference: ua.ReferenceDescription, declaration: Declaration
    ) -> AsyncIterator[str]:
        """The node is as it was declared."""
        if reference.NodeClass != declaration.node_class:
            yield f"is {reference.NodeClass.name}, not {declaration.node_class.name}"
            return
        if not await self.types.is_a(reference.ReferenceTypeId, declaration.reference_type):
            yield (
                f"referred to by {reference.ReferenceTypeId.to_string()}, "
                f"declared with {declaration.reference_type.to_string()}"
            )
        for type_id in declaration.types:
            if not await self.types.is_a(reference.TypeDefinition, type_id):
                yield f"its type {reference.TypeDefinition.to_string()} is not a {type_id.to_string()}"
        for node_id in declaration.nodes:
            if reference.NodeClass is ua.NodeClass.Variable:
                async for problem in value_rules.kind_of_value(self.types, reference.NodeId, node_id):
                    yield problem
        if reference.NodeClass is ua.NodeClass.Method:
            async for problem in value_rules.arguments(self.types, reference.NodeId, declaration.nodes):
                yield problem
