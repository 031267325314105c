"""The connection to the bridge: whom it talks to, and what it says when it cannot."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octoprint_mesbridge.line import (
    ANSWER,
    NAME,
    PORT,
    SPEECH,
    Answer,
    Line,
    NotTrusted,
    Unreachable,
    certificate_to_pin,
    origin,
)

from .receiver import HELLO, Receiver, fingerprint, make_certificate


@pytest.fixture
def bridge() -> Iterator[Receiver]:
    bridge = Receiver()
    yield bridge
    bridge.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def secure(certificate: Path) -> Iterator[Receiver]:
    bridge = Receiver(certificate)
    yield bridge
    bridge.stop()


def ask(line: Line, url: str, path: str = HELLO) -> Answer:
    return line.post(url + path, b"{}", {}, 1.0, 1.0, 4096)


def refusal(line: Line, url: str) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        ask(line, url)
    return caught.value


def test_a_pinned_bridge_is_talked_to_whoever_signed_its_certificate_and_whatever_its_name(
    secure: Receiver, certificate: Path
) -> None:
    line = Line(fingerprint(certificate))
    assert ask(line, secure.url).status == 200
    assert ask(line, secure.url.replace("127.0.0.1", "localhost")).status == 200
    line.close()


def test_one_secure_connection_serves_all_requests_and_is_checked_anew_when_it_ended(
    secure: Receiver, certificate: Path, tmp_path: Path
) -> None:
    line = Line(fingerprint(certificate))
    assert [ask(line, secure.url).status for _ in range(3)] == [200] * 3
    assert secure.connections == 1
    secure.end_connections()
    assert ask(line, secure.url).status == 200
    assert secure.connections == 2

    secure.stop()
    secure.certificate = make_certificate(tmp_path, "other")
    secure.start()
    secure.received.paths.clear()
    refused = refusal(line, secure.url)
    assert "is not the one seen at pairing" in str(refused)
    assert "pair again" in str(refused)
    assert refused.stage == SPEECH
    assert secure.received.paths == []


def test_a_connection_that_ended_is_never_made_again_without_its_protection(
    secure: Receiver, certificate: Path
) -> None:
    """http.client opens a closed connection by itself, as plain http."""
    line = Line(fingerprint(certificate))
    ask(line, secure.url)
    assert line._connection is not None
    line._connection.close()
    with pytest.raises(Unreachable):
        ask(line, secure.url)
    assert ask(line, secure.url).status == 200


def test_a_certificate_of_nobody_known_is_refused_before_a_byte_is_sent(secure: Receiver) -> None:
    refused = refusal(Line(), secure.url)
    assert isinstance(refused, NotTrusted)
    assert "pair with the bridge, which pins its certificate" in str(refused)
    assert secure.received.paths == []


def test_a_certificate_that_the_system_trusts_needs_no_pin(
    secure: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(Line(), secure.url).status == 200
    assert certificate_to_pin(secure.url, 1.0) is None


def test_a_trusted_certificate_of_another_host_is_refused(
    secure: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **options: look_up("127.0.0.1", *more, **options)
    )
    assert isinstance(refusal(Line(), secure.url.replace("127.0.0.1", "another.plant")), NotTrusted)
    assert secure.received.paths == []


def test_only_an_untrusted_certificate_is_one_to_pin(
    bridge: Receiver, secure: Receiver, certificate: Path
) -> None:
    assert certificate_to_pin(secure.url, 1.0) == fingerprint(certificate)
    assert certificate_to_pin(bridge.url, 1.0) is None
    with pytest.raises(Unreachable):
        certificate_to_pin(bridge.url.replace("http", "https"), 1.0)


def test_http_and_https_that_are_mixed_up_are_said(bridge: Receiver, secure: Receiver) -> None:
    refused = refusal(Line(), bridge.url.replace("http", "https"))
    assert "speaks plain http: enter the address with http://" in str(refused)
    refused = refusal(Line("0" * 64), bridge.url.replace("http", "https"))
    assert "speaks plain http" in str(refused)
    refused = refusal(Line(), secure.url.replace("https", "http"))
    assert "speaks https: enter the address with https://" in str(refused)
    assert refused.stage == SPEECH


def test_where_nothing_listens_is_said(bridge: Receiver) -> None:
    bridge.stop()
    refused = refusal(Line(), bridge.url)
    assert "nothing listens on that port; check the port, and that the bridge runs" in str(refused)
    assert refused.stage == PORT


def test_a_name_that_is_not_known_is_said() -> None:
    refused = refusal(Line(), "http://no-such-bridge.invalid:8484")
    assert "name is not known in this network" in str(refused)
    assert refused.stage == NAME


@pytest.mark.parametrize(("said", "stage"), [(None, ANSWER), (b"220 smtp ready\r\n", SPEECH), (b"", ANSWER)])
def test_what_is_no_bridge_is_said(said: bytes | None, stage: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            connection, _ = other.accept()
            if said is not None:
                connection.recv(65536)
                connection.sendall(said)
                connection.close()
                other.close()
            else:
                threading.Event().wait(1.5)

        threading.Thread(target=serve, daemon=True).start()
        refused = refusal(Line(), f"http://127.0.0.1:{other.getsockname()[1]}")
    assert "check" in str(refused)
    assert refused.stage == stage


def test_each_request_has_its_own_time_to_be_answered_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for pause in (0.0, 0.6):
                    connection.recv(4096)
                    time.sleep(pause)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/push"
        line = Line()
        try:
            assert line.post(url, b"{}", {}, 1.0, 0.3, 4096).status == 200
            assert line.post(url, b"{}", {}, 1.0, 5.0, 4096).status == 200
        finally:
            line.close()


def test_a_long_answer_is_cut_off(bridge: Receiver) -> None:
    bridge.received.hello = (200, b"x" * 5000)
    line = Line()
    assert ask(line, bridge.url).body is None
    bridge.received.hello = (200, b"x" * 4096)
    assert ask(line, bridge.url).body == b"x" * 4096


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://Bridge:8484/push", "http://bridge:8484"),
        ("https://bridge/", "https://bridge:443"),
        ("http://bridge", "http://bridge:80"),
        ("https://[FD00::7]:8484", "https://[fd00::7]:8484"),
    ],
)
def test_an_origin_always_has_its_port(url: str, expected: str) -> None:
    assert origin(url) == expected
