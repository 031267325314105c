"""How long keys that have an end are valid yet.

In flow the keys and two clocks; out flow seconds. The clock that can be set shows the time across restarts. The
other one bounds a life when somebody sets the first one back, or when that is wrong after a start without a
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from bridge import wire

from .keys import KeyRecord, Keys

LONGEST = timedelta(days=7)
"""Of any key that has an end."""


class Lifetimes:
    """`now` (aware) may be set by somebody; `monotonic` (seconds) by nobody."""

    def __init__(self, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._ends: dict[tuple[str, str | None], float] = {}

    def begin(self, keys: Keys | None) -> None:
        """Take the lengths of the lives in `keys`, for the clock that nobody sets; a life begins once.

        Those of other keys go on: whoever exchanges keys does so after this.
        """
        if keys is None:
            return
        for record in keys.records:
            begun = (
                keys.current if record is keys.previous else record
            )  # of its last life, if it was replaced
            if record.end is not None:
                whole = record.end - wire.parse_time(begun.created)
                left = min(record.end - self._now(), whole, LONGEST).total_seconds()
                self._ends.setdefault((record.key_id, record.valid_until), self._monotonic() + left)

    def left(self, record: KeyRecord) -> float:
        """For how many seconds `record` is valid, by whichever clock says less; infinite without an end."""
        if record.end is None:
            return math.inf
        by_clock = (record.end - self._now()).total_seconds()
        return min(by_clock, self._ends.get((record.key_id, record.valid_until), 0.0) - self._monotonic())
