"""Monitored items (Part 4, 5.13): what a client wants to hear of one attribute, or of the events of one object.

In: changes and events, as they happen. Out: queues of notifications, and a word to the subscription that there is
something to tell. There is no sampling: every change is looked at when it happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import ua
from asyncua.server.monitored_item_service import WhereClauseEvaluator
from asyncua.ua import ua_binary

from .changes import OVERFLOW, Change
from .events import Event, overflow_event
from .ranges import part_of
from .space import supertypes

Mode = ua.MonitoringMode


class MonitoredItem:
    """What both kinds have: an id, a queue, a mode, and items that report when this one does."""

    __slots__ = (
        "attribute",
        "client_handle",
        "discard_oldest",
        "id",
        "links",
        "mode",
        "node_id",
        "overflown",
        "queue",
        "queue_size",
        "tell",
        "triggered",
    )

    def __init__(
        self, identifier: int, request: ua.MonitoredItemCreateRequest, tell: Callable[[Any], None]
    ) -> None:
        self.id = identifier
        self.node_id = request.ItemToMonitor.NodeId
        self.attribute = request.ItemToMonitor.AttributeId
        self.mode: ua.MonitoringMode = request.MonitoringMode
        self.tell = tell  # that there is something to report
        self.client_handle = 0
        self.queue: deque[Any] = deque()
        self.queue_size = 1
        self.discard_oldest = True
        self.overflown = False  # something was discarded since the last report
        self.triggered = False
        self.links: set[MonitoredItem] = set()

    def resize(self, handle: int, size: int, discard_oldest: bool) -> None:
        """Take over what a client may change; what no longer fits is discarded."""
        self.client_handle = handle
        self.queue_size = size
        self.discard_oldest = discard_oldest
        while len(self.queue) > size:
            self._discard()

    def set_mode(self, mode: ua.MonitoringMode) -> None:
        """Disabled forgets what is queued (Part 4, 5.13.1.3)."""
        self.mode = mode
        if mode == Mode.Disabled:
            self.queue.clear()
            self.overflown = self.triggered = False
        elif mode == Mode.Reporting and self.queue:
            self.tell(self)

    def take(self, most: int) -> list[Any]:
        """Up to `most` notifications, in order; they are queued no longer."""
        raise NotImplementedError

    @property
    def reports(self) -> bool:
        """Whether what is queued is to be published."""
        return bool(self.queue) and (self.mode == Mode.Reporting or self.triggered)

    def put(self, what: Any) -> None:
        """Queue a notification, and let linked items report theirs (Part 4, 5.13.1.6)."""
        queue = self.queue
        if len(queue) >= self.queue_size:
            self._discard()
        queue.append(what)
        if self.mode == Mode.Reporting:
            self.tell(self)
        for linked in self.links:
            if linked.mode == Mode.Sampling and linked.queue:
                linked.triggered = True
                linked.tell(linked)

    def _discard(self) -> None:
        if self.discard_oldest:
            self.queue.popleft()
        else:
            self.queue.pop()
        self.overflown = True


class DataItem(MonitoredItem):
    """Of one attribute. `deadband` is absolute, 0 for none."""

    __slots__ = ("deadband", "handle", "index_range", "last", "timestamps", "trigger")

    def __init__(
        self, identifier: int, request: ua.MonitoredItemCreateRequest, tell: Callable[[Any], None]
    ) -> None:
        super().__init__(identifier, request, tell)
        self.handle = 0
        self.timestamps = int(ua.TimestampsToReturn.Both)
        self.trigger: ua.DataChangeTrigger = ua.DataChangeTrigger.StatusValue
        self.deadband = 0.0
        self.index_range = ""
        self.last: Change | None = None  # the one that was queued last

    async def __call__(self, handle: int, value: ua.DataValue, error: Any = None) -> None:
        """What asyncua's address space calls for nodes of its own kind."""
        self.push(Change.of(value))

    def push(self, change: Change) -> None:
        """Queue the change if it is one for this client."""
        if self.mode == Mode.Disabled:
            return
        if self.index_range and change.variant:
            change = self._part_of(change)
        last = self.last
        if last is None or self._differs(last, change):
            self.last = change
            self.put(change)

    def set_mode(self, mode: ua.MonitoringMode) -> None:
        """What happens while it is disabled is not compared with later."""
        super().set_mode(mode)
        if mode == Mode.Disabled:
            self.last = None

    def take(self, most: int) -> list[bytes]:
        """Up to `most` encoded values, in order; the one beside which others were lost says so."""
        queue, timestamps = self.queue, self.timestamps
        if len(queue) == 1 and most and not self.overflown:  # nearly always
            taken = [queue.popleft().encoded(timestamps)]
        elif not self.overflown and len(queue) <= most:
            taken = [change.encoded(timestamps) for change in queue]
            queue.clear()
        else:
            taken = []
            while queue and len(taken) < most:
                change = queue.popleft()
                marked = self.overflown and (not taken if self.discard_oldest else not queue)
                taken.append(change.encoded(timestamps, OVERFLOW if marked and self.queue_size > 1 else 0))
                if marked:
                    self.overflown = False
        if not queue:
            self.triggered = self.overflown = False
        return taken

    def _part_of(self, change: Change) -> Change:
        try:
            part = ua_binary.variant_to_binary(part_of(change.decoded, self.index_range))
        except ua.UaStatusCodeError as error:
            return Change(b"", error.code, change.source, change.server)
        return Change(part, change.status, change.source, change.server)

    def _differs(self, last: Change, change: Change) -> bool:
        if change.status != last.status:
            return True
        if self.trigger == ua.DataChangeTrigger.Status:
            return False
        if change.variant != last.variant and (not self.deadband or self._exceeds(last, change)):
            return True
        return self.trigger == ua.DataChangeTrigger.StatusValueTimestamp and change.source != last.source

    def _exceeds(self, last: Change, change: Change) -> bool:
        """Whether the value left the deadband around the last reported one (Part 4, 7.22.2)."""
        before, now = last.decoded.Value, change.decoded.Value
        try:
            if isinstance(now, list):
                return len(before) != len(now) or any(
                    abs(b - n) > self.deadband for b, n in zip(before, now, strict=True)
                )
            return not abs(now - before) <= self.deadband
        except TypeError:
            return True


