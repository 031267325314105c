"""Walks an instance through a client and says what OPC UA's own rules find wrong with it (Part 3, 6.3 to 6.4).

It reads the type definitions from the served address space and knows nothing of templates or of any domain:

    problems = await walk(client, node_id)      # a list of sentences; empty when the object is complete and valid

Checked for the object and all below it: every mandatory declaration of its type, the supertypes, interfaces and
overriding declarations exists, with the right BrowseName, NodeClass, reference, type definition, data type and
value rank; methods have their arguments; values fit their data type and have a source time; references lead back.
"""

from dataclasses import dataclass, field

from asyncua import Client, ua

Id = ua.AttributeIds
HAS_SUBTYPE = ua.NodeId(ua.ObjectIds.HasSubtype)
HAS_INTERFACE = ua.NodeId(ua.ObjectIds.HasInterface)
HAS_MODELLING_RULE = ua.NodeId(ua.ObjectIds.HasModellingRule)
HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
HIERARCHICAL = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
MANDATORY = ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory)
PLACEHOLDERS = {
    ua.NodeId(ua.ObjectIds.ModellingRule_MandatoryPlaceholder),
    ua.NodeId(ua.ObjectIds.ModellingRule_OptionalPlaceholder),
}
ENUMERATION = ua.NodeId(ua.ObjectIds.Enumeration)
INT32 = ua.NodeId(ua.ObjectIds.Int32)
INSTANCES = {ua.NodeClass.Object, ua.NodeClass.Variable, ua.NodeClass.Method}


@dataclass
class Declaration:
    browse_name: ua.QualifiedName
    node_class: ua.NodeClass
    reference_type: ua.NodeId
    nodes: list[ua.NodeId]
    mandatory: bool
    types: list[ua.NodeId] = field(default_factory=list)


async def walk(client: Client, node_id: ua.NodeId) -> list[str]:
    """What is wrong with this object and everything below it."""
    walker = Walker(client)
    await walker.check(node_id, [], "")
    return walker.problems


