"""What the tests of the projection share: a projection without a server, and a machine's nodes as a client has them."""

from __future__ import annotations

from functools import partial
from typing import Any

from asyncua import ua

from bridge.machine import Machine, Transition
from bridge.opcua.instances import Instances
from bridge.opcua.space import LazyAddressSpace
from bridge.opcua.state_machines import transitions
from bridge.opcua.typetable import TypeTable
from bridge.settings import IdentificationSettings
from bridge.umati.identification import identify
from bridge.umati.profile import Profile, profile_of
from bridge.umati.projection import Projection
from bridge.umati.readings import Reading
from tests.bridge.events import START

TABLE = TypeTable()
NAMESPACES = TABLE.prefixes
SPACE = LazyAddressSpace(TABLE, Instances(len(TABLE.namespaces)))
PROJECTION = Projection(
    lambda prefix, number: ua.NodeId(number, NAMESPACES[prefix]), partial(transitions, SPACE)
)

PROGRAM = "Production.ActiveProgram"
TOOL = "Monitoring.Process.Tool 0"
BED = "Monitoring.Process.Bed"


def whole(machine: Machine, profile: Profile | None = None) -> dict[str, Reading]:
    """All readings of `machine`."""
    identification = identify("m", "Left", "http://pi.plant:5000", IdentificationSettings(), machine.printer)
    return PROJECTION.whole(machine, profile or profile_of(machine), identification, START)


def changes(transition: Transition, profile: Profile) -> list[tuple[str, Reading]]:
    """What `transition` writes, in order."""
    return list(PROJECTION.changes(transition.before, transition, profile))


def shown(readings: dict[str, Reading], machine: str) -> tuple[Any, ...]:
    """Name, NodeId (prefix, number) and number of the state that a state machine shows."""
    text, node_id, number = (
        readings[f"{machine}.CurrentState{part}"].value.Value for part in ("", ".Id", ".Number")
    )
    prefix = next(p for p, index in NAMESPACES.items() if index == node_id.NamespaceIndex)
    return text.Text, (prefix, node_id.Identifier), number
