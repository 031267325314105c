"""The test of a connection: what works between here and the bridge, step by step, and what to do about the rest.

`examine` asks the network and takes a few seconds at most; `judge` makes of its `Findings` what a person is
told, and knows no network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from bridge import wire

from .hello import Greeting, greet, meet
from .line import (
    ANSWER,
    NAME,
    PORT,
    SPEECH,
    STAGES,
    BadAddress,
    Line,
    NotTrusted,
    Unreachable,
    address_without_path,
    base_url,
    certificate_to_pin,
)
from .notice import N_, Notice

WHOLE_TEST_S = 6.0
_CONNECT_S = 2.0
_CLOCKS_APART_S = 10.0

USABLE = "usable"
TO_PAIR = "to_pair"
UNUSABLE = "unusable"


@dataclass(frozen=True)
class Findings:
    """How far the test came. `ended` is the stage (of `line.STAGES`) that failed, and `trouble` why.

    `to_pin`: the bridge has a certificate that nobody vouches for yet, so that it was asked about no key. `status`
    is HTTP's. `known`: whether the bridge proved that it knows one of the keys, None if there is no key to ask
    about; `newest` whether it is the newest one. `offset` is what the bridge's clock is ahead of this one.
    """

    place: str
    ended: str | None = None
    trouble: Notice | None = None
    to_pin: bool = False
    status: int | None = None
    greeting: Greeting | None = None
    known: bool | None = None
    newest: bool = True
    offset: timedelta | None = None


@dataclass(frozen=True)
class Report:
    """The steps in order (text, whether it is as it should be), and what to do next.

    `verdict`: `USABLE`; `TO_PAIR`: all that is missing is pairing; `UNUSABLE`: something else is to be solved first.
    """

    steps: tuple[tuple[Notice, bool], ...]
    advice: Notice
    verdict: str = UNUSABLE
    greeting: Greeting | None = None

    def record(self) -> dict[str, Any]:
        """As the settings tab gets it, with notices."""
        steps = [{"text": text, "ok": ok} for text, ok in self.steps]
        return {
            "ok": self.verdict == USABLE,
            "verdict": self.verdict,
            "steps": steps,
            "advice": self.advice,
        }


def test_connection(
    address: str, keys: Sequence[wire.PushKey], certificate: str | None, version: str
) -> Report:
    """What becomes of a talk with the bridge at `address`; `keys`, newest first, sign it.

    `certificate` is the pinned one (SHA-256, hex) or None; `version` is the plugin's.
    """
    try:
        base = base_url(address)
    except BadAddress as error:
        step = (Notice(N_("The address is not sound")), False)
        return Report((step,), error.notice)
    return judge(_within(WHOLE_TEST_S, base, keys, certificate), version)


# --------------------------------------------------------------------------- asking


@dataclass
class _Progress:
    findings: Findings
    done: threading.Event = field(default_factory=threading.Event)


def _within(seconds: float, base: str, keys: Sequence[wire.PushKey], certificate: str | None) -> Findings:
    """Looking up a name cannot be stopped, so that it is waited for only so long."""
    slow = Notice(
        N_("The test took too long: the network or its name service (DNS) is slow or does not answer")
    )
    progress = _Progress(Findings(base, ended=NAME, trouble=slow))

    def run() -> None:
        parts = urlsplit(base)
        try:
            with contextlib.suppress(OSError, UnicodeError):  # `examine` says it in words
                socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
                progress.findings = replace(progress.findings, ended=PORT)
            progress.findings = examine(base, keys, certificate)
        finally:
            progress.done.set()

    threading.Thread(target=run, name="mesbridge.probe", daemon=True).start()
    progress.done.wait(seconds)
    return progress.findings


def examine(base: str, keys: Sequence[wire.PushKey], certificate: str | None) -> Findings:
    """Talk to what is at the sound address `base`."""
    findings = Findings(base)
    try:
        try:
            return _talk(findings, keys, certificate)
        except NotTrusted:
            # Whoever that is, it is only asked who it is; nothing is signed for it.
            stranger = certificate_to_pin(base, _CONNECT_S)
            return _talk(replace(findings, to_pin=True), (), stranger)
    except Unreachable as error:
        return replace(findings, ended=error.stage, trouble=error.notice)


def _talk(findings: Findings, keys: Sequence[wire.PushKey], certificate: str | None) -> Findings:
    line = Line(certificate)
    try:
        status, greeting = greet(line, findings.place)
        findings = replace(findings, status=status, greeting=greeting)
        if greeting is None or not keys:
            return findings
        for number, key in enumerate(keys):
            offset, _ = meet(line, findings.place, key)
            if offset is not None:
                return replace(findings, known=True, newest=number == 0, offset=offset)
        return replace(findings, known=False)
    finally:
        line.close()


# --------------------------------------------------------------------------- judging

_REACHED = {
    NAME: (N_("The name is known in this network"), N_("The name is not known in this network")),
    PORT: (N_("The port is open"), N_("The port cannot be reached")),
    SPEECH: (N_("It speaks http, as the address says"), N_("It does not speak http")),
    ANSWER: (N_("It answers"), N_("It does not answer")),
}
_REACHED_SECURELY = {
    **_REACHED,
    SPEECH: (
        N_("It speaks https, with a certificate that is trusted"),
        N_("It does not speak https with a certificate that is trusted"),
    ),
}
_REACHED_TO_PIN = {
    **_REACHED_SECURELY,
    SPEECH: (
        N_("It speaks https; its certificate becomes the trusted one by pairing"),
        N_("It does not speak https"),
    ),
}


def judge(findings: Findings, version: str) -> Report:
    """What a person is told of `findings`; `version` is the plugin's."""
    steps = [(Notice(N_("The address is sound")), True)]
    reached = _REACHED_SECURELY if findings.place.startswith("https:") else _REACHED
    if findings.to_pin:
        reached = _REACHED_TO_PIN
    for stage in STAGES:
        if stage == NAME and findings.ended != NAME and _is_number(findings.place):
            continue
        if stage == SPEECH and findings.ended == ANSWER and reached is _REACHED:
            continue  # without TLS only an answer shows what is spoken
        good, bad = reached[stage]
        if findings.ended == stage:
            steps.append((Notice(bad), False))
            return Report(tuple(steps), findings.trouble or Notice(bad), greeting=findings.greeting)
        steps.append((Notice(good), True))
    greeting = findings.greeting
    if greeting is None:
        template = N_("What answers is not a MESBridge (HTTP %(status)d)")
        steps.append((Notice(template, {"status": findings.status or 0}), False))
        return Report(tuple(steps), _somebody_else(findings.place))
    named = {"name": greeting.bridge_name or greeting.bridge_id}
    steps.append((Notice(N_("A MESBridge answers: %(name)s"), named), True))
    versions = _judge_version(steps, greeting, version)
    key = _judge_key(steps, findings, greeting)
    clocks = _judge_clock(steps, findings.offset)
    wrong = versions or clocks
    if wrong:
        return Report(tuple(steps), wrong, UNUSABLE, greeting)
    if key:
        return Report(tuple(steps), key, TO_PAIR, greeting)
    fine = Notice(N_("All is well: this printer can be reported to %(name)s"), named)
    return Report(tuple(steps), fine, USABLE, greeting)


