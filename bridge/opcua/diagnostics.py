"""Server/ServerDiagnostics (Part 5, 6.3.3 to 6.3.5): made when somebody reads them, so that they cost nothing else.

In: the server's sessions and subscriptions, and what it counts. Out: values of the standard's diagnostics nodes;
once a second those that are monitored are told.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from .changes import Change
from .counts import ServerCounts
from .readers import NOBODY, READING, made_once, read_by
from .sessions import Session
from .space import LazyAddressSpace
from .subscription_services import Subscriptions
from .subscriptions import Subscription, items_of
from .typetable import good

Ids = ua.ObjectIds
Type = ua.VariantType
_SUMMARY = "Server_ServerDiagnostics_ServerDiagnosticsSummary"
_DENIED = ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
_INSECURE = ua.StatusCode(ua.StatusCodes.BadSecurityModeInsufficient)
_LONGEST_TEXT = 256  # of what clients say of themselves


@dataclass(slots=True)
class SecurityDiagnostics:
    """A SessionSecurityDiagnosticsDataType (Part 5, 12.12); asyncua's own tells the text Encoding as a byte mask."""

    SessionId: ua.NodeId = field(default_factory=ua.NodeId)
    ClientUserIdOfSession: ua.String = None
    ClientUserIdHistory: list[ua.String] = field(default_factory=list)
    AuthenticationMechanism: ua.String = None
    Encoding_: ua.String = "UA Binary"
    TransportProtocol: ua.String = "opc.tcp"
    SecurityMode: ua.MessageSecurityMode = ua.MessageSecurityMode.Invalid
    SecurityPolicyUri: ua.String = None
    ClientCertificate: ua.ByteString = None


ua.register_extension_object(
    "SessionSecurityDiagnosticsDataType",
    ua.NodeId(Ids.SessionSecurityDiagnosticsDataType_Encoding_DefaultBinary),
    SecurityDiagnostics,
    ua.NodeId(Ids.SessionSecurityDiagnosticsDataType),
)


class Diagnostics:
    """The values of the diagnostics nodes. Those on security are for whoever may administer the server."""

    def __init__(
        self,
        space: LazyAddressSpace,
        subscriptions: Subscriptions,
        sessions: Callable[[], list[Session]],
        counts: ServerCounts,
    ) -> None:
        self._space = space
        self._all_subscriptions = subscriptions
        self._sessions = sessions
        self._counts = counts
        self._nodes: list[ua.NodeId] = []

    def serve(self) -> None:
        """Put the values into the address space."""
        self._show(_SUMMARY, lambda: ua.Variant(self.summary(), Type.ExtensionObject))
        for part in fields(ua.ServerDiagnosticsSummaryDataType):
            self._show(f"{_SUMMARY}_{part.name}", self._count(part.name))
        sessions = "Server_ServerDiagnostics_SessionsDiagnosticsSummary"
        self._show(f"{sessions}_SessionDiagnosticsArray", lambda: array_of(map(of_session, self._sessions())))
        self._show(f"{sessions}_SessionSecurityDiagnosticsArray", self._security)
        self._show(
            "Server_ServerDiagnostics_SubscriptionDiagnosticsArray",
            lambda: array_of(map(of_subscription, self._subscriptions())),
        )
        self._show("Server_ServerDiagnostics_SamplingIntervalDiagnosticsArray", lambda: array_of(()))

    def summary(self) -> ua.ServerDiagnosticsSummaryDataType:
        """The whole server."""
        subscriptions = self._subscriptions()
        return ua.ServerDiagnosticsSummaryDataType(
            CurrentSessionCount=len(self._sessions()),
            CurrentSubscriptionCount=len(subscriptions),
            CumulatedSubscriptionCount=self._all_subscriptions.created,
            PublishingIntervalCount=len({held.terms.interval for held in subscriptions}),
            **asdict(self._counts),
        )

    def tell(self) -> None:
        """Tell the monitored items of the diagnostics nodes how things stand."""
        for node_id in self._nodes:
            attribute = self._space.node(node_id).attributes[ua.AttributeIds.Value]
            if attribute.datachange_callbacks:
                with read_by(NOBODY):
                    value = self._space.read_attribute_value(node_id, ua.AttributeIds.Value)
                change = Change.of(value)
                for item in attribute.datachange_callbacks.values():
                    item.push(change)

    def _show(self, name: str, value: Callable[[], ua.Variant | ua.StatusCode]) -> None:
        def made(node_id: ua.NodeId, attribute: ua.AttributeIds) -> ua.DataValue:
            held: ua.DataValue = made_once(node_id, lambda: value_of(value()))
            return held

        node_id = ua.NodeId(getattr(Ids, name))
        if self._space.set_attribute_value_callback(node_id, ua.AttributeIds.Value, made).is_good():
            self._nodes.append(node_id)

    def _count(self, name: str) -> Callable[[], ua.Variant]:
        return lambda: ua.Variant(getattr(self.summary(), name), Type.UInt32)

    def _security(self) -> ua.Variant | ua.StatusCode:
        reading = READING.get()
        if reading is None or not reading.reader.may_audit:
            return _DENIED
        if not reading.reader.is_encrypted:
            return _INSECURE
        return array_of(map(of_security, self._sessions()))

    def _subscriptions(self) -> list[Subscription]:
        return list(self._all_subscriptions.subscriptions.values())


