"""What the sandbox MES knows, in one SQLite file: checked requests in, a picture of everything out.

A write and the memory of its idempotency key are one transaction. Jobs are made and updated from events;
machines show as Offline when the lease of their bridge has run out, or when it signed off. Which scheduled job a
detected one is, is worked out when somebody looks: so it does not depend on the order in which things were heard.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge import wire
from bridge.changes import Changes
from bridge.database import WrongLayout, open_database, transaction
from bridge.sandbox.bodies import TEXT_EVENTS, Event, Heartbeat, Planned, Registration, Status
from bridge.sandbox.matching import EARLY, Detected, Scheduled, match

_LAYOUT = 2
_SCHEMA_1 = """
CREATE TABLE machine (
    id TEXT PRIMARY KEY, bridge TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL, endpoint TEXT NOT NULL,
    node_id TEXT NOT NULL, identification TEXT NOT NULL, activation TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'Offline', since TEXT, stack_light TEXT NOT NULL DEFAULT 'off');
CREATE TABLE bridge (id TEXT PRIMARY KEY, lease_until TEXT NOT NULL);
CREATE TABLE job (
    number INTEGER PRIMARY KEY, machine TEXT NOT NULL, id TEXT NOT NULL, file TEXT NOT NULL,
    state TEXT NOT NULL, started TEXT NOT NULL, ended TEXT, estimated_duration REAL, print_time REAL,
    reason TEXT, UNIQUE (machine, id));
CREATE INDEX IF NOT EXISTS job_by_start ON job (machine, started);
CREATE TABLE event (
    number INTEGER PRIMARY KEY, machine TEXT NOT NULL, key TEXT NOT NULL, type TEXT NOT NULL,
    severity TEXT NOT NULL, time TEXT NOT NULL, received TEXT NOT NULL, job TEXT, text TEXT);
CREATE INDEX IF NOT EXISTS event_by_machine ON event (machine, number);
CREATE TABLE answered (
    key TEXT NOT NULL, request TEXT NOT NULL, digest TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (key, request)) WITHOUT ROWID;
"""
_SINCE_2 = """
CREATE TABLE scheduled (
    number INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, name TEXT NOT NULL,
    start TEXT NOT NULL, end TEXT NOT NULL);
