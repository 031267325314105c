"""What a bridge says of itself, and what may be shown of what it says.

In flow a connection and, to be believed, a key; out flows the bridge's `Greeting`. Everything that arrives is
untrusted: texts are cleaned before anybody sees them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge import wire

from .line import Answer, Line

PATH = "/hello"
JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_QUESTION = b"{}"
_CONNECT_S, _READ_S = 2.0, 2.0
_MOST = 64 * 1024


@dataclass(frozen=True)
class Greeting:
    """What a bridge says of itself; `pairing`: whether it takes requests now."""

    version: str
    bridge_id: str
    bridge_name: str
    pairing: bool

    def record(self) -> dict[str, str | None]:
        """As the settings tab gets it."""
        return {"id": self.bridge_id, "name": self.bridge_name or None, "version": self.version}


def greet(line: Line, base: str) -> tuple[int, Greeting | None]:
    """HTTP's status of what answers at `base`, and what it says, unproved; None when it is no MESBridge.

    Raises `Unreachable`.
    """
    answer = _ask(line, base, {})
    return answer.status, _greeting(answer)


def meet(
    line: Line, base: str, key: wire.PushKey, ahead: timedelta = timedelta(0)
) -> tuple[timedelta | None, Greeting | None]:
    """What the clock of a bridge with the same `key` is ahead of this one, and what that one says of itself.

    The first is None when nobody answers who has the key, the second also when he finds this clock wrong; `ahead`
    is what is known of his already. Raises `Unreachable`.
    """
    message_id = wire.new_message_id()
    answer = _ask(line, base, wire.sign(key, message_id, wire.utc_now() + ahead, _QUESTION))
    try:
        moment = wire.verify_reply(key, message_id, answer.headers, answer.body or b"")
    except wire.SignatureError:
        return None, None
    return moment - wire.utc_now(), _greeting(answer)


def refusal(answer: Answer) -> tuple[str, str]:
    """The code and the text of an error that the bridge answered, cleaned; empty when it is none of the bridge's."""
    try:
        said = json.loads(answer.body or b"")
        code, message = said.get("error"), said.get("message")
    except (ValueError, AttributeError, RecursionError):
        return "", ""
    code = cleaned(code, 64) if isinstance(code, str) else ""
    return code, cleaned(message, 300) if isinstance(message, str) else code


def cleaned(text: Any, most: int) -> str:
    """What may be shown of a `text` that came from the network. Raises `ValueError` when it is none."""
    if not isinstance(text, str):
        raise ValueError("a text is expected")
    return "".join(c if c.isprintable() else " " for c in text).strip()[:most]


def _ask(line: Line, base: str, headers: Mapping[str, str]) -> Answer:
    return line.post(base + PATH, _QUESTION, {**JSON_HEADERS, **headers}, _CONNECT_S, _READ_S, _MOST)


def _greeting(answer: Answer) -> Greeting | None:
    try:
        said = json.loads(answer.body or b"") if answer.status == 200 else {}
        if said.get("product") != "MESBridge":
            return None
        return Greeting(
            version=cleaned(said["version"], 32) or "?",
            bridge_id=cleaned(said["bridge_id"], 64),
            bridge_name=cleaned(said["bridge_name"], 128),
            pairing=said.get("pairing") is True,
        )
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None
