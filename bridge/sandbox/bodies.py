"""What the sandbox accepts: JSON of ``docs/mes-api.yaml`` in, checked and typed values out.

The tests hold these checks against the schemas of that document. Members that the contract does not name are
ignored, as it demands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge import wire
from bridge.sandbox.misbehaviour import KINDS, MOST_SECONDS, MOST_TIMES, Misbehaviour

STATUSES = ("Idle", "Running", "Offline", "Stopped")
STACK_LIGHTS = ("green", "yellow", "red", "white", "off")
JOB_EVENTS = ("job_started", "job_estimate_changed", "job_paused", "job_resumed", "job_finished")
TEXT_EVENTS = ("warning", "error")
SEVERITIES = ("info", "warning", "error")
RESULTS = ("completed", "cancelled", "failed")
LONGEST_S = 1e9
LONGEST_PLAN = timedelta(days=366)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z", re.ASCII)


class BodyError(ValueError):
    """A body that is not what the contract says; the text names the member."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The body of a registration."""

    bridge: str
    name: str
    url: str
    endpoint: str
    node_id: str
    identification: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Status:
    """The body of a status; `since` is None when unknown."""

    status: str
    since: datetime | None
    stack_light: str


@dataclass(frozen=True, slots=True)
class Job:
    """The job within an event; `estimated_duration` in seconds."""

    id: str
    file: str
    started: datetime
    estimated_duration: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """The body of an event. `print_time` in seconds."""

    type: str
    severity: str
    time: datetime
    job: Job | None
    text: str | None
    result: str | None
    reason: str | None
    print_time: float | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The body of a heartbeat; `lease` in seconds."""

    bridge: str
    lease: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A job that a person puts into the schedule of a machine."""

    name: str
    start: datetime
    end: datetime


def registration(body: Mapping[str, Any]) -> Registration:
    """Raises `BodyError`."""
    opcua = _object(body, "opcua")
    identification = _object(body, "identification")
    for name, value in identification.items():
        whole = _is_number(value) and float(value).is_integer()
        if not (whole or (isinstance(value, str) and len(value) <= 512)):
            raise BodyError(
                f"identification.{name}: a text of at most 512 characters or a whole number is expected"
            )
    return Registration(
        bridge=_text(body, "bridge", 128, 1),
        name=_text(body, "name", 512),
        url=_text(body, "url", 2048),
        endpoint=_text(opcua, "endpoint", 2048, where="opcua."),
        node_id=_text(opcua, "node_id", 1024, where="opcua."),
        identification=identification,
    )


def status(body: Mapping[str, Any]) -> Status:
    """Raises `BodyError`."""
    since = None if _member(body, "since") is None else _time(body, "since")
    return Status(_one_of(body, "status", STATUSES), since, _one_of(body, "stack_light", STACK_LIGHTS))


def event(body: Mapping[str, Any]) -> Event:
    """Raises `BodyError`."""
    kind = _one_of(body, "type", JOB_EVENTS + TEXT_EVENTS)
    of_job = kind in JOB_EVENTS
    finished = kind == "job_finished"
    return Event(
        type=kind,
        severity=_one_of(body, "severity", SEVERITIES),
        time=_time(body, "time"),
        job=None if _member(body, "job") is None and not of_job else _job(_object(body, "job")),
        text=None if of_job else _text(body, "text", 4096),
        result=_one_of(body, "result", RESULTS) if finished else None,
        reason=_text(body, "reason", 4096) if finished and _member(body, "reason") is not None else None,
        print_time=_duration(body, "print_time") if finished else None,
    )


def heartbeat(body: Mapping[str, Any]) -> Heartbeat:
    """Raises `BodyError`."""
    lease = _member(body, "lease")
    if not _is_number(lease) or not 1 <= lease <= 86400:
        raise BodyError("lease: a number of seconds from 1 to 86400 is expected")
    return Heartbeat(_text(body, "bridge", 128, 1), float(lease))


def planned(form: Mapping[str, Any]) -> Planned:
    """Raises `BodyError`."""
    name = _text(form, "name", 512, 1).strip()
    start, end = _time(form, "start"), _time(form, "end")
    if not name or not name.isprintable():
        raise BodyError("name: a text that can be shown is expected")
    if not timedelta(0) < end - start <= LONGEST_PLAN:
        raise BodyError("end: a time after the start, and at most a year later, is expected")
    return Planned(name, start, end)


def whole(form: Mapping[str, Any], name: str) -> int:
    """A whole number above 0. Raises `BodyError`."""
    return int(_number(form.get(name), name, 1, 2**53))


def misbehaviour(form: Mapping[str, Any]) -> Misbehaviour | None:
    """What the sandbox is to do wrong, or None for nothing more. Raises `BodyError`."""
    kind = _one_of(form, "kind", ("none", *KINDS))
    if kind == "none":
        return None
    times, lasts = form.get("times") or None, form.get("lasts") or None
    if times is None and lasts is None:
        raise BodyError("times, lasts: at least one of them is expected: how often, or for how many seconds")
    return Misbehaviour(
        kind,
        None if times is None else int(_number(times, "times", 1, MOST_TIMES)),
        None if lasts is None else _number(lasts, "lasts", 0.1, MOST_SECONDS),
        form.get("machine") or None,
        _number(form.get("seconds") or "5", "seconds", 0, 3600),
    )


def sign_off(body: Mapping[str, Any]) -> str:
    """The id of the bridge that signs off. Raises `BodyError`."""
    return _text(body, "bridge", 128, 1)


def _number(text: Any, name: str, low: float, high: float) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise BodyError(f"{name}: a number from {low:g} to {high:g} is expected")
    return number


def _job(job: Mapping[str, Any]) -> Job:
    return Job(
        id=_text(job, "id", 128, 1, "job."),
        file=_text(job, "file", 4096, where="job."),
        started=_time(job, "started", "job."),
        estimated_duration=_duration(job, "estimated_duration", "job."),
    )


def _member(body: Mapping[str, Any], name: str, where: str = "") -> Any:
    if name not in body:
        raise BodyError(f"{where}{name}: is missing")
    return body[name]


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = _member(body, name)
    if not isinstance(value, dict):
        raise BodyError(f"{name}: an object is expected")
    return value


def _text(body: Mapping[str, Any], name: str, longest: int, shortest: int = 0, where: str = "") -> str:
    value = _member(body, name, where)
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise BodyError(f"{where}{name}: a text of {shortest} to {longest} characters is expected")
    return value


def _one_of(body: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = _member(body, name)
    if not isinstance(value, str) or value not in allowed:
        raise BodyError(f"{name}: one of {', '.join(allowed)} is expected")
    return value


def _time(body: Mapping[str, Any], name: str, where: str = "") -> datetime:
    value = _member(body, name, where)
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return wire.parse_time(value)
    except (ValueError, OverflowError):
        pass
    raise BodyError(f"{where}{name}: a time in UTC such as 2026-11-23T19:17:13.000000Z is expected")


def _duration(body: Mapping[str, Any], name: str, where: str = "") -> float | None:
    value = _member(body, name, where)
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= LONGEST_S:
        raise BodyError(f"{where}{name}: a number of seconds from 0 to {LONGEST_S:g}, or null, is expected")
    return float(value)


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
