"""A throw-away OctoPrint with its virtual printer, and the plugin in it.

In flow a version and empty folders; out flows a running OctoPrint that is driven over its REST API, as a
person in a browser would. Nothing outside the given folders is touched, and nothing goes to the internet
once the environment is made.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import requests

TREE = Path(__file__).resolve().parents[2]
"""The source tree: what holds ``pyproject.toml`` and the two packages."""

ADMIN = "admin"
PLUGIN = "mesbridge"

_SHIPPED = ("octoprint_mesbridge", "bridge/__init__.py", "bridge/wire.py", "bridge/handshake.py")
_BUILD_FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")

# Whatever would talk to the network, or ask a person something.
_DISABLED_PLUGINS = (
    "achievements",
    "announcements",
    "discovery",
    "errortracking",
    "file_check",
    "firmware_check",
    "health_check",
    "pi_support",
    "softwareupdate",
    "tracking",
)
_UNREACHABLE = "http://127.0.0.1:9/"


class OctoPrintError(Exception):
    """The throw-away OctoPrint could not be made, or does not do what it should."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with an OctoPrint in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def version(self) -> str | None:
        """The version of the OctoPrint in it; None when there is none."""
        if not self.python.exists():
            return None
        ask = "import importlib.metadata as m; print(m.version('OctoPrint'))"
        asked = subprocess.run(  # noqa: S603
            [self.python, "-c", ask], cwd=self.folder, capture_output=True, text=True
        )
        return asked.stdout.strip() if asked.returncode == 0 else None


def free_port() -> int:
    """A TCP port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def slow_gcode(moves: int, dwell_ms: int) -> str:
    """G-code that heats and then takes about ``moves * dwell_ms`` on the virtual printer."""
    lines = ["M104 S200", "M140 S60", "G28", "G90", "G1 Z0.2 F3000"]
    for move in range(moves):
        lines += [f"G1 X{100 + move % 20} Y{100 + move // 20 % 20} F12000", f"G4 P{dwell_ms}"]
    return "\n".join([*lines, "M104 S0", "M140 S0", ""])


# --------------------------------------------------------------------------- environments


def ensure_environment(version: str, folder: Path, progress: Callable[[str], None]) -> Environment:
    """An environment in `folder` with OctoPrint `version` and this tree's plugin; makes what is missing.

    `progress` is told what is being done when it takes long. Raises `OctoPrintError`.
    """
    if not (TREE / "pyproject.toml").exists():
        raise OctoPrintError(
            f"{TREE} is not the source tree of MESBridge: run the demo from a checkout of it"
        )
    environment = Environment(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".mesbridge.lock"):
        if environment.version() != version:
            progress(f"Installing OctoPrint {version} into {folder} (once; takes some minutes)")
            venv.create(folder, clear=False, with_pip=True)
            _run([environment.python, "-m", "pip", "install", "--quiet", f"octoprint=={version}"], folder)
        _install_tree(environment, progress)
    return environment


def _install_tree(environment: Environment, progress: Callable[[str], None]) -> None:
    marker = environment.folder / ".mesbridge.sha256"
    digest = _digest_of_tree()
    if marker.exists() and marker.read_text() == digest:
        return
    progress(f"Installing the plugin into {environment.folder}")
    with tempfile.TemporaryDirectory() as scratch:
        # Built from a copy, so that no build folder of an earlier state has a say.
        source, wheels = Path(scratch, "source"), Path(scratch, "wheels")
        for name in _BUILD_FILES:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / name, source / name)
        for name in ("octoprint_mesbridge", "bridge"):
            shutil.copytree(TREE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        build: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        if _can_build():
            build.append("--no-build-isolation")
        _run([*build, "--wheel-dir", wheels, source], environment.folder)
        (wheel,) = wheels.glob("*.whl")
        install = ["install", "--quiet", "--no-deps", "--no-index", "--force-reinstall"]
        _run([environment.python, "-m", "pip", *install, wheel], environment.folder)
    marker.write_text(digest)


def _can_build() -> bool:
    """Whether this interpreter has the setuptools that ``pyproject.toml`` asks for."""
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


def _digest_of_tree() -> str:
    """Changes when anything does that matters inside OctoPrint."""
    digest = hashlib.sha256()
    for name in (*_SHIPPED, "pyproject.toml", "setup.py"):
        path = TREE / name
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        for file in sorted(files):
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(TREE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _run(command: list[str | Path], folder: Path) -> None:
    """Run `command` in `folder`: Python imports from where it stands, which must not be the source tree."""
    ran = subprocess.run(  # noqa: S603
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ran.returncode:
        shown = " ".join(str(word) for word in command)
        raise OctoPrintError(f"{shown} failed:\n{ran.stdout[-3000:]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps a second process from changing the same environment at the same time."""
    with path.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --------------------------------------------------------------------------- one OctoPrint


