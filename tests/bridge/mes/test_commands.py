"""`mesbridge mes`: what the bridge answers, from a real store and a real MES, and how a person sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, control, wire
from bridge.commands.mes import report
from bridge.mes import MesSink
from bridge.mes.commands import commands
from bridge.settings import MesSettings
from tests.bridge.events import Story
from tests.bridge.mes.chain import (
    REGISTRATION,
    machines_of,
    make_sink,
    mes_settings,
    running_sandbox,
    wait_until,
)
from tests.bridge.mes.misbehaving import spoiled_mes

NAMES = {"m": "Left printer", "n": "Right printer", "o": "Right printer"}


def a_print() -> Story:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    return story


@asynccontextmanager
async def telling(folder: Path, *instances: MesSettings) -> AsyncIterator[MesSink]:
    """A sink that tells `instances` of one print."""
    sink, story = make_sink(folder, *instances), a_print()
    sink.register("m", tuple(one.id for one in instances), REGISTRATION, Story().machine)
    sink.start()
    try:
        for transition in story.transitions:
            sink.handle(transition)
        await sink.drain()
        yield sink
    finally:
        await sink.stop()


async def asked(sink: MesSink, command: str, **values: Any) -> dict[str, Any]:
    """The answer that comes over the bridge's own port."""
    folder = sink._store._path.parent
    async with control.listen(folder, commands(sink, lambda: NAMES)):
        return await asyncio.to_thread(control.ask, folder, command, **values)


async def test_status_shows_what_was_told_and_what_waits_at_each_mes(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "mes") as sandbox:
        dead = mes_settings(sandbox, id=2, url="http://127.0.0.1:1")
        async with telling(tmp_path, mes_settings(sandbox), dead) as sink:
            await asyncio.to_thread(
                wait_until, lambda: sink.states()[0].waiting == 0 and sink.states()[1].trouble
            )
            alive, away = (await asked(sink, "mes/status"))["mes"]
    (machine,) = alive["machines"]
    assert (machine["name"], machine["activation"], machine["status"]) == (
        "Left printer",
        "active",
        "Running",
    )
    assert (machine["waiting"], machine["refused"], machine["held"]) == (0, 0, None)
    assert alive["trouble"] is None
    (machine,) = away["machines"]
    assert (machine["activation"], machine["told"], machine["waiting"]) == (None, None, 2)
    assert "cannot be reached" in away["trouble"]
    shown = "\n".join(report([alive, away]))
    assert "Left printer  1    active      20" in shown
    assert "Left printer  2    not yet     never" in shown
    assert "cannot be told since" in shown


async def test_what_a_mes_refused_is_shown_and_sent_again_when_a_person_says_so(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = lambda method, path, key: (422, {}, "no") if path.endswith("events") else None
        async with telling(tmp_path, mes.settings()) as sink:
            await asyncio.to_thread(wait_until, lambda: sink.states()[0].refused)
            (state,) = (await asked(sink, "mes/status"))["mes"]
            assert state["refusals"][0]["reason"] == "HTTP 422"
            shown = "\n".join(report([state]))
            assert "MES 1, Left printer: refused at" in shown
            assert "`mesbridge mes retry --mes 1`" in shown
            mes.spoiled.faults = lambda method, path, key: None
            assert await asked(sink, "mes/retry", machine="Left printer") == {"retried": {"1": 1}}
            await asyncio.to_thread(wait_until, lambda: mes.machine()["events"])  # type: ignore[index]
            (state,) = (await asked(sink, "mes/status"))["mes"]
            assert (state["refused"], state["waiting"]) == (0, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mes": 7}, "no MES 7 in the settings; there are: 1"),
        ({"machine": "Middle printer"}, "no machine 'Middle printer' is served"),
        ({"machine": "Right printer"}, "give one of the ids n, o"),
    ],
)
async def test_a_retry_of_what_is_not_there_is_refused_with_words(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with running_sandbox(tmp_path / "mes") as sandbox:
        async with telling(tmp_path, mes_settings(sandbox)) as sink:
            with pytest.raises(control.ControlError, match=words):
                await asked(sink, "mes/retry", **values)


async def test_a_machine_that_waits_for_its_activation_is_named(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "mes", activate=False) as sandbox:
        async with telling(tmp_path, mes_settings(sandbox)) as sink:
            await asyncio.to_thread(
                wait_until, lambda: machines_of(sandbox) and sink.states()[0].waiting == 0
            )
            (state,) = (await asked(sink, "mes/status"))["mes"]
    assert "MES 1, Left printer: waits for a person to activate it there" in list(report([state]))


def test_the_command_says_when_no_bridge_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f"[bridge]\nstate_folder = '{tmp_path}'\n")
    assert cli.main(["mes", "status", "--settings", str(settings)]) == 1
    assert "no bridge runs with the state folder" in capsys.readouterr().err


def test_the_command_prints_json_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "ask", lambda folder, command, **values: {"mes": []})
    assert cli.main(["mes", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"mes": []}
    assert cli.main(["mes", "status"]) == 0
    assert "no section [[mes]]" in capsys.readouterr().out


def test_the_command_tells_how_much_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def ask(folder: Path, command: str, **values: Any) -> dict[str, Any]:
        asked.append(values)
        return {"retried": {"1": 1, "2": 0}}

    monkeypatch.setattr(control, "ask", ask)
    assert cli.main(["mes", "retry", "--machine", "Left printer"]) == 0
    assert asked == [{"mes": None, "machine": "Left printer"}]
    out = capsys.readouterr().out
    assert "MES 1: 1 message sent again" in out
    assert "MES 2: nothing was refused" in out
