"""A client that knows the companion specifications finds every node by its browse path, in one request.

The paths are those that umati's dashboards and gateways ask for, and those that we promise beyond them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from asyncua import Client, ua

from tests.bridge.opcua.type_system import TypeSystem
from tests.bridge.umati.test_other_client import SECONDS, node_opcua
from tests.docs.example import NAME, connected, printing

NAMESPACES = {
    "": "http://opcfoundation.org/UA/",
    "di": "http://opcfoundation.org/UA/DI/",
    "ia": "http://opcfoundation.org/UA/IA/",
    "mach": "http://opcfoundation.org/UA/Machinery/",
    "padim": "http://opcfoundation.org/UA/PADIM/",
    "pv": "http://opcfoundation.org/UA/Machinery/ProcessValues/",
    "isa": "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/",
    "jobs": "http://opcfoundation.org/UA/Machinery/Jobs/",
    "mt": "http://opcfoundation.org/UA/MachineTool/",
    "am": "http://opcfoundation.org/UA/AdditiveManufacturing/",
    "own": "urn:mesbridge:machines",
}
MACHINE_TYPE = ("am", 1005)

PERCENT, CELSIUS, GRAM = (
    20529,
    4408652,
    4674125,
)  # UNECE Recommendation 20, as numbers by OPC 10000-8, 5.6.4.3

BOOLEAN, UINT16, UINT32, UINT64, DOUBLE = "i=1", "i=5", "i=7", "i=9", "i=11"
STRING, DATE_TIME, NODE_ID, LOCALIZED_TEXT = "i=12", "i=13", "i=17", "i=21"
DURATION, UTC_TIME = "i=290", "i=294"

BLOCKS = "mach:MachineryBuildingBlocks"
JOB_CONTROL = f"{BLOCKS}/jobs:JobManagement/jobs:JobOrderControl"
JOB_RESULTS = f"{BLOCKS}/jobs:JobManagement/jobs:JobOrderResults"
COUNTERS = f"{BLOCKS}/di:OperationCounters"
FEEDSTOCK = "mt:Equipment/am:Feedstock/own:Tool 0"
PROGRAM = "mt:Production/mt:ActiveProgram"
JOB_END = "mt:Notification/mt:Prognoses/own:JobEnd"
STACKLIGHT = "mt:Monitoring/mt:Stacklight"
PLAN_JOB = "mt:Production/mt:ProductionPlan/own:Job"
PROCESS = "mt:Monitoring/mach:Process"
HEATERS = ("Tool 0", "Tool 1", "Bed", "Chamber")


def states(machine: str) -> dict[str, tuple[str, None]]:
    """What a state machine shows."""
    return {
        f"{machine}/CurrentState": (LOCALIZED_TEXT, None),
        f"{machine}/CurrentState/Id": (NODE_ID, None),
        f"{machine}/CurrentState/Number": (UINT32, None),
        f"{machine}/LastTransition": (LOCALIZED_TEXT, None),
        f"{machine}/LastTransition/Id": (NODE_ID, None),
        f"{machine}/LastTransition/Number": (UINT32, None),
        f"{machine}/LastTransition/TransitionTime": (UTC_TIME, None),
    }


def heater(name: str) -> dict[str, tuple[str, int | None]]:
    """What is told of a heater."""
    path = f"{PROCESS}/own:{name}"
    return {
        f"{path}/padim:AnalogSignal": (DOUBLE, CELSIUS),
        f"{path}/pv:ProcessValueSetpoint": (DOUBLE, CELSIUS),
        f"{path}/padim:SignalTag": (STRING, None),
        f"{path}/am:Category": ("am:i=3003", None),
        f"{path}/am:Severity": ("am:i=3002", None),
    }


def light(colour: str) -> dict[str, tuple[str, None]]:
    """What is told of a light of the stack light."""
    path = f"{STACKLIGHT}/own:{colour}"
    return {
        f"{path}/ia:SignalOn": (BOOLEAN, None),
        f"{path}/ia:SignalColor": ("ia:i=3004", None),
        f"{path}/ia:SignalMode": ("ia:i=3005", None),
    }


SERVED: dict[str, tuple[str, int | None]] = {
    "di:Identification/di:Manufacturer": (LOCALIZED_TEXT, None),
    "di:Identification/di:ProductInstanceUri": (STRING, None),
    "di:Identification/di:SerialNumber": (STRING, None),
    "di:Identification/di:Model": (LOCALIZED_TEXT, None),
    "di:Identification/di:ProductCode": (STRING, None),
    "di:Identification/di:SoftwareRevision": (STRING, None),
    "di:Identification/mach:YearOfConstruction": (UINT16, None),
    "di:Identification/mach:Location": (STRING, None),
    "di:Identification/am:AMTechnologyIdentifier": (STRING, None),
    "di:Identification/di:DeviceClass": (STRING, None),
    "di:Identification/di:ComponentName": (LOCALIZED_TEXT, None),
    "di:Identification/di:AssetId": (STRING, None),
    "di:Identification/mach:InitialOperationDate": (DATE_TIME, None),
    **states(f"{BLOCKS}/mach:MachineryItemState"),
    **states(f"{BLOCKS}/mach:MachineryOperationMode"),
    f"{COUNTERS}/di:PowerOnDuration": (DURATION, None),
    f"{COUNTERS}/di:OperationDuration": (DURATION, None),
    f"{COUNTERS}/di:OperationCycleCounter": (UINT32, None),
    f"{JOB_CONTROL}/isa:JobOrderList": ("isa:i=3015", None),
    f"{JOB_CONTROL}/isa:WorkMaster": ("isa:i=3007", None),
    f"{JOB_CONTROL}/isa:EquipmentID": (STRING, None),
    f"{JOB_CONTROL}/isa:PhysicalAssetID": (STRING, None),
    f"{JOB_CONTROL}/isa:MaterialClassID": (STRING, None),
    f"{JOB_CONTROL}/isa:MaterialDefinitionID": (STRING, None),
    f"{JOB_CONTROL}/isa:PersonnelID": (STRING, None),
    f"{JOB_CONTROL}/isa:MaxDownloadableJobOrders": (UINT16, None),
    f"{JOB_RESULTS}/isa:JobOrderResponseList": ("isa:i=3013", None),
    "mt:Monitoring/mt:MachineTool/mt:OperationMode": ("mt:i=65", None),
    "mt:Monitoring/mt:MachineTool/mt:PowerOnDuration": (UINT32, None),
    **{path: told for name in HEATERS for path, told in heater(name).items()},
    f"{PROGRAM}/mt:Name": (STRING, None),
    f"{PROGRAM}/NumberInList": (UINT16, None),
    f"{PROGRAM}/mt:JobIdentifier": (STRING, None),
    f"{PROGRAM}/own:Progress": (DOUBLE, PERCENT),
    **states(f"{PROGRAM}/mt:State"),
    "mt:Equipment/am:Feedstock/NodeVersion": (STRING, None),
    **{
        f"{FEEDSTOCK}/am:{name}": (STRING, None)
        for name in ("Identifier", "ExternalIdentifier", "Name", "Manufacturer")
    },
    f"{FEEDSTOCK}/am:RemainingQuantity": (DOUBLE, GRAM),
    f"{FEEDSTOCK}/am:Function": ("am:i=3000", None),
    f"{STACKLIGHT}/ia:StacklightMode": ("ia:i=3002", None),
    **{path: told for colour in ("Red", "Yellow", "Green") for path, told in light(colour).items()},
    f"{PLAN_JOB}/mt:Identifier": (STRING, None),
    f"{PLAN_JOB}/mt:RunsPlanned": (UINT32, None),
    f"{PLAN_JOB}/mt:RunsCompleted": (UINT32, None),
    f"{PLAN_JOB}/mt:State/CurrentState/Number": (UINT32, None),
    f"{PLAN_JOB}/mt:ProductionPrograms/own:Program/mt:Name": (STRING, None),
    "mt:Production/mt:Statistics/mt:PartsProducedInLifetime": (UINT32, None),
    f"{COUNTERS}/mt:PartsProducedInLifetime": (UINT64, None),
    f"{JOB_END}/mt:PredictedTime": (UTC_TIME, None),
    f"{JOB_END}/mt:SourceIdentifier": (STRING, None),
}
"""By browse path below the machine: the data type, and the unit if there is one."""

SERVED_OBJECTS_AND_METHODS = (
    "mt:Equipment",
    "mt:Notification/mt:Messages",
    PROCESS,
    f"{JOB_RESULTS}/isa:RequestJobResponseByJobOrderID",
    f"{JOB_RESULTS}/isa:RequestJobResponseByJobOrderState",
)

NOT_SERVED_YET: dict[str, tuple[str, ...]] = {
    "monitoring": ("mt:Monitoring/mt:MachineTool/mt:FeedOverride",),
}
"""What the models declare and the machine will have; whoever serves one moves it to `SERVED`."""


async def indexes(client: Client) -> dict[str, int]:
    """The index of each namespace by prefix."""
    uris = await client.get_namespace_array()
    return {prefix: uris.index(uri) for prefix, uri in NAMESPACES.items()}


def names(path: str, index: dict[str, int]) -> list[ua.QualifiedName]:
    """The browse names of a path."""
    parts = (part.rpartition(":") for part in path.split("/"))
    return [ua.QualifiedName(name, index[prefix]) for prefix, _, name in parts]


async def translate(client: Client, paths: Iterable[str]) -> dict[str, list[ua.NodeId]]:
    """What TranslateBrowsePathsToNodeIds finds for all paths below the machine, in one request."""
    index = await indexes(client)
    wanted = list(paths)
    machine = ua.NodeId(NAME, index["own"])
    hierarchical = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    answers = await client.uaclient.translate_browsepaths_to_nodeids(
        [
            ua.BrowsePath(
                machine,
                ua.RelativePath(
                    [
                        ua.RelativePathElement(
                            hierarchical, IsInverse=False, IncludeSubtypes=True, TargetName=name
                        )
                        for name in names(path, index)
                    ]
                ),
            )
            for path in wanted
        ]
    )
    return {
        path: [target.TargetId for target in answer.Targets] if answer.StatusCode.is_good() else []
        for path, answer in zip(wanted, answers, strict=True)
    }


def data_type(text: str, index: dict[str, int]) -> ua.NodeId:
    """The NodeId of a data type in the notation of `SERVED`."""
    prefix, _, identifier = text.rpartition(":")
    return ua.NodeId(int(identifier.removeprefix("i=")), index[prefix])


async def test_every_variable_is_found_by_its_path_with_its_data_type_unit_and_a_good_value() -> None:
    async with connected(printing()) as (client, _):
        index = await indexes(client)
        found = await translate(client, SERVED)
        units = await translate(client, [f"{path}/EngineeringUnits" for path in SERVED])
        for path, (wanted, unit) in SERVED.items():
            assert len(found[path]) == 1, path
            node = client.get_node(found[path][0])
            assert await node.read_data_type() == data_type(wanted, index), path
            value = await node.read_data_value()
            assert value.StatusCode.is_good(), path
            assert value.Value.Value is not None, path
            told = [await client.get_node(one).read_value() for one in units[f"{path}/EngineeringUnits"]]
            assert [one.UnitId for one in told] == ([] if unit is None else [unit]), path


async def test_every_object_and_method_is_found_by_its_path() -> None:
    async with connected(printing()) as (client, _):
        found = await translate(client, SERVED_OBJECTS_AND_METHODS)
    assert {path: len(nodes) for path, nodes in found.items()} == dict.fromkeys(SERVED_OBJECTS_AND_METHODS, 1)


@pytest.mark.parametrize("feature", NOT_SERVED_YET)
async def test_what_is_not_served_yet_is_declared_by_the_models_but_absent(feature: str) -> None:
    async with connected(printing()) as (client, _):
        found = await translate(client, NOT_SERVED_YET[feature])
        assert {path: nodes for path, nodes in found.items() if nodes} == {}, "served: move it to SERVED"
        for path in NOT_SERVED_YET[feature]:
            assert await is_declared(client, path), path


async def is_declared(client: Client, path: str) -> bool:
    """Whether the machine's type declares a node with this path."""
    index = await indexes(client)
    types = TypeSystem(client)
    prefix, identifier = MACHINE_TYPE
    type_ids, overriding = [ua.NodeId(identifier, index[prefix])], []
    for name in names(path, index):
        declared = await types.declarations(type_ids, overriding)
        declaration = declared.get((name.NamespaceIndex, name.Name))
        if declaration is None or not declaration.rule:
            return False
        type_ids, overriding = declaration.types[:1], declaration.nodes
    return True


async def test_node_opcua_finds_the_same_by_the_same_paths() -> None:
    async with connected(printing()) as (client, server):
        index = await indexes(client)
        found = await translate(client, SERVED)
        as_text = {
            path: "".join(f"/{name.NamespaceIndex}:{name.Name}" for name in names(path, index))
            for path in SERVED
        }
        machine = f"ns={index['own']};s={NAME}"
        async with (
            node_opcua("translate_paths.js", server.endpoint_url, machine) as process,
            asyncio.timeout(SECONDS),
        ):
            output, errors = await process.communicate(json.dumps(list(as_text.values())).encode())
        assert process.returncode == 0, errors.decode()
        told = json.loads(next(line for line in output.decode().splitlines() if line.startswith("[{")))
        answers = {answer.pop("path"): answer for answer in told}
        for path, (wanted, unit) in SERVED.items():
            kind = data_type(wanted, index)
            assert answers[as_text[path]] == {
                "nodeIds": [found[path][0].to_string()],
                "status": "Good",
                "dataType": f"ns={kind.NamespaceIndex};i={kind.Identifier}",
                "unit": unit,
                "hasValue": True,
            }, path
