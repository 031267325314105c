"""What it costs a server to tell its clients of changes: CPU of the server's process for each change delivered."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from asyncua import Client, ua

from benchmarks.bridge import status_of
from benchmarks.space import PEERS, Contender, running

SECONDS = 8.0
STEADY_SECONDS = 60.0
ITEMS = 1000
INTERVAL = 100.0  # ms
QUEUE = 100
MANY_MACHINES, CHANGES_A_SECOND = 1000, 12


def contenders(items: int, rate: float) -> list[Contender]:
    numbers = [str(items), str(rate)]
    return [
        Contender("bridge", [sys.executable, str(PEERS / "changing_bridge.py"), *numbers], items),
        Contender("asyncua", [sys.executable, str(PEERS / "changing_asyncua.py"), *numbers], items),
        Contender("node-opcua", ["node", str(PEERS / "changing_node_opcua.js"), *numbers], items),
    ]


class Subscriber:
    """A client that counts what it is told."""

    def __init__(self, told: dict[str, Any], interval: float = INTERVAL) -> None:
        self._interval = interval
        self.client = Client(told["url"], timeout=60)
        self.count = 0
        self._nodes = told["nodes"]

    async def begin(self) -> None:
        await self.client.connect()
        session = self.client.uaclient
        wanted = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=self._interval,
            RequestedLifetimeCount=10000,
            RequestedMaxKeepAliveCount=100,
        )
        subscription = await session.create_subscription(wanted, self._take)
        for first in range(0, len(self._nodes), 1000):
            params = ua.CreateMonitoredItemsParameters(SubscriptionId=subscription.SubscriptionId)
            params.TimestampsToReturn = ua.TimestampsToReturn.Both
            params.ItemsToCreate = [
                ua.MonitoredItemCreateRequest(
                    ua.ReadValueId(ua.NodeId.from_string(node), ua.AttributeIds.Value),
                    ua.MonitoringMode.Reporting,
                    ua.MonitoringParameters(number, 0.0, None, QUEUE, True),
                )
                for number, node in enumerate(self._nodes[first : first + 1000], first)
            ]
            await session.create_monitored_items(params)

    async def _take(self, result: ua.PublishResult) -> None:
        for notification in result.NotificationMessage.NotificationData or ():
            self.count += len(getattr(notification, "MonitoredItems", ()))


class Checker(Subscriber):
    """A client that notes which of the values, each higher by the number of nodes than the last, did not come."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.lost = 0
        self._step = len(told["nodes"])
        self._last: dict[int, float] = {}

    async def _take(self, result: ua.PublishResult) -> None:
        for notification in result.NotificationMessage.NotificationData or ():
            for item in getattr(notification, "MonitoredItems", ()):
                self.count += 1
                value, last = item.Value.Value.Value, self._last.get(item.ClientHandle)
                if last is not None:
                    self.lost += round((value - last) / self._step) - 1
                if item.Value.StatusCode.is_good():  # what was there before the first change is Uncertain
                    self._last[item.ClientHandle] = value


async def told_to(pid: int, told: dict[str, Any], subscribers: int) -> tuple[float, float]:
    """Changes a second for each subscriber, and the server's share of a core."""
    found = [Subscriber(told) for _ in range(subscribers)]
    for one in found:
        await one.begin()
    await asyncio.sleep(2.0)
    before, counted, begin = status_of(pid)[1], sum(one.count for one in found), time.monotonic()
    await asyncio.sleep(SECONDS)
    used, elapsed = status_of(pid)[1] - before, time.monotonic() - begin
    rate = (sum(one.count for one in found) - counted) / elapsed / subscribers
    for one in found:
        await one.client.disconnect()
    return rate, used / elapsed


def line(contender: Contender, subscribers: int, asked: float) -> None:
    with running(contender) as (pid, told):
        rate, share = asyncio.run(told_to(pid, told, subscribers))
        memory = status_of(pid)[0]
    print(
        f"{contender.name:>12} {subscribers:>12} {asked:>9.0f} {rate:>9.0f} {share:>7.3f}"
        f" {share / max(rate, 1) * 1e6:>10.1f} {memory:>6.0f}"
    )


async def endure(pid: int, told: dict[str, Any]) -> None:
    checker = Checker(told)
    await checker.begin()
    await asyncio.sleep(5.0)
    memory, (before, counted) = status_of(pid)[0], (status_of(pid)[1], checker.count)
    await asyncio.sleep(STEADY_SECONDS)
    after, used = status_of(pid)
    print(
        f"{STEADY_SECONDS:.0f} s: {checker.count - counted} changes told, {checker.lost} lost (target 0),"
        f" {(used - before) / STEADY_SECONDS:.3f} core (target 0.15), {memory:.1f} MB before and {after:.1f} after"
    )
    await checker.client.disconnect()


def steady() -> None:
    """1,000 machines with twelve changes a second each, for a minute."""
    with running(contenders(4 * MANY_MACHINES, MANY_MACHINES * CHANGES_A_SECOND)[0]) as (pid, told):
        asyncio.run(endure(pid, told))


def run() -> None:
    """Print one line for each server and number of subscribers."""
    print("\nChanges told to clients, publishing interval 100 ms; the writing of the values is included")
    print(
        f"{'server':>12} {'subscribers':>12} {'written/s':>9} {'told/s':>9} {'core':>7} {'us/change':>10} {'MB':>6}"
    )
    for subscribers, rate in ((1, 2000.0), (5, 2000.0), (1, 10000.0)):
        for contender in contenders(ITEMS, rate):
            line(contender, subscribers, rate)
    rate = float(MANY_MACHINES * CHANGES_A_SECOND)
    line(contenders(4 * MANY_MACHINES, rate)[0], 1, rate)
    print(
        "Targets of the bridge: 12 us a change at 10,000/s and less than node-opcua, 6 us a further subscriber"
    )
    steady()
