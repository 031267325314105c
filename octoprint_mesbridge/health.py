"""What OctoPrint's health check is told: whether events reach the bridge.

In flow the plugin's status; out flow a result and its context, which the tab's script puts into words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from bridge import wire

UNREACHABLE_AFTER = timedelta(minutes=5)
"""A bridge that is being restarted or updated is nobody's business yet."""

OK, WARNING, ISSUE = "ok", "warning", "issue"


def judge(status: Mapping[str, Any], now: datetime) -> tuple[str, dict[str, str]]:
    """``ok``, ``warning`` or ``issue`` for what `Api.status` tells, and ``reason`` and ``message`` (English).

    What is not set up, or switched off, is in order.
    """
    if status.get("trouble"):
        return ISSUE, {"reason": "trouble", "message": str(status["trouble"])}
    refusal = (status.get("storage") or {}).get("error")
    if refusal:
        return ISSUE, {"reason": "storage", "message": str(refusal)}
    if status.get("error") and not status.get("idle") and not _recent(status.get("acknowledged"), now):
        return WARNING, {"reason": "unreachable", "message": str(status["error"])}
    return OK, {}


def _recent(contact: str | None, now: datetime) -> bool:
    return contact is not None and now - wire.parse_time(contact) < UNREACHABLE_AFTER


def checks(status: Callable[[], Mapping[str, Any]]) -> list[Any]:
    """The classes for the hook ``octoprint.plugin.health_check.get_additional_checks``; none without that plugin."""
    try:
        from octoprint.plugins.health_check.checks import CheckResult, HealthCheck, Result
    except ImportError:
        return []

    class BridgeCheck(HealthCheck):
        key = "mesbridge"

        def perform_check(self, force: bool = False) -> Any:
            result, context = judge(status(), wire.utc_now())
            return CheckResult(result=Result(result), context=context)

    return [BridgeCheck]
