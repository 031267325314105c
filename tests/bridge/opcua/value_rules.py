"""What OPC UA's rules say of single variables and methods. Each rule gives sentences on what is wrong."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from asyncua import ua

from .type_system import Id, TypeSystem

ENUMERATION = ua.NodeId(ua.ObjectIds.Enumeration)
INT32 = ua.NodeId(ua.ObjectIds.Int32)


class _Finite(NamedTuple):
    """What a finite variable shows: its name, its type, and the property with its number."""

    name: str
    type_definition: ua.NodeId
    number: str


FINITE_VARIABLES = {
    ua.NodeId(ua.ObjectIds.FiniteStateVariableType): _Finite(
        "state", ua.NodeId(ua.ObjectIds.StateType), "StateNumber"
    ),
    ua.NodeId(ua.ObjectIds.FiniteTransitionVariableType): _Finite(
        "transition", ua.NodeId(ua.ObjectIds.TransitionType), "TransitionNumber"
    ),
}
NO_UNIT = -1  # of EUInformation (Part 8, 5.6.4.3)


def rank_allowed(rank: int, wanted: int) -> bool:
    """Whether a value rank is one that the declaration's value rank allows (Part 3, 5.6.2)."""
    if wanted == ua.ValueRank.Any:
        return True
    if wanted == ua.ValueRank.ScalarOrOneDimension:
        return rank in (-3, -1, 1)
    if wanted == ua.ValueRank.OneOrMoreDimensions:
        return rank >= 0
    return rank == wanted


async def kind_of_value(types: TypeSystem, node_id: ua.NodeId, declaration: ua.NodeId) -> AsyncIterator[str]:
    """Data type, value rank and array dimensions narrow those of a declaration or a type (Part 3, 6.2.7)."""
    data_type, wanted_type = [await types.attribute(n, Id.DataType) for n in (node_id, declaration)]
    if not await types.is_a(data_type, wanted_type):
        yield f"its data type {data_type.to_string()} is not {wanted_type.to_string()}"
    rank, wanted_rank = [await types.attribute(n, Id.ValueRank) for n in (node_id, declaration)]
    if not rank_allowed(rank, wanted_rank):
        yield f"its value rank {rank} is not {wanted_rank}"
    dimensions, wanted = [await types.attribute(n, Id.ArrayDimensions) or [] for n in (node_id, declaration)]
    if dimensions and len(dimensions) != rank:
        yield f"its value rank is {rank}, but it has {len(dimensions)} array dimensions"
    elif len(wanted) == len(dimensions) and any(
        w not in (0, d) for d, w in zip(dimensions, wanted, strict=True)
    ):
        yield f"its array dimensions {dimensions} are not {wanted}"


async def value(types: TypeSystem, node_id: ua.NodeId) -> AsyncIterator[str]:
    """A value fits the data type and value rank, and has a source time; one that is not Bad exists."""
    data_type = await types.attribute(node_id, Id.DataType)
    rank = await types.attribute(node_id, Id.ValueRank)
    data = await types.value(node_id)
    if data.SourceTimestamp is None:
        yield "its value has no source time"
    if not data.StatusCode.is_good() and not data.StatusCode.is_uncertain():
        return
    variant = data.Value
    if variant.VariantType is ua.VariantType.Null:
        yield "has no value"
        return
    if not rank_allowed(1 if variant.is_array else -1, rank):
        yield f"its value does not have rank {rank}"
    items = (variant.Value or []) if variant.is_array else [variant.Value]
    chain = await types.supertypes(data_type)
    if ENUMERATION in chain:
        if variant.VariantType is not ua.VariantType.Int32:
            yield f"an enumeration's value is {variant.VariantType.name}, not Int32"
        definition = await types.attribute(data_type, Id.DataTypeDefinition)
        if definition is None:
            yield f"its enumeration {data_type.to_string()} has no definition"
            return
        known = {field.Value for field in definition.Fields}
        for item in items:
            if item not in known:
                yield f"its value {item} is not one of the enumeration {data_type.to_string()}"
        return
    held = ua.NodeId(variant.VariantType.value)
    if held not in chain and data_type not in await types.supertypes(held):
        yield f"its value is {variant.VariantType.name}, not {data_type.to_string()}"
    if variant.VariantType is ua.VariantType.ExtensionObject:
        for item in items:
            own = getattr(item, "data_type", None)
            if own is not None and not await types.is_a(own, data_type):
                yield f"its value is a {type(item).__name__}"


async def unit_and_range(types: TypeSystem, node_id: ua.NodeId) -> AsyncIterator[str]:
    """The unit of an analog item is a unit, and its ranges begin before they end (Part 8, 5.6.2 to 5.6.4)."""
    if (unit := await types.child(node_id, "EngineeringUnits")) is not None:
        information = (await types.value(unit)).Value.Value
        known = isinstance(information, ua.EUInformation) and information.NamespaceUri
        if not known or information.UnitId == NO_UNIT:
            yield "its EngineeringUnits name no unit"
        elif not information.DisplayName.Text:
            yield f"its unit {information.UnitId} has no DisplayName"
    for name in ("EURange", "InstrumentRange"):
        if (limits := await types.child(node_id, name)) is not None:
            held = (await types.value(limits)).Value.Value
            if not isinstance(held, ua.Range) or not held.Low < held.High:
                yield f"its {name} is empty"


async def state(
    types: TypeSystem, machine_type: ua.NodeId, variable: ua.NodeId, variable_type: ua.NodeId
) -> AsyncIterator[str]:
    """A finite state or transition variable shows what its state machine's type declares (Part 16, 4.4.5 to 4.4.12)."""
    kind = FINITE_VARIABLES[variable_type]
    identifier = await types.child(variable, "Id")
    held = await types.value(identifier)
    if not held.StatusCode.is_good():
        return
    shown = held.Value.Value
    declared: dict[str, ua.NodeId] = {}
    for type_id in await types.supertypes(machine_type):
        async for reference in types.children(type_id):
            if reference.TypeDefinition and await types.is_a(reference.TypeDefinition, kind.type_definition):
                declared.setdefault(reference.BrowseName.Name, reference.NodeId)
    name = next((name for name, node_id in declared.items() if node_id == shown), None)
    if name is None:
        yield f"its Id {shown.to_string()} is no {kind.name} of {machine_type.to_string()}"
        return
    text = (await types.value(variable)).Value.Value.Text
    if text != name:
        yield f"it says {text!r}, but its Id is the {kind.name} {name}"
    if (number := await types.child(variable, "Number")) is not None:
        told = (await types.value(number)).Value.Value
        wanted = (await types.value(await types.child(shown, kind.number))).Value.Value
        if told != wanted:
            yield f"its Number is {told}, but the {kind.name} {name} has {wanted}"


async def arguments(
    types: TypeSystem, method: ua.NodeId, declarations: list[ua.NodeId]
) -> AsyncIterator[str]:
    """A method takes and gives what the most derived declaration with arguments says (Part 3, 5.7.1 and 6.2.7)."""
    for name in ("InputArguments", "OutputArguments"):
        found = await _signature(types, method, name)
        declared = [await _signature(types, node_id, name) for node_id in declarations]
        wanted = next((signature for signature in declared if signature), [])
        if found != wanted:
            yield f"its {name} are {found}, not {wanted}"


async def _signature(types: TypeSystem, method: ua.NodeId, name: str) -> list[str]:
    node_id = await types.child(method, name)
    held = [] if node_id is None else (await types.value(node_id)).Value.Value or []
    return [f"{one.Name}: {one.DataType.to_string()} rank {one.ValueRank}" for one in held]
