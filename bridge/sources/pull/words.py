"""OctoPrint's state as its clients see it, a text and flags, told by the name that its events have for it.

Events carry a ``state_id``; REST answers and the socket's ``current`` do not. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONNECTING = ("opening", "detecting", "connecting")
_BY_TEXT = (
    ("offline", "OFFLINE"),
    ("closed", "CLOSED"),
    ("error", "ERROR"),
    ("starting", "STARTING"),
    ("printing", "PRINTING"),
    ("pausing", "PAUSING"),
    ("paused", "PAUSED"),
    ("resuming", "RESUMING"),
    ("finishing", "FINISHING"),
    ("cancelling", "CANCELLING"),
    ("transfer", "TRANSFERRING_FILE"),
    ("sending file", "TRANSFERRING_FILE"),
    ("operational", "OPERATIONAL"),
)
_BY_FLAG = (
    ("error", "ERROR"),
    ("cancelling", "CANCELLING"),
    ("pausing", "PAUSING"),
    ("resuming", "RESUMING"),
    ("finishing", "FINISHING"),
    ("paused", "PAUSED"),
)


def state_id(text: Any, flags: Any = None) -> str:
    """The ``state_id`` of a state with this text, and these flags where they are known; texts may be of a newer
    OctoPrint."""
    said = text.lower() if isinstance(text, str) else ""
    if said.startswith(_CONNECTING):
        return "CONNECTING"
    by_text = next((name for beginning, name in _BY_TEXT if said.startswith(beginning)), None)
    if not isinstance(flags, Mapping):
        return by_text or "OFFLINE"
    if flags.get("closedOrError") and not flags.get("error"):
        return "CLOSED"
    for flag, name in _BY_FLAG:
        if flags.get(flag):
            return name
    if flags.get("printing"):
        return "STARTING" if by_text == "STARTING" else "PRINTING"
    if flags.get("operational"):
        return "TRANSFERRING_FILE" if by_text == "TRANSFERRING_FILE" else "OPERATIONAL"
    return by_text or "CONNECTING"
