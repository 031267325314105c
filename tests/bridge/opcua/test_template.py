"""Templates hold what a type and its relatives declare, what is included and what is added, and nothing else."""

import pytest
from asyncua import ua

from bridge.opcua import Addition, OpcUaServer, Template, TemplateError

from .conftest import machine_template


@pytest.fixture
def plain(make_server) -> OpcUaServer:
    """A server that does not listen: building templates needs none that does."""
    return make_server()


def test_mandatory_nodes_come_from_supertypes_interfaces_and_overriding_declarations(
    plain: OpcUaServer,
) -> None:
    paths = plain.build_template(plain.node_id("am", 1005)).paths
    assert "Production.ActiveProgram.State.CurrentState.Id" in paths  # declared by the supertype's components
    assert "Identification.SerialNumber" in paths  # an interface makes it mandatory
    assert paths["Identification"].type_definition == plain.node_id("am", 1004)  # the subtype overrides it
    assert "Identification.Model" not in paths  # optional
    assert not any("<" in path for path in paths)  # placeholders are no nodes


def test_an_included_path_brings_its_parents_along(plain: OpcUaServer) -> None:
    template = plain.build_template(
        plain.node_id("am", 1005), include=["mach:MachineryBuildingBlocks/jobs:JobManagement"]
    )
    assert {"MachineryBuildingBlocks", "MachineryBuildingBlocks.JobManagement.JobOrderControl"} <= set(
        template.paths
    )


def test_methods_have_the_arguments_of_the_type_that_declares_them(plain: OpcUaServer) -> None:
    node = machine_template(plain).paths[
        "MachineryBuildingBlocks.JobManagement.JobOrderResults.RequestJobResponseByJobOrderID.InputArguments"
    ]
    assert node.constant
    assert node.default != b"\0"


def test_additions_are_instances_of_types_with_their_own_mandatory_nodes(plain: OpcUaServer) -> None:
    paths = machine_template(plain).paths
    tool = paths["Monitoring.Process.Tool 0"]
    assert tool.browse_name == ua.QualifiedName("Tool 0", plain.namespaces["own"])
    assert tool.modelling_rule is None
    assert paths["Monitoring.Process.Tool 0.AnalogSignal.EURange"].modelling_rule == "Mandatory"
    assert paths["Production.ActiveProgram.Progress"].data_type == ua.NodeId(ua.ObjectIds.Double)
    assert paths["Production.ActiveProgram.Progress"].value_rank == -1


CONTROL = "MachineryBuildingBlocks.JobManagement.JobOrderControl"


def test_a_node_can_have_a_subtype_of_its_declared_type(plain: OpcUaServer) -> None:
    include = ["mach:MachineryBuildingBlocks/jobs:JobManagement"]
    special = plain.node_id("isa", 1008)
    paths = plain.build_template(plain.node_id("am", 1005), include, types={CONTROL: special}).paths
    assert paths[CONTROL].type_definition == special
    assert f"{CONTROL}.JobOrderList" in paths
    with pytest.raises(TemplateError, match="JobOrderControl: .* is not a subtype of the declared type"):
        plain.build_template(
            plain.node_id("am", 1005), include, types={CONTROL: ua.NodeId(ua.ObjectIds.FolderType)}
        )


def test_an_added_property_is_referred_to_as_a_property(plain: OpcUaServer) -> None:
    template = plain.build_template(
        plain.node_id("am", 1000),
        additions=[
            Addition(
                "",
                "own:Colour",
                ua.NodeId(ua.ObjectIds.PropertyType),
                data_type=ua.NodeId(ua.ObjectIds.String),
            )
        ],
    )
    assert template.paths["Colour"].reference_type == ua.NodeId(ua.ObjectIds.HasProperty)


def test_a_dot_in_a_browse_name_is_escaped_in_the_path(plain: OpcUaServer) -> None:
    template = plain.build_template(
        plain.node_id("am", 1001), additions=[Addition("", "own:PLA 1.75", plain.node_id("am", 1000))]
    )
    assert "PLA 1%2E75.Identifier" in template.paths


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"include": ["mt:Monitoring/mt:Nonsense"]}, "declares no 11:Nonsense"),
        ({"include": ["nowhere:Monitoring"]}, "unknown namespace prefix 'nowhere'"),
        ({"include": ["mt:Equipment/am:Feedstock/am:<Feedstock>"]}, "is a placeholder"),
        ({"constants": {"Identification.Serial": "x"}}, "has no node Identification.Serial"),
        ({"constants": {"Identification": "x"}}, "Identification is not a variable"),
        ({"constants": {"Identification.SerialNumber": ua.Variant(1)}}, "Int64 where String belongs"),
        ({"notifiers": ["Messages"]}, "has no node Messages"),
    ],
)
def test_what_a_type_lacks_is_refused_with_its_name(plain: OpcUaServer, settings, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        plain.build_template(plain.node_id("am", 1005), **settings)


def test_an_addition_needs_a_parent_and_a_free_name(plain: OpcUaServer) -> None:
    feedstock, machine = plain.node_id("am", 1000), plain.node_id("am", 1005)
    with pytest.raises(TemplateError, match="nothing to add to at mt:Equipment/am:Feedstock"):
        plain.build_template(machine, additions=[Addition("mt:Equipment/am:Feedstock", "own:A", feedstock)])
    with pytest.raises(TemplateError, match="has a child own:A already"):
        plain.build_template(machine, additions=[Addition("mt:Equipment", "own:A", feedstock)] * 2)
    with pytest.raises(TemplateError, match="two nodes of the template would be called Equipment"):
        plain.build_template(machine, additions=[Addition("", "own:Equipment", feedstock)])
    with pytest.raises(TemplateError, match="is not an object type or variable type"):
        plain.build_template(ua.NodeId(ua.ObjectIds.Server))


def test_notifiers_are_those_declared_and_those_asked_for(plain: OpcUaServer) -> None:
    template: Template = machine_template(plain)
    notifying = {
        path
        for path, node in template.paths.items()
        if (held := node.attributes.get(ua.AttributeIds.EventNotifier)) and held.value.Value.Value & 1
    }
    assert notifying == {"", "Notification.Messages"}
