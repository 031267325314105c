"""The queue between the printer and the network: what the bridge has not acknowledged is still here.

In flow events, numbered here; out flow batches, oldest first, until they are acknowledged. Events that matter
for ever are in SQLite before they can be sent and survive a crash. Samples (progress, heaters) live in memory
only, the newest of each kind: after a restart the snapshot supersedes them, and so a printing OctoPrint
writes nothing to its SD card but the turns of its jobs.

Each `Outbox` is a new instance with numbers from 1. What an earlier instance left behind is delivered first,
under the earlier instance's name. What was acknowledged is deleted together with the next writing, which
halves what is written; after a crash it may be sent again, and the bridge knows it by its number.

What is kept when a bridge stays away for long:

* job events (`JOBS`) always: nothing but the disk bounds them;
* of the other events, so many that `MAX_WAITING` wait in all; the oldest go first, counted by kind in `dropped`;
* while the disk refuses: all job events, and of the others so many that `MAX_UNSAVED` are in memory. They are
  sent from there, and written as soon as the disk takes them; a crash before that loses them;
* of a file that turns out damaged, nothing: it is moved aside, and a new one made, or tried again and again
  as while the disk refuses;
* of what was acknowledged, the newest in memory, see `kept`: a bridge that lost it is told again;
* of a single event that cannot be read from a sound file, nothing: it is deleted and counted in `dropped`.

The bridge sees from the numbers that something is missing, and asks for a snapshot. Safe for use by several threads.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import shutil
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from bridge import wire

from .database import FORMAT, is_damage, move_aside, open_database, transaction
from .kept import Kept
from .occurrence import Occurrence

BATCH_BYTES = 512 * 1024
"""How much event data a batch carries at most; a single event is always below the wire's limit."""

JOBS = frozenset({wire.JOB_STARTED, wire.JOB_PAUSED, wire.JOB_RESUMED, wire.JOB_ENDED})
"""Kinds that are never dropped."""

MAX_WAITING = 100_000
"""How many events may wait before others than job events are dropped: some 30 MB, years of ordinary printing."""

MAX_UNSAVED = 10_000
"""The same for those in memory that the disk has refused so far."""

NO_ROOM_BYTES = 128 * 1024
"""SQLite makes a file of 32 kB and a journal beside a database that it opens."""

_DAMAGED = (
    "The queue of events in %s is damaged (%s). Events that were waiting in it are lost, and the bridge is shown "
    "the gap; the file was moved to %s, and a new queue is begun."
)

_UNREADABLE = (
    "The event %d (%s) in %s cannot be read (%s). It is left out, and the bridge is shown the gap; check the disk "
    "that holds OctoPrint's data."
)

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _Row(NamedTuple):
    """A durable event, as it stands in the file."""

    seq: int
    time: str
    kind: str
    data: str

    def event(self) -> wire.Event:
        """Raises `_Unreadable`: what is in a file may have been written by nobody."""
        try:
            if not all(isinstance(text, str) for text in (self.time, self.kind, self.data)):
                raise TypeError("no text")
            checked = wire.PAYLOADS[self.kind](json.loads(self.data), self.kind)
            return wire.Event(self.seq, wire.parse_time(self.time), self.kind, checked)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _Unreadable(self) from error


class _Unreadable(Exception):
    """This row is no event."""

    def __init__(self, row: _Row) -> None:
        super().__init__(row.seq)
        self.row = row


@dataclass
class _Instance:
    """One run of the plugin: `acked` is the bridge's; what is past it are `stored` rows of the file.

    `id` is None until something of it is in the file; `lost` is the highest number that was dropped or lost.
    """

    name: str
    id: int | None = None
    lost: int = 0
    stored: int = 0
    acked: int = 0


@dataclass(frozen=True)
class Backlog:
    """What waits: how many events in all, and since when the oldest durable one."""

    waiting: int
    oldest: str | None


