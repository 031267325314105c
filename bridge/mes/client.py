"""How a MES instance is spoken to: one message in, one outcome out. When to speak is not known here.

A `Client` brings messages to a MES over the network. What they look like there, and what the answers mean, is
known by an `Adapter`, which is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Protocol


class Kind(StrEnum):
    """What a message is about; each has a body in ``docs/mes-api.yaml``."""

    REGISTRATION = "registration"
    STATUS = "status"
    EVENT = "event"
    HEARTBEAT = "heartbeat"
    SIGN_OFF = "sign-off"


@dataclass(frozen=True, slots=True)
class Message:
    """What a MES is told. `key` names it for ever; `machine` is None when it is about the whole bridge; `body` is JSON
    as ``docs/mes-api.yaml`` has it, whatever is spoken in the end."""

    kind: Kind
    machine: str | None
    key: str
    body: str


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to `path`, which is relative to the url of the MES; empty means that url itself."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the names of `headers` are in lower case, `content` may be cut."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class Verdict(Enum):
    """What the answer to a request means for the one who sent it."""

    DONE = "done"
    FAILED = "failed"
    """The MES stumbled over this request; it may take it later."""
    AWAY = "away"
    """The MES is not reachable, or asks for patience."""
    UNAUTHORISED = "unauthorised"
    FOREIGN = "foreign"
    """Something answers that is not what the settings say."""
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


class SecretError(ValueError):
    """A token or secret cannot be used; the text says why and what to do, and shows nothing of it."""


class Adapter(Protocol):
    """What one kind of MES is told, and what its answers mean. Without any I/O."""

    def request(self, message: Message, secret: str, now: datetime) -> Request:
        """The request that brings `message`, authorised with `secret` at the time `now`.

        The same message gives the same request, but for what the time changes. Raises `SecretError`.
        """

    def outcome(self, message: Message, answer: Answer) -> Outcome:
        """What the answer to that request means. The outcome of a registration that is `DONE` has an `answer` with
        the machine's ``activation``."""


class Client(Protocol):
    """Speaks to one MES instance."""

    def send(self, message: Message, timeout: float | None = None) -> Outcome:
        """Bring `message` to the MES, in `timeout` seconds at most. Never raises for what the network or the MES
        does. Raises `MesError` when there is no token that can be sent."""

    def close(self) -> None:
        """Let go of the connections."""
