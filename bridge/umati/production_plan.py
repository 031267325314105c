"""ProductionPlan and Statistics of OPC 40501-1, which its version 1.02 deprecates in favour of job management.

In flow machines; out flow readings. The plan holds one job, the running one or else the last one: printers take no
orders. A setting asks for them, for clients that know nothing newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from asyncua import ua

from bridge.machine import Job, Machine, Result, Transition
from bridge.opcua import Addition
from bridge.umati.part import Nodes
from bridge.umati.program import ProgramState, program_state, steps
from bridge.umati.readings import GOOD, WAITING, NodeIdOf, Reading, Write

_PLAN = "mt:Production/mt:ProductionPlan"
_JOB = "Production.ProductionPlan.Job"
_PROGRAM = f"{_JOB}.ProductionPrograms.Program"
_PARTS = "Production.Statistics.PartsProducedInLifetime"
_JOB_TYPE, _PROGRAM_TYPE = ("mt", 29), ("mt", 59)
_HAS_ORDERED_COMPONENT = ua.NodeId(ua.Int32(ua.ObjectIds.HasOrderedComponent))
_STATES = {
    ProgramState.INITIALIZING: 5015,
    ProgramState.RUNNING: 5017,
    ProgramState.ENDED: 5014,
    ProgramState.INTERRUPTED: 5016,
    ProgramState.ABORTED: 5013,
}
"""States of mt:ProductionJobStateMachineType, which numbers and names them like those of programs."""

Type = ua.VariantType


class ProductionPlan:
    """The part; `node_id` gives the NodeId of a prefix and a number of the companion models."""

    def __init__(self, node_id: NodeIdOf) -> None:
        self._states = {
            state: (
                ua.Variant(ua.LocalizedText(state.value.text), Type.LocalizedText),
                ua.Variant(node_id("mt", number), Type.NodeId),
                ua.Variant(state.value.number, Type.UInt32),
            )
            for state, number in _STATES.items()
        }
        self.nodes = Nodes(
            include=[_PLAN, "mt:Production/mt:Statistics/mt:PartsProducedInLifetime"],
            additions=[
                Addition(
                    parent=_PLAN,
                    browse_name="own:Job",
                    type_id=node_id(*_JOB_TYPE),
                    reference=_HAS_ORDERED_COMPONENT,
                ),
                Addition(
                    parent=f"{_PLAN}/own:Job/mt:ProductionPrograms",
                    browse_name="own:Program",
                    type_id=node_id(*_PROGRAM_TYPE),
                    reference=_HAS_ORDERED_COMPONENT,
                ),
            ],
            constants={
                f"{_JOB}.NumberInList": 0,
                f"{_JOB}.RunsPlanned": 1,
                f"{_JOB}.RunsPlanned.IsValid": True,
                f"{_PROGRAM}.NumberInList": 0,
            },
        )

    def whole(self, machine: Machine, since: datetime) -> Iterator[Write]:
        """As `bridge.umati.part.Part`."""
        job = machine.job
        time = since if job is None else job.ended or job.started
        yield from _facts(job, time)
        yield from self._state(program_state(job), time)
        yield _PARTS, _parts(machine, since)

    def changes(self, transition: Transition) -> Iterator[Write]:
        """As `bridge.umati.part.Part`."""
        before, after, time = transition.before, transition.after, transition.record.time
        shown = before.job
        if before.job is not after.job:
            for job, states in steps(before, transition):
                if shown is None or (shown.run, shown.result) != (job.run, job.result):
                    yield from _facts(job, time)
                    shown = job
                for state in states:
                    yield from self._state(state, time)
        if (before.heard is None) != (after.heard is None) or _completed(before) != _completed(after):
            yield _PARTS, _parts(after, time)

    def _state(self, state: ProgramState, time: datetime) -> Iterator[Write]:
        text, node_id, number = self._states[state]
        yield f"{_JOB}.State.CurrentState.Number", Reading(number, time)
        yield f"{_JOB}.State.CurrentState.Id", Reading(node_id, time)
        yield f"{_JOB}.State.CurrentState", Reading(text, time)


def _facts(job: Job | None, time: datetime) -> Iterator[Write]:
    run, file, completed = ("", "", False)
    if job is not None:
        run, file, completed = job.run, job.file, job.result is Result.COMPLETED
    yield f"{_JOB}.Identifier", Reading(ua.Variant(run, Type.String), time)
    yield f"{_PROGRAM}.Name", Reading(ua.Variant(file, Type.String), time)
    yield f"{_JOB}.RunsCompleted", Reading(ua.Variant(int(completed), Type.UInt32), time)


def _completed(machine: Machine) -> int:
    return machine.counters.jobs_completed


def _parts(machine: Machine, time: datetime) -> Reading:
    """One for each job that was completed: OctoPrint does not know how many parts a file holds."""
    status = WAITING if machine.heard is None else GOOD
    return Reading(ua.Variant(_completed(machine), Type.UInt32), time, status)
