"""Audit events (Part 4, 6.5; Part 5, 6.4): who opened, used and closed sessions, and who called which method.

In: what was asked, by whom, and how it ended. Out: event types and fields; never a secret among them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.ua import ua_binary

from .events import SERVER

Ids = ua.ObjectIds
Emit = Callable[
    [ua.NodeId, ua.NodeId, str, Mapping[str, Any]], None
]  # event type, source node and name, fields
GOOD = ua.StatusCode()
_DONE, _REFUSED = 100, 500  # severities
_LONGEST_TEXT = 256  # of what clients say of themselves
_LARGEST_ARGUMENTS = 4096  # bytes; what is larger is left out, since events wait in queues


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the names are as the client tells them, until a user's password was right."""

    user: str = ""
    application_uri: str = ""
    audit_entry: str = ""
    session_id: ua.NodeId = ua.NodeId()  # noqa: RUF009 (never changed)
    channel_id: int = 0
    certificate: bytes = b""

    def fields(self) -> dict[str, Any]:
        """What every audit event says of the caller."""
        return {
            "ClientUserId": self.user[:_LONGEST_TEXT],
            "ClientApplicationUri": self.application_uri[:_LONGEST_TEXT],
            "ClientAuditEntryId": self.audit_entry[:_LONGEST_TEXT],
        }


class Audit:
    """Makes the audit events of one server, if anybody may be interested in them."""

    def __init__(self, emit: Emit, wanted: Callable[[], bool]) -> None:
        self.server_id = ""  # the server's application URI
        self._emit = emit
        self._wanted = wanted

    def session_created(self, caller: Caller, timeout: float, status: ua.StatusCode = GOOD) -> None:
        """CreateSession; `timeout` in milliseconds."""
        fields = {
            "SecureChannelId": str(caller.channel_id),
            "ClientCertificate": caller.certificate,
            "ClientCertificateThumbprint": thumbprint(caller.certificate),
            "RevisedSessionTimeout": timeout,
        }
        self._session_event(Ids.AuditCreateSessionEventType, "CreateSession", caller, status, fields)

    def session_activated(self, caller: Caller, token: Any, status: ua.StatusCode = GOOD) -> None:
        """ActivateSession, also to change the user."""
        fields = {
            "SecureChannelId": str(caller.channel_id),
            "ClientSoftwareCertificates": [],
            "UserIdentityToken": without_secret(token),
        }
        self._session_event(Ids.AuditActivateSessionEventType, "ActivateSession", caller, status, fields)

    def session_ended(self, caller: Caller, cause: str) -> None:
        """A session is no more; the cause is CloseSession, Timeout or Terminated."""
        self._session_event(Ids.AuditSessionEventType, cause, caller, GOOD, {})

    def method_called(
        self, caller: Caller, request: ua.CallMethodRequest, status: ua.StatusCode, outputs: list[ua.Variant]
    ) -> None:
        """One operation of Call."""
        fields = {
            "MethodId": request.MethodId,
            "InputArguments": _arguments(request.InputArguments or []),
            "OutputArguments": _arguments(outputs),
        }
        event_type = ua.NodeId(Ids.AuditUpdateMethodEventType)
        self._send(event_type, request.ObjectId, "Attribute/Call", caller, status, fields)

    def _session_event(
        self, event_type: int, cause: str, caller: Caller, status: ua.StatusCode, fields: dict[str, Any]
    ) -> None:
        fields = {"SessionId": caller.session_id, **fields}
        self._send(ua.NodeId(event_type), SERVER, f"Session/{cause}", caller, status, fields)

    def _send(
        self,
        event_type: ua.NodeId,
        source: ua.NodeId,
        source_name: str,
        caller: Caller,
        status: ua.StatusCode,
        fields: dict[str, Any],
    ) -> None:
        if not self._wanted():
            return
        done = not status.is_bad()
        common = {
            "ActionTimeStamp": datetime.now(UTC),
            "Status": done,
            "StatusCodeId": status,
            "ServerId": self.server_id,
            "Severity": _DONE if done else _REFUSED,
            "Message": ua.LocalizedText(source_name if done else f"{source_name}: {status.doc}"),
        }
        self._emit(event_type, source, source_name, {**common, **caller.fields(), **fields})


def thumbprint(certificate: bytes) -> str:
    """How certificates are named (Part 6, 6.2.2): the SHA-1 of all, in hexadecimal; empty for none."""
    return hashlib.sha1(certificate, usedforsecurity=False).hexdigest().upper() if certificate else ""


def without_secret(token: Any) -> Any:
    """The user identity token without password or token data; None for what is no such token."""
    if isinstance(token, ua.UserNameIdentityToken):
        return replace(token, Password=None, UserName=(token.UserName or "")[:_LONGEST_TEXT])
    if isinstance(token, ua.IssuedIdentityToken):
        return replace(token, TokenData=None)
    return token if isinstance(token, (ua.AnonymousIdentityToken, ua.X509IdentityToken)) else None


def _arguments(arguments: list[ua.Variant]) -> ua.Variant:
    size = sum(len(ua_binary.variant_to_binary(argument)) for argument in arguments)
    return ua.Variant(arguments if size <= _LARGEST_ARGUMENTS else [], ua.VariantType.Variant, is_array=True)
