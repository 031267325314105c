"""The MES side of the bridge: transitions and registrations in, each MES instance told of them.

The event loop only puts things into a queue. One writer thread takes what has come together, works out the
messages, and keeps them with the position in the log in one transaction of the store; one `Delivery` for each
MES instance takes them from there.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from bridge.machine import Machine, Transition
from bridge.mes.delivery import Delivery
from bridge.mes.messages import matters
from bridge.mes.outbox import Outbox, Registered, dump
from bridge.mes.states import DeliveryLoad, DeliveryState
from bridge.mes.store import MesError, Refused, Store
from bridge.mes.trouble import Pace
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
        return dump(
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
class _Registering:
    """A machine, and the body of its registration."""

    what: Registered
    body: str


@dataclass(frozen=True, slots=True)
class _Drained:
    """Whoever waits, and the position up to which everything was handed over when it began to."""

    position: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


@dataclass(frozen=True, slots=True)
class _Changed:
    """The MES instances are others from here on: each with what delivers to it, and new ones that are to start."""

    deliveries: Mapping[int, Delivery]
    begun: Mapping[int, Delivery]
    ended: Mapping[int, Delivery]
    moved: frozenset[int]
    machines: Sequence[_Registering]


_Item = Transition | _Registering | _Drained | _Changed | None


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
        self._pace = pace
        self._deliveries = {one.id: self._delivery(one) for one in instances}
        self._ending: dict[int, Delivery] = {}
        self._outbox = Outbox(self._store, {one.id: one.estimate_change for one in instances})
        self.registered = frozenset(self._store.routes())
        """The machines that are registered when the sink is made, by an earlier run."""
        self._instances = {one.id: one for one in instances}
        self._known = dict(self._deliveries)  # by the loop's time; the writer comes to it later
        self._handed = 0
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write, name="mes-writer", daemon=True)

    @property
    def position(self) -> int:
        """Up to this position of the log everything is dealt with, and durable."""
        return self._outbox.durable

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
            ending = [one for one in self._ending.values() if not one.wait(0.0)]
            stops = [asyncio.to_thread(one.stop, _STOP_WITHIN_S) for one in self._deliveries.values()]
            stops += [asyncio.to_thread(one.wait, _STOP_WITHIN_S) for one in ending]
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
        self._items.put(self._registering(machine_id, mes_ids, registration, machine))

    def withdraw(self, machine_id: str) -> None:
        """The machine is not reported any more: its MES instances are told that it is Offline, and then nothing."""
        self._items.put(_Registering(Registered(machine_id, (), Machine()), ""))

    def change(
        self,
        instances: tuple[MesSettings, ...],
        machines: Iterable[tuple[str, tuple[int, ...], Registration, Machine]],
    ) -> None:
        """Report to these `instances` from here on; after `start`. Only those that are others begin or end.

        `machines` are all that are served, as they are registered. What waits for a MES whose settings changed goes
        there as they are now; what waits for one that is gone is kept until it is there again.
        """
        before, now = self._instances, {one.id: one for one in instances}
        begun = {mes: self._delivery(one) for mes, one in now.items() if before.get(mes) != one}
        self._items.put(
            _Changed(
                {mes: begun.get(mes) or self._known[mes] for mes in now},
                begun,
                {mes: one for mes, one in self._known.items() if mes in begun or mes not in now},
                frozenset(mes for mes in begun if mes in before and _place(before[mes]) != _place(now[mes])),
                [self._registering(*one) for one in machines],
            )
        )
        self._instances = now
        self._known = {mes: begun.get(mes) or self._known[mes] for mes in now}

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

    @property
    def runs(self) -> bool:
        """Whether what is handed over is kept."""
        return self._writer.is_alive()

    @property
    def handed(self) -> int:
        """How many items were handed over and are not kept yet."""
        return self._items.qsize()

    def loads(self) -> tuple[DeliveryLoad, ...]:
        """Each MES instance in figures. Raises `MesError`."""
        return tuple(one.load() for one in self._deliveries.values())

    def refusals(self, mes: int, most: int) -> list[Refused]:
        """The last `most` messages that the MES did not take. Raises `MesError`."""
        return self._store.refusals(mes, most)

    def tidy(self) -> None:
        """Make the store as small as it can be; blocks. Raises `MesError`."""
        self._store.tidy()

    @property
    def size(self) -> int:
        """Bytes that the store takes. Raises `MesError`."""
        return self._store.size

    def retry(self, mes: int, machine: str | None = None) -> int:
        """Send once more what the MES refused, all or what is of one machine; returns how many messages that are.
        Raises `MesError`."""
        return self._deliveries[mes].retry(machine)

    def _delivery(self, settings: MesSettings) -> Delivery:
        return Delivery(settings, self._store, self._bridge_id, pace=self._pace)

    def _registering(
        self, machine_id: str, mes_ids: tuple[int, ...], registration: Registration, machine: Machine
    ) -> _Registering:
        return _Registering(Registered(machine_id, mes_ids, machine), registration.body(self._bridge_id))

    def _write(self) -> None:
        pending: list[_Item] = []
        failing = False
        while True:
            if not pending:
                pending.append(self._items.get())
            while len(pending) < _MOST_ITEMS_A_COMMIT and not self._items.empty():
                pending.append(self._items.get_nowait())
            try:
                self._take_all(pending)
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

    def _take_all(self, pending: list[_Item]) -> None:
        """Take the items in order; where the MES instances change, what came before is done with first."""
        while (change := next((one for one in pending if isinstance(one, _Changed)), None)) is not None:
            at = pending.index(change)
            if at:
                self._take(pending[:at])
                del pending[:at]
            self._change(change)
            pending[:1] = change.machines
        self._take(pending)

    def _change(self, change: _Changed) -> None:
        for mes, one in change.ended.items():
            stays = mes in change.begun and mes not in change.moved
            one.retire(_STOP_WITHIN_S, deliver=mes not in change.begun, sign_off=not stays)
        self._outbox.change({mes: one.settings.estimate_change for mes, one in change.deliveries.items()})
        registered = {one.what.machine_id: one for one in change.machines}
        for mes, one in change.begun.items():
            if mes in change.ended:
                one.take_over(change.ended[mes])
            for machine, what in registered.items():
                if mes in what.what.mes_ids:
                    one.register(machine, what.body)
        ending = {**self._ending, **change.ended}
        self._deliveries = dict(change.deliveries)
        for mes, one in change.begun.items():
            one.start(ending.get(mes), elsewhere=mes in change.moved)
        self._ending = {mes: one for mes, one in ending.items() if not one.wait(0.0)}

    def _take(self, items: Sequence[_Item]) -> None:
        registered: dict[str, tuple[int, ...]] = {}
        for item in items:
            if isinstance(item, _Registering):
                registered[item.what.machine_id] = item.what.mes_ids
                for mes in item.what.mes_ids:
                    if mes in self._deliveries:
                        self._deliveries[mes].register(item.what.machine_id, item.body)
        drained = [item.position for item in items if isinstance(item, _Drained)]
        news = [
            item.what if isinstance(item, _Registering) else item
            for item in items
            if isinstance(item, (Transition, _Registering))
        ]
        told = self._outbox.take(news, max(drained, default=None))
        position = self._outbox.durable
        _answer(items, lambda future: future.set_result(position))
        for mes, delivery in self._deliveries.items():
            for machine, mes_ids in registered.items():
                if mes not in mes_ids:
                    delivery.unregister(machine)
        for mes in told:
            self._deliveries[mes].wake()


def _place(settings: MesSettings) -> tuple[object, ...]:
    """Which MES it is, however it is spoken to."""
    return settings.url, settings.adapter, settings.service_id, settings.path


def _fail(error: MesError, future: asyncio.Future[int]) -> None:
    future.set_exception(error)


def _answer(items: Iterable[_Item], answer: Callable[[asyncio.Future[int]], None]) -> None:
    def settle(future: asyncio.Future[int]) -> None:
        if not future.done():
            answer(future)

    for item in items:
        if isinstance(item, _Drained):
            item.loop.call_soon_threadsafe(settle, item.future)
