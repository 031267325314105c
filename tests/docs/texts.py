"""What the address space itself does not say: where the values come from, and when states and events happen.

A new node, state or event needs one line here; a line whose node, state or event is gone has to go, too.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from bridge.umati.states import Situation

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
    "mach:MachineryBuildingBlocks": "what Machinery calls building blocks",
    "mach:MachineryBuildingBlocks/mach:MachineryItemState": "a state machine",
    "mach:MachineryBuildingBlocks/mach:MachineryItemState/CurrentState": "table of states",
    "mach:MachineryBuildingBlocks/mach:MachineryItemState/CurrentState/*": "the same state as number and NodeId",
    "mach:MachineryBuildingBlocks/mach:MachineryOperationMode": "a state machine",
    "mach:MachineryBuildingBlocks/mach:MachineryOperationMode/CurrentState": "table of states",
    "mach:MachineryBuildingBlocks/mach:MachineryOperationMode/CurrentState/*": "the same state as number and NodeId",
    "mach:MachineryBuildingBlocks/di:OperationCounters": "kept over restarts",
    "mach:MachineryBuildingBlocks/di:OperationCounters/di:PowerOnDuration": (
        "time that the printer was seen connected, in ms, whole minutes"
    ),
    "mach:MachineryBuildingBlocks/di:OperationCounters/di:OperationDuration": (
        "print time of all jobs, in ms, whole minutes"
    ),
    "mach:MachineryBuildingBlocks/di:OperationCounters/di:OperationCycleCounter": "jobs begun",
    "mt:Monitoring": "what is measured",
    "mt:Monitoring/mt:MachineTool": "the machine as a whole",
    "mt:Monitoring/mt:MachineTool/mt:OperationMode": "table of states",
    "mt:Monitoring/mt:MachineTool/mt:PowerOnDuration": "as the counter of that name, in whole hours",
    "mt:Monitoring/mach:Process": "the heaters",
    "mt:Monitoring/mach:Process/own:*": (
        "one for each heater of the printer profile, and for any other that reports a temperature"
    ),
    "mt:Monitoring/mach:Process/own:*/am:Category": "always this",
    "mt:Monitoring/mach:Process/own:*/am:Severity": "always this",
    "mt:Monitoring/mach:Process/own:*/padim:AnalogSignal": "measured temperature",
    "mt:Monitoring/mach:Process/own:*/padim:SignalTag": "OctoPrint's name of the heater",
    "mt:Monitoring/mach:Process/own:*/pv:ProcessValueSetpoint": "target temperature; 0 is off",
    "mt:Equipment": "nothing yet",
    "mt:Notification": "what the machine tells",
    "mt:Notification/mt:Messages": "source of events, see below",
    "mt:Notification/mt:Prognoses": "what will be",
    "mt:Notification/mt:Prognoses/own:JobEnd": "of the active job",
    "mt:Notification/mt:Prognoses/own:JobEnd/mt:PredictedTime": (
        "when the active job will end: its last report plus the time left in it"
    ),
    "mt:Notification/mt:Prognoses/own:JobEnd/mt:SourceIdentifier": "id of this run of the job",
    "mt:Production": "the running job, or else the last one",
    "mt:Production/mt:ActiveProgram": "the program is the job's G-code",
    "mt:Production/mt:ActiveProgram/NumberInList": "always 0",
    "mt:Production/mt:ActiveProgram/mt:Name": (
        "file of the job; stays when it has ended; empty before the first"
    ),
    "mt:Production/mt:ActiveProgram/mt:JobIdentifier": "id of this run of the job",
    "mt:Production/mt:ActiveProgram/mt:State": "a state machine",
    "mt:Production/mt:ActiveProgram/mt:State/CurrentState": "table of states",
    "mt:Production/mt:ActiveProgram/mt:State/CurrentState/*": "the same state as number and NodeId",
    "mt:Production/mt:ActiveProgram/own:Progress": "completion of the job",
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
}
"""By Identifier or ErrorCode."""


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
