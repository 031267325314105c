"""What the address space itself does not say: where the values come from, and when states and events happen.

A new node, state or event needs one line here; a line whose node, state or event is gone has to go, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from itertools import chain

from bridge.umati.states import Situation

BLOCKS = "mach:MachineryBuildingBlocks"
COUNTERS = f"{BLOCKS}/di:OperationCounters"
JOBS = f"{BLOCKS}/jobs:JobManagement"
MACHINE_TOOL = "mt:Monitoring/mt:MachineTool"
STACKLIGHT = "mt:Monitoring/mt:Stacklight"
PROCESS = "mt:Monitoring/mach:Process"
JOB_END = "mt:Notification/mt:Prognoses/own:JobEnd"
PROGRAM = "mt:Production/mt:ActiveProgram"
PLAN = "mt:Production/mt:ProductionPlan"
PARTS_PRODUCED = "jobs completed: OctoPrint does not know how many parts a file holds"


def _state_machine(path: str) -> dict[str, str]:
    return {
        path: "a state machine",
        f"{path}/CurrentState": "table of states",
        f"{path}/CurrentState/*": "the same state as number and NodeId",
        f"{path}/LastTransition": "how the state was entered",
        f"{path}/LastTransition/*": "the same as number and NodeId, and when it happened",
    }


FED_BY = {
    "di:Identification": "the nameplate",
    "di:Identification/DefaultInstanceBrowseName": "the type",
    "di:Identification/di:AssetId": "settings, plugin, else empty",
    "di:Identification/mach:InitialOperationDate": "settings, else BadWaitingForInitialData",
    "di:Identification/di:ComponentName": (
        "`custom_name` of config.json, else the printer's name in OctoPrint, else the machine id"
    ),
    "di:Identification/di:DeviceClass": "always this",
    "di:Identification/di:Manufacturer": "settings, plugin, else `unknown`",
    "di:Identification/di:Model": "settings, plugin, printer profile (model, else name), else `unknown`",
    "di:Identification/di:ProductCode": "settings, plugin, else as Model",
    "di:Identification/di:ProductInstanceUri": (
        "settings, plugin, else `urn:<host of OctoPrint>:octoprint:<machine id>`"
    ),
    "di:Identification/di:SerialNumber": (
        "settings, plugin, else the id of the OctoPrint installation, else the machine id"
    ),
    "di:Identification/di:SoftwareRevision": "firmware name, else `OctoPrint <version>`, else `unknown`",
    "di:Identification/mach:Location": "settings, plugin, else `unknown`",
    "di:Identification/mach:YearOfConstruction": "settings, plugin, else 0 with status UncertainInitialValue",
    "di:Identification/am:AMTechnologyIdentifier": "always this: material extrusion",
    BLOCKS: "what Machinery calls building blocks",
    **_state_machine(f"{BLOCKS}/mach:MachineryItemState"),
    **_state_machine(f"{BLOCKS}/mach:MachineryOperationMode"),
    JOBS: "the printer's jobs; they are begun at the printer, not over OPC UA",
    f"{JOBS}/DefaultInstanceBrowseName": "the type",
    f"{JOBS}/jobs:JobOrderControl": "job orders",
    f"{JOBS}/jobs:JobOrderControl/CurrentState": "none: it is the orders that have states",
    f"{JOBS}/jobs:JobOrderControl/CurrentState/Id": "none",
    f"{JOBS}/jobs:JobOrderControl/isa:JobOrderList": (
        "the last jobs, the oldest first, and the active one; the JobOrderID is the id of the run"
    ),
    f"{JOBS}/jobs:JobOrderControl/isa:WorkMaster": "the G-code files that can be printed",
    f"{JOBS}/jobs:JobOrderControl/isa:*ID": "always empty: no order can be downloaded, so none may name one",
    f"{JOBS}/jobs:JobOrderControl/isa:MaxDownloadableJobOrders": "always 0: no order can be downloaded",
    f"{JOBS}/jobs:JobOrderResults": "what came of the jobs",
    f"{JOBS}/jobs:JobOrderResults/isa:JobOrderResponseList": "of the same jobs, in the same order",
    f"{JOBS}/jobs:JobOrderResults/isa:RequestJobResponseByJobOrderID": "for anyone who may look",
    f"{JOBS}/jobs:JobOrderResults/isa:RequestJobResponseByJobOrderState": "for anyone who may look",
    COUNTERS: "kept over restarts",
    f"{COUNTERS}/di:PowerOnDuration": ("time that the printer was seen connected, in ms, whole minutes"),
    f"{COUNTERS}/di:OperationDuration": ("print time of all jobs, in ms, whole minutes"),
    f"{COUNTERS}/di:OperationCycleCounter": "jobs begun",
    f"{COUNTERS}/mt:PartsProducedInLifetime": PARTS_PRODUCED,
    "mt:Monitoring": "what is measured",
    MACHINE_TOOL: "the machine as a whole",
    f"{MACHINE_TOOL}/di:OperationCounters": "as the building block of that name",
    f"{MACHINE_TOOL}/di:OperationCounters/*": "as the counter of that name",
    f"{MACHINE_TOOL}/mt:OperationMode": "table of states",
    f"{MACHINE_TOOL}/mt:PowerOnDuration": "as the counter of that name, in whole hours",
    PROCESS: "the heaters",
    STACKLIGHT: "three lights that the machine does not have; from the top",
    "mt:Equipment/am:Feedstock": "what the tools are fed with; there while a feedstock is known",
    "mt:Equipment/am:Feedstock/NodeVersion": "when the list got or lost a feedstock",
    "mt:Equipment/am:Feedstock/own:Tool 0": "one tool's filament",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:ExternalIdentifier": "the settings; empty without them",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:Function": "always Main",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:Identifier": "settings, else spool, else machine id and tool",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:Manufacturer": "the settings, else the spool; empty if unknown",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:Name": "the name, else the material",
    "mt:Equipment/am:Feedstock/own:Tool 0/am:RemainingQuantity": "what a spool plugin tells; Bad while nobody does",
    f"{STACKLIGHT}/ia:StacklightMode": "always this",
    f"{STACKLIGHT}/own:*": "one light",
    f"{STACKLIGHT}/own:*/NumberInList": "its place, 0 at the top",
    f"{STACKLIGHT}/own:*/ia:SignalColor": "always this: Red 1, Yellow 4, Green 2",
    f"{STACKLIGHT}/own:*/ia:SignalMode": "always this",
    f"{STACKLIGHT}/own:Red/ia:SignalOn": "on while MachineryItemState is OutOfService",
    f"{STACKLIGHT}/own:Yellow/ia:SignalOn": "on while the job waits for a person",
    f"{STACKLIGHT}/own:Green/ia:SignalOn": "on while MachineryItemState is Executing",
    f"{PROCESS}/own:*": (
        "one for each heater of the printer profile, and for any other that reports a temperature"
    ),
    f"{PROCESS}/own:*/am:Category": "always this",
    f"{PROCESS}/own:*/am:Severity": "always this",
    f"{PROCESS}/own:*/padim:AnalogSignal": "measured temperature",
    f"{PROCESS}/own:*/padim:SignalTag": "OctoPrint's name of the heater",
    f"{PROCESS}/own:*/pv:ProcessValueSetpoint": "target temperature; 0 is off",
    "mt:Equipment": "nothing yet",
    "mt:Notification": "what the machine tells",
    "mt:Notification/mt:Messages": "source of events, see below",
    "mt:Notification/mt:Prognoses": "what will be",
    JOB_END: "of the active job",
    f"{JOB_END}/mt:PredictedTime": ("when the active job will end: its last report plus the time left in it"),
    f"{JOB_END}/mt:SourceIdentifier": "id of this run of the job",
    "mt:Production": "the running job, or else the last one",
    PROGRAM: "the program is the job's G-code",
    f"{PROGRAM}/NumberInList": "always 0",
    f"{PROGRAM}/mt:Name": ("file of the job; stays when it has ended; empty before the first"),
    f"{PROGRAM}/mt:JobIdentifier": "id of this run of the job",
    **_state_machine(f"{PROGRAM}/mt:State"),
    f"{PROGRAM}/own:Progress": "completion of the job",
    PLAN: "one job: the running one, or else the last one",
    f"{PLAN}/own:Job": "printers take no orders",
    f"{PLAN}/own:Job/NumberInList": "always 0",
    f"{PLAN}/own:Job/mt:Identifier": "id of this run of the job",
    f"{PLAN}/own:Job/mt:ProductionPrograms": "one program: the job's G-code",
    f"{PLAN}/own:Job/mt:ProductionPrograms/own:Program": "as the active program",
    f"{PLAN}/own:Job/mt:ProductionPrograms/own:Program/NumberInList": "always 0",
    f"{PLAN}/own:Job/mt:ProductionPrograms/own:Program/mt:Name": "file of the job",
    f"{PLAN}/own:Job/mt:RunsCompleted": "1 when the job was completed",
    f"{PLAN}/own:Job/mt:RunsPlanned": "always 1",
    f"{PLAN}/own:Job/mt:RunsPlanned/mt:IsValid": "always true",
    f"{PLAN}/own:Job/mt:State": "a state machine",
    f"{PLAN}/own:Job/mt:State/CurrentState": "as the state of the active program",
    f"{PLAN}/own:Job/mt:State/CurrentState/*": "the same state as number and NodeId",
    "mt:Production/mt:Statistics": "sums",
    "mt:Production/mt:Statistics/mt:PartsProducedInLifetime": PARTS_PRODUCED,
}
"""By browse path below the machine; ``*`` is any one name, and such nodes that are alike share a line."""

DEMANDED_BY_UMATI = {
    *(f"di:Identification/di:{name}" for name in ("Model", "ProductCode", "SoftwareRevision")),
    *(f"di:Identification/mach:{name}" for name in ("Location", "YearOfConstruction")),
}
"""What umati's clients want beyond the type's mandatory nodes: they drop a machine that lacks one."""

SITUATIONS = {
    Situation.UNREACHABLE: "out of reach, disconnected, connecting",
    Situation.FAULT: "error, closed with an error, error flag without a job",
    Situation.READY: "ready",
    Situation.SETUP: "heating without a job, transferring a file",
    Situation.EXECUTING: "starting, printing, pausing, resuming, finishing, cancelling",
    Situation.WAITING: "paused",
}
"""By row of the table of states."""

EVENTS = {
    "JobStarted": "a job begins",
    "JobPaused": "a job waits for a person",
    "JobResumed": "a job goes on",
    "FilamentChange": "the printer wants other filament",
    "JobCompleted": "a job is done",
    "JobCancelled": "a job was cancelled",
    "JobFailed": "a job fails",
    "PrinterError": "the printer reports an error",
    "ConnectionLost": "OctoPrint goes out of reach during a job",
    "own:JobOrderStatusEventType": "the state of a job order changes",
}
"""By Identifier or ErrorCode, else by type."""


class TextsError(Exception):
    """Texts are missing, or tell of nothing; says which and what to do."""


class Texts:
    """Looks texts up. Before, `check_nodes` and `check_events` see to it that there is one for each, and no other."""

    def __init__(self, fed_by: dict[str, str] = FED_BY, events: dict[str, str] = EVENTS) -> None:
        self._fed_by = fed_by
        self._events = events

    def of(self, path: tuple[str, ...]) -> tuple[str, str]:
        """The pattern and the text of a node."""
        (pattern,) = self._patterns(path)
        return pattern, self._fed_by[pattern]

    def demanded(self, path: tuple[str, ...]) -> bool:
        """Whether umati's clients demand a node that is optional in the model."""
        return "/".join(path) in DEMANDED_BY_UMATI

    def event(self, name: str) -> str:
        """When an event happens."""
        return self._events[name]

    def check_nodes(self, paths: Collection[tuple[str, ...]]) -> None:
        """TextsError unless each node has one text and each text a node, and umati's clients have what they demand."""
        found = {"/".join(path): self._patterns(path) for path in paths}
        _refuse("nodes without a text: add a line for each to FED_BY", (n for n, p in found.items() if not p))
        _refuse("nodes with several texts: leave one in FED_BY", (n for n, p in found.items() if len(p) > 1))
        used = set(chain.from_iterable(found.values()))
        _refuse("texts without a node: take them out of FED_BY", (t for t in self._fed_by if t not in used))
        _refuse("nodes that umati's clients miss, by DEMANDED_BY_UMATI", DEMANDED_BY_UMATI - found.keys())

    def check_events(self, names: Collection[str]) -> None:
        """TextsError unless each event has a text and each text an event."""
        _refuse("events without a text: add a line for each to EVENTS", set(names) - self._events.keys())
        _refuse("texts without an event: take them out of EVENTS", self._events.keys() - set(names))

    def _patterns(self, path: tuple[str, ...]) -> list[str]:
        return [pattern for pattern in self._fed_by if _matches(path, pattern)]


def _refuse(problem: str, names: Iterable[str]) -> None:
    if told := sorted(names):
        raise TextsError("\n  ".join([f"{problem} in tests/docs/texts.py", *told]))


def _matches(path: tuple[str, ...], pattern: str) -> bool:
    parts = pattern.split("/")
    return len(parts) == len(path) and all(map(fnmatchcase, path, parts))
