"""Instances are complete and valid by OPC UA's own rules; the walker would say so if they were not."""

import pytest
from asyncua import Client, ua

from bridge.opcua import Instance

from .walker import rank_allowed, walk


async def test_an_instance_of_a_companion_type_is_complete_and_valid(
    client: Client, machine: Instance
) -> None:
    assert await walk(client, machine.node_id()) == []


async def test_a_missing_mandatory_node_is_found(client: Client, machine: Instance) -> None:
    production = machine.template.paths["Production"]
    production.children.clear()
    problems = await walk(client, machine.node_id())
    assert problems == ["/11:Production: mandatory 11:ActiveProgram is missing"]


async def test_a_property_referred_to_as_a_component_is_found(client: Client, machine: Instance) -> None:
    machine.template.paths["Identification.SerialNumber"].reference_type = ua.NodeId(
        ua.ObjectIds.HasComponent
    )
    assert await walk(client, machine.node_id()) == [
        "/2:Identification/2:SerialNumber: referred to by i=47, declared with i=46"
    ]


async def test_a_value_of_another_type_and_a_child_of_another_type_are_found(
    client: Client, machine: Instance
) -> None:
    paths = machine.template.paths
    node = paths["Identification.SerialNumber"]
    node.type_definition = ua.NodeId(ua.ObjectIds.AnalogUnitRangeType)
    node.children.clear()
    model = paths["Identification.Model"]
    model.value_type, model.encode = node.value_type, node.encode
    machine.write("Identification.Model", "a String where a LocalizedText belongs")
    problems = await walk(client, machine.node_id())
    assert "/2:Identification/2:Model: its value is String, not i=21" in problems
    assert "/2:Identification/2:SerialNumber: its type i=17570 is not a i=68" in problems
    assert "/2:Identification/2:SerialNumber: mandatory 0:EURange is missing" in problems


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
