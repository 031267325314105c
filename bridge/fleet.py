"""Every machine as the log tells it. In flow records, out flow transitions to the sinks.

The machines are kept in memory and in a checkpoint, so that a start replays only what came after it. A
checkpoint is never ahead of a sink: what is replayed is handed to the sinks again, and those with a memory
of their own pass over what they already have.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def __getitem__(self, machine: str) -> Machine:
        return self.machines.get(machine) or Machine()

    def take(self, records: Sequence[Record]) -> None:
        """Apply `records`, which follow those taken before, and show them to the sinks."""
        for record in records:
            transition = apply(self[record.machine], record)
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
        self.position = position
        return list(store.read(position))

    async def checkpoint(self, store: Log, sinks_at: int) -> None:
        """Save the machines, when all sinks are durably at `sinks_at` or beyond. Raises `LogError`.

        Nothing is saved when records came in the meantime: the next checkpoint will have them.
        """
        if sinks_at >= self.position:
            await store.save_checkpoint(_CONSUMER, self.position, codec.dump(self.machines))


async def trim(store: Log, before: datetime) -> None:
    """Forget the records that every reader has and that are older than `before`. Raises `LogError`."""
    position, _ = store.load_checkpoint(_CONSUMER)
    forgotten = await store.trim(before, position)
    if forgotten:
        log.info("old events forgotten", count=forgotten)
