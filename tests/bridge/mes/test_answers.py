"""What HTTP says about an answer holds for every kind of MES."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mes import Pace
from bridge.mes.answers import judged
from bridge.mes.client import Answer, Verdict

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def asked(text: str, code: int = 503) -> float | None:
    return judged(Answer(code, {"retry-after": text}), NOW).retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Thu, 26 Nov 2026 12:02:00 GMT", 120.0),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("9" * 400, 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_pause_is_asked_for_in_seconds_or_by_a_date_and_an_hour_at_most(
    text: str, seconds: float | None
) -> None:
    assert asked(text) == seconds
    assert asked(text, 429) == seconds


@given(st.text())
def test_whatever_stands_there_is_a_pause_within_bounds_or_none(text: str) -> None:
    seconds = asked(text)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (200, Verdict.DONE),
        (204, Verdict.DONE),
        (302, Verdict.FOREIGN),
        (400, Verdict.REFUSED),
        (401, Verdict.UNAUTHORISED),
        (403, Verdict.UNAUTHORISED),
        (404, Verdict.UNKNOWN),
        (407, Verdict.FOREIGN),
        (408, Verdict.FAILED),
        (422, Verdict.REFUSED),
        (425, Verdict.FAILED),
        (429, Verdict.AWAY),
        (500, Verdict.FAILED),
        (502, Verdict.FAILED),
        (503, Verdict.AWAY),
        (599, Verdict.FAILED),
    ],
)
def test_codes_say_whether_to_try_again(code: int, verdict: Verdict) -> None:
    assert judged(Answer(code)).verdict is verdict


def test_pauses_double_up_to_the_longest_and_differ_from_bridge_to_bridge() -> None:
    pace = Pace(first=1.0, longest=60.0)
    for failures, whole in [(1, 1), (2, 2), (3, 4), (7, 60), (10**6, 60)]:
        pauses = {pace.pause(failures) for _ in range(50)}
        assert whole / 2 <= min(pauses) < max(pauses) <= whole


def test_the_pause_that_was_asked_for_is_kept_but_not_by_all_bridges_alike() -> None:
    pauses = {Pace().at_least(100.0) for _ in range(50)}
    assert 100 <= min(pauses) < max(pauses) <= 110
