"""`mesbridge check --online` against servers made for it: who is asked, who is not, and what is said of bad answers."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge import identity, wire
from bridge.aggregator import load
from bridge.commands import check, online
from bridge.mes.interview import interview as interview_mes
from bridge.settings import BridgeSettings, MesSettings, Settings
from bridge.sources.interview import is_private
from bridge.sources.octoprint import clock_difference_s
from tests.bridge.mes.authority import Authority
from tests.bridge.mes.peers import listening, server_context, settings_of

KEY = "A0A00B123E454H122BD513FE58B5E9BC"
Answers = Callable[[str, str], tuple[int, Any, dict[str, str]]]


class Server:
    """Answers as it is told, and remembers what it was asked: method, path and key."""

    def __init__(self, answers: Answers) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with lock:
                    server.asked.append((self.command, self.path, self.headers.get("X-Api-Key")))
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                code, content, headers = answers(self.command, self.path)
                with lock:
                    server.at_once -= 1
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response_only(code)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_OPTIONS = answer

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def serving(answers: Answers) -> Iterator[Server]:
    server = Server(answers)
    try:
        yield server
    finally:
        server.stop()


def octoprint(method: str, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Answers as an OctoPrint with a key that has STATUS alone, and no plugin."""
    content = {
        "/api/currentuser": {"name": "viewer", "permissions": ["STATUS"], "groups": []},
        "/api/version": {"server": "1.11.8"},
        "/api/printer": {},
        "/api/job": {"state": "Operational"},
        "/api/login": {"session": "abc", "name": "viewer"},
    }
    # Below a path of their own stand others, so that many OctoPrints are one server.
    known = content.get("/api" + path.partition("/api")[2])
    return (404, {}, headers) if known is None else (200, known, headers)