def _somebody_else(place: str) -> Notice:
    without_path = address_without_path(place)
    if without_path:
        advice = N_(
            "Check the address: it usually ends after the port, as %(meant)s does; %(place)s belongs to something"
            " else, to a proxy or a login page in between, or to a bridge that is older than this plugin"
        )
        return Notice(advice, {"place": place, "meant": without_path})
    advice = N_(
        "Check the address and the port: %(place)s belongs to something else, to a proxy or a login page in"
        " between, or to a bridge that is older than this plugin"
    )
    return Notice(advice, {"place": place})


def _is_number(place: str) -> bool:
    """Whether `place` names its host by an IP address."""
    try:
        ipaddress.ip_address(urlsplit(place).hostname or "")
        return True
    except ValueError:
        return False


def _judge_version(steps: list[tuple[Notice, bool]], greeting: Greeting, version: str) -> Notice | None:
    said = {"bridge": greeting.version, "plugin": version}
    if greeting.version == version:
        steps.append((Notice(N_("Bridge and plugin have the same version, %(plugin)s"), said), True))
        return None
    steps.append((Notice(N_("The bridge has version %(bridge)s, the plugin %(plugin)s"), said), False))
    return Notice(N_("Install the same version of MESBridge on both sides: %(bridge)s or %(plugin)s"), said)


def _judge_key(steps: list[tuple[Notice, bool]], findings: Findings, greeting: Greeting) -> Notice | None:
    """What to do where pairing is missing."""
    if findings.known and findings.newest:
        steps.append((Notice(N_("The bridge knows this printer's key")), True))
        return None
    if findings.known:
        steps.append((Notice(N_("The bridge knows this printer's previous key, but not the new one")), False))
        return Notice(
            N_(
                "Give the bridge the new key before the previous one ends: pair again, or put it where this"
                " machine's entry of config.json says and restart the bridge"
            )
        )
    if findings.to_pin:
        steps.append((Notice(N_("This printer is not paired with it yet")), False))
    elif findings.known is None:
        steps.append((Notice(N_("This printer has no key yet")), False))
    else:
        steps.append((Notice(N_("The bridge does not know this printer's key")), False))
    if greeting.pairing:
        return Notice(N_("The bridge is there. Next: pair with it in Settings > MESBridge."))
    return Notice(
        N_(
            "The bridge is there, but takes no pairing requests now. Next: have `mesbridge pair open` run at the"
            " bridge, then pair with it in Settings > MESBridge."
        )
    )


def _judge_clock(steps: list[tuple[Notice, bool]], offset: timedelta | None) -> Notice | None:
    if offset is None:
        return None
    seconds = abs(offset.total_seconds())
    if seconds < _CLOCKS_APART_S:
        steps.append((Notice(N_("The clocks agree")), True))
        return None
    steps.append((Notice(N_("The clocks are %(seconds)d s apart"), {"seconds": round(seconds)}), False))
    return Notice(
        N_(
            "Set the clocks of this machine and of the bridge by the network (NTP): the times of what happens on"
            " the printer come from here"
        )
    )
