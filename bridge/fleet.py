"""Every machine as the log tells it. In flow records, out flow transitions to the sinks.

The machines are kept in memory and in a checkpoint, so that a start replays only what came after it. A
checkpoint is never ahead of a sink: what is replayed is handed to the sinks again, and those with a memory
of their own pass over what they already have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from bridge.log import Log, LogError, Record
from bridge.machine import Machine, Transition, apply, codec

log = structlog.get_logger(__name__)

_CONSUMER = "machines"


class Sink(Protocol):
    """What reads the transitions. `handle` is called on the event loop, in order, and must not block."""

    def handle(self, transition: Transition) -> None: ...


class Fleet:
    """The machines by id; a machine never heard of is a `Machine()`."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.position = 0
        self.sinks: list[Sink] = []
        self._saved = 0

    def __getitem__(self, machine: str) -> Machine:
        return self.machines.get(machine) or Machine()

    def take(self, records: Sequence[Record]) -> None:
        """Apply `records`, which follow those taken before, and show them to the sinks."""
        for record in records:
            transition = self._apply(record)
            self.machines[record.machine] = transition.after
            self.position = record.position
            for sink in self.sinks:
                try:
                    sink.handle(transition)
                except Exception:  # the fault of one sink must not keep the record from the others
                    log.exception("a record was not shown", machine=record.machine, sink=type(sink).__name__)

    def restore(self, store: Log) -> list[Record]:
        """Go back to the checkpoint; returns the records that came after it, to be taken. Raises `LogError`."""
        position, text = store.load_checkpoint(_CONSUMER)
        try:
            self.machines = codec.load(text) if text else {}
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(
                f"the checkpoint in the log cannot be read ({error!r}); it was written by another version of"
                " MESBridge: run that version, or choose another bridge.state_folder"
            ) from None
        self.position = self._saved = position
        return list(store.read(position))

    async def checkpoint(self, store: Log, drain: Callable[[], Awaitable[int]]) -> None:
        """Save the machines as they are now, once `drain` says that all sinks are durably there.

        Raises `LogError` and what `drain` raises; then the last checkpoint stays.
        """
        # What comes while the sinks are waited for belongs to the next checkpoint: in a plant that is never
        # quiet there would otherwise be none at all.
        position, machines = self.position, dict(self.machines)
        if position > self._saved and await drain() >= position:
            await store.save_checkpoint(_CONSUMER, position, await asyncio.to_thread(codec.dump, machines))
            self._saved = position

    @property
    def saved(self) -> int:
        """The position of the last checkpoint: what came before may be forgotten."""
        return self._saved

    async def trim(self, store: Log, before: datetime, size: int | None = None) -> None:
        """Forget the records that every reader has and that are older than `before` or, the oldest first, too many for
        `size` bytes. Raises `LogError`."""
        forgotten = await store.trim(before, self._saved, size)
        if forgotten:
            log.info("old events forgotten", count=forgotten)

    def _apply(self, record: Record) -> Transition:
        machine = self[record.machine]
        try:
            return apply(machine, record)
        except Exception:  # else one odd record would stop this and every later start, for all machines
            log.exception(
                "a record changes nothing: it was not understood", machine=record.machine, key=record.key
            )
            return Transition(record, machine, machine, ())
