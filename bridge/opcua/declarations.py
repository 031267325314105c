"""What an object of a type consists of, by OPC UA's rules for instances (Part 3, 6.3, 6.4; interfaces: 4.10).

In: a type, the optional declarations that are wanted, and additions that the type does not declare. Out: a tree
of Declared nodes: every mandatory declaration of the type, its supertypes, its interfaces and of the types of its
children, merged with overriding ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asyncua import ua

from .errors import TemplateError
from .space import HAS_SUBTYPE, LazyAddressSpace, supertypes

HAS_COMPONENT = ua.NodeId(ua.ObjectIds.HasComponent)
HAS_INTERFACE = ua.NodeId(ua.ObjectIds.HasInterface)
HAS_MODELLING_RULE = ua.NodeId(ua.ObjectIds.HasModellingRule)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
HIERARCHICAL = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
ORGANIZES = ua.NodeId(ua.ObjectIds.Organizes)
PROPERTY_TYPE = ua.NodeId(ua.ObjectIds.PropertyType)
MODELLING_RULES = {
    ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory): "Mandatory",
    ua.NodeId(ua.ObjectIds.ModellingRule_Optional): "Optional",
    ua.NodeId(ua.ObjectIds.ModellingRule_MandatoryPlaceholder): "MandatoryPlaceholder",
    ua.NodeId(ua.ObjectIds.ModellingRule_OptionalPlaceholder): "OptionalPlaceholder",
    ua.NodeId(ua.ObjectIds.ModellingRule_ExposesItsArray): "ExposesItsArray",
}
INSTANCE_CLASSES = {ua.NodeClass.Object, ua.NodeClass.Variable, ua.NodeClass.Method}
DEEPEST = 32
SCALAR = -1  # value rank (Part 3, 5.6.2)

NameKey = tuple[int, str]


@dataclass(frozen=True)
class Addition:
    """A node that the type does not declare: an instance of a placeholder, or one of the vendor's own.

    `parent` and `browse_name` are browse paths ("own:" is the instance namespace); `include` is relative to the
    addition. A variable of an abstract data type should be given a `data_type` that is not.
    """

    parent: str
    browse_name: str
    type_id: ua.NodeId
    reference: ua.NodeId | None = None  # HasProperty for properties, else HasComponent
    include: Sequence[str] = ()
    display_name: str | None = None
    data_type: ua.NodeId | None = None
    value_rank: int | None = None


@dataclass
class Declared:
    """A node to be: `sources` are its declarations and `types` its type with supertypes, the most derived first."""

    browse_name: ua.QualifiedName
    display_name: ua.LocalizedText
    node_class: ua.NodeClass
    reference_type: ua.NodeId
    type_definition: ua.NodeId | None
    modelling_rule: str | None
    sources: list[ua.NodeId]
    types: list[ua.NodeId]
    children: list["Declared"] = field(default_factory=list)
    extra_references: list[ua.ReferenceDescription] = field(default_factory=list)
    data_type: ua.NodeId | None = None
    value_rank: int | None = None
    fixed: bool = False  # its declared value is part of the type: a method's arguments

    @property
    def key(self) -> NameKey:
        return self.browse_name.NamespaceIndex, self.browse_name.Name


class Wanted(dict[NameKey, "Wanted"]):
    """Browse paths as a tree of names."""

    def put(self, path: Iterable[NameKey]) -> None:
        place = self
        for key in path:
            place = place.setdefault(key, Wanted())


class Planner:
    """Plans instances of types; `resolve` turns one prefixed name into its key."""

    def __init__(self, space: LazyAddressSpace, resolve: Callable[[str], NameKey]) -> None:
        self._space = space
        self._resolve = resolve
        self._hierarchical: set[ua.NodeId] | None = None
        self._types: Mapping[str, ua.NodeId] = {}

    def plan(
        self,
        type_id: ua.NodeId,
        include: Iterable[str],
        additions: Iterable[Addition],
        types: Mapping[str, ua.NodeId] | None = None,
    ) -> Declared:
        """The root of an instance; TemplateError when something wanted is not declared.

        `types` are subtypes, by path, for what is declared with a more general type.
        """
        self._types = types or {}
        root = self._instance_of(type_id, include, "the type")
        self._types = {}
        for addition in additions:
            parent = self._at(root, addition.parent)
            child = self._instance_of(addition.type_id, addition.include, addition.browse_name)
            namespace, name = self._resolve(addition.browse_name)
            if any(sibling.key == (namespace, name) for sibling in parent.children):
                raise TemplateError(f"{addition.parent} has a child {addition.browse_name} already")
            child.browse_name = ua.QualifiedName(name, namespace)
            child.display_name = ua.LocalizedText(addition.display_name or name)
            default = HAS_PROPERTY if addition.type_id == PROPERTY_TYPE else HAS_COMPONENT
            child.reference_type = addition.reference or default
            child.data_type, child.value_rank = addition.data_type, addition.value_rank
            if child.value_rank is None and child.node_class is ua.NodeClass.Variable:
                child.value_rank = max(SCALAR, self._space.value(addition.type_id, ua.AttributeIds.ValueRank))
            parent.children.append(child)
        return root

    def variables(self, type_id: ua.NodeId) -> Iterator[tuple[list[NameKey], ua.NodeId, int]]:
        """All variables that a type declares or inherits, optional ones too: names, data type, value rank."""
        for source in self._sources(type_id, []):
            yield from self._variables_below(source, [])

    def _variables_below(
        self, source: ua.NodeId, above: list[NameKey]
    ) -> Iterator[tuple[list[NameKey], ua.NodeId, int]]:
        for declared in self._declared_by(source):
            path, declaration = [*above, declared.key], declared.sources[0]
            if declared.node_class is ua.NodeClass.Variable:
                rank = self._space.value(declaration, ua.AttributeIds.ValueRank)
                data_type = self._space.value(declaration, ua.AttributeIds.DataType)
                yield path, data_type, SCALAR if rank is None else rank
            if declared.node_class is not ua.NodeClass.Method:
                yield from self._variables_below(declaration, path)

    def _instance_of(self, type_id: ua.NodeId, include: Iterable[str], what: str) -> Declared:
        type_class = self._space.value(type_id, ua.AttributeIds.NodeClass)
        if type_class not in (ua.NodeClass.ObjectType, ua.NodeClass.VariableType):
            raise TemplateError(f"{what}: {type_id.to_string()} is not an object type or variable type")
        wanted = Wanted()
        for path in include:
            wanted.put(self._keys(path))
        is_object = type_class == ua.NodeClass.ObjectType
        root = Declared(
            browse_name=self._space.value(type_id, ua.AttributeIds.BrowseName),
            display_name=self._space.value(type_id, ua.AttributeIds.DisplayName),
            node_class=ua.NodeClass.Object if is_object else ua.NodeClass.Variable,
            reference_type=ORGANIZES,
            type_definition=type_id,
            modelling_rule=None,
            sources=[],
            types=list(supertypes(self._space, type_id)),
        )
        root.children = self._children(type_id, [], wanted, "")
        return root

    def _keys(self, path: str) -> list[NameKey]:
        return [self._resolve(name) for name in path.split("/")] if path else []

    def _at(self, root: Declared, path: str) -> Declared:
        place = root
        for key in self._keys(path):
            found = next((child for child in place.children if child.key == key), None)
            if found is None:
                raise TemplateError(f"nothing to add to at {path}: include it, or correct the path")
            place = found
        return place

    def _children(
        self, type_id: ua.NodeId | None, declarations: list[ua.NodeId], wanted: Wanted, path: str
    ) -> list[Declared]:
        if path.count("/") > DEEPEST:
            raise TemplateError(f"{path}: this type contains itself without end")
        found: dict[NameKey, Declared] = {}
        for source in self._sources(type_id, declarations):
            for child in self._declared_by(source):
                merged = found.setdefault(child.key, child)
                if merged is child:
                    continue
                merged.sources += [source for source in child.sources if source not in merged.sources]
                if merged.modelling_rule is None or child.modelling_rule == "Mandatory":
                    merged.modelling_rule = child.modelling_rule
        for key in wanted.keys() - found.keys():
            known = ", ".join(sorted(f"{ns}:{name}" for ns, name in found))
            raise TemplateError(
                f"{path or 'the type'} declares no {key[0]}:{key[1]}; it declares {known} (by namespace index)"
            )
        chosen = []
        for key, child in found.items():
            placeholder = child.modelling_rule in ("MandatoryPlaceholder", "OptionalPlaceholder")
            if key in wanted and placeholder:
                raise TemplateError(
                    f"{path}/{key[1]} is a placeholder: put instances of it in by an Addition"
                )
            if placeholder or (child.modelling_rule != "Mandatory" and key not in wanted):
                continue
            below = wanted.get(key, Wanted())
            self._specialize(child, f"{path}/{key[1]}")
            child.children = self._children(child.type_definition, child.sources, below, f"{path}/{key[1]}")
            child.extra_references = list(self._interfaces_of(child.sources))
            chosen.append(child)
        return chosen

    def _specialize(self, child: Declared, path: str) -> None:
        """Give it the subtype that is wanted here, if any is."""
        special = self._types.get(path[1:].replace("/", "."))
        if special is None:
            return
        types = list(supertypes(self._space, special))
        if child.type_definition not in types:
            raise TemplateError(f"{path}: {special.to_string()} is not a subtype of the declared type")
        child.type_definition, child.types = special, types

    def _sources(self, type_id: ua.NodeId | None, declarations: list[ua.NodeId]) -> list[ua.NodeId]:
        """Where children may be declared, the most derived first: declarations, type, supertypes, interfaces."""
        sources: list[ua.NodeId] = []
        types = [] if type_id is None else list(supertypes(self._space, type_id))
        for node_id in (*declarations, *types):
            sources.append(node_id)
            for interface in self._targets(node_id, HAS_INTERFACE):
                sources += supertypes(self._space, interface)
        return list(dict.fromkeys(sources))

    def _declared_by(self, source: ua.NodeId) -> Iterator[Declared]:
        for reference in self._space.node(source).references:
            if (
                not reference.IsForward
                or reference.NodeClass not in INSTANCE_CLASSES
                or reference.ReferenceTypeId not in self._hierarchical_types()
                or reference.NodeId not in self._space
            ):
                continue
            rule = next(iter(self._targets(reference.NodeId, HAS_MODELLING_RULE)), None)
            type_id = next(iter(self._targets(reference.NodeId, HAS_TYPE_DEFINITION)), None)
            yield Declared(
                browse_name=reference.BrowseName,
                display_name=reference.DisplayName,
                node_class=ua.NodeClass(reference.NodeClass),
                reference_type=reference.ReferenceTypeId,
                type_definition=type_id,
                modelling_rule=None if rule is None else MODELLING_RULES.get(rule),
                sources=[reference.NodeId],
                types=[] if type_id is None else list(supertypes(self._space, type_id)),
                fixed=self._space.value(source, ua.AttributeIds.NodeClass) == ua.NodeClass.Method,
            )

    def _targets(self, node_id: ua.NodeId, reference_type: ua.NodeId) -> list[ua.NodeId]:
        return [
            reference.NodeId
            for reference in self._space.node(node_id).references
            if reference.IsForward and reference.ReferenceTypeId == reference_type
        ]

    def _interfaces_of(self, declarations: Iterable[ua.NodeId]) -> Iterator[ua.ReferenceDescription]:
        seen = set()
        for node_id in declarations:
            for reference in self._space.node(node_id).references:
                if reference.IsForward and reference.ReferenceTypeId == HAS_INTERFACE:
                    if reference.NodeId not in seen:
                        yield reference
                    seen.add(reference.NodeId)

    def _hierarchical_types(self) -> set[ua.NodeId]:
        if self._hierarchical is None:
            self._hierarchical = set()
            waiting = [HIERARCHICAL]
            while waiting:
                current = waiting.pop()
                self._hierarchical.add(current)
                waiting += self._targets(current, HAS_SUBTYPE)
            self._hierarchical.discard(HAS_SUBTYPE)
        return self._hierarchical
