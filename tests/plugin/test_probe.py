"""The test of a connection says how far it came, and what to do about the rest."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bridge import wire
from octoprint_mesbridge import probe
from octoprint_mesbridge.hello import Greeting
from octoprint_mesbridge.line import ANSWER, NAME, PORT, SPEECH
from octoprint_mesbridge.notice import Notice
from octoprint_mesbridge.probe import TO_PAIR, UNUSABLE, USABLE, Findings, Report, judge

from .receiver import Receiver, fingerprint, make_certificate

KEY = wire.PushKey.derive("the key")
OLD = wire.PushKey.derive("the key before")
VERSION = "0.0.test"
GREETING = Greeting(VERSION, "b1", "Hall 3", pairing=False)
PLACE = "http://bridge:8484"


@pytest.fixture
def bridge() -> Iterator[Receiver]:
    bridge = Receiver()
    yield bridge
    bridge.stop()


def report_on(address: str, *keys: wire.PushKey, certificate: str | None = None) -> Report:
    return probe.test_connection(address, keys or (KEY,), certificate, VERSION)


def failed(report: Report) -> list[str]:
    return [str(text) for text, ok in report.steps if not ok]


def test_a_bridge_that_knows_the_key_passes_every_step(bridge: Receiver) -> None:
    bridge.accept("the key")
    report = report_on(bridge.url)
    assert report.verdict == USABLE, failed(report)
    assert len(report.steps) == 8
    assert "All is well" in str(report.advice)
    assert "Hall 3" in str(report.advice)
    assert (report.record()["ok"], report.record()["verdict"]) == (True, "usable")


def test_a_name_in_the_address_is_a_step_of_its_own(bridge: Receiver) -> None:
    bridge.accept("the key")
    report = report_on(bridge.url.replace("127.0.0.1", "localhost"))
    assert report.verdict == USABLE, failed(report)
    assert "name is known" in str(report.steps[1][0])


@pytest.mark.parametrize("pairing", [True, False])
def test_a_key_that_the_bridge_does_not_know_leads_to_pairing(bridge: Receiver, pairing: bool) -> None:
    bridge.received.pairing_open = pairing
    report = report_on(bridge.url)
    assert failed(report) == ["The bridge does not know this printer's key"]
    assert (report.record()["ok"], report.record()["verdict"]) == (False, "to_pair")
    assert str(report.advice).startswith("The bridge is there")
    assert str(report.advice).endswith("pair with it in Settings > MESBridge.")
    assert ("mesbridge pair open" in str(report.advice)) is not pairing


def test_a_printer_without_a_key_is_told_so(bridge: Receiver) -> None:
    report = probe.test_connection(bridge.url, (), None, VERSION)
    assert failed(report) == ["This printer has no key yet"]
    assert report.verdict == TO_PAIR
    assert str(report.advice) == "The bridge is there. Next: pair with it in Settings > MESBridge."


def test_a_bridge_that_knows_only_the_previous_key_is_seen(bridge: Receiver) -> None:
    bridge.accept("the key before")
    report = report_on(bridge.url, KEY, OLD)
    assert failed(report) == ["The bridge knows this printer's previous key, but not the new one"]
    assert "before the previous one ends" in str(report.advice)
    assert report.verdict == TO_PAIR


def test_a_bridge_of_another_version_is_seen(bridge: Receiver) -> None:
    bridge.accept("the key")
    bridge.received.version = "0.9"
    report = report_on(bridge.url)
    assert failed(report) == ["The bridge has version 0.9, the plugin 0.0.test"]
    assert report.verdict == UNUSABLE


def test_what_is_wrong_beside_the_pairing_is_advised_on_first(bridge: Receiver) -> None:
    bridge.received.version = "0.9"
    report = probe.test_connection(bridge.url, (), None, VERSION)
    assert len(failed(report)) == 2
    assert report.verdict == UNUSABLE
    assert "same version" in str(report.advice)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_wrong_clock_is_seen_and_the_key_is_known_all_the_same(bridge: Receiver, hours: int) -> None:
    bridge.accept("the key")
    bridge.received.clock = timedelta(hours=hours)
    report = report_on(bridge.url)
    (text,) = failed(report)
    assert text.startswith(("The clocks are 17999 s", "The clocks are 18000 s", "The clocks are 18001 s"))
    assert "NTP" in str(report.advice)


def test_an_answer_that_somebody_else_signed_proves_nothing(bridge: Receiver) -> None:
    bridge.accept("the key")
    forged = wire.PushKey(KEY.key_id, b"another secret")
    bridge.received.keys = {KEY.key_id: forged}
    assert failed(report_on(bridge.url)) == ["The bridge does not know this printer's key"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>Welcome to the guest network</html>"),
        (404, b'{"product": "MESBridge"}'),
        (200, b'{"product": "other"}'),
        (200, b'{"product": "MESBridge", "version": 1, "bridge_id": "", "bridge_name": ""}'),
        (200, b'{"product": "MESBridge"}'),
        (200, b"[]"),
        (200, b"[" * 60000),
        (200, b" " * 70000),
    ],
)
def test_what_does_not_answer_as_a_bridge_is_none(bridge: Receiver, status: int, body: bytes) -> None:
    bridge.received.hello = (status, body)
    report = report_on(bridge.url)
    assert failed(report) == [f"What answers is not a MESBridge (HTTP {status})"]
    assert bridge.url in str(report.advice)


def test_what_a_bridge_says_of_itself_is_cleaned(bridge: Receiver) -> None:
    said = {"product": "MESBridge", "version": "1\x1b[31m", "bridge_id": "x", "bridge_name": "Hall\n" * 99}
    bridge.received.hello = (200, json.dumps(said).encode())
    greeting = report_on(bridge.url).greeting
    assert greeting is not None
    assert greeting.version == "1 [31m"
    assert len(greeting.bridge_name) <= 128
    assert "\n" not in greeting.bridge_name


def test_what_is_no_address_is_said_before_anything_is_sent() -> None:
    report = report_on("bridge.local:8484")
    assert failed(report) == ["The address is not sound"]
    assert "try http://bridge.local:8484" in str(report.advice)


def test_a_closed_port_is_said(bridge: Receiver) -> None:
    bridge.stop()
    report = report_on(bridge.url)
    assert failed(report) == ["The port cannot be reached"]
    assert "nothing listens on that port" in str(report.advice)


def test_an_unknown_name_is_said() -> None:
    report = report_on("http://no-such-bridge.invalid:8484")
    assert failed(report) == ["The name is not known in this network"]
    assert "IP address" in str(report.advice)


def test_a_port_that_takes_calls_and_says_nothing_is_said_within_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        report = report_on(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begun < probe.WHOLE_TEST_S
    assert [str(text) for text, _ in report.steps] == [
        "The address is sound",
        "The port is open",
        "It does not answer",
    ]


def test_a_name_service_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1.0))
    monkeypatch.setattr(probe, "WHOLE_TEST_S", 0.1)
    report = report_on("http://bridge.plant:8484")
    assert failed(report) == ["The name is not known in this network"]
    assert "DNS" in str(report.advice)


def test_http_and_https_that_are_mixed_up_are_said(bridge: Receiver, tmp_path: Path) -> None:
    report = report_on(bridge.url.replace("http", "https"))
    assert failed(report) == ["It does not speak https with a certificate that is trusted"]
    assert "http:// instead of https://" in str(report.advice)
    secure = Receiver(make_certificate(tmp_path))
    try:
        report = report_on(secure.url.replace("https", "http"))
    finally:
        secure.stop()
    assert failed(report) == ["It does not speak http"]
    assert "https:// instead of http://" in str(report.advice)


def test_a_certificate_that_nobody_vouches_for_is_a_matter_of_pairing(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    secure = Receiver(certificate)
    secure.accept("the key")
    try:
        report = report_on(secure.url)
        assert report.verdict == TO_PAIR
        assert failed(report) == ["This printer is not paired with it yet"]
        assert "becomes the trusted one by pairing" in " ".join(str(text) for text, ok in report.steps if ok)
        assert str(report.advice) == "The bridge is there. Next: pair with it in Settings > MESBridge."
        assert secure.received.paths == ["/hello"]  # asked who it is; and nothing is signed for a stranger
        assert report_on(secure.url, certificate=fingerprint(certificate)).verdict == USABLE
    finally:
        secure.stop()


def test_a_certificate_that_nobody_vouches_for_of_somebody_else_is_no_matter_of_pairing(
    tmp_path: Path,
) -> None:
    secure = Receiver(make_certificate(tmp_path))
    secure.received.hello = (404, b"")
    try:
        report = report_on(secure.url)
    finally:
        secure.stop()
    assert report.verdict == UNUSABLE
    assert failed(report) == ["What answers is not a MESBridge (HTTP 404)"]


def test_another_certificate_than_the_pinned_one_is_sent_nothing(tmp_path: Path) -> None:
    secure = Receiver(make_certificate(tmp_path))
    secure.accept("the key")
    try:
        changed = report_on(secure.url, certificate="0" * 64)
    finally:
        secure.stop()
    assert changed.verdict == UNUSABLE
    assert "not the one seen at pairing" in str(changed.advice)
    assert secure.received.paths == []


def test_an_address_with_a_path_that_leads_nowhere_is_said_to_end_after_the_port(bridge: Receiver) -> None:
    report = report_on(bridge.url + "/foo")
    assert report.verdict == UNUSABLE
    assert f"it usually ends after the port, as {bridge.url} does" in str(report.advice)


@pytest.mark.parametrize(("stage", "steps"), [(NAME, 2), (PORT, 3), (SPEECH, 4), (ANSWER, 5)])
def test_the_first_step_that_fails_is_the_last_and_says_why(stage: str, steps: int) -> None:
    report = judge(Findings("https://bridge:8484", ended=stage, trouble=Notice("because")), VERSION)
    assert [ok for _, ok in report.steps] == [True] * (steps - 1) + [False]
    assert str(report.advice) == "because"


def test_of_several_things_that_are_wrong_the_first_is_advised_on() -> None:
    other = Greeting("9", "b1", "Hall 3", pairing=False)
    report = judge(Findings(PLACE, greeting=other, known=True, offset=timedelta(hours=1)), VERSION)
    assert len(failed(report)) == 2
    assert "same version" in str(report.advice)
