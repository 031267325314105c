"""The last day of every machine, for the status page. In flow transitions and, once a minute, the machines as they are;
out flow days, and ``history.sqlite``, so that a restart does not begin with nothing.

The event loop only notes things in memory. Once a minute a thread writes what is new in one transaction; a kill loses
at most that minute. A file that cannot be used costs the past and nothing else: it is moved aside, and another begun.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog

from bridge import wire
from bridge.database import WrongLayout, open_database, transaction
from bridge.machine import Job, JobEnded, JobStarted, Link, LinkChanged, Machine, StateChanged, Transition
from bridge.umati.events import ERROR, INFO, WARNING, messages
from bridge.web.day import (
    LENGTH,
    MINUTES,
    MOST_JOBS,
    MOST_NOTICES,
    MOST_STATES,
    Day,
    Notice,
    PastJob,
    minute_of,
    tenths,
)

log = structlog.get_logger(__name__)

FILE = "history.sqlite"
DAMAGED = f"{FILE}.damaged"
"""What could not be used is kept under this name, the latest one only."""

_LAYOUT = 1
_SCHEMA = """
CREATE TABLE minute (minute INTEGER PRIMARY KEY, samples BLOB NOT NULL);
CREATE TABLE state (machine TEXT, time REAL, state TEXT, PRIMARY KEY (machine, time, state)) WITHOUT ROWID;
CREATE INDEX state_time ON state (time);
CREATE TABLE job (
    machine TEXT, run TEXT, file TEXT NOT NULL, started REAL NOT NULL, ended REAL, result TEXT,
    PRIMARY KEY (machine, run)) WITHOUT ROWID;
