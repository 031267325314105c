"""What the server counts of requests and sessions for its diagnostics (Part 5, 12.9 and 12.11).

In: that something happened. Out: the fields of the standard's structures.
"""

from dataclasses import dataclass, fields
from typing import Any

from asyncua import ua

_COUNTED = {  # the field of a session's diagnostics that counts a service, by the type of its requests
    ua.NodeId(getattr(ua.ObjectIds, request)): field.name
    for field in fields(ua.SessionDiagnosticsDataType)
    if hasattr(ua.ObjectIds, request := f"{field.name.removesuffix('Count')}Request_Encoding_DefaultBinary")
}


@dataclass(slots=True)
class ServerCounts:
    """What a ServerDiagnosticsSummaryDataType (Part 5, 12.9) says of the time since the start, by its names."""

    CumulatedSessionCount: int = 0
    SecurityRejectedSessionCount: int = 0
    RejectedSessionCount: int = 0
    SessionTimeoutCount: int = 0
    SessionAbortCount: int = 0
    SecurityRejectedRequestsCount: int = 0
    RejectedRequestsCount: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """How much the server does at this moment; `notifications` are those told to clients since the start."""

    connections: int
    sessions: int
    subscriptions: int
    monitored_items: int
    notifications: int
    rejected_sessions: int
    rejected_requests: int


class RequestCounts:
    """The requests of one session: all, and those that were refused; by service."""

    def __init__(self) -> None:
        self._services: dict[str, list[int]] = {}
        self._total = [0, 0]
        self.unauthorized = 0

    def count(self, request_type: ua.NodeId, refused: bool) -> None:
        """One more request."""
        service = self._services.setdefault(_COUNTED.get(request_type, ""), [0, 0])
        for counter in (service, self._total):
            counter[0] += 1
            counter[1] += refused

    def fields(self) -> dict[str, Any]:
        """For a SessionDiagnosticsDataType."""
        counters = {name: counts for name, counts in self._services.items() if name}
        counters["TotalRequestCount"] = self._total
        told = {name: ua.ServiceCounterDataType(*counts) for name, counts in counters.items()}
        return {"UnauthorizedRequestCount": self.unauthorized, **told}
