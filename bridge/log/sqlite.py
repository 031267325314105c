"""The log in one SQLite file.

One thread writes; appends that wait at the same time share one transaction and one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from bridge import wire
from bridge.database import WrongLayout, give_back, is_damaged, open_database, transaction, used_bytes
from bridge.log import OWN, Appended, LogError, Record

log = structlog.get_logger(__name__)

LAYOUT = 2
_SCHEMA = """
CREATE TABLE log (id TEXT NOT NULL);
INSERT INTO log VALUES (lower(hex(randomblob(16))));
CREATE TABLE mark (time TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE record (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL, instance TEXT NOT NULL, seq INTEGER NOT NULL,
    time TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE source (
    machine TEXT NOT NULL, instance TEXT NOT NULL, through INTEGER NOT NULL,
    heard INTEGER NOT NULL DEFAULT 0, position INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (machine, instance)) WITHOUT ROWID;
CREATE INDEX source_heard ON source (machine, heard);
CREATE INDEX source_position ON source (machine, position);
CREATE TABLE checkpoint (
    consumer TEXT PRIMARY KEY, position INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
"""
_STEPS = {
    1: """
ALTER TABLE source ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
UPDATE source SET position = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'record'), 0);
CREATE INDEX source_heard ON source (machine, heard);
CREATE INDEX source_position ON source (machine, position);
"""
}
_MOST_INSTANCES = 500
"""Of a machine: those heard last are remembered, and all of which there still is a record, so that none is made twice.

A plugin makes one at each start, the bridge two. So one that comes back after it was forgotten is more than a hundred
starts old, and what it may send again is older than all that the log keeps; a MES knows it by its key."""
_MOST_JOBS_A_COMMIT = 1000
_TRIM_CHUNK = 1000
_VACUUM_PAGES = 100
_BREATH_S = 0.005
"""Seconds between two steps of what can wait, for those who cannot."""
_KEPT_FREE = 0.1
"""The share of the file that stays unused after records were forgotten: soon others are written there."""
_END = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'record'"
_SAMPLES = ", ".join(f"'{kind}'" for kind in sorted(wire.COALESCED))

_Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[_Work, "asyncio.Future[Any]"]


class SqliteLog:
    """`bridge.log.Log` in the file `path`.

    `listener` is called on the event loop with the new records of each transaction, in order of position,
    before the appends that made them return. Made inside a running event loop. Raises `LogError`.
    """

    def __init__(self, path: Path, listener: Callable[[Sequence[Record]], None]) -> None:
        self._path = path
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._sampled = 0
        self.trouble: str | None = None
        """Why what was to be written last was not, if so."""
        self.failures = 0
        self.forgotten = 0
        self._connection = _open(path)
        with self._explained():
            self.id = str(self._connection.execute("SELECT id FROM log").fetchone()[0])
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    async def append(self, machine: str, batch: wire.Batch) -> Appended:
        """See `bridge.log.Log.append`."""
        appended: Appended = await self._submit(lambda connection: _append(connection, machine, batch))
        return appended

    @property
    def end(self) -> int:
        """See `bridge.log.Log.end`."""
        # Not the greatest position there is: that may have been trimmed.
        return next((int(row[0]) for row in self._rows(_END)), 0)

    def read(self, after: int) -> Iterator[Record]:
        """See `bridge.log.Log.read`."""
        for row in self._rows("SELECT * FROM record WHERE position > ? ORDER BY position", (after,)):
            position, machine, instance, seq, time, kind, data = row
            yield Record(position, machine, instance, seq, wire.parse_time(time), kind, json.loads(data))

    def load_checkpoint(self, consumer: str) -> tuple[int, str]:
        """See `bridge.log.Log.load_checkpoint`."""
        rows = self._rows("SELECT position, text FROM checkpoint WHERE consumer = ?", (consumer,))
        return next(rows, (0, ""))

    async def save_checkpoint(self, consumer: str, position: int, text: str) -> None:
        """See `bridge.log.Log.save_checkpoint`."""
        await self._submit(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", (consumer, position, text)
            )
        )

    async def trim(self, before: datetime, through: int, size: int | None = None) -> int:
        """See `bridge.log.Log.trim`; in small transactions, so that appends never wait long."""
        # Ages are counted by this computer's clock: printers may have none, or one that is years ahead.
        aged = await self._submit(partial(_mark, now=wire.utc_now(), before=before))
        samples = await self._forget(self._sampled, through, f"kind IN ({_SAMPLES})")
        self._sampled = max(self._sampled, through)
        old = await self._forget(0, min(aged, through), "TRUE")
        await self._forget_instances()
        over = await self._forget_over(int(size * (1 - _KEPT_FREE)), through) if size is not None else 0
        more = True
        while more:
            more = await self._submit(partial(give_back, pages=_VACUUM_PAGES, keep=_KEPT_FREE))
            await asyncio.sleep(_BREATH_S)
        self.forgotten += samples + old + over
        return samples + old + over

    async def _forget(self, after: int, through: int, which: str) -> int:
        """Go through the positions in small steps, however many of them are meant: a step is all that a push waits."""
        statement = f"DELETE FROM record WHERE position > ? AND position <= ? AND {which}"  # noqa: S608 (all from here)
        total = 0
        low = max(after, await self._submit(_first) - 1)
        while low < through:
            high = min(low + _TRIM_CHUNK, through)
            work = partial(_delete, statement=statement, after=low, through=high)
            total += await self._submit(work)
            low = high
            await asyncio.sleep(_BREATH_S)
        return total

    async def _forget_over(self, size: int, through: int) -> int:
        """Forget the oldest records, at most up to `through`, until what there is takes no more than `size` bytes."""
        total = 0
        while await self._submit(used_bytes) > size:
            low = await self._submit(_first) - 1
            high = min(low + _TRIM_CHUNK, through)
            if high <= low:
                break
            total += await self._forget(low, high, "TRUE")
            await self._forget_instances()
        return total

    async def _forget_instances(self) -> None:
        """Whoever has a key may name a new instance with each push: that must not fill the file."""
        for machine, heard in await self._submit(_crowded):
            work = partial(_delete_instances, machine=machine, heard=heard)
            more = True
            while more:
                more = await self._submit(work)
                await asyncio.sleep(_BREATH_S)

    async def answer(self) -> None:
        """Return once the writer has: nothing is written for it. Raises `LogError`."""
        await self._submit(lambda connection: None)

    @property
    def size(self) -> tuple[int, int]:
        """Bytes of the file, and of what was written and is not yet taken over into it."""
        return _size(self._path), _size(self._path.with_name(f"{self._path.name}-wal"))

    async def close(self) -> None:
        """See `bridge.log.Log.close`."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self, work: _Work) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._closed:
            self._jobs.put((work, future))
        else:
            future.set_exception(LogError(f"{self._path}: the log is closed; the bridge is stopping"))
        return future

    def _write(self) -> None:
        stopping = False
        while not stopping:
            waiting = [self._jobs.get()]
            while len(waiting) < _MOST_JOBS_A_COMMIT and not self._jobs.empty():
                waiting.append(self._jobs.get_nowait())
            batch = [job for job in waiting if job is not None]
            stopping = len(batch) < len(waiting)
            self._commit(batch)
        self._connection.close()

    def _commit(self, batch: Sequence[_Job]) -> None:
        if not batch:
            return
        written = self._connection.total_changes
        try:
            with transaction(self._connection) as connection:
                results = [work(connection) for work, _ in batch]
        except Exception as error:  # whatever it is: who waits must hear of it, and the others go on
            explained = _explain(self._path, error)
            self.trouble, self.failures = str(explained), self.failures + 1
            if not isinstance(error, sqlite3.Error):
                log.exception("an append failed unexpectedly", file=str(self._path))
            self._loop.call_soon_threadsafe(self._fail, batch, explained)
        else:
            if self._connection.total_changes != written:
                self.trouble = None
            self._loop.call_soon_threadsafe(self._finish, batch, results)

    def _finish(self, batch: Sequence[_Job], results: Sequence[Any]) -> None:
        records = [r for result in results if isinstance(result, Appended) for r in result.records]
        try:
            if records:
                self._listener(records)
        finally:  # they are durable, whatever the listener makes of them
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _rows(self, statement: str, values: Sequence[object] = ()) -> Iterator[Any]:
        with (
            self._explained(),
            closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as db,
        ):
            yield from db.execute(statement, values)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(self._path, error) from None

    @staticmethod
    def _fail(batch: Sequence[_Job], error: LogError) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


def _append(connection: sqlite3.Connection, machine: str, batch: wire.Batch) -> Appended:
    row = connection.execute(
        "SELECT through, heard, position FROM source WHERE machine = ? AND instance = ?",
        (machine, batch.instance),
    ).fetchone()
    known = row[0] if row else 0
    if batch.rewindable(known) and (row or _has_heard(connection, machine)):
        return Appended(known, gap=False, first=False, records=())
    records = []
    for event in batch.events:
        if event.seq <= known:
            continue
        cursor = connection.execute(
            "INSERT INTO record (machine, instance, seq, time, kind, data) VALUES (?, ?, ?, ?, ?, ?)",
            (
                machine,
                batch.instance,
                event.seq,
                wire.format_time(event.time),
                event.kind,
                json.dumps(event.data, separators=(",", ":"), ensure_ascii=False),
            ),
        )
        position = cursor.lastrowid or 0
        records.append(
            Record(position, machine, batch.instance, event.seq, event.time, event.kind, event.data)
        )
    through = max(known, batch.through)
    if through > known or row is None:
        _, heard, position = row or (0, 0, 0)
        position = records[-1].position if records else position
        _note(connection, machine, batch.instance, through, heard, position)
    return Appended(through, batch.after > known, row is None, tuple(records))


def _note(
    connection: sqlite3.Connection, machine: str, instance: str, through: int, heard: int, position: int
) -> None:
    """Remember how far the instance is, where its last record is, and that of its machine it was heard last."""
    (newest,) = connection.execute(
        "SELECT coalesce(max(heard), 0) FROM source WHERE machine = ?", (machine,)
    ).fetchone()
    connection.execute(
        "INSERT INTO source VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET through = excluded.through, heard = excluded.heard, position = excluded.position",
        (machine, instance, through, heard if heard == newest > 0 else newest + 1, position),
    )


def _crowded(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """The machines that have as many instances as are remembered, or more, and `heard` of the last of those."""
    found, machine = [], ""
    while machine is not None:
        (machine,) = connection.execute(
            "SELECT min(machine) FROM source WHERE machine > ?", (machine,)
        ).fetchone()
        row = connection.execute(
            "SELECT heard FROM source WHERE machine = ? ORDER BY heard DESC LIMIT 1 OFFSET ?",
            (machine, _MOST_INSTANCES - 1),
        ).fetchone()
        if row is not None:
            found.append((machine, row[0]))
    return found


def _delete_instances(connection: sqlite3.Connection, machine: str, heard: int) -> bool:
    """Forget some that were heard before `heard` and have no record any more; returns whether there may be others."""
    deleted = connection.execute(
        "DELETE FROM source WHERE (machine, instance) IN (SELECT machine, instance FROM source"
        " INDEXED BY source_position WHERE machine = ? AND position < ? AND heard < ? ORDER BY position LIMIT ?)",
        (machine, _first(connection), heard, _TRIM_CHUNK),
    ).rowcount
    return deleted == _TRIM_CHUNK


def _first(connection: sqlite3.Connection) -> int:
    """The position of the first record that there is; past the end when there is none."""
    row = connection.execute(
        "SELECT coalesce((SELECT min(position) FROM record),"
        " (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'record'), 1)"
    ).fetchone()
    return int(row[0])


def _delete(connection: sqlite3.Connection, statement: str, after: int, through: int) -> int:
    return connection.execute(statement, (after, through)).rowcount


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _has_heard(connection: sqlite3.Connection, machine: str) -> bool:
    """Whether its plugin was ever heard: what a machine did for another bridge is none of this one's business."""
    found = connection.execute(
        "SELECT 1 FROM source WHERE machine = ? AND instance NOT GLOB ? LIMIT 1", (machine, f"{OWN}*")
    )
    return found.fetchone() is not None


def _mark(connection: sqlite3.Connection, now: datetime, before: datetime) -> int:
    """Note where the log stands now; returns the last position that it had `before`."""
    connection.execute(
        "INSERT INTO mark SELECT ?, coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'record'",
        (wire.format_time(now),),
    )
    limit = wire.format_time(before)
    row = connection.execute(
        "SELECT coalesce(max(position), 0) FROM mark WHERE time < ?", (limit,)
    ).fetchone()
    connection.execute("DELETE FROM mark WHERE position < ?", row)
    return int(row[0])


def _open(path: Path) -> sqlite3.Connection:
    try:
        return open_database(path, _SCHEMA, LAYOUT, _STEPS)
    except WrongLayout as error:
        raise LogError(f"{path}: {error}") from None
    except (OSError, sqlite3.Error) as error:
        raise _explain(path, error) from None


def _explain(path: Path, error: Exception) -> LogError:
    advice = "check that the disk is not full and that the bridge's user may write there"
    if is_damaged(error):
        advice = "the file is damaged: move it away, or bring it back from a backup, and start again"
    return LogError(f"{path}: the log cannot be used: {error}; {advice}")
