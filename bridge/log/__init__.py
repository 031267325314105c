"""The durable, ordered log between the sources and everything that reads from it.

In flow batches, as pushes bring them; out flow records, by position. `Log` is what an implementation
promises (``tests/bridge/log/contract.py`` checks it): an append returns only when the events are durable,
a record is made exactly once by ``(machine, instance, seq)``, the order per machine is that of the appends,
and a consumer reads on from whatever position it wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.wire import Batch

OWN = "bridge-"
"""So begin the names of the instances under which the bridge itself appends; a plugin's never do."""


PULLED = OWN + "pull-"
"""So begin the names of the instances under which it appends what it asked an OctoPrint without the plugin."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event in the log. `position` rises with each record of the whole log."""

    position: int
    machine: str
    instance: str
    seq: int
    time: datetime
    kind: str
    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What names this event for ever, in every system it reaches."""
        return f"{self.machine}:{self.instance}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch.

    `through` is the last durable number of its instance; before the batch's `after`, nothing was taken, and the plugin
    is to send what is missing first. `gap` says that numbers before the batch never
    arrived, `first` that the instance was unknown until now. `records` are the new ones; events that were
    already here are not repeated.
    """

    through: int
    gap: bool
    first: bool
    records: tuple[Record, ...]


class LogError(Exception):
    """The log cannot be used; the text says which file, why, and what to do."""


class Log(Protocol):
    """An append-only store of events, see the module's text.

    `id` names it for ever, and a copy of it just so: positions of two logs with other ids have nothing in common.
    """

    id: str

    @property
    def end(self) -> int:
        """The last position it ever gave out; 0 when none. Raises `LogError`."""

    async def append(self, machine: str, batch: Batch) -> Appended:
        """Make `batch` durable. Raises `LogError`; then nothing of the batch is kept."""

    def read(self, after: int) -> Iterator[Record]:
        """All records past the position `after`, in order. Raises `LogError`."""

    def load_checkpoint(self, consumer: str) -> tuple[int, str]:
        """The position and text that `consumer` saved last; ``(0, "")`` when it never did. Raises `LogError`."""

    async def save_checkpoint(self, consumer: str, position: int, text: str) -> None:
        """Remember both, durably."""

    async def trim(self, before: datetime, through: int, size: int | None = None) -> int:
        """Forget, at most up to the position `through`, what was appended `before`, all samples (kinds of
        which only the newest matters) and, as long as there is more than `size` bytes, the oldest; returns how many.
        Instances that were not heard for long, and of which there is no record, are forgotten, too.
        Raises `LogError`."""

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""
