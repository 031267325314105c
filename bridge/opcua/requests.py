"""Requests as they come in: decoded within limits, and those served that asyncua does not know.

In: message bodies. Out: responses; for what cannot be decoded or asks too much, the service fault of the standard.
"""

import asyncio
import functools
import math
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData, ServiceError
from asyncua.server import uaprocessor
from asyncua.ua import ua_binary
from asyncua.ua.ua_binary import struct_from_binary

from .bookkeeping import ACTIVATE_SESSION, note
from .readers import read_by
from .sessions import Server, Session
from .transport import StrictProcessor

log = structlog.get_logger(__name__)

Ids = ua.ObjectIds
Codes = ua.StatusCodes


class RequestBuffer(Buffer):
    """The body of a request, with the number of elements that its arrays may still have, all taken together."""

    def __init__(self, data: Any, start: int, size: int, budget: list[int]) -> None:
        super().__init__(data, start, size)
        self._budget = budget

    def copy(self, size: int = -1) -> "RequestBuffer":
        """As asyncua's, with the same budget."""
        plain = super().copy(size)
        return RequestBuffer(plain._data, plain._cur_pos, plain._size, self._budget)

    def expect(self, length: int) -> None:
        """An array of this length comes now; UaStatusCodeError BadEncodingLimitsExceeded when that is too long."""
        if length > 0:
            self._budget[0] -= length
            if self._budget[0] < 0:
                raise ua.UaStatusCodeError(Codes.BadEncodingLimitsExceeded)


def _counted(decoder_of: Callable[[Any], Callable[[Any], Any]]) -> Callable[[Any], Callable[[Any], Any]]:
    """asyncua's maker of array decoders, with decoders that ask a RequestBuffer first."""

    @functools.cache
    def make(kind: Any) -> Callable[[Any], Any]:
        decode = decoder_of(kind)

        def decode_counted(data: Any) -> Any:
            if isinstance(data, RequestBuffer):
                data.expect(ua_binary.Primitives.Int32.unpack(data.copy(4)))
            return decode(data)

        return decode_counted

    return make


def _shaped(flat: list[Any], dimensions: list[int]) -> list[Any]:
    """A matrix of exactly these elements; asyncua would fill one up to whatever size its dimensions claim."""
    if not dimensions or min(dimensions) < 0 or math.prod(dimensions) != len(flat):
        raise ua.UaStatusCodeError(Codes.BadDecodingError)
    return _reshape(flat, dimensions) if flat else []


def decoded(kind: Any, body: Any) -> Any:
    """The structure; UaStatusCodeError BadDecodingError for bytes that are none."""
    try:
        return struct_from_binary(kind, body)
    except ua.UaStatusCodeError:
        raise
    except Exception as error:
        raise ua.UaStatusCodeError(Codes.BadDecodingError) from error


_reshape = ua_binary._reshape


def limit_decoding() -> None:
    """Make asyncua's decoders keep to limits: without, some bytes that claim to be an array could fill the memory."""
    if uaprocessor.struct_from_binary is decoded:
        return
    uaprocessor.struct_from_binary = decoded
    ua_binary._reshape = _shaped
    ua_binary._create_uatype_array_deserializer = _counted(ua_binary._create_uatype_array_deserializer)
    ua_binary._create_list_deserializer = _counted(ua_binary._create_list_deserializer)
    ua_binary._create_type_deserializer.cache_clear()  # these hold decoders made before
    ua_binary._create_dataclass_deserializer.cache_clear()


