"""The queue between the printer and the network: what the bridge has not acknowledged is still here.

In flow events, numbered here; out flow batches, oldest first, until they are acknowledged. Events that matter
for ever are in SQLite before they can be sent and survive a crash. Samples (progress, heaters) live in memory
only, the newest of each kind: after a restart the snapshot supersedes them, and so a printing OctoPrint
writes nothing to its SD card but the turns of its jobs.

Each `Outbox` is a new instance with numbers from 1. What an earlier instance left behind is delivered first,
under the earlier instance's name. When a bridge stays away so long that more than `MAX_WAITING` events wait, the
oldest are dropped and counted; the bridge sees the gap in the numbers and asks for a snapshot.
Safe for use by several threads.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from bridge import wire

BATCH_BYTES = 512 * 1024
"""How much event data a batch carries at most; a single event is always below the wire's limit."""

MAX_WAITING = 100_000
"""How many durable events wait at most: some 30 MB, and years of ordinary printing."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    last INTEGER NOT NULL,
    acked INTEGER NOT NULL
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


class Occurrence(NamedTuple):
    """Something that happened, before it has a number."""

    time: datetime
    kind: str
    data: Mapping[str, Any]


class _Row(NamedTuple):
    seq: int
    time: str
    kind: str
    data: str

    def event(self) -> wire.Event:
        return wire.Event(self.seq, wire.parse_time(self.time), self.kind, json.loads(self.data))


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
        self._open()

    def _open(self) -> None:
        self.name = uuid.uuid4().hex
        self._last = 0
        self._acked = 0
        self._samples: dict[str, _Row] = {}
        self._id: int | None = None
        self._earlier: list[int] = []
        self._database = sqlite3.connect(
            str(self._path), isolation_level=None, check_same_thread=False, timeout=5
        )
        try:
            self._prepare()
        except sqlite3.Error:
            self._database.close()
            raise

    def _prepare(self) -> None:
        execute = self._database.execute
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        found = execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))
        self._database.executescript(_SCHEMA)
        execute("DELETE FROM instances WHERE id NOT IN (SELECT instance FROM events)")
        self._earlier = [row[0] for row in execute("SELECT id FROM instances ORDER BY id")]

    def begin_afresh(self) -> str:
        """Move the damaged file aside and begin a new instance in a new one; returns the name of the old file."""
        with self._lock:
            self._database.close()
            aside = _move_aside(self._path)
            self._open()
            return aside

    @property
    def acked(self) -> int:
        """The number up to which this instance's events are the bridge's."""
        return self._acked

    def append(self, occurrences: Iterable[Occurrence]) -> None:
        """Number the occurrences and keep them, in one transaction. Raises `sqlite3.Error`: then none is kept."""
        with self._lock:
            last = self._last
            samples: dict[str, _Row] = {}
            durable = []
            superseded: Counter[str] = Counter()
            for moment, kind, data in occurrences:
                last += 1
                row = _Row(last, wire.format_time(moment), kind, json.dumps(data, allow_nan=False))
                if kind in wire.COALESCED:
                    superseded[kind] += kind in samples or kind in self._samples
                    samples[kind] = row
                else:
                    durable.append(row)
            if durable:
                with self._transaction():
                    identity = self._register(durable[-1].seq)
                    self._database.executemany(
                        "INSERT INTO events VALUES (?, ?, ?, ?, ?)", [(identity, *row) for row in durable]
                    )
                self._id = identity
            self._last = last
            self._samples.update(samples)
            self.superseded.update(superseded)
            if durable:
                self._drop_oldest()

    def next_batch(self) -> wire.Batch:
        """What to send next: the oldest instance's events first. Without any, an empty batch of this instance."""
        with self._lock:
            if self._earlier:
                return self._earlier_batch(self._earlier[0])
            rows = self._rows(self._id) if self._id is not None else []
            waiting = sorted([*rows, *self._samples.values()])
            return _batch(self.name, self._acked, self._last, waiting)

    def acknowledge(self, name: str, seq: int) -> None:
        """Forget the events of instance `name` up to `seq`: they are the bridge's now."""
        with self._lock:
            if name == self.name:
                seq = min(seq, self._last)
                self._acked = max(self._acked, seq)
                self._samples = {kind: row for kind, row in self._samples.items() if row.seq > seq}
                if self._id is not None:
                    self._forget(self._id, seq)
                return
            found = self._database.execute("SELECT id FROM instances WHERE name = ?", (name,)).fetchone()
            if found is not None:
                self._forget(found[0], seq)

    def backlog(self) -> Backlog:
        """What waits now, of all instances."""
        with self._lock:
            count, oldest = self._database.execute(
                "SELECT count(*), (SELECT time FROM events ORDER BY instance, seq LIMIT 1) FROM events"
            ).fetchone()
            return Backlog(count + len(self._samples), oldest)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)

    def _register(self, last: int) -> int:
        """Note `last` as this instance's last durable number; returns the instance's row id."""
        if self._id is not None:
            self._database.execute(
                "UPDATE instances SET last = ?, acked = ? WHERE id = ?", (last, self._acked, self._id)
            )
            return self._id
        inserted = self._database.execute(
            "INSERT INTO instances (name, last, acked) VALUES (?, ?, ?)", (self.name, last, self._acked)
        )
        return int(inserted.lastrowid or 0)

    def _drop_oldest(self) -> None:
        """Make room, a hundredth more than must be, when too many events wait."""
        with contextlib.suppress(sqlite3.Error):  # what was appended is safe; the next append tries again
            excess = self._database.execute("SELECT count(*) FROM events").fetchone()[0] - MAX_WAITING
            if excess <= 0:
                return
            oldest = self._database.execute(
                "SELECT instance, seq, kind FROM events ORDER BY instance, seq LIMIT ?",
                (excess + MAX_WAITING // 100,),
            ).fetchall()
            for identity, through in {instance: seq for instance, seq, _ in oldest}.items():
                self._forget(identity, through)
                if identity == self._id:
                    self._acked = max(self._acked, through)
            self.dropped.update(kind for _, _, kind in oldest)

    def _rows(self, identity: int) -> list[_Row]:
        found = self._database.execute(
            "SELECT seq, time, kind, data FROM events WHERE instance = ? ORDER BY seq LIMIT ?",
            (identity, wire.MAX_EVENTS + 1),
        )
        return [_Row(*row) for row in found]

    def _earlier_batch(self, identity: int) -> wire.Batch:
        name, last, acked = self._database.execute(
            "SELECT name, last, acked FROM instances WHERE id = ?", (identity,)
        ).fetchone()
        return _batch(name, acked, last, self._rows(identity))

    def _forget(self, identity: int, seq: int) -> None:
        with self._transaction():
            gone = self._database.execute(
                "DELETE FROM events WHERE instance = ? AND seq <= ?", (identity, seq)
            ).rowcount
            if gone:
                self._database.execute(
                    "UPDATE instances SET acked = max(acked, min(?, last)) WHERE id = ?", (seq, identity)
                )
            finished = identity in self._earlier and not self._rows(identity)
            if finished:
                self._database.execute("DELETE FROM instances WHERE id = ?", (identity,))
        if finished:
            self._earlier.remove(identity)


class _Transaction:
    """``BEGIN IMMEDIATE`` to ``COMMIT``, or ``ROLLBACK`` when the block fails."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: object, *_: object) -> None:
        if error is not None and self._database.in_transaction:
            self._database.execute("ROLLBACK")
        elif error is None:
            self._database.execute("COMMIT")


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


def _batch(name: str, after: int, last: int, waiting: list[_Row]) -> wire.Batch:
    chosen = []
    size = 0
    for row in waiting[: wire.MAX_EVENTS]:
        size += len(row.data)
        if chosen and size > BATCH_BYTES:
            break
        chosen.append(row)
    through = last if len(chosen) == len(waiting) else chosen[-1].seq
    return wire.Batch(name, after, through, tuple(row.event() for row in chosen), wire.utc_now())
