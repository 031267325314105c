"""What a MES is told of a machine: transitions in, bodies of the contract's requests out. Pure.

The contract is ``docs/mes-api.yaml``. The four statuses and what they mean are the ones that 3YOURMIND
publishes for machines in its MES: paused counts as Running, and Stopped lasts from an error until the printer
is connected again or a job starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge import wire
from bridge.machine import (
    Change,
    FilamentChangeRequested,
    Job,
    JobEnded,
    JobPaused,
    JobResumed,
    JobStarted,
    JobState,
    Link,
    Machine,
    PrinterError,
    Result,
    StateChanged,
    Transition,
)

IDLE, RUNNING, OFFLINE, STOPPED = "Idle", "Running", "Offline", "Stopped"

_UNCONNECTED_STATES = frozenset({"disconnected", "connecting"})
_IDLE_STATES = frozenset({"operational", "transferring"})
_SEVERITY_OF_RESULT = {Result.COMPLETED: "info", Result.CANCELLED: "warning", Result.FAILED: "error"}
_LONGEST_S = 1e9
_UNNAMED_ERROR = "The printer stopped with an error that it did not name."
_FILAMENT_CHANGE = "The printer waits for a filament change."


@dataclass(frozen=True, slots=True)
class Status:
    """What a machine is doing; `since` is when that truly began, None when nobody knows."""

    status: str
    stack_light: str
    since: datetime | None

    @property
    def look(self) -> tuple[str, str]:
        """What a MES is told again about when it changes."""
        return self.status, self.stack_light

    def body(self) -> dict[str, Any]:
        """As the contract has it."""
        return {
            "status": self.status,
            "since": wire.format_time(self.since) if self.since else None,
            "stack_light": self.stack_light,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a machine. `key` names it for ever, so that it never counts twice."""

    key: str
    body: Mapping[str, Any]


def status_of(machine: Machine) -> Status:
    """The status of `machine`. One that was never heard of is Offline."""
    since = machine.state_since
    if machine.link is not Link.UP:
        both = [moment for moment in (machine.link_since, since) if moment is not None]
        unconnected = machine.state in _UNCONNECTED_STATES
        return Status(OFFLINE, "off", min(both) if both and unconnected else machine.link_since)
    if machine.error_since is not None or machine.state == "error":
        return Status(STOPPED, "red", machine.error_since or since)
    if machine.state in _UNCONNECTED_STATES:
        return Status(OFFLINE, "off", since)
    job = machine.active_job
    if job is not None:
        paused = job.state is JobState.INTERRUPTED
        return Status(RUNNING, "yellow" if paused else "green", job.started)
    if machine.state in _IDLE_STATES:
        ended = machine.job.ended if machine.job is not None else None
        return Status(IDLE, "white", max((m for m in (since, ended) if m), default=None))
    return Status(RUNNING, "green", since)


def matters(transition: Transition) -> bool:
    """Whether a MES may have to hear of `transition` at all; cheap, for the many that only bring temperatures."""
    before, after = transition.before, transition.after
    if transition.changes or before.error_since != after.error_since:
        return True
    return before.job is not after.job and estimate_of(before) != estimate_of(after)


def estimate_of(machine: Machine) -> tuple[str, float] | None:
    """The running job and how long it is expected to take in seconds, pauses left out; None when nobody knows."""
    job = machine.active_job
    if job is None or (job.progress_time is not None and job.print_time_left is None):
        return None  # that OctoPrint does not know for a moment brings back no older estimate
    duration = _estimated_duration(job)
    return (job.run, duration) if duration is not None else None


def estimate_changed(transition: Transition) -> Event:
    """That the running job is now expected to take another time. There must be one."""
    record, job = transition.record, transition.after.active_job
    moment = max(record.time, job.started) if job is not None else record.time
    return Event(f"{record.key}:estimate", _event("job_estimate_changed", "info", moment, job))


def events_of(transition: Transition) -> tuple[Event, ...]:
    """What happened in `transition`, in order. The same transition always gives the same keys and bodies."""
    record = transition.record
    bodies = (_body(change, transition) for change in transition.changes)
    return tuple(
        Event(f"{record.key}:{number}", body)
        for number, body in enumerate(body for body in bodies if body is not None)
    )


def _body(change: Change, transition: Transition) -> dict[str, Any] | None:
    moment, known = transition.record.time, transition.before.error
    match change:
        case JobStarted(job):
            return _event("job_started", "info", job.started, job)
        case JobPaused(job):
            return _event("job_paused", "info", max(moment, job.started), job)
        case JobResumed(job):
            return _event("job_resumed", "info", max(moment, job.started), job)
        case JobEnded(job):
            result = job.result or Result.FAILED
            body = _event("job_finished", _SEVERITY_OF_RESULT[result], job.ended or moment, job)
            return body | {"result": result.value, "reason": job.reason, "print_time": job.print_time}
        case FilamentChangeRequested(job):
            return _event("warning", "warning", moment, job) | {"text": _FILAMENT_CHANGE}
        case PrinterError(text):
            # OctoPrint may tell of one error twice: as an event and as the printer's state.
            return None if text == known else _error(text, transition)
        case StateChanged(_, "error"):
            told = known is not None or any(isinstance(c, PrinterError) for c in transition.changes)
            return None if told else _error(transition.after.error, transition)
        case _:
            return None


def _error(text: str | None, transition: Transition) -> dict[str, Any]:
    job = transition.before.active_job
    return _event("error", "error", transition.record.time, job) | {"text": text or _UNNAMED_ERROR}


def _event(kind: str, severity: str, moment: datetime, job: Job | None) -> dict[str, Any]:
    return {
        "type": kind,
        "severity": severity,
        "time": wire.format_time(moment),
        "job": None
        if job is None
        else {
            "id": job.run,
            "file": job.file,
            "started": wire.format_time(job.started),
            "estimated_duration": _estimated_duration(job),
        },
    }


def _estimated_duration(job: Job) -> float | None:
    if job.print_time is None or job.print_time_left is None:
        return job.estimated_print_time
    return min(job.print_time + job.print_time_left, _LONGEST_S)
