"""asyncua's server classes with what they lack: lazy nodes, methods of instances, limits, a closed door.

In: the lazy address space, logins, whether anonymous sessions are allowed. Out: an asyncua InternalServer and
BinaryServer.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any

import structlog
from asyncua import Node, ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.address_space import MethodService
from asyncua.server.binary_server_asyncio import BinaryServer
from asyncua.server.history import HistoryManager
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua.ua_binary import struct_from_binary

from .attributes import LazyAttributeService
from .audit import Audit
from .bookkeeping import ACTIVATE_SESSION, CREATE_SESSION
from .connections import LimitedProtocol
from .diagnostics import Diagnostics, monitored_items
from .instances import Delivery, InstanceNode
from .limits import Limits
from .logins import Logins
from .requests import RequestProcessor, limit_decoding
from .sessions import Session
from .space import LazyAddressSpace, LazyNodeManagementService
from .views import LazyViewService

log = structlog.get_logger(__name__)

CURRENT_TIME = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
SERVER_STATUS = ua.NodeId(ua.ObjectIds.Server_ServerStatus)
_DISCOVERY = {  # what needs neither security nor a session (Part 4, 5.5)
    ua.NodeId(ua.ObjectIds.FindServersRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.GetEndpointsRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.CloseSecureChannelRequest_Encoding_DefaultBinary),
}
_REGISTRATION = {  # this is no discovery server: nobody registers others here
    ua.NodeId(ua.ObjectIds.RegisterServerRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.RegisterServer2Request_Encoding_DefaultBinary),
}


class LazyMethodService(MethodService):
    """Methods of instances are their template's callbacks; called by their own id or that of their declaration."""

    async def _call(self, method: ua.CallMethodRequest) -> ua.CallMethodResult:
        owner = self._aspace.get(method.ObjectId)
        if not isinstance(owner, InstanceNode):
            return await super()._call(method)
        codes = ua.StatusCodes
        called = self._aspace.get(method.MethodId)
        if called is None:
            return ua.CallMethodResult(ua.StatusCode(codes.BadMethodInvalid))
        name = called.attributes[ua.AttributeIds.BrowseName].value.Value.Value
        node = next((child for child in owner.node.children if child.browse_name == name), None)
        if node is None or node.node_class is not ua.NodeClass.Method:
            return ua.CallMethodResult(ua.StatusCode(codes.BadMethodInvalid))
        if node.method is None:
            return ua.CallMethodResult(ua.StatusCode(codes.BadNotImplemented))
        arguments = method.InputArguments or []
        try:
            result = await node.method(owner.instance, *arguments)
        except Exception:
            log.exception("a method failed", machine=owner.instance.name, method=node.path)
            return ua.CallMethodResult(ua.StatusCode(codes.BadInternalError))
        answer = ua.CallMethodResult()
        if isinstance(result, ua.StatusCode):
            answer.StatusCode = result
        else:
            answer.OutputArguments = result
        answer.InputArgumentResults = [ua.StatusCode() for _ in arguments]
        return answer


