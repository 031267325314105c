"""How one event changes a machine: `apply` is the only way, so that a replayed log gives the same machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bridge import wire
from bridge.log import OWN, PULLED, Record
from bridge.machine.model import (
    HISTORY,
    Filament,
    File,
    Heater,
    Job,
    JobState,
    Link,
    Machine,
    Printer,
    Result,
    Spool,
)

LINK = "link"
"""The bridge's own kind of event: ``{"link": "up" | "lost", "detail": text}``."""

HANDOVER = "handover"
"""The bridge's own kind of event: from here on the plugin is believed, whatever its clock says."""

CONNECTED_STATES = wire.STATES - {"disconnected", "connecting", "error"}
_JOB_STATE_OF = {
    "starting": JobState.INITIALIZING,
    "printing": JobState.RUNNING,
    "resuming": JobState.RUNNING,
    "finishing": JobState.RUNNING,
    "pausing": JobState.RUNNING,
    "cancelling": JobState.RUNNING,
    "paused": JobState.INTERRUPTED,
}
PULLED_RUN = "pull-"
"""So begins the `run` of a print that was noticed from outside, without the plugin."""

_SAME_START_WITHIN = timedelta(seconds=60)
_CLOCKS_APART = timedelta(minutes=10)
"""An answer to the bridge's wish that is older than this was an answer to an earlier one."""

_ONLY_NEWEST = frozenset({wire.FILES, wire.FEEDSTOCK})
_LOST_JOB = "the print was no longer running when the printer was heard of again"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The printer's state is another one; see `Machine.state`."""

    previous: str
    current: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """OctoPrint went out of reach, or came back."""

    previous: Link
    current: Link
    detail: str


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job began; its true start is `job.started`."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobPaused:
    """The job waits for a person."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobResumed:
    """The job goes on."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over; `job.result` says how and `job.ended` when."""

    job: Job


@dataclass(frozen=True, slots=True)
class FilamentChangeRequested:
    """The printer wants other filament."""

    job: Job | None


@dataclass(frozen=True, slots=True)
class PrinterError:
    """The printer, or OctoPrint on its behalf, reported an error."""

    text: str


Change = (
    StateChanged
    | LinkChanged
    | JobStarted
    | JobPaused
    | JobResumed
    | JobEnded
    | FilamentChangeRequested
    | PrinterError
)


@dataclass(frozen=True, slots=True)
class Transition:
    """What `record` did to a machine. `changes` are in the order in which they happened."""

    record: Record
    before: Machine
    after: Machine
    changes: tuple[Change, ...]


def apply(machine: Machine, record: Record) -> Transition:
    """The machine after `record`. Events that do not fit, such as the end of another run, change nothing."""
    handler = _HANDLERS.get(record.kind)
    if handler is not None and _is_known_otherwise(machine, record):
        handler = None
    step = _Step(machine, record.time)
    if handler is not None:
        if record.instance.startswith(PULLED):
            step.machine = replace(machine, pulled_until=record.time)
        elif not record.instance.startswith(OWN) and record.kind not in _ONLY_NEWEST:
            step.machine = replace(machine, pulled_until=None)
        if record.kind not in (LINK, HANDOVER):
            step.machine = replace(step.machine, heard=record.time)
        handler(step, record.data)
    return Transition(record, machine, step.machine, tuple(step.changes))


def _is_known_otherwise(machine: Machine, record: Record) -> bool:
    """Whether a plugin tells, from its memory, what was asked for and told before the plugin was heard."""
    until = machine.pulled_until
    if until is None or record.instance.startswith(OWN) or record.kind in _ONLY_NEWEST:
        return False
    if record.kind == wire.SNAPSHOT and record.data["reason"] == "requested":
        until -= _CLOCKS_APART
    return record.time <= until


