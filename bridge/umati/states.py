"""The states of a machine as the companion specifications number them, and which of them applies when.

In flows a machine, out flows its `Situation`: one row of the table that gives the machine's item state
(OPC 40001-1, MachineryItemState), operation mode (OPC 40001-1, MachineryOperationMode, with the states that
OPC 40501-1 redeclares for machine tools) and monitored operation mode (OPC 40501-1, MachineOperationMode).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from bridge.machine import JobState, Link, Machine


@dataclass(frozen=True, slots=True)
class State:
    """A state of a state machine: its name, its StateNumber, and its NodeId in the model `prefix`."""

    text: str
    number: int
    prefix: str
    identifier: int

    @property
    def node(self) -> tuple[str, int]:
        """What names the state in its model."""
        return self.prefix, self.identifier


class ItemState(Enum):
    """States of mach:MachineryItemState_StateMachineType."""

    NOT_AVAILABLE = State("NotAvailable", 0, "mach", 5005)
    OUT_OF_SERVICE = State("OutOfService", 1, "mach", 5004)
    NOT_EXECUTING = State("NotExecuting", 2, "mach", 5007)
    EXECUTING = State("Executing", 3, "mach", 5006)


class Mode(Enum):
    """States of mt:MachineOperationModeStateMachineType, which replace those of its supertype in mach."""

    NONE = State("None", 0, "mt", 5059)
    MAINTENANCE = State("Maintenance", 1, "mt", 5058)
    SETUP = State("Setup", 2, "mt", 5061)
    PROCESSING = State("Processing", 3, "mt", 5060)


class OperationMode(IntEnum):
    """The enumeration mt:MachineOperationMode."""

    MANUAL = 0
    AUTOMATIC = 1
    SETUP = 2
    AUTO_WITH_MANUAL_INTERVENTION = 3
    SERVICE = 4
    OTHER = 5


class Situation(Enum):
    """What a machine is about: its item state, its operation mode, its monitored operation mode."""

    def __init__(self, item_state: ItemState, mode: Mode, operation_mode: OperationMode) -> None:
        self.item_state = item_state
        self.mode = mode
        self.operation_mode = operation_mode

    UNREACHABLE = ItemState.NOT_AVAILABLE, Mode.NONE, OperationMode.OTHER
    FAULT = ItemState.OUT_OF_SERVICE, Mode.NONE, OperationMode.OTHER
    READY = ItemState.NOT_EXECUTING, Mode.PROCESSING, OperationMode.AUTOMATIC
    SETUP = ItemState.NOT_EXECUTING, Mode.SETUP, OperationMode.SETUP
    EXECUTING = ItemState.EXECUTING, Mode.PROCESSING, OperationMode.AUTOMATIC
    WAITING = ItemState.NOT_EXECUTING, Mode.PROCESSING, OperationMode.AUTO_WITH_MANUAL_INTERVENTION


def situation_of(machine: Machine) -> Situation:
    """The row that applies. A job knows better than the printer's state, which may come a moment later."""
    state = machine.state
    if machine.link is not Link.UP:
        return Situation.UNREACHABLE
    if state == "error" or (state == "disconnected" and machine.error_since is not None):
        return Situation.FAULT
    if state in ("disconnected", "connecting"):
        return Situation.UNREACHABLE
    job = machine.active_job
    if job is not None:
        return Situation.WAITING if job.state is JobState.INTERRUPTED else Situation.EXECUTING
    if state == "paused":
        return Situation.WAITING
    if state == "transferring":
        return Situation.SETUP
    if state != "operational":
        return Situation.EXECUTING
    if machine.error_since is not None:
        return Situation.FAULT
    return Situation.SETUP if _is_heating(machine) else Situation.READY


def _is_heating(machine: Machine) -> bool:
    return any(heater.target for heater in machine.heaters.values())
