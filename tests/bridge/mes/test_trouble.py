from __future__ import annotations

from datetime import timedelta

import structlog
from structlog.testing import capture_logs

from bridge import wire
from bridge.mes.client import Outcome, Verdict
from bridge.mes.trouble import Pace, Troubles

DONE = Outcome(Verdict.DONE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def troubles(clock: Clock) -> Troubles:
    return Troubles(7, Pace(first=1.0, longest=8.0, slow=30.0), clock, structlog.get_logger())


def test_what_a_mes_cannot_take_of_a_machine_holds_it_for_ever_longer_until_it_can() -> None:
    clock = Clock()
    with capture_logs() as logs:
        some = troubles(clock)
        for longest in (1.0, 2.0, 4.0, 8.0, 8.0):
            assert not some.judge("a", Outcome(Verdict.FAILED, "500"))
            assert longest / 2 <= some.held["a"].until - clock.now <= longest
            assert some.holding() == {"a"}
            clock.now = some.held["a"].until
            assert some.holding() == set()
        assert some.judge("a", DONE)
    assert (some.held, some.whole) == ({}, None)
    assert [one["log_level"] for one in logs] == ["warning", "info"]


def test_a_mes_that_is_away_is_waited_for_as_long_as_it_asks_and_the_machine_is_not_to_blame() -> None:
    clock = Clock()
    some = troubles(clock)
    with capture_logs() as logs:
        assert not some.judge("a", Outcome(Verdict.AWAY, "503", retry_after=20.0))
        assert some.whole is not None
        assert (some.held, some.whole.until >= clock.now + 20.0) == ({}, True)
        clock.now += 60.0
        some.stumble(Outcome(Verdict.AWAY, "refused"))
        assert (some.whole.failures, some.whole.since) == (2, 100.0)
        assert abs(some.whole.began(clock.now) - (wire.utc_now() - timedelta(seconds=60))) < timedelta(
            seconds=30
        )
        some.recover()
    assert [one["log_level"] for one in logs] == ["error", "info"]
    assert logs[-1]["after_s"] == 60.0


def test_what_only_a_person_can_end_is_said_with_a_remedy_and_tried_slowly() -> None:
    clock = Clock()
    some = troubles(clock)
    with capture_logs() as logs:
        some.stumble(Outcome(Verdict.AWAY, "503"))
        some.stumble(Outcome(Verdict.UNAUTHORISED, "401"))
    assert some.whole is not None
    assert some.whole.until == clock.now + 30.0
    assert "remedy" not in logs[0]
    assert "[[mes]] id = 7" in logs[1]["remedy"]
