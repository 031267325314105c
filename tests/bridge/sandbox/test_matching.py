"""Which scheduled job a detected one is: the published rule, and what was decided beside it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.matching import Detected, Scheduled, match

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def scheduled(number: int, start: int, end: int) -> Scheduled:
    """Planned from so many minutes after noon to so many."""
    return Scheduled(number, NOON + start * MINUTE, NOON + end * MINUTE)


def detected(name: str, started: float) -> Detected:
    return Detected(name, NOON + started * MINUTE)


@pytest.mark.parametrize(
    ("started", "matches"),
    [(0, True), (30, True), (60, True), (60.01, False), (-1, True), (-120, True), (-120.01, False)],
)
def test_a_job_that_started_within_its_window_or_two_hours_before_is_the_scheduled_one(
    started: float, matches: bool
) -> None:
    assert match([scheduled(7, 0, 60)], [detected("a", started)]) == ({"a": 7} if matches else {})


def test_each_scheduled_job_is_one_print_and_the_earlier_print_has_it() -> None:
    assert match([scheduled(7, 0, 60)], [detected("late", 20), detected("early", 10)]) == {"early": 7}


def test_of_several_that_fit_it_is_the_one_with_the_earliest_start() -> None:
    plan = [scheduled(2, 30, 90), scheduled(1, 0, 60), scheduled(3, 30, 40)]
    prints = [detected("a", 35), detected("b", 36), detected("c", 37), detected("d", 38)]
    assert match(plan, prints) == {"a": 1, "b": 2, "c": 3}


def test_a_print_goes_on_to_the_next_plan_when_it_is_too_late_for_the_first() -> None:
    assert match([scheduled(1, 0, 60), scheduled(2, 120, 180)], [detected("a", 61)]) == {"a": 2}


minutes = st.integers(-600, 600)
plans = st.lists(st.tuples(minutes, st.integers(1, 300)), max_size=6)
prints = st.lists(minutes, max_size=8)


@given(plans, prints, st.randoms(use_true_random=False))
def test_whatever_the_order_in_which_things_are_heard_the_matches_are_the_same_and_right(
    windows: list[tuple[int, int]], starts: list[int], order: random.Random
) -> None:
    plan = [scheduled(n, start, start + length) for n, (start, length) in enumerate(windows, 1)]
    jobs = [detected(f"run-{n}", started) for n, started in enumerate(starts)]
    matches = match(plan, jobs)
    order.shuffle(plan)
    order.shuffle(jobs)
    assert match(plan, jobs) == matches
    assert len(set(matches.values())) == len(matches)
    by_number, by_id = {one.number: one for one in plan}, {one.id: one for one in jobs}
    for run, number in matches.items():
        assert by_number[number].takes(by_id[run].started)
    for number in (
        by_number.keys() - matches.values()
    ):  # one that was left would have been taken by a print that fits
        assert not any(by_number[number].takes(job.started) for job in jobs if job.id not in matches)
