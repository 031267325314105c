"""A plant in a folder, set up as README says: what the commands of the documents are run in.

In: a folder. Out: a bridge with README's own config.json and settings.toml (addresses and folders replaced),
the sandbox MES beside it, and a shell in which `mesbridge` and the tools of asyncua are found.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bridge.demo.octoprint import free_port
from tests.docs.markdown import TREE, parts
from tests.e2e.bridge_process import Plugin

PASSWORD = "correct horse battery staple"
KEY = "A0A00B123E454H122BD513FE58B5E9BC"
SECONDS = 60
"""Until something that ought to happen counts as not happening."""
TOOLS = ("mesbridge", "uals", "uaread", "uasubscribe")


class Plant:
    """Bridge, MES and shell. `replacements` are made in each command: what the documents write, and what it is here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.push_port, self.opcua_port, self.web_port, self.mes_port = (free_port() for _ in range(4))
        self.replacements = {
            "192.168.1.5:4840": f"127.0.0.1:{self.opcua_port}",
            "127.0.0.1:8486": f"127.0.0.1:{self.web_port}",
            "127.0.0.1:8090": f"127.0.0.1:{self.mes_port}",
            "192.168.1.5": "127.0.0.1",
            "/opt/mesbridge/bin/mesbridge": "mesbridge",
            "/etc/mesbridge/settings.toml": "settings.toml",
            "/etc/": f"{folder}/etc/",
            "/opt/mesbridge": str(folder / "opt"),
            "/var/lib/mesbridge": str(folder / "home" / "state" / "mesbridge"),
            "/path/to/this/repository": str(TREE),
            "--password ...": f"--password {shlex.quote(PASSWORD)}",
        }
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "XDG_STATE_HOME": str(folder / "home" / "state"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(TREE),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.asked = 0
        self._going_on: set[str] = set()
        self._set_up()

    def _set_up(self) -> None:
        (self.folder / "home" / "state").mkdir(parents=True)
        (self.folder / "etc" / "systemd" / "system").mkdir(parents=True)
        programs = self.folder / "bin"
        programs.mkdir()
        for name in TOOLS:
            start = (
                "-m bridge.cli"
                if name == "mesbridge"
                else shlex.quote(str(Path(sys.executable).parent / name))
            )
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start} "$@"\n')
            (programs / name).chmod(0o755)
        config, settings = (
            next(block.text for block in parts(TREE / "README.md")[0] if block.language == language)
            for language in ("json", "toml")
        )
        self.settings = self.folder / "settings.toml"
        (self.folder / "config.json").write_text(
            config.replace("192.168.1.41:5000", f"127.0.0.1:{free_port()}")
        )
        (self.folder / "secret.txt").write_text(KEY)
        (self.folder / "secret.txt").chmod(0o600)
        ports = {"push": self.push_port, "opcua": self.opcua_port}
        text = self.here(settings)
        for section, port in ports.items():
            text = text.replace(f"[{section}]\n", f"[{section}]\nport = {port}\n")
        text += f"\n[web]\nport = {self.web_port}\n"
        text = re.sub(
            r'^url = ".*"',
            f'url = "http://127.0.0.1:{self.mes_port}/api/v2.0/service-panel"',
            text,
            flags=re.M,
        )
        text = re.sub(r'^service_id = ".*"', 'service_id = "sandbox"', text, flags=re.M)
        text = text.replace('"mes.token"', '"mes-sandbox/token"')
        self.settings.write_text(text)

    @property
    def state(self) -> Path:
        """The state folder of the bridge."""
        return Path(self.here("/var/lib/mesbridge"))

    def here(self, text: str) -> str:
        """`text` with the addresses and folders of this plant."""
        for written, meant in self.replacements.items():
            text = text.replace(written, meant)
        return text

    def run(self, command: str, *, status: int | None = 0, given: str = "") -> str:
        """What a command of the documents prints, in bash. Fails when it ends with another status; None takes any."""
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(command)],
            cwd=self.folder,
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert status is None or ran.returncode == status, f"{command}\n{ran.stdout}"
        assert status is None or "Traceback" not in ran.stdout, ran.stdout
        return ran.stdout

    def start(self, command: str, says: str) -> str:
        """Start a command that goes on, until its output has `says`; returns the output up to there."""
        output = self.folder / f"output-{len(self.processes)}.txt"
        with output.open("wb") as written:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.here(command)}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        deadline = time.monotonic() + SECONDS
        while says not in (text := output.read_text(errors="replace")):
            assert process.poll() is None, f"{command} has ended:\n{text}"
            assert time.monotonic() < deadline, f"{command} did not say {says!r}:\n{text}"
            time.sleep(0.05)
        return text

    def until(self, command: str, says: str) -> str:
        """Run a command again and again until it says what is expected; returns what it said."""
        deadline = time.monotonic() + SECONDS
        while not re.search(says, said := self.run(command, status=None)):
            assert time.monotonic() < deadline, f"{command} did not say {says!r}:\n{said}"
            time.sleep(0.3)
        return said

    def start_all(self) -> None:
        """The MES, then the bridge, as the documents say; its machine's plugin gives a sign of life."""
        self.started(f"mesbridge sandbox --folder mes-sandbox --port {self.mes_port}", "[[mes]]")
        self.started("mesbridge run config.json --settings settings.toml", "MESBridge serves")
        self.print_something()

    def started(self, command: str, says: str) -> None:
        """Start what goes on, unless it already does."""
        program = " ".join(command.split()[:2])
        if program not in self._going_on:
            self._going_on.add(program)
            self.start(command, says)

    def print_something(self) -> Plugin:
        """A plugin with the key of README's machine that has told something."""
        plugin = Plugin(f"http://127.0.0.1:{self.push_port}/push", KEY)
        plugin.push()
        return plugin

    def stop(self) -> None:
        """End what was started, the newest first."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    """A plant as long as the context lasts."""
    one = Plant(folder)
    try:
        yield one
    finally:
        one.stop()