def _reading(method: _Method) -> _Method:
    """One thread at a time; when the file turns out damaged, once more with a new one, or from memory alone."""

    @functools.wraps(method)
    def locked(self: Outbox, *args: Any) -> Any:
        with self._lock:
            try:
                return method(self, *args)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._give_up(error)
                self._save()
                return method(self, *args)

    return cast(_Method, locked)


class Outbox:
    """Opens, or makes, the database at `path`; a damaged one is moved aside, said to `logger`, and made anew.

    One that cannot be opened is tried again with every `append` and `save`, as while the disk refuses.
    """

    def __init__(self, path: Path, logger: Any = None) -> None:
        self._path = path
        self._logger = logger or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self.superseded: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.last_acknowledged: dict[str, Any] | None = None
        """``seq``, ``kind`` and ``time`` of the newest event that is the bridge's."""
        self._current = _Instance(uuid.uuid4().hex)
        self._earlier: list[_Instance] = []
        self._last = self._written = 0
        self._samples: dict[str, wire.Event] = {}
        self._unsaved: list[_Row] = []
        self._kept: Kept[_Row] = Kept()
        self._obsolete: dict[int, int] = {}
        self._drop_beyond = MAX_WAITING
        self._late: list[_Instance] = []
        self.refusal: Exception | None = None
        """Why what was appended last is in memory only."""
        self._damage: Exception | None = None
        self._database: sqlite3.Connection | None = None
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self.refusal = error
            if is_damage(error):
                self._give_up(error)
                self._save()

    def _open(self) -> None:
        """Open the file, or make it; a damaged one is moved aside first, which may succeed when this does not."""
        if self._damage is not None and self._path.exists():
            aside = move_aside(self._path)
            self._logger.error(_DAMAGED, self._path, self._damage, aside)
            self._damage = None
        database = open_database(self._path)
        try:
            found = database.execute(
                "SELECT name, id, lost, count(*) FROM instances JOIN events ON instance = id "
                "GROUP BY id ORDER BY id"
            ).fetchall()
        except sqlite3.Error:
            database.close()
            raise
        self._database, self._damage = database, None
        left = [_Instance(*row) for row in found]
        self._earlier, self._late = ([], left) if self._last else (left, [])

    def _give_up(self, damage: Exception) -> None:
        """Go on from memory, without the damaged file and what waited in it; the bridge sees the gap."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        self._database = None
        self._damage = self.refusal = damage
        current = self._current
        if current.stored:
            current.lost = max(current.lost, self._written)
        current.id, current.stored = None, 0
        self._earlier, self._late, self._obsolete = [], [], {}

    @property
    def has_late(self) -> bool:
        """Whether what earlier instances left was found only after events of this one, and waits for `release_late`."""
        return bool(self._late)

    def release_late(self) -> None:
        """Deliver that now, before anything else. The bridge takes it for the present until a snapshot follows."""
        with self._lock:
            self._earlier, self._late = [*self._earlier, *self._late], []

    @property
    def name(self) -> str:
        """Of this instance."""
        return self._current.name

    @property
    def acked(self) -> int:
        """The number up to which this instance's events are the bridge's."""
        return self._current.acked

    def storage(self) -> dict[str, Any]:
        """``full``: whether the disk is; ``error``: why events cannot be stored, or None."""
        refusal = self.refusal
        full = refusal is not None and _is_full(refusal, self._path.parent)
        return {"full": full, "error": refusal and (str(refusal) or type(refusal).__name__)}

    def append(self, occurrences: Iterable[Occurrence]) -> None:
        """Number the occurrences and keep them: samples in memory, the others in the file, in one transaction.

        What the disk refuses stays in memory, to be sent from there; `refusal` says why, `save` tries again.
        """
        with self._lock:
            last = self._last
            samples = []
            durable = []
            for moment, kind, data in occurrences:
                last += 1
                if kind in wire.COALESCED:
                    samples.append(wire.Event(last, moment, kind, data))
                else:
                    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
                    durable.append(_Row(last, wire.format_time(moment), kind, text))
            self._last = last
            for sample in samples:
                self.superseded[sample.kind] += sample.kind in self._samples
                self._samples[sample.kind] = sample
            if durable:
                self._unsaved += durable
                self._save()

    def save(self) -> None:
        """Try again to write, after a refusal."""
        with self._lock:
            if self.refusal is not None:
                self._save()

    @_reading
    def next_batch(self) -> wire.Batch:
        """What to send next: the oldest instance's events first. Without any, an empty batch of this instance."""
        while True:
            instance = self._earlier[0] if self._earlier else self._current
            rows = self._rows(instance)
            try:
                if instance is not self._current:
                    return _batch(instance, rows, rows[-1].seq)
                self._kept.forget(instance.lost)
                if self._kept.again is not None:
                    instance = _Instance(instance.name, acked=self._kept.again)
                    batch = _batch(instance, self._kept.waiting, self._current.acked)
                else:
                    waiting = sorted(
                        [*rows, *self._unsaved, *self._samples.values()], key=lambda one: one.seq
                    )
                    batch = _batch(instance, waiting, self._last)
                return replace(batch, kept_from=self._kept.since)
            except _Unreadable as unreadable:
                self._leave_out(instance, unreadable)

    @_reading
    def acknowledge(self, name: str, seq: int) -> None:
        """Forget the events of instance `name` up to `seq`: they are the bridge's now."""
        instance = next((one for one in (*self._earlier, self._current) if one.name == name), None)
        if instance is self._current:
            self._kept.acknowledge(seq, instance.acked)
        if instance is None or seq <= instance.acked:
            return
        if instance is self._current:
            seq = min(seq, self._last)
        gone: list[_Row | wire.Event] = []
        if instance is self._current:
            stored = [row for row in self._rows(instance, seq - instance.acked) if row.seq <= seq]
            unsaved = [row for row in self._unsaved if row.seq <= seq]
            self._kept.add(sorted([*stored, *unsaved], key=lambda row: row.seq))
        if instance.stored and instance.id is not None:
            count, newest = self._stored_up_to(instance, seq)
            instance.stored -= count
            self._obsolete[instance.id] = seq
            gone += newest
        if instance is self._current:
            gone += [one for one in (*self._unsaved, *self._samples.values()) if one.seq <= seq]
            self._unsaved = [row for row in self._unsaved if row.seq > seq]
            self._samples = {kind: one for kind, one in self._samples.items() if one.seq > seq}
        instance.acked = seq
        self._earlier = [one for one in self._earlier if one.stored]
        if gone:
            self._note_acknowledged(max(gone, key=lambda one: one.seq))

    def rewind(self, name: str, seq: int) -> bool:
        """Send again what instance `name` told after `seq`: the bridge has lost it. Whether any of it is still here."""
        with self._lock:
            current = self._current
            return name == current.name and self._kept.rewind(seq, current.acked)

    @_reading
    def backlog(self) -> Backlog:
        """What waits now, of all instances."""
        holding = [one for one in (*self._late, *self._earlier, self._current) if one.stored]
        try:
            oldest = self._rows(holding[0], 1) if holding else self._unsaved
        except (sqlite3.OperationalError, sqlite3.ProgrammingError):
            oldest = []  # the disk cannot be read now, or the file is closed
        waiting = sum(one.stored for one in holding) + len(self._unsaved) + len(self._samples)
        waiting += len(self._kept.waiting)
        since = oldest[0].time if oldest else None
        return Backlog(waiting, since if isinstance(since, str) else None)

    def close(self) -> None:
        """Delete what was acknowledged and close the file; nothing is to be asked or appended after this."""
        with self._lock:
            if self._database is None:
                return
            with contextlib.suppress(sqlite3.Error), transaction(self._database):
                self._delete_obsolete()
            self._database.close()

    def _note_acknowledged(self, one: _Row | wire.Event) -> None:
        time = one.time if isinstance(one.time, str) else wire.format_time(one.time)
        self.last_acknowledged = {"seq": one.seq, "kind": one.kind, "time": time}

    def _save(self) -> None:
        """Write what is unsaved; a file that turns out damaged is replaced at once, if that is possible."""
        if not self._write() and self._damage is not None:
            self._write()

    def _write(self) -> bool:
        """Write what is unsaved and delete what is obsolete, in one transaction, and make room if need be."""
        current, fresh = self._current, self._unsaved
        try:
            if self._database is None:
                self._open()
            with transaction(self._database):
                self._delete_obsolete()
                identity = self._register() if fresh else current.id
                self._database.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?)", [(identity, *row) for row in fresh]
                )
                if not fresh:  # all that the disk refused was sent; does it still refuse?
                    self._database.execute(f"PRAGMA user_version={FORMAT}")
        except Exception as error:  # whatever it is: what is unsaved has its numbers, and must not get others
            if self.refusal is None and not isinstance(error, (OSError, sqlite3.Error)):
                self._logger.error("Storing events went wrong in an unforeseen way", exc_info=error)
            self.refusal = error
            if is_damage(error):
                self._give_up(error)
            self._shorten_unsaved()
            return False
        if fresh:
            self._written = fresh[-1].seq
        current.id = identity
        current.stored += len(fresh)
        self._unsaved, self._obsolete, self.refusal = [], {}, None
        self._drop_oldest()
        return True

    def _leave_out(self, instance: _Instance, unreadable: _Unreadable) -> None:
        """Delete a row that would hold up what follows for ever. Raises `sqlite3.Error` when the disk refuses."""
        row = unreadable.row
        with transaction(self._database):
            self._database.execute(
                "DELETE FROM events WHERE instance = ? AND seq = ?", (instance.id, row.seq)
            )
            self._database.execute(
                "UPDATE instances SET lost = max(lost, ?) WHERE id = ?", (row.seq, instance.id)
            )
        instance.stored -= 1
        instance.lost = max(instance.lost, row.seq)
        kind = row.kind if row.kind in wire.PAYLOADS else "unreadable"
        self.dropped[kind] += 1
        self._earlier = [one for one in self._earlier if one.stored]
        self._logger.error(_UNREADABLE, row.seq, kind, self._path, unreadable.__cause__)

    def _register(self) -> int:
        """The current instance's id in the file."""
        current = self._current
        if current.id is None:
            inserted = self._database.execute(
                "INSERT INTO instances (name, lost) VALUES (?, ?)", (current.name, current.lost)
            )
            return int(inserted.lastrowid or 0)
        if self.refusal is not None:
            self._database.execute("UPDATE instances SET lost = ? WHERE id = ?", (current.lost, current.id))
        return current.id

    def _delete_obsolete(self) -> None:
        for identity, seq in self._obsolete.items():
            self._database.execute("DELETE FROM events WHERE instance = ? AND seq <= ?", (identity, seq))

    def _shorten_unsaved(self) -> None:
        """Keep no more in memory than it should bear, apart from job events."""
        excess = len(self._unsaved) - MAX_UNSAVED
        if excess <= 0:
            return
        dropped = [row for row in self._unsaved if row.kind not in JOBS][:excess]
        if dropped:
            gone = {row.seq for row in dropped}
            self._unsaved = [row for row in self._unsaved if row.seq not in gone]
            self._current.lost = dropped[-1].seq
            self.dropped.update(row.kind for row in dropped)

    def _drop_oldest(self) -> None:
        """Make room, a hundredth more than must be, when too many events wait."""
        instances = {one.id: one for one in (*self._late, *self._earlier, self._current)}
        waiting = sum(one.stored for one in instances.values())
        if waiting <= MAX_WAITING:
            self._drop_beyond = MAX_WAITING
        if waiting <= self._drop_beyond:
            return
        marks = ", ".join("?" * len(JOBS))
        try:
            dropped = self._database.execute(
                f"SELECT instance, seq, kind FROM events WHERE kind NOT IN ({marks}) "  # noqa: S608
                "ORDER BY instance, seq LIMIT ?",
                (*JOBS, waiting - MAX_WAITING + MAX_WAITING // 100),
            ).fetchall()
            lost = {identity: seq for identity, seq, _ in dropped}
            with transaction(self._database):
                self._database.executemany(
                    "DELETE FROM events WHERE instance = ? AND seq = ?", [row[:2] for row in dropped]
                )
                self._database.executemany(
                    "UPDATE instances SET lost = max(lost, ?) WHERE id = ?",
                    [(seq, identity) for identity, seq in lost.items()],
                )
        except sqlite3.Error:
            return  # what was appended is safe; the next append tries again
        for identity, seq, kind in dropped:
            instances[identity].stored -= 1
            instances[identity].lost = max(instances[identity].lost, seq)
            self.dropped[kind] += 1
        self._earlier = [one for one in self._earlier if one.stored]
        self._late = [one for one in self._late if one.stored]
        # Where job events alone are too many, looking for others at every event would be in vain.
        self._drop_beyond = max(MAX_WAITING, waiting - len(dropped) + MAX_WAITING // 100)

    def _rows(self, instance: _Instance, limit: int = wire.MAX_EVENTS + 1) -> list[_Row]:
        """What waits of `instance` in the file, oldest first."""
        if not instance.stored:
            return []
        found = self._database.execute(
            "SELECT seq, time, kind, data FROM events WHERE instance = ? AND seq > ? ORDER BY seq LIMIT ?",
            (instance.id, instance.acked, limit),
        )
        return [_Row(*row) for row in found]

    def _stored_up_to(self, instance: _Instance, seq: int) -> tuple[int, list[_Row]]:
        """How much of what waits of `instance` in the file is not past `seq`, and the newest of that."""
        span = "FROM events WHERE instance = ? AND seq > ? AND seq <= ?"
        values = (instance.id, instance.acked, seq)
        count = self._database.execute(f"SELECT count(*) {span}", values).fetchone()[0]
        newest = f"SELECT seq, time, kind, data {span} ORDER BY seq DESC LIMIT 1"
        return count, [_Row(*row) for row in self._database.execute(newest, values)]


def _is_full(refusal: Exception, folder: Path) -> bool:
    """Whether `refusal` is for want of room, which SQLite calls an I/O error where it cannot even begin."""
    if isinstance(refusal, OSError):
        return refusal.errno == errno.ENOSPC
    if "disk I/O" not in str(refusal):
        return "is full" in str(refusal)
    try:
        return shutil.disk_usage(folder).free < NO_ROOM_BYTES
    except OSError:
        return False


def _batch(instance: _Instance, waiting: Sequence[_Row | wire.Event], last: int) -> wire.Batch:
    """The next batch of `waiting`, which ends at the number `last`, in order.

    Where events were dropped, one batch ends before the gap and the next begins after it, so that it shows.
    """
    before_gap = [one for one in waiting if one.seq <= instance.lost]
    if before_gap:
        after, waiting, last = instance.acked, before_gap, before_gap[-1].seq
    else:
        after = max(instance.acked, instance.lost)
    chosen: list[wire.Event] = []
    size = 0
    for one in waiting[: wire.MAX_EVENTS]:
        if isinstance(one, _Row):
            row, one = one, one.event()
            size += len(row.data.encode())
        if chosen and size > BATCH_BYTES:
            break
        chosen.append(one)
    through = last if len(chosen) == len(waiting) else chosen[-1].seq
    return wire.Batch(instance.name, after, through, tuple(chosen), wire.utc_now())
