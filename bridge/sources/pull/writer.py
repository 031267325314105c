"""What is noticed of a machine, as events in the log: numbered, and checked as if a plugin had pushed them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import structlog

from bridge import wire
from bridge.log import PULLED, Log
from octoprint_mesbridge.occurrence import Occurrence

log = structlog.get_logger(__name__)


class Writer:
    """Appends for one machine under an instance of its own; one call at a time. `count` is told how many."""

    def __init__(self, store: Log, machine: str, count: Callable[[int], None]) -> None:
        self._count = count
        self._store = store
        self._machine = machine
        self._instance = PULLED + secrets.token_hex(8)
        self._seq = 0
        self._told: set[str] = set()

    async def append(self, occurrences: Sequence[Occurrence]) -> None:
        """Make them durable. What is not sound is left out, and said once by its kind. Raises `LogError`."""
        events: list[wire.Event] = []
        for one in occurrences:
            try:
                data = wire.PAYLOADS[one.kind](one.data, one.kind)
            except wire.WireError as error:
                self._tell(one.kind, error)
                continue
            events.append(wire.Event(self._seq + len(events) + 1, one.time, one.kind, data))
        if events:
            through = self._seq + len(events)
            batch = wire.Batch(self._instance, self._seq, through, tuple(events), wire.utc_now())
            await self._store.append(self._machine, batch)
            self._seq = through
            self._count(len(events))

    def _tell(self, kind: str, error: wire.WireError) -> None:
        if kind not in self._told:
            self._told.add(kind)
            log.warning(
                "what OctoPrint says is left out, because it is not sound",
                machine=self._machine,
                kind=kind,
                detail=str(error),
            )
