"""Jobs as ISA-95 job orders and job responses (OPC 10031-4), with the parameters that OPC 40001-3 and OPC 40540 define.

In flow jobs, files and spools of the domain; out flow the structures that clients read. The JobOrderID is the id of the
run: a file that is printed again is another order. Printers take no orders over OPC UA: each was begun at the printer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from asyncua import ua

from bridge.machine import Filament, File, Job, JobState, Machine, Result, Spool
from bridge.umati.readings import NodeIdOf
from bridge.umati.units import BYTE, CUBIC_CENTIMETRE, MILLIMETRE, PERCENT, SECOND

FeedstockOf = Callable[[str], ua.NodeId | None]
Type = ua.VariantType

_HIERARCHICAL = ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences))
_FILAMENT = "Filament"
_CONSUMED = "Material consumed"  # ISA-95 part 2, as OPC 10031-4, 6.3.6 cites it


class JobOrderState(NamedTuple):
    """A state of ISA95JobOrderReceiverSubStatesType (OPC 10031-4, 6.2.2), and its substate if it has one."""

    text: str
    number: int
    substates: str = ""
    substate: str = ""
    substate_number: int = 0


class JobOrderStates(Enum):
    """The states that a job can be in which has begun. A pause is a decision: Suspended, not Held."""

    RUNNING = JobOrderState("Running", 3)
    INTERRUPTED = JobOrderState("Interrupted", 4, "InterruptedSubstates", "Suspended", 2)
    ENDED = JobOrderState("Ended", 5, "EndedSubstates", "Completed", 1)
    ABORTED = JobOrderState("Aborted", 6)


_OF_JOB = {
    JobState.INITIALIZING: JobOrderStates.RUNNING,
    JobState.RUNNING: JobOrderStates.RUNNING,
    JobState.INTERRUPTED: JobOrderStates.INTERRUPTED,
    JobState.ENDED: JobOrderStates.ENDED,
    JobState.ABORTED: JobOrderStates.ABORTED,
}
_RESULTS = {
    None: 0,
    Result.COMPLETED: 1,
    Result.CANCELLED: 2,
    Result.FAILED: 2,
}  # jobs:JobResult (OPC 40001-3, 9.2)


class JobOrders:
    """Builds the structures; `node_id` gives the NodeId of a prefix and a number of the companion models."""

    def __init__(self, node_id: NodeIdOf) -> None:
        def structure(prefix: str, number: int) -> Callable[..., Any]:
            kind: Callable[..., Any] = ua.extension_objects_by_datatype[node_id(prefix, number)]
            return kind

        self._namespace = node_id("isa", 0).NamespaceIndex
        self._property = structure("isa", 3002)
        self._parameter = structure("isa", 3003)
        self._state = structure("isa", 3006)
        self._work_master = structure("isa", 3007)
        self._order = structure("isa", 3008)
        self._material = structure("isa", 3010)
        self._response = structure("isa", 3013)
        self._order_and_state = structure("isa", 3015)
        self._run = structure("am", 3001)

    def order_list(self, machine: Machine, feedstock: FeedstockOf) -> ua.Variant:
        """ISA95JobOrderAndStateDataType[]: the remembered jobs, the oldest first, and the one that is active."""
        return _structures(
            self._order_and_state(self.order(job, feedstock), self.states(job)) for job in jobs_of(machine)
        )

    def response_list(self, machine: Machine, feedstock: FeedstockOf) -> ua.Variant:
        """ISA95JobResponseDataType[]: of the same jobs, in the same order (OPC 40001-3, 8.1)."""
        return _structures(self.response(job, machine.spools, feedstock) for job in jobs_of(machine))

    def work_masters(self, files: Iterable[File]) -> ua.Variant:
        """ISA95WorkMasterDataType[]: the files that can be printed."""
        return _structures(self._work_master(ID=file.path, Parameters=self._of_file(file)) for file in files)

    def order(self, job: Job, feedstock: FeedstockOf) -> Any:
        """The ISA95JobOrderDataType of a job: what was asked for; `feedstock` is what is mounted now."""
        own = _file_of(job)
        parameters = [
            self._value("JobName", [ua.LocalizedText(job.file)], Type.LocalizedText),
            self._value("RunsPlanned", 1, Type.UInt32),
            self._value("LayersPlanned", job.layers, Type.UInt32),
            self._value("FilePath", job.path, Type.String),
            *self._of_file(own),
        ]
        return self._order(
            JobOrderID=job.run,
            Description=[ua.LocalizedText(job.file)],
            WorkMasterID=[self._work_master(ID=own.path)],
            StartTime=job.started,
            JobOrderParameters=_known(parameters),
            MaterialRequirements=[
                self._consumed(tool, amount, None, feedstock(tool) if job.active else None)
                for tool, amount in job.filament.items()
            ],
        )

    def response(self, job: Job, spools: Mapping[str, Spool], feedstock: FeedstockOf) -> Any:
        """The ISA95JobResponseDataType of a job: what came of it so far; `spools` are those of an active job."""
        states = self.states(job)
        completed = job.result is Result.COMPLETED
        data = [
            self._value("JobName", [ua.LocalizedText(job.file)], Type.LocalizedText),
            self._value("RunsCompleted", int(completed), Type.UInt32),
            self._value("JobResult", _RESULTS[job.result], Type.Int32),
            self._value("Reason", job.reason, Type.String),
            self._value("Progress", job.completion, Type.Double, PERCENT),
            self._value("PrintTime", job.print_time, Type.Double, SECOND),
            self._parameter(ID="Runs", Value=_structures([self._run_info(job, states[0])])),
        ]
        used = spools if job.active else job.spools
        return self._response(
            JobResponseID=job.run,
            JobOrderID=job.run,
            StartTime=job.started,
            EndTime=job.ended,
            JobState=states,
            JobResponseData=_known(data),
            MaterialActuals=[
                self._consumed(tool, amount, used.get(tool), feedstock(tool) if job.active else None)
                for tool, amount in _actual(job).items()
            ],
        )

    def states(self, job: Job) -> list[Any]:
        """The ISA95StateDataType[] of a job: its state, then its substate."""
        state = _OF_JOB[job.state].value
        top = self._state(ua.RelativePath(), ua.LocalizedText(state.text), state.number)
        if not state.substates:
            return [top]
        step = ua.RelativePathElement(
            _HIERARCHICAL, False, True, ua.QualifiedName(state.substates, self._namespace)
        )
        return [
            top,
            self._state(ua.RelativePath([step]), ua.LocalizedText(state.substate), state.substate_number),
        ]

    def is_in(self, job: Job, wanted: Iterable[Any]) -> bool:
        """Whether the job is in all of these states."""
        actual = {_key(state) for state in self.states(job)}
        return all(_key(state) in actual for state in wanted)

    def nothing(self) -> Any:
        """The response where there is none to give: a method's output must hold something."""
        return self._response()

    def _run_info(self, job: Job, state: Any) -> Any:
        """OPC 40540, 10.1. RemainingTime is a Duration, thus in ms, though its description there says seconds."""
        left = job.print_time_left if job.active else None
        return self._run(
            Identifier=job.run,
            State=state,
            CurrentLayer=_layers_done(job),
            RemainingTime=None if left is None else left * 1000.0,
        )

    def _of_file(self, file: File) -> list[Any]:
        return _known(
            [
                self._value("FileSize", file.size, Type.UInt64, BYTE),
                self._value("EstimatedPrintTime", file.estimated_print_time, Type.Double, SECOND),
            ]
        )

    def _consumed(self, tool: str, amount: Filament, spool: Spool | None, feedstock: ua.NodeId | None) -> Any:
        """The filament of one tool: what it is by its spool, its length, and its volume as a property."""
        properties = [
            self._property(ID="Tool", Value=ua.Variant(tool, Type.String)),
            None
            if amount.volume is None
            else self._property(
                ID="Volume", Value=ua.Variant(amount.volume, Type.Double), EngineeringUnits=CUBIC_CENTIMETRE
            ),
            None if feedstock is None else self._property(ID="Feedstock", Value=ua.Variant(feedstock)),
        ]
        known = spool or Spool()
        return self._material(
            MaterialClassID=_FILAMENT,
            MaterialDefinitionID=known.material,
            MaterialLotID=known.identifier,
            Description=[ua.LocalizedText(known.name)] if known.name else None,
            MaterialUse=_CONSUMED,
            Quantity=None if amount.length is None else f"{amount.length:.1f}",
            EngineeringUnits=None if amount.length is None else MILLIMETRE,
            Properties=_known(properties),
        )

    def _value(
        self, name: str, value: Any, kind: ua.VariantType, unit: ua.EUInformation | None = None
    ) -> Any | None:
        """A parameter, unless nobody knows its value."""
        if value is None:
            return None
        variant = ua.Variant(value, kind, is_array=isinstance(value, list))
        return self._parameter(ID=name, Value=variant, EngineeringUnits=unit)


