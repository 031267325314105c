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
  sent from there, and written as soon as the disk takes them; a crash before that loses them.

The bridge sees from the numbers that something was dropped, and asks for a snapshot. Safe for use by several threads.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bridge import wire

from .occurrence import Occurrence

BATCH_BYTES = 512 * 1024
"""How much event data a batch carries at most; a single event is always below the wire's limit."""

JOBS = frozenset({wire.JOB_STARTED, wire.JOB_PAUSED, wire.JOB_RESUMED, wire.JOB_ENDED})
"""Kinds that are never dropped."""

MAX_WAITING = 100_000
"""How many events may wait before others than job events are dropped: some 30 MB, years of ordinary printing."""

MAX_UNSAVED = 10_000
"""The same for those in memory that the disk has refused so far."""

_FORMAT = 2
"""Of the file; one of another format is moved aside like a damaged one, but for that of 0.1.0."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    instance INTEGER NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL,
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (instance, seq)
) WITHOUT ROWID;
"""

# In 0.1.0 what was acknowledged and what was dropped were one number: the next batch begins after it.
_SET_ASIDE = "CREATE TEMP TABLE earlier AS SELECT id, name, acked FROM instances; DROP TABLE instances;"
_BRING_BACK = "INSERT INTO instances SELECT id, name, acked FROM earlier; DROP TABLE earlier;"


class _Row(NamedTuple):
    """A durable event, as it stands in the file."""

    seq: int
    time: str
    kind: str
    data: str

    def event(self) -> wire.Event:
        return wire.Event(self.seq, wire.parse_time(self.time), self.kind, json.loads(self.data))