def entry(url: str, key: str = KEY, **own: Any) -> dict[str, Any]:
    return {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": [1]} | own


def write(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(entries))
    return path


def settings_in(folder: Path) -> Settings:
    return Settings(bridge=BridgeSettings(state_folder=folder / "state"))


def asked(config: Path, *, given: bool = True, progress: io.StringIO | None = None) -> online.Asked:
    return online.ask(load(config), settings_in(config.parent), given=given, progress=progress)


def said(found: Any) -> list[str]:
    return [f"{one.severity}: {one.message}" for one in found.findings]


# --------------------------------------------------------------------------- who is asked


def test_a_key_that_came_by_pairing_is_not_sent_over_plain_http(tmp_path: Path) -> None:
    identity_folder = tmp_path / "state"
    identity_folder.mkdir()
    identity.remember_paired(identity_folder, wire.PushKey.derive(KEY).key_id)
    with serving(octoprint) as server:
        other = KEY[::-1]
        found = asked(write(tmp_path, entry(server.url), entry(server.url + "/b", other)))
        assert {key for _, _, key in server.asked} == {None, other}
    assert list(found.octoprints) == [1]
    assert "came by pairing" in found.not_asked[0]
    assert found.ok
    assert online.machine_json(found, 0) == {"asked": False, "reason": found.not_asked[0]}
    assert list(online.machine_lines(found, 0)) == [f"not asked: {found.not_asked[0]}"]


@pytest.mark.parametrize(("given", "known"), [(True, False), (False, True), (False, False)])
def test_without_settings_a_file_of_pairings_name_counts_as_paired(
    given: bool, known: bool, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "octoprint-mk4.txt").touch(mode=0o600)
    (tmp_path / "secrets" / "octoprint-mk4.txt").write_text(KEY)
    if known:
        (tmp_path / "state").mkdir()
        identity.save(tmp_path / "state" / "machines.json", [])
    with serving(octoprint) as server:
        found = asked(write(tmp_path, entry(server.url, "secrets/octoprint-mk4.txt")), given=given)
        assert bool(server.asked) == bool(given or known)
    if not server.asked:
        assert "give --settings" in found.not_asked[0]


def test_an_entry_that_is_not_served_is_not_asked(tmp_path: Path) -> None:
    with serving(octoprint) as server:
        found = asked(write(tmp_path, entry(server.url, mes_id=[])))
        assert server.asked == []
    assert online.machine_json(found, 0) is None


def test_a_plant_that_begins_without_machines_is_told_of_its_mes(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "token").write_text("secret")
    settings = tmp_path / "settings.toml"
    settings.write_text(
        '[[mes]]\nid = 1\nurl = "http://127.0.0.1:9"\nservice_id = "s"\ntoken_file = "token"\n'
    )
    out = io.StringIO()
    assert check.run(config, settings, as_json=False, stdout=out, ask=True) == 1
    assert "MES 1 at http://127.0.0.1:9" in out.getvalue()
    assert "Asked: 0 OctoPrints, 1 MES." in out.getvalue()


def test_many_are_asked_at_once_but_no_more_than_twenty(tmp_path: Path) -> None:
    together = threading.Barrier(20)

    def slow(method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        if path.endswith("/robots.txt"):
            together.wait(timeout=60)  # passes when twenty stand here at once
        return octoprint(method, path)

    with serving(slow) as server:
        entries = [entry(f"{server.url}/{number}", f"{number:032}") for number in range(40)]
        found = asked(write(tmp_path, *entries))
        assert server.most_at_once == 20
    assert len(found.octoprints) == 40
    assert found.ok


def test_the_time_for_all_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def hangs(method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        if path.startswith("/slow"):
            end.wait(60)
        return octoprint(method, path)

    monkeypatch.setattr(online, "_TOTAL_S", 3.0)
    with serving(hangs) as server:
        found = asked(write(tmp_path, entry(server.url + "/slow"), entry(server.url, KEY[::-1])))
        end.set()
    assert not found.ok
    assert "no time was left" in said(found.octoprints[0])[0]
    assert found.octoprints[1].reachable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_it_is_and_nothing_else_does(tmp_path: Path) -> None:
    with serving(octoprint) as server:
        config = write(tmp_path, entry(server.url))
        terminal, file = Terminal(), io.StringIO()
        asked(config, progress=terminal)
        asked(config, progress=file)
    assert "0 of 1" in terminal.getvalue()
    assert "1 of 1" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert file.getvalue() == ""


# --------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>", {}), "answers 200, but not as an OctoPrint does"),
        ((200, {"name": 5, "permissions": []}, {}), "answers 200, but not as an OctoPrint does"),
        ((401, b"", {}), "answers 401 before the key is looked at"),
        ((302, b"", {"Location": "https://elsewhere/"}), "redirects to https://elsewhere/"),
    ],
)
def test_what_is_no_octoprint_is_said_with_a_remedy(
    answer: tuple[int, Any, dict[str, str]], message: str, tmp_path: Path
) -> None:
    with serving(lambda method, path: answer) as server:
        found = asked(write(tmp_path, entry(server.url))).octoprints[0]
        assert not found.reachable
        assert len(found.findings) == 1
        assert message in found.findings[0].message
        assert found.findings[0].hint


def test_a_wrong_clock_is_a_warning(tmp_path: Path) -> None:
    def ahead(method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        now = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        return octoprint(method, path, Date=now)

    with serving(ahead) as server:
        found = asked(write(tmp_path, entry(server.url)))
    one = found.octoprints[0]
    assert one.clock_difference_s is not None
    assert 98 < one.clock_difference_s < 102
    assert "is 1" in said(one)[0]
    assert " s ahead of this computer's" in said(one)[0]
    assert found.ok


def test_a_socket_without_a_session_is_a_warning(tmp_path: Path) -> None:
    def no_login(method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        return (403, {}, {}) if path == "/api/login" else octoprint(method, path)

    with serving(no_login) as server:
        one = asked(write(tmp_path, entry(server.url))).octoprints[0]
    assert one.push_socket is False
    assert "opens no session for the push socket" in said(one)[0]


def test_nothing_is_asked_but_what_changes_nothing(tmp_path: Path) -> None:
    with serving(octoprint) as server:
        found = asked(write(tmp_path, entry(server.url)))
        assert {(method, path) for method, path, _ in server.asked} == {
            ("GET", "/api/currentuser"),
            ("GET", "/api/version"),
            ("GET", "/api/printer"),
            ("GET", "/api/job"),
            ("POST", "/api/login"),
            ("GET", "/plugin/mesbridge/static/js/mesbridge.js"),
            ("GET", "/robots.txt"),
        }
        assert all(key is None for _, path, key in server.asked if not path.startswith("/api"))
    assert "plugin MESBridge: not seen" in list(online.machine_lines(found, 0))


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://h", True),
        ("http://127.0.0.1:5000", True),
        ("http://[::1]", True),
        ("http://localhost", True),
        ("http://192.168.1.2", False),
        ("http://octopi.local", False),
    ],
)
def test_plain_http_to_another_computer_shows_the_key(url: str, private: bool) -> None:
    assert is_private(url) is private


@pytest.mark.parametrize("date", [None, "", "nonsense", "Fri, 99 Nov 2026 02:03:54 GMT"])
def test_a_date_that_is_none_tells_nothing(date: str | None) -> None:
    now = datetime.now(UTC)
    assert clock_difference_s(date, now, now) is None


def test_the_result_for_programs_holds_what_was_learnt_and_no_key(tmp_path: Path) -> None:
    with serving(octoprint) as server:
        config = write(tmp_path, entry(server.url))
        settings = tmp_path / "settings.toml"
        settings.write_text('[bridge]\nstate_folder = "state"\n')
        out = io.StringIO()
        status = check.run(config, settings, True, out, ask=True)
    result = json.loads(out.getvalue())
    one = result["machines"][0]["online"]
    assert status == 1  # mes_id names a MES without a section
    assert result["mes"] == []
    assert one.pop("latency_ms") > 0
    assert one == {
        "asked": True,
        "reachable": True,
        "version": "1.11.8",
        "state": "Operational",
        "key_accepted": True,
        "user": "viewer",
        "rights": ["STATUS"],
        "plugin_seen": False,
        "plugin_version": None,
        "push_socket": True,
        "clock_difference_s": None,
        "key_in_clear": False,
        "problems": [],
    }
    assert KEY not in out.getvalue()


# --------------------------------------------------------------------------- the MES


def mes(folder: Path, url: str, **changes: Any) -> MesSettings:
    (folder / "token").write_text("t")
    return replace(MesSettings(1, url, service_id="s", token_file=folder / "token", timeout=5.0), **changes)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (204, None),
        (422, None),
        (401, "error: the MES does not accept the token (HTTP 401)"),
        (404, "error: the MES does not know the service (HTTP 404)"),
        (405, "error: what answers there does not speak the contract (HTTP 405)"),
        (500, "error: the MES does not answer as it should (HTTP 500)"),
        (503, "warning: the MES asks for patience (HTTP 503)"),
    ],
)
def test_each_answer_of_a_mes_has_its_meaning(code: int, message: str | None, tmp_path: Path) -> None:
    with serving(lambda method, path: (code, b"", {})) as server:
        found = interview_mes(mes(tmp_path, server.url))
        assert {(method, path) for method, path, _ in server.asked} == {("POST", "/services/s/heartbeat")}
    assert found.reachable
    assert said(found) == ([] if message is None else [message])
    if code in (204, 422):
        assert (found.token_accepted, found.service_known) == (True, True)


