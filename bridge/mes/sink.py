"""The MES side of the bridge: transitions and registrations in, each MES instance told of them.

The event loop only puts things into a queue. One writer thread takes what has come together, works out the
messages, and keeps them with the position in the log in one transaction of the store; one `Delivery` for each
MES instance takes them from there.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog

from bridge import wire
from bridge.machine import Machine, Transition
from bridge.mes.delivery import Delivery, DeliveryState, Pace
from bridge.mes.messages import (
    OFFLINE,
    Status,
    estimate_changed,
    estimate_of,
    events_of,
    matters,
    status_of,
)
from bridge.mes.store import EVENT, STATUS, Estimate, MesError, Outgoing, Refused, Store
from bridge.settings import MesSettings

log = structlog.get_logger(__name__)

_MOST_ITEMS_A_COMMIT = 5000
_RETRY_S = 2.0
_STOP_WITHIN_S = 5.0
_LONGEST_TEXT = 512


@dataclass(frozen=True, slots=True)
class Registration:
    """What a MES is told of a machine once: its name, the OctoPrint's url, and where it stands on OPC UA."""

    name: str
    url: str
    opcua_endpoint: str
    opcua_node_id: str
    identification: Mapping[str, str | int]

    def body(self, bridge_id: str) -> str:
        """As the contract has it, in JSON; longer texts than it allows are cut, else nothing would be taken."""
        return _dump(
            {
                "bridge": bridge_id,
                "name": self.name[:_LONGEST_TEXT],
                "url": self.url,
                "opcua": {"endpoint": self.opcua_endpoint, "node_id": self.opcua_node_id},
                "identification": {
                    name: value[:_LONGEST_TEXT] if isinstance(value, str) else value
                    for name, value in self.identification.items()
                },
            }
        )


@dataclass(frozen=True, slots=True)
class _Registered:
    machine_id: str
    mes_ids: tuple[int, ...]
    body: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class _Drained:
    """Whoever waits, and the position up to which everything was handed over when it began to."""

    position: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


_Item = Transition | _Registered | _Drained | None