def value_of(made: ua.Variant | ua.StatusCode) -> ua.DataValue:
    """What a node tells: the value, or why there is none."""
    return ua.DataValue(StatusCode=made) if isinstance(made, ua.StatusCode) else good(made)


def array_of(structures: Iterable[Any]) -> ua.Variant:
    """A value of these structures."""
    return ua.Variant(list(structures), Type.ExtensionObject, is_array=True)


def shown(text: str | None) -> str:
    """What a client says of itself, no longer than is useful."""
    return (text or "")[:_LONGEST_TEXT]


def of_session(session: Session) -> ua.SessionDiagnosticsDataType:
    """A session's diagnostics (Part 5, 12.11)."""
    asked, client = session.asked, session.asked.ClientDescription
    idle = timedelta(seconds=time.monotonic() - session._last_activity)
    subscriptions = session.subscription_service.subscriptions.values()
    return ua.SessionDiagnosticsDataType(
        SessionId=session.session_id,
        SessionName=shown(asked.SessionName),
        ClientDescription=ua.ApplicationDescription(
            ApplicationUri=shown(client.ApplicationUri),
            ProductUri=shown(client.ProductUri),
            ApplicationName=ua.LocalizedText(shown(client.ApplicationName.Text)),
            ApplicationType=client.ApplicationType,
        ),
        ServerUri=shown(asked.ServerUri),
        EndpointUrl=shown(asked.EndpointUrl),
        ActualSessionTimeout=1000 * (session.session_timeout or 0.0),
        MaxResponseMessageSize=asked.MaxResponseMessageSize,
        ClientConnectionTime=session.since,
        ClientLastContactTime=datetime.now(UTC) - idle,
        CurrentSubscriptionsCount=len(subscriptions),
        CurrentMonitoredItemsCount=items_of(subscriptions),
        CurrentPublishRequestsInQueue=session.processor.publish_requests if session.processor else 0,
        **session.counts.fields(),
    )


def of_security(session: Session) -> SecurityDiagnostics:
    """What a session's security rests on (Part 5, 12.12); the certificate is the public one."""
    policy = session.security_policy
    return SecurityDiagnostics(
        SessionId=session.session_id,
        ClientUserIdOfSession=session.user.name or "",
        ClientUserIdHistory=list(session.user_names),
        AuthenticationMechanism=session.authentication,
        SecurityMode=policy.Mode,
        SecurityPolicyUri=policy.URI,
        ClientCertificate=policy.peer_certificate or b"",
    )


def of_subscription(subscription: Subscription) -> ua.SubscriptionDiagnosticsDataType:
    """A subscription's diagnostics (Part 5, 12.15) as far as it is known now; what is not counted says 0."""
    terms, items = subscription.terms, subscription.items.values()
    return ua.SubscriptionDiagnosticsDataType(
        SessionId=subscription.session_id,
        SubscriptionId=subscription.id,
        Priority=terms.priority,
        PublishingInterval=terms.interval,
        MaxKeepAliveCount=terms.keep_alive,
        MaxLifetimeCount=terms.lifetime,
        MaxNotificationsPerPublish=terms.most,
        PublishingEnabled=subscription.enabled,
        CurrentKeepAliveCount=subscription.silent,
        CurrentLifetimeCount=subscription.unheard,
        UnacknowledgedMessageCount=len(subscription.unacknowledged),
        MonitoredItemCount=len(items),
        DisabledMonitoredItemCount=sum(item.mode is ua.MonitoringMode.Disabled for item in items),
        NextSequenceNumber=subscription.sequence_number,
    )
