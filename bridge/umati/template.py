"""What the OPC UA package is told to build for machines of a profile.

In flows a `Profile`, out flows the declarations wanted, the nodes added, and the values that never differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from bridge.opcua import Addition, OpcUaServer, Template
from bridge.umati import feedstock, job_management
from bridge.umati.counters import CYCLES
from bridge.umati.part import Nodes
from bridge.umati.profile import Profile, heater_path, heater_title, is_tool
from bridge.umati.projection import PROGRESS
from bridge.umati.units import CELSIUS, PERCENT

MACHINE_TYPE = ("am", 1005)
PROCESS_VALUE_TYPE = ("am", 1002)
JOB_END_PROGNOSIS_TYPE = ("mt", 37)

PROCESS_MONITORING = 2  # am:SensorCategory
INFO = 0  # am:SensorSeverity

TOOL_RANGE = ua.Range(0.0, 500.0)
BED_RANGE = ua.Range(0.0, 200.0)
PROGRESS_RANGE = ua.Range(0.0, 100.0)

MESSAGES = "Notification.Messages"
NOTIFIERS = ("", MESSAGES)
"""Where a machine's messages are seen: at the machine itself, and where OPC 40501-1 puts them."""

_ANALOG_UNIT_RANGE_TYPE = ua.NodeId(ua.Int32(ObjectIds.AnalogUnitRangeType))
_DATA_VARIABLE_TYPE = ua.NodeId(ua.Int32(ObjectIds.BaseDataVariableType))
_UINT32 = ua.NodeId(ua.Int32(ObjectIds.UInt32))
_UINT64 = ua.NodeId(ua.Int32(ObjectIds.UInt64))
_DOUBLE = ua.NodeId(ua.Int32(ObjectIds.Double))

_IDENTIFICATION = (
    "di:AssetId",
    "di:ComponentName",
    "di:DeviceClass",
    "di:Model",
    "di:ProductCode",
    "di:SoftwareRevision",
    "mach:InitialOperationDate",
    "mach:Location",
    "mach:YearOfConstruction",
)
_INCLUDE = (
    *(f"di:Identification/{name}" for name in _IDENTIFICATION),
    *(
        f"{machine}/{variable}"
        for machine in (
            "mach:MachineryBuildingBlocks/mach:MachineryItemState",
            "mach:MachineryBuildingBlocks/mach:MachineryOperationMode",
            "mt:Production/mt:ActiveProgram/mt:State",
        )
        for variable in (
            "CurrentState/Number",
            "LastTransition/Number",
            "LastTransition/TransitionTime",
        )
    ),
    *(
        f"mach:MachineryBuildingBlocks/di:OperationCounters/di:{name}"
        for name in ("PowerOnDuration", "OperationDuration", "OperationCycleCounter")
    ),
    "mt:Monitoring/mt:MachineTool/di:OperationCounters/mt:PartsProducedInLifetime",
    "mt:Monitoring/mach:Process",
    "mt:Monitoring/mt:MachineTool/mt:PowerOnDuration",
    "mt:Notification/mt:Messages",
    "mt:Notification/mt:Prognoses",
    "mt:Production/mt:ActiveProgram/mt:JobIdentifier",
    *job_management.INCLUDE,
)


def build(server: OpcUaServer, profile: Profile, parts: Iterable[Nodes] = ()) -> Template:
    """The template of all machines of this profile, with these parts."""
    additions = [
        Addition(
            parent="mt:Production/mt:ActiveProgram",
            browse_name="own:Progress",
            type_id=_ANALOG_UNIT_RANGE_TYPE,
            data_type=_DOUBLE,
        ),
        Addition(
            parent="mach:MachineryBuildingBlocks/di:OperationCounters",
            browse_name="mt:PartsProducedInLifetime",
            type_id=_DATA_VARIABLE_TYPE,
            data_type=_UINT64,
        ),
        Addition(
            parent="mt:Notification/mt:Prognoses",
            browse_name="own:JobEnd",
            type_id=server.node_id(*JOB_END_PROGNOSIS_TYPE),
        ),
    ]
    constants: dict[str, Any] = {
        "Identification.AMTechnologyIdentifier": "MEX",
        "Identification.DeviceClass": "Additive Manufacturing machine",
        "Production.ActiveProgram.NumberInList": 0,
        f"{PROGRESS}.EngineeringUnits": PERCENT,
        f"{PROGRESS}.EURange": PROGRESS_RANGE,
        **job_management.CONSTANTS,
    }
    data_types = {CYCLES: _UINT32}
    for name in profile.heaters:
        additions.append(
            Addition(
                parent="mt:Monitoring/mach:Process",
                browse_name=f"own:{heater_title(name)}",
                type_id=server.node_id(*PROCESS_VALUE_TYPE),
                include=["pv:ProcessValueSetpoint", "am:Severity"],
            )
        )
        path = heater_path(name)
        constants |= {
            f"{path}.Category": PROCESS_MONITORING,
            f"{path}.Severity": INFO,
            f"{path}.SignalTag": name,
        }
        for signal in (f"{path}.AnalogSignal", f"{path}.ProcessValueSetpoint"):
            constants[f"{signal}.EngineeringUnits"] = CELSIUS
            constants[f"{signal}.EURange"] = TOOL_RANGE if is_tool(name) else BED_RANGE
            data_types[signal] = _DOUBLE
    include = list(_INCLUDE)
    for part in (feedstock.nodes(profile.feedstock, server.node_id), *parts):
        include += part.include
        additions += part.additions
        constants |= part.constants
        data_types |= part.data_types
    return server.build_template(
        server.node_id(*MACHINE_TYPE),
        include=include,
        additions=additions,
        constants=constants,
        notifiers=(*NOTIFIERS, *job_management.NOTIFIERS),
        data_types=data_types,
        types={job_management.CONTROL: server.node_id(*job_management.CONTROL_TYPE)},
    )
