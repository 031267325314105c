"""A machine as values of its nodes.

In flow a machine, its profile and identification; out flow readings by path (the notation of `bridge.opcua`).
`whole` is all that is true of a machine; `changes` only what a transition made different, in the order in which
subscribers shall see it. Nothing here has a clock: times are those of the printer's events.

Unknown is never 0: a value that nobody knows is Bad and carries the neutral value of its type only because a
variant must hold one. While the printer is out of reach, live values are Bad or Uncertain; state machines stay Good,
because "not available" is then the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum

from asyncua import ua

from bridge.machine import Heater, Job, Machine, Transition
from bridge.opcua.state_machines import StateTransition
from bridge.opcua.times import EPOCH
from bridge.umati.counters import counter_changes, counters
from bridge.umati.identification import Identification
from bridge.umati.profile import Profile
from bridge.umati.program import ProgramState, program_state, steps
from bridge.umati.quality import ALWAYS_GOOD, Quality, quality_of
from bridge.umati.readings import GOOD, INITIAL, WAITING, NodeIdOf, Reading, Write
from bridge.umati.states import ItemState, Mode, OperationMode, Situation, State, situation_of

ITEM_STATE = "MachineryBuildingBlocks.MachineryItemState"
MODE = "MachineryBuildingBlocks.MachineryOperationMode"
OPERATION_MODE = "Monitoring.MachineTool.OperationMode"
ACTIVE_PROGRAM = "Production.ActiveProgram"
PROGRAM_STATE = f"{ACTIVE_PROGRAM}.State"
JOB_END = "Notification.Prognoses.JobEnd"
PROGRESS = f"{ACTIVE_PROGRAM}.Progress"
STATE_MACHINES = (ITEM_STATE, MODE, PROGRAM_STATE)
MACHINE_TYPES: Mapping[type[Enum], tuple[str, int]] = {
    ItemState: ("mach", 1002),
    Mode: ("mt", 1003),
    ProgramState: ("mt", 15),
}

Type = ua.VariantType
TransitionsOf = Callable[[ua.NodeId], Mapping[tuple[ua.NodeId, ua.NodeId], StateTransition]]
AnyState = ItemState | Mode | ProgramState

_UNKNOWN = ua.Variant(0.0, Type.Double)
_NO_TIME = ua.Variant(EPOCH, Type.DateTime)


class Projection:
    """Projects machines.

    `node_id` gives the NodeId of a prefix and a number of the companion models, `transitions` those of a type of
    state machines.
    """

    def __init__(self, node_id: NodeIdOf, transitions: TransitionsOf) -> None:
        self._states = {
            kind: _state_values(kind.value, node_id)
            for kinds in (ItemState, Mode, ProgramState)
            for kind in kinds
        }
        self._transitions = {
            (source, target): _transition_values(
                known[node_id(*source.value.node), node_id(*target.value.node)]
            )
            for kinds in (ItemState, Mode, ProgramState)
            for known in (transitions(node_id(*MACHINE_TYPES[kinds])),)
            for source in kinds
            for target in kinds
            if (node_id(*source.value.node), node_id(*target.value.node)) in known
        }
        self._operation_modes = {mode: ua.Variant(int(mode), Type.Int32) for mode in OperationMode}

    def whole(
        self, machine: Machine, profile: Profile, identification: Identification, since: datetime
    ) -> dict[str, Reading]:
        """Everything. `since` is the time of what has no time of its own, because it is not known yet."""
        time = max((t for t in (machine.link_since, machine.state_since) if t is not None), default=since)
        job = machine.job
        writes = [
            *nameplate(identification, since),
            *self._situation(situation_of(machine), time),
            *_names(job, since),
            *self._state(PROGRAM_STATE, program_state(job), _program_time(job, program_state(job), time)),
            *_no_transition_yet(since),
            (PROGRESS, _number(*_progress(machine), since)),
            *_prognosis(machine, since),
            *counters(machine, since),
        ]
        quality = quality_of(machine)
        for name, *paths in profile.heater_paths:
            heater = machine.heaters.get(name)
            for path, value in zip(paths, _temperatures(heater), strict=True):
                writes.append((path, _number(value, heater.time if heater else None, quality, since)))
        return dict(writes)

    def changes(self, before: Machine, transition: Transition, profile: Profile) -> Iterator[Write]:
        """What is different after `transition` from what `before` showed. Paths may come more than once."""
        after, time = transition.after, transition.record.time
        quality = quality_of(after)
        requalified = quality.status != quality_of(before).status
        if after.heaters is not before.heaters or requalified:
            for name, *paths in profile.heater_paths:
                heater = after.heaters.get(name)
                values = _temperatures(before.heaters.get(name)), _temperatures(heater)
                for path, was, now in zip(paths, *values, strict=True):
                    if now != was or (requalified and now is not None):
                        yield path, _number(now, heater.time if heater else None, quality, time)
        if after.job is not before.job or requalified:
            yield from self._program_changes(before, transition)
            yield from _progress_changes(before, after, time)
            yield from _prognosis_changes(before, after, time)
        yield from counter_changes(before, after, time)
        situation, previous = situation_of(after), situation_of(before)
        if situation is not previous:
            yield from self._situation(situation, time, previous)

    def _program_changes(self, before: Machine, transition: Transition) -> Iterator[Write]:
        run = before.job.run if before.job is not None else None
        time, previous = transition.record.time, program_state(before.job)
        for job, states in steps(before, transition):
            if job.run != run:
                run = job.run
                yield from _names(job, time)
            for state in states:
                yield from self._state(PROGRAM_STATE, state, _program_time(job, state, time), previous)
                previous = state

    def _situation(
        self, situation: Situation, time: datetime, previous: Situation | None = None
    ) -> Iterator[Write]:
        if previous is None or situation.item_state is not previous.item_state:
            yield from self._state(ITEM_STATE, situation.item_state, time, previous and previous.item_state)
        if previous is None or situation.mode is not previous.mode:
            yield from self._state(MODE, situation.mode, time, previous and previous.mode)
        if previous is None or situation.operation_mode is not previous.operation_mode:
            yield OPERATION_MODE, Reading(self._operation_modes[situation.operation_mode], time)

    def _state(
        self, machine: str, state: AnyState, time: datetime, previous: AnyState | None = None
    ) -> Iterator[Write]:
        if previous is not None:
            yield from _last_transition(machine, self._transitions[previous, state], time)
        text, node_id, number = self._states[state]
        # The text comes last: who is told of it finds the others there already.
        yield f"{machine}.CurrentState.Number", Reading(number, time)
        yield f"{machine}.CurrentState.Id", Reading(node_id, time)
        yield f"{machine}.CurrentState", Reading(text, time)


def _no_transition_yet(since: datetime) -> Iterator[Write]:
    for machine in STATE_MACHINES:
        for part in ("", ".Id", ".Number", ".TransitionTime"):
            yield f"{machine}.LastTransition{part}", Reading(None, since, WAITING)


def _last_transition(
    machine: str, transition: tuple[ua.Variant, ua.Variant, ua.Variant], time: datetime
) -> Iterator[Write]:
    text, node_id, number = transition
    last = f"{machine}.LastTransition"
    yield f"{last}.TransitionTime", Reading(ua.Variant(time, Type.DateTime), time)
    yield f"{last}.Number", Reading(number, time)
    yield f"{last}.Id", Reading(node_id, time)
    yield last, Reading(text, time)


def nameplate(identification: Identification, time: datetime) -> Iterator[Write]:
    """The nodes below Identification that differ between machines."""
    i = identification
    for name, text in (
        ("ComponentName", i.component_name),
        ("Manufacturer", i.manufacturer),
        ("Model", i.model),
    ):
        yield f"Identification.{name}", Reading(_localized(text), time)
    for name, text in (
        ("ProductCode", i.product_code),
        ("SerialNumber", i.serial_number),
        ("ProductInstanceUri", i.product_instance_uri),
        ("SoftwareRevision", i.software_revision),
        ("Location", i.location),
        ("AssetId", i.asset_id),
    ):
        yield f"Identification.{name}", Reading(ua.Variant(text, Type.String), time)
    year = ua.Variant(i.year_of_construction or 0, Type.UInt16)
    status = GOOD if i.year_of_construction is not None else INITIAL
    yield "Identification.YearOfConstruction", Reading(year, time, status)
    first_day = "Identification.InitialOperationDate"
    if i.initial_operation_date is None:
        yield first_day, Reading(None, time, WAITING)
    else:
        begun = datetime.combine(i.initial_operation_date, datetime.min.time(), UTC)
        yield first_day, Reading(ua.Variant(begun, Type.DateTime), time)


def _names(job: Job | None, time: datetime) -> Iterator[Write]:
    """Which program is active; without one the texts are empty."""
    started = time if job is None else job.started
    name, run = ("", "") if job is None else (job.file, job.run)
    yield f"{ACTIVE_PROGRAM}.Name", Reading(ua.Variant(name, Type.String), started)
    yield f"{ACTIVE_PROGRAM}.JobIdentifier", Reading(ua.Variant(run, Type.String), started)


def _program_time(job: Job | None, state: ProgramState, time: datetime) -> datetime:
    """A program begins and ends when its job did, however late that was heard of."""
    if job is not None and state is ProgramState.INITIALIZING:
        return job.started
    if job is not None and job.ended is not None and state is program_state(job):
        return job.ended
    return time


def _number(value: float | None, time: datetime | None, quality: Quality, otherwise: datetime) -> Reading:
    """A live value that was true at `time`; the last argument is the time of what has none."""
    if value is None:
        return Reading(_UNKNOWN, time or otherwise, WAITING)
    return Reading(ua.Variant(value, Type.Double), quality.since or time or otherwise, quality.status)


def _temperatures(heater: Heater | None) -> tuple[float | None, float | None]:
    """A heater's temperature and setpoint."""
    return (None, None) if heater is None else (heater.actual, heater.target)


