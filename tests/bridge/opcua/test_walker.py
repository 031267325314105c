"""Instances are complete and valid by OPC UA's own rules; the walker would say so if they were not."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua import ua_binary

from bridge.opcua import Instance
from bridge.opcua.template import TemplateNode
from bridge.opcua.typetable import SharedValue, good
from bridge.opcua.values import encoder

from . import value_rules
from .type_system import Id, TypeSystem
from .value_rules import rank_allowed
from .walker import walk


async def test_an_instance_of_a_companion_type_is_complete_and_valid(
    client: Client, machine: Instance
) -> None:
    assert await walk(client, machine.node_id()) == []


Nodes = Mapping[str, TemplateNode]
SERIAL_NUMBER = "Identification.SerialNumber"
PROGRESS = "Production.ActiveProgram.Progress"
STATE = "Production.ActiveProgram.State.CurrentState"
METHOD = "MachineryBuildingBlocks.JobManagement.JobOrderResults.RequestJobResponseByJobOrderID"
HAS_COMPONENT = ua.NodeId(ua.ObjectIds.HasComponent)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
TRANSITION = "Production.ActiveProgram.State.LastTransition"
ENTERED = "/11:Production/11:ActiveProgram/11:State/0:LastTransition"
INT32 = ua.NodeId(ua.ObjectIds.Int32)
STRING = ua.NodeId(ua.ObjectIds.String)
RUNNING = ua.Variant(ua.NodeId(5041, 11))
OWN_PROGRESS = "/11:Production/11:ActiveProgram/13:Progress"
SHOWN = "/11:Production/11:ActiveProgram/11:State/0:CurrentState"
CALLED = "/4:MachineryBuildingBlocks/9:JobManagement/9:JobOrderResults/8:RequestJobResponseByJobOrderID"
MACHINERY_NAMEPLATE = ua.NodeId(1003, 4)  # mach:IMachineryItemVendorNameplateType, an interface
FEEDSTOCK_LIST_TYPE = ua.NodeId(1001, 12)  # in am; it has a mandatory placeholder


def set_attribute(node: TemplateNode, attribute: ua.AttributeIds, value: Any, kind: ua.VariantType) -> None:
    node.attributes[attribute] = SharedValue(good(ua.Variant(value, kind)))


def lose(nodes: Nodes, path: str) -> None:
    node = nodes[path]
    assert node.parent is not None
    node.parent.children.remove(node)


def refer(nodes: Nodes, path: str, reference_type: ua.NodeId) -> None:
    nodes[path].reference_type = reference_type


def interface(nodes: Nodes, path: str) -> None:
    nodes[path].extra_references = [
        ua.ReferenceDescription(
            ua.NodeId(ua.ObjectIds.HasInterface),
            True,
            MACHINERY_NAMEPLATE,
            ua.QualifiedName("IMachineryItemVendorNameplateType", 4),
            ua.LocalizedText("IMachineryItemVendorNameplateType"),
            ua.NodeClass.ObjectType,
            ua.NodeId(),
        )
    ]


def generates_event(nodes: Nodes, path: str) -> None:
    nodes[path].extra_references = [
        ua.ReferenceDescription(
            ua.NodeId(ua.ObjectIds.GeneratesEvent),
            True,
            ua.NodeId(ua.ObjectIds.BaseEventType),
            ua.QualifiedName("BaseEventType", 0),
            ua.LocalizedText("BaseEventType"),
            ua.NodeClass.ObjectType,
            ua.NodeId(),
        )
    ]


def retype(nodes: Nodes, path: str, type_definition: ua.NodeId) -> None:
    nodes[path].type_definition = type_definition


def constant(nodes: Nodes, path: str, value: Any) -> None:
    node = nodes[path]
    assert node.value_type is not None
    node.default = ua_binary.variant_to_binary(node.value_type.variant(value))


def deaf(nodes: Nodes) -> None:
    """Nobody can subscribe to events of the machine."""
    for node in nodes.values():
        if node.node_class is ua.NodeClass.Object:
            set_attribute(node, Id.EventNotifier, 0, ua.VariantType.Byte)


VIOLATIONS: dict[str, tuple[Callable[[Nodes], None], str]] = {
    "a missing mandatory node of the type": (
        lambda nodes: lose(nodes, "Production.ActiveProgram"),
        "/11:Production: mandatory 11:ActiveProgram is missing",
    ),
    "a missing mandatory node of a supertype": (
        lambda nodes: lose(nodes, "Production"),
        "ns=13;s=m1: mandatory 11:Production is missing",
    ),
    "a missing mandatory add-in": (
        lambda nodes: lose(nodes, "Identification"),
        "ns=13;s=m1: mandatory 2:Identification is missing",
    ),
    "a missing mandatory node of an interface of the type": (
        lambda nodes: lose(nodes, "Identification.Manufacturer"),
        "/2:Identification: mandatory 2:Manufacturer is missing",
    ),
    "a missing mandatory node of an interface of the instance": (
        lambda nodes: interface(nodes, "Equipment"),
        "/11:Equipment: mandatory 2:Manufacturer is missing",
    ),
    "a mandatory placeholder without an instance": (
        lambda nodes: retype(nodes, "Equipment", FEEDSTOCK_LIST_TYPE),
        "/11:Equipment: no instance of 12:<Feedstock>",
    ),
    "a property referred to as a component": (
        lambda nodes: refer(nodes, SERIAL_NUMBER, HAS_COMPONENT),
        "/2:Identification/2:SerialNumber: referred to by i=47, declared with i=46",
    ),
    "an add-in referred to as a component": (
        lambda nodes: refer(nodes, "Identification", HAS_COMPONENT),
        "/2:Identification: referred to by i=47, declared with i=17604",
    ),
    "a component that is organised": (
        lambda nodes: refer(nodes, "Production.ActiveProgram", ua.NodeId(ua.ObjectIds.Organizes)),
        "/11:Production/11:ActiveProgram: referred to by i=35, declared with i=47",
    ),
    "an undeclared component referred to as a property": (
        lambda nodes: refer(nodes, PROGRESS, HAS_PROPERTY),
        f"{OWN_PROGRESS}: referred to by i=46: HasProperty is for properties, and for them alone",
    ),
    "a node below a property": (
        lambda nodes: retype(nodes, PROGRESS, ua.NodeId(ua.ObjectIds.PropertyType)),
        f"{OWN_PROGRESS}/0:EURange: it is below a property",
    ),
    "two children of one name": (
        lambda nodes: setattr(nodes["Monitoring"], "browse_name", nodes["Equipment"].browse_name),
        "ns=13;s=m1: two children are called 11:Equipment",
    ),
    "a node that does not know its parent": (
        lambda nodes: nodes["Production"].children.append(nodes["Equipment"]),
        "/11:Production/11:Equipment: it does not refer back to its parent",
    ),
    "another browse name than the reference tells": (
        lambda nodes: set_attribute(
            nodes["Equipment"], Id.BrowseName, ua.QualifiedName("Tools", 11), ua.VariantType.QualifiedName
        ),
        "/11:Equipment: its BrowseName differs from its reference's",
    ),
    "another class than the reference tells": (
        lambda nodes: set_attribute(
            nodes["Equipment"], Id.NodeClass, ua.NodeClass.View, ua.VariantType.Int32
        ),
        "/11:Equipment: its NodeClass differs from its reference's",
    ),
    "an add-in that is a variable": (
        lambda nodes: refer(nodes, SERIAL_NUMBER, ua.NodeId(ua.ObjectIds.HasAddIn)),
        "/2:Identification/2:SerialNumber: an add-in is not an object",
    ),
    "a method with a type": (
        lambda nodes: retype(nodes, METHOD, ua.NodeId(ua.ObjectIds.BaseObjectType)),
        f"{CALLED}: has 1 type definitions",
    ),
    "a node of another class": (
        lambda nodes: setattr(nodes["Production.ActiveProgram"], "node_class", ua.NodeClass.Variable),
        "/11:Production/11:ActiveProgram: is Variable, not Object",
    ),
    "an object below a variable": (
        lambda nodes: nodes[PROGRESS].children.append(nodes["Equipment"]),
        f"{OWN_PROGRESS}/11:Equipment: a variable has Object below it",
    ),
    "a node of another type": (
        lambda nodes: retype(nodes, SERIAL_NUMBER, ua.NodeId(ua.ObjectIds.AnalogUnitRangeType)),
        "/2:Identification/2:SerialNumber: its type i=17570 is not a i=68",
    ),
    "a node of an abstract type": (
        lambda nodes: retype(nodes, "Equipment", ua.NodeId(ua.ObjectIds.BaseConditionClassType)),
        "/11:Equipment: its type i=11163 is abstract",
    ),
    "a node without a type": (
        lambda nodes: setattr(nodes["Equipment"], "type_definition", None),
        "/11:Equipment: has 0 type definitions",
    ),
    "another data type than declared": (
        lambda nodes: set_attribute(nodes[SERIAL_NUMBER], Id.DataType, INT32, ua.VariantType.NodeId),
        "/2:Identification/2:SerialNumber: its data type i=6 is not i=12",
    ),
    "another data type than the variable type allows": (
        lambda nodes: set_attribute(nodes[PROGRESS], Id.DataType, STRING, ua.VariantType.NodeId),
        f"{OWN_PROGRESS}: its data type i=12 is not i=26",
    ),
    "another value rank than declared": (
        lambda nodes: set_attribute(nodes[SERIAL_NUMBER], Id.ValueRank, 1, ua.VariantType.Int32),
        "/2:Identification/2:SerialNumber: its value rank 1 is not -1",
    ),
    "array dimensions of a single value": (
        lambda nodes: nodes[SERIAL_NUMBER].attributes.update(
            {Id.ArrayDimensions: SharedValue(good(ua.Variant([0], ua.VariantType.UInt32, is_array=True)))}
        ),
        "/2:Identification/2:SerialNumber: its value rank is -1, but it has 1 array dimensions",
    ),
    "an empty display name": (
        lambda nodes: set_attribute(
            nodes["Equipment"], Id.DisplayName, ua.LocalizedText(""), ua.VariantType.LocalizedText
        ),
        "/11:Equipment: its DisplayName is empty",
    ),
    "another display name than the reference tells": (
        lambda nodes: setattr(nodes["Equipment"], "display_name", ua.LocalizedText("Tools")),
        "/11:Equipment: its DisplayName differs from its reference's",
    ),
    "a method without its arguments": (
        lambda nodes: lose(nodes, f"{METHOD}.InputArguments"),
        f"{CALLED}: its InputArguments are [], not ['JobOrderID: i=12 rank -1']",
    ),
    "a method with other arguments": (
        lambda nodes: constant(
            nodes, f"{METHOD}.InputArguments", [ua.Argument(Name="JobOrderID", DataType=INT32, ValueRank=-1)]
        ),
        f"{CALLED}: its InputArguments are ['JobOrderID: i=6 rank -1'], not ['JobOrderID: i=12 rank -1']",
    ),
    "an analog item without a unit": (
        lambda nodes: constant(nodes, f"{PROGRESS}.EngineeringUnits", ua.EUInformation()),
        f"{OWN_PROGRESS}: its EngineeringUnits name no unit",
    ),
    "an analog item with a unit that has no name": (
        lambda nodes: constant(nodes, f"{PROGRESS}.EngineeringUnits", ua.EUInformation("urn:units", 7)),
        f"{OWN_PROGRESS}: its unit 7 has no DisplayName",
    ),
    "an analog item without a range": (
        lambda nodes: constant(nodes, f"{PROGRESS}.EURange", ua.Range(5, 5)),
        f"{OWN_PROGRESS}: its EURange is empty",
    ),
    "an event source that cannot be heard": (
        deaf,
        "/11:Notification/11:Messages: its type ns=11;i=38 generates events, but nobody can subscribe to them",
    ),
    "an object that says itself what events it generates": (
        lambda nodes: generates_event(nodes, "Equipment"),
        "/11:Equipment: an object refers to events by GeneratesEvent: that is for its type",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_a_violation_is_found(client: Client, machine: Instance, violation: str) -> None:
    violate, problem = VIOLATIONS[violation]
    violate(machine.template.paths)
    assert problem in await walk(client, machine.node_id())


@pytest.mark.parametrize(
    ("path", "reference_type"),
    [
        ("Production.ActiveProgram", ua.ObjectIds.HasOrderedComponent),
        ("Production.ActiveProgram.Progress", ua.ObjectIds.HasOrderedComponent),
    ],
)
async def test_subtypes_of_reference_types_are_allowed(
    client: Client, machine: Instance, path: str, reference_type: int
) -> None:
    refer(machine.template.paths, path, ua.NodeId(reference_type))
    assert await walk(client, machine.node_id()) == []


WRONG_VALUES: dict[str, tuple[dict[str, ua.Variant], str]] = {
    "of another type": (
        {"Identification.Model": ua.Variant("a String where a LocalizedText belongs")},
        "/2:Identification/2:Model: its value is String, not i=21",
    ),
    "of another rank": (
        {SERIAL_NUMBER: ua.Variant(["one", "two"])},
        "/2:Identification/2:SerialNumber: its value does not have rank -1",
    ),
    "that is none": (
        {SERIAL_NUMBER: ua.Variant()},
        "/2:Identification/2:SerialNumber: has no value",
    ),
    "that the enumeration does not have": (
        {"Monitoring.MachineTool.OperationMode": ua.Variant(6, ua.VariantType.Int32)},
        "/11:Monitoring/11:MachineTool/11:OperationMode: its value 6 is not one of the enumeration ns=11;i=65",
    ),
    "of an enumeration as another integer": (
        {"Monitoring.MachineTool.OperationMode": ua.Variant(1, ua.VariantType.UInt32)},
        "/11:Monitoring/11:MachineTool/11:OperationMode: an enumeration's value is UInt32, not Int32",
    ),
    "that is a state of another state machine": (
        {f"{STATE}.Id": ua.Variant(ua.NodeId(5006, 4))},
        f"{SHOWN}: its Id ns=4;i=5006 is no state of ns=11;i=15",
    ),
    "that is another state's name": (
        {STATE: ua.Variant(ua.LocalizedText("Ended")), f"{STATE}.Id": RUNNING},
        f"{SHOWN}: it says 'Ended', but its Id is the state Running",
    ),
    "that is another state's number": (
        {
            STATE: ua.Variant(ua.LocalizedText("Running")),
            f"{STATE}.Id": RUNNING,
            f"{STATE}.Number": ua.Variant(2, ua.VariantType.UInt32),
        },
        f"{SHOWN}: its Number is 2, but the state Running has 1",
    ),
    "that is a transition of another state machine": (
        {f"{TRANSITION}.Id": ua.Variant(ua.NodeId(5018, 4))},
        f"{ENTERED}: its Id ns=4;i=5018 is no transition of ns=11;i=15",
    ),
    "that is another transition's number": (
        {
            TRANSITION: ua.Variant(ua.LocalizedText("InitializingToRunning")),
            f"{TRANSITION}.Id": ua.Variant(ua.NodeId(91, 11)),
            f"{TRANSITION}.Number": ua.Variant(7, ua.VariantType.UInt32),
        },
        f"{ENTERED}: its Number is 7, but the transition InitializingToRunning has 0",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_VALUES)
async def test_a_wrong_value_is_found(client: Client, machine: Instance, wrong: str) -> None:
    values, problem = WRONG_VALUES[wrong]
    for path, variant in values.items():
        node = machine.template.paths[path]
        assert node.value_type is not None
        node.value_type = node.value_type._replace(built_in=None, value_rank=ua.ValueRank.Any)
        node.encode = encoder(node.value_type)
        machine.write(path, variant)
    assert problem in await walk(client, machine.node_id())


@pytest.mark.parametrize(
    ("rank", "wanted", "allowed"),
    [
        (-1, -1, True),
        (1, -1, False),
        (1, -2, True),
        (1, -3, True),
        (2, -3, False),
        (2, 0, True),
        (-1, 0, False),
        (2, 1, False),
    ],
)
def test_value_ranks_narrow_what_is_declared(rank: int, wanted: int, allowed: bool) -> None:
    assert rank_allowed(rank, wanted) is allowed


NODE, DECLARATION = ua.NodeId(1, 1), ua.NodeId(2, 1)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Fake(TypeSystem):
    """Two variables and their attributes, for what no instance of ours can get wrong."""

    def __init__(self, **told: dict[ua.NodeId, Any]) -> None:
        self._told = told

    async def attribute(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> Any:
        return self._told.get(attribute.name, {}).get(node_id)

    async def value(self, node_id: ua.NodeId) -> ua.DataValue:
        return self._told["Value"][node_id]

    async def supertypes(self, type_id: ua.NodeId) -> list[ua.NodeId]:
        return [type_id, *self._told.get("above", {}).get(type_id, [])]


async def test_array_dimensions_that_are_not_the_declared_ones_are_found() -> None:
    types = Fake(
        DataType={NODE: INT32, DECLARATION: INT32},
        ValueRank={NODE: 1, DECLARATION: 1},
        ArrayDimensions={NODE: [3], DECLARATION: [4]},
    )
    problems = [problem async for problem in value_rules.kind_of_value(types, NODE, DECLARATION)]
    assert problems == ["its array dimensions [3] are not [4]"]


@pytest.mark.parametrize(("declared", "found"), [([0], [3]), ([], [3]), ([4], [])])
async def test_array_dimensions_may_be_left_open(declared: list[int], found: list[int]) -> None:
    types = Fake(
        DataType={NODE: INT32, DECLARATION: INT32},
        ValueRank={NODE: 1, DECLARATION: 1},
        ArrayDimensions={NODE: found, DECLARATION: declared},
    )
    assert [problem async for problem in value_rules.kind_of_value(types, NODE, DECLARATION)] == []


async def problems_of_value(
    data_type: ua.NodeId, value: ua.Variant, time: datetime | None, **above: Any
) -> Any:
    held = ua.DataValue(value, ua.StatusCode(), time)
    types = Fake(DataType={NODE: data_type}, ValueRank={NODE: -1}, Value={NODE: held}, **above)
    return [problem async for problem in value_rules.value(types, NODE)]


async def test_a_value_without_a_source_time_is_found() -> None:
    value = ua.Variant(1, ua.VariantType.Int32)
    assert await problems_of_value(INT32, value, None) == ["its value has no source time"]


async def test_a_structure_of_another_type_is_found() -> None:
    value = ua.Variant(ua.Range(0, 1))
    unit, structure = ua.NodeId(ua.ObjectIds.EUInformation), ua.NodeId(ua.ObjectIds.Structure)
    problems = await problems_of_value(unit, value, NOW, above={unit: [structure]})
    assert problems == ["its value is a Range"]


async def test_an_enumeration_without_a_definition_is_found() -> None:
    value = ua.Variant(1, ua.VariantType.Int32)
    problems = await problems_of_value(NODE, value, NOW, above={NODE: [ua.NodeId(ua.ObjectIds.Enumeration)]})
    assert problems == ["its enumeration ns=1;i=1 has no definition"]
