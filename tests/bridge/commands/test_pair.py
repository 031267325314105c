"""`mesbridge pair` as a person sees it; the bridge's answers are played."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, control
from bridge.commands import pair

REQUEST: dict[str, Any] = {
    "id": "0a1b2c3d",
    "code": "123-456",
    "name": "Prusa",
    "url": "http://octopi.local",
    "address": "10.0.0.7",
    "since": "2026-01-01T10:00:00.000000Z",
    "expires": "2026-01-01T10:10:00.000000Z",
    "state": "waiting",
    "message": "",
    "config": "/etc/config.json",
    "mes_ids": [1],
    "replaces_key_of": None,
    "machine": None,
    "written": None,
    "by_plugin": False,
    "verified": None,
}
SERVED: dict[str, Any] = {
    "state": "served",
    "message": "this machine is served as octoprint-1",
    "machine": "octoprint-1",
    "written": {
        "line": 7,
        "replaced": False,
        "secret_file": "/etc/secrets/octoprint-prusa.txt",
        "private": True,
        "left": None,
    },
}
MES = '[[mes]]\nid = {}\nurl = "http://mes.example"\nservice_id = "s"\ntoken_env = "T"\n'
Play = Callable[..., list[tuple[str, dict[str, Any]]]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Has the bridge accept, and then show `states` one after another; returns what it was asked."""

    def start(*states: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        asked: list[tuple[str, dict[str, Any]]] = []
        left = list(states)

        def ask(folder: Path, command: str, **values: Any) -> dict[str, Any]:
            asked.append((command, values))
            if command == "pair/accept":
                return {**REQUEST, "state": "accepted"}
            if command == "pair/list":
                return {"open_until": None, "requests": [{**REQUEST, **left.pop(0)}] if left else []}
            return {**REQUEST, "open_until": REQUEST["expires"]}

        monkeypatch.setattr(control, "ask", ask)
        monkeypatch.setattr(pair, "_ASK_EVERY_S", 0.0)
        return asked

    return start


def mesbridge(tmp_path: Path, *arguments: str, settings: str = "") -> int:
    (tmp_path / "settings.toml").write_text(settings)
    return cli.main(["pair", *arguments, "--settings", str(tmp_path / "settings.toml")])


def test_accept_tells_the_code_what_was_written_and_whether_the_key_works(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = {"ok": True, "detail": "OctoPrint 1.11.8 answers"}
    play({"state": "accepted"}, SERVED, {**SERVED, "verified": verified})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    said = capsys.readouterr().out
    for words in (
        "123-456",
        "/etc/config.json:7",
        "/etc/secrets/octoprint-prusa.txt",
        "octoprint-1",
        "1.11.8 answers",
    ):
        assert words in said


def test_a_key_that_octoprint_refuses_is_said_and_is_no_failure_of_the_pairing(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play({**SERVED, "verified": {"ok": False, "detail": "it cannot be reached"}})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    said = capsys.readouterr().out
    assert "it cannot be reached" in said
    assert "pushes are taken all the same" in said


@pytest.mark.parametrize(("private", "told"), [(True, "for its owner only"), (False, "is open to others")])
def test_who_can_read_the_key_is_told_as_it_is(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str], private: bool, told: str
) -> None:
    written = {**SERVED["written"], "private": private}
    play({**SERVED, "written": written, "verified": {"ok": True, "detail": ""}})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    assert f"holds the key, {'' if private else 'and '}{told}" in capsys.readouterr().out


def test_a_machine_that_was_there_is_told_to_have_kept_its_name(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {"line": 7, "replaced": True, "secret_file": None, "private": False, "left": "/etc/shared.txt"}
    play({**SERVED, "written": written, "verified": {"ok": True, "detail": ""}})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    said = capsys.readouterr().out
    assert "was there" in said
    assert "/etc/shared.txt: is left as it is, because another entry names it" in said


@pytest.mark.parametrize("state", ["expired", "refused", "failed"])
def test_a_request_that_comes_to_nothing_ends_it_with_1(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    play({"state": "accepted"}, {"state": state, "message": "too late"})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 1
    assert "Not paired: too late" in capsys.readouterr().err


def test_a_request_that_is_gone_ends_it_with_words(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play()
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 1
    assert "does not know request 0a1b2c3d any more" in capsys.readouterr().err


def test_which_mes_is_meant_without_a_word_is_left_to_the_bridge(tmp_path: Path, play: Play) -> None:
    asked = play({"state": "refused"})
    mesbridge(tmp_path, "accept", "0a1b2c3d", settings=MES.format(4))
    assert asked[0][1]["mes_ids"] == []


def test_before_the_key_of_a_machine_is_replaced_it_is_said(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    play({"state": "refused"})
    monkeypatch.setitem(REQUEST, "replaces_key_of", {"machine": "octoprint-1", "name": "Old one"})
    mesbridge(tmp_path, "accept", "0a1b2c3d")
    said = capsys.readouterr().out
    assert "'Old one', machine octoprint-1, mes_id [1]" in said
    assert "It gets the new key" in said


@pytest.mark.parametrize("action", [["open"], ["list"], ["accept", "0a1b2c3d"]])
def test_each_command_it_suggests_takes_the_settings_that_were_given(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str], action: list[str]
) -> None:
    (tmp_path / "hall 3").mkdir()
    play({"message": "compare; then `mesbridge pair accept 0a1b2c3d`"})
    mesbridge(tmp_path / "hall 3", *action)
    said = capsys.readouterr()
    suggested = re.findall(r"mesbridge pair [^`]*", said.out + said.err)
    assert suggested
    assert all(one.endswith(f" --settings '{tmp_path}/hall 3/settings.toml'") for one in suggested)


def test_the_list_is_a_plain_table(tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play({"name": "x" * 100, "message": "compare the codes"})
    assert mesbridge(tmp_path, "list") == 0
    closed, _, head, row, message = capsys.readouterr().out.splitlines()
    assert closed.startswith("Pairing is closed")
    assert head.split() == ["ID", "CODE", "NAME", "URL", "FROM", "SINCE", "STATE"]
    assert row.index("10.0.0.7") == head.index("FROM")
    assert row.split()[2] == "x" * 39 + "…"
    assert message == "0a1b2c3d: compare the codes"


def test_what_a_plugin_says_cannot_move_the_cursor_of_the_terminal() -> None:
    lines = list(pair.table([{**REQUEST, "name": "a\x1b[2Jb\u202e", "code": None}]))
    assert all(line.isprintable() for line in lines)


def test_settings_that_cannot_be_used_end_it_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mesbridge(tmp_path, "list", settings="x = 1") == 2
    assert "settings.toml:1" in capsys.readouterr().err


def test_without_a_bridge_it_is_said_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mesbridge(tmp_path, "open", settings='[bridge]\nstate_folder = "state"\n') == 1
    assert "no bridge runs" in capsys.readouterr().err


@pytest.mark.parametrize("delivers", [True, False])
def test_of_a_machine_that_is_not_asked_it_is_said_whether_its_plugin_delivers(
    tmp_path: Path,
    play: Play,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    delivers: bool,
) -> None:
    monkeypatch.setattr(pair, "_VERIFIED_WITHIN_S", 60.0 if delivers else 0.0)
    waits = {**SERVED, "by_plugin": True}
    play(waits, {**waits, "verified": {"ok": True, "detail": "its plugin delivers"}})
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    expected = "its plugin delivers" if delivers else "nothing yet"
    assert f"Waiting for its plugin: {expected}" in capsys.readouterr().out


def test_a_machine_that_is_served_counts_even_if_the_bridge_forgets_the_request(
    tmp_path: Path, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play(SERVED)
    assert mesbridge(tmp_path, "accept", "0a1b2c3d", "--mes", "1") == 0
    said = capsys.readouterr()
    assert "stays written down" in said.out
    assert said.err == ""
