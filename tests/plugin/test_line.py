"""The connection to the bridge: whom it talks to, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octoprint_mesbridge.line import (
    ANSWER,
    NAME,
    PORT,
    SPEECH,
    Answer,
    BadAddress,
    Line,
    NotTrusted,
    Unreachable,
    _Timed,
    address_without_path,
    base_url,
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


@contextmanager
def slow_bridge(pieces: Iterable[bytes], certificate: Path | None = None) -> Iterator[str]:
    """The address of what answers with one of `pieces` every 20 ms, for as long as somebody reads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                if certificate:
                    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    tls.load_cert_chain(certificate)
                    connection = tls.wrap_socket(connection, server_side=True)
                with connection:
                    connection.recv(4096)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.02)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # what is left unread would reset the connection
                        pass

        threading.Thread(target=serve, daemon=True).start()
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\n"
TRICKLES = {
    "body": [HEAD + b"Content-Length: 4000\r\n\r\n", *[b"x"] * 4000],
    "chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 4000],
    "status line": [bytes([byte]) for byte in HEAD * 100],
    "headers": [HEAD, *[b"X"] * 4000],
    "continue": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 4000,
}


@pytest.mark.parametrize("pieces", TRICKLES.values(), ids=TRICKLES.keys())
@pytest.mark.parametrize("securely", [False, True], ids=["http", "https"])
def test_an_answer_that_trickles_in_for_ever_ends_in_the_time_allowed(
    pieces: list[bytes], securely: bool, certificate: Path
) -> None:
    line = Line(fingerprint(certificate) if securely else None)
    with slow_bridge(pieces, certificate if securely else None) as url:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer in the time allowed"):
            line.post(url + HELLO, b"{}", {}, 5.0, 0.5, 4096)
        assert time.monotonic() - begun < 4.0


@pytest.mark.parametrize("securely", [False, True], ids=["http", "https"])
def test_a_request_that_is_never_read_ends_in_the_time_allowed(securely: bool, certificate: Path) -> None:
    line = Line(fingerprint(certificate) if securely else None)
    with slow_bridge([b""] * 200, certificate if securely else None) as url:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer in the time allowed"):
            line.post(url + HELLO, b"x" * 30_000_000, {}, 5.0, 0.5, 4096)
        assert time.monotonic() - begun < 4.0


LAST_ANSWER = [HEAD + b"Connection: close\r\nContent-Length: 4000\r\n\r\n", *[b"x"] * 4000]


@pytest.mark.parametrize("pieces", [TRICKLES["body"], LAST_ANSWER], ids=["kept", "the last answer"])
@pytest.mark.parametrize("securely", [False, True], ids=["http", "https"])
def test_a_request_under_way_is_abandoned_from_another_thread_and_not_made_again(
    pieces: list[bytes], securely: bool, certificate: Path
) -> None:
    line = Line(fingerprint(certificate) if securely else None)
    with slow_bridge(pieces, certificate if securely else None) as url:
        threading.Timer(0.5, line.abandon).start()
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="was given up"):
            line.post(url + HELLO, b"{}", {}, 5.0, 20.0, 4096)
        assert time.monotonic() - begun < 4.0
        with pytest.raises(Unreachable, match="was given up"):
            ask(line, url)


def test_a_request_is_abandoned_while_its_connection_is_made(
    bridge: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line()

    class Late(_Timed):
        def __init__(self, sock: socket.socket) -> None:
            line.abandon()
            super().__init__(sock)

    monkeypatch.setattr("octoprint_mesbridge.line._Timed", Late)
    with pytest.raises(Unreachable, match="was given up"):
        ask(line, bridge.url)


def test_a_kept_connection_that_is_abandoned_is_not_made_anew(bridge: Receiver) -> None:
    line = Line()
    ask(line, bridge.url)
    line.abandon()
    with pytest.raises(Unreachable, match="was given up"):
        ask(line, bridge.url)
    assert bridge.connections == 1


def test_an_answer_that_ends_its_connection_is_read_to_its_end() -> None:
    answer = HEAD + b"Connection: close\r\n\r\n"
    with slow_bridge([answer, *[b"x"] * 10]) as url:
        assert Line().post(url + HELLO, b"{}", {}, 1.0, 5.0, 4096).body == b"x" * 10


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


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bridge.local:8484", "http://bridge.local:8484"),
        ("192.168.1.5:8484", "http://192.168.1.5:8484"),
        ("192.168.1.5", "http://192.168.1.5:8484"),
        ("bridge", "http://bridge:8484"),
        ("[fd00::7]:8484", "http://[fd00::7]:8484"),
        ("bridge:8484/line3", "http://bridge:8484/line3"),
    ],
)
def test_to_an_address_without_http_the_whole_one_is_suggested(typed: str, meant: str) -> None:
    with pytest.raises(BadAddress) as refused:
        base_url(typed)
    assert "is no address" in str(refused.value)
    assert str(refused.value).endswith(f"try {meant}")
    assert base_url(meant) == meant


@pytest.mark.parametrize(
    "typed", ["", "/foo", "ftp://bridge", "bridge:0", "bri dge:8484", "javascript:alert(1)"]
)
def test_what_would_be_no_address_even_with_http_is_answered_with_an_example(typed: str) -> None:
    with pytest.raises(BadAddress, match=r"one such as http://bridge\.local:8484 is expected"):
        base_url(typed)


@pytest.mark.parametrize(
    "typed", ["http://me:secret@bridge", "me:secret@bridge:8484", "http://me:secret@bridge:99999"]
)
def test_a_password_in_an_address_is_not_repeated(typed: str) -> None:
    with pytest.raises(BadAddress, match="user name or password") as refused:
        base_url(typed)
    assert "secret" not in str(refused.value)


def test_an_address_with_a_path_is_told_from_one_without() -> None:
    assert address_without_path("http://bridge:8484/foo") == "http://bridge:8484"
    assert address_without_path("http://bridge:8484/") is None
    assert address_without_path("http://bridge:8484") is None
