"""What a machine's live values are worth: in flows a machine, out flows their status, and since when."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from bridge.machine import Link, Machine
from bridge.machine.transition import CONNECTED_STATES
from bridge.umati.readings import GOOD, LAST_USABLE, NO_COMMUNICATION


class Quality(NamedTuple):
    """The status of live values, and since when if it is not Good."""

    status: int
    since: datetime | None


ALWAYS_GOOD = Quality(GOOD, None)


def quality_of(machine: Machine) -> Quality:
    """Good while the printer is heard and connected."""
    if machine.link is Link.UNKNOWN:
        return Quality(LAST_USABLE, machine.link_since)
    if machine.link is Link.LOST:
        return Quality(NO_COMMUNICATION, machine.link_since)
    if machine.state not in CONNECTED_STATES:
        return Quality(NO_COMMUNICATION, machine.state_since)
    return ALWAYS_GOOD