class MesSink:
    """Reports machines to the MES `instances`; keeps what waits in ``mes.sqlite`` in `state_folder`.

    Positions are those of the log `log_id`, which ends at `log_end` when the sink is made.
    A MES whose token is missing or wrong is named in the log, and its messages are kept until the token is
    right; the others are served meanwhile. Machines may be registered and transitions handed over before
    `start`, which then takes them as one. Raises `MesError` when the store cannot be used.
    """

    def __init__(
        self,
        instances: tuple[MesSettings, ...],
        state_folder: Path,
        bridge_id: str,
        log_id: str,
        log_end: int,
        pace: Pace | None = None,
    ) -> None:
        self._bridge_id = bridge_id
        self._store = Store(state_folder / "mes.sqlite")
        stale = self._store.follow(log_id, log_end)
        if stale is not None:
            log.warning(
                "the log is another one, or an older copy: the place in it is not trusted; what the MES knows"
                " already is told again under the same keys",
                was_at=stale,
                log_ends_at=log_end,
            )
        self._deliveries = {one.id: Delivery(one, self._store, bridge_id, pace=pace) for one in instances}
        self._outbox = Outbox(self._store, {one.id: one.estimate_change for one in instances})
        self.registered = frozenset(self._store.routes())
        """The machines that are registered when the sink is made, by an earlier run."""
        self._handed = 0
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write, name="mes-writer", daemon=True)

    def start(self) -> None:
        """Begin to keep and to deliver."""
        self._writer.start()
        for delivery in self._deliveries.values():
            delivery.start()

    async def stop(self) -> None:
        """Keep what was handed over, deliver what can be, sign off; all within a bounded time."""
        self._stopping.set()
        self._items.put(None)
        ended = True
        if self._writer.is_alive():
            await asyncio.to_thread(self._writer.join, _STOP_WITHIN_S)
            stops = [asyncio.to_thread(one.stop, _STOP_WITHIN_S) for one in self._deliveries.values()]
            ended = all(await asyncio.gather(*stops)) and not self._writer.is_alive()
        if ended:  # else a thread still waits for an answer, and ends with the process
            self._store.close()

    def register(
        self, machine_id: str, mes_ids: tuple[int, ...], registration: Registration, machine: Machine
    ) -> None:
        """Let the MES instances know the machine, and its status unless that is what they heard last.

        What is handed over from here on goes to these instances; so it does after a restart, before the
        machine is registered again.
        """
        self._items.put(_Registered(machine_id, mes_ids, registration.body(self._bridge_id), machine))

    def withdraw(self, machine_id: str) -> None:
        """The machine is not reported any more: its MES instances are told that it is Offline, and then nothing."""
        self._items.put(_Registered(machine_id, (), "", Machine()))

    def handle(self, transition: Transition) -> None:
        """Take a transition; in order of position. One that was dealt with before changes nothing."""
        self._handed = transition.record.position
        if matters(transition):
            self._items.put(transition)

    async def drain(self) -> int:
        """Wait until everything handed over is durable; returns the position up to which it is.

        Raises `MesError` when the store cannot be written now, and when the sink does not run; nothing is lost,
        and it is tried again.
        """
        if not self._writer.is_alive():
            raise MesError("what is handed over for the MES is not kept: that part does not run")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._items.put(_Drained(self._handed, loop, future))
        return await future

    def states(self) -> tuple[DeliveryState, ...]:
        """How it stands with each MES instance. Raises `MesError`."""
        return tuple(one.state() for one in self._deliveries.values())

    def refusals(self, mes: int) -> list[Refused]:
        """What the MES did not take. Raises `MesError`."""
        return self._store.refusals(mes)

    def retry(self, mes: int, machine: str | None = None) -> int:
        """Send once more what the MES refused, all or what is of one machine; returns how many messages that are.
        Raises `MesError`."""
        return self._deliveries[mes].retry(machine)

    def _write(self) -> None:
        pending: list[_Item] = []
        failing = False
        while True:
            if not pending:
                pending.append(self._items.get())
            while len(pending) < _MOST_ITEMS_A_COMMIT and not self._items.empty():
                pending.append(self._items.get_nowait())
            try:
                self._take(pending)
            except Exception as error:  # shown and tried again: without this thread no MES hears anything
                if not failing:
                    unforeseen = not isinstance(error, MesError)
                    log.error(
                        "messages for the MES cannot be kept; they wait in memory",
                        error=str(error),
                        exc_info=unforeseen,
                    )
                failing = True
                told = error if isinstance(error, MesError) else MesError(f"unexpected failure: {error!r}")
                _answer(pending, partial(_fail, told))
                if self._stopping.wait(_RETRY_S):
                    return
                pending = [item for item in pending if not isinstance(item, _Drained)]
                continue
            if failing:
                log.info("messages for the MES can be kept again")
                failing = False
            if None in pending:
                return
            pending.clear()

    def _take(self, items: Sequence[_Item]) -> None:
        for item in items:
            if isinstance(item, _Registered):
                for mes in item.mes_ids:
                    if mes in self._deliveries:
                        self._deliveries[mes].register(item.machine_id, item.body)
        drained = [item.position for item in items if isinstance(item, _Drained)]
        news = [item for item in items if isinstance(item, (Transition, _Registered))]
        told = self._outbox.take(news, max(drained, default=None))
        position = self._outbox.durable
        _answer(items, lambda future: future.set_result(position))
        for mes in told:
            self._deliveries[mes].wake()


