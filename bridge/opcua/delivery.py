"""Hands changed values and events to asyncua's subscriptions, in the order in which they came.

In: `changed` and `emit`, which return at once. Out: the callbacks of monitored items and events, called by one
task that the server owns.
"""

import asyncio
from collections import deque
from typing import Any

import structlog
from asyncua import ua
from asyncua.server.subscription_service import SubscriptionService

from .space import Watchers

log = structlog.get_logger(__name__)

Change = tuple[Watchers, tuple[int, ...], ua.DataValue]


class QueuedDelivery:
    """A queue between writers, who never wait, and the subscriptions, whose methods are coroutines."""

    def __init__(self, subscriptions: SubscriptionService) -> None:
        self._subscriptions = subscriptions
        self._queue: deque[Change | Any] = deque()
        self._filled = asyncio.Event()

    def changed(self, watchers: Watchers, value: ua.DataValue) -> None:
        """Tell those who watch at this moment; who begins later reads the newest value anyway."""
        self._queue.append((watchers, tuple(watchers), value))
        self._filled.set()

    def emit(self, event: Any) -> None:
        """Tell the subscribers of the event's emitting node."""
        if self._subscriptions.subscriptions:
            self._queue.append(event)
            self._filled.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, tuple):
                    await self._deliver(*item)
                else:
                    await self._subscriptions.trigger_event(item)

    async def _deliver(self, watchers: Watchers, handles: tuple[int, ...], value: ua.DataValue) -> None:
        for handle in handles:
            callback = watchers.get(handle)  # gone when the item was deleted meanwhile
            if callback is None:
                continue
            try:
                await callback(handle, value)
            except Exception:
                log.exception("a monitored item could not take a value", handle=handle)
