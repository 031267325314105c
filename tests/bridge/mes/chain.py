"""A sandbox MES on a free port, a sink that reports to it, and what it takes to look at both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bridge.mes import MesSink, Pace, Registration
from bridge.sandbox import Sandbox
from bridge.settings import MesSettings

REGISTRATION = Registration(
    "Left printer", "http://127.0.0.1:5000", "opc.tcp://bridge:4840", "ns=2;s=m", {"model": "MK4"}
)
QUICK = Pace(first=0.02, longest=0.1, slow=0.1)


@contextmanager
def running_sandbox(folder: Path, **options: Any) -> Iterator[Sandbox]:
    sandbox = Sandbox(options.pop("host", "127.0.0.1"), options.pop("port", 0), folder, **options)
    thread = threading.Thread(target=sandbox.serve)
    thread.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()
        thread.join()


def mes_settings(sandbox: Sandbox, **changes: Any) -> MesSettings:
    values = {
        "id": 1,
        "url": sandbox.mes_url,
        "service_id": sandbox.service_id,
        "token_file": sandbox.token_file,
        "timeout": 5.0,
    }
    return MesSettings(**{**values, **changes})


def make_sink(folder: Path, *instances: MesSettings, log: tuple[str, int] = ("log-1", 10**9)) -> MesSink:
    """A sink for the transitions of `log`, which is its id and end."""
    return MesSink(instances, folder, "bridge-1", *log, pace=QUICK)


def machines_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    machines: list[dict[str, Any]] = requests.get(f"{sandbox.url}/state.json?all=1", timeout=5).json()[
        "machines"
    ]
    return machines


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.01)
    return value


def events_of(machine: dict[str, Any]) -> list[str]:
    """The types of the machine's events, oldest first."""
    return [event["type"] for event in reversed(machine["events"])]
