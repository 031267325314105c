"""Tokens and certificates are replaced in use: no restart, and no message lost or refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from bridge.mes import credentials
from bridge.mes.client import Verdict
from bridge.mes.reloaded import Reloaded
from bridge.mes.store import MesError
from tests.bridge.mes.authority import Authority
from tests.bridge.mes.chain import events_of, wait_until
from tests.bridge.mes.misbehaving import DROP, TOKEN, Fault, spoiled_mes
from tests.bridge.mes.peers import (
    HEARTBEAT,
    Peer,
    client_of,
    listening,
    no_content,
    proxying,
    sent,
    server_context,
    settings_of,
)
from tests.bridge.mes.test_delivery import EXPECTED, arrived, check_all_arrived, reporting


def put(file: Path, content: bytes) -> None:
    """Another file in its place, as tools that renew secrets do it."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def tokens(peer: Peer) -> list[str]:
    return [headers["authorization"] for _, headers in peer.seen]


def test_a_new_token_is_used_at_the_next_request_though_the_old_one_still_works(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    with listening() as peer, client_of(settings_of(tmp_path, peer.url)) as client:
        client.send(HEARTBEAT)
        assert settings.token_file
        put(settings.token_file, b"token-of-hers")  # as long as the old one
        client.send(HEARTBEAT)
        settings.token_file.write_bytes(b"another-token-yet")
        client.send(HEARTBEAT)
    assert tokens(peer) == ["Token correct-horse", "Token token-of-hers", "Token another-token-yet"]
    assert peer.connections == 1


def test_a_token_file_is_not_read_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = itertools.count()
    read = credentials._text
    monkeypatch.setattr(credentials, "_text", lambda *args: (next(reads), read(*args))[1])
    with listening() as peer, client_of(settings_of(tmp_path, peer.url)) as client:
        for _ in range(5):
            client.send(HEARTBEAT)
    assert next(reads) == 1


def test_a_token_replaced_while_the_old_one_is_refused_is_tried_at_once(tmp_path: Path) -> None:
    def refuse_and_replace(out: BinaryIO) -> None:
        (tmp_path / "token").write_text("fresh")
        peer.answer = no_content
        out.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    with listening(answer=refuse_and_replace) as peer:
        assert sent(settings_of(tmp_path, peer.url)).verdict is Verdict.DONE
    assert tokens(peer) == ["Token correct-horse", "Token fresh"]


def test_a_token_of_the_same_size_and_time_is_found_after_a_refusal(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with listening() as peer, client_of(settings_of(tmp_path, peer.url)) as client:
        client.send(HEARTBEAT)
        before = token.stat()
        token.write_text("fresher-horse")
        os.utime(token, ns=(before.st_atime_ns, before.st_mtime_ns))
        peer.answer = lambda out: out.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        assert client.send(HEARTBEAT).verdict is Verdict.UNAUTHORISED
    assert tokens(peer)[-1] == "Token fresher-horse"


def test_nothing_is_lost_or_refused_while_the_token_changes_under_load(tmp_path: Path) -> None:
    """The MES takes another token after every third request, and no old one any more."""
    with spoiled_mes(tmp_path / "mes") as mes:
        sandbox, count = mes.spoiled.app, itertools.count()
        valid, refused = TOKEN, 0

        def rotating(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            nonlocal valid, refused
            if environ["HTTP_AUTHORIZATION"] == f"Token {valid}":
                environ["HTTP_AUTHORIZATION"] = f"Token {TOKEN}"
            else:
                refused += 1
            if next(count) % 3 == 2:
                valid = f"token-{next(count)}"
                put(mes.token_file, valid.encode())
            answer: Iterable[bytes] = sandbox(environ, start_response)
            return answer

        mes.spoiled.app = rotating
        with reporting(tmp_path, mes.settings()) as sink:
            machine = wait_until(lambda: arrived(mes))
            wait_until(lambda: sink.states()[0].waiting == 0)
            assert sink.states()[0].refused == 0
        assert events_of(machine) == EXPECTED
        assert refused == 0
        assert valid != TOKEN


def test_certificates_are_replaced_in_use(tmp_path: Path) -> None:
    plant, other = Authority(tmp_path), Authority(tmp_path, "Other CA")
    mine, key = plant.certificate("bridge")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(plant.file.read_bytes())
    with (
        listening(server_context(plant.certificate("mes"), plant.file)) as old,
        listening(server_context(other.certificate("mes2"), other.file)) as new,
    ):
        settings = settings_of(
            tmp_path, old.url, ca_file=trusted, client_certificate_file=mine, client_key_file=key
        )
        with client_of(settings) as client:
            assert client.send(HEARTBEAT).verdict is Verdict.DONE
            client._url = new.url  # the same name, where another server answers by now
            assert client.send(HEARTBEAT).verdict is Verdict.AWAY
            put(trusted, other.file.read_bytes())
            renewed, renewed_key = other.certificate("renewed")
            put(mine, renewed.read_bytes())
            with pytest.raises(MesError, match="is not the key of the certificate"):
                client.send(HEARTBEAT)  # between the two
            put(key, renewed_key.read_bytes())
            assert client.send(HEARTBEAT).verdict is Verdict.DONE


def test_nothing_is_lost_while_certificates_change_under_load_behind_a_proxy(tmp_path: Path) -> None:
    plant = Authority(tmp_path)
    mine, key = plant.certificate("bridge")
    changes = itertools.count()

    def renew(method: str, path: str, request_key: str) -> Fault:
        number = next(changes)
        if number % 3 == 2:
            renewed, renewed_key = plant.certificate(f"bridge-{number}")
            put(mine, renewed.read_bytes())
            put(key, renewed_key.read_bytes())
        return DROP if number % 5 == 4 else None

    tls = server_context(plant.certificate("mes"), plant.file)
    with proxying() as proxy, spoiled_mes(tmp_path / "mes", tls=tls) as mes:
        mes.spoiled.faults = renew
        settings = mes.settings(
            ca_file=plant.file, client_certificate_file=mine, client_key_file=key, proxy=proxy.url
        )
        with reporting(tmp_path, settings) as sink:
            check_all_arrived(mes)
            wait_until(lambda: sink.states()[0].waiting == 0)
            assert sink.states()[0].refused == 0
        assert len(proxy.asked) > 5


def test_what_could_not_be_made_is_tried_anew_and_what_was_made_is_kept(tmp_path: Path) -> None:
    made = []

    def make() -> str:
        made.append((tmp_path / "f").read_text())
        return made[-1]

    value = Reloaded([tmp_path / "f", None], make)
    with pytest.raises(OSError, match="No such file"):
        value.get()
    (tmp_path / "f").write_text("a")
    assert [value.get(), value.get()] == ["a", "a"]
    (tmp_path / "f").unlink()
    with pytest.raises(OSError, match="No such file"):
        value.get()
    (tmp_path / "f").write_text("bc")
    assert value.get() == "bc"
    assert made == ["a", "bc"]