def _progress(machine: Machine) -> tuple[float | None, datetime | None, Quality]:
    """Percent of the job; what an ended job reached is history, and true without a connection."""
    job = machine.job
    if job is None:
        return None, None, ALWAYS_GOOD
    if job.active:
        return job.completion, job.progress_time or job.started, quality_of(machine)
    return job.completion, job.ended or job.progress_time, ALWAYS_GOOD


def _progress_changes(before: Machine, after: Machine, time: datetime) -> Iterator[Write]:
    was, _, earlier = _progress(before)
    now, moment, quality = _progress(after)
    if now != was or (now is not None and quality.status != earlier.status):
        yield PROGRESS, _number(now, moment, quality, time)


def _prognosis(machine: Machine, otherwise: datetime) -> Iterator[Write]:
    """When the active job will end, and which it is (OPC 40501-1, 8.6.10); Bad while that is not known."""
    job, quality = machine.active_job, quality_of(machine)
    end = None if job is None else _predicted_end(job)
    if job is None or end is None:
        run, value, time, status = "", _NO_TIME, otherwise, WAITING
    else:
        run, value = job.run, ua.Variant(end, Type.DateTime)
        time, status = quality.since or job.progress_time or otherwise, quality.status
    yield f"{JOB_END}.PredictedTime", Reading(value, time, status)
    yield f"{JOB_END}.SourceIdentifier", Reading(ua.Variant(run, Type.String), time, status)


def _predicted_end(job: Job) -> datetime | None:
    if job.progress_time is None or job.print_time_left is None:
        return None
    try:
        return job.progress_time + timedelta(seconds=job.print_time_left)
    except OverflowError:  # after the year 9999
        return None


def _prognosis_changes(before: Machine, after: Machine, time: datetime) -> Iterator[Write]:
    shown = dict(_prognosis(before, time))
    for path, reading in _prognosis(after, time):
        if (reading.value.Value, reading.status) != (shown[path].value.Value, shown[path].status):
            yield path, reading


def _state_values(state: State, node_id: NodeIdOf) -> tuple[ua.Variant, ua.Variant, ua.Variant]:
    return (
        _localized(state.text),
        ua.Variant(node_id(state.prefix, state.identifier), Type.NodeId),
        ua.Variant(state.number, Type.UInt32),
    )


def _transition_values(transition: StateTransition) -> tuple[ua.Variant, ua.Variant, ua.Variant]:
    return (
        ua.Variant(transition.text, Type.LocalizedText),
        ua.Variant(transition.node_id, Type.NodeId),
        ua.Variant(transition.number, Type.UInt32),
    )


def _localized(text: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(text), Type.LocalizedText)