def test_a_login_page_is_no_mes(tmp_path: Path) -> None:
    with serving(lambda method, path: (200, b"<html>", {"Content-Type": "text/html"})) as server:
        found = interview_mes(mes(tmp_path, server.url))
    assert "as a proxy or login page does" in said(found)[0]
    assert found.token_accepted is None


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    found = interview_mes(mes(tmp_path, "http://127.0.0.1:9", token_file=tmp_path / "none"))
    assert "token_file" in said(found)[0]
    assert "put the API token into that file" in found.findings[0].hint


def test_a_webhook_is_only_asked_what_it_takes(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + "QUFB" * 8)
    with serving(lambda method, path: (200, b"", {"Allow": "POST"})) as server:
        section = mes(tmp_path, server.url + "/hook", adapter="cloudevents", token_file=secret)
        found = interview_mes(section)
        assert {(method, path) for method, path, _ in server.asked} == {("OPTIONS", "/hook")}
    assert found.reachable
    assert (found.token_accepted, found.service_known, found.findings) == (None, None, [])


def test_a_secret_of_a_webhook_that_is_none_is_found_without_asking(tmp_path: Path) -> None:
    with serving(octoprint) as server:
        found = interview_mes(mes(tmp_path, server.url, adapter="cloudevents"))
        assert server.asked == []
    assert "is no base64" in said(found)[0]


def test_a_mes_that_hangs_takes_no_longer_than_its_timeout(tmp_path: Path) -> None:
    end = threading.Event()

    def hangs(method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        end.wait(60)
        return 204, b"", {}

    with serving(hangs) as server:
        begin = time.monotonic()
        found = interview_mes(mes(tmp_path, server.url, timeout=1.0))
        assert time.monotonic() - begin < 30
        end.set()
    assert not found.reachable
    assert "no whole answer within 1 s" in said(found)[0]


def test_the_certificate_of_a_mes_is_held_against_its_authority(tmp_path: Path) -> None:
    plant = Authority(tmp_path)
    with listening(server_context(plant.certificate("mes"))) as peer:
        unknown = interview_mes(settings_of(tmp_path, peer.url))
        known = interview_mes(settings_of(tmp_path, peer.url, ca_file=plant.file))
    assert (unknown.reachable, known.reachable, known.token_accepted) == (False, True, True)
    assert "the certificate of the MES is not accepted" in said(unknown)[0]
    assert "ca_file of [[mes]] id = 3" in unknown.findings[0].hint
    assert known.findings == []
