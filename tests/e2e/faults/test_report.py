"""The report says what went wrong: a report that cannot find anything shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.faults.report import ESTIMATE, Happening, Job, Life, Report, compare

LIFE = Life(
    "http://printer",
    [Job("one", "08:00", "08:10", "completed"), Job("two", "08:20", "08:30", "cancelled")],
    [
        Happening("job_started", "one", "08:00"),
        Happening("job_finished", "one", "08:10"),
        Happening("job_started", "two", "08:20"),
        Happening("job_paused", "two", "08:25"),
        Happening("job_finished", "two", "08:30"),
    ],
)


def held() -> dict[str, Any]:
    """The machine as a MES shows it that knows all, the newest first."""
    return {
        "url": LIFE.url,
        "jobs": [
            {"id": job.run, "started": job.started, "ended": job.ended, "state": job.state}
            for job in reversed(LIFE.jobs)
        ],
        "events": [
            {"key": f"k{number}", "type": one.type, "job": one.job, "time": one.time}
            for number, one in reversed(list(enumerate(LIFE.happenings)))
        ],
    }


def counts(report: Report) -> tuple[int, int, int, int]:
    """Lost, doubled, shifted, out of order."""
    return len(report.lost), len(report.doubled), len(report.shifted), len(report.disordered)


def test_a_mes_that_knows_what_happened_has_nothing_wrong() -> None:
    report = compare([LIFE], [held()])
    assert report.sound
    assert counts(report) == (0, 0, 0, 0)
    assert (report.jobs, report.events) == (2, 5)


def test_estimates_may_be_missing_and_may_be_there() -> None:
    machine = held()
    machine["events"].insert(2, {"key": "e", "type": ESTIMATE, "job": "two", "time": "08:22"})
    assert compare([LIFE], [machine]).sound


def lose_event(machine: dict[str, Any]) -> None:
    del machine["events"][1]


def lose_job(machine: dict[str, Any]) -> None:
    del machine["jobs"][0]


def double_event(machine: dict[str, Any]) -> None:
    machine["events"].insert(0, {**machine["events"][0], "key": "another"})


def double_key(machine: dict[str, Any]) -> None:
    machine["events"].insert(0, {"key": "k0", "type": ESTIMATE, "job": "two", "time": "08:22"})


def double_job(machine: dict[str, Any]) -> None:
    machine["jobs"].append({**machine["jobs"][0], "id": "three"})


def shift_start(machine: dict[str, Any]) -> None:
    machine["jobs"][0]["started"] = "08:21"


def change_result(machine: dict[str, Any]) -> None:
    machine["jobs"][0]["state"] = "failed"


def never_end(machine: dict[str, Any]) -> None:
    machine["jobs"][0]["ended"] = None


def shift_event(machine: dict[str, Any]) -> None:
    machine["events"][1]["time"] = "09:25"


def swap(machine: dict[str, Any]) -> None:
    machine["events"][0:2] = reversed(machine["events"][0:2])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lose_event, (1, 0, 0, 0)),
        (lose_job, (1, 0, 0, 0)),
        (double_event, (0, 1, 0, 0)),
        (double_key, (0, 1, 0, 0)),
        (double_job, (0, 1, 0, 0)),
        (shift_start, (0, 0, 1, 0)),
        (change_result, (0, 0, 1, 0)),
        (never_end, (0, 0, 1, 0)),
        (shift_event, (0, 0, 1, 0)),
        (swap, (0, 0, 0, 1)),
    ],
)
def test_each_thing_that_goes_wrong_is_counted_as_what_it_is(
    spoil: Callable[[dict[str, Any]], None], expected: tuple[int, int, int, int]
) -> None:
    machine = held()
    spoil(machine)
    report = compare([LIFE], [machine])
    assert counts(report) == expected
    assert not report.sound


def test_a_machine_is_lost_or_there_was_none_such() -> None:
    report = compare([LIFE], [{**held(), "url": "http://another"}])
    assert counts(report) == (1, 1, 0, 0)


def test_the_text_begins_with_the_counts_and_ends_with_what_went_wrong() -> None:
    machine = held()
    lose_job(machine)
    lines = compare([LIFE], [machine]).text({"bridge killed -9": 10}).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["lost", "1"],
        ["doubled", "0"],
        ["shifted", "0"],
        ["out", "of", "order", "0"],
    ]
    assert any(line.split() == ["bridge", "killed", "-9", "10"] for line in lines)
    assert lines[-1] == "lost: http://printer job two"
