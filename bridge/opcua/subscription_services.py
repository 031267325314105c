"""The subscription and monitored item service sets (Part 4, 5.13 and 5.14), for each session on what is its own.

In: requests as decoded. Out: subscriptions and items within the server's limits, and what clients are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.subscription_service import SubscriptionService

from .changes import Change
from .events import SERVER, Event
from .filters import Filters, refused
from .limits import Limits
from .monitored import DataItem, EventItem, MonitoredItem
from .ports import SCOPE, Scope
from .ranges import parse
from .space import LazyAddressSpace
from .subscriptions import Owner, Subscription, Terms, items_of

Codes = ua.StatusCodes
Id = ua.AttributeIds
GET_MONITORED_ITEMS = ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems)
RESEND_DATA = ua.NodeId(ua.ObjectIds.Server_ResendData)
SUBSCRIBE_TO_EVENTS = 1  # EventNotifier bit 0 (Part 3, 8.59)
LONGEST_LIFE = 3_600_000.0  # ms without a sign of the client
SHORTEST_INTERVAL = 1.0  # ms: the clock of the event loop
LONGEST_INTERVAL = 3_600_000.0  # ms
_BINARY = "Default Binary"


class Subscriptions(SubscriptionService):
    """All subscriptions of a server. asyncua knows it as its service; sessions have a `SessionSubscriptions` each."""

    subscriptions: dict[int, Subscription]

    def __init__(self, space: LazyAddressSpace, limits: Limits, shortest_interval: float) -> None:
        super().__init__(space)
        self.limits = limits
        self.shortest_interval = max(shortest_interval, SHORTEST_INTERVAL)
        self._listening: dict[ua.NodeId, dict[EventItem, None]] = {}  # event items, by what they listen to
        self.created = 0  # since the start
        self._told = 0  # notifications of those that have ended
        self._identifiers = 0

    def new_identifier(self) -> int:
        """Of a subscription or an item; none is used twice."""
        self._identifiers += 1
        return self._identifiers

    @property
    def told(self) -> int:
        """Notifications that clients were told since the start."""
        return self._told + sum(one.told for one in self.subscriptions.values())

    def emit(self, event: Event) -> None:
        """Tell those who listen to the event's emitting node."""
        for item in self._listening.get(event.emitting_node, ()):
            item.push(event)

    async def trigger_event(self, event: Any, subscription_id: int | None = None) -> None:
        """As `emit`, for asyncua."""
        self.emit(event)

    def listen(self, item: EventItem) -> None:
        """Tell this item the events of its node."""
        self._listening.setdefault(item.node_id, {})[item] = None

    def release(self, item: MonitoredItem) -> None:
        """Tell this item nothing more."""
        if isinstance(item, DataItem):
            self.aspace.delete_datachange_callback(item.handle)
        elif isinstance(item, EventItem):
            listening = self._listening[item.node_id]
            del listening[item]
            if not listening:
                del self._listening[item.node_id]

    def end(self, subscription: Subscription) -> None:
        """Forget a subscription and its items."""
        subscription.stop()
        if self.subscriptions.pop(subscription.id, None) is not None:
            self._told += subscription.told
        for item in subscription.items.values():
            self.release(item)
        subscription.items.clear()