class _Step:
    """A machine under change, and what was noticed on the way."""

    def __init__(self, machine: Machine, time: datetime) -> None:
        self.heard_before = machine.heard
        self.machine = machine
        self.time = time
        self.changes: list[Change] = []

    def set_state(self, state: str, error: str | None) -> None:
        if state in CONNECTED_STATES and error is None:
            self.clear_error()
        elif state == "error" or error is not None:
            self.set_error(error)
        machine = self.machine
        if state == machine.state:
            self.machine = replace(machine, state_since=machine.state_since or self.time)
        else:
            counters = machine.counters
            if machine.state in CONNECTED_STATES and machine.state_since is not None:
                elapsed = max(0.0, (self.time - machine.state_since).total_seconds())
                counters = replace(counters, connected=counters.connected + elapsed)
            self.machine = replace(machine, state=state, state_since=self.time, counters=counters)
            self.changes.append(StateChanged(machine.state, state))
        self.set_job_state(_JOB_STATE_OF.get(state))

    def set_error(self, text: str | None) -> None:
        """An error that is there already goes on, and may be told of in better words."""
        machine = self.machine
        self.machine = replace(
            machine,
            error=machine.error if text is None else text,
            error_since=machine.error_since or self.time,
        )

    def clear_error(self) -> None:
        self.machine = replace(self.machine, error=None, error_since=None)

    def set_job_state(self, state: JobState | None) -> None:
        job = self.machine.active_job
        if job is None or state is None or state is job.state:
            return
        if state is JobState.INITIALIZING:  # a running job never goes back to its beginning
            return
        previous, job = job.state, replace(job, state=state)
        self.machine = replace(self.machine, job=job)
        if state is JobState.INTERRUPTED:
            self.changes.append(JobPaused(job))
        elif previous is JobState.INTERRUPTED:
            self.changes.append(JobResumed(job))

    def start_job(self, data: Mapping[str, Any]) -> None:
        known = self.machine.job
        if known is not None and data["run"] in (known.run, known.alias):
            return
        if self.recognises(data, begun=wire.parse_time(data["started"])):
            return
        self.end_lost_job()
        job = Job(
            run=data["run"],
            file=data["file"],
            started=wire.parse_time(data["started"]),
            state=_JOB_STATE_OF.get(self.machine.state, JobState.INITIALIZING),
            path=data["path"],
            origin=data["origin"],
            size=data["size"],
            estimated_print_time=data["estimated_print_time"],
            filament=_filament(data["filament"]),
        )
        counters = replace(self.machine.counters, jobs_started=self.machine.counters.jobs_started + 1)
        self.clear_error()
        self.machine = replace(self.machine, job=job, counters=counters)
        found_paused = job.state is JobState.INTERRUPTED
        self.changes.append(JobStarted(replace(job, state=JobState.RUNNING) if found_paused else job))
        if found_paused:
            self.changes.append(JobPaused(job))

    def recognises(self, data: Mapping[str, Any], begun: datetime | None = None) -> bool:
        """Whether `data` speaks of the active job; from then on it is known by that name, too.

        A job that was noticed without the plugin gets the name that the plugin has for what is printed now, unless
        the plugin says that this has `begun` later, or is another file.
        """
        job = self.machine.active_job
        if job is None:
            return False
        if data["run"] in (job.run, job.alias):
            return True
        nameless = job.run.startswith(PULLED_RUN) and job.alias is None
        if not nameless or data["run"].startswith(PULLED_RUN):
            return False
        other_file = None not in (job.path, data.get("path")) and job.path != data.get("path")
        if other_file or (begun is not None and begun > job.started + _SAME_START_WITHIN):
            return False
        self.machine = replace(self.machine, job=replace(job, alias=data["run"]))
        return True

    def end_job(self, result: Result, ended: datetime, **known: Any) -> None:
        job = self.machine.active_job
        if job is None:
            return
        state = JobState.ENDED if result is Result.COMPLETED else JobState.ABORTED
        facts = {name: value for name, value in known.items() if value is not None}
        spools = self.machine.spools
        job = replace(job, state=state, result=result, ended=max(ended, job.started), spools=spools, **facts)
        job = replace(job, print_time_left=0.0 if result is Result.COMPLETED else None)
        counters = self.machine.counters
        field = f"jobs_{result.value}"
        counters = replace(
            counters,
            printing=counters.printing + (job.print_time or 0.0),
            **{field: getattr(counters, field) + 1},
        )
        finished = (*self.machine.finished, job)[-HISTORY:]
        self.machine = replace(self.machine, job=job, finished=finished, counters=counters)
        self.changes.append(JobEnded(job))

    def end_lost_job(self) -> None:
        """An active job that its printer no longer knows ended unseen, at the latest when last heard of."""
        self.end_job(Result.FAILED, self.heard_before or self.time, reason=_LOST_JOB)

    def set_progress(self, data: Mapping[str, Any]) -> None:
        job = self.machine.active_job
        if job is None or data["run"] not in (None, job.run, job.alias):
            return
        job = replace(
            job,
            completion=data["completion"],
            print_time=data["print_time"],
            print_time_left=data["print_time_left"],
            layer=data.get("layer"),
            layers=data.get("layers") or job.layers,
            progress_time=self.time,
        )
        self.machine = replace(self.machine, job=job)

    def set_heaters(self, heaters: Mapping[str, Any]) -> None:
        self.machine = replace(
            self.machine,
            heaters={
                name: Heater(values["actual"], values["target"], self.time)
                for name, values in heaters.items()
            },
        )


