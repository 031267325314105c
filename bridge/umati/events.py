"""What a machine tells its subscribers in words: mt:NotificationEventType and mt:AlertType (OPC 40501-1).

In flows a transition, out flow messages with a severity; errors and failures are alerts, all else notifications.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.machine import (
    Change,
    FilamentChangeRequested,
    JobEnded,
    JobPaused,
    JobResumed,
    JobStarted,
    Link,
    LinkChanged,
    Machine,
    PrinterError,
    Result,
    Transition,
)

INFO, NOTICE, WARNING, ERROR = 100, 300, 500, 900


@dataclass(frozen=True, slots=True)
class Message:
    """One event. `name` says of what kind, for machines: the Identifier or the ErrorCode; severity 1 to 1000."""

    name: str
    text: str
    severity: int
    alert: bool = False


def messages(transition: Transition) -> Iterator[Message]:
    """What is said of `transition`, in the order in which it happened."""
    for change in transition.changes:
        message = _message(change, transition.before)
        if message is not None:
            yield message


def _message(change: Change, before: Machine) -> Message | None:
    match change:
        case JobStarted(job):
            return Message("JobStarted", f"Print of {job.file} started", INFO)
        case JobPaused(job):
            return Message("JobPaused", f"Print of {job.file} paused", NOTICE)
        case JobResumed(job):
            return Message("JobResumed", f"Print of {job.file} resumed", INFO)
        case JobEnded(job) if job.result is Result.COMPLETED:
            return Message("JobCompleted", f"Print of {job.file} completed", INFO)
        case JobEnded(job) if job.result is Result.CANCELLED:
            return Message("JobCancelled", f"Print of {job.file} cancelled", NOTICE)
        case JobEnded(job):
            reason = f": {job.reason}" if job.reason else ""
            return Message("JobFailed", f"Print of {job.file} failed{reason}", ERROR, alert=True)
        case FilamentChangeRequested():
            return Message("FilamentChange", "The printer wants other filament", WARNING)
        case PrinterError(text):
            return Message("PrinterError", text, ERROR, alert=True)
        case LinkChanged(current=Link.LOST) if before.active_job is not None:
            text = f"OctoPrint cannot be reached while {before.active_job.file} is printed: {change.detail}"
            return Message("ConnectionLost", text, WARNING, alert=True)
    return None
