"""A day of one machine in memory: its states and jobs by their true times, and a sample of each heater a minute.

In flow what happened, in any order and also twice; out flow plain values. Bounded, whatever a machine says.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bridge import wire

MINUTES = 24 * 60
LENGTH = timedelta(minutes=MINUTES)
MOST_STATES = 2000
MOST_JOBS = 300
MOST_NOTICES = 50
MOST_HEATERS = 16
_NOTHING = -(2**15)
_MOST_TENTHS = 2**15 - 1


def minute_of(moment: datetime) -> int:
    """Whole minutes since 1970."""
    return int(moment.timestamp() // 60)


def tenths(degrees: float | None) -> int | None:
    """As it is kept: in tenths of a degree, cut to what fits into 16 bits."""
    return None if degrees is None else max(-_MOST_TENTHS, min(_MOST_TENTHS, round(degrees * 10)))


class Ring:
    """One number for each minute of the last day, from -32767 to 32767; 2 bytes each."""

    __slots__ = ("_values", "last")

    def __init__(self) -> None:
        self._values = array("h", [_NOTHING]) * MINUTES
        self.last = 0
        """The newest minute of which there is one."""

    def put(self, minute: int, value: int | None) -> None:
        """Note the value of a minute; one that is older than a day before the newest is passed over."""
        if minute <= self.last - MINUTES:
            return
        if minute > self.last:
            first = (
                max(self.last + 1, minute - MINUTES + 1) if self.last else minute
            )  # a new one holds nothing yet
            for between in range(first, minute):
                self._values[between % MINUTES] = _NOTHING
            self.last = minute
        self._values[minute % MINUTES] = _NOTHING if value is None else value

    def window(self, until: int) -> Iterator[int | None]:
        """The values of the day that ends with the minute `until`."""
        for minute in range(until - MINUTES + 1, until + 1):
            known = self.last - MINUTES < minute <= self.last
            value = self._values[minute % MINUTES] if known else _NOTHING
            yield None if value == _NOTHING else value


@dataclass(slots=True)
class PastJob:
    """A job of the day; `ended` and `result` are None while it is not over."""

    run: str
    file: str
    started: datetime
    ended: datetime | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person may want to have seen. `key` names it for ever; severity as OPC UA has it, 1 to 1000."""

    key: str
    machine: str
    time: datetime
    name: str
    text: str
    severity: int


