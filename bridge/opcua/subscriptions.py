"""Subscriptions (Part 4, 5.14): what is to be told, when, and whether it was acknowledged.

In: monitored items with something to report, and Publish requests. Out: notification messages, each at the end of a
publishing interval, kept until the client has acknowledged it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from asyncua import ua
from asyncua.crypto.permission_rules import User

from .monitored import DataItem, MonitoredItem

log = structlog.get_logger(__name__)

Codes = ua.StatusCodes
UNACKNOWLEDGED = 100  # messages kept for Republish; then the oldest goes
FULL = 1_000_000  # bytes of values after which what is left goes into the next message
_DATA_CHANGE = ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary)
_COUNT = struct.Struct("<i").pack
_HANDLE = struct.Struct("<I").pack
_NO_DIAGNOSTICS = _COUNT(-1)
_LAST_SEQUENCE_NUMBER = 2**32 - 1

PublishRequest = Any  # asyncua's


class Owner(Protocol):
    """The session that a subscription belongs to."""

    session_id: ua.NodeId
    user: User

    @property
    def may_audit(self) -> bool: ...

    def take_publish_request(self, subscription_id: int) -> PublishRequest | None: ...

    async def answer(self, result: ua.PublishResult, request: PublishRequest) -> None: ...


@dataclass(slots=True)
class Terms:
    """What a client asked for, as revised. The interval is in milliseconds; the counts are in intervals."""

    interval: float
    lifetime: int
    keep_alive: int
    most: int  # notifications in a message
    priority: int = 0


class Subscription:
    """Belongs to a session, which gives a waiting Publish request or calls `publish_results` once there is one."""

    def __init__(
        self,
        identifier: int,
        session: Owner,
        terms: Terms,
        enabled: bool,
        expire: Callable[[Subscription], None],
    ) -> None:
        self.id = identifier
        self.session = session
        self.terms = terms
        self.enabled = enabled
        self.items: dict[int, MonitoredItem] = {}
        self.linking: set[MonitoredItem] = set()  # those that make others report
        self.unacknowledged: dict[int, ua.NotificationMessage] = {}
        self._expire = expire
        self._ready: dict[MonitoredItem, None] = {}  # items with something to report, in order
        self.sequence_number = 1  # of the next message
        self.silent = 0  # intervals since the last message
        self.unheard = 0  # intervals in which the client had left no request
        self.told = 0  # notifications
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @property
    def session_id(self) -> ua.NodeId:
        """Of the session that it belongs to."""
        return self.session.session_id

    def start(self) -> None:
        """Begin the first publishing interval."""
        self._due = asyncio.get_running_loop().time()
        self._next()

    def stop(self) -> None:
        """Publish no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def modify(self, terms: Terms) -> None:
        """Go on with other terms, from the next interval on."""
        self.terms = terms
        self.heard()

    def heard(self) -> None:
        """The client has shown that it is there (Part 4, 5.14.1.2)."""
        self.unheard = 0

    def tell(self, item: MonitoredItem) -> None:
        """This item has something to report."""
        self._ready[item] = None

    def forget(self, item: MonitoredItem) -> None:
        """What this item had to report is reported no more, nor does it make others report."""
        self._ready.pop(item, None)
        self.linking.discard(item)
        for other in self.linking:
            other.links.discard(item)

    def hand_over(self, session: Owner) -> None:
        """Belong to another session from now on (Part 4, 5.14.7)."""
        self.session = session
        self.heard()

    def acknowledge(self, sequence_number: int) -> int:
        """The client has a message; returns a status code."""
        known = self.unacknowledged.pop(sequence_number, None)
        code: int = Codes.Good if known is not None else Codes.BadSequenceNumberUnknown
        return code

    async def publish_results(self, request: PublishRequest | None = None) -> bool:
        """Tell what there is, now that a request has come; whether it was used. asyncua's processor calls this."""
        self.heard()
        if not self._owes:
            return False
        await self._send(request)
        return True

    @property
    def _owes(self) -> bool:
        """Whether a message is due: something to report, the first one at all, or a sign of life."""
        if not self._begun or self.silent >= self.terms.keep_alive:
            return True
        return self.enabled and any(item.reports for item in self._ready)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = max(self._due + self.terms.interval / 1000, loop.time())
        self._timer = loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._next()
        self.silent += 1
        if not self._owes:
            return
        request = self.session.take_publish_request(self.id)
        if request is None:
            self.unheard += 1
            if self.unheard >= self.terms.lifetime:
                log.info("an OPC UA subscription has ended: its client asks no more", subscription=self.id)
                self.stop()
                self._expire(self)
            return
        task = asyncio.ensure_future(self._publish(request))
        task.add_done_callback(_report)

    async def _publish(self, request: PublishRequest | None) -> None:
        """Tell all there is, as long as there are requests to answer."""
        while request is not None:
            await self._send(request)
            request = self.session.take_publish_request(self.id) if self._more else None

    @property
    def _more(self) -> bool:
        return self.enabled and any(item.reports for item in self._ready)

    async def _send(self, request: PublishRequest) -> None:
        result = ua.PublishResult(SubscriptionId=self.id)
        message = result.NotificationMessage
        message.SequenceNumber = self.sequence_number
        message.NotificationData = list(self._notifications())
        if message.NotificationData:
            self.unacknowledged[self.sequence_number] = message
            if len(self.unacknowledged) > UNACKNOWLEDGED:
                del self.unacknowledged[next(iter(self.unacknowledged))]
            self.sequence_number = self.sequence_number % _LAST_SEQUENCE_NUMBER + 1
        result.MoreNotifications = self._more
        result.AvailableSequenceNumbers = list(self.unacknowledged)
        self._begun = True
        self.silent = self.unheard = 0
        await self.session.answer(result, request)

    def _notifications(self) -> Iterator[Any]:
        if not self.enabled:
            return
        room = self.terms.most or _LAST_SEQUENCE_NUMBER
        data: list[bytes] = []
        size = 0
        events: list[ua.EventFieldList] = []
        ready, self._ready = self._ready, {}
        for item in ready:
            if room > 0 and size <= FULL and item.reports:
                taken = item.take(room)
                room -= len(taken)
                if isinstance(item, DataItem):
                    handle = _HANDLE(item.client_handle)
                    for value in taken:
                        data += (handle, value)
                        size += len(value)
                else:
                    events += taken
            if item.queue and item.reports:
                self._ready[item] = None
        self.told += len(data) // 2 + len(events)
        if data:
            body = b"".join((_COUNT(len(data) // 2), *data, _NO_DIAGNOSTICS))
            yield ua.ExtensionObject(TypeId=_DATA_CHANGE, Body=body)
        if events:
            yield ua.EventNotificationList(Events=events)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("an OPC UA subscription could not publish", exc_info=task.exception())


def items_of(subscriptions: Iterable[Subscription]) -> int:
    """How many monitored items they have together."""
    return sum(len(subscription.items) for subscription in subscriptions)
