"""What the status page says of machines, in JSON: in flow machines as they are known, out flow plain values.

All of it is computed without a clock, a socket or a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

from bridge import wire
from bridge.machine import Job, Link, Machine, Result
from bridge.umati.identification import UNKNOWN, Identification

_LONGEST_TEXT = 300
_END_STEP_S = 30


class Condition(StrEnum):
    """What a machine is doing, in the few words by which a person looks for one."""

    ERROR = "error"
    LOST = "lost"
    PAUSED = "paused"
    PRINTING = "printing"
    READY = "ready"
    OFF = "off"
    UNKNOWN = "unknown"


class Attention(IntEnum):
    """How soon a person has to look at a machine."""

    NONE = 0
    LOW = 1
    SOON = 2
    NOW = 3


@dataclass(frozen=True, slots=True)
class AtMes:
    """How it stands with a machine at one MES; see `bridge.mes.states.MachineState`."""

    mes: int
    activation: str | None = None
    status: str | None = None
    told: datetime | None = None
    waiting: int = 0
    refused: int = 0
    held: str | None = None
    trouble: str | None = None

    @property
    def health(self) -> str:
        """``good``, ``waiting`` for a MES or for a person, or ``bad``: a person has to do something there."""
        if self.refused or self.activation == "refused" or self.trouble:
            return "bad"
        if self.held or self.activation != "active":
            return "waiting"
        return "good"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one machine. `source` is ``plugin``, ``socket`` or ``rest``, None when nobody tells."""

    id: str
    machine: Machine
    nameplate: Identification
    url: str
    source: str | None = None
    mes: tuple[AtMes, ...] = ()
    opcua_endpoint: str = ""
    opcua_node_id: str = ""


def condition(machine: Machine) -> Condition:
    """What the machine is doing; out of reach comes before all that was known until then."""
    if machine.link is Link.LOST:
        return Condition.LOST
    if machine.link is Link.UNKNOWN and machine.state_since is None:
        return Condition.UNKNOWN
    if machine.state == "error" or machine.error_since is not None:
        return Condition.ERROR
    if machine.state == "paused":
        return Condition.PAUSED
    if machine.active_job is not None or machine.state in _BUSY:
        return Condition.PRINTING
    return Condition.READY if machine.state in ("operational", "transferring") else Condition.OFF


_BUSY = frozenset({"starting", "printing", "pausing", "resuming", "finishing", "cancelling"})


def attention(machine: Machine, mes: tuple[AtMes, ...]) -> tuple[Attention, str | None]:
    """How soon a person has to look, and why; what is worst counts."""
    now = condition(machine)
    job = machine.job
    if now is Condition.ERROR:
        return Attention.NOW, machine.error or "The printer reports an error"
    if now is Condition.LOST:
        printed = machine.active_job
        if printed is not None:
            return Attention.NOW, f"Out of reach while it prints {printed.file}"
        return Attention.SOON, "OctoPrint cannot be reached"
    if now is Condition.PAUSED:
        return Attention.SOON, "Paused: waits for a person"
    if now is not Condition.PRINTING and job is not None and job.result is Result.FAILED:
        return Attention.SOON, f"The last print failed{f': {job.reason}' if job.reason else ''}"
    for one in mes:
        if one.refused or one.activation == "refused":
            return Attention.SOON, f"MES {one.mes} refuses {'messages' if one.refused else 'this machine'}"
    for one in mes:
        if one.activation == "pending":
            return Attention.LOW, f"MES {one.mes} waits for somebody to activate the machine"
        if one.held:
            return Attention.LOW, f"Messages for MES {one.mes} wait: {one.held}"
    if now is Condition.UNKNOWN:
        return Attention.LOW, "Never heard of since it was added"
    return Attention.NONE, None


def since(machine: Machine) -> datetime | None:
    """Since when the machine's `condition` is what it is."""
    now = condition(machine)
    if now is Condition.LOST:
        return machine.link_since
    return machine.error_since if now is Condition.ERROR else machine.state_since


