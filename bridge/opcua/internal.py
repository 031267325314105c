"""asyncua's server classes with what they lack: lazy nodes, methods of instances, limits, a closed door.

In: the lazy address space, logins, whether anonymous sessions are allowed. Out: an asyncua InternalServer and
BinaryServer.
"""

import asyncio
import secrets
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
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss
from asyncua.server.binary_server_asyncio import BinaryServer
from asyncua.server.history import HistoryManager
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from cryptography.hazmat.primitives import serialization

from .attributes import LazyAttributeService
from .audit import Audit
from .bookkeeping import ACTIVATE_SESSION, CREATE_SESSION
from .connections import LimitedProtocol
from .counts import ServerCounts
from .diagnostics import Diagnostics
from .errors import UsersError
from .limits import Limits
from .logins import Logins, TooManyTries
from .methods import LazyMethodService
from .ports import SCOPE, Scope
from .requests import RequestProcessor, decoded, limit_decoding
from .sessions import Session
from .space import LazyAddressSpace, LazyNodeManagementService
from .subscription_services import Subscriptions
from .transport import password_of
from .trust import TrustList, printable
from .user_certificates import ProvenCertificate, prove
from .validation import CertificateRefused, application_uris, certificates_in
from .views import LazyViewService

log = structlog.get_logger(__name__)

CURRENT_TIME = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
SERVER_STATUS = ua.NodeId(ua.ObjectIds.Server_ServerStatus)
_DISCOVERY = {  # what needs neither security nor a session (Part 4, 5.5)
    ua.NodeId(ua.ObjectIds.FindServersRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.GetEndpointsRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.CloseSecureChannelRequest_Encoding_DefaultBinary),
}
STRONGEST = SecurityPolicyAes256Sha256RsaPss
"""The policy whose signature a user's certificate needs on a channel without security: the first that is offered."""
_SHORTEST_NONCE = 32  # bytes (Part 4, 5.7.2)
_REGISTRATION = {  # this is no discovery server: nobody registers others here
    ua.NodeId(ua.ObjectIds.RegisterServerRequest_Encoding_DefaultBinary),
    ua.NodeId(ua.ObjectIds.RegisterServer2Request_Encoding_DefaultBinary),
}