class Printing(NamedTuple):
    """OctoPrint's state in its own words, the selected file if any, and how much of it is done in percent."""

    state: str
    file: str | None
    completion: float | None


class OctoPrint:
    """One OctoPrint on the loopback interface, with the virtual printer connected by itself at start.

    All methods raise `OctoPrintError` when OctoPrint refuses or is not in time.
    """

    def __init__(
        self, environment: Environment, base_folder: Path, port: int, with_plugin: bool = True
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.base_folder = base_folder
        self.password = ""
        self._environment = environment
        self._port = port
        self._with_plugin = with_plugin
        self._process: subprocess.Popen[bytes] | None = None
        self._console: TextIO | None = None
        self._session = _new_session()

    def seed(self) -> None:
        """Give the base folder a configuration and the user `ADMIN` with a fresh `password`."""
        self.base_folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML as well.
        (self.base_folder / "config.yaml").write_text(json.dumps(_configuration(self._with_plugin), indent=2))
        self.password = secrets.token_urlsafe(18)
        # Asked for on standard input, since any user of the machine can read a command line. The prompt
        # looks for a terminal first; a session of its own has none.
        added = subprocess.run(  # noqa: S603
            [*self._command(), "user", "add", ADMIN, "--admin"],
            cwd=self.base_folder,
            input=f"{self.password}\n{self.password}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if added.returncode:
            raise OctoPrintError(f"The user {ADMIN} could not be made:\n{added.stdout[-2000:]}")

    def start(self) -> None:
        """Start the process; an empty base folder is given a configuration and the user `ADMIN` first."""
        if not (self.base_folder / "config.yaml").exists():
            self.seed()
        self._console = (self.base_folder / "console.log").open("a")
        serve = ["serve", "--host", "127.0.0.1", "--port", str(self._port)]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            serve.append("--iknowwhatimdoing")
        # A session of its own: Ctrl-C is for the one who started this, who then stops OctoPrint in order.
        self._process = subprocess.Popen(  # noqa: S603
            [*self._command(), *serve],
            cwd=self.base_folder,
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_operational(self, timeout: float = 90.0) -> None:
        """Wait until OctoPrint answers and its printer is connected."""
        deadline = time.monotonic() + timeout
        last = "no answer yet"
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                self._log_in()
                last = self.state()
                if last == "Operational":
                    return
            except (OctoPrintError, requests.RequestException) as error:
                last = str(error)
            time.sleep(0.2)
        raise OctoPrintError(f"OctoPrint was not operational within {timeout:g} s: {last}\n{self._tail()}")

    def make_user_key(self, name: str, *permissions: str) -> str:
        """The API key of a new user of that name, who has these permissions and is in no group."""
        self._log_in()
        user = {"name": name, "password": secrets.token_urlsafe(18), "active": True}
        self._post("/api/access/users", {**user, "admin": False, "permissions": permissions, "groups": []})
        return str(self._post(f"/api/access/users/{name}/apikey", {}).json()["apikey"])

    def make_application_key(self, application: str) -> str:
        """A new key of the administrator's for an application of that name."""
        self._log_in()
        return str(
            self._post("/api/plugin/appkeys", {"command": "generate", "app": application}).json()["api_key"]
        )

    def global_key(self) -> str:
        """A new global key, which is nobody's and may do everything. OctoPrint has deprecated it."""
        self._log_in()
        return str(self._post("/api/settings/apikey", {}).json()["apikey"])

    def enable_plugin(self) -> None:
        """Have the plugin of this tree loaded at the next start."""
        self._log_in()
        self._post("/api/plugin/pluginmanager", {"command": "enable", "plugin": PLUGIN})

    def generate_key(self) -> str:
        """A new API key, made through the plugin as an administrator does it."""
        self._log_in()
        return str(self.plugin_command("generate_key")["api_key"])

    def configure_plugin(self, bridge_url: str, **settings: Any) -> None:
        """Set the address of the bridge, and other settings of the plugin."""
        plugin = {"bridge_url": bridge_url, **settings}
        self._post("/api/settings", {"plugins": {"mesbridge": plugin}})

    def plugin_command(self, command: str) -> dict[str, Any]:
        """One command of the plugin's API; returns what it answers."""
        answer: dict[str, Any] = self._post("/api/plugin/mesbridge", {"command": command}).json()
        return answer

    def plugin_status(self) -> dict[str, Any]:
        """What the plugin's settings tab shows."""
        answer: dict[str, Any] = self._get("/api/plugin/mesbridge").json()
        return answer

    def state(self) -> str:
        """OctoPrint's own words: ``Operational``, ``Printing``, ``Paused``, ``Offline``, ..."""
        return str(self._get("/api/job").json()["state"])

    def job(self) -> Printing:
        """What is being printed."""
        answer = self._get("/api/job").json()
        return Printing(
            answer["state"], answer["job"]["file"].get("name"), answer["progress"].get("completion")
        )

    def temperatures(self) -> dict[str, float]:
        """What each heater measures in °C, by OctoPrint's names; empty when no printer is connected."""
        try:
            told = self._get("/api/printer").json()["temperature"]
        except OctoPrintError:
            return {}
        return {name: value["actual"] for name, value in told.items() if value.get("actual") is not None}

    def wait_state(self, *states: str, timeout: float = 30.0) -> str:
        """Wait until the state is one of `states`; returns it."""
        deadline = time.monotonic() + timeout
        while (state := self.state()) not in states:
            if time.monotonic() > deadline:
                raise OctoPrintError(
                    f"OctoPrint is {state!r}, not {' or '.join(states)}, after {timeout:g} s"
                )
            self._check_alive()
            time.sleep(0.1)
        return state

    def upload(self, name: str, gcode: str) -> None:
        self._call("POST", "/api/files/local", files={"file": (name, gcode.encode(), "text/plain")})

    def print(self, name: str) -> None:
        """Start printing an uploaded file."""
        self._post(f"/api/files/local/{name}", {"command": "select", "print": True})

    def pause(self) -> None:
        self._post("/api/job", {"command": "pause", "action": "pause"})

    def resume(self) -> None:
        self._post("/api/job", {"command": "pause", "action": "resume"})

    def cancel(self) -> None:
        self._post("/api/job", {"command": "cancel"})

    def send(self, *gcode: str) -> None:
        """Send commands to the printer; the virtual one also knows ``!!DEBUG:...``."""
        self._post("/api/printer/command", {"commands": list(gcode)})

    def connect(self) -> None:
        self._post("/api/connection", {"command": "connect"})

    def disconnect(self) -> None:
        self._post("/api/connection", {"command": "disconnect"})

    def stop(self, timeout: float = 20.0) -> None:
        """End OctoPrint in order; one that does not end in time is killed."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._closed()

    def kill(self) -> None:
        """End OctoPrint as a power cut would (``SIGKILL``)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._closed()

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def _closed(self) -> None:
        self._process = None
        self._session.close()
        self._session = _new_session()
        if self._console is not None:
            self._console.close()
            self._console = None

    def _command(self) -> list[str | Path]:
        return [self._environment.python, "-m", "octoprint", "-b", self.base_folder]

    def _log_in(self) -> None:
        self._session.close()
        self._session = _new_session()
        self._session.get(self.url + "/login/", timeout=10)  # sets the cookie that writing calls must quote
        self._post("/api/login", {"user": ADMIN, "pass": self.password})

    def _get(self, path: str) -> requests.Response:
        return self._call("GET", path)

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        token = next((c.value for c in self._session.cookies if c.name.startswith("csrf_token")), None)
        headers = {"X-CSRF-Token": token} if token else {}
        answer = self._session.request(method, self.url + path, headers=headers, timeout=20, **arguments)
        if not answer.ok:
            raise OctoPrintError(
                f"{method} {path}: OctoPrint answers {answer.status_code} {answer.text[:300]}"
            )
        return answer

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise OctoPrintError(f"OctoPrint is not running:\n{self._tail()}")

    def _tail(self) -> str:
        console = self.base_folder / "console.log"
        return console.read_text(errors="replace")[-3000:] if console.exists() else ""


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # loopback: a proxy of the environment has no part in it
    return session


def _configuration(with_plugin: bool) -> dict[str, Any]:
    """No first-run wizard, no outgoing connection, the virtual printer connected at start."""
    return {
        "server": {
            "firstRun": False,
            "onlineCheck": {"enabled": False},
            "pluginBlacklist": {"enabled": False},  # the name in 1.11
            "pluginBlocklist": {"enabled": False},  # and in 2.0
            "seenWizards": {
                "backup": None,
                "classicwebcam": 1,
                "corewizard": 4,
                "file_check": 1,
                "mesbridge": 1,
                "tracking": None,
            },
        },
        "accessControl": {"autologinLocal": False},
        "devel": {"cache": {"preemptive": False}},
        "gcodeAnalysis": {"runAt": "never"},
        "serial": {
            "port": "VIRTUAL",
            "autoconnect": True,
            "logPositionOnPause": False,  # the virtual printer never tells it; a pause would take 10 s
            "logPositionOnCancel": False,
        },
        "plugins": {
            "_disabled": [*_DISABLED_PLUGINS, *(() if with_plugin else (PLUGIN,))],
            "pluginmanager": {"notices": _UNREACHABLE, "repository": _UNREACHABLE},
            "virtual_printer": {
                "enabled": True,
                "throttle": 0.01,
                "sendWait": False,
                "commandBuffer": 16,
                "simulated_errors": [],
            },
        },
    }
