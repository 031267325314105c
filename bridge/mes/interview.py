"""All that `mesbridge check --online` wants to know of one MES, asked without changing anything there.

In: its section of the settings. Out: `MesInterview`: what was learnt, and what is wrong. What is asked, by adapter:

contract     a heartbeat without a body's content, which the contract has refused (422) after token and service were
             looked at, so that it renews no lease and registers nothing
cloudevents  OPTIONS of the webhook's address. A webhook has no request that changes nothing, so that its secret is
             only looked at here, not tried
"""

from __future__ import annotations

import secrets
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bridge.aggregator.problem import Finding
from bridge.mes.adapters import adapter_for
from bridge.mes.answers import judged
from bridge.mes.client import Adapter, Answer, Kind, Message, Outcome, Request, Verdict
from bridge.mes.credentials import token_place
from bridge.mes.http import HttpClient
from bridge.mes.store import MesError
from bridge.settings import MesSettings
from bridge.sources.interview import clock_finding, is_private
from bridge.sources.octoprint import clock_difference_s

_TIMED_REQUESTS: Final = 3
_LONGEST_S: Final = 15.0


@dataclass(slots=True)
class MesInterview:
    """What was learnt of the MES instance `id`; None is what could not be learnt."""

    id: int
    url: str
    reachable: bool = False
    token_accepted: bool | None = None
    service_known: bool | None = None
    latency_ms: float | None = None
    clock_difference_s: float | None = None
    findings: list[Finding] = field(default_factory=list)

    def error(self, message: str, hint: str) -> None:
        self.findings.append(Finding("error", message, hint))

    def warning(self, message: str, hint: str) -> None:
        self.findings.append(Finding("warning", message, hint))


def interview(settings: MesSettings) -> MesInterview:
    """Ask the MES of `settings`; blocks, for a minute at most. Never raises for what it or the network does."""
    found = MesInterview(settings.id, settings.url)
    if not is_private(settings.url):
        found.warning(
            "the token is sent over plain http: others on the network can read it",
            f"give url of [[mes]] id = {settings.id} https, if the MES speaks it",
        )
    question = _Question(settings)
    client = HttpClient(settings, question)
    try:
        outcome = _ask(client, question, found)
    except MesError as error:
        said, _, advice = str(error).partition("; ")
        found.error(said, advice or "correct it")
        return found
    finally:
        client.close()
    found.reachable = question.answer is not None
    if question.answer is None:
        said, _, advice = outcome.reason.partition("; ")
        found.error(
            f"{settings.url}: {said}",
            advice or f"check that the MES runs, and url of [[mes]] id = {settings.id}",
        )
    else:
        _judge(settings, question, question.answer, outcome, found)
    finding = clock_finding(found.clock_difference_s, "this MES")
    if finding is not None:
        found.findings.append(finding)
    return found


class _Question:
    """An `Adapter` that asks something harmless, and keeps the answer."""

    def __init__(self, settings: MesSettings) -> None:
        self._adapter: Adapter = adapter_for(settings, "mesbridge-check")
        self.is_webhook = settings.adapter == "cloudevents"
        self.answer: Answer | None = None

    def request(self, message: Message, secret: str, now: datetime) -> Request:
        request = self._adapter.request(message, secret, now)
        return Request("OPTIONS", "", {}, b"") if self.is_webhook else request

    def outcome(self, message: Message, answer: Answer) -> Outcome:
        self.answer = answer
        return judged(answer) if self.is_webhook else self._adapter.outcome(message, answer)


def _ask(client: HttpClient, question: _Question, found: MesInterview) -> Outcome:
    """Asks until the time it takes is known; a MES that refuses the token or wants a pause is asked once."""
    seconds: list[float] = []
    for number in range(1 + _TIMED_REQUESTS):
        message = Message(Kind.HEARTBEAT, None, f"check-{secrets.token_hex(8)}", "{}")
        question.answer = None
        before, begin = datetime.now(UTC), time.perf_counter()
        outcome = client.send(message, _LONGEST_S)
        taken = time.perf_counter() - begin
        if question.answer is None:
            break
        date = question.answer.headers.get("date")
        found.clock_difference_s = clock_difference_s(date, before, datetime.now(UTC))
        seconds.append(taken)
        if number == 0 and outcome.verdict not in (Verdict.DONE, Verdict.REFUSED, Verdict.UNKNOWN):
            break
    if seconds:
        found.latency_ms = statistics.median(seconds[1:] or seconds) * 1000  # the first one also connected
    return outcome


def _judge(
    settings: MesSettings, question: _Question, answer: Answer, outcome: Outcome, found: MesInterview
) -> None:
    section = f"[[mes]] id = {settings.id}"
    if outcome.verdict is Verdict.UNAUTHORISED:
        found.token_accepted = False
        found.error(
            f"the MES does not accept the token ({outcome.reason})",
            f"put the API token that the MES gave you where it is read from, alone: {token_place(settings)}",
        )
    elif outcome.verdict is Verdict.AWAY:
        found.warning(f"the MES asks for patience ({outcome.reason})", "check again later")
    elif outcome.verdict in (Verdict.FAILED, Verdict.FOREIGN):
        found.error(
            f"the MES does not answer as it should ({outcome.reason})",
            f"check url and path of {section}, and the log of the MES",
        )
    elif question.is_webhook:
        if answer.code in (404, 410):
            found.warning(
                f"the address answers HTTP {answer.code} when it is asked what it takes; there may be no webhook",
                f"check url of {section}",
            )
    elif outcome.verdict is Verdict.UNKNOWN:
        found.service_known = False
        found.error(
            f"the MES does not know the service ({outcome.reason})",
            f"check service_id, url and path of {section}",
        )
    elif outcome.verdict is Verdict.DONE or answer.code in (400, 422):
        found.token_accepted = found.service_known = True
    else:
        found.error(
            f"what answers there does not speak the contract ({outcome.reason})",
            f"check url, path and adapter of {section}",
        )