class LazyInternalServer(InternalServer):
    """asyncua's services over the lazy address space."""

    def __init__(
        self,
        space: LazyAddressSpace,
        logins: Logins,
        anonymous: bool,
        shortest_interval: float,
        limits: Limits,
        trust: TrustList,
    ) -> None:
        super().__init__(user_manager=logins)
        limit_decoding()
        self.logins = logins
        self.limits = limits
        self.trust = trust
        self.connections: list[GuardedProtocol] = []  # all, whatever their port
        self.max_connections = limits.connections
        self.allow_remote_admin = False
        self.anonymous = anonymous
        self.disabled_clock = True  # ours below can be stopped at once
        tokens = [
            ua.UserNameIdentityToken,
            ua.X509IdentityToken,
            *([ua.AnonymousIdentityToken] if anonymous else []),
        ]
        self.supported_tokens = tuple(tokens)
        # Made again, since asyncua's constructor made them on an address space of its own.
        self.aspace = space
        self.attribute_service = LazyAttributeService(space, limits)
        self.view_service = LazyViewService(space, limits)
        self.method_service = LazyMethodService(space)
        self.node_mgt_service = LazyNodeManagementService(space)
        self.subscription_service = Subscriptions(space, limits, shortest_interval)
        self.history_manager = HistoryManager(self)
        self.isession = InternalSession(
            self, space, self.subscription_service, "Internal", user=User(UserRole.Admin)
        )
        self.current_time_node = Node(self.isession, CURRENT_TIME)
        self.server_status_node = Node(self.isession, SERVER_STATUS)
        self.counts = ServerCounts()
        self.diagnostics = Diagnostics(space, self.subscription_service, self.activated_sessions, self.counts)
        self.audit: Audit
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

    def register_external_session(self, session: InternalSession) -> None:
        """As asyncua's, under a token that nobody can guess (Part 4, 7.36)."""
        session.auth_token = ua.NodeId(secrets.token_bytes(32), 0, ua.NodeIdType.ByteString)
        super().register_external_session(session)

    def new_session_id(self) -> ua.NodeId:
        """The NodeId under which the session's diagnostics are found, which no instance has (Part 4, 5.7.2)."""
        return ua.NodeId(f"session-{secrets.token_hex(8)}", self.aspace.instance_namespace)

    def activated_sessions(self) -> list[Session]:
        """The sessions that a user is in."""
        return [session for session in self._external_sessions.values() if session.is_activated()]

    def decrypt_user_token(
        self, isession: InternalSession, token: ua.UserNameIdentityToken
    ) -> tuple[str, str]:
        """In place of asyncua's, which takes weak encryption and passwords recorded in other sessions."""
        return token.UserName or "", password_of(token, self.private_key, isession.nonce or b"")

    def challenge(self, session: InternalSession) -> bytes:
        """What a user's key must sign: this server's certificate and the nonce it gave last (Part 4, 5.7.3)."""
        own: bytes = self.certificate.public_bytes(serialization.Encoding.DER)
        return own + (session.nonce or b"")

    def verify_x509_token(
        self, isession: InternalSession, token: ua.X509IdentityToken, signature: ua.SignatureData
    ) -> ProvenCertificate:
        """In place of asyncua's, which takes SHA-1 and certificates of any time."""
        return prove(token, signature, self.challenge(isession))

    async def recheck_certificates(self) -> None:
        """End the connections of clients whose certificate may not be used any more."""
        for connection in list(self.connections):
            if connection.processor is not None:
                await connection.processor.recheck()

    async def end_sessions(self) -> None:
        """End those whose user was removed or has another password."""
        for session in list(self._external_sessions.values()):
            try:
                current = self.logins.credential(session.user)
            except UsersError:
                return  # nobody can tell who may stay; new ones are refused, and that is logged
            if session.is_activated() and current != session.credential:
                log.info("an OPC UA session ends: its user was removed or changed", user=session.user.name)
                await session.close_session(True)
                if session.processor is not None and session.processor.session is session:
                    session.processor.refuse(ua.StatusCodes.BadSecureChannelClosed)

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
        """Say once that there are too many connections; again when half of them were gone meanwhile."""
        if count >= self.max_connections and not self._crowded:
            log.warning(
                "there are too many OPC UA connections: those without a session make room, more are refused",
                limit=self.max_connections,
            )
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
            self.diagnostics.tell()
            await asyncio.sleep(1)


