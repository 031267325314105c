"""One OctoPrint followed from outside: what it says, in the order in which it says it, as events of the wire.

In flow messages of the push socket and answers of the REST API, each with the moment when it came; out flow
occurrences. What they mean is judged by the plugin's own observer, so that a print looks the same from inside
and outside. Pure: no clock, no socket.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge import wire
from bridge.machine import Job, Machine
from bridge.machine.transition import PULLED_RUN
from bridge.sources.pull import missed
from bridge.sources.pull.listing import LATEST
from bridge.sources.pull.picture import Picture
from bridge.sources.pull.words import state_id
from octoprint_mesbridge.observer import STATES, Observer
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.records import (
    at_least_zero,
    filament_record,
    job_record,
    mapping,
    number,
    text_or_none,
)

_PRINTING = frozenset({"starting", "printing", "pausing", "paused", "resuming", "finishing", "cancelling"})
_GONE = frozenset({"disconnected", "error"})
_SAME_PRINT_WITHIN_S = 30.0
_CLOCK_STEP = timedelta(seconds=0.25)
_LAG = timedelta(seconds=3)
"""The socket repeats what was true up to so long ago: after a print has begun, the progress of the one before."""

_DISAGREES_FOR = timedelta(seconds=8)
"""An event that has not come so long after what it would tell never will."""


def new_run() -> str:
    """The name for ever of a print that is noticed from outside."""
    return PULLED_RUN + uuid.uuid4().hex


class Follower:
    """Follows the OctoPrint of a machine of which the log says `known`, from the answers to `begin` on.

    `ahead` is what is known of its clock from earlier.
    """

    EVENTS = tuple(sorted({*Observer().events, "Shutdown", "SettingsUpdated", "UpdatedFiles"}))
    """OctoPrint's events that are wanted; all others would only cost."""

    def __init__(self, known: Machine, ahead: timedelta = timedelta(0)) -> None:
        self.picture = Picture(known)
        self._known = known
        self._observer = Observer(new_run=new_run)
        self.ahead = ahead
        """How much the clock of OctoPrint's computer is ahead of the bridge's, as far as is known."""
        self._disagrees_since: datetime | None = None
        self._last_look = datetime.min.replace(tzinfo=UTC)

    @property
    def awaits_more(self) -> bool:
        """Whether `tick` is to be called within half a second."""
        return self._observer.awaits_more

    @property
    def connected(self) -> bool:
        """Whether there is a printer to be asked about."""
        return self._observer.connected

    def time_of(self, came: datetime) -> datetime:
        """`came`, by the bridge's clock, by that of the computer that runs OctoPrint."""
        return came + self.ahead

    def note_clock(self, server_time: Any, came: datetime, step: timedelta = _CLOCK_STEP) -> None:
        """`server_time` is OctoPrint's, in seconds since the epoch, when it sent what `came` here.

        Differences below `step` are those of the network, or of a clock that was told coarsely.
        """
        theirs = number(server_time, 0, LATEST)
        if theirs is not None:
            ahead = timedelta(seconds=theirs - came.timestamp())
            if abs(ahead - self.ahead) > step:
                self.ahead = ahead

    def begin(self, came: datetime, data: Mapping[str, Any], files: Iterable[Any] = ()) -> list[Occurrence]:
        """Take up where the log stands: `data` is a ``history`` or ``current`` of the socket.

        `files` are those that OctoPrint lists, as far as it does: from them is told what ended unseen.
        """
        self.note_clock(data.get("serverTime"), came)
        moment = self.time_of(came)
        self._note(data, moment)
        said = mapping(data.get("state"))
        self._observer = observer = Observer(state_id(said.get("text"), said.get("flags")), new_run)
        if observer.state in _GONE:
            observer.error = text_or_none(said.get("error") or None, 2048)
        job, progress = self.picture.job(), self.picture.progress()
        printing = observer.state in _PRINTING
        files = list(files)
        goes_on = printing and self._goes_on(job, progress, files)
        active = self._known.active_job
        if active is not None and goes_on:
            observer.job = _record_of(active)
        elif printing:
            begun = moment - timedelta(seconds=at_least_zero(progress.get("printTime")) or 0.0)
            observer.job = job_record(new_run(), begun, {}, job)
        gone = active is not None and not goes_on
        observer.sample(moment, {}, progress)  # the snapshot tells it
        ended = missed.jobs(self._known, observer.job, files, job if gone else {}, progress, moment, new_run)
        return [*ended, *observer.snapshot(moment, "start", self.picture)]

    def current(self, came: datetime, data: Mapping[str, Any]) -> list[Occurrence]:
        """A ``current`` of the socket."""
        self.note_clock(data.get("serverTime"), came)
        moment = self.time_of(came)
        said = mapping(data.get("state"))
        if not self._agrees(moment, state_id(said.get("text"), said.get("flags"))):
            return self.tick(came)
        job = self._observer.job
        begun = moment - wire.parse_time(job["started"]) if job else _LAG
        self._note(data if begun >= _LAG else {**data, "progress": None}, moment)
        heaters = self.picture.heaters(self._observer.measured_since)
        return self._observer.sample(moment, heaters, self.picture.progress())

    def event(self, came: datetime, name: str, payload: Any) -> list[Occurrence]:
        """An ``event`` of the socket."""
        moment = self.time_of(came)
        self._disagrees_since = None
        if name == "FirmwareData":
            self.picture.note_firmware(mapping(payload).get("name"))
        if name == "Shutdown":
            return [*self._observer.unsaid(), Occurrence(moment, wire.SHUTDOWN, {})]
        before = self._observer.job
        told = self._observer.observe(moment, name, payload, self.picture)
        if self._observer.job is not before:
            self.picture.note_job(self.picture.job(), {})  # the progress was that of the print before
        return told

    def snapshot(self, came: datetime) -> list[Occurrence]:
        """Everything at once, since something of the OctoPrint itself is another now."""
        return self._observer.snapshot(self.time_of(came), "connected", self.picture)

    def tick(self, came: datetime) -> list[Occurrence]:
        """Some time went by."""
        return self._observer.sample(self.time_of(came), {}, self.picture.progress())

    def polled(self, came: datetime, answer: Mapping[str, Any]) -> list[Occurrence]:
        """An answer of ``/api/job``, or of ``/api/printer`` with its ``temperature``: without events, what happened
        since the last one is judged by the state."""
        moment = self.time_of(came)
        if "temperature" in answer:
            self.picture.note_heaters(answer["temperature"], moment)
            return self._observer.sample(moment, self.picture.heaters(), self.picture.progress())
        name = state_id(answer.get("state"))
        state, before = STATES[name], self._observer.job
        job, progress = mapping(answer.get("job")), mapping(answer.get("progress"))
        again = self._is_another_print(job, progress)
        self.picture.note_job(job, progress)
        told: list[Occurrence] = []
        if state in _PRINTING and (before is None or again):
            begun = moment - timedelta(seconds=at_least_zero(progress.get("printTime")) or 0.0)
            told += self._observer.observe(begun, "PrintStarted", {}, self.picture)
        text = answer.get("error")
        if state in _GONE and state != self._observer.state and isinstance(text, str) and text:
            told += self._observer.observe(moment, "Error", {"error": text}, self.picture)
        told += self._observer.observe(moment, "PrinterStateChanged", {"state_id": name}, self.picture)
        return [*told, *self._observer.sample(moment, {}, progress)]

    def reconcile(self, came: datetime, answer: Mapping[str, Any]) -> None:
        """An answer of ``/api/job``, which has nothing to tell beside a socket unless that told too little."""
        self._agrees(self.time_of(came), state_id(answer.get("state")))

    @property
    def disagrees(self) -> bool:
        """Whether what OctoPrint repeats has long been something else than what it told: begin again."""
        since = self._disagrees_since
        return since is not None and self._last_look - since > _DISAGREES_FOR

    def _agrees(self, moment: datetime, name: str) -> bool:
        self._last_look = moment
        if STATES[name] == self._observer.state or self._observer.awaits_more:
            self._disagrees_since = None
            return True
        self._disagrees_since = self._disagrees_since or moment
        return False

    def _note(self, data: Mapping[str, Any], moment: datetime) -> None:
        self.picture.note_job(data.get("job"), data.get("progress"))
        temperatures = data.get("temps")
        if isinstance(temperatures, list) and temperatures:
            self.picture.note_heaters(temperatures[-1], moment)

    def _goes_on(self, job: Mapping[str, Any], progress: Mapping[str, Any], files: Iterable[Any]) -> bool:
        """Whether what is printed is the print that the log knows: of the same file, not less far than it was, and
        OctoPrint remembers no end of it."""
        active = self._known.active_job
        path = mapping(job.get("file")).get("path")
        if active is None or (None not in (active.path, path) and active.path != path):
            return False
        printed, before = at_least_zero(progress.get("printTime")), active.print_time
        if printed is not None and before is not None and printed < before - _SAME_PRINT_WITHIN_S:
            return False
        return not missed.has_ended(active, self._known, files)

    def _is_another_print(self, job: Mapping[str, Any], progress: Mapping[str, Any]) -> bool:
        now, before = progress.get("printTime"), self.picture.progress().get("printTime")
        paths = [mapping(one.get("file")).get("path") for one in (job, self.picture.job())]
        if None not in paths and paths[0] != paths[1]:
            return True
        both = at_least_zero(now), at_least_zero(before)
        return both[0] is not None and both[1] is not None and both[0] < both[1] - 1.0


def _record_of(job: Job) -> dict[str, Any]:
    """The wire's ``job`` of one that the log knows."""
    filament = {tool: {"length": use.length, "volume": use.volume} for tool, use in job.filament.items()}
    return {
        "run": job.run,
        "file": job.file,
        "path": job.path,
        "origin": job.origin,
        "size": job.size,
        "started": wire.format_time(job.started),
        "estimated_print_time": job.estimated_print_time,
        "filament": filament_record(filament),
    }
