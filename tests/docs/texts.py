"""What the address space itself does not say: where the values come from, and when states and events happen.

A new node, state or event needs one line here; a line whose node, state or event is gone has to go, too.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from bridge.umati.states import Situation

BLOCKS = "mach:MachineryBuildingBlocks"
COUNTERS = f"{BLOCKS}/di:OperationCounters"
JOBS = f"{BLOCKS}/jobs:JobManagement"
PROCESS = "mt:Monitoring/mach:Process"
JOB_END = "mt:Notification/mt:Prognoses/own:JobEnd"
PROGRAM = "mt:Production/mt:ActiveProgram"


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
    "mt:Monitoring": "what is measured",
    "mt:Monitoring/mt:MachineTool": "the machine as a whole",
    "mt:Monitoring/mt:MachineTool/mt:OperationMode": "table of states",
    "mt:Monitoring/mt:MachineTool/mt:PowerOnDuration": "as the counter of that name, in whole hours",
    PROCESS: "the heaters",
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
    """A text is missing, or tells of nothing; says which and what to do."""


class Texts:
    """Looks texts up, and knows which were never asked for."""

    def __init__(self, fed_by: dict[str, str] = FED_BY, events: dict[str, str] = EVENTS) -> None:
        self._fed_by = fed_by
        self._events = events
        self._used: set[str] = set()
        self._seen: set[str] = set()

    def of(self, path: tuple[str, ...]) -> tuple[str, str]:
        """The pattern and the text of a node; TextsError unless there is exactly one."""
        found = [pattern for pattern in self._fed_by if _matches(path, pattern)]
        if len(found) != 1:
            problem = (
                f"several texts ({', '.join(found)}): leave one" if found else "no text: add a line for it"
            )
            raise TextsError(f"the node {'/'.join(path)} has {problem} to FED_BY in tests/docs/texts.py")
        self._used.add(found[0])
        return found[0], self._fed_by[found[0]]

    def demanded(self, path: tuple[str, ...]) -> bool:
        """Whether umati's clients demand a node that is optional in the model."""
        name = "/".join(path)
        self._seen.add(name)
        return name in DEMANDED_BY_UMATI

    def event(self, name: str) -> str:
        """When an event happens; TextsError if that is not said."""
        if name not in self._events:
            raise TextsError(
                f"the event {name} has no text: add a line for it to EVENTS in tests/docs/texts.py"
            )
        self._used.add(name)
        return self._events[name]

    def check_nodes(self) -> None:
        """TextsError for a text that no node asked for, and for a node that umati's clients miss."""
        self._check(self._fed_by, "node", "FED_BY")
        if missing := sorted(DEMANDED_BY_UMATI - self._seen):
            raise TextsError(
                f"umati's clients miss {', '.join(missing)}: serve it, see bridge/umati/template.py"
            )

    def check_events(self) -> None:
        """TextsError for a text that no event asked for."""
        self._check(self._events, "event", "EVENTS")

    def _check(self, texts: dict[str, str], what: str, where: str) -> None:
        if left := [name for name in texts if name not in self._used]:
            raise TextsError(
                f"there is no {what} {', '.join(left)}: take the text out of {where} in tests/docs/texts.py"
            )


def _matches(path: tuple[str, ...], pattern: str) -> bool:
    parts = pattern.split("/")
    return len(parts) == len(path) and all(map(fnmatchcase, path, parts))
