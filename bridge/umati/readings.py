"""What the projections give: a value for a node, with its time and its status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

GOOD = 0
WAITING = int(StatusCodes.BadWaitingForInitialData)
NO_COMMUNICATION = int(StatusCodes.BadNoCommunication)
LAST_USABLE = int(StatusCodes.UncertainLastUsableValue)
NOT_ACTIVE = int(StatusCodes.BadStateNotActive)
INITIAL = int(StatusCodes.UncertainInitialValue)


class Reading(NamedTuple):
    """A value, when it came to be so at its source, and its status code.

    The value is a Variant, a function that gives it where it is costly to make, or None where the status says all.
    """

    value: Any
    time: datetime
    status: int = GOOD


Write = tuple[str, Reading]
NodeIdOf = Callable[[str, int], ua.NodeId]
"""Gives the NodeId of a prefix and a number of the companion models."""
