"""One valid event of every kind, and a short way to tell a machine's story to `bridge.machine`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge import wire
from bridge.log import Record
from bridge.machine import Machine, Transition, apply
from bridge.machine.transition import LINK

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)

JOB: Mapping[str, Any] = {
    "run": "run-1",
    "file": "benchy.gcode",
    "path": "models/benchy.gcode",
    "origin": "local",
    "size": 12345,
    "started": wire.format_time(START),
    "estimated_print_time": 600.0,
    "filament": {"tool0": {"length": 1200.5, "volume": 2.9}},
}
PRINTER: Mapping[str, Any] = {
    "uuid": "0b9c",
    "name": "Left printer",
    "octoprint_version": "1.11.8",
    "plugin_version": "0.1.0",
    "firmware": "Marlin 2.1",
    "profile": {
        "name": "Default",
        "model": "MK4",
        "extruders": 1,
        "heated_bed": True,
        "heated_chamber": False,
    },
    "identity": {"manufacturer": "Prusa Research"},
}
HEATERS: Mapping[str, Any] = {
    "tool0": {"actual": 210.1, "target": 210.0},
    "bed": {"actual": 59.8, "target": 60.0},
}

DATA: Mapping[str, Mapping[str, Any]] = {
    wire.SNAPSHOT: {
        "reason": "start",
        "state": "operational",
        "error": None,
        "job": None,
        "progress": None,
        "heaters": HEATERS,
        "printer": PRINTER,
    },
    wire.STATE: {"state": "printing", "error": None},
    wire.JOB_STARTED: JOB,
    wire.JOB_PAUSED: {"run": "run-1"},
    wire.JOB_RESUMED: {"run": "run-1"},
    wire.JOB_ENDED: {
        "run": "run-1",
        "result": "completed",
        "reason": None,
        "print_time": 580.0,
        "completion": 100.0,
    },
    wire.PROGRESS: {
        "run": "run-1",
        "completion": 50.0,
        "print_time": 290.0,
        "print_time_left": 290.0,
        "layer": 60,
        "layers": 120,
    },
    wire.HEATERS: {"heaters": HEATERS},
    wire.FILES: {
        "files": [
            {
                "path": "models/benchy.gcode",
                "size": 12345,
                "date": wire.format_time(START),
                "estimated_print_time": 600.0,
                "filament": {"tool0": {"length": 1200.5, "volume": 2.9}},
            }
        ]
    },
    wire.FEEDSTOCK: {
        "tools": {
            "tool0": {
                "identifier": "17",
                "name": "Galaxy Black",
                "material": "PLA",
                "manufacturer": "Prusament",
                "remaining": 412.5,
            }
        }
    },
    wire.FILAMENT_CHANGE: {"run": "run-1"},
    wire.ERROR: {"text": "thermal runaway"},
    wire.SHUTDOWN: {},
}


class Story:
    """Events that happen to one machine, a second apart."""

    def __init__(self, machine: Machine | None = None, name: str = "m") -> None:
        self.machine = machine or Machine()
        self.name = name
        self.position = 0
        self.transitions: list[Transition] = []

    @property
    def now(self) -> datetime:
        """When the last event happened."""
        return START + timedelta(seconds=self.position)

    def tell(self, kind: str, *, instance: str = "i", ago: float = 0.0, **changes: Any) -> Transition:
        """Let one event of `kind` happen, with the data of `DATA` but for `changes`; or `ago` seconds earlier."""
        self.position += 1
        data = {**DATA.get(kind, {}), **changes}
        time = self.now - timedelta(seconds=ago)
        record = Record(self.position, self.name, instance, self.position, time, kind, data)
        transition = apply(self.machine, record)
        self.machine = transition.after
        self.transitions.append(transition)
        return transition

    def link(self, link: str) -> Transition:
        """Let the bridge notice that OctoPrint is ``up`` or ``lost``."""
        return self.tell(LINK, link=link, detail="a test says so")

    def states(self, *states: str) -> None:
        """Let the printer go through `states`."""
        for state in states:
            self.tell(wire.STATE, state=state)

    def changes(self) -> Iterable[str]:
        """The names of all changes so far, but for changes of the printer's state."""
        names = [type(change).__name__ for transition in self.transitions for change in transition.changes]
        return [name for name in names if name != "StateChanged"]


def printing() -> Story:
    """A machine that has just begun to print."""
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.states("starting")
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    return story
