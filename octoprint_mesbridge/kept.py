"""What the bridge has already, kept a while in memory for a bridge that turns out to have lost it.

That is so when its log is an older copy that was brought back. In flow events as they are acknowledged; out flow
those after a number, again and in order. The oldest make room for the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

MOST = 1000
"""How many events are kept: some 300 kB, the turns of more than a hundred prints."""


class Numbered(Protocol):
    """An event with its number."""

    @property
    def seq(self) -> int: ...


T = TypeVar("T", bound=Numbered)


class Kept(Generic[T]):
    """Acknowledged events of one instance; while `again` is not None, those after that number wait once more."""

    def __init__(self) -> None:
        self._events: deque[T] = deque()
        self._forgotten = 0
        self.again: int | None = None

    @property
    def since(self) -> int:
        """All numbers from this one on are here, as far as they were acknowledged."""
        return self._forgotten + 1

    @property
    def waiting(self) -> list[T]:
        """The events to be sent again."""
        return [] if self.again is None else [one for one in self._events if one.seq > self.again]

    def add(self, events: Iterable[T]) -> None:
        """Keep events that were acknowledged just now, in order."""
        self._events.extend(events)
        while len(self._events) > MOST:
            self.forget(self._events[0].seq)

    def forget(self, through: int) -> None:
        """Numbers up to this one cannot be sent again."""
        self._forgotten = max(self._forgotten, through)
        while self._events and self._events[0].seq <= through:
            self._events.popleft()

    def rewind(self, seq: int, acked: int) -> bool:
        """Let what comes after `seq` wait once more, up to `acked`; whether anything can."""
        again = max(seq, self._forgotten)
        if again < acked:
            self.again = again
        return again < acked

    def acknowledge(self, seq: int, acked: int) -> None:
        """The bridge has everything up to `seq`."""
        if self.again is not None and seq > self.again:
            self.again = seq if seq < acked else None
