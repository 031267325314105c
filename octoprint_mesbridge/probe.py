"""The test of a connection: what works between here and the bridge, step by step, and what to do about the rest.

`examine` asks the network and takes a few seconds at most; `judge` makes of its `Findings` what a person is
told, and knows no network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from bridge import wire

from .line import ANSWER, NAME, PORT, SPEECH, STAGES, Answer, BadAddress, Line, Unreachable, base_url
from .notice import N_, Notice

HELLO = "/hello"
WHOLE_TEST_S = 6.0
_CONNECT_S, _READ_S = 2.0, 2.0
_MOST = 64 * 1024
_QUESTION = b"{}"
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_CLOCKS_APART_S = 10.0


@dataclass(frozen=True)
class Greeting:
    """What a bridge says of itself."""

    version: str
    bridge_id: str
    bridge_name: str
    pairing: bool

    def record(self) -> dict[str, str | None]:
        """As the settings tab gets it."""
        return {"id": self.bridge_id, "name": self.bridge_name or None, "version": self.version or None}


@dataclass(frozen=True)
class Findings:
    """How far the test came. `ended` is the stage (of `line.STAGES`) that failed, and `trouble` why.

    `status` is HTTP's. `known`: whether the bridge proved that it knows one of the keys, None if there is no key
    to ask about; `newest` whether it is the newest one. `offset` is what the bridge's clock is ahead of this one.
    """

    place: str
    ended: str | None = None
    trouble: Notice | None = None
    status: int | None = None
    greeting: Greeting | None = None
    known: bool | None = None
    newest: bool = True
    offset: timedelta | None = None


@dataclass(frozen=True)
class Report:
    """The steps in order (text, whether it went well), and what to do next."""

    steps: tuple[tuple[Notice, bool], ...]
    advice: Notice
    greeting: Greeting | None = None

    @property
    def ok(self) -> bool:
        return all(ok for _, ok in self.steps)

    def record(self) -> dict[str, Any]:
        """As the settings tab gets it, with notices."""
        steps = [{"text": text, "ok": ok} for text, ok in self.steps]
        return {"ok": self.ok, "steps": steps, "advice": self.advice}


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
    line = Line(certificate)
    findings = Findings(base)
    try:
        answer = _ask(line, base, {})
        findings = replace(findings, status=answer.status, greeting=_greeting(answer.status, answer.body))
        if findings.greeting is None or not keys:
            return findings
        findings = replace(findings, known=False)
        for number, key in enumerate(keys):
            offset, _ = meet(line, base, key)
            if offset is not None:
                return replace(findings, known=True, newest=number == 0, offset=offset)
        return findings
    except Unreachable as error:
        return replace(findings, ended=error.stage, trouble=error.notice)
    finally:
        line.close()


def _ask(line: Line, base: str, headers: Mapping[str, str]) -> Answer:
    return line.post(base + HELLO, _QUESTION, {**_HEADERS, **headers}, _CONNECT_S, _READ_S, _MOST)


def meet(
    line: Line, base: str, key: wire.PushKey, ahead: timedelta = timedelta(0)
) -> tuple[timedelta | None, Greeting | None]:
    """What the clock of a bridge with the same `key` is ahead of this one, and what that one says of itself.

    The first is None when nobody answers who has the key, the second also when he finds this clock wrong; `ahead`
    is what is known of his already. Raises `Unreachable`.
    """
    message_id = wire.new_message_id()
    answer = _ask(line, base, wire.sign(key, message_id, wire.utc_now() + ahead, _QUESTION))
    try:
        moment = wire.verify_reply(key, message_id, answer.headers, answer.body or b"")
    except wire.SignatureError:
        return None, None
    return moment - wire.utc_now(), _greeting(answer.status, answer.body)


def _greeting(status: int, body: bytes | None) -> Greeting | None:
    """None when that is not what a MESBridge says."""
    try:
        said = json.loads(body or b"") if status == 200 else {}
        if said.get("product") != "MESBridge":
            return None
        return Greeting(
            version=cleaned(said["version"], 32),
            bridge_id=cleaned(said["bridge_id"], 64),
            bridge_name=cleaned(said["bridge_name"], 128),
            pairing=said.get("pairing") is True,
        )
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def cleaned(text: Any, most: int) -> str:
    """What may be shown of a `text` that came from the network. Raises `ValueError` when it is none."""
    if not isinstance(text, str):
        raise ValueError("a text is expected")
    return "".join(c if c.isprintable() else " " for c in text).strip()[:most]


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


def judge(findings: Findings, version: str) -> Report:
    """What a person is told of `findings`; `version` is the plugin's."""
    place = {"place": findings.place}
    steps = [(Notice(N_("The address is sound")), True)]
    reached = _REACHED_SECURELY if findings.place.startswith("https:") else _REACHED
    for stage in STAGES:
        if stage == NAME and findings.ended != NAME and _is_number(findings.place):
            continue
        good, bad = reached[stage]
        if findings.ended == stage:
            steps.append((Notice(bad), False))
            return Report(tuple(steps), findings.trouble or Notice(bad), findings.greeting)
        steps.append((Notice(good), True))
    greeting = findings.greeting
    if greeting is None:
        template = N_("What answers is not a MESBridge (HTTP %(status)d)")
        steps.append((Notice(template, {"status": findings.status or 0}), False))
        advice = N_(
            "Check the address and the port: %(place)s belongs to something else, to a proxy or a login page in"
            " between, or to a bridge that is older than this plugin"
        )
        return Report(tuple(steps), Notice(advice, place))
    named = {"name": greeting.bridge_name or greeting.bridge_id}
    steps.append((Notice(N_("A MESBridge answers: %(name)s"), named), True))
    advices = [
        _judge_version(steps, greeting, version),
        _judge_key(steps, findings, greeting),
        _judge_clock(steps, findings.offset),
    ]
    fine = Notice(N_("All is well: this printer can be reported to %(name)s"), named)
    return Report(tuple(steps), next(filter(None, advices), fine), greeting)


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
    if findings.known is None:
        steps.append((Notice(N_("This printer has no key yet")), False))
    else:
        steps.append((Notice(N_("The bridge does not know this printer's key")), False))
    if greeting.pairing:
        return Notice(N_("Pair with this bridge: it takes requests at the moment"))
    return Notice(
        N_(
            "Run `mesbridge pair open` at the bridge and pair with it; or put a key into this machine's entry of"
            " config.json and restart the bridge"
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