def row(facts: Facts) -> dict[str, Any]:
    """The machine as one line of the overview: coarse values, so that few changes are worth telling."""
    machine = facts.machine
    level, why = attention(machine, facts.mes)
    return {
        "id": facts.id,
        "name": text(facts.nameplate.component_name),
        "condition": condition(machine).value,
        "state": machine.state,
        "since": time(since(machine)),
        "attention": int(level),
        "why": text(why),
        "job": _job(machine, machine.job, whole=True),
        "heaters": {
            text(name): [_whole(heater.actual), _whole(heater.target)]
            for name, heater in machine.heaters.items()
        },
        "source": facts.source,
        "mes": {str(one.mes): one.health for one in facts.mes},
        "place": _place(facts.nameplate),
    }


def detail(facts: Facts) -> dict[str, Any]:
    """The machine as its own page shows it."""
    machine, printer = facts.machine, facts.machine.printer
    return {
        **row(facts),
        "job": _job(machine, machine.job, whole=False),
        "heaters": {text(name): [heater.actual, heater.target] for name, heater in machine.heaters.items()},
        "link": machine.link.value,
        "link_since": time(machine.link_since),
        "heard": time(machine.heard),
        "error": text(machine.error),
        "url": facts.url,
        "opcua": {"endpoint": facts.opcua_endpoint, "node_id": facts.opcua_node_id},
        "mes": [
            {**asdict(one), "told": time(one.told), "held": text(one.held), "health": one.health}
            for one in facts.mes
        ],
        "identification": {
            name: str(value)[:_LONGEST_TEXT]
            for name, value in asdict(facts.nameplate).items()
            if value not in (None, "", UNKNOWN)
        },
        "octoprint": None
        if printer is None
        else {
            "name": text(printer.name),
            "version": printer.octoprint_version,
            "plugin": printer.plugin_version,
            "firmware": text(printer.firmware),
            "profile": text(printer.profile_name),
        },
        "spools": {
            text(tool): " ".join(filter(None, (spool.manufacturer, spool.material, spool.name)))[
                :_LONGEST_TEXT
            ]
            for tool, spool in machine.spools.items()
        },
        "counters": asdict(machine.counters),
        "finished": [_job(machine, job, whole=False) for job in reversed(machine.finished)],
    }


def _job(machine: Machine, job: Job | None, *, whole: bool) -> dict[str, Any] | None:
    if job is None:
        return None
    told = {
        "file": text(job.file),
        "state": job.state.value,
        "result": job.result.value if job.result else None,
        "started": time(job.started),
        "ended": time(job.ended),
        "completion": _whole(job.completion) if whole else job.completion,
        # A print that waits, or of which nothing is heard, will be over at no known time.
        "ends": time(expected_end(job) if condition(machine) is Condition.PRINTING else None),
        "reason": text(job.reason),
    }
    if whole:
        return told
    return {
        **told,
        "path": text(job.path),
        "origin": text(job.origin),
        "size": job.size,
        "layer": job.layer,
        "layers": job.layers,
        "print_time": job.print_time,
        "estimated_print_time": job.estimated_print_time,
    }


def expected_end(job: Job) -> datetime | None:
    """When an active job will be over as far as is known, to half a minute."""
    if not job.active:
        return None
    try:
        if job.print_time_left is not None and job.progress_time is not None:
            end = job.progress_time + timedelta(seconds=job.print_time_left)
        elif job.estimated_print_time is not None:
            end = job.started + timedelta(seconds=job.estimated_print_time)
        else:
            return None
        step = round(end.timestamp() / _END_STEP_S) * _END_STEP_S
        return datetime.fromtimestamp(step, end.tzinfo)
    except (OverflowError, ValueError, OSError):  # a time left of a million years
        return None


def _place(nameplate: Identification) -> str:
    said = (nameplate.manufacturer, nameplate.model, nameplate.location)
    return " · ".join(one for one in said if one not in ("", UNKNOWN))[:_LONGEST_TEXT]


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def time(moment: datetime | None) -> str | None:
    """As JSON has it."""
    return None if moment is None else wire.format_time(moment)


def text(said: str | None) -> Any:
    """What a machine said, not longer than a page can show."""
    return said if said is None or len(said) <= _LONGEST_TEXT else said[: _LONGEST_TEXT - 1] + "…"
