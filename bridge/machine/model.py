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
class Job:
    """One print. `run` names it for ever; durations in seconds, sizes in bytes, `completion` in percent.

    `started` and `ended` are true times, by the clock of the machine that runs OctoPrint;
    `progress_time` is when completion, print time and time left were true.
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
    progress_time: datetime | None = None
    ended: datetime | None = None
    result: Result | None = None
    reason: str | None = None

    @property
    def active(self) -> bool:
        """Whether the job has begun and not ended."""
        return self.state in ACTIVE_JOB_STATES


@dataclass(frozen=True, slots=True)
class Printer:
    """What the printer and the OctoPrint before it are. `identity` holds what the plugin's settings say."""

    uuid: str
    name: str | None
    octoprint_version: str
    plugin_version: str
    firmware: str | None
    profile_name: str | None
    model: str | None
    extruders: int
    heated_bed: bool
    heated_chamber: bool
    identity: Mapping[str, str]


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
    side.
    """

    link: Link = Link.UNKNOWN
    link_since: datetime | None = None
    state: str = "disconnected"
    state_since: datetime | None = None
    error: str | None = None
    error_since: datetime | None = None
    job: Job | None = None
    heaters: Mapping[str, Heater] = field(default_factory=dict)
    printer: Printer | None = None
    counters: Counters = Counters()
    heard: datetime | None = None

    @property
    def active_job(self) -> Job | None:
        """The job that has begun and not ended, if any."""
        return self.job if self.job is not None and self.job.active else None