class Outbox:
    """Works out what is to be told to whom, and keeps it. For one thread.

    `instances` are the MES instances, each with the seconds by which an estimate must change to be told again.
    Positions without a message are not written one by one: read again after a crash, they lead to nothing again.
    """

    def __init__(self, store: Store, instances: Mapping[int, float]) -> None:
        self._store = store
        self._instances = frozenset(instances)
        self._estimate_change = instances
        self._routes = store.routes()
        self._looks = store.looks()
        self._estimates = store.estimates()
        self.durable = store.cursor
        self._seen = self.durable

    def take(self, items: Iterable[Transition | _Registered], position: int | None = None) -> frozenset[int]:
        """Keep what `items` lead to; returns the MES instances that have something new waiting.

        With a `position`, everything up to it is dealt with and durable afterwards. Of each machine only the
        last status of `items` is told. Raises `MesError`; then nothing is kept, and the same items may be given
        again.
        """
        routes: dict[str, tuple[int, ...]] = {}
        left: set[tuple[str, int]] = set()
        events: list[Outgoing] = []
        courses: dict[str, _Course] = {}
        estimates: dict[tuple[str, int], Estimate] = {}
        seen = max(self._seen, position or 0)
        for item in items:
            if isinstance(item, _Registered):
                known = self._instances.intersection(item.mes_ids)
                before = routes.get(item.machine_id, self._routes.get(item.machine_id, ()))
                # A MES whose settings are gone is told that the machine has left it once they are there again.
                now = tuple(sorted(known.union(before) - (self._instances - known)))
                if now != before:
                    routes[item.machine_id] = now
                    left.update((item.machine_id, mes) for mes in self._instances.intersection(before))
                left.difference_update((item.machine_id, mes) for mes in known)
                _follow(courses, item.machine_id, status_of(item.machine))
            else:
                machine = item.record.machine
                _follow(courses, machine, status_of(item.after))
                if item.record.position > self._seen:
                    seen = max(seen, item.record.position)
                    targets = self._instances.intersection(routes.get(machine, self._routes.get(machine, ())))
                    events += self._events(item, sorted(targets), estimates)
        messages = [*events, *self._statuses(courses, {**self._routes, **routes}), *self._farewells(left)]
        if messages or routes or (position is not None and seen > self.durable):
            self._store.write(seen, routes, messages, estimates)
            self.durable = seen
        self._seen = seen
        self._routes.update(routes)
        self._estimates.update(estimates)
        self._looks.update({(m.machine, m.mes): m.look for m in messages if m.look is not None})
        return frozenset(message.mes for message in messages)

    def _events(
        self, transition: Transition, instances: Sequence[int], estimates: dict[tuple[str, int], Estimate]
    ) -> Iterable[Outgoing]:
        """What each MES hears of the transition; `estimates` are those told in this batch, and become so here."""
        machine, known = transition.record.machine, events_of(transition)
        estimate = estimate_of(transition.after)
        for mes in instances:
            told = known
            if estimate is not None:
                last = estimates.get((machine, mes), self._estimates.get((machine, mes)))
                of_job = any(event.body["job"] is not None for event in known)
                if not of_job and _has_moved(estimate, last, self._estimate_change[mes]):
                    told = (*known, estimate_changed(transition))
                if told is not known or of_job:
                    estimates[machine, mes] = estimate
            for event in told:
                yield Outgoing(mes, machine, EVENT, event.key, _dump(event.body))

    def _statuses(
        self, courses: Mapping[str, _Course], routes: Mapping[str, tuple[int, ...]]
    ) -> Iterable[Outgoing]:
        for machine, course in courses.items():
            for mes in sorted(self._instances.intersection(routes.get(machine, ()))):
                if course.turned or self._looks.get((machine, mes)) != course.status.look:
                    yield _outgoing(mes, machine, course.status)

    def _farewells(self, left: Iterable[tuple[str, int]]) -> Iterable[Outgoing]:
        """Else the lease, which is one for all machines of the bridge, would hold up their last status for ever."""
        status = Status(OFFLINE, "off", wire.utc_now())
        for machine, mes in sorted(left):
            if self._looks.get((machine, mes)) != status.look:
                yield _outgoing(mes, machine, status)


@dataclass(frozen=True, slots=True)
class _Course:
    """The last status of a machine in a batch, and whether there were others before it."""

    status: Status
    turned: bool = False


def _follow(courses: dict[str, _Course], machine: str, status: Status) -> None:
    """Note a status. One that looks like the last goes on, and the last knows better since when; one that comes
    back after another has begun anew, and is told though it looks like what was told last."""
    known = courses.get(machine)
    if known is None or known.status.look != status.look:
        courses[machine] = _Course(status, turned=known is not None)


def _outgoing(mes: int, machine: str, status: Status) -> Outgoing:
    return Outgoing(
        mes, machine, STATUS, f"{machine}:status:{uuid4().hex}", _dump(status.body()), status.look
    )


def _has_moved(now: Estimate, told: Estimate | None, by: float) -> bool:
    return told is None or told[0] != now[0] or abs(now[1] - told[1]) >= by


def _fail(error: MesError, future: asyncio.Future[int]) -> None:
    future.set_exception(error)


def _answer(items: Iterable[_Item], answer: Callable[[asyncio.Future[int]], None]) -> None:
    def settle(future: asyncio.Future[int]) -> None:
        if not future.done():
            answer(future)

    for item in items:
        if isinstance(item, _Drained):
            item.loop.call_soon_threadsafe(settle, item.future)


def _dump(body: Mapping[str, object]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
