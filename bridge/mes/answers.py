"""What HTTP itself says about an answer, whatever kind of MES gave it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from bridge.mes.client import Answer, Outcome, Verdict

_LONGEST_RETRY_AFTER_S = 3600.0


def judged(answer: Answer, now: datetime | None = None) -> Outcome:
    """The outcome of an answer that is no success; 2xx is DONE, whatever it holds."""
    code = answer.code
    if code < 400:
        if 200 <= code < 300:
            return Outcome(Verdict.DONE)
        target = answer.headers.get("location", "elsewhere")
        return Outcome(Verdict.FOREIGN, f"HTTP {code} leads to {target[:200]}; the token is not sent there")
    reason = f"HTTP {code}{_problem(answer)}"
    if code in (401, 403):
        return Outcome(Verdict.UNAUTHORISED, reason)
    if code == 407:
        return Outcome(
            Verdict.FOREIGN, f"{reason}: the proxy wants a name and password: see proxy_credentials_file"
        )
    if code in (429, 503):
        return Outcome(Verdict.AWAY, reason, _retry_after(answer.headers.get("retry-after"), now))
    if code >= 500 or code in (408, 425):
        return Outcome(Verdict.FAILED, reason)
    return Outcome(Verdict.UNKNOWN if code == 404 else Verdict.REFUSED, reason)


def json_of(answer: Answer) -> Mapping[str, Any] | None:
    """The JSON object that the answer holds, if it says and holds one."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _problem(answer: Answer) -> str:
    """What an RFC 9457 problem document says, as far as it is one."""
    found = json_of(answer) or {}
    said = [str(found[name])[:300] for name in ("title", "detail") if found.get(name)]
    return "".join(f": {''.join(c if c.isprintable() else ' ' for c in text)}" for text in said)


def _retry_after(text: str | None, now: datetime | None) -> float | None:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC)
            seconds = (moment - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
