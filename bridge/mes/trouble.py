"""What a MES cannot take now, everything or what is of one machine, and when it is tried again.

In flow the outcomes of requests, out flow pauses; the log says once when a failure begins, and once when it ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bridge import wire
from bridge.mes.client import Outcome, Verdict

_uniform = secrets.SystemRandom().uniform

_REMEDIES: Final = {
    Verdict.UNAUTHORISED: "check token_file or token_env, auth_header and auth_scheme of [[mes]] id = {id};"
    " a new token in the file is used without a restart",
    Verdict.FOREIGN: "check url, path, service_id, adapter and proxy of [[mes]] id = {id}",
}
"""What a person can do, by the verdicts that nothing else ends."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Pauses in seconds: after the `first` failure, doubled up to the `longest`; `slow` when only a person
    can help."""

    first: float = 0.5
    longest: float = 60.0
    slow: float = 30.0

    def pause(self, failures: int) -> float:
        """The pause after so many failures in a row, spread so that many bridges do not knock together."""
        return _uniform(0.5, 1.0) * min(self.longest, self.first * 2.0 ** min(failures - 1, 30))

    def at_least(self, asked: float) -> float:
        """The pause that a MES asked for, or a little more, since it asked all bridges for the same."""
        return asked * _uniform(1.0, 1.1)


@dataclass(slots=True)
class Trouble:
    """A failure that lasts: since when, how often, why, and when to try again (monotonic seconds)."""

    since: float
    reason: str
    failures: int = 0
    until: float = 0.0

    def began(self, now: float) -> datetime:
        """When, in UTC, if `now` (monotonic) is the present."""
        return wire.utc_now() - timedelta(seconds=now - self.since)


class Troubles:
    """Those of the MES instance `mes`. Changed in one thread, and read in others; `log` is a bound logger."""

    def __init__(self, mes: int, pace: Pace, clock: Callable[[], float], log: Any) -> None:
        self._mes = mes
        self._pace = pace
        self._clock = clock
        self._log = log
        self.whole: Trouble | None = None
        """While the MES can be told nothing."""
        self.held: dict[str, Trouble] = {}
        """The machines of which it takes nothing, though it does of others."""

    def holding(self) -> set[str]:
        """The machines that are not to be tried yet."""
        now = self._clock()
        return {machine for machine, trouble in self.held.items() if now < trouble.until}

    def judge(self, machine: str, outcome: Outcome) -> bool:
        """Note what an outcome means for the machine and the MES; True when the request is done with."""
        if outcome.verdict is Verdict.DONE:
            self.recover()
            if self.held.pop(machine, None) is not None:
                self._log.info("the MES takes messages of the machine again", machine=machine)
            return True
        if outcome.verdict not in (Verdict.FAILED, Verdict.REFUSED):
            self.stumble(outcome)
            return False
        held = self.held.get(machine)
        if held is None:
            held = self.held[machine] = Trouble(self._clock(), outcome.reason)
            self._log.warning(
                "the MES cannot take a message of the machine; it is sent again later, nothing is lost",
                machine=machine,
                reason=outcome.reason,
            )
        held.failures += 1
        slow = outcome.verdict is Verdict.REFUSED
        held.until = self._clock() + (self._pace.slow if slow else self._pace.pause(held.failures))
        return False

    def stumble(self, outcome: Outcome) -> None:
        """The MES can be told nothing, for what `outcome` says, until a pause is over."""
        if self.whole is None or self.whole.reason != outcome.reason:
            since = self.whole.since if self.whole else self._clock()
            if self.whole is None or outcome.verdict in _REMEDIES:
                remedy = _REMEDIES.get(outcome.verdict, "").format(id=self._mes)
                self._log.error(
                    "the MES cannot be told anything; messages are kept until it can",
                    reason=outcome.reason,
                    **({"remedy": remedy} if remedy else {}),
                )
            failures = self.whole.failures if self.whole else 0
            self.whole = Trouble(since, outcome.reason, failures)
        self.whole.failures += 1
        pause = self._pace.slow if outcome.verdict in _REMEDIES else self._pace.pause(self.whole.failures)
        if outcome.retry_after is not None:
            pause = max(pause, self._pace.at_least(outcome.retry_after))
        self.whole.until = self._clock() + pause

    def recover(self) -> None:
        """The MES takes something again."""
        if self.whole is not None:
            lasted = self._clock() - self.whole.since
            self.whole = None
            self._log.info("the MES can be told again", after_s=round(lasted, 1))
