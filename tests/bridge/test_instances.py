"""MES numbers of config.json without a section in the settings are named, with the section to add."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, instances
from bridge.aggregator import load
from bridge.commands import check
from bridge.settings import MesSettings

KEY = "A0A00B123E454H122BD513FE58B5E9BC"


def entry(number: int, *mes: int, **changes: Any) -> dict[str, Any]:
    values = {
        "type": "OCTOPRINT",
        "url": f"http://10.0.0.{number}",
        "authentication_file_path": KEY[:-1] + str(number),
    }
    return {**values, "mes_id": list(mes), **changes}


def config(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(entries, indent=1))
    return path


def mes(number: int) -> MesSettings:
    return MesSettings(id=number, url="http://mes", service_id="s", token_env="T")


def settings(folder: Path, *numbers: int) -> Path:
    path = folder / "settings.toml"
    sections = [
        f'[[mes]]\nid = {n}\nurl = "http://mes"\nservice_id = "s"\ntoken_env = "T"\n' for n in numbers
    ]
    path.write_text("".join(sections))
    return path


def test_an_unknown_number_is_an_error_at_its_entry_that_names_the_section_to_add(tmp_path: Path) -> None:
    path = config(tmp_path, entry(1, 1), entry(2, 1, 7))
    found = instances.examined(load(path), [mes(1)], tmp_path / "settings.toml")
    first, second = found.machines
    assert first.problems == ()
    (problem,) = second.problems
    assert (problem.severity, problem.key, problem.line) == ("error", "mes_id", second.line)
    assert "MES 7" in problem.message
    assert f"add to {tmp_path}/settings.toml a section [[mes]] with id = 7" in problem.hint
    assert second.served  # for OPC UA, and for its other MES


def test_without_any_settings_it_is_said_how_to_give_some(tmp_path: Path) -> None:
    (machine,) = instances.examined(load(config(tmp_path, entry(1, 1))), [], None).machines
    assert "--settings" in machine.problems[0].hint


def test_an_entry_that_is_left_to_the_aggregator_needs_no_section(tmp_path: Path) -> None:
    path = config(tmp_path, entry(1, 5, type="PRUSA_LINK"))
    assert instances.examined(load(path), [], None) == load(path)


def test_a_section_that_no_machine_names_is_said(tmp_path: Path) -> None:
    found = instances.examined(
        load(config(tmp_path, entry(1, 1))), [mes(1), mes(2)], tmp_path / "settings.toml"
    )
    problem = found.problems[-1]
    assert problem.severity == "warning"
    assert "MES 2" in problem.message


def test_check_looks_at_the_settings_when_they_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, entry(1, 1, 7))
    assert cli.main(["check", str(path)]) == 0
    assert cli.main(["check", str(path), "--settings", str(settings(tmp_path, 1))]) == 1
    out = capsys.readouterr().out
    assert "error: mes_id names MES 7" in out
    assert "[0] http://10.0.0.1: served" in out
    assert cli.main(["check", str(path), "--settings", str(settings(tmp_path, 1, 7))]) == 0


def test_check_tells_programs_too(tmp_path: Path) -> None:
    out = io.StringIO()
    assert check.run(config(tmp_path, entry(1, 7)), settings(tmp_path, 1), as_json=True, stdout=out) == 1
    told = json.loads(out.getvalue())
    assert [problem["key"] for problem in told["machines"][0]["problems"]] == ["mes_id"]
    assert told["ok"] is False


def test_settings_that_cannot_be_used_are_said_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "settings.toml"
    bad.write_text("[[mes]]\nid = 'one'\n")
    assert cli.main(["check", str(config(tmp_path, entry(1, 1))), "--settings", str(bad)]) == 2
    assert f"{bad}:2: mes.id:" in capsys.readouterr().err


def test_certificate_files_that_cannot_be_used_are_found_before_the_bridge_runs(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    section = MesSettings(id=1, url="https://mes", service_id="s", token_env="T", ca_file=missing)
    found = instances.examined(load(config(tmp_path, entry(1, 1))), [section], tmp_path / "settings.toml")
    (problem,) = [one for one in found.problems if one.severity == "error"]
    assert (problem.severity, problem.file) == ("error", tmp_path / "settings.toml")
    assert problem.message.startswith(f"[[mes]] id = 1: ca_file: {missing} cannot be read")
    assert problem.hint == "correct ca_file, or bring the file back"
    assert not found.ok
