"""The last day of one machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bridge.web.day import (
    MINUTES,
    MOST_HEATERS,
    MOST_JOBS,
    MOST_STATES,
    Day,
    PastJob,
    Ring,
    minute_of,
    tenths,
)

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
M = minute_of(NOW)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@given(
    st.lists(st.tuples(st.integers(0, 4 * MINUTES), st.integers(-1000, 1000)), max_size=60),
    st.integers(0, 200),
)
def test_a_ring_is_a_dictionary_that_forgets_after_a_day(puts: list[tuple[int, int]], later: int) -> None:
    ring, known = Ring(), {}
    for minute, value in puts:
        ring.put(minute, value)
        if not known or minute > max(known) - MINUTES:
            known[minute] = value
    until = max(known, default=0) + later
    expected = [known.get(minute) for minute in range(until - MINUTES + 1, until + 1)]
    assert list(ring.window(until)) == expected


def test_temperatures_are_kept_in_tenths_and_cut_to_what_fits() -> None:
    assert tenths(None) is None
    assert tenths(210.14) == 2101
    assert tenths(1e9) == 32767
    assert tenths(-1e9) == -32767


def test_states_come_out_as_segments_in_the_order_of_their_times() -> None:
    day = Day()
    for hours, state in ((2, "printing"), (5, "operational"), (1, "paused"), (5, "operational")):
        day.state(ago(hours=hours), state)
    assert [(state, end - begin) for begin, end, state in day.shown(NOW)["states"]] == [
        ("operational", 3 * 3600),
        ("printing", 3600),
        ("paused", 3600),
    ]


def test_a_state_that_began_before_the_day_fills_it_from_the_beginning() -> None:
    day = Day()
    day.state(ago(hours=40), "operational")
    day.state(ago(hours=30), "printing")
    day.forget(ago(hours=24))
    assert day.shown(NOW)["states"] == [[ago(hours=24).timestamp(), NOW.timestamp(), "printing"]]


def test_equal_neighbours_are_one_segment() -> None:
    day = Day()
    day.state(ago(hours=3), "printing")
    day.state(ago(hours=2), "printing")
    assert len(day.shown(NOW)["states"]) == 1


def test_minutes_without_a_sign_of_life_are_gaps_of_the_curves() -> None:
    day = Day()
    for minute in range(M - 100, M):
        if not M - 60 <= minute < M - 40:
            day.sample(minute, {"bed": (600, 0)})
    shown = day.shown(NOW)
    assert shown["unheard"][1:] == [[(M - 60) * 60, (M - 40) * 60]]
    assert shown["unheard"][0][1] == (M - 100) * 60
    bed = shown["heaters"]["bed"]
    assert len(bed["actual"]) == MINUTES
    assert bed["actual"][-1] is None  # of the running minute
    assert bed["actual"][-2] == 60.0
    assert bed["actual"][-50] is None
    assert bed["target"][-2] == 0.0


def test_the_minute_that_runs_is_no_gap() -> None:
    day = Day()
    for minute in range(M - MINUTES, M):
        day.sample(minute, {})
    assert day.shown(NOW)["unheard"] == []


def test_jobs_are_known_by_their_run_and_an_end_is_never_taken_back() -> None:
    day = Day()
    day.job(PastJob("1", "a.gcode", ago(hours=3)))
    day.job(PastJob("1", "a.gcode", ago(hours=3), ago(hours=2), "completed"))
    day.job(PastJob("1", "a.gcode", ago(hours=3)))
    (job,) = day.shown(NOW)["jobs"]
    assert job["result"] == "completed"


def test_a_job_whose_end_was_never_told_ends_at_the_latest_with_the_next() -> None:
    day = Day()
    day.job(PastJob("1", "a.gcode", ago(hours=3)))
    day.job(PastJob("2", "b.gcode", ago(hours=1)))
    first, second = day.shown(NOW)["jobs"]
    assert (first["ended"], first["result"]) == (ago(hours=1).timestamp(), None)
    assert second["ended"] is None


def test_what_is_older_than_a_day_is_let_go() -> None:
    day = Day()
    day.job(PastJob("1", "a.gcode", ago(hours=30), ago(hours=25), "failed"))
    day.job(PastJob("2", "b.gcode", ago(hours=30), ago(hours=23), "completed"))
    day.sample(minute_of(ago(hours=25)), {"old": (1, 1)})
    day.sample(M, {"bed": (1, 1)})
    day.forget(ago(hours=24))
    assert list(day.jobs) == ["2"]
    assert list(day.heaters) == ["bed"]


def test_whatever_a_machine_says_its_day_stays_small() -> None:
    day = Day()
    for number in range(3000):
        day.state(NOW - timedelta(seconds=number), f"s{number}")
        day.job(PastJob(str(number), "a.gcode", ago(seconds=number), NOW, "failed"))
    day.sample(M, {f"h{number}": (1, 1) for number in range(100)})
    assert len(day.states) == MOST_STATES
    assert len(day.jobs) == MOST_JOBS
    assert len(day.heaters) == MOST_HEATERS