def jobs_of(machine: Machine) -> list[Job]:
    """The jobs that are remembered, the oldest first, then the active one."""
    active = machine.active_job
    return [*machine.finished, *([active] if active is not None else [])]


def _file_of(job: Job) -> File:
    return File(job.path or job.file, job.size, None, job.estimated_print_time)


def _actual(job: Job) -> dict[str, Filament]:
    """The filament used so far, taken to be used evenly over the file; empty while the progress is unknown."""
    if job.completion is None:
        return {}
    part = job.completion / 100.0
    return {
        tool: Filament(
            None if planned.length is None else planned.length * part,
            None if planned.volume is None else planned.volume * part,
        )
        for tool, planned in job.filament.items()
    }


def _layers_done(job: Job) -> int | None:
    if job.result is Result.COMPLETED:
        return job.layers
    return None if job.layer is None else max(0, job.layer - 1)


def _structures(values: Iterable[Any]) -> ua.Variant:
    return ua.Variant(list(values), Type.ExtensionObject, is_array=True)


def _known(parameters: Iterable[Any | None]) -> list[Any]:
    return [parameter for parameter in parameters if parameter is not None]


def _key(state: Any) -> tuple[int, tuple[tuple[int, str | None], ...]]:
    path = state.BrowsePath.Elements or []
    return state.StateNumber, tuple((step.TargetName.NamespaceIndex, step.TargetName.Name) for step in path)
