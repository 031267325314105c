"""How long and how often a machine worked: OPC 10000-100's operation counters, and OPC 40501-1's PowerOnDuration.

In flow machines; out flow readings by path. The sums live in the machine's state, so that they survive restarts.
Durations advance in whole minutes: finer ones would send every subscriber a change with every sign of life.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from asyncua import ua

from bridge.machine import Machine
from bridge.machine.transition import CONNECTED_STATES
from bridge.umati.readings import GOOD, WAITING, Reading, Write

COUNTERS = "MachineryBuildingBlocks.OperationCounters"
CYCLES = f"{COUNTERS}.OperationCycleCounter"
POWER_ON_HOURS = "Monitoring.MachineTool.PowerOnDuration"
PARTS = f"{COUNTERS}.PartsProducedInLifetime"
MONITORED = "Monitoring.MachineTool.OperationCounters"
"""Where OPC 40501-1 declares PartsProducedInLifetime, beside another PowerOnDuration; clients look at both places."""

_MINUTE = 60_000.0  # in ms, the unit of Duration (OPC 10000-3, 8.13)
_HOUR = 3_600_000.0


class _Counts(NamedTuple):
    """Durations in ms; `cycles` are the times that the machine began to work, `parts` those that it completed."""

    power_on: float
    operation: float
    cycles: int
    parts: int


def counters(machine: Machine, since: datetime) -> Iterator[Write]:
    """The counters; of a machine that was never heard of they are unknown, since `since`."""
    time, status = (since, WAITING) if machine.heard is None else (machine.heard, GOOD)
    counts = _counts(machine)
    kind = ua.VariantType
    for path, value in (
        (f"{COUNTERS}.PowerOnDuration", ua.Variant(counts.power_on, kind.Double)),
        (f"{COUNTERS}.OperationDuration", ua.Variant(counts.operation, kind.Double)),
        (CYCLES, ua.Variant(counts.cycles, kind.UInt32)),
        (POWER_ON_HOURS, ua.Variant(int(counts.power_on // _HOUR), kind.UInt32)),
        (PARTS, ua.Variant(counts.parts, kind.UInt64)),
        (f"{MONITORED}.PowerOnDuration", ua.Variant(counts.power_on, kind.Double)),
        (f"{MONITORED}.PartsProducedInLifetime", ua.Variant(counts.parts, kind.UInt64)),
    ):
        yield path, Reading(value, time, status)


def counter_changes(before: Machine, after: Machine, time: datetime) -> Iterator[Write]:
    """Those that differ."""
    if before.heard == after.heard:
        return
    if before.heard is not None and _counts(before) == _counts(after):
        return
    shown = dict(counters(before, time))
    for path, reading in counters(after, time):
        was = shown[path]
        if (reading.value.Value, reading.status) != (was.value.Value, was.status):
            yield path, reading


def _counts(machine: Machine) -> _Counts:
    """The sums, with the connection and the job that go on as far as they were heard of."""
    sums, power_on, operation = machine.counters, machine.counters.connected, machine.counters.printing
    if machine.state in CONNECTED_STATES and machine.state_since is not None and machine.heard is not None:
        power_on += max(0.0, (machine.heard - machine.state_since).total_seconds())
    if machine.active_job is not None:
        operation += machine.active_job.print_time or 0.0
    return _Counts(_minutes(power_on), _minutes(operation), sums.jobs_started, sums.jobs_completed)


def _minutes(seconds: float) -> float:
    """Whole minutes, in ms."""
    return seconds * 1000.0 // _MINUTE * _MINUTE
