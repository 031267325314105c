"""What the projections give: a value for a node, with its time and its status."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

GOOD = 0
WAITING = int(StatusCodes.BadWaitingForInitialData)
NO_COMMUNICATION = int(StatusCodes.BadNoCommunication)
LAST_USABLE = int(StatusCodes.UncertainLastUsableValue)
INITIAL = int(StatusCodes.UncertainInitialValue)


class Reading(NamedTuple):
    """A value, when it came to be so at its source, and its status code."""

    value: ua.Variant
    time: datetime
    status: int = GOOD


Write = tuple[str, Reading]
