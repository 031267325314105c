"""Sessions of clients (Part 4, 5.7): each with continuation points of its own, within limits and its user's role.

In: requests as decoded. Out: what the services answer; the status code for a request that asks too much, or for a
method that is not for the user's role.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from asyncua import ua
from asyncua.server.internal_session import InternalSession, SessionState

from .attributes import LazyAttributeService
from .audit import Audit, Caller
from .counts import RequestCounts, ServerCounts
from .errors import UsersError
from .instances import InstanceNode
from .limits import Limits, check_operations
from .logins import Logins
from .methods import method_of
from .readers import NOBODY, read_by
from .space import LazyAddressSpace
from .subscription_services import SessionSubscriptions, Subscriptions
from .users import Role
from .views import ContinuationPoints, LazyViewService

DENIED = ua.CallMethodResult(ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
_REMEMBERED_USERS = 10
Service = Callable[..., Awaitable[Any]]


def _limited(service: Service, field: str | None = None) -> Service:
    """asyncua's service, for as many operations as the limits allow; they are in this field of its parameters."""

    async def serve(session: "Session", params: Any, *others: Any) -> Any:
        check_operations(params if field is None else getattr(params, field), session.limits.operations)
        return await service(session, params, *others)

    return serve


class Server(Protocol):
    """What a session needs of the server: its services and limits, and where it tells what became of it."""

    aspace: LazyAddressSpace
    attribute_service: LazyAttributeService
    view_service: LazyViewService
    subscription_service: Subscriptions
    limits: Limits
    logins: Logins
    counts: ServerCounts
    audit: Audit

    def new_session_id(self) -> ua.NodeId: ...
    def lookup_external_session(self, token: ua.NodeId) -> "Session | None": ...


class Connection(Protocol):
    """What a session needs of the connection that it is at."""

    session: "Session | None"

    @property
    def policy(self) -> Any: ...
    @property
    def channel_id(self) -> int: ...
    @property
    def publish_requests(self) -> int: ...

    def get_publish_request(self, subscription_id: int) -> Any: ...
    async def forward_publish_response(self, result: ua.PublishResult, request: Any) -> None: ...
    def end_publish_requests(self) -> None: ...
    def refuse(self, status: int) -> None: ...


