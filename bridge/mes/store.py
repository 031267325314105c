"""What waits for the MES instances, in one SQLite file: the place in the log and all messages up to it.

In flow the messages of a batch of records, in one transaction with the position of the last of them; out flow
the waiting messages of one MES instance, in order. So a crash at any moment neither loses nor doubles one.
Every method may be called from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from bridge import wire
from bridge.database import WrongLayout, give_back, is_damaged, open_database, transaction

STATUS, EVENT = "status", "event"

LAYOUT = 2
_SCHEMA_1 = """
CREATE TABLE cursor (log TEXT NOT NULL, position INTEGER NOT NULL);
INSERT INTO cursor VALUES ('', 0);
CREATE TABLE route (
    machine TEXT NOT NULL, mes INTEGER NOT NULL, PRIMARY KEY (machine, mes)) WITHOUT ROWID;
CREATE TABLE told (
    machine TEXT NOT NULL, mes INTEGER NOT NULL, status TEXT NOT NULL, stack_light TEXT NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (machine, mes)) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mes INTEGER NOT NULL, machine TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (mes, key));
CREATE INDEX waiting ON message (mes, id);
CREATE INDEX superseded ON message (mes, machine, kind);
CREATE TABLE refused (
    id INTEGER PRIMARY KEY,
    mes INTEGER NOT NULL, machine TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
    reason TEXT NOT NULL, time TEXT NOT NULL);
"""
_SINCE_2 = """
CREATE TABLE estimate (
    machine TEXT NOT NULL, mes INTEGER NOT NULL, run TEXT NOT NULL, duration REAL NOT NULL,
    PRIMARY KEY (machine, mes)) WITHOUT ROWID;
CREATE TABLE reached (
    machine TEXT NOT NULL, mes INTEGER NOT NULL, time TEXT NOT NULL, status TEXT,
    PRIMARY KEY (machine, mes)) WITHOUT ROWID;
"""
_SCHEMA = _SCHEMA_1 + _SINCE_2

Estimate = tuple[str, float]
"""A job, and how long it is expected to take in seconds."""


KEPT_REFUSED = 10_000
"""How many refused messages are kept of each MES; of more, the oldest are given up."""

_LOOK_EVERY = 100
_VACUUM_PAGES = 100
_KEPT_FREE = 0.1


class MesError(Exception):
    """The MES side cannot work; the text says what happened, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be kept until MES instance `mes` has it. `look` is what a status is compared by."""

    mes: int
    machine: str
    kind: str
    key: str
    body: str
    look: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is not delivered yet; `id` rises in the order of delivery."""

    id: int
    machine: str
    kind: str
    key: str
    body: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the MES did not take, with the reason and the time when it said so."""

    machine: str
    kind: str
    key: str
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """When a machine's MES took something of it last, and the last status that it took."""

    time: datetime
    status: str | None


