"""The whole chain in a throw-away folder: OctoPrint with its virtual printer, the bridge and a sandbox MES.

In flow the version of OctoPrint and a folder; out flow running processes and their addresses. Everything is on the
loopback interface, on free ports, and gone after `close`.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import requests

from bridge import wire
from bridge.demo.octoprint import Environment, OctoPrint, free_port
from bridge.files import write_private
from bridge.opcua.users import Users

MES_ID = 1
OPCUA_USER = "demo"
USER, USER_MAY = "mesbridge", ("STATUS", "FILES_LIST")
"""The user of an OctoPrint without the plugin, and what it needs: to see the printer, and what could be printed."""

_START_WITHIN_S = 30.0


class ChainError(Exception):
    """A part of the chain did not start; the text says which, and what it wrote last."""


class MesView(NamedTuple):
    """What the sandbox MES shows of the machine; texts are empty where it has nothing to show yet."""

    status: str
    job: str


class Part:
    """One process of the chain; what it writes goes to a file."""

    def __init__(self, name: str, command: Sequence[str | Path], console: Path) -> None:
        self.name = name
        self.console = console
        with console.open("ab") as output:
            # A session of its own: Ctrl-C is for the demo, which then stops the parts in order.
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the process is ready. Raises `ChainError` when it ends or takes too long."""
        deadline = time.monotonic() + _START_WITHIN_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ChainError(f"{self.name} does not start:\n{self.tail()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """End it in order; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def tail(self) -> str:
        """What it wrote last."""
        return self.console.read_text(errors="replace")[-3000:] if self.console.exists() else ""


class Chain:
    """Starts and stops the parts. `progress` is told what is being done.

    Without the plugin in OctoPrint the bridge follows it from outside, with the key of a user who may only look.
    """

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        progress: Callable[[str], None],
        with_plugin: bool = True,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._with_plugin = with_plugin
        self.octoprint = OctoPrint(environment, folder / "octoprint", free_port(), with_plugin)
        self.sandbox: Part | None = None
        self.bridge: Part | None = None
        self.mes_url = f"http://127.0.0.1:{free_port()}"
        self.opcua_port = free_port()
        self.web_url = f"http://127.0.0.1:{free_port()}"
        self.push_url = f"http://127.0.0.1:{free_port()}"
        self.opcua_password = secrets.token_urlsafe(12)
        self.config_path = folder / "config.json"
        self.settings_path = folder / "settings.toml"

    @property
    def endpoint_url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.opcua_port}"

    @property
    def state_folder(self) -> Path:
        return self._folder / "bridge"

    def start(self) -> None:
        """Start everything. Raises `ChainError` or `OctoPrintError`; then `close` is still to be called."""
        self._progress("Starting OctoPrint with its virtual printer")
        self.octoprint.start()
        self._progress("Starting the sandbox MES")
        self._start_sandbox()
        self.octoprint.wait_operational()
        self._write_config(self._make_key())
        self._write_settings()
        self._progress("Starting the bridge")
        self.start_bridge()
        if self._with_plugin:
            self.octoprint.configure_plugin(self.push_url)

    def start_bridge(self) -> None:
        """Start the bridge, and wait until it hears plugins; for a second time after it was stopped or killed."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "bridge.cli",
            "run",
            self.config_path,
            "--settings",
            self.settings_path,
        ]
        self.bridge = Part("the bridge", command, self._folder / "bridge.log")
        # Any answer will do: a push without a signature is refused.
        self.bridge.wait_until(lambda: _answers(self.push_url + wire.PATH))

    def wait_connected(self) -> None:
        """Wait until the bridge heard of the printer. Raises `ChainError`."""
        deadline = time.monotonic() + _START_WITHIN_S
        while self.mes_says().status != "Idle":
            if time.monotonic() > deadline:
                said = self.plugin_says() if self._with_plugin else self._bridge_says()
                raise ChainError(f"the MES does not see the printer: {said}")
            time.sleep(0.05)

    def mes_says(self) -> MesView:
        """The machine's status in the MES, and the state of its newest job."""
        machines = self.mes_state()["machines"]
        if not machines:
            return MesView("", "")
        jobs = machines[0]["jobs"]
        return MesView(machines[0]["status"], jobs[0]["state"] if jobs else "")

    def plugin_says(self) -> str:
        """What the plugin's settings tab shows of the connection."""
        status = self.octoprint.plugin_status()
        return str(status.get("error") or status.get("idle") or "the plugin is connected")

    def mes_state(self) -> dict[str, Any]:
        """What the sandbox MES shows."""
        answer: dict[str, Any] = _session().get(f"{self.mes_url}/state.json", timeout=5).json()
        return answer

    def close(self) -> None:
        """Stop everything that was started."""
        if self.bridge is not None:
            self.bridge.stop()
        self.octoprint.stop()
        if self.sandbox is not None:
            self.sandbox.stop()

    def _start_sandbox(self) -> None:
        folder = self._folder / "mes"
        folder.mkdir(mode=0o700)
        write_private(folder / "token", secrets.token_urlsafe(24).encode())
        port = self.mes_url.rpartition(":")[2]
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "bridge.cli",
            "sandbox",
            "--port",
            port,
            "--folder",
            folder,
        ]
        self.sandbox = Part("the sandbox MES", command, self._folder / "mes.log")
        self.sandbox.wait_until(lambda: _answers(self.mes_url))

    def _bridge_says(self) -> str:
        return self.bridge.tail() if self.bridge is not None else "the bridge is not running"

    def _make_key(self) -> str:
        if self._with_plugin:
            self._progress("Making the key through the plugin, and the Aggregator's config.json with it")
            return self.octoprint.generate_key()
        self._progress("Making a user of OctoPrint with a key, and the Aggregator's config.json with it")
        return self.octoprint.make_user_key(USER, *USER_MAY)

    def _write_config(self, key: str) -> None:
        write_private(self._folder / "secret.txt", key.encode() + b"\n")
        machine = {
            "type": "OCTOPRINT",
            "url": self.octoprint.url,
            "custom_name": "Demo printer",
            "authentication_file_path": "secret.txt",
            "mes_id": [MES_ID],
        }
        write_private(self.config_path, json.dumps({"machines": [machine]}, indent=2).encode())

    def _write_settings(self) -> None:
        self.state_folder.mkdir(mode=0o700, exist_ok=True)
        Users(self.state_folder / "users.json").add(OPCUA_USER, self.opcua_password)
        push_port, web_port = (url.rpartition(":")[2] for url in (self.push_url, self.web_url))
        settings = f"""
[bridge]
state_folder = "bridge"
[push]
port = {push_port}
silent_after = 15
[opcua]
port = {self.opcua_port}
trust = "any"
[web]
port = {web_port}
[identification]
manufacturer = "OctoPrint"
model = "Virtual printer"
location = "Demo"
[[mes]]
id = {MES_ID}
url = "{self.mes_url}/api/v2.0/service-panel"
service_id = "sandbox"
token_file = "mes/token"
heartbeat = 2
lease = 6
"""
        self.settings_path.write_text(settings, encoding="utf-8")


def _answers(url: str) -> bool:
    try:
        _session().get(url, timeout=2)
    except requests.RequestException:
        return False
    return True


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # loopback: a proxy of the environment has no part in it
    return session