def _snapshot(step: _Step, data: Mapping[str, Any]) -> None:
    job = data["job"]
    if job is None or not step.recognises(job, begun=wire.parse_time(job["started"])):
        step.end_lost_job()
    step.machine = replace(step.machine, printer=_printer(data["printer"]))
    step.set_heaters(data["heaters"])
    if job is not None:
        # The state comes first, so that a job that is found paused starts as what it is.
        if not step.recognises(job):
            step.set_state(data["state"], data["error"])
            step.start_job(job)
        if data["progress"] is not None:
            step.set_progress(data["progress"])
    step.set_state(data["state"], data["error"])


def _state(step: _Step, data: Mapping[str, Any]) -> None:
    step.set_state(data["state"], data["error"])


def _job_started(step: _Step, data: Mapping[str, Any]) -> None:
    step.start_job(data)


def _job_paused(step: _Step, data: Mapping[str, Any]) -> None:
    if step.recognises(data):
        step.set_job_state(JobState.INTERRUPTED)


def _job_resumed(step: _Step, data: Mapping[str, Any]) -> None:
    if step.recognises(data):
        step.set_job_state(JobState.RUNNING)


def _job_ended(step: _Step, data: Mapping[str, Any]) -> None:
    if step.recognises(data):
        step.end_job(
            Result(data["result"]),
            step.time,
            reason=data["reason"],
            print_time=data["print_time"],
            completion=100.0 if data["result"] == Result.COMPLETED else data["completion"],
        )


def _progress(step: _Step, data: Mapping[str, Any]) -> None:
    step.set_progress(data)


def _heaters(step: _Step, data: Mapping[str, Any]) -> None:
    step.set_heaters(data["heaters"])


def _files(step: _Step, data: Mapping[str, Any]) -> None:
    files = tuple(
        File(
            path=one["path"],
            size=one["size"],
            date=None if one["date"] is None else wire.parse_time(one["date"]),
            estimated_print_time=one["estimated_print_time"],
            filament=_filament(one["filament"]),
        )
        for one in data["files"]
    )
    if files != step.machine.files:
        step.machine = replace(step.machine, files=files, files_since=step.time)


def _feedstock(step: _Step, data: Mapping[str, Any]) -> None:
    spools = {tool: Spool(**spool, time=step.time) for tool, spool in data["tools"].items()}
    step.machine = replace(step.machine, spools=spools)


def _filament_change(step: _Step, data: Mapping[str, Any]) -> None:
    step.changes.append(FilamentChangeRequested(step.machine.active_job))


def _error(step: _Step, data: Mapping[str, Any]) -> None:
    step.set_error(data["text"])
    step.changes.append(PrinterError(data["text"]))


def _shutdown(step: _Step, data: Mapping[str, Any]) -> None:
    step.set_state("disconnected", None)


def _link(step: _Step, data: Mapping[str, Any]) -> None:
    link = Link(data["link"])
    if link is not step.machine.link:
        step.changes.append(LinkChanged(step.machine.link, link, data["detail"]))
        step.machine = replace(step.machine, link=link, link_since=step.time)


def _handover(step: _Step, data: Mapping[str, Any]) -> None:
    step.machine = replace(step.machine, pulled_until=None)


def _filament(data: Mapping[str, Any] | None) -> Mapping[str, Filament]:
    return {tool: Filament(use["length"], use["volume"]) for tool, use in (data or {}).items()}


def _printer(data: Mapping[str, Any]) -> Printer:
    profile = data["profile"]
    return Printer(
        uuid=data["uuid"],
        name=data["name"],
        octoprint_version=data["octoprint_version"],
        plugin_version=data["plugin_version"],
        firmware=data["firmware"],
        profile_name=profile["name"],
        model=profile["model"],
        extruders=profile["extruders"],
        heated_bed=profile["heated_bed"],
        heated_chamber=profile["heated_chamber"],
        identity=data["identity"],
    )


_HANDLERS: Mapping[str, Callable[[_Step, Mapping[str, Any]], None]] = {
    wire.SNAPSHOT: _snapshot,
    wire.STATE: _state,
    wire.JOB_STARTED: _job_started,
    wire.JOB_PAUSED: _job_paused,
    wire.JOB_RESUMED: _job_resumed,
    wire.JOB_ENDED: _job_ended,
    wire.PROGRESS: _progress,
    wire.HEATERS: _heaters,
    wire.FILES: _files,
    wire.FEEDSTOCK: _feedstock,
    wire.FILAMENT_CHANGE: _filament_change,
    wire.ERROR: _error,
    wire.SHUTDOWN: _shutdown,
    LINK: _link,
    HANDOVER: _handover,
}