class GuardedProcessor(RequestProcessor):
    """Refuses what asyncua lets through: unsecured sessions, those of others, and registrations of other servers.

    What a request finds of the instances is what its port's scope says.
    """

    iserver: LazyInternalServer
    scope: Scope | None = None

    async def process_message(self, seqhdr: Any, body: Any) -> bool:
        """As asyncua's, with what this port shows."""
        SCOPE.set(self.scope)
        return await super().process_message(seqhdr, body)

    async def admit(self, typeid: ua.NodeId, requesthdr: Any, body: Any) -> None:
        """Raise ServiceError for what is not to be served."""
        if typeid in _REGISTRATION:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        if not self.secured and not self.iserver.anonymous and typeid not in _DISCOVERY:
            raise ServiceError(ua.StatusCodes.BadSecurityPolicyRejected)
        await super().admit(typeid, requesthdr, body)
        if typeid == CREATE_SESSION:
            self._check_client(decoded(ua.CreateSessionParameters, body))
            if self.session is not None and not self.session.is_activated():
                await self.session.close_session()  # nobody would: asyncua forgets it with the next one
            await self.iserver.make_room()
        if typeid == ACTIVATE_SESSION:
            session = self.session or self.iserver.lookup_external_session(requesthdr.AuthenticationToken)
            await self._let_in(session, decoded(ua.ActivateSessionParameters, body))

    def _check_client(self, params: ua.CreateSessionParameters) -> None:
        """The certificate is the channel's, and the application the one that it names (Part 4, 5.7.2)."""
        if not self.secured:
            return
        if len(params.ClientNonce or b"") < _SHORTEST_NONCE:
            raise ServiceError(ua.StatusCodes.BadNonceInvalid)
        try:
            own = certificates_in(self.policy.peer_certificate)[0]
            said = certificates_in(params.ClientCertificate or b"")[0]
        except CertificateRefused as refused:
            raise ServiceError(refused.status) from None
        if said != own:
            raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
        uri, right = params.ClientDescription.ApplicationUri, application_uris(own)
        if uri not in right:
            reason = printable(f"the client says that its application URI is {uri}, not {', '.join(right)}")
            wrong = CertificateRefused(ua.StatusCodes.BadCertificateUriInvalid, reason)
            self.iserver.trust.tell(own, wrong, self._address)
            raise ServiceError(wrong.status)

    async def _let_in(self, session: Session, params: ua.ActivateSessionParameters) -> None:
        """Refuse who may not come in; asyncua asks for the password again, and gets the same answer at once."""
        name, token = None, params.UserIdentityToken
        if isinstance(token, ua.X509IdentityToken):
            algorithm = self.policy.AsymmetricSignatureURI or STRONGEST.AsymmetricSignatureURI
            challenge = self.iserver.challenge(session)
            name = await self.iserver.logins.admit_certificate(
                self._address, lambda: prove(token, params.UserTokenSignature, challenge, [algorithm])
            )
        if isinstance(token, ua.UserNameIdentityToken):
            if not token.EncryptionAlgorithm and self.policy.Mode != ua.MessageSecurityMode.SignAndEncrypt:
                raise ServiceError(ua.StatusCodes.BadIdentityTokenInvalid)  # a password for all to read
            try:
                name, password = self.iserver.decrypt_user_token(session, token)
            except (ValueError, TypeError, struct.error):
                raise ServiceError(ua.StatusCodes.BadIdentityTokenInvalid) from None
            logins: Logins = self.iserver.logins
            try:
                right = await logins.admit(self._address, name, password)
            except TooManyTries:
                right = False  # nobody learns more than from a wrong password
            if not right:
                raise ServiceError(ua.StatusCodes.BadUserAccessDenied)
        if session.is_activated() and session.processor is not self and session.user.name != name:
            raise ServiceError(ua.StatusCodes.BadIdentityChangeNotSupported)


class GuardedProtocol(LimitedProtocol):
    """A connection with a guarded processor."""

    scope: Scope | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncua's."""
        self.iserver.note_connections(len(self.clients))
        super().connection_made(transport)
        if self in self.clients:  # it was not refused for being one too many
            processor = GuardedProcessor(self.iserver, self.transport, self.limits, self.iserver.trust)
            processor.scope = self.scope
            processor.set_policies(self.policies)
            self.processor = processor


class GuardedBinaryServer(BinaryServer):
    """Serves a socket that is bound already, so that a taken port is found before anything else is set up."""

    def __init__(
        self, iserver: LazyInternalServer, listening: socket.socket, limits: TransportLimits, scope: Scope
    ) -> None:
        host, port = listening.getsockname()[:2]
        super().__init__(iserver, host, port, limits)
        self.clients = iserver.connections
        self._socket = listening
        self._scope = scope

    def _make_protocol(self) -> GuardedProtocol:
        protocol = GuardedProtocol(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )
        protocol.scope = self._scope
        return protocol

    async def start(self) -> None:
        """Begin to accept connections."""
        factory: Callable[[], GuardedProtocol] = self._make_protocol
        self._server = await asyncio.get_running_loop().create_server(factory, sock=self._socket)
        self.cleanup_task = asyncio.create_task(self._close_task_loop())

    async def end(self) -> None:
        """Stop listening here, and end the connections here; `stop` ends those of every port."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.clients):
            if isinstance(connection, GuardedProtocol) and connection.scope is self._scope:
                connection.transport.close()
        if self.cleanup_task is not None:
            self.cleanup_task.cancel()
            await asyncio.gather(self.cleanup_task, return_exceptions=True)
        await self._close_tasks()
