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
from bridge.mes.delivery import Delivery, DeliveryLoad, DeliveryState, Pace
from bridge.mes.messages import matters
from bridge.mes.outbox import Outbox, Registered, dump
from bridge.mes.store import MesError, Refused, Store
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


_Item = Transition | _Registering | _Drained | None


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
        self._items.put(
            _Registering(Registered(machine_id, mes_ids, machine), registration.body(self._bridge_id))
        )

    def withdraw(self, machine_id: str) -> None:
        """The machine is not reported any more: its MES instances are told that it is Offline, and then nothing."""
        self._items.put(_Registering(Registered(machine_id, (), Machine()), ""))

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
            if isinstance(item, _Registering):
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
        for mes in told:
            self._deliveries[mes].wake()


def _fail(error: MesError, future: asyncio.Future[int]) -> None:
    future.set_exception(error)


def _answer(items: Iterable[_Item], answer: Callable[[asyncio.Future[int]], None]) -> None:
    def settle(future: asyncio.Future[int]) -> None:
        if not future.done():
            answer(future)

    for item in items:
        if isinstance(item, _Drained):
            item.loop.call_soon_threadsafe(settle, item.future)
