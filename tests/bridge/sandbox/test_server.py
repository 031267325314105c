"""The sandbox as a process."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from bridge.sandbox import Sandbox, SandboxError, run
from bridge.sandbox.app import BASE_PATH
from tests.bridge.mes.chain import REGISTRATION

RUN = [sys.executable, "-m", "bridge.cli", "sandbox", "--port", "0"]


def test_it_serves_until_it_is_told_to_stop_and_never_prints_the_token(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RUN, "--folder", str(tmp_path / "new"), "--service-id", "hall-3", "--pending"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        assert requests.get(url[0], timeout=30).status_code == 200
        registered = requests.put(
            f"{url[0]}{BASE_PATH}/services/hall-3/machines/m",
            data=REGISTRATION.body("bridge-1"),
            headers={
                "Authorization": f"Token {(tmp_path / 'new' / 'token').read_text().strip()}",
                "Idempotency-Key": "1",
            },
            timeout=5,
        )
        assert registered.json() == {"machine_id": "m", "activation": "pending"}
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
        process.stdout.close()
    assert process.wait(30) == 0
    token = tmp_path / "new" / "token"
    assert token.read_text().strip() not in said
    assert str(token) in said
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new" / "mes.sqlite").stat().st_mode) == 0o600


def test_the_token_stays_the_same(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        sandbox = Sandbox("127.0.0.1", 0, tmp_path)
        tokens.append(sandbox.token)
        sandbox.close()
    assert tokens[0] == tokens[1] == (tmp_path / "token").read_text().strip()


def test_an_occupied_port_is_named_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("127.0.0.1", port, tmp_path) == 1
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match=r"file.*--folder"):
        Sandbox("127.0.0.1", 0, tmp_path / "file")
