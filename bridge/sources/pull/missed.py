"""Prints that ended, or began and ended, while nobody looked: found in what OctoPrint remembers of its files.

In flow the files that OctoPrint lists, each with the last print of it, and its present job; out flow occurrences.
OctoPrint remembers the last print of a file: when it ended and, of a good one, how long it took. Of several prints of a
file only the last is found, and a failed one of which the log knows nothing is left out, as its start is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bridge import wire
from bridge.machine import Job, Machine
from bridge.sources.pull.listing import LATEST, flat
from octoprint_mesbridge.observer import WHOLE
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.records import at_least_zero, job_record, number, percent

UNSEEN = "the print ended while nobody looked, and OctoPrint says that it did not succeed"
_SAME_END_WITHIN = timedelta(seconds=30)
"""An end that was seen by polling was seen some seconds late."""


class _Printed(NamedTuple):
    """The last print of a file."""

    file: Mapping[str, Any]
    ended: datetime
    success: bool
    print_time: float | None


def jobs(
    known: Machine,
    running: Mapping[str, Any] | None,
    files: Iterable[Any],
    job: Mapping[str, Any],
    progress: Mapping[str, Any],
    moment: datetime,
    new_run: Callable[[], str],
) -> list[Occurrence]:
    """What happened to the jobs between what is `known` and `moment`, as far as it can be found.

    `running` is the wire's job that is printed now; `job` and `progress` are what OctoPrint shows if none is.
    """
    since = known.heard
    if since is None:
        return []
    told: list[Occurrence] = []
    active = known.active_job
    if active is not None and running is not None and running["run"] == active.run:
        active = None
    found = sorted(_printed(files, since, moment), key=lambda one: one.ended)
    for one in found:
        path = one.file.get("path")
        if active is not None and path == active.path:
            told.append(_end_of(active.run, one))
            active = None
        elif one.print_time is not None and not _is_told(known, path, one.ended):
            run, begun = new_run(), one.ended - timedelta(seconds=one.print_time)
            told.append(Occurrence(begun, wire.JOB_STARTED, job_record(run, begun, {}, {"file": one.file})))
            told.append(_end_of(run, one))
    if active is not None:
        told += _shown_whole(active, job, progress, moment)
    return told


def has_ended(active: Job, known: Machine, files: Iterable[Any]) -> bool:
    """Whether OctoPrint remembers an end of the `active` job, after what is `known` of it."""
    since = active.progress_time or known.heard
    return since is not None and any(
        one.file.get("path") == active.path for one in _printed(files, since, _FAR_AWAY)
    )


def _shown_whole(
    active: Job, job: Mapping[str, Any], progress: Mapping[str, Any], moment: datetime
) -> Iterator[Occurrence]:
    """The end of a job of which OctoPrint still shows that it came to its end."""
    file = job.get("file")
    path = file.get("path") if isinstance(file, Mapping) else None
    if path is None or path != active.path or (percent(progress.get("completion")) or 0.0) < WHOLE:
        return
    printed = at_least_zero(progress.get("printTime"))
    ended = moment
    if printed is not None:
        reached = active.print_time or 0.0
        since = active.progress_time if active.progress_time and active.print_time else active.started
        ended = min(moment, since + timedelta(seconds=max(0.0, printed - reached)))
    yield Occurrence(
        ended,
        wire.JOB_ENDED,
        {
            "run": active.run,
            "result": "completed",
            "reason": None,
            "print_time": printed,
            "completion": 100.0,
        },
    )


def _end_of(run: str, one: _Printed) -> Occurrence:
    data = {
        "run": run,
        "result": "completed" if one.success else "failed",
        "reason": None if one.success else UNSEEN,
        "print_time": one.print_time,
        "completion": 100.0 if one.success else None,
    }
    return Occurrence(one.ended, wire.JOB_ENDED, data)


def _is_told(known: Machine, path: Any, ended: datetime) -> bool:
    return any(
        job.path == path and job.ended is not None and abs(job.ended - ended) <= _SAME_END_WITHIN
        for job in known.finished
    )


_FAR_AWAY = datetime.max.replace(tzinfo=UTC) - _SAME_END_WITHIN


def _printed(files: Iterable[Any], since: datetime, until: datetime) -> Iterator[_Printed]:
    """The files of which a print ended after `since`, in whatever folder."""
    for file in flat(files):
        prints = file.get("prints")
        last = prints.get("last") if isinstance(prints, Mapping) else None
        if not isinstance(last, Mapping) or not isinstance(last.get("success"), bool):
            continue
        seconds = number(last.get("date"), 0, LATEST)
        if seconds is None:
            continue
        ended = datetime.fromtimestamp(seconds, UTC)
        if since < ended <= until + _SAME_END_WITHIN:
            print_time = at_least_zero(last.get("printTime"))
            yield _Printed(file, ended, last["success"], print_time)
