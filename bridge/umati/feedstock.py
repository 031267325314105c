"""What a machine's tools are fed with (OPC 40540, 8.3 to 8.5).

In flow settings and the spools that the plugin tells of; out flow the nodes, and readings by path. Field by field
the settings come first. The list is there only while a feedstock is known, since it may not be empty (8.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from bridge.machine import Machine, Spool, Transition
from bridge.opcua import Addition
from bridge.settings import FeedstockSettings
from bridge.umati.part import Nodes
from bridge.umati.profile import FEEDSTOCK, feedstock_path, heater_title, is_tool
from bridge.umati.quality import quality_of
from bridge.umati.readings import WAITING, NodeIdOf, Reading, Write
from bridge.umati.units import GRAM

NODE_VERSION = f"{FEEDSTOCK}.NodeVersion"

_BROWSE_PATH = "mt:Equipment/am:Feedstock"
_TYPE = ("am", 1000)
_MAIN = 1  # am:FeedstockFunction
_DOUBLE = ua.NodeId(ua.Int32(ObjectIds.Double))
_OPTIONAL = ("ExternalIdentifier", "Name", "Manufacturer", "RemainingQuantity", "Function")
_NO_SPOOL = Spool()
_NO_SETTINGS = FeedstockSettings(tool=0)
Type = ua.VariantType


def nodes(tools: Sequence[str], node_id: NodeIdOf) -> Nodes:
    """What the template of machines with feedstock for these tools needs.

    Machines share templates, so that a feedstock is displayed by its tool, and not by its name as 8.5 recommends.
    """
    if not tools:
        return Nodes()
    constants: dict[str, object] = {}
    for path in map(feedstock_path, tools):
        constants[f"{path}.Function"] = _MAIN
        constants[f"{path}.RemainingQuantity.EngineeringUnits"] = GRAM
    return Nodes(
        include=[f"{_BROWSE_PATH}/NodeVersion"],
        additions=[
            Addition(
                parent=_BROWSE_PATH,
                browse_name=f"own:{heater_title(tool)}",
                type_id=node_id(*_TYPE),
                include=[
                    *(f"am:{name}" for name in _OPTIONAL),
                    "am:RemainingQuantity/EngineeringUnits",
                ],
            )
            for tool in tools
        ],
        constants=constants,
        data_types={f"{feedstock_path(tool)}.RemainingQuantity": _DOUBLE for tool in tools},
    )


class Feedstock:
    """The feedstock of one machine."""

    def __init__(self, machine_id: str, settings: Sequence[FeedstockSettings]) -> None:
        self._machine_id = machine_id
        self._settings = {f"tool{one.tool}": one for one in settings}

    def tools(self, machine: Machine) -> tuple[str, ...]:
        """The tools, by OctoPrint's names, whose feedstock is known."""
        told = {tool for tool in machine.spools if is_tool(tool)}
        return tuple(sorted(told | self._settings.keys(), key=lambda tool: int(tool[4:])))

    def whole(self, machine: Machine, since: datetime) -> Iterator[Write]:
        """Everything; `since` is the time of what has no time of its own."""
        tools = self.tools(machine)
        if tools:
            yield self.version(since)
        for tool in tools:
            yield from self._readings(tool, machine, since)

    def changes(self, transition: Transition) -> Iterator[Write]:
        """What `transition` made different."""
        before, after, time = transition.before, transition.after, transition.record.time
        if before.spools is after.spools and quality_of(before).status == quality_of(after).status:
            return
        shown = dict(self.whole(before, time))
        for tool in self.tools(after):
            for path, reading in self._readings(tool, after, time):
                was = shown.get(path)
                if was is None or (was.value.Value, was.status) != (reading.value.Value, reading.status):
                    yield path, reading

    @staticmethod
    def version(time: datetime) -> Write:
        """The NodeVersion of a list that got or lost a feedstock at `time`."""
        return NODE_VERSION, Reading(ua.Variant(time.isoformat(), Type.String), time)

    def _readings(self, tool: str, machine: Machine, otherwise: datetime) -> Iterator[Write]:
        path, spool = feedstock_path(tool), machine.spools.get(tool, _NO_SPOOL)
        said = self._settings.get(tool, _NO_SETTINGS)
        time = spool.time or otherwise
        for name, text in (
            ("Identifier", said.identifier or spool.identifier or f"{self._machine_id}:{tool}"),
            ("ExternalIdentifier", said.external_identifier),
            ("Name", said.name or spool.name or said.material or spool.material),
            ("Manufacturer", said.manufacturer or spool.manufacturer),
        ):
            yield f"{path}.{name}", Reading(ua.Variant(text or "", Type.String), time)
        yield f"{path}.RemainingQuantity", _remaining(spool, machine, time)


def _remaining(spool: Spool, machine: Machine, time: datetime) -> Reading:
    """Grams; Bad while nobody tells, and not Good while the printer is out of reach."""
    if spool.remaining is None:
        return Reading(ua.Variant(0.0, Type.Double), time, WAITING)
    quality = quality_of(machine)
    return Reading(ua.Variant(spool.remaining, Type.Double), quality.since or time, quality.status)