@dataclass
class _Instance:
    """One run of the plugin: `acked` is the bridge's; what is past it are `stored` rows of the file.

    `id` is None until something of it is in the file; `lost` is the highest number that was dropped.
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


class Outbox:
    """Opens, or makes, the database at `path`. Raises `sqlite3.Error`; see `open_or_replace`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.superseded: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.last_acknowledged: dict[str, Any] | None = None
        """``seq``, ``kind`` and ``time`` of the newest event that is the bridge's."""
        self._open()

    def _open(self) -> None:
        self._current = _Instance(uuid.uuid4().hex)
        self._last = 0
        self._samples: dict[str, wire.Event] = {}
        self._unsaved: list[_Row] = []
        self._obsolete: dict[int, int] = {}
        self._drop_beyond = MAX_WAITING
        self.refusal: sqlite3.Error | None = None
        self._database = sqlite3.connect(
            str(self._path), isolation_level=None, check_same_thread=False, timeout=5
        )
        try:
            self._earlier = self._prepare()
        except sqlite3.Error:
            self._database.close()
            raise

    def _prepare(self) -> list[_Instance]:
        execute = self._database.execute
        execute("PRAGMA page_size=1024")  # a commit writes whole pages
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        found = execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))
        if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT")
        elif self._is_of_0_1_0():
            self._database.executescript(
                f"BEGIN; {_SET_ASIDE} {_SCHEMA} {_BRING_BACK} PRAGMA user_version={_FORMAT}; COMMIT"
            )
        if execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
            raise sqlite3.DatabaseError("another version of MESBridge wrote it")
        execute("DELETE FROM instances WHERE id NOT IN (SELECT instance FROM events)")
        found = execute(
            "SELECT name, id, lost, count(*) FROM instances JOIN events ON instance = id "
            "GROUP BY id ORDER BY id"
        )
        return [_Instance(*row) for row in found]

    def _is_of_0_1_0(self) -> bool:
        columns = [row[1] for row in self._database.execute("PRAGMA table_info(instances)")]
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        return version == 0 and columns == ["id", "name", "last", "acked"]

    def begin_afresh(self) -> tuple[str, list[Occurrence]]:
        """Move the damaged file aside and begin a new instance in a new one.

        Returns the name that the old file has now, and what had not been written to it.
        """
        with self._lock:
            unsaved = [row.event() for row in self._unsaved_rows()]
            self._database.close()
            aside = _move_aside(self._path)
            self._open()
            return aside, [Occurrence(event.time, event.kind, event.data) for event in unsaved]

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
        return {"full": refusal is not None and "full" in str(refusal), "error": refusal and str(refusal)}

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

    def next_batch(self) -> wire.Batch:
        """What to send next: the oldest instance's events first. Without any, an empty batch of this instance."""
        with self._lock:
            if self._earlier:
                rows = self._rows(self._earlier[0])
                return _batch(self._earlier[0], rows, rows[-1].seq)
            waiting = [*self._rows(self._current), *self._unsaved_rows(), *self._samples.values()]
            return _batch(self._current, sorted(waiting, key=lambda one: one.seq), self._last)

    def acknowledge(self, name: str, seq: int) -> None:
        """Forget the events of instance `name` up to `seq`: they are the bridge's now."""
        with self._lock:
            instance = next((one for one in (*self._earlier, self._current) if one.name == name), None)
            if instance is None or seq <= instance.acked:
                return
            gone: list[_Row | wire.Event] = []
            if instance is self._current:
                seq = min(seq, self._last)
                gone += [row for row in (*self._unsaved_rows(), *self._samples.values()) if row.seq <= seq]
                self._samples = {kind: one for kind, one in self._samples.items() if one.seq > seq}
            if instance.stored and instance.id is not None:
                count, newest = self._stored_up_to(instance, seq)
                instance.stored -= count
                self._obsolete[instance.id] = seq
                gone += newest
            instance.acked = seq
            self._earlier = [one for one in self._earlier if one.stored]
            if gone:
                self._note_acknowledged(max(gone, key=lambda one: one.seq))

    def backlog(self) -> Backlog:
        """What waits now, of all instances."""
        with self._lock:
            unsaved = self._unsaved_rows()
            holding = [one for one in (*self._earlier, self._current) if one.stored]
            oldest = self._rows(holding[0], 1) if holding else unsaved
            waiting = sum(one.stored for one in holding) + len(unsaved) + len(self._samples)
            return Backlog(waiting, oldest[0].time if oldest else None)

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(sqlite3.Error), self._transaction():
                self._delete_obsolete()
            self._database.close()

    def _note_acknowledged(self, one: _Row | wire.Event) -> None:
        time = one.time if isinstance(one.time, str) else wire.format_time(one.time)
        self.last_acknowledged = {"seq": one.seq, "kind": one.kind, "time": time}

    def _unsaved_rows(self) -> list[_Row]:
        """What waits in memory for the disk and for the bridge."""
        return [row for row in self._unsaved if row.seq > self._current.acked]

    def _save(self) -> None:
        """Write what is unsaved and delete what is obsolete, in one transaction, and make room if need be."""
        current, fresh = self._current, self._unsaved_rows()
        try:
            with self._transaction():
                self._delete_obsolete()
                identity = self._register() if fresh else current.id
                self._database.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?)", [(identity, *row) for row in fresh]
                )
                if not fresh:  # all that the disk refused was sent; does it still refuse?
                    self._database.execute(f"PRAGMA user_version={_FORMAT}")
        except sqlite3.Error as error:
            self.refusal = error
            self._shorten_unsaved()
            return
        current.id = identity
        current.stored += len(fresh)
        self._unsaved, self._obsolete, self.refusal = [], {}, None
        self._drop_oldest()

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
        instances = {one.id: one for one in (*self._earlier, self._current)}
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
            with self._transaction():
                self._database.executemany(
                    "DELETE FROM events WHERE instance = ? AND seq = ?", [row[:2] for row in dropped]
                )
                self._database.executemany(
                    "UPDATE instances SET lost = ? WHERE id = ?",
                    [(seq, identity) for identity, seq in lost.items()],
                )
        except sqlite3.Error:
            return  # what was appended is safe; the next append tries again
        for identity, seq, kind in dropped:
            instances[identity].stored -= 1
            instances[identity].lost = seq
            self.dropped[kind] += 1
        self._earlier = [one for one in self._earlier if one.stored]
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

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """``BEGIN IMMEDIATE`` to ``COMMIT``, or ``ROLLBACK`` when the block or the commit fails."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is unsound; anything else (a full disk, a lock) passes, and the file is kept."""
    return type(error) is sqlite3.DatabaseError  # its subclasses are about other things


DAMAGED = (
    "The queue of events in %s is damaged (%s). Events that were waiting in it are lost; the file was moved to "
    "%s and a new queue begun."
)


def open_or_replace(path: Path, logger: Any) -> Outbox:
    """The outbox at `path`; a file that is no sound database is moved aside, said in the log, and begun afresh."""
    try:
        return Outbox(path)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        logger.error(DAMAGED, path, error, _move_aside(path))
        return Outbox(path)


def _move_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}.damaged-{wire.utc_now():%Y%m%dT%H%M%S%f}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside.name


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
            size += len(one.data.encode())
            one = one.event()
        if chosen and size > BATCH_BYTES:
            break
        chosen.append(one)
    through = last if len(chosen) == len(waiting) else chosen[-1].seq
    return wire.Batch(instance.name, after, through, tuple(chosen), wire.utc_now())
