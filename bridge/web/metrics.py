"""What the bridge does, in figures: ``/metrics`` for Prometheus.

In: the parts, read when somebody asks, so that nothing is counted for this but what they count anyway. Out: text. No
label has values from outside but names, versions and heaters of machines that are served.
"""

from __future__ import annotations

import asyncio
import hmac
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from aiohttp import web

from bridge import __version__, wire
from bridge.fleet import Fleet
from bridge.log import LogError
from bridge.log.sqlite import SqliteLog
from bridge.machine import Link, Machine
from bridge.mes import DeliveryLoad, MesError, MesSink
from bridge.sources.push import Counts
from bridge.umati import UmatiServer
from bridge.web import catalogue as known
from bridge.web import process
from bridge.web.exposition import OPENMETRICS, TEXT, Metric, Sample, render

log = structlog.get_logger(__name__)

Family = tuple[Metric, list[Sample]]
_STATES = sorted(wire.STATES)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is read: `names` by machine id, `events` by source since the start, `log_limit` in bytes."""

    fleet: Fleet
    log: SqliteLog
    mes: MesSink
    umati: UmatiServer
    pushes: Counts
    names: Callable[[], Mapping[str, str]]
    log_limit: Callable[[], int]
    events: Mapping[str, Callable[[], int]]


class Metrics:
    """Answers whoever shows the token in `token_file` or, when there is no such file, is `allowed`. A file closes it on
    loopback, too: what stands before the bridge may be open to others."""

    def __init__(
        self, parts: Parts, allowed: Callable[[web.Request], bool], token_file: Path | None = None
    ) -> None:
        self._parts = parts
        self._allowed = allowed
        self._token_file = token_file
        self._told = False

    def add_routes(self, application: web.Application) -> None:
        """Have `application` answer."""
        application.router.add_get("/metrics", self._show)

    async def _show(self, request: web.Request) -> web.Response:
        if not await self._may_see(request):
            raise web.HTTPUnauthorized(
                headers={"WWW-Authenticate": 'Bearer realm="MESBridge"'},
                text="metrics need the token of web.metrics_token_file, as Authorization: Bearer\n",
            )
        families = await collect(self._parts)
        openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
        text = await asyncio.to_thread(render, families, openmetrics)
        kind = OPENMETRICS if openmetrics else TEXT
        return web.Response(body=text.encode(), headers={"Content-Type": kind, "Cache-Control": "no-store"})

    async def _may_see(self, request: web.Request) -> bool:
        if self._token_file is None:
            return self._allowed(request)
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            token = (await asyncio.to_thread(self._token_file.read_bytes)).strip()
        except OSError as error:
            if not self._told:
                self._told = True
                log.error(
                    "nobody may read /metrics: the file of web.metrics_token_file cannot be read; make it readable for"
                    " the bridge's user",
                    file=str(self._token_file),
                    error=error.strerror or str(error),
                )
            return False
        self._told = False
        return bool(token) and hmac.compare_digest(said.strip().encode(errors="replace"), token)


async def collect(parts: Parts) -> list[Family]:
    """Everything, as it is now; what the disk has to say is asked for in another thread."""
    disk = await asyncio.to_thread(_Disk.of, parts)
    return [
        (known.BUILD, [((__version__, platform.python_version()), 1)]),
        *process.figures(),
        *_incoming(parts),
        *_log(parts, disk),
        *_lag(parts, disk),
        *_mes(disk),
        *_opcua(parts.umati),
        *_machines(parts.fleet, parts.names()),
    ]


@dataclass(frozen=True, slots=True)
class _Disk:
    """What the stores say: the log's `end` and sizes, and each MES; None and nothing when one cannot be read."""

    end: int | None
    log_size: tuple[int, int]
    loads: tuple[DeliveryLoad, ...] = ()
    mes_size: int | None = None

    @classmethod
    def of(cls, parts: Parts) -> _Disk:
        try:
            end = parts.log.end
        except LogError:
            end = None
        try:
            return cls(end, parts.log.size, parts.mes.loads(), parts.mes.size)
        except MesError:
            return cls(end, parts.log.size)


def _one(metric: Metric, value: float | None) -> Family:
    return metric, [] if value is None else [((), value)]


