"""What happened against what the MES holds: lost, doubled, shifted, out of order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ESTIMATE = "job_estimate_changed"


class Happening(NamedTuple):
    """Something that happened to a job of a machine; `time` in RFC 3339."""

    type: str
    job: str | None
    time: str


@dataclass(frozen=True)
class Job:
    """A print as its printer knows it: what state it came to, and when it truly began and ended (RFC 3339)."""

    run: str
    started: str
    ended: str
    state: str


@dataclass(frozen=True)
class Life:
    """All that happened on one machine, by the url by which the MES knows it."""

    url: str
    jobs: Sequence[Job]
    happenings: Sequence[Happening]


@dataclass(frozen=True)
class Report:
    """Each list names what went wrong, one line each."""

    jobs: int
    events: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    shifted: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.shifted or self.disordered)

    def text(self, circumstances: Mapping[str, Any]) -> str:
        """For people: the four counts first, then the `circumstances`, then each thing that went wrong."""
        faults = {
            "lost": self.lost,
            "doubled": self.doubled,
            "shifted": self.shifted,
            "out of order": self.disordered,
        }
        lines = [f"{name:<36}{len(found)}" for name, found in faults.items()]
        facts = {"jobs": self.jobs, "events": self.events, **circumstances}
        lines += ["", *(f"{name:<36}{value}" for name, value in facts.items())]
        lines += [f"\n{name}: {one}" for name, found in faults.items() for one in found]
        return "\n".join(lines) + "\n"


def compare(lives: Iterable[Life], machines: Iterable[Mapping[str, Any]]) -> Report:
    """The report on `lives`, given the `machines` as the sandbox MES shows them, newest first.

    Estimates are not missed, since the plugin sends only the newest one; but none may come twice.
    """
    lives, held = list(lives), {machine["url"]: machine for machine in machines}
    report = Report(sum(len(life.jobs) for life in lives), sum(len(life.happenings) for life in lives))
    for life in lives:
        machine = held.pop(life.url, None)
        if machine is None:
            report.lost.append(f"machine {life.url}")
            continue
        _compare_jobs(life, machine["jobs"], report)
        _compare_events(life, list(reversed(machine["events"])), report)
    report.doubled.extend(f"machine {url}, which there is not" for url in held)
    return report


def _compare_jobs(life: Life, held: Sequence[Mapping[str, Any]], report: Report) -> None:
    known = {job["id"]: job for job in held}
    for job in life.jobs:
        found = known.pop(job.run, None)
        if found is None:
            report.lost.append(f"{life.url} job {job.run}")
            continue
        for name in ("started", "ended", "state"):
            if found[name] != getattr(job, name):
                report.shifted.append(f"{life.url} job {job.run}: {name} is {found[name]}, not {job}")
    report.doubled.extend(f"{life.url} job {run}, which there was not" for run in known)


def _of(held: Sequence[Mapping[str, Any]], kind: str, job: str | None) -> list[str]:
    """When the MES heard of this, and under which keys."""
    return [f"{one['time']} {one['key']}" for one in held if (one["type"], one["job"]) == (kind, job)]


def _compare_events(life: Life, held: Sequence[Mapping[str, Any]], report: Report) -> None:
    keys = Counter(event["key"] for event in held)
    report.doubled.extend(f"{life.url} event key {key}" for key, times in keys.items() if times > 1)
    told = [Happening(event["type"], event["job"], event["time"]) for event in held]
    happened, heard = (Counter((one.type, one.job) for one in all_) for all_ in (life.happenings, told))
    missing, surplus = happened - heard, heard - happened
    report.lost.extend(f"{life.url} {kind} of {job}" for kind, job in missing.elements())
    report.doubled.extend(
        f"{life.url} {kind} of {job}: {_of(held, kind, job)}"
        for kind, job in surplus.elements()
        if kind != ESTIMATE
    )
    if missing or any(kind != ESTIMATE for kind, _ in surplus):
        return
    told = [one for one in told if one.type != ESTIMATE]
    if [one[:2] for one in told] != [one[:2] for one in life.happenings]:
        report.disordered.append(f"{life.url}: {told}")
        return
    report.shifted.extend(
        f"{life.url} {one.type} of {one.job}: at {one.time}, not {true.time}"
        for one, true in zip(told, life.happenings, strict=True)
        if one.time != true.time
    )
