"""What the server keeps of requests that are done: counts for its diagnostics, and audit events on sessions.

In: the kind of a request, and how it ended. Out: counts, audit events.
"""

from typing import Any, Protocol

from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary

from .audit import GOOD, Audit, Caller
from .counts import ServerCounts
from .sessions import Connection, Session
from .user_certificates import claimed_user

Codes = ua.StatusCodes
CREATE_SESSION = ua.NodeId(ua.ObjectIds.CreateSessionRequest_Encoding_DefaultBinary)
ACTIVATE_SESSION = ua.NodeId(ua.ObjectIds.ActivateSessionRequest_Encoding_DefaultBinary)
_MECHANISMS = {ua.UserNameIdentityToken: "UserName", ua.X509IdentityToken: "Certificate"}
_SECURITY = {
    Codes.BadUserAccessDenied,
    Codes.BadIdentityTokenInvalid,
    Codes.BadIdentityTokenRejected,
    Codes.BadIdentityChangeNotSupported,
    Codes.BadSecurityPolicyRejected,
    Codes.BadSecurityModeRejected,
    Codes.BadSecurityChecksFailed,
    Codes.BadApplicationSignatureInvalid,
    Codes.BadUserSignatureInvalid,
    Codes.BadNonceInvalid,
    Codes.BadSessionNotActivated,
    Codes.BadSessionIdInvalid,
}


class Server(Protocol):
    """Where it is kept."""

    counts: ServerCounts
    audit: Audit


class Processor(Connection, Protocol):
    """The connection that a request came in on, and its server."""

    session: Session | None
    iserver: Server


def is_about_security(code: int) -> bool:
    """Whether a request was refused because of who asked, or how secure that was."""
    return code in _SECURITY or ua.StatusCode(code).name.startswith("BadCertificate")


def note(
    processor: Processor,
    request_type: ua.NodeId,
    header: Any,
    body: Any,
    status: ua.StatusCode = GOOD,
) -> None:
    """Keep what is to be kept of a request; `body` is as it came."""
    session, counts = processor.session, processor.iserver.counts
    refused = status.is_bad()
    security = refused and is_about_security(status.value)
    counts.RejectedRequestsCount += refused
    counts.SecurityRejectedRequestsCount += security
    if session is not None:
        session.counts.count(request_type, refused)
        session.counts.unauthorized += security
    if request_type in (CREATE_SESSION, ACTIVATE_SESSION):
        counts.RejectedSessionCount += refused
        counts.SecurityRejectedSessionCount += security
        if request_type == CREATE_SESSION:
            _created(processor, header, status)
        else:
            _activated(processor, header, body, status)


def _created(processor: Processor, header: Any, status: ua.StatusCode) -> None:
    server, session = processor.iserver, processor.session
    if session is None or status.is_bad():
        caller = Caller(audit_entry=header.AuditEntryId or "", **_channel(processor))
        server.audit.session_created(caller, 0.0, status)
        return
    server.counts.CumulatedSessionCount += 1
    session.use(processor)
    server.audit.session_created(session.caller(), 1000 * (session.session_timeout or 0.0))


def _activated(processor: Processor, header: Any, body: Any, status: ua.StatusCode) -> None:
    server, session = processor.iserver, processor.session
    try:
        token = struct_from_binary(ua.ActivateSessionParameters, body).UserIdentityToken
    except Exception:  # noqa: BLE001 (bytes of strangers may cause any; the answer told so)
        token = None
    if session is None:
        caller = Caller(claimed_user(token), audit_entry=header.AuditEntryId or "", **_channel(processor))
        server.audit.session_activated(caller, token, status)
        return
    if not status.is_bad():
        session.use(processor)
        session.user_names.append(session.user.name or "")
        session.authentication = _MECHANISMS.get(type(token), "Anonymous")
    server.audit.session_activated(session.caller(claimed_user(token)), token, status)


def _channel(processor: Processor) -> dict[str, Any]:
    certificate = processor.policy.peer_certificate or b""
    return {"channel_id": processor.channel_id, "certificate": certificate}