class SessionSubscriptions:
    """What asyncua's session and processor ask of a subscription service, for one session."""

    def __init__(self, all_subscriptions: Subscriptions, session: Owner) -> None:
        self._all = all_subscriptions
        self._session = session
        self._space: LazyAddressSpace = all_subscriptions.aspace
        self._filters = Filters(self._space, all_subscriptions.limits)

    @property
    def subscriptions(self) -> Mapping[int, Subscription]:
        """Those of the session."""
        own = self._session
        return {number: one for number, one in self._all.subscriptions.items() if one.session is own}

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Any,
        session_id: ua.NodeId,
        request_callback: Any = None,
    ) -> ua.CreateSubscriptionResult:
        """CreateSubscription (Part 4, 5.14.2)."""
        limits = self._all.limits
        full = len(self._all.subscriptions) >= limits.subscriptions
        if full or len(self.subscriptions) >= limits.subscriptions_per_session:
            raise ServiceError(Codes.BadTooManySubscriptions)
        terms = self._revised(params)
        subscription = Subscription(
            self._all.new_identifier(), self._session, terms, params.PublishingEnabled, self._all.end
        )
        self._all.subscriptions[subscription.id] = subscription
        subscription.start()
        self._all.created += 1
        return ua.CreateSubscriptionResult(
            subscription.id, terms.interval, ua.Counter(terms.lifetime), ua.Counter(terms.keep_alive)
        )

    def modify_subscription(self, params: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        """ModifySubscription (Part 4, 5.14.3)."""
        subscription = self._own(params.SubscriptionId)
        terms = self._revised(params)
        subscription.modify(terms)
        return ua.ModifySubscriptionResult(
            terms.interval, ua.Counter(terms.lifetime), ua.Counter(terms.keep_alive)
        )

    def _revised(self, params: Any) -> Terms:
        interval = params.RequestedPublishingInterval
        if not interval >= self._all.shortest_interval:  # NaN is revised too
            interval = self._all.shortest_interval
        interval = min(interval, LONGEST_INTERVAL)
        longest = max(int(LONGEST_LIFE / interval), 3)
        keep_alive = min(max(params.RequestedMaxKeepAliveCount, 1), longest // 3)
        lifetime = min(max(params.RequestedLifetimeCount, 3 * keep_alive), longest)
        return Terms(interval, lifetime, keep_alive, params.MaxNotificationsPerPublish, params.Priority)

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """SetPublishingMode (Part 4, 5.14.4)."""
        results, own = [], self.subscriptions
        for number in params.SubscriptionIds:
            subscription = own.get(number)
            if subscription is not None:
                subscription.enabled = params.PublishingEnabled
                subscription.heard()
            results.append(_code(Codes.Good if subscription else Codes.BadSubscriptionIdInvalid))
        return results

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement]) -> tuple[int, list[ua.StatusCode]]:
        """What a Publish request acknowledges (Part 4, 5.14.5); ServiceError BadNoSubscription."""
        own = self.subscriptions
        if not own:
            raise ServiceError(Codes.BadNoSubscription)
        results = []
        for ack in acks:
            subscription = own.get(ack.SubscriptionId)
            code = Codes.BadSubscriptionIdInvalid
            if subscription is not None:
                code = subscription.acknowledge(ack.SequenceNumber)
            results.append(_code(code))
        for subscription in own.values():
            subscription.heard()
        return len(own), results

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """Republish (Part 4, 5.14.6)."""
        subscription = self._own(params.SubscriptionId)
        message = subscription.unacknowledged.get(params.RetransmitSequenceNumber)
        if message is None:
            raise ServiceError(Codes.BadMessageNotAvailable)
        return message

    async def transfer_subscriptions(
        self, params: ua.TransferSubscriptionsParameters, session_id: ua.NodeId, callback: Any
    ) -> list[ua.TransferResult]:
        """TransferSubscriptions (Part 4, 5.14.7), from another session of the same user, who has a name."""
        return [self._transfer(number, params.SendInitialValues) for number in params.SubscriptionIds]

    def _transfer(self, number: int, with_values: bool) -> ua.TransferResult:
        result = ua.TransferResult()
        subscription = self._all.subscriptions.get(number)
        if subscription is None:
            result.StatusCode = _code(Codes.BadSubscriptionIdInvalid)
        elif not self._session.user.name or subscription.session.user.name != self._session.user.name:
            result.StatusCode = _code(Codes.BadUserAccessDenied)
        elif subscription.session is not self._session:
            subscription.hand_over(self._session)
            if with_values:
                self.resend(subscription)
        if subscription is not None and result.StatusCode.is_good():
            result.AvailableSequenceNumbers = list(subscription.unacknowledged)
        return result

    def resend(self, subscription: Subscription) -> None:
        """Tell the present values of all items that report (Part 5, 9.2)."""
        for item in subscription.items.values():
            if isinstance(item, DataItem) and item.mode == ua.MonitoringMode.Reporting:
                item.last = None
                item.push(self._present(item))

    async def delete_subscriptions(self, ids: Iterable[int]) -> list[ua.StatusCode]:
        """DeleteSubscriptions (Part 4, 5.14.8)."""
        results, own = [], self.subscriptions
        for number in ids:
            subscription = own.get(number)
            if subscription is not None and number in self._all.subscriptions:
                self._all.end(subscription)
                results.append(_code(Codes.Good))
            else:
                results.append(_code(Codes.BadSubscriptionIdInvalid))
        return results

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """CreateMonitoredItems (Part 4, 5.13.2)."""
        subscription = self._own(params.SubscriptionId)
        _check_timestamps(params.TimestampsToReturn)
        limits = self._all.limits
        room = min(
            limits.monitored_items - items_of(self._all.subscriptions.values()),
            limits.monitored_items_per_subscription - len(subscription.items),
        )
        results = []
        for request in params.ItemsToCreate:
            try:
                if room <= 0:
                    raise refused(Codes.BadTooManyMonitoredItems)
                results.append(self._create(subscription, request, params.TimestampsToReturn))
                room -= 1
            except ua.UaStatusCodeError as error:
                results.append(ua.MonitoredItemCreateResult(StatusCode=_code(error.code)))
        return results

    def _create(
        self, subscription: Subscription, request: ua.MonitoredItemCreateRequest, timestamps: Any
    ) -> ua.MonitoredItemCreateResult:
        what, wanted = request.ItemToMonitor, request.RequestedParameters
        if what.NodeId not in self._space:
            raise refused(Codes.BadNodeIdUnknown)
        identifier = self._all.new_identifier()
        item: MonitoredItem
        if what.AttributeId == Id.EventNotifier:
            event_item = item = EventItem(
                identifier, request, subscription.tell, _hearing(subscription, SCOPE.get())
            )
            self._check_notifier(what.NodeId)
            self._filters.of_events(event_item, wanted.Filter)
        else:
            data_item = item = DataItem(identifier, request, subscription.tell)
            self._check_encoding(what)
            self._filters.of_changes(data_item, wanted.Filter)
            data_item.index_range = what.IndexRange or ""
            data_item.timestamps = int(timestamps)
        size = self._sized(item, wanted)
        if isinstance(item, DataItem):
            status, item.handle = self._space.add_datachange_callback(what.NodeId, what.AttributeId, item)
            if not status.is_good():
                raise refused(status.value)
            item.push(self._present(item))
        else:
            self._all.listen(item)
        subscription.items[identifier] = item
        subscription.heard()
        return ua.MonitoredItemCreateResult(
            StatusCode=_code(Codes.Good),
            MonitoredItemId=identifier,
            RevisedSamplingInterval=0.0,  # nothing is sampled: each change is looked at
            RevisedQueueSize=ua.Counter(size),
        )

    def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """ModifyMonitoredItems (Part 4, 5.13.3)."""
        subscription = self._own(params.SubscriptionId)
        _check_timestamps(params.TimestampsToReturn)
        results = []
        for request in params.ItemsToModify:
            item, wanted = subscription.items.get(request.MonitoredItemId), request.RequestedParameters
            result = ua.MonitoredItemModifyResult()
            try:
                if item is None:
                    raise refused(Codes.BadMonitoredItemIdInvalid)
                if isinstance(item, DataItem):
                    self._filters.of_changes(item, wanted.Filter)
                    item.timestamps = int(params.TimestampsToReturn)
                elif isinstance(item, EventItem):
                    self._filters.of_events(item, wanted.Filter)
                result.RevisedSamplingInterval = 0.0
                result.RevisedQueueSize = ua.Counter(self._sized(item, wanted))
            except ua.UaStatusCodeError as error:
                result.StatusCode = _code(error.code)
            results.append(result)
        return results

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """SetMonitoringMode (Part 4, 5.13.4)."""
        subscription = self._own(params.SubscriptionId)
        results = []
        for number in params.MonitoredItemIds:
            item = subscription.items.get(number)
            if item is None:
                results.append(_code(Codes.BadMonitoredItemIdInvalid))
                continue
            was, now = item.mode, params.MonitoringMode
            item.set_mode(now)
            if isinstance(item, DataItem) and was == ua.MonitoringMode.Disabled != now:
                item.push(self._present(item))
            results.append(_code(Codes.Good))
        return results

    def set_triggering(self, params: ua.SetTriggeringParameters) -> ua.SetTriggeringResult:
        """SetTriggering (Part 4, 5.13.5)."""
        subscription = self._own(params.SubscriptionId)
        item = subscription.items.get(params.TriggeringItemId)
        if item is None:
            raise ServiceError(Codes.BadMonitoredItemIdInvalid)

        def each(
            numbers: Iterable[int], act: Callable[[MonitoredItem], None], linked: bool
        ) -> list[ua.StatusCode]:
            codes = []
            for number in numbers:
                other = subscription.items.get(number)
                known = other is not None and (not linked or other in item.links)
                if known and other is not None:
                    act(other)
                codes.append(_code(Codes.Good if known else Codes.BadMonitoredItemIdInvalid))
            return codes

        result = ua.SetTriggeringResult()
        result.RemoveResults = each(params.LinksToRemove, item.links.discard, linked=True)
        result.AddResults = each(params.LinksToAdd, item.links.add, linked=False)
        subscription.linking.add(item)
        return result

    def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """DeleteMonitoredItems (Part 4, 5.13.6)."""
        subscription = self._own(params.SubscriptionId)
        results = []
        for number in params.MonitoredItemIds:
            item = subscription.items.pop(number, None)
            if item is not None:
                self._all.release(item)
                subscription.forget(item)
            results.append(_code(Codes.Good if item else Codes.BadMonitoredItemIdInvalid))
        return results

    def call(self, request: ua.CallMethodRequest) -> ua.CallMethodResult | None:
        """GetMonitoredItems and ResendData of the Server object (Part 5, 9.1 and 9.2); None for other methods."""
        methods = {GET_MONITORED_ITEMS: self._handles, RESEND_DATA: self.resend}
        method = methods.get(request.MethodId)
        if method is None or request.ObjectId != SERVER:
            return None
        arguments = request.InputArguments or []
        if len(arguments) != 1:
            code = Codes.BadTooManyArguments if arguments else Codes.BadArgumentsMissing
            return ua.CallMethodResult(_code(code))
        (argument,) = arguments
        if argument.VariantType != ua.VariantType.UInt32 or argument.is_array:
            mismatch = [_code(Codes.BadTypeMismatch)]
            return ua.CallMethodResult(_code(Codes.BadInvalidArgument), mismatch)
        subscription = self._all.subscriptions.get(argument.Value)
        if subscription is None or subscription.session is not self._session:
            code = Codes.BadUserAccessDenied if subscription else Codes.BadSubscriptionIdInvalid
            return ua.CallMethodResult(_code(code))
        return ua.CallMethodResult(
            _code(Codes.Good), [_code(Codes.Good)], OutputArguments=method(subscription) or []
        )

    def _handles(self, subscription: Subscription) -> list[ua.Variant]:
        """The server's and the client's handles of the items of a subscription."""
        items = subscription.items.values()
        columns = [item.id for item in items], [item.client_handle for item in items]
        return [ua.Variant(column, ua.VariantType.UInt32, is_array=True) for column in columns]

    def _own(self, number: int) -> Subscription:
        subscription = self._all.subscriptions.get(number)
        if subscription is None or subscription.session is not self._session:
            raise ServiceError(Codes.BadSubscriptionIdInvalid)
        return subscription

    def _present(self, item: DataItem) -> Change:
        return Change.of(self._space.read_attribute_value(item.node_id, item.attribute))

    def _sized(self, item: MonitoredItem, wanted: ua.MonitoringParameters) -> int:
        """Give the item its queue. 0 means 1, or for events as many as there may be (Part 4, 7.21)."""
        limit = self._all.limits.queue_size
        smallest = limit if isinstance(item, EventItem) and wanted.QueueSize == 0 else 1
        size = min(max(int(wanted.QueueSize), smallest), limit)
        item.resize(wanted.ClientHandle, size, wanted.DiscardOldest)
        return size

    def _check_notifier(self, node_id: ua.NodeId) -> None:
        notifier = self._space.value(node_id, Id.EventNotifier)
        if notifier is None:
            raise refused(Codes.BadAttributeIdInvalid)
        if not notifier & SUBSCRIBE_TO_EVENTS:
            raise refused(Codes.BadNotSupported)

    def _check_encoding(self, what: ua.ReadValueId) -> None:
        if what.IndexRange:
            parse(what.IndexRange)
        if what.DataEncoding.Name and (what.AttributeId != Id.Value or what.DataEncoding.Name != _BINARY):
            raise refused(Codes.BadDataEncodingInvalid)


def _hearing(subscription: Subscription, scope: Scope | None) -> Callable[[Event], bool]:
    """Which events are for a client of this port and user."""

    def hears(event: Event) -> bool:
        shown = scope is None or event.instance is None or event.instance in scope
        session = subscription.session
        return shown and (not event.confidential or session.may_audit)

    return hears


def _check_timestamps(wanted: Any) -> None:
    if wanted not in tuple(ua.TimestampsToReturn)[:4]:
        raise ServiceError(Codes.BadTimestampsToReturnInvalid)


def _code(number: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(number))
