"""Which nodes a machine needs beyond those that every machine has.

In flows what is known of a machine, out flows a `Profile`. Machines of one profile share one template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from bridge.machine import Machine, Printer
from bridge.opcua.names import joined

PROCESS = "Monitoring.Process"
FEEDSTOCK = "Equipment.Feedstock"
_TOOL = re.compile("tool(0|[1-9]|[12][0-9]|3[01])")  # others, as tool00, would be nodes of the same name


@dataclass(frozen=True)
class Profile:
    """The heaters (``tool0``, ``tool1``, ..., ``bed``, ``chamber``), and the tools whose feedstock is known."""

    heaters: tuple[str, ...] = ()
    feedstock: tuple[str, ...] = ()

    @cached_property
    def heater_paths(self) -> tuple[tuple[str, str, str], ...]:
        """Of each heater its name and the paths of its temperature and its setpoint."""
        return tuple(
            (name, f"{heater_path(name)}.AnalogSignal", f"{heater_path(name)}.ProcessValueSetpoint")
            for name in self.heaters
        )


def profile_of(machine: Machine, feedstock: tuple[str, ...] = ()) -> Profile:
    """The heaters that the printer profile names, and any other that has reported a temperature; and this feedstock."""
    names = {name for name, heater in machine.heaters.items() if heater.actual is not None}
    printer = machine.printer
    if printer is not None:
        names.update(f"tool{number}" for number in range(printer.extruders))
        names.update(["bed"] * printer.heated_bed + ["chamber"] * printer.heated_chamber)
    by_title: dict[str, str] = {}
    for name in sorted(filter(None, names), key=_place):
        by_title.setdefault(heater_title(name), name)  # one node for those that only case tells apart
    return Profile(tuple(by_title.values()), feedstock)


def refitted(profile: Profile, before: Machine, after: Machine, feedstock: tuple[str, ...] = ()) -> Profile:
    """The profile that `after` needs, where `before` had `profile`: heaters that are silent for a while stay."""
    wanted = profile_of(after, feedstock)
    same = _hardware(before.printer) == _hardware(after.printer)
    keeps = same and set(wanted.heaters) <= set(profile.heaters)
    return replace(profile, feedstock=feedstock) if keeps else wanted


def heater_title(name: str) -> str:
    """What people call the heater: ``Tool 0``, ``Bed``, ``Chamber``."""
    if is_tool(name):
        return f"Tool {int(name[4:])}"
    return name[:1].upper() + name[1:]


def heater_path(name: str) -> str:
    """The path of the heater's process value."""
    return joined(PROCESS, heater_title(name))


def feedstock_path(tool: str) -> str:
    """The path of what the tool is fed with."""
    return joined(FEEDSTOCK, heater_title(tool))


def is_tool(name: str) -> bool:
    """Whether the heater is an extruder's."""
    return _TOOL.fullmatch(name) is not None


def _hardware(printer: Printer | None) -> tuple[int, bool, bool] | None:
    if printer is None:
        return None
    return printer.extruders, printer.heated_bed, printer.heated_chamber


def _place(name: str) -> tuple[int, int, str]:
    if is_tool(name):
        return 0, int(name[4:]), name
    return {"bed": 1, "chamber": 2}.get(name, 3), 0, name
