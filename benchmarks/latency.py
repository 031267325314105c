"""How long a change takes from its source to a client: the client's clock less the source timestamp, one computer.

The client is the same for all servers. Beside the one value alone it is measured with a hundred values of 4,000
(1,000 machines) while all of them change.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from benchmarks.delivery import MANY_MACHINES, Subscriber, contenders
from benchmarks.space import Contender, running

SECONDS = 4.0
INTERVALS = (0.0, 10.0, 100.0)  # ms
CASES = ((4, 200.0, 1), (4 * MANY_MACHINES, 2000.0, 100))  # values written, changes/s of all, values told


class Listener(Subscriber):
    """A client that notes how old each change is when it comes."""

    def __init__(self, told: dict[str, Any], interval: float) -> None:
        super().__init__(told, interval)
        self.ages_ms: list[float] = []

    async def _take(self, result: ua.PublishResult) -> None:
        now = datetime.now(UTC)
        for notification in result.NotificationMessage.NotificationData or ():
            for item in getattr(notification, "MonitoredItems", ()):
                if item.Value.SourceTimestamp is not None:
                    self.ages_ms.append((now - item.Value.SourceTimestamp).total_seconds() * 1e3)


async def ages(told: dict[str, Any], interval: float, watched: int) -> list[float]:
    """Milliseconds, in ascending order."""
    listener = Listener({**told, "nodes": told["nodes"][:watched]}, interval)
    await listener.begin()
    await asyncio.sleep(1.0)
    listener.ages_ms.clear()
    await asyncio.sleep(SECONDS)
    found = sorted(listener.ages_ms)
    await listener.client.disconnect()
    return found


def line(contender: Contender, interval: float, watched: int) -> None:
    with running(contender) as (_, told):
        found = asyncio.run(ages(told, interval, watched))
    if not found:
        print(
            f"{contender.name:>12} {contender.machines:>7} {interval:>12.0f}   nothing was told", flush=True
        )
        return
    p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
    print(
        f"{contender.name:>12} {contender.machines:>7} {interval:>12.0f} {len(found):>8} {p50:>8.1f} {p99:>8.1f}",
        flush=True,
    )


def run() -> None:
    """Print one line for each server, interval and number of values."""
    print("\nFrom the source of a change to a client, in ms")
    print(f"{'server':>12} {'values':>7} {'publishing':>12} {'changes':>8} {'p50':>8} {'p99':>8}")
    for values, rate, watched in CASES:
        for interval in INTERVALS:
            for contender in contenders(values, rate):
                line(contender, interval, watched)
