"""A real `mesbridge run` in a folder of its own, and a plugin's side of the wire to push to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from bridge import wire
from bridge.demo.octoprint import free_port
from bridge.opcua import Users

USER, PASSWORD = "observer", "correct horse battery staple"


class BridgeProcess:
    """`mesbridge run` for machines with inline keys; the OctoPrints need not exist."""

    def __init__(
        self, folder: Path, machines: Sequence[dict[str, Any]], settings: str = "", silent_after: float = 30.0
    ) -> None:
        self.folder = folder
        self.opcua_port, self.push_port, self.web_port = free_port(), free_port(), free_port()
        (folder / "config.json").write_text(json.dumps(list(machines)))
        (folder / "settings.toml").write_text(
            f'[bridge]\nstate_folder = "state"\nlog_format = "json"\n'
            f"[web]\nport = {self.web_port}\n[push]\nport = {self.push_port}\n"
            f"silent_after = {silent_after}\n[opcua]\nport = {self.opcua_port}\n"
            f'trust = "any"\n{settings}'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.opcua_port}"

    @property
    def push_url(self) -> str:
        return f"http://127.0.0.1:{self.push_port}{wire.PATH}"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def output(self) -> Path:
        return self.folder / "output.jsonl"

    def add_user(self) -> None:
        state = self.folder / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        Users(state / "users.json").add(USER, PASSWORD)

    def start(
        self, wait: bool = True, before: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; `before` is Python that is run in the process first, `environment` is added to its own."""
        program = ["-m", "bridge.cli"]
        if before:
            program = ["-c", f"{before}\nimport sys; from bridge.cli import main; sys.exit(main())"]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, "run", "config.json", "--settings", "settings.toml"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        if wait:
            self.wait_for("MESBridge serves")

    def wait_for(self, event: str, timeout: float = 30.0) -> dict[str, Any]:
        """The first line of the log with this event."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.lines():
                if line.get("event", "").startswith(event):
                    return line
            assert self.process is None or self.process.poll() is None or self.process.poll() == 0, (
                self.text()
            )
            time.sleep(0.02)
        raise AssertionError(f"{event!r} was not logged:\n{self.text()}")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Plugin:
    """What the plugin's sender does, without OctoPrint."""

    def __init__(self, push_url: str, api_key: str, instance: str = "one") -> None:
        self.push_url = push_url
        self.key = wire.PushKey.derive(api_key)
        self.instance = instance
        self.seq = 0
        self.http = requests.Session()

    def push(self, *events: tuple[str, dict[str, Any]]) -> wire.Reply:
        now = wire.utc_now()
        numbered = tuple(
            wire.Event(self.seq + n, now, kind, data) for n, (kind, data) in enumerate(events, 1)
        )
        batch = wire.Batch(self.instance, self.seq, self.seq + len(events), numbered, now)
        body, message_id = wire.encode_batch(batch), wire.new_message_id()
        headers = wire.sign(self.key, message_id, now, body)
        answer = self.http.post(self.push_url, data=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        wire.verify_reply(self.key, message_id, answer.headers, answer.content)
        self.seq += len(events)
        return wire.decode_reply(answer.content)