class Walker:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.problems: list[str] = []
        self.visited: set[ua.NodeId] = set()
        self._references: dict[ua.NodeId, list[ua.ReferenceDescription]] = {}
        self._attributes: dict[tuple[ua.NodeId, ua.AttributeIds], object] = {}

    async def references(self, node_id: ua.NodeId) -> list[ua.ReferenceDescription]:
        if node_id not in self._references:
            self._references[node_id] = await self.client.get_node(node_id).get_references()
        return self._references[node_id]

    async def attribute(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> object:
        key = (node_id, attribute)
        if key not in self._attributes:
            value = await self.client.get_node(node_id).read_attribute(attribute)
            self._attributes[key] = value.Value.Value
        return self._attributes[key]

    async def targets(self, node_id: ua.NodeId, kind: ua.NodeId, forward: bool = True) -> list[ua.NodeId]:
        return [
            r.NodeId
            for r in await self.references(node_id)
            if r.ReferenceTypeId == kind and r.IsForward == forward
        ]

    async def supertypes(self, type_id: ua.NodeId) -> list[ua.NodeId]:
        chain = [type_id]
        while above := await self.targets(chain[-1], HAS_SUBTYPE, forward=False):
            chain.append(above[0])
        return chain

    async def is_a(self, type_id: ua.NodeId, ancestor: ua.NodeId) -> bool:
        return ancestor in await self.supertypes(type_id)

    async def declarations(
        self, type_ids: list[ua.NodeId], overriding: list[ua.NodeId]
    ) -> dict[tuple[int, str], Declaration]:
        """What these types and overriding declarations declare, by browse name."""
        sources = list(overriding)
        for type_id in type_ids:
            sources += await self.supertypes(type_id)
        for source in list(sources):
            for interface in await self.targets(source, HAS_INTERFACE):
                sources += await self.supertypes(interface)
        declared: dict[tuple[int, str], Declaration] = {}
        for source in dict.fromkeys(sources):
            for reference in await self.references(source):
                if not reference.IsForward or reference.NodeClass not in INSTANCES:
                    continue
                if not await self.is_a(reference.ReferenceTypeId, HIERARCHICAL):
                    continue
                rules = await self.targets(reference.NodeId, HAS_MODELLING_RULE)
                if PLACEHOLDERS & set(rules):
                    continue
                key = (reference.BrowseName.NamespaceIndex, reference.BrowseName.Name)
                entry = declared.setdefault(
                    key,
                    Declaration(
                        reference.BrowseName,
                        reference.NodeClass,
                        reference.ReferenceTypeId,
                        [],
                        mandatory=False,
                    ),
                )
                if reference.NodeId not in entry.nodes:
                    entry.nodes.append(reference.NodeId)
                entry.mandatory |= MANDATORY in rules
                entry.types += await self.targets(reference.NodeId, HAS_TYPE_DEFINITION)
        return declared

    async def check(self, node_id: ua.NodeId, overriding: list[ua.NodeId], path: str) -> None:
        if node_id in self.visited:
            return
        self.visited.add(node_id)
        types = await self.targets(node_id, HAS_TYPE_DEFINITION)
        node_class = ua.NodeClass(await self.attribute(node_id, Id.NodeClass))
        where = path or node_id.to_string()
        if node_class is ua.NodeClass.Method:
            if types:
                self.problems.append(f"{where}: a method has a type definition")
        elif len(types) != 1:
            self.problems.append(f"{where}: has {len(types)} type definitions")
            return
        elif await self.attribute(types[0], Id.IsAbstract):
            self.problems.append(f"{where}: its type {types[0].to_string()} is abstract")
        declared = await self.declarations(types, overriding)
        children = {}
        for reference in await self.references(node_id):
            if not reference.IsForward or reference.NodeClass not in INSTANCES:
                continue
            if not await self.is_a(reference.ReferenceTypeId, HIERARCHICAL):
                continue
            key = (reference.BrowseName.NamespaceIndex, reference.BrowseName.Name)
            if key in children and children[key].NodeId != reference.NodeId:
                self.problems.append(f"{where}: two children are called {key[0]}:{key[1]}")
            children[key] = reference
        for key, declaration in declared.items():
            if declaration.mandatory and key not in children:
                self.problems.append(f"{where}: mandatory {key[0]}:{key[1]} is missing")
        if node_class is ua.NodeClass.Variable:
            await self.check_value(node_id, where)
        for key, reference in children.items():
            below = f"{path}/{key[0]}:{key[1]}"
            await self.check_reference(node_id, reference, below)
            declaration = declared.get(key)
            if declaration is not None:
                await self.check_against(reference, declaration, below)
            await self.check(reference.NodeId, declaration.nodes if declaration else [], below)

    async def check_reference(
        self, parent: ua.NodeId, reference: ua.ReferenceDescription, where: str
    ) -> None:
        """What the reference says of its target is what the target says, and the target refers back."""
        target = reference.NodeId
        if await self.attribute(target, Id.BrowseName) != reference.BrowseName:
            self.problems.append(f"{where}: its BrowseName differs from its reference's")
        if await self.attribute(target, Id.NodeClass) != reference.NodeClass:
            self.problems.append(f"{where}: its NodeClass differs from its reference's")
        if await self.attribute(target, Id.DisplayName) != reference.DisplayName:
            self.problems.append(f"{where}: its DisplayName differs from its reference's")
        if parent not in await self.targets(target, reference.ReferenceTypeId, forward=False):
            self.problems.append(f"{where}: it does not refer back to its parent")

    async def check_against(
        self, reference: ua.ReferenceDescription, declaration: Declaration, where: str
    ) -> None:
        if reference.NodeClass != declaration.node_class:
            self.problems.append(f"{where}: is {reference.NodeClass.name}, not {declaration.node_class.name}")
            return
        if not await self.is_a(reference.ReferenceTypeId, declaration.reference_type):
            self.problems.append(
                f"{where}: referred to by {reference.ReferenceTypeId.to_string()}, "
                f"declared with {declaration.reference_type.to_string()}"
            )
        for type_id in declaration.types:
            if not await self.is_a(reference.TypeDefinition, type_id):
                self.problems.append(
                    f"{where}: its type {reference.TypeDefinition.to_string()} is not a {type_id.to_string()}"
                )
        if reference.NodeClass is not ua.NodeClass.Variable:
            return
        data_type = await self.attribute(reference.NodeId, Id.DataType)
        rank = await self.attribute(reference.NodeId, Id.ValueRank)
        for node_id in declaration.nodes:
            wanted_type = await self.attribute(node_id, Id.DataType)
            wanted_rank = await self.attribute(node_id, Id.ValueRank)
            if not await self.is_a(data_type, wanted_type):
                self.problems.append(
                    f"{where}: its data type {data_type.to_string()} is not {wanted_type.to_string()}"
                )
            if not rank_allowed(rank, wanted_rank):
                self.problems.append(f"{where}: its value rank {rank} is not {wanted_rank}")

    async def check_value(self, node_id: ua.NodeId, where: str) -> None:
        data_type = await self.attribute(node_id, Id.DataType)
        rank = await self.attribute(node_id, Id.ValueRank)
        value = await self.client.get_node(node_id).read_data_value(raise_on_bad_status=False)
        if value.SourceTimestamp is None:
            self.problems.append(f"{where}: its value has no source time")
        if not value.StatusCode.is_good() and not value.StatusCode.is_uncertain():
            return
        variant = value.Value
        if variant.VariantType is ua.VariantType.Null:
            self.problems.append(f"{where}: has no value")
            return
        if not rank_allowed(1 if variant.is_array else -1, rank):
            self.problems.append(f"{where}: its value does not have rank {rank}")
        chain = await self.supertypes(data_type)
        held = INT32 if ENUMERATION in chain else ua.NodeId(variant.VariantType.value)
        if ENUMERATION in chain and variant.VariantType is not ua.VariantType.Int32:
            self.problems.append(f"{where}: an enumeration's value is {variant.VariantType.name}, not Int32")
        elif ENUMERATION not in chain and held not in chain and data_type not in await self.supertypes(held):
            self.problems.append(
                f"{where}: its value is {variant.VariantType.name}, not {data_type.to_string()}"
            )
        values = variant.Value if variant.is_array else [variant.Value]
        if variant.VariantType is ua.VariantType.ExtensionObject:
            for item in values:
                own = getattr(item, "data_type", None)
                if own is not None and not await self.is_a(own, data_type):
                    self.problems.append(f"{where}: its value is a {type(item).__name__}")


def rank_allowed(rank: int, wanted: int) -> bool:
    """Whether a value rank is one that the declaration's value rank allows (Part 3, 5.6.2)."""
    if wanted == ua.ValueRank.Any:
        return True
    if wanted == ua.ValueRank.ScalarOrOneDimension:
        return rank in (-3, -1, 1)
    if wanted == ua.ValueRank.OneOrMoreDimensions:
        return rank >= 0
    return rank == wanted