def _incoming(parts: Parts) -> Iterator[Family]:
    counts = parts.pushes
    yield known.EVENTS, [((source,), count()) for source, count in parts.events.items()]
    yield _one(known.BATCHES, counts.batches)
    yield _one(known.GAPS, counts.gaps)
    yield _one(known.SNAPSHOTS, counts.snapshot_requests)
    yield known.REFUSED_PUSHES, [((reason,), count) for reason, count in sorted(counts.refused.items())]


def _log(parts: Parts, disk: _Disk) -> Iterator[Family]:
    database, wal = disk.log_size
    yield known.LOG_SIZE, [(("database",), database), (("wal",), wal)]
    yield _one(known.LOG_LIMIT, parts.log_limit())
    yield _one(known.LOG_POSITION, disk.end)
    yield _one(known.LOG_CHECKPOINT, parts.fleet.saved)
    yield _one(known.LOG_FORGOTTEN, parts.log.forgotten)
    yield _one(known.LOG_FAILURES, parts.log.failures)


def _lag(parts: Parts, disk: _Disk) -> Iterator[Family]:
    # OPC UA is shown each record on the event loop at once, so that it is where the machines are.
    behind = [] if disk.end is None else [(("opcua",), max(0, disk.end - parts.fleet.position))]
    yield (
        known.LAG_EVENTS,
        [
            *behind,
            (("mes",), parts.mes.handed),
            *(((f"mes-{one.mes}",), one.waiting) for one in disk.loads),
        ],
    )
    yield known.LAG_SECONDS, [((f"mes-{one.mes}",), _age(one.waits_since)) for one in disk.loads]


def _age(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (wire.utc_now() - since).total_seconds())


def _mes(disk: _Disk) -> Iterator[Family]:
    yield _one(known.MES_SIZE, disk.mes_size)
    by_mes = [(str(one.mes), one) for one in disk.loads]
    yield (
        known.MES_REQUESTS,
        [((mes, outcome), count) for mes, one in by_mes for outcome, count in one.requests.items()],
    )
    yield known.MES_WAITING, [((mes,), one.waiting) for mes, one in by_mes]
    yield known.MES_REFUSED, [((mes,), one.refused) for mes, one in by_mes]
    yield known.MES_REACHABLE, [((mes,), int(one.reachable)) for mes, one in by_mes]
    yield known.MES_MACHINES, [((mes,), one.registered) for mes, one in by_mes]


def _opcua(umati: UmatiServer) -> Iterator[Family]:
    load = umati.load
    yield _one(known.CONNECTIONS, load.connections)
    yield _one(known.SESSIONS, load.sessions)
    yield _one(known.SUBSCRIPTIONS, load.subscriptions)
    yield _one(known.ITEMS, load.monitored_items)
    yield _one(known.NOTIFICATIONS, load.notifications)
    yield _one(known.REJECTED_SESSIONS, load.rejected_sessions)
    yield _one(known.REJECTED_REQUESTS, load.rejected_requests)


def _machines(fleet: Fleet, names: Mapping[str, str]) -> Iterator[Family]:
    served: list[tuple[tuple[str, str], Machine]] = [
        ((machine, name), fleet[machine]) for machine, name in names.items()
    ]
    yield _one(known.MACHINES, len(served))
    yield (
        known.MACHINE,
        [
            ((*who, one.printer.octoprint_version, one.printer.plugin_version or ""), 1)
            for who, one in served
            if one.printer is not None
        ],
    )
    yield known.UP, [(who, int(one.link is Link.UP)) for who, one in served]
    yield known.HEARD, [(who, one.heard.timestamp()) for who, one in served if one.heard is not None]
    yield (
        known.STATE,
        [((*who, state), int(state == one.state)) for who, one in served for state in _STATES],
    )
    running = [(who, one.active_job) for who, one in served]
    yield (
        known.PROGRESS,
        [
            (who, job.completion / 100)
            for who, job in running
            if job is not None and job.completion is not None
        ],
    )
    yield (
        known.JOBS,
        [
            ((*who, result), count)
            for who, one in served
            for result, count in (
                ("completed", one.counters.jobs_completed),
                ("cancelled", one.counters.jobs_cancelled),
                ("failed", one.counters.jobs_failed),
            )
        ],
    )
    yield known.PRINTING, [(who, one.counters.printing) for who, one in served]
    heaters = [(who, name, heater) for who, one in served for name, heater in one.heaters.items()]
    yield known.ACTUAL, [((*who, name), h.actual) for who, name, h in heaters if h.actual is not None]
    yield known.TARGET, [((*who, name), h.target) for who, name, h in heaters if h.target is not None]
