"""Examples of files in the documents are read by what reads such files."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bridge import aggregator, settings
from bridge.web import catalogue
from bridge.web.exposition import Metric
from tests.docs.markdown import DOCUMENTS, Block, parts

BLOCKS = [block for document in DOCUMENTS for block in parts(document)[0]]
READ_ELSEWHERE = {
    "sh": "run by test_commands.py",
    "powershell": "its commands of mesbridge are held against the parser by test_commands.py",
    "text": "what programs print, and pictures made of characters",
    "http": "messages, whose bodies stand in a form for people",
}


def of(*languages: str) -> list[object]:
    return [pytest.param(b, id=b.place) for b in BLOCKS if b.language in languages]


def test_every_block_says_what_it_is() -> None:
    known = {"toml", "json", "yaml", "python", *READ_ELSEWHERE}
    assert not [f"{b.place}: {b.language or 'no language'}" for b in BLOCKS if b.language not in known]


@pytest.mark.parametrize("block", of("toml"))
def test_settings_are_taken(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(block.text, encoding="utf-8")
    assert settings.load(path) != settings.Settings(), "the example changes nothing"
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", of("json"))
def test_entries_of_config_json_are_served(block: Block, tmp_path: Path) -> None:
    if '"OCTOPRINT"' not in block.text:
        json.loads(re.sub(r"^\s*//.*$", "", block.text, flags=re.MULTILINE))
        return
    for secret in re.findall(r'"([^"/]+\.txt)"', block.text):
        (tmp_path / secret).write_text("D0A00B123E454H122BD513FE58B5E9BC\n")
        (tmp_path / secret).chmod(0o600)
    path = tmp_path / "config.json"
    path.write_text(block.text, encoding="utf-8")
    path.chmod(0o600)
    config = aggregator.load(path)
    assert config.machines
    assert not [problem for machine in config.machines for problem in machine.problems]
    assert not config.problems
    assert all(machine.served for machine in config.machines)


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_yaml_and_its_metrics_are_told(block: Block) -> None:
    assert yaml.safe_load(block.text)
    told = {one.sample_name for one in vars(catalogue).values() if isinstance(one, Metric)}
    assert not set(re.findall(r"\b(?:mesbridge|process)_\w+", block.text)) - told


@pytest.mark.parametrize("block", of("python"))
def test_python_is_python(block: Block) -> None:
    assert ast.parse(block.text).body
