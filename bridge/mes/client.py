"""How a MES instance is spoken to: one request of the contract in, one outcome out.

The contract is ``docs/mes-api.yaml``. When to speak is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from urllib.parse import quote


class Verdict(Enum):
    """What the answer to a request means for the one who sent it."""

    DONE = "done"
    FAILED = "failed"
    """The MES stumbled over this request; it may take it later."""
    AWAY = "away"
    """The MES is not reachable, or asks for patience."""
    UNAUTHORISED = "unauthorised"
    FOREIGN = "foreign"
    """Something answers that does not speak the contract."""
    UNKNOWN = "unknown"
    """The MES knows no such machine, bridge or service."""
    REFUSED = "refused"
    """The MES will never take this request."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request went; `retry_after` in seconds when the MES asked for a pause."""

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    answer: Mapping[str, Any] | None = None


class Client(Protocol):
    """Speaks to one MES instance."""

    def send(self, method: str, path: str, key: str, body: str, timeout: float | None = None) -> Outcome:
        """Send `body` (JSON) to `path`, below the service, under the idempotency `key`. Never raises
        for what the network or the MES does. Raises `MesError` when there is no token that can be sent."""

    def close(self) -> None:
        """Let go of the connections."""


def machine_path(machine: str, part: str = "") -> str:
    """The path of a machine below the service, or that of one of its parts."""
    return f"machines/{quote(machine, safe='')}" + (f"/{part}" if part else "")
