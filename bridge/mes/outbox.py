"""What is to be told to whom: transitions and registrations in, messages out, kept with the place in the log.

In flow what happened, in the order of the log; into the store flow messages and position in one transaction, so that a
crash at any moment neither loses nor doubles one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from bridge import wire
from bridge.machine import Machine, Transition
from bridge.mes.messages import OFFLINE, Status, estimate_changed, estimate_of, events_of, status_of
from bridge.mes.store import EVENT, STATUS, Estimate, Outgoing, Store


@dataclass(frozen=True, slots=True)
class Registered:
    """That a machine is reported to these MES instances from here on; `machine` is what it is by now."""

    machine_id: str
    mes_ids: tuple[int, ...]
    machine: Machine


class Outbox:
    """Works out what is to be told to whom, and keeps it. For one thread.

    `instances` are the MES instances, each with the seconds by which an estimate must change to be told again.
    Positions without a message are not written one by one: read again after a crash, they lead to nothing again.
    """

    def __init__(self, store: Store, instances: Mapping[int, float]) -> None:
        self._store = store
        self._estimate_change = dict(instances)
        self._instances = frozenset(instances)
        self._routes = store.routes()
        self._looks = store.looks()
        self._estimates = store.estimates()
        self.durable = store.cursor
        self._seen = self.durable

    def change(self, instances: Mapping[int, float]) -> None:
        """From here on these are the MES instances."""
        self._estimate_change = dict(instances)
        self._instances = frozenset(instances)

    def take(self, items: Iterable[Transition | Registered], position: int | None = None) -> frozenset[int]:
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
            if isinstance(item, Registered):
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
                yield Outgoing(mes, machine, EVENT, event.key, dump(event.body))

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
    return Outgoing(mes, machine, STATUS, f"{machine}:status:{uuid4().hex}", dump(status.body()), status.look)


def _has_moved(now: Estimate, told: Estimate | None, by: float) -> bool:
    return told is None or told[0] != now[0] or abs(now[1] - told[1]) >= by


def dump(body: Mapping[str, object]) -> str:
    """JSON as short as it can be."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