class LimitedSubscriptionService(SubscriptionService):
    """No subscription publishes more often than the server's limit, in milliseconds, and none grows beyond limits."""

    def __init__(
        self, aspace: LazyAddressSpace, iserver: InternalServer, shortest: float, limits: Limits
    ) -> None:
        super().__init__(aspace, iserver=iserver)
        self._shortest = shortest
        self._limits = limits

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Any,
        session_id: ua.NodeId,
        request_callback: Any = None,
    ) -> ua.CreateSubscriptionResult:
        """As asyncua's, with the revised interval never below the limit."""
        owned = sum(held.session_id == session_id for held in self.subscriptions.values())
        if owned >= self._limits.subscriptions_per_session:
            raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)
        interval = params.RequestedPublishingInterval
        if not interval >= self._shortest:  # NaN is revised too
            params.RequestedPublishingInterval = self._shortest
        created = await super().create_subscription(
            params, callback, session_id, request_callback=request_callback
        )
        self.iserver.diagnostics.counts.CumulatedSubscriptionCount += 1
        return created

    async def trigger_event(self, event: Any, subscription_id: int | None = None) -> None:
        """As asyncua's; what is confidential is for the sessions of named users alone."""
        if not event.confidential:
            await super().trigger_event(event, subscription_id)
            return
        named = {
            session.session_id for session in self.iserver._external_sessions.values() if session.user.name
        }
        for subscription in list(self.subscriptions.values()):
            if subscription.session_id in named:
                await subscription.monitored_item_srv.trigger_event(event)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """As asyncua's, for as many items as there is room for; BadTooManyMonitoredItems for the others."""
        room = self._room(params.SubscriptionId)
        accepted: list[ua.MonitoredItemCreateRequest] = []
        refusals: list[int] = []  # of each item, 0 for one that is accepted
        for item in params.ItemsToCreate:
            refusal = self._refusal(item)
            if not refusal and len(accepted) == room:
                refusal = ua.StatusCodes.BadTooManyMonitoredItems
            if not refusal:
                accepted.append(item)
            refusals.append(refusal)
        params.ItemsToCreate = accepted
        created = iter(await super().create_monitored_items(params))
        return [
            ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(refusal)) if refusal else next(created)
            for refusal in refusals
        ]

    def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """As asyncua's, but for filters that are too large."""
        refusals = [self._refusal(item) for item in params.ItemsToModify]
        accepted = zip(params.ItemsToModify, refusals, strict=True)
        params.ItemsToModify = [item for item, refusal in accepted if not refusal]
        modified = iter(super().modify_monitored_items(params))
        return [
            ua.MonitoredItemModifyResult(StatusCode=ua.StatusCode(refusal)) if refusal else next(modified)
            for refusal in refusals
        ]

    def _refusal(self, item: Any) -> int:
        """Why an item cannot have the filter that is asked for, or Good (0)."""
        wanted = item.RequestedParameters.Filter
        selected = len(getattr(wanted, "SelectClauses", None) or ())
        where = getattr(wanted, "WhereClause", None)
        elements = len((where and where.Elements) or ())
        small = selected <= self._limits.select_clauses and elements <= self._limits.where_elements
        return 0 if small else int(ua.StatusCodes.BadMonitoredItemFilterInvalid)

    def _room(self, subscription_id: int) -> int:
        counts = {number: monitored_items(held) for number, held in self.subscriptions.items()}
        in_all = self._limits.monitored_items - sum(counts.values())
        in_one = self._limits.monitored_items_per_subscription - counts.get(subscription_id, 0)
        return max(0, min(in_all, in_one))


class LazyInternalServer(InternalServer):
    """asyncua's services over the lazy address space."""

    def __init__(
        self,
        space: LazyAddressSpace,
        logins: Logins,
        anonymous: bool,
        shortest_interval: float,
        limits: Limits,
    ) -> None:
        super().__init__(user_manager=logins)
        limit_decoding()
        self.logins = logins
        self.limits = limits
        self.max_connections = limits.connections
        self.max_subscriptions = limits.subscriptions
        self.max_monitored_item_queue_size = limits.queue_size
        self.allow_remote_admin = False
        self.anonymous = anonymous
        self.disabled_clock = True  # ours below can be stopped at once
        tokens = [ua.UserNameIdentityToken, *([ua.AnonymousIdentityToken] if anonymous else [])]
        self.supported_tokens = tuple(tokens)
        # Made again, since asyncua's constructor made them on an address space of its own.
        self.aspace = space
        self.attribute_service = LazyAttributeService(space, limits)
        self.view_service = LazyViewService(space, limits)
        self.method_service = LazyMethodService(space)
        self.node_mgt_service = LazyNodeManagementService(space)
        self.subscription_service = LimitedSubscriptionService(space, self, shortest_interval, limits)
        self.history_manager = HistoryManager(self)
        self.isession = InternalSession(
            self, space, self.subscription_service, "Internal", user=User(UserRole.Admin)
        )
        self.current_time_node = Node(self.isession, CURRENT_TIME)
        self.server_status_node = Node(self.isession, SERVER_STATUS)
        self.diagnostics = Diagnostics(self, space)
        self.audit: Audit
        self.delivery: Delivery
        self._clock: asyncio.Task[None] | None = None
        self._full = False  # a session was refused because of its number
        self._crowded = False  # a connection was

    async def init(self, shelffile: Any = None) -> None:
        """Nothing to load: the type table is the address space."""
        await self.history_manager.init()
        self.diagnostics.serve()

    async def start(self) -> None:
        """Start the services and the clock."""
        await super().start()
        self._clock = asyncio.create_task(self._tick())

    def create_session(self, name: Any, user: Any = None, external: bool = False) -> Session:
        """A session of a client."""
        return Session(self, name)

    def may_administer(self, user: User) -> bool:
        """Whether the user may see what is about other users; no client's user is an administrator."""
        return user.role is UserRole.Admin

    async def make_room(self) -> None:
        """For one more session: of too many, the oldest that is not activated goes (Part 4, 5.6.2)."""
        sessions = self._external_sessions
        if len(sessions) < self.limits.sessions:
            self._full = False
            return
        idle = next((session for session in sessions.values() if not session.is_activated()), None)
        if idle is not None:
            await idle.close_session()
            return
        if not self._full:
            log.warning("OPC UA clients are refused: there are too many sessions", limit=self.limits.sessions)
        self._full = True
        raise ServiceError(ua.StatusCodes.BadTooManySessions)

    def note_connections(self, count: int) -> None:
        """Say once that connections are refused for their number; again when half of them were gone meanwhile."""
        if count >= self.max_connections and not self._crowded:
            log.warning("OPC UA connections are refused: there are too many", limit=self.max_connections)
            self._crowded = True
        elif count < self.max_connections // 2:
            self._crowded = False

    async def stop(self) -> None:
        """Stop the clock and close all sessions."""
        self.logins.close()
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        for session in list(self._external_sessions.values()):
            await session.close_session(True)
        await super().stop()

    async def _tick(self) -> None:
        """Server/ServerStatus/CurrentTime and monitored diagnostics, once a second."""
        while True:
            status = copy(await self.server_status_node.read_value())
            status.CurrentTime = datetime.now(UTC)
            await self.server_status_node.write_value(status)
            await self.current_time_node.write_value(status.CurrentTime)
            for watchers, value in self.diagnostics.watched():
                self.delivery.changed(watchers, value)
            await asyncio.sleep(1)


