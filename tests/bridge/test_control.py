from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import control
from bridge.control import ControlError, Refused, ask


def echo(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"heard": dict(values)}


def fail(values: Mapping[str, Any]) -> dict[str, Any]:
    raise ValueError("the moon is wrong")


def refuse(values: Mapping[str, Any]) -> dict[str, Any]:
    raise Refused("the moon is wrong")


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    async with control.listen(tmp_path, {"say/echo": echo, "say/no": refuse, "say/fail": fail}):
        yield tmp_path
    assert not (tmp_path / control.FILE).exists()


def known(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / control.FILE).read_text())
    return found


async def post(folder: Path, headers: dict[str, str], body: bytes = b"{}") -> int:
    def send() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", known(folder)["port"], timeout=30)
        connection.request("POST", "/say/echo", body, headers)
        return connection.getresponse().status

    return await asyncio.to_thread(send)


async def test_a_command_gets_its_answer(folder: Path) -> None:
    assert await asyncio.to_thread(ask, folder, "say/echo", word="ä") == {"heard": {"word": "ä"}}


async def test_a_refusal_comes_as_it_was_said(folder: Path) -> None:
    with pytest.raises(ControlError, match="the moon is wrong"):
        await asyncio.to_thread(ask, folder, "say/no")


async def test_a_command_that_fails_is_not_taken_for_a_bridge_that_does_not_run(folder: Path) -> None:
    with capture_logs() as logged, pytest.raises(ControlError, match="unforeseen way: its log says more"):
        await asyncio.to_thread(ask, folder, "say/fail")
    assert (logged[0]["command"], logged[0]["exc_info"]) == ("/say/fail", True)


async def test_a_command_that_is_too_long_is_told(folder: Path) -> None:
    with pytest.raises(ControlError, match="at most 16384 bytes: give shorter values"):
        await asyncio.to_thread(ask, folder, "say/echo", name="x" * 20000)


async def test_port_and_token_are_for_the_owner_only_and_new_each_time(folder: Path, tmp_path: Path) -> None:
    assert (folder / control.FILE).stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    other.mkdir()
    async with control.listen(other, {}):
        assert known(other)["token"] != known(folder)["token"]


async def test_who_does_not_say_the_token_is_refused(folder: Path) -> None:
    right = {"Authorization": f"Bearer {known(folder)['token']}"}
    assert await post(folder, right) == 200
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"bearer {known(folder)['token']}"}):
        assert await post(folder, wrong) == 403
    # The standard library's client sends headers as latin-1: bytes that are no UTF-8.
    assert await post(folder, {"Authorization": "Bearer \xff"}) == 403


async def test_a_page_that_has_another_name_for_this_computer_is_refused(folder: Path) -> None:
    token = {"Authorization": f"Bearer {known(folder)['token']}"}
    assert await post(folder, {**token, "Host": "evil.example"}) == 403


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 10000])
async def test_what_is_no_object_is_refused(folder: Path, body: bytes) -> None:
    assert await post(folder, {"Authorization": f"Bearer {known(folder)['token']}"}, body) in (409, 422)


async def test_a_large_body_is_refused(folder: Path) -> None:
    assert await post(folder, {"Authorization": f"Bearer {known(folder)['token']}"}, b" " * (1 << 20)) == 413


def test_without_a_bridge_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no bridge runs with the state folder .*--settings"):
        ask(tmp_path, "say/echo")


def test_what_a_killed_bridge_left_is_told_from_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / control.FILE).write_text(json.dumps({"port": 9, "token": "t"}))
    with pytest.raises(ControlError, match="did not end in order"):
        ask(tmp_path, "say/echo")


async def test_another_program_on_the_port_of_a_killed_bridge_is_not_taken_for_it(folder: Path) -> None:
    (folder / control.FILE).write_text(json.dumps({"port": known(folder)["port"], "token": "stale"}))
    with pytest.raises(ControlError, match="did not end in order"):
        await asyncio.to_thread(ask, folder, "say/echo")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / control.FILE).write_text("{")
    with pytest.raises(ControlError, match=r"control\.json: is damaged"):
        ask(tmp_path, "say/echo")


def test_another_users_bridge_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ControlError, match="as the user under whom the bridge runs"):
        ask(tmp_path, "say/echo")
