"""Whether each OctoPrint is heard of. In flow signs of life, out flow `link` events in the log.

They are events like any other, so that a replayed log shows the same silence.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from bridge import wire
from bridge.log import OWN, Log, LogError
from bridge.machine.transition import LINK

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watched:
    """One machine: `up` is what the log says, or None before it says anything."""

    heard: float
    up: bool | None = None
    # One of its own, not Presence's: a machine that comes back counts from 0 again, and the log would take what it
    # has of an instance for a repetition.
    instance: str = field(default_factory=lambda: OWN + secrets.token_hex(8))
    seq: int = 0
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Presence:
    """Watches over the machines added; `silent_after` in seconds, and may be changed. `clock` is monotonic, in
    seconds."""

    def __init__(self, store: Log, silent_after: float, clock: Callable[[], float]) -> None:
        self._store = store
        self.silent_after = silent_after
        self._clock = clock
        self._machines: dict[str, _Watched] = {}

    def add(self, machine: str) -> None:
        """Watch over `machine` from now on."""
        self._machines[machine] = _Watched(heard=self._clock())

    def forget(self, machine: str) -> None:
        """Watch over `machine` no longer."""
        self._machines.pop(machine, None)

    async def heard(self, machine: str, how: str = "the plugin delivers") -> None:
        """A sign of life from `machine`; `how` says where from. Of one that is not watched over nothing follows.
        Raises `LogError`."""
        watched = self._machines.get(machine)
        if watched is None:
            return
        watched.heard = self._clock()
        async with watched.telling:
            if not watched.up:
                await self._tell(machine, watched, up=True, detail=how)

    async def watch(self) -> None:
        """Notice silence, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self.silent_after / 5))
            for machine, watched in tuple(self._machines.items()):
                if self._silent(watched):
                    await self._lost(machine, watched)

    def _silent(self, watched: _Watched) -> bool:
        return watched.up is not False and watched.heard < self._clock() - self.silent_after

    async def _lost(self, machine: str, watched: _Watched) -> None:
        async with watched.telling:
            if not self._silent(watched) or self._machines.get(machine) is not watched:
                return
            detail = f"nothing heard for {self.silent_after:g} s"
            try:
                await self._tell(machine, watched, up=False, detail=detail)
            except LogError as error:
                log.error("a lost machine could not be noted", machine=machine, error=str(error))

    async def _tell(self, machine: str, watched: _Watched, *, up: bool, detail: str) -> None:
        """Append what is new of `machine`; only while `telling` is held, for each event has its own number."""
        seq = watched.seq + 1
        now = wire.utc_now()
        event = wire.Event(seq, now, LINK, {"link": "up" if up else "lost", "detail": detail})
        await self._store.append(machine, wire.Batch(watched.instance, seq - 1, seq, (event,), now))
        watched.up, watched.seq = up, seq
        if up:
            log.info("machine reached", machine=machine, detail=detail)
        else:
            log.warning("machine not reachable", machine=machine, detail=detail)