class GuardedProcessor(RequestProcessor):
    """Refuses what asyncua lets through: sessions on unsecured channels, and registrations of other servers."""

    async def admit(self, typeid: ua.NodeId, requesthdr: Any, body: Any) -> None:
        """Raise ServiceError for what is not to be served."""
        if typeid in _REGISTRATION:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        unsecured = self._connection.security_policy.URI == SecurityPolicyNone.URI
        if unsecured and not self.iserver.anonymous and typeid not in _DISCOVERY:
            raise ServiceError(ua.StatusCodes.BadSecurityPolicyRejected)
        if typeid == CREATE_SESSION:
            if self.session is not None and not self.session.is_activated():
                await self.session.close_session()  # nobody would: asyncua forgets it with the next one
            await self.iserver.make_room()
        if typeid == ACTIVATE_SESSION and not await self._let_in(requesthdr, body):
            raise ServiceError(ua.StatusCodes.BadUserAccessDenied)

    async def _let_in(self, requesthdr: Any, body: Any) -> bool:
        """Whether the user may come in; asyncua asks again, and gets the same answer at once."""
        token = struct_from_binary(ua.ActivateSessionParameters, body).UserIdentityToken
        session = self.session or self.iserver.lookup_external_session(requesthdr.AuthenticationToken)
        if session is None or not isinstance(token, ua.UserNameIdentityToken):
            return True  # for asyncua to judge
        try:
            name, password = self.iserver.decrypt_user_token(session, token)
        except (ValueError, TypeError, struct.error):
            raise ServiceError(ua.StatusCodes.BadIdentityTokenInvalid) from None
        address = self.name[0] if self.name else "unknown"
        logins: Logins = self.iserver.logins
        return await logins.admit(address, name or "", password or "")


class GuardedProtocol(LimitedProtocol):
    """A connection with a guarded processor."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncua's."""
        self.iserver.note_connections(len(self.clients))
        super().connection_made(transport)
        if self in self.clients:  # it was not refused for being one too many
            self.processor: RequestProcessor = GuardedProcessor(self.iserver, self.transport, self.limits)
            self.processor.set_policies(self.policies)


class GuardedBinaryServer(BinaryServer):
    """Serves a socket that is bound already, so that a taken port is found before anything else is set up."""

    def __init__(self, iserver: InternalServer, listening: socket.socket, limits: TransportLimits) -> None:
        host, port = listening.getsockname()[:2]
        super().__init__(iserver, host, port, limits)
        self._socket = listening

    def _make_protocol(self) -> GuardedProtocol:
        return GuardedProtocol(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )

    async def start(self) -> None:
        """Begin to accept connections."""
        factory: Callable[[], GuardedProtocol] = self._make_protocol
        self._server = await asyncio.get_running_loop().create_server(factory, sock=self._socket)
        self.cleanup_task = asyncio.create_task(self._close_task_loop())
