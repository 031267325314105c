"""Whether each OctoPrint is heard of. In flow signs of life, out flow `link` events in the log.

They are events like any other, so that a replayed log shows the same silence.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from bridge import wire
from bridge.log import Log, LogError
from bridge.machine.transition import LINK

log = structlog.get_logger(__name__)


class Presence:
    """Watches over the machines added; `silent_after` in seconds. `clock` is monotonic, in seconds."""

    def __init__(self, store: Log, silent_after: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._silent_after = silent_after
        self._clock = clock
        self._instance = "bridge-" + secrets.token_hex(8)
        self._seq: dict[str, int] = {}
        self._up: dict[str, bool | None] = {}
        self._heard: dict[str, float] = {}

    def add(self, machine: str) -> None:
        """Watch over `machine` from now on."""
        self._up[machine] = None
        self._heard[machine] = self._clock()

    async def heard(self, machine: str) -> None:
        """A sign of life from `machine`. Raises `LogError`."""
        self._heard[machine] = self._clock()
        if not self._up[machine]:
            await self._tell(machine, up=True, detail="the plugin delivers")

    async def watch(self) -> None:
        """Notice silence, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._silent_after / 5))
            for machine in self._silent():
                try:
                    await self._tell(machine, up=False, detail=f"nothing heard for {self._silent_after:g} s")
                except LogError as error:
                    log.error("a lost machine could not be noted", machine=machine, error=str(error))

    def _silent(self) -> list[str]:
        limit = self._clock() - self._silent_after
        return [
            machine for machine, at in self._heard.items() if at < limit and self._up[machine] is not False
        ]

    async def _tell(self, machine: str, *, up: bool, detail: str) -> None:
        known, self._up[machine] = self._up[machine], up
        seq = self._seq.get(machine, 0) + 1
        now = wire.utc_now()
        event = wire.Event(seq, now, LINK, {"link": "up" if up else "lost", "detail": detail})
        try:
            await self._store.append(machine, wire.Batch(self._instance, seq - 1, seq, (event,), now))
        except LogError:
            self._up[machine] = known
            raise
        self._seq[machine] = seq
        if up:
            log.info("machine reached", machine=machine, detail=detail)
        else:
            log.warning("machine not reachable", machine=machine, detail=detail)