CREATE TABLE notice (
    key TEXT PRIMARY KEY, machine TEXT NOT NULL, time REAL NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    severity INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX notice_time ON notice (time);
"""
_RECENT = 100
_ORDINARY = frozenset({"JobStarted", "JobResumed"})
_MOST_ROWS = 20_000
_MOST_MINUTES = 60
_LONGEST_TEXT = 300
_LONGEST_SAMPLES = 16 * 2**20

_T = TypeVar("_T")
_Samples = dict[str, dict[str, tuple[int | None, int | None]]]
"""By machine that was in reach, and heater: actual and target in tenths of a degree."""


@dataclass(slots=True)
class _News:
    """What is not in the file yet; of each kind the newest."""

    samples: dict[int, _Samples] = field(default_factory=dict)
    states: deque[tuple[str, datetime, str]] = field(default_factory=lambda: deque(maxlen=_MOST_ROWS))
    jobs: dict[tuple[str, str], PastJob] = field(default_factory=dict)
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=_MOST_ROWS))

    def job(self, machine: str, job: PastJob) -> None:
        self.jobs[machine, job.run] = job
        while len(self.jobs) > _MOST_ROWS:
            del self.jobs[next(iter(self.jobs))]

    def put_back(self, earlier: _News) -> None:
        """Take what could not be written; what is here came after it."""
        self.samples = earlier.samples | self.samples
        for minute in sorted(self.samples)[:-_MOST_MINUTES]:
            del self.samples[minute]
        self.states.extendleft(reversed(earlier.states))
        later, self.jobs = self.jobs, earlier.jobs
        for (machine, _), job in later.items():
            self.job(machine, job)
        self.notices.extendleft(reversed(earlier.notices))

    def cut(self) -> None:
        """Leave out what no day has room for."""
        self.states = _newest(self.states, lambda one: one[0], MOST_STATES)
        self.notices = _newest(self.notices, lambda one: one.machine, MOST_NOTICES)
        self.jobs = dict(_newest(self.jobs.items(), lambda one: one[0][0], MOST_JOBS))

    @property
    def machines(self) -> set[str]:
        """Those that said something."""
        return {
            *(one[0] for one in self.states),
            *(one[0] for one in self.jobs),
            *(one.machine for one in self.notices),
        }


def _newest(all_: Iterable[_T], machine: Callable[[_T], str], most: int) -> deque[_T]:
    """The last so many of each machine, in their order."""
    counts: Counter[str] = Counter()
    kept: deque[_T] = deque()
    for one in reversed(list(all_)):
        counts[machine(one)] += 1
        if counts[machine(one)] <= most:
            kept.appendleft(one)
    return kept


class History:
    """A sink, see `bridge.fleet.Sink`. `now` gives the time in UTC."""

    def __init__(
        self,
        folder: Path,
        machines: Callable[[], Mapping[str, Machine]],
        now: Callable[[], datetime] = wire.utc_now,
    ) -> None:
        self._path = folder / FILE
        self._machines = machines
        self._now = now
        self._days: dict[str, Day] = {}
        self._recent: deque[Notice] = deque(maxlen=_RECENT)
        self._news = _News()
        self._failing = False

    def day(self, machine: str) -> Day:
        """The last day of a machine; an empty one if nothing is known."""
        return self._days.get(machine) or Day()

    def recent(self) -> list[Notice]:
        """What was said lately of any machine, but that a print began; the newest first."""
        return sorted(self._recent, key=lambda one: one.time, reverse=True)

    def handle(self, transition: Transition) -> None:
        """Note what happened; twice is as good as once."""
        if not transition.changes:
            return
        machine, now = transition.record.machine, self._now()
        moment = min(transition.record.time, now)  # a printer whose clock is ahead
        if moment < now - LENGTH:
            return
        for change in transition.changes:
            match change:
                case StateChanged(current=state):
                    self._day(machine).state(moment, state)
                    self._news.states.append((machine, moment, state))
                case JobStarted(job) | JobEnded(job):
                    self._day(machine).job(_past(job))
                    self._news.job(machine, _past(job))
        for number, (name, text, severity) in enumerate(_said(transition)):
            key = f"{transition.record.key}:{number}"
            self._notice(Notice(key, machine, moment, name, text[:_LONGEST_TEXT], severity))

    def add(self, machine: str, known: Machine) -> None:
        """Begin with what a machine is already, of which no transition may tell any more."""
        now = self._now()
        if known.state_since is not None:
            self._day(machine).state(min(known.state_since, now), known.state)
        for job in (*known.finished, known.active_job):
            if job is not None and (job.ended is None or job.ended > now - LENGTH):
                self._day(machine).job(_past(job))

    def sample(self) -> None:
        """Note the heaters of all machines that are in reach; once a minute."""
        minute = minute_of(self._now())
        samples: _Samples = {
            name: {
                heater: (tenths(known.actual), tenths(known.target))
                for heater, known in machine.heaters.items()
            }
            for name, machine in self._machines().items()
            if machine.link is Link.UP
        }
        for name, heaters in samples.items():
            self._day(name).sample(minute, heaters)
        self._news.samples[minute] = samples

    async def run(self) -> None:
        """Bring back what the file has, then sample and write each minute, until cancelled."""
        await self.load()
        while True:
            now = self._now()
            await asyncio.sleep(60 - now.timestamp() % 60)
            self.sample()
            self.forget()
            await self.save()

    def forget(self) -> None:
        """Let go of what is older than a day, and of machines of which nothing is left."""
        before, oldest = self._now() - LENGTH, minute_of(self._now()) - MINUTES
        for name, day in list(self._days.items()):
            day.forget(before)
            if day.heard.last < oldest and not day.jobs and name not in self._machines():
                del self._days[name]

    async def load(self) -> None:
        """Take what an earlier run has kept; what has happened since the start stays."""
        try:
            days = await asyncio.to_thread(_read, self._path, self._now())
        except Exception as error:  # noqa: BLE001 (whatever the file holds: no machine depends on it)
            await self._fail(error)
            return
        for name, day in days.items():
            if name in self._days:
                day.take(self._days[name])
            self._days[name] = day
        for minute, samples in self._news.samples.items():
            for name, heaters in samples.items():
                self._day(name).sample(minute, heaters)
        notices = {
            one.key: one
            for day in self._days.values()
            for one in day.notices.values()
            if one.name not in _ORDINARY
        }
        self._recent.clear()
        self._recent.extend(sorted(notices.values(), key=lambda one: one.time)[-_RECENT:])

    async def save(self) -> None:
        """Write what is new; what cannot be written now is tried again with the next."""
        news, self._news = self._news, _News()
        news.cut()
        try:
            await asyncio.to_thread(_write, self._path, news, self._now())
        except (OSError, sqlite3.Error, WrongLayout) as error:
            self._news.put_back(news)
            await self._fail(error)
        except Exception:  # of what was to be written: it would fail just so with the next
            log.exception("a minute of the machines' last day could not be kept", file=str(self._path))
        else:
            if self._failing:
                log.info("the last day of the machines is kept again", file=str(self._path))
            self._failing = False

    def _day(self, machine: str) -> Day:
        return self._days.setdefault(machine, Day())

    def _notice(self, notice: Notice) -> None:
        day = self._day(notice.machine)
        if notice.key not in day.notices:
            day.notice(notice)
            if notice.name not in _ORDINARY:
                self._recent.append(notice)
            self._news.notices.append(notice)

    async def _fail(self, error: Exception) -> None:
        """Say it once; a file of which no other try makes anything is moved out of the way."""
        passing, aside = _is_passing(error), None
        if not passing:
            try:
                aside = await asyncio.to_thread(_set_aside, self._path)
            except OSError as trouble:
                error = trouble
        if not self._failing:
            advice = (
                f"it was moved to {aside}, which you may delete; another is begun"
                if aside is not None
                else "see that the disk is not full and that the bridge may write there; it is tried again each minute"
                if passing
                else "stop the bridge and move it away"
            )
            log.error(
                "the file with the last day of the machines cannot be used: the status page begins with nothing after a"
                " restart; no machine depends on it",
                hint=advice,
                file=str(self._path),
                error=str(error) or type(error).__name__,
            )
        self._failing = True


def _is_passing(error: Exception) -> bool:
    """Whether the next try may be better: it is about the disk or another process, not about what the file holds."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR
    return isinstance(error, OSError)


def _set_aside(path: Path) -> Path:
    """Rename the database, and with it what belongs to it: it must not be taken for the next one's."""
    for end in ("-wal", "-shm", ""):
        old, new = path.with_name(f"{FILE}{end}"), path.with_name(f"{DAMAGED}{end}")
        if old.exists():
            old.replace(new)
        else:
            new.unlink(missing_ok=True)
    return path.with_name(DAMAGED)


def _said(transition: Transition) -> Iterable[tuple[str, str, int]]:
    for message in messages(transition):
        yield message.name, message.text, message.severity
    for change in transition.changes:
        if not isinstance(change, LinkChanged):
            continue
        if change.current is Link.LOST and transition.before.active_job is None:
            yield "ConnectionLost", f"OctoPrint cannot be reached: {change.detail}", WARNING
        elif change.current is Link.UP and change.previous is Link.LOST:
            yield "ConnectionBack", "OctoPrint is in reach again", INFO
    if any(isinstance(change, StateChanged) and change.current == "error" for change in transition.changes):
        yield "PrinterError", transition.after.error or "The printer reports an error", ERROR


def _write(path: Path, news: _News, now: datetime) -> None:
    day_ago = now - LENGTH
    with closing(open_database(path, _SCHEMA, _LAYOUT)) as connection, transaction(connection):
        connection.executemany(
            "INSERT OR REPLACE INTO minute VALUES (?, ?)",
            [
                (minute, zlib.compress(json.dumps(_flat(samples), separators=(",", ":")).encode(), 1))
                for minute, samples in news.samples.items()
            ],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO state VALUES (?, ?, ?)",
            [(name, moment.timestamp(), state) for name, moment, state in news.states],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?)",
            [
                (name, run, job.file, job.started.timestamp(), _stamp(job.ended), job.result)
                for (name, run), job in news.jobs.items()
            ],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO notice VALUES (?, ?, ?, ?, ?, ?)",
            [(n.key, n.machine, n.time.timestamp(), n.name, n.text, n.severity) for n in news.notices],
        )
        connection.execute("DELETE FROM minute WHERE minute <= ?", (minute_of(day_ago),))
        for table, column in (
            ("state", "time"),
            ("notice", "time"),
            ("job", "coalesce(ended, started + 604800)"),
        ):
            connection.execute(
                f"DELETE FROM {table} WHERE {column} < ?",  # noqa: S608 (all from here)
                (day_ago.timestamp(),),
            )
        said = json.dumps(sorted(news.machines))
        for table, key, time, most in (
            ("state", "machine, time, state", "time", MOST_STATES),
            ("job", "machine, run", "started", MOST_JOBS),
            ("notice", "key", "time", MOST_NOTICES),
        ):
            connection.execute(
                f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM (SELECT *, row_number()"  # noqa: S608
                f" OVER (PARTITION BY machine ORDER BY {time} DESC) AS place FROM {table}"
                " WHERE machine IN (SELECT value FROM json_each(?))) WHERE place > ?)",
                (said, most),
            )


def _read(path: Path, now: datetime) -> dict[str, Day]:
    days: dict[str, Day] = defaultdict(Day)
    if not path.exists():
        return {}
    with closing(open_database(path, _SCHEMA, _LAYOUT)) as connection:
        window = minute_of(now - LENGTH), minute_of(now)
        for minute, packed in connection.execute(
            "SELECT * FROM minute WHERE minute > ? AND minute <= ? ORDER BY minute", window
        ):
            samples = json.loads(zlib.decompressobj().decompress(packed, _LONGEST_SAMPLES))
            for name, heaters in samples.items():
                days[name].restore(minute, zip(heaters[::3], heaters[1::3], heaters[2::3], strict=True))
        for name, moment, state in connection.execute("SELECT * FROM state ORDER BY time"):
            days[_text(name)].state(_moment(moment), _text(state))
        for name, run, file, started, ended, result in connection.execute(
            "SELECT * FROM job ORDER BY started"
        ):
            over = None if ended is None else _moment(ended)
            why = None if result is None else _text(result)
            days[_text(name)].job(PastJob(_text(run), _text(file), _moment(started), over, why))
        for key, name, moment, kind, text, severity in connection.execute(
            "SELECT * FROM notice ORDER BY time"
        ):
            days[_text(name)].notice(
                Notice(_text(key), name, _moment(moment), _text(kind), _text(text), int(severity))
            )
    for day in days.values():
        day.forget(now - LENGTH)
    return dict(days)


def _flat(samples: _Samples) -> dict[str, list[str | int | None]]:
    """By machine a heater, its actual and target, and so on: a list each is read quicker than a list of pairs."""
    return {
        name: [value for heater, pair in heaters.items() for value in (heater, *pair)]
        for name, heaters in samples.items()
    }


def _past(job: Job) -> PastJob:
    result = job.result.value if job.result else None
    return PastJob(job.run, job.file[:_LONGEST_TEXT], job.started, job.ended, result)


def _text(value: object) -> str:
    """A text of the file: SQLite keeps there whatever it is given."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.50} is no text")
    return value


def _moment(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def _stamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
