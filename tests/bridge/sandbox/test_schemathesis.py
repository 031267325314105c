"""The sandbox does what ``docs/mes-api.yaml`` says, asked by a tool that makes its requests from that document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from bridge.sandbox import Sandbox
from tests.bridge.mes.chain import running_sandbox
from tests.bridge.mes.contract import PATH

CONFIG = Path(__file__).with_name("schemathesis.toml")


def hold_against_the_document(
    sandbox: Sandbox, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", str(PATH)),
            *("--url", sandbox.mes_url, "--header", f"Authorization: Token {sandbox.token}"),
            *("--checks", "all", "--seed", "1", "--no-color", *options),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={"PATH": "", "HOME": str(folder), "PYTHONIOENCODING": "utf-8"},
    )


def test_every_request_that_the_document_allows_or_forbids_is_answered_as_it_says(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "mes") as sandbox:
        result = hold_against_the_document(sandbox, tmp_path, "--max-examples", "40")
        registered = requests.get(f"{sandbox.url}/state.json", timeout=30).json()["machines"]
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No issues found" in result.stdout
    assert "5 selected / 5 total" in result.stdout
    assert registered  # it came through to the work, and was not only turned away


@pytest.mark.parametrize("kind", ["500", "wrong-schema", "login-page"])
def test_a_sandbox_that_answers_otherwise_is_found(tmp_path: Path, kind: str) -> None:
    with running_sandbox(tmp_path / "mes") as sandbox:
        requests.post(
            f"{sandbox.url}/misbehave",
            data={"kind": kind, "times": "100000"},
            headers={"Authorization": f"Token {sandbox.token}"},
            timeout=30,
        )
        result = hold_against_the_document(
            sandbox, tmp_path, "--max-examples", "1", "--phases", "examples,fuzzing"
        )
    assert result.returncode == 1, result.stdout + result.stderr
