"""One machine, the bridge and the MES, with a piece of network between each two of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.faults.mes import MesProcess
from tests.e2e.faults.network import Network


@dataclass(frozen=True)
class Patience:
    """The settings that say how long who waits for a sign of life, in seconds; see docs/mes.md."""

    silent_after: float = 30.0
    heartbeat: float = 10.0
    lease: float = 30.0

    @property
    def settings(self) -> str:
        return f"heartbeat = {self.heartbeat}\nlease = {self.lease}\n"


QUICK = Patience(silent_after=5.0, heartbeat=1.0, lease=3.0)


class Plant:
    """The bridge is to be started once `serve` has said for which machine."""

    def __init__(self, folder: Path, patience: Patience = QUICK) -> None:
        self.patience = patience
        self.mes = MesProcess(folder / "mes")
        self.to_mes = Network(self.mes.port)
        (folder / "bridge").mkdir()
        settings = (
            f'[[mes]]\nid = 1\nurl = "http://127.0.0.1:{self.to_mes.port}/api/v2.0/service-panel"\n'
            f'service_id = "sandbox"\ntoken_file = "{self.mes.token_file}"\n{patience.settings}'
        )
        self.bridge = BridgeProcess(folder / "bridge", [], settings, silent_after=patience.silent_after)
        self.to_bridge = Network(self.bridge.push_port)
        self.address = f"http://127.0.0.1:{self.to_bridge.port}"

    def serve(self, *entries: dict[str, Any]) -> None:
        """Start the bridge for these entries of config.json."""
        (self.bridge.folder / "config.json").write_text(json.dumps(entries))
        self.bridge.start()

    @property
    def machine(self) -> dict[str, Any]:
        """As the MES shows it."""
        (machine,) = self.mes.machines()
        return machine

    @property
    def jobs(self) -> list[tuple[str, str]]:
        """Id and state of each job that the MES knows, the newest first."""
        return [(job["id"], job["state"]) for job in self.machine["jobs"]]

    def within(self, seconds: float, status: str) -> float:
        """After how many seconds the MES shows this status; it must be no later than said. It may not know the machine
        before that."""
        began = time.monotonic()
        while (shown := [machine["status"] for machine in self.mes.machines()]) != [status]:
            assert time.monotonic() - began < seconds, f"{shown} after {seconds:g} s"
            time.sleep(0.05)
        return time.monotonic() - began

    def close(self) -> None:
        if self.bridge.process is not None:
            self.bridge.kill()
        for network in (self.to_mes, self.to_bridge):
            network.close()
        self.mes.kill()


@contextmanager
def running_plant(folder: Path, patience: Patience = QUICK) -> Iterator[Plant]:
    """With its MES, and not yet its bridge, started."""
    plant = Plant(folder, patience)
    with contextlib.closing(plant):
        plant.mes.start()
        yield plant


def wait(what: Callable[[], Any], timeout: float = 20.0) -> Any:
    """The first true value of `what`."""
    deadline = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)
    return found
