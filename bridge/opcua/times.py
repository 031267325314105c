"""Times as OPC UA counts them: ticks of 100 ns since 1601-01-01 UTC (Part 6, 5.2.2.5)."""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1601, 1, 1, tzinfo=UTC)  # what OPC UA means by "no time"
_UNIX_EPOCH = 116_444_736_000_000_000  # ticks
_MICROSECOND = timedelta(microseconds=1)


def ticks_now() -> int:
    """The present time."""
    return time.time_ns() // 100 + _UNIX_EPOCH


def to_ticks(moment: datetime | int) -> int:
    """Ticks of a datetime with a time zone; ticks pass unchanged."""
    if isinstance(moment, int):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return (moment - EPOCH) // _MICROSECOND * 10


def to_datetime(ticks: int) -> datetime:
    """The moment in UTC, to the microsecond."""
    return EPOCH + timedelta(microseconds=ticks // 10)
