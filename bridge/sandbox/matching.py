"""Which scheduled job a detected one is. Pure.

The rule is the one that 3YOURMIND publishes for its MES: a detected job is a scheduled one of its machine when it
started between that one's planned start and end, or at most two hours before the start; otherwise it is a new job.
File name, job id and material play no part. What is not published is decided here: both bounds count; each scheduled
job is one detected job at most; the detected jobs choose in the order in which they started, each the one with the
earliest planned start that is left. So the outcome depends on what happened, not on when anybody heard of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

EARLY = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A job that was planned; `number` tells two of them apart."""

    number: int
    start: datetime
    end: datetime

    def takes(self, started: datetime) -> bool:
        """Whether a job that started then may be this one."""
        return self.start - EARLY <= started <= self.end


@dataclass(frozen=True, slots=True)
class Detected:
    """A job that a machine told of."""

    id: str
    started: datetime


def match(scheduled: Iterable[Scheduled], detected: Iterable[Detected]) -> dict[str, int]:
    """By the id of a detected job the number of the scheduled one that it is; all of one machine."""
    left = sorted(scheduled, key=lambda one: (one.start, one.number))
    matches: dict[str, int] = {}
    for job in sorted(detected, key=lambda one: (one.started, one.id)):
        found = next((one for one in left if one.takes(job.started)), None)
        if found is not None:
            matches[job.id] = found.number
            left.remove(found)
    return matches