CREATE INDEX scheduled_by_start ON scheduled (machine, start);
"""
_SCHEMA = _SCHEMA_1 + _SINCE_2
_STATE_AFTER = {"job_started": "running", "job_resumed": "running", "job_paused": "paused"}

Answer = dict[str, Any]


class SandboxError(Exception):
    """The sandbox cannot run; the text says why and what to do."""


class UnknownError(LookupError):
    """There is no such machine or bridge here."""


class ConflictError(ValueError):
    """An idempotency key came again with another body."""


class Store:
    """The file ``mes.sqlite`` in the sandbox's folder. May be used from any thread. Raises `SandboxError`."""

    def __init__(self, path: Path, activate: bool = True, now: Callable[[], datetime] = wire.utc_now) -> None:
        self._lock = threading.Lock()
        self._changes = Changes()
        self._shown_heard: dict[str, bool] = {}
        self._first_activation = "active" if activate else "pending"
        self._now = now
        try:
            self._connection = open_database(path, _SCHEMA, _LAYOUT, {1: _SINCE_2})
            self._connection.row_factory = sqlite3.Row
        except WrongLayout as error:
            raise SandboxError(f"{path}: {error}") from None
        except (OSError, sqlite3.Error) as error:
            raise SandboxError(f"{path}: cannot be used: {error}; choose another --folder") from None

    def once(
        self, key: str, request: str, digest: str, work: Callable[[sqlite3.Connection], Answer]
    ) -> Answer:
        """Do `work`, or give the answer that the same `key` and `request` got before.

        Raises `ConflictError` when the body, by its `digest`, was another one, and what `work` raises; then
        nothing is kept.
        """
        with self._transaction() as connection:
            known = connection.execute(
                "SELECT digest, answer FROM answered WHERE key = ? AND request = ?", (key, request)
            ).fetchone()
            if known is not None:
                if known["digest"] != digest:
                    raise ConflictError
                answer: Answer = json.loads(known["answer"])
                return answer
            answer = work(connection)
            connection.execute(
                "INSERT INTO answered VALUES (?, ?, ?, ?)", (key, request, digest, json.dumps(answer))
            )
            return answer

    def register(self, connection: sqlite3.Connection, machine: str, body: Registration) -> Answer:
        """Make or update a machine; answers with its activation."""
        connection.execute(
            "INSERT INTO machine (id, bridge, name, url, endpoint, node_id, identification, activation)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET bridge = excluded.bridge,"
            " name = excluded.name, url = excluded.url, endpoint = excluded.endpoint,"
            " node_id = excluded.node_id, identification = excluded.identification",
            (
                machine,
                body.bridge,
                body.name,
                body.url,
                body.endpoint,
                body.node_id,
                json.dumps(dict(body.identification)),
                self._first_activation,
            ),
        )
        self._changes.note(machine)
        row = connection.execute("SELECT activation FROM machine WHERE id = ?", (machine,)).fetchone()
        return {"machine_id": machine, "activation": row["activation"]}

    def set_status(self, connection: sqlite3.Connection, machine: str, body: Status) -> Answer:
        """Raises `UnknownError`."""
        since = wire.format_time(body.since) if body.since else None
        changed = connection.execute(
            "UPDATE machine SET status = ?, since = ?, stack_light = ? WHERE id = ?",
            (body.status, since, body.stack_light, machine),
        )
        if changed.rowcount == 0:
            raise UnknownError(f"machine {machine}")
        self._changes.note(machine)
        return {}

    def add_event(self, connection: sqlite3.Connection, machine: str, key: str, body: Event) -> Answer:
        """Keep an event, and what it says of a job. Raises `UnknownError`."""
        if connection.execute("SELECT 1 FROM machine WHERE id = ?", (machine,)).fetchone() is None:
            raise UnknownError(f"machine {machine}")
        self._changes.note(machine)
        connection.execute(
            "INSERT INTO event (machine, key, type, severity, time, received, job, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                machine,
                key,
                body.type,
                body.severity,
                wire.format_time(body.time),
                wire.format_time(self._now()),
                body.job.id if body.job else None,
                body.text,
            ),
        )
        if body.job is None or body.type in TEXT_EVENTS:
            return {}
        # Whatever comes first makes the job, with its true start; nothing opens an ended one again.
        known = connection.execute(
            "SELECT state FROM job WHERE machine = ? AND id = ?", (machine, body.job.id)
        ).fetchone()
        state = body.result or _STATE_AFTER.get(body.type) or (known["state"] if known else "running")
        connection.execute(
            "INSERT INTO job (machine, id, file, state, started, estimated_duration) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (machine, id) DO UPDATE SET state = excluded.state,"
            " estimated_duration = coalesce(excluded.estimated_duration, estimated_duration) WHERE ended IS NULL",
            (
                machine,
                body.job.id,
                body.job.file,
                state,
                wire.format_time(body.job.started),
                body.job.estimated_duration,
            ),
        )
        if body.result is not None:
            connection.execute(
                "UPDATE job SET ended = ?, print_time = ?, reason = ? WHERE machine = ? AND id = ? AND ended IS NULL",
                (wire.format_time(body.time), body.print_time, body.reason, machine, body.job.id),
            )
        return {}

    def beat(self, body: Heartbeat) -> None:
        """Renew a bridge's lease. Raises `UnknownError` when no machine is registered by it."""
        with self._transaction() as connection:
            if (
                connection.execute("SELECT 1 FROM machine WHERE bridge = ?", (body.bridge,)).fetchone()
                is None
            ):
                raise UnknownError(f"bridge {body.bridge}")
            self._lease(connection, body.bridge, self._now() + timedelta(seconds=body.lease))

    def sign_off(self, bridge: str) -> None:
        """End a bridge's lease now."""
        with self._transaction() as connection:
            self._lease(connection, bridge, self._now())

    def activate(self, machine: str) -> None:
        """A person lets the machine in. Raises `UnknownError`."""
        with self._transaction() as connection:
            if not connection.execute(
                "UPDATE machine SET activation = 'active' WHERE id = ?", (machine,)
            ).rowcount:
                raise UnknownError(f"machine {machine}")
            self._changes.note(machine)

    def schedule(self, machine: str, job: Planned) -> int:
        """Plan a job; returns its number. Raises `UnknownError`."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM machine WHERE id = ?", (machine,)).fetchone() is None:
                raise UnknownError(f"machine {machine}")
            cursor = connection.execute(
                "INSERT INTO scheduled (machine, name, start, end) VALUES (?, ?, ?, ?)",
                (machine, job.name, wire.format_time(job.start), wire.format_time(job.end)),
            )
            self._changes.note(machine)
            return int(cursor.lastrowid or 0)

    def unschedule(self, number: int) -> None:
        """Take a job out of the plan; what was printed stays. Raises `UnknownError`."""
        with self._transaction() as connection:
            row = connection.execute("SELECT machine FROM scheduled WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise UnknownError(f"scheduled job {number}")
            connection.execute("DELETE FROM scheduled WHERE number = ?", (number,))
            self._changes.note(row["machine"])

    def state(self, most: int | None, since: str | None = None) -> dict[str, Any]:
        """Everything, newest jobs and events first; at most so many of each for a machine, or all.

        `since` is the `mark` of an earlier answer: machines that have not changed after that are left out.
        """
        with self._lock:
            rows = self._connection.execute(
                "SELECT machine.*, lease_until FROM machine LEFT JOIN bridge ON bridge.id = bridge"
                " ORDER BY name, machine.id"
            ).fetchall()
            for row in rows:
                if self._shown_heard.get(row["id"]) is not self._is_heard(row):
                    self._shown_heard[row["id"]] = self._is_heard(row)
                    self._changes.note(row["id"])
            machines = [
                self._machine(row, -1 if most is None else most)
                for row in rows
                if self._changes.after(since, row["id"])
            ]
            mark = self._changes.mark
        return {
            "now": wire.format_time(self._now()),
            "mark": mark,
            "order": [row["id"] for row in rows],
            "machines": machines,
        }

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _machine(self, row: sqlite3.Row, most: int) -> dict[str, Any]:
        until, heard = row["lease_until"], self._is_heard(row)
        jobs = self._connection.execute(
            "SELECT id, file, state, started, ended, estimated_duration, print_time, reason FROM job"
            " WHERE machine = ? ORDER BY started DESC, number DESC LIMIT ?",
            (row["id"], most),
        )
        events = self._connection.execute(
            "SELECT key, type, severity, time, received, job, text FROM event"
            " WHERE machine = ? ORDER BY number DESC LIMIT ?",
            (row["id"], most),
        )
        scheduled = self._connection.execute(
            "SELECT number, name, start, end FROM scheduled WHERE machine = ? ORDER BY start DESC, number DESC",
            (row["id"],),
        ).fetchall()
        matches = self._matches(row["id"], scheduled)
        runs = {number: run for run, number in matches.items()}
        return {
            "id": row["id"],
            "name": row["name"],
            "url": row["url"],
            "opcua": {"endpoint": row["endpoint"], "node_id": row["node_id"]},
            "identification": json.loads(row["identification"]),
            "bridge": row["bridge"],
            "activation": row["activation"],
            "status": row["status"] if heard else "Offline",
            "since": row["since"] if heard else until,
            "stack_light": row["stack_light"] if heard else "off",
            "lease_until": until,
            "schedule": [
                {**dict(one), "job": runs.get(one["number"])}
                for one in scheduled[: most if most >= 0 else None]
            ],
            "jobs": [{**dict(job), "scheduled": matches.get(job["id"])} for job in jobs],
            "events": [dict(event) for event in events],
        }

    def _is_heard(self, row: sqlite3.Row) -> bool:
        """Whether the lease of the machine's bridge runs."""
        until = row["lease_until"]
        return until is not None and self._now() < wire.parse_time(until)

    def _matches(self, machine: str, rows: Sequence[sqlite3.Row]) -> dict[str, int]:
        if not rows:
            return {}
        scheduled = [
            Scheduled(row["number"], wire.parse_time(row["start"]), wire.parse_time(row["end"]))
            for row in rows
        ]
        started = self._connection.execute(
            "SELECT id, started FROM job WHERE machine = ? AND started >= ?",
            (machine, wire.format_time(min(one.start for one in scheduled) - EARLY)),
        )
        return match(scheduled, [Detected(row["id"], wire.parse_time(row["started"])) for row in started])

    @staticmethod
    def _lease(connection: sqlite3.Connection, bridge: str, until: datetime) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO bridge VALUES (?, ?)", (bridge, wire.format_time(until.astimezone(UTC)))
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._connection) as connection:
            yield connection


def digest_of(body: Mapping[str, Any]) -> str:
    """What two bodies with the same meaning have in common."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
