"""However a MES answers, a request ends in time and takes little memory, and the token goes nowhere else."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from bridge.mes.client import Verdict
from tests.bridge.mes.authority import Authority
from tests.bridge.mes.chain import events_of, wait_until
from tests.bridge.mes.misbehaving import spoiled_mes
from tests.bridge.mes.peers import (
    HEARTBEAT,
    client_of,
    listening,
    proxying,
    sent,
    server_context,
    settings_of,
)
from tests.bridge.mes.test_delivery import EXPECTED, check_all_arrived, reporting


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext | None, dict[str, Path]]:
    if request.param == "http":
        return None, {}
    plant = Authority(tmp_path)
    return server_context(plant.certificate("mes")), {"ca_file": plant.file}


def trickle(out: BinaryIO, text: bytes) -> None:
    with contextlib.suppress(OSError):
        for byte in text:
            out.write(bytes([byte]))
            out.flush()
            time.sleep(0.05)


SLOW: dict[str, Callable[[BinaryIO], None]] = {
    "nothing": lambda out: time.sleep(3),
    "its head byte by byte": lambda out: trickle(out, b"HTTP/1.1 200 OK\r\nServer: " + b"s" * 300),
    "endless lines of its head": lambda out: trickle(out, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50),
    "its body byte by byte": lambda out: trickle(
        out, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b" " * 300
    ),
    "chunks byte by byte": lambda out: trickle(
        out, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50
    ),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_request_ends_in_time_when_the_mes_sends(
    what: str, tmp_path: Path, tls: tuple[ssl.SSLContext | None, dict[str, Path]]
) -> None:
    context, changes = tls
    with listening(context, SLOW[what]) as peer:
        begun = time.monotonic()
        outcome = sent(settings_of(tmp_path, peer.url, timeout=0.5, **changes))
        assert 0.4 < time.monotonic() - begun < 1.0
    assert (outcome.verdict, outcome.reason) == (Verdict.AWAY, "no whole answer within 0.5 s")


def test_a_request_after_a_slow_one_has_all_of_its_time(tmp_path: Path) -> None:
    def slow(out: BinaryIO) -> None:
        time.sleep(0.4)
        out.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    with listening(answer=slow) as peer, client_of(settings_of(tmp_path, peer.url, timeout=0.6)) as client:
        assert [client.send(HEARTBEAT).verdict for _ in range(3)] == [Verdict.DONE] * 3
    assert peer.connections == 1


def test_a_proxy_that_trickles_holds_nobody_either(tmp_path: Path) -> None:
    with listening() as peer, socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError), connection.makefile("wb", 0) as out:
                trickle(out, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50)  # type: ignore[arg-type]

        thread = threading.Thread(target=serve)
        thread.start()
        begun = time.monotonic()
        url = peer.url.replace("http:", "https:")
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert sent(settings_of(tmp_path, url, timeout=0.5, proxy=proxy)).verdict is Verdict.AWAY
        assert time.monotonic() - begun < 1.0
        thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that takes no connection and refuses none: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        time.sleep(0.1)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_mes_that_cannot_be_reached_is_given_up_after_the_connect_timeout(tmp_path: Path) -> None:
    with black_hole() as url:
        begun = time.monotonic()
        outcome = sent(settings_of(tmp_path, url, connect_timeout=0.3))
        assert time.monotonic() - begun < 1.0
    assert outcome.reason == "cannot be reached: no connection within 0.3 s"


def test_a_dead_mes_delays_no_other(tmp_path: Path) -> None:
    with black_hole() as url, spoiled_mes(tmp_path / "mes") as mes:
        dead = mes.settings(id=2, url=url, connect_timeout=3.0, timeout=3.0)
        begun = time.monotonic()
        with reporting(tmp_path, mes.settings(), dead) as sink:
            check_all_arrived(mes)
            assert time.monotonic() - begun < 2.5  # before the dead one is given up for the first time
            wait_until(lambda: sink.states()[0].waiting == 0)
            assert sink.states()[1].waiting >= len(EXPECTED)


def test_a_mes_that_trickles_delays_no_other(tmp_path: Path) -> None:
    with listening(answer=SLOW["its body byte by byte"]) as peer, spoiled_mes(tmp_path / "mes") as mes:
        with reporting(tmp_path, mes.settings(), mes.settings(id=2, url=peer.url, timeout=0.5)) as sink:
            check_all_arrived(mes)
            wait_until(lambda: "no whole answer" in str(sink.states()[1].trouble))
        assert events_of(mes.machine() or {}) == EXPECTED


def test_one_connection_is_kept_for_all_requests(
    tmp_path: Path, tls: tuple[ssl.SSLContext | None, dict[str, Path]]
) -> None:
    context, changes = tls
    with listening(context) as peer, client_of(settings_of(tmp_path, peer.url, **changes)) as client:
        for _ in range(20):
            assert client.send(HEARTBEAT).verdict is Verdict.DONE
    assert (len(peer.seen), peer.connections) == (20, 1)


def test_one_connection_is_kept_through_a_proxy(tmp_path: Path) -> None:
    plant = Authority(tmp_path)
    with (
        proxying() as proxy,
        listening(server_context(plant.certificate("mes"))) as peer,
        client_of(settings_of(tmp_path, peer.url, proxy=proxy.url, ca_file=plant.file)) as client,
    ):
        for _ in range(5):
            assert client.send(HEARTBEAT).verdict is Verdict.DONE
        assert len(proxy.asked) == 1


def test_a_connection_that_the_mes_closed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with listening(answer=lambda out: out.write(closing)) as peer:
        with client_of(settings_of(tmp_path, peer.url)) as client:
            assert [client.send(HEARTBEAT).verdict for _ in range(3)] == [Verdict.DONE] * 3
        assert peer.connections == 3


def test_a_huge_answer_is_not_read_whole(tmp_path: Path) -> None:
    written = 0

    def flood(out: BinaryIO) -> None:
        nonlocal written
        out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            written += out.write(b"x" * 65536)

    tracemalloc.start()
    try:
        with listening(answer=flood) as peer:
            assert sent(settings_of(tmp_path, peer.url)).verdict is Verdict.FOREIGN
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert written < 50 * 2**20


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_said_and_not_followed(tmp_path: Path, code: int) -> None:
    with listening() as other:
        head = f"HTTP/1.1 {code} Moved\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
        with listening(answer=lambda out: out.write(head)) as peer:
            outcome = sent(settings_of(tmp_path, peer.url))
    assert outcome.verdict is Verdict.FOREIGN
    assert f"leads to {other.url}/x; the token is not sent there" in outcome.reason
    assert other.seen == []


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"]
)
def test_an_answer_that_breaks_off_or_is_no_http_is_tried_again(tmp_path: Path, answer: bytes) -> None:
    def hang_up(out: BinaryIO) -> None:
        out.write(answer)
        out.close()
        raise OSError

    with listening(answer=hang_up) as peer:
        outcome = sent(settings_of(tmp_path, peer.url))
    assert outcome.verdict is Verdict.AWAY
    assert outcome.reason.startswith("cannot be reached: ")