class RequestProcessor(StrictProcessor):
    """asyncua's, for requests within limits, of the connection's own session; with the services it lacks."""

    iserver: Server
    session: Session | None

    @property
    def channel_id(self) -> int:
        """Of the secure channel."""
        return int(self._connection.security_token.ChannelId)

    @property
    def publish_requests(self) -> int:
        """How many wait for something to tell."""
        return len(self._publish_requests)

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """As before, decoded within limits."""
        super().open_secure_channel(algohdr, seqhdr, self._limited(body))

    async def process_message(self, seqhdr: Any, body: Any) -> bool:
        """As asyncua's; false, which closes the connection, when not even the request's header can be read."""
        try:
            return bool(await super().process_message(seqhdr, self._limited(body)))
        except (ua.UaStatusCodeError, NotEnoughData, ValueError, struct.error):
            return False

    def _limited(self, body: Buffer) -> RequestBuffer:
        return RequestBuffer(body._data, body._cur_pos, body._size, [self.iserver.limits.array_length])

    async def close(self) -> None:
        """As asyncua's."""
        if self.session is not None and asyncio.current_task() is self._session_watchdog_task:
            self.session.end_cause = "Timeout"
        await super().close()

    async def admit(self, typeid: ua.NodeId, requesthdr: Any, body: Any) -> None:
        """Raise ServiceError for a request that is not to be served; here, for one of another session."""
        session = self.session
        if session is None and typeid == ACTIVATE_SESSION:
            self._check_move(requesthdr.AuthenticationToken)
        elif typeid not in _WITHOUT_SESSION and (
            session is None or requesthdr.AuthenticationToken != session.auth_token
        ):
            raise ServiceError(Codes.BadSessionIdInvalid)

    async def _process_message(self, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        as_it_came = body.copy()
        try:
            await self.admit(typeid, requesthdr, body.copy())
            answered = await self._serve(typeid, requesthdr, seqhdr, body)
        except Exception as error:
            code = getattr(error, "code", Codes.BadInternalError)
            note(self, typeid, requesthdr, as_it_came, ua.StatusCode(code))
            raise
        note(self, typeid, requesthdr, as_it_came)
        return answered

    async def _serve(self, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        session = self.session
        if session is None or typeid in _WITHOUT_SESSION:
            return await super()._process_message(typeid, requesthdr, seqhdr, body)
        session.audit_entry = requesthdr.AuditEntryId or ""
        if typeid == _CLOSE_SESSION:
            session.end_cause = "CloseSession"
        with read_by(session):
            return await self._serve_session(session, typeid, requesthdr, seqhdr, body)

    async def _serve_session(
        self, session: Session, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Any
    ) -> Any:
        serve = _SERVICES.get(typeid)
        if serve is None:
            return await super()._process_message(typeid, requesthdr, seqhdr, body)
        if not session.is_activated():
            raise ServiceError(Codes.BadSessionNotActivated)
        session.touch()
        self.session_last_activity = time.monotonic()
        self.send_response(requesthdr.RequestHandle, seqhdr, await serve(session, body))
        return True

    def end_publish_requests(self) -> None:
        """Without a subscription none has anything to wait for (Part 4, 5.14.5)."""
        session = self.session
        while self._publish_requests and session and not session.subscription_service.subscriptions:
            request = self._publish_requests.popleft()
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(Codes.BadNoSubscription)
            self.send_response(request.requesthdr.RequestHandle, request.seqhdr, fault)

    def _check_move(self, token: ua.NodeId) -> None:
        """A session that a user is in may come to another channel with the same certificate (Part 4, 5.7.3)."""
        session = self.iserver.lookup_external_session(token)
        if session is None or not session.is_activated():
            raise ServiceError(Codes.BadSessionIdInvalid)
        held, policy = session.security_policy, self.policy
        same = held is not None and (held.URI, held.Mode) == (policy.URI, policy.Mode)
        if not same or held.peer_certificate != policy.peer_certificate:
            raise ServiceError(Codes.BadSecurityChecksFailed)

    def send_response(
        self, requesthandle: Any, seqhdr: Any, response: Any, msgtype: Any = ua.MessageType.SecureMessage
    ) -> None:
        """As asyncua's, or the fault BadResponseTooLarge; a client that takes none of its answers is cut off."""
        response.ResponseHeader.RequestHandle = requesthandle
        body = ua_binary.struct_to_binary(response)
        if not self._limits.is_msg_size_within_limit(len(body)):
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(Codes.BadResponseTooLarge)
            fault.ResponseHeader.RequestHandle = requesthandle
            body = ua_binary.struct_to_binary(fault)
        self._transport.write(self._connection.message_to_binary(body, msgtype, seqhdr.RequestId))
        if self._transport.get_write_buffer_size() > self.iserver.limits.unsent:
            log.warning("an OPC UA client is cut off: it does not take its answers", address=self.name)
            self._transport.abort()


async def _browse_next(session: Session, body: Any) -> Any:
    params = decoded(ua.BrowseNextParameters, body)
    return ua.BrowseNextResponse(Parameters=ua.BrowseNextResult(Results=await session.browse_next(params)))


async def _register_nodes(session: Session, body: Any) -> Any:
    nodes = await session.register_nodes(decoded(ua.RegisterNodesParameters, body).NodesToRegister)
    return ua.RegisterNodesResponse(Parameters=ua.RegisterNodesResult(RegisteredNodeIds=nodes))


async def _unregister_nodes(session: Session, body: Any) -> Any:
    await session.unregister_nodes(decoded(ua.UnregisterNodesParameters, body).NodesToUnregister)
    return ua.UnregisterNodesResponse()


async def _set_triggering(session: Session, body: Any) -> Any:
    params = decoded(ua.SetTriggeringParameters, body)
    return ua.SetTriggeringResponse(Parameters=await session.set_triggering(params))


_SERVICES: dict[ua.NodeId, Callable[[Session, Any], Awaitable[Any]]] = {
    ua.NodeId(Ids.BrowseNextRequest_Encoding_DefaultBinary): _browse_next,
    ua.NodeId(Ids.RegisterNodesRequest_Encoding_DefaultBinary): _register_nodes,
    ua.NodeId(Ids.SetTriggeringRequest_Encoding_DefaultBinary): _set_triggering,
    ua.NodeId(Ids.UnregisterNodesRequest_Encoding_DefaultBinary): _unregister_nodes,
}
_CLOSE_SESSION = ua.NodeId(Ids.CloseSessionRequest_Encoding_DefaultBinary)
_WITHOUT_SESSION = {
    ua.NodeId(Ids.FindServersRequest_Encoding_DefaultBinary),
    ua.NodeId(Ids.GetEndpointsRequest_Encoding_DefaultBinary),
    ua.NodeId(Ids.CreateSessionRequest_Encoding_DefaultBinary),
    ua.NodeId(Ids.CloseSecureChannelRequest_Encoding_DefaultBinary),
}
