"""What is known of one machine at a moment, as immutable values. Unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Link(StrEnum):
    """Whether the bridge hears from the OctoPrint that runs the machine."""

    UNKNOWN = "unknown"
    UP = "up"
    LOST = "lost"


class JobState(StrEnum):
    """Where a job stands; `ENDED` is a completed one, `ABORTED` a cancelled or failed one."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    ENDED = "ended"
    ABORTED = "aborted"


ACTIVE_JOB_STATES = frozenset({JobState.INITIALIZING, JobState.RUNNING, JobState.INTERRUPTED})


class Result(StrEnum):
    """How a job ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Heater:
    """Temperatures in degrees Celsius; a target of 0 means off."""

    actual: float | None
    target: float | None
    time: datetime


@dataclass(frozen=True, slots=True)
class Filament:
    """What a tool needs for a job: length in mm, volume in cm³."""

    length: float | None
    volume: float | None


@dataclass(frozen=True, slots=True)
class Spool:
    """The filament that a tool is fed with; `remaining` in grams, less than 0 when more was used than was known of."""

    identifier: str | None = None
    name: str | None = None
    material: str | None = None
    manufacturer: str | None = None
    remaining: float | None = None
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One print. `run` names it for ever; durations in seconds, sizes in bytes, `completion` in percent.

    `alias` is what the plugin calls a print that the bridge had noticed before it heard of the plugin.

    `started` and `ended` are true times, by the clock of the machine that runs OctoPrint;
    `progress_time` is when completion, print time, time left and layer were true. The `layer` that is being
    printed counts from 1. `spools` are those it was printed from, once it has ended.
    """

    run: str
    file: str
    started: datetime
    state: JobState
    path: str | None = None
    origin: str | None = None
    size: int | None = None
    estimated_print_time: float | None = None
    filament: Mapping[str, Filament] = field(default_factory=dict)
    completion: float | None = None
    print_time: float | None = None
    print_time_left: float | None = None
    layer: int | None = None
    layers: int | None = None
    progress_time: datetime | None = None
    ended: datetime | None = None
    result: Result | None = None
    reason: str | None = None
    spools: Mapping[str, Spool] = field(default_factory=dict)
    alias: str | None = None

    @property
    def active(self) -> bool:
        """Whether the job has begun and not ended."""
        return self.state in ACTIVE_JOB_STATES


@dataclass(frozen=True, slots=True)
class File:
    """A file that the printer can print; its `path` names it. Size in bytes, time in seconds."""

    path: str
    size: int | None = None
    date: datetime | None = None
    estimated_print_time: float | None = None
    filament: Mapping[str, Filament] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Printer:
    """What the printer and the OctoPrint before it are. `identity` holds what the plugin's settings say.

    `uuid` and `plugin_version` are None of an OctoPrint that was only ever asked from outside.
    """

    uuid: str | None
    name: str | None
    octoprint_version: str
    plugin_version: str | None
    firmware: str | None
    profile_name: str | None
    model: str | None
    extruders: int
    heated_bed: bool
    heated_chamber: bool
    identity: Mapping[str, str]


HISTORY = 20
"""How many ended jobs of a machine are remembered."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums over the machine's life in this log. Durations in seconds."""

    jobs_started: int = 0
    jobs_completed: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0
    printing: float = 0.0
    connected: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One printer. `state` is one of `bridge.wire.STATES`; `job` is the running one, or else the last one.

    `error` is what the last error said, None when it said nothing, and `error_since` when it came; both stay until
    the printer is connected again or a job starts. `heard` is the time of the newest event from the printer's
    side; `pulled_until` that of the newest one that was asked for from outside, until a plugin goes on from there.
    `finished` are the last jobs that ended, at most `HISTORY`, the newest last. `files` are None until the
    printer told of them; `spools` are by OctoPrint's name of the tool.
    """

    link: Link = Link.UNKNOWN
    link_since: datetime | None = None
    state: str = "disconnected"
    state_since: datetime | None = None
    error: str | None = None
    error_since: datetime | None = None
    job: Job | None = None
    finished: tuple[Job, ...] = ()
    heaters: Mapping[str, Heater] = field(default_factory=dict)
    printer: Printer | None = None
    files: tuple[File, ...] | None = None
    files_since: datetime | None = None
    spools: Mapping[str, Spool] = field(default_factory=dict)
    counters: Counters = Counters()
    heard: datetime | None = None
    pulled_until: datetime | None = None

    @property
    def active_job(self) -> Job | None:
        """The job that has begun and not ended, if any."""
        return self.job if self.job is not None and self.job.active else None
