"""A stack light of three lights (OPC 10000-200, StackElementLightType), which shows the machine's situation.

In flow machines; out flow readings. OctoPrint has no lamp that could be read: this one is virtual, so a setting asks
for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import Enum

from asyncua import ua

from bridge.machine import Machine, Transition
from bridge.opcua import Addition
from bridge.umati.part import Nodes
from bridge.umati.quality import quality_of
from bridge.umati.readings import NodeIdOf, Reading, Write
from bridge.umati.states import Situation, situation_of

STACKLIGHT = "Monitoring.Stacklight"
_BROWSE_PATH = "mt:Monitoring/mt:Stacklight"
_LIGHT_TYPE = ("ia", 1006)
_SEGMENTED = 0  # ia:StacklightOperationMode
_CONTINUOUS = 0  # ia:SignalModeLight
_UINT32 = ua.NodeId(ua.Int32(ua.ObjectIds.UInt32))
_HAS_ORDERED_COMPONENT = ua.NodeId(ua.Int32(ua.ObjectIds.HasOrderedComponent))


class Light(Enum):
    """A light, from the base up (OPC 10000-200, 5.2.5): its name, its ia:SignalColor, and when it is on."""

    def __init__(self, title: str, colour: int, situation: Situation) -> None:
        self.title = title
        self.colour = colour
        self.situation = situation

    GREEN = "Green", 2, Situation.EXECUTING
    YELLOW = "Yellow", 4, Situation.WAITING
    RED = "Red", 1, Situation.FAULT

    @property
    def path(self) -> str:
        """The path of its node."""
        return f"{STACKLIGHT}.{self.title}"


class Stacklight:
    """The part; `node_id` gives the NodeId of a prefix and a number of the companion models."""

    def __init__(self, node_id: NodeIdOf) -> None:
        self.nodes = Nodes(
            include=[_BROWSE_PATH],
            additions=[
                Addition(
                    parent=_BROWSE_PATH,
                    browse_name=f"own:{light.title}",
                    type_id=node_id(*_LIGHT_TYPE),
                    reference=_HAS_ORDERED_COMPONENT,
                    include=["ia:SignalColor", "ia:SignalMode", "ia:SignalOn"],
                )
                for light in Light
            ],
            constants={
                f"{STACKLIGHT}.StacklightMode": _SEGMENTED,
                **{f"{light.path}.NumberInList": number for number, light in enumerate(Light)},
                **{f"{light.path}.SignalColor": light.colour for light in Light},
                **{f"{light.path}.SignalMode": _CONTINUOUS for light in Light},
            },
            data_types={f"{light.path}.NumberInList": _UINT32 for light in Light},
        )

    def whole(self, machine: Machine, since: datetime) -> Iterator[Write]:
        """As `bridge.umati.part.Part`."""
        time = max((t for t in (machine.link_since, machine.state_since) if t is not None), default=since)
        for light in Light:
            yield f"{light.path}.SignalOn", _signal(light, machine, time)

    def changes(self, transition: Transition) -> Iterator[Write]:
        """As `bridge.umati.part.Part`."""
        before, after = transition.before, transition.after
        if situation_of(before) is situation_of(after) and quality_of(before) == quality_of(after):
            return
        for light in Light:
            was, now = (_signal(light, machine, transition.record.time) for machine in (before, after))
            if (was.value.Value, was.status) != (now.value.Value, now.status):
                yield f"{light.path}.SignalOn", now


def _signal(light: Light, machine: Machine, time: datetime) -> Reading:
    """Whether it is on; of a machine out of reach nobody knows."""
    on = situation_of(machine) is light.situation
    return Reading(ua.Variant(on, ua.VariantType.Boolean), time, quality_of(machine).status)
