"""The sandbox MES as a process that can be killed, and that forgets nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from bridge.demo.octoprint import free_port


class MesProcess:
    """`mesbridge sandbox` in `folder`, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.token_file = folder / "token"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bridge.cli", "sandbox", "--port", str(self.port), "--folder"]
        with (self.folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [*command, str(self.folder)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.machines()
            except requests.RequestException:
                assert self._process.poll() is None, (self.folder / "output.txt").read_text()
                assert time.monotonic() < deadline, "the sandbox MES does not answer"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def machines(self) -> list[dict[str, Any]]:
        """All it knows."""
        url = f"http://127.0.0.1:{self.port}/state.json?all=1"
        machines: list[dict[str, Any]] = requests.get(url, timeout=10).json()["machines"]
        return machines