@dataclass(slots=True)
class Day:
    """See the module's text. `heard` has a 1 for each minute in which OctoPrint was in reach."""

    heard: Ring = field(default_factory=Ring)
    heaters: dict[str, tuple[Ring, Ring]] = field(default_factory=dict)
    states: list[tuple[datetime, str]] = field(default_factory=list)
    jobs: dict[str, PastJob] = field(default_factory=dict)
    notices: dict[str, Notice] = field(default_factory=dict)

    def sample(self, minute: int, heaters: Mapping[str, tuple[int | None, int | None]]) -> None:
        """Note that the machine was heard of in a minute, and its heaters: actual and target, in tenths."""
        self.heard.put(minute, 1)
        for name, (actual, target) in heaters.items():
            if name not in self.heaters:
                if len(self.heaters) >= MOST_HEATERS:
                    continue
                self.heaters[name] = Ring(), Ring()
            for ring, value in zip(self.heaters[name], (actual, target), strict=True):
                ring.put(minute, value)

    def restore(self, minute: int, heaters: Iterable[tuple[str, int | None, int | None]]) -> None:
        """As `sample`, but quicker: of rising minutes of one day, and into a day that has no samples yet."""
        place = minute % MINUTES
        self.heard._values[place], self.heard.last = 1, minute
        for name, actual, target in heaters:
            rings = self.heaters.get(name)
            if rings is None:
                if len(self.heaters) >= MOST_HEATERS:
                    continue
                rings = self.heaters[name] = Ring(), Ring()
            rings[0].last = rings[1].last = minute
            if actual is not None:
                rings[0]._values[place] = actual
            if target is not None:
                rings[1]._values[place] = target

    def state(self, moment: datetime, state: str) -> None:
        """Note that the printer's state was another one from `moment` on."""
        if (moment, state) not in self.states:
            insort(self.states, (moment, state), key=lambda one: one[0])
            del self.states[: max(0, len(self.states) - MOST_STATES)]

    def job(self, job: PastJob) -> None:
        """Note a job that began, or is over."""
        known = self.jobs.get(job.run)
        if known is None or known.ended is None:
            self.jobs[job.run] = job
        while len(self.jobs) > MOST_JOBS:
            del self.jobs[next(iter(self.jobs))]

    def notice(self, notice: Notice) -> None:
        """Note what was said."""
        self.notices[notice.key] = notice
        while len(self.notices) > MOST_NOTICES:
            del self.notices[next(iter(self.notices))]

    def take(self, later: Day) -> None:
        """Note what another knows of the same machine, but for its samples."""
        for moment, state in later.states:
            self.state(moment, state)
        for job in later.jobs.values():
            self.job(job)
        for notice in later.notices.values():
            self.notice(notice)

    def forget(self, before: datetime) -> None:
        """Let go of what was over `before`; the state that lasted into the day stays."""
        del self.states[: max(0, bisect_right(self.states, before, key=lambda one: one[0]) - 1)]
        for run in [run for run, job in self.jobs.items() if job.ended is not None and job.ended < before]:
            del self.jobs[run]
        for key in [key for key, one in self.notices.items() if one.time < before]:
            del self.notices[key]
        for name in [n for n, rings in self.heaters.items() if rings[0].last < minute_of(before)]:
            del self.heaters[name]

    def shown(self, now: datetime) -> dict[str, Any]:
        """The day until `now`, in JSON: times in seconds since 1970, temperatures in degrees Celsius, by the minute."""
        until, start = minute_of(now), now - LENGTH
        return {
            "now": now.timestamp(),
            "until": until * 60,
            "states": list(self._segments(start, now)),
            "jobs": list(self._jobs(start)),
            "unheard": list(_gaps(self.heard, until)),
            "heaters": {
                name: {
                    "actual": [None if v is None else v / 10 for v in actual.window(until)],
                    "target": [None if v is None else v / 10 for v in target.window(until)],
                }
                for name, (actual, target) in sorted(self.heaters.items())
            },
        }

    def _jobs(self, start: datetime) -> Iterator[dict[str, Any]]:
        jobs = sorted(self.jobs.values(), key=lambda one: one.started)
        for job, following in zip(jobs, [*jobs[1:], None], strict=False):
            # Of one whose end was never told it is only known that it was over when the next began.
            ended = job.ended or (following.started if following else None)
            if ended is None or ended > start:
                yield {
                    "file": job.file,
                    "started": job.started.timestamp(),
                    "ended": ended.timestamp() if ended else None,
                    "result": job.result,
                }

    def _segments(self, start: datetime, now: datetime) -> Iterator[list[Any]]:
        """``[from, to, state]`` one after the other; equal neighbours are one."""
        ends = [moment for moment, _ in self.states[1:]] + [now]
        open_: list[Any] | None = None
        for (begin, state), end in zip(self.states, ends, strict=False):
            if end <= start:
                continue
            if open_ is not None and open_[2] == state:
                open_[1] = end.timestamp()
                continue
            if open_ is not None:
                yield open_
            open_ = [max(begin, start).timestamp(), end.timestamp(), state]
        if open_ is not None:
            yield open_


def _gaps(heard: Ring, until: int) -> Iterator[list[int]]:
    """``[from, to]`` in seconds, for minutes without a sign of life; the running minute is not one yet."""
    begun: int | None = None
    minute = until - MINUTES
    for value in heard.window(until - 1):
        if value is None and begun is None:
            begun = minute
        elif value is not None and begun is not None:
            yield [begun * 60, minute * 60]
            begun = None
        minute += 1
    if begun is not None and begun < until - 1:
        yield [begun * 60, until * 60]


def notice_json(notice: Notice, name: str) -> dict[str, Any]:
    """A notice as the page shows it, with what people call the machine."""
    return {
        "machine": notice.machine,
        "name": name,
        "time": wire.format_time(notice.time),
        "kind": notice.name,
        "text": notice.text,
        "severity": notice.severity,
    }