class Session(InternalSession):
    """A client's session. Each service checks the number of operations before it does any of them.

    Roles are asked for at each call, so that a change counts at once.
    """

    iserver: Server

    def __init__(self, server: Server, name: Any) -> None:
        super().__init__(server, server.aspace, server.subscription_service, name, external=True)
        self.session_id = server.new_session_id()
        self.limits: Limits = server.limits
        self.subscription_service = SessionSubscriptions(server.subscription_service, self)
        self.continuation_points = ContinuationPoints(self.limits.continuation_points)
        self.asked = ua.CreateSessionParameters()
        self.since = datetime.now(UTC)
        self.counts = RequestCounts()
        self.user_names: deque[str] = deque(maxlen=_REMEMBERED_USERS)
        self.processor: Connection | None = None
        self.security_policy: Any = None  # of the channel; the certificate stays that of the creation
        self.credential: str | None = None  # what `Logins.credential` was when the user came in
        self.authentication = "Anonymous"  # or UserName, Certificate
        self.channel_id = 0
        self.audit_entry = ""  # of the request that is served now
        self.end_cause = "Terminated"  # or Timeout, CloseSession

    def use(self, processor: Connection) -> None:
        """The session is at this connection now, and no longer at the one before (Part 4, 5.7.3); note for whom."""
        if self.processor is not None and self.processor is not processor:
            self.processor.session = None
        self.processor = processor
        self.security_policy = processor.policy
        self.channel_id = processor.channel_id
        try:
            self.credential = self.iserver.logins.credential(self.user)
        except UsersError:
            self.credential = None  # the file broke this moment: the session ends when it can be read again

    @property
    def is_operator(self) -> bool:
        """Whether the user may call the methods of machines."""
        return self.iserver.logins.role(self.user) is Role.OPERATOR

    @property
    def may_audit(self) -> bool:
        """Whether the user may see what is about other users: a named operator, never anybody who comes along."""
        return bool(self.user.name) and self.is_operator

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody else can read what is told."""
        mode = None if self.security_policy is None else self.security_policy.Mode
        return mode is ua.MessageSecurityMode.SignAndEncrypt

    def sees(self, session_id: ua.NodeId, user: str | None) -> bool:
        """Whether the session with this id, of this user, is shown: to itself, the same user and who may audit."""
        own = session_id == self.session_id or (user is not None and user == self.user.name)
        return own or self.may_audit

    def caller(self, claimed_user: str = "") -> Caller:
        """For audit events: the session's user, or else the one that the client claims to be."""
        return Caller(
            user=self.user.name or claimed_user,
            application_uri=self.asked.ClientDescription.ApplicationUri or "",
            audit_entry=self.audit_entry,
            session_id=self.session_id,
            channel_id=self.channel_id,
            certificate=(self.security_policy and self.security_policy.peer_certificate) or b"",
        )

    async def create_session(
        self, params: ua.CreateSessionParameters, sockname: Any = None
    ) -> ua.CreateSessionResult:
        """CreateSession (Part 4, 5.7.2)."""
        self.asked = params
        result = await super().create_session(params, sockname)
        result.MaxRequestMessageSize = self.limits.message_size
        return result

    async def close_session(self, delete_subs: bool = True) -> None:
        """CloseSession (Part 4, 5.7.4), or the end for another reason."""
        if self.state is SessionState.Closed:
            return
        if asyncio.current_task() is self._timeout_task:
            self.end_cause = "Timeout"
        self.continuation_points.clear()
        await super().close_session(delete_subs)
        counts = self.iserver.counts
        counts.SessionTimeoutCount += self.end_cause == "Timeout"
        counts.SessionAbortCount += self.end_cause == "Terminated"
        self.iserver.audit.session_ended(self.caller(), self.end_cause)

    def take_publish_request(self, subscription_id: int) -> Any:
        """A Publish request that waits for something to tell; None, and a call when the next one comes."""
        return None if self.processor is None else self.processor.get_publish_request(subscription_id)

    async def answer(self, result: ua.PublishResult, request: Any) -> None:
        """Answer a Publish request."""
        if self.processor is not None:
            await self.processor.forward_publish_response(result, request)

    history_read = _limited(InternalSession.history_read, "NodesToRead")
    write = _limited(InternalSession.write, "NodesToWrite")
    translate_browsepaths_to_nodeids = _limited(InternalSession.translate_browsepaths_to_nodeids)
    register_nodes = _limited(InternalSession.register_nodes)  # each node is as fast by its own id
    unregister_nodes = _limited(InternalSession.unregister_nodes)
    add_nodes = _limited(InternalSession.add_nodes)
    delete_nodes = _limited(InternalSession.delete_nodes, "NodesToDelete")
    add_references = _limited(InternalSession.add_references)
    delete_references = _limited(InternalSession.delete_references, "ReferencesToDelete")
    modify_monitored_items = _limited(InternalSession.modify_monitored_items, "ItemsToModify")
    set_monitoring_mode = _limited(InternalSession.set_monitoring_mode, "MonitoredItemIds")
    delete_monitored_items = _limited(InternalSession.delete_monitored_items, "MonitoredItemIds")
    set_publishing_mode = _limited(InternalSession.set_publishing_mode, "SubscriptionIds")
    transfer_subscriptions = _limited(InternalSession.transfer_subscriptions, "SubscriptionIds")

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """CreateMonitoredItems (Part 4, 5.13.2). What is shown to some alone is read, not monitored."""
        check_operations(params.ItemsToCreate, self.limits.operations)
        with read_by(NOBODY):
            results: list[ua.MonitoredItemCreateResult] = await super().create_monitored_items(params)
        return results

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read (Part 4, 5.11.2). UserExecutable (Part 3, 5.7) is what `call` would do."""
        check_operations(params.NodesToRead, self.limits.operations)
        values: list[ua.DataValue] = self.iserver.attribute_service.read(params)
        asked = [
            index
            for index, item in enumerate(params.NodesToRead)
            if item.AttributeId == ua.AttributeIds.UserExecutable
        ]
        if asked and not self.is_operator:
            for index in asked:
                value = values[index].Value
                node = self.aspace.get(params.NodesToRead[index].NodeId)
                if value is not None and value.Value and isinstance(node, InstanceNode):
                    values[index] = ua.DataValue(ua.Variant(node.node.for_observers))
        return values

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """Browse (Part 4, 5.9.2)."""
        check_operations(params.NodesToBrowse, self.limits.operations)
        results: list[ua.BrowseResult] = self.iserver.view_service.browse(params, self.continuation_points)
        return results

    async def browse_next(self, parameters: ua.BrowseNextParameters) -> list[ua.BrowseResult]:
        """BrowseNext (Part 4, 5.9.3)."""
        check_operations(parameters.ContinuationPoints, self.limits.operations)
        results: list[ua.BrowseResult] = self.iserver.view_service.browse_next(
            parameters, self.continuation_points
        )
        return results

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Call (Part 4, 5.12.2); methods of instances are for operators where they change something."""
        check_operations(params, self.limits.method_calls)
        results = []
        for request in params:
            result = await self._call(request)
            outputs = result.OutputArguments or []
            self.iserver.audit.method_called(self.caller(), request, result.StatusCode, outputs)
            results.append(result)
        return results

    async def _call(self, request: ua.CallMethodRequest) -> ua.CallMethodResult:
        method = None if self.is_operator else method_of(self.aspace, request)
        if method is not None and not method.for_observers:
            return DENIED
        own: ua.CallMethodResult | None = self.subscription_service.call(request)
        return (await super().call([request]))[0] if own is None else own

    async def set_triggering(self, params: ua.SetTriggeringParameters) -> ua.SetTriggeringResult:
        """SetTriggering (Part 4, 5.13.5)."""
        check_operations([*params.LinksToAdd, *params.LinksToRemove], self.limits.operations)
        return self.subscription_service.set_triggering(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """DeleteSubscriptions (Part 4, 5.14.8); all of them when the session ends."""
        if self.state is not SessionState.Closed:
            check_operations(ids, self.limits.operations)
        results: list[ua.StatusCode] = await super().delete_subscriptions(ids)
        if self.processor is not None and self.state is not SessionState.Closed:
            self.processor.end_publish_requests()
        return results