class WhereClause(WhereClauseEvaluator):
    """asyncua's, for which an event of a subtype would be none of its type."""

    def _eval_el(self, index: int, event: Any) -> Any:
        element = self.elements[index]
        if element.FilterOperator != ua.FilterOperator.OfType:
            return super()._eval_el(index, event)
        wanted = self._eval_op(element.FilterOperands[0], event)
        return wanted in supertypes(self._aspace, event.EventType)


class EventItem(MonitoredItem):
    """Of the events of one object."""

    __slots__ = ("_hears", "_selected", "_where")

    def __init__(
        self,
        identifier: int,
        request: ua.MonitoredItemCreateRequest,
        tell: Callable[[Any], None],
        hears: Callable[[Event], bool],
    ) -> None:
        super().__init__(identifier, request, tell)
        self._hears = hears  # whether an event is one for this client at all
        self._selected: Sequence[ua.SimpleAttributeOperand] = ()
        self._where: WhereClause | None = None

    def filter(self, selected: Sequence[ua.SimpleAttributeOperand], where: WhereClause) -> None:
        """Take these fields of the events that the where clause is true of."""
        self._selected = selected
        self._where = where

    def push(self, event: Event) -> None:
        """Queue the event if it is one for this client."""
        if self.mode == Mode.Disabled or not self._hears(event):
            return
        if self._where is None or self._where.eval(event):
            self.put(event)

    def take(self, most: int) -> list[ua.EventFieldList]:
        """Up to `most` events, in order; before them one that says if others were lost."""
        taken = []
        if self.overflown and self.queue:
            taken.append(self._fields(overflow_event()))
            self.overflown = False
        while self.queue and len(taken) < most:
            taken.append(self._fields(self.queue.popleft()))
        if not self.queue:
            self.triggered = False
        return taken

    def _fields(self, event: Event) -> ua.EventFieldList:
        fields = ua.EventFieldList()
        fields.ClientHandle = self.client_handle
        fields.EventFields = event.to_event_fields(list(self._selected))
        return fields