class Store:
    """The file ``mes.sqlite``. Raises `MesError` when it cannot be used, naming the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._refused = 0
        with self._explained():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection = open_database(path, _SCHEMA, LAYOUT, {1: _SINCE_2})
            except WrongLayout as error:
                raise MesError(f"{path}: {error}") from None

    def follow(self, log_id: str, end: int) -> int | None:
        """Count positions in the log with this id, which ends at `end`; returns the old cursor when it is worth
        nothing there.

        A log that was begun anew, or came back from a backup, gives out positions again: what gets them now
        would pass for dealt with.
        """
        known, position = self._rows("SELECT log, position FROM cursor")[0]
        if known == log_id and position <= end:
            return None
        with self._transaction() as connection:
            place = (log_id, end if known == log_id else 0)
            connection.execute("UPDATE cursor SET log = ?, position = ?", place)
        return int(position) if known else None

    @property
    def cursor(self) -> int:
        """Every record up to this position of the log is dealt with."""
        return int(self._rows("SELECT position FROM cursor")[0][0])

    def routes(self) -> dict[str, tuple[int, ...]]:
        """The MES instances of each machine, as they were last registered."""
        routes: dict[str, tuple[int, ...]] = {}
        for machine, mes in self._rows("SELECT machine, mes FROM route ORDER BY machine, mes"):
            routes[machine] = (*routes.get(machine, ()), mes)
        return routes

    def looks(self) -> dict[tuple[str, int], tuple[str, str]]:
        """By machine and MES instance, the newest status that was handed over for delivery."""
        rows = self._rows("SELECT machine, mes, status, stack_light FROM told")
        return {(machine, mes): (status, light) for machine, mes, status, light in rows}

    def estimates(self) -> dict[tuple[str, int], Estimate]:
        """By machine and MES instance, the last estimate that was handed over for delivery."""
        rows = self._rows("SELECT machine, mes, run, duration FROM estimate")
        return {(machine, mes): (run, duration) for machine, mes, run, duration in rows}

    def write(
        self,
        position: int,
        routes: Mapping[str, tuple[int, ...]],
        messages: Iterable[Outgoing],
        estimates: Mapping[tuple[str, int], Estimate] = MappingProxyType({}),
    ) -> None:
        """Keep `messages`, the new `routes` and `estimates`, and the cursor, all or nothing.

        A status supersedes one of the same machine that still waits: it is a state, and only the newest is
        true. Events are never dropped.
        """
        with self._transaction() as connection:
            connection.execute("UPDATE cursor SET position = max(position, ?)", (position,))
            for machine, mes_ids in routes.items():
                connection.execute("DELETE FROM route WHERE machine = ?", (machine,))
                connection.executemany("INSERT INTO route VALUES (?, ?)", [(machine, mes) for mes in mes_ids])
            for message in messages:
                _insert(connection, message)
            connection.executemany(
                "INSERT OR REPLACE INTO estimate VALUES (?, ?, ?, ?)",
                [(*place, *estimate) for place, estimate in estimates.items()],
            )

    def waiting(self, mes: int, limit: int, without: Collection[str] = ()) -> list[Waiting]:
        """The first messages for `mes`, in order, leaving out those of the machines `without`."""
        rows = self._rows(
            "SELECT id, machine, kind, key, body FROM message WHERE mes = ?"
            " AND machine NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (mes, json.dumps(list(without)), limit),
        )
        return [Waiting(*row) for row in rows]

    def counts(self, mes: int) -> tuple[int, int]:
        """How many messages wait for `mes`, and how many it refused."""
        row = self._rows(
            "SELECT (SELECT count(*) FROM message WHERE mes = :mes),"
            " (SELECT count(*) FROM refused WHERE mes = :mes)",
            {"mes": mes},
        )[0]
        return int(row[0]), int(row[1])

    def waits_since(self, mes: int) -> datetime | None:
        """When the first of the waiting events happened; None when no event waits."""
        rows = self._rows(
            "SELECT body FROM message WHERE mes = ? AND kind = ? ORDER BY id LIMIT 1", (mes, EVENT)
        )
        return wire.parse_time(json.loads(rows[0][0])["time"]) if rows else None

    def waiting_of(self, mes: int) -> dict[str, int]:
        """How many messages of each machine wait for `mes`."""
        return dict(
            self._rows("SELECT machine, count(*) FROM message WHERE mes = ? GROUP BY machine", (mes,))
        )

    def refused_of(self, mes: int) -> dict[str, int]:
        """How many messages of each machine `mes` refused."""
        return dict(
            self._rows("SELECT machine, count(*) FROM refused WHERE mes = ? GROUP BY machine", (mes,))
        )

    def refusals(self, mes: int, most: int = KEPT_REFUSED) -> list[Refused]:
        """The last messages that `mes` refused, in the order in which they were to be told."""
        rows = self._rows(
            "SELECT machine, kind, key, reason, time FROM refused WHERE mes = ? ORDER BY id DESC LIMIT ?",
            (mes, most),
        )
        return [
            Refused(machine, kind, key, reason, wire.parse_time(time))
            for machine, kind, key, reason, time in reversed(rows)
        ]

    def told(self, mes: int) -> dict[str, Told]:
        """By machine, what `mes` took last."""
        rows = self._rows("SELECT machine, time, status FROM reached WHERE mes = ?", (mes,))
        return {machine: Told(wire.parse_time(time), status) for machine, time, status in rows}

    def delivered(self, mes: int, messages: Sequence[Waiting]) -> None:
        """Forget messages that `mes` has, but for when that was and the last status."""
        now = wire.format_time(wire.utc_now())
        told: dict[str, str | None] = {}
        for message in messages:
            status = json.loads(message.body)["status"] if message.kind == STATUS else None
            told[message.machine] = status or told.get(message.machine)
        with self._transaction() as connection:
            connection.executemany("DELETE FROM message WHERE id = ?", [(one.id,) for one in messages])
            connection.executemany(
                "INSERT INTO reached VALUES (?, ?, ?, ?) ON CONFLICT (machine, mes) DO UPDATE"
                " SET time = excluded.time, status = coalesce(excluded.status, status)",
                [(machine, mes, now, status) for machine, status in told.items()],
            )

    def refuse(self, message: Waiting, reason: str) -> int:
        """Set a message aside that the MES does not take. Returns how many of the oldest were given up for it, so that
        no more than `KEPT_REFUSED` are kept of each MES, or a few more: that is looked after now and then."""
        with self._transaction() as connection:
            row = connection.execute("SELECT mes FROM message WHERE id = ?", (message.id,)).fetchone()
            if row is None:  # a newer status has taken its place
                return 0
            connection.execute(
                "INSERT OR IGNORE INTO refused SELECT id, mes, machine, kind, key, body, ?, ? FROM message"
                " WHERE id = ?",
                (reason, wire.format_time(wire.utc_now()), message.id),
            )
            connection.execute("DELETE FROM message WHERE id = ?", (message.id,))
            self._refused += 1
            if self._refused % _LOOK_EVERY:
                return 0
            return connection.execute(
                "DELETE FROM refused WHERE mes = :mes AND id <= (SELECT id FROM refused WHERE mes = :mes"
                " ORDER BY id DESC LIMIT 1 OFFSET :most)",
                {"mes": row[0], "most": KEPT_REFUSED},
            ).rowcount

    def tidy(self) -> None:
        """Give back what the file does not need any more, in steps that nobody waits for."""
        more = True
        while more:
            with self._transaction() as connection:
                more = give_back(connection, _VACUUM_PAGES, _KEPT_FREE)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        with self._explained():
            return self._path.stat().st_size

    def retry(self, mes: int, machine: str | None = None) -> int:
        """Let messages that `mes` refused wait once more, under their keys and before what came after them; all, or
        those of one machine. Returns how many. Of refused statuses the newest is told: only that is true."""
        chosen = "FROM refused WHERE mes = :mes AND (:machine IS NULL OR machine = :machine)"
        values = {"mes": mes, "machine": machine, "status": STATUS}
        with self._transaction() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO message SELECT id, mes, machine, kind, key, body {chosen} AND kind <> :status",
                values,
            )
            statuses = f"SELECT DISTINCT machine {chosen} AND kind = :status"
            for (one,) in connection.execute(statuses, values).fetchall():
                _tell_again(connection, one, mes, f"{one}:status:{uuid4().hex}")
            return connection.execute(f"DELETE {chosen}", values).rowcount

    def tell_again(self, machine: str, mes: int, key: str) -> None:
        """Let a MES that forgot the machine hear its newest status once more, under a new `key`."""
        with self._transaction() as connection:
            _tell_again(connection, machine, mes, key)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _rows(self, statement: str, values: Sequence[object] | dict[str, object] = ()) -> list[Any]:
        with self._lock, self._explained():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained(), transaction(self._connection) as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            advice = "check that the disk is not full and that the bridge's user may write there"
            if is_damaged(error):
                advice = (
                    "the file is damaged: bring it back from a backup, or move it away; a MES then never hears"
                    " what only stood there"
                )
            raise MesError(
                f"{self._path}: the messages for the MES cannot be kept: {error}; {advice}"
            ) from None


def _tell_again(connection: sqlite3.Connection, machine: str, mes: int, key: str) -> None:
    row = connection.execute(
        "SELECT status, stack_light, body FROM told WHERE machine = ? AND mes = ?", (machine, mes)
    ).fetchone()
    if row is not None:
        _insert(connection, Outgoing(mes, machine, STATUS, key, row[2], (row[0], row[1])))


def _insert(connection: sqlite3.Connection, message: Outgoing) -> None:
    if message.look is not None:
        connection.execute(
            "DELETE FROM message WHERE mes = ? AND machine = ? AND kind = ?",
            (message.mes, message.machine, STATUS),
        )
        connection.execute(
            "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?)",
            (message.machine, message.mes, *message.look, message.body),
        )
    connection.execute(
        "INSERT OR IGNORE INTO message (mes, machine, kind, key, body) VALUES (?, ?, ?, ?, ?)",
        (message.mes, message.machine, message.kind, message.key, message.body),
    )
