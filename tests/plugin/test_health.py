"""What OctoPrint's health check is told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.health import ISSUE, OK, UNREACHABLE_AFTER, WARNING, judge

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def status(**changes: Any) -> dict[str, Any]:
    acknowledged = wire.format_time(NOW - timedelta(seconds=10))
    return {
        "trouble": None,
        "idle": None,
        "error": None,
        "acknowledged": acknowledged,
        "storage": {"full": False, "error": None},
        **changes,
    }


@pytest.mark.parametrize("said", [{}, status(), status(idle="No key has been generated", acknowledged=None)])
def test_that_an_ordinary_day_and_a_plugin_that_nobody_set_up_are_in_order(said: dict[str, Any]) -> None:
    assert judge(said, NOW) == (OK, {})


def test_that_a_bridge_that_has_just_gone_is_given_time() -> None:
    just_gone = wire.format_time(NOW - UNREACHABLE_AFTER + timedelta(seconds=1))
    assert judge(status(error="refused", acknowledged=just_gone), NOW) == (OK, {})


def test_that_a_bridge_that_stays_away_is_a_warning() -> None:
    long_gone = wire.format_time(NOW - UNREACHABLE_AFTER)
    for acknowledged in (long_gone, None):
        result, context = judge(status(error="refused", acknowledged=acknowledged), NOW)
        assert (result, context) == (WARNING, {"reason": "unreachable", "message": "refused"})


def test_that_an_error_of_a_connection_that_was_switched_off_does_not_count() -> None:
    assert judge(status(error="refused", idle="Switched off", acknowledged=None), NOW) == (OK, {})


def test_that_trouble_and_a_refusing_disk_are_issues() -> None:
    assert judge(status(trouble="The folder cannot be used"), NOW)[0] == ISSUE
    result, context = judge(status(storage={"full": True, "error": "disk is full"}), NOW)
    assert (result, context["reason"]) == (ISSUE, "storage")
