"""What it costs the bridge to follow OctoPrints that have no plugin, on real processes and sockets.

The OctoPrints are simulated, all in one other process, and half of them print. The clock of both ends is the same, so
that the time from an event there to the log and to an OPC UA client can be told.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from asyncua import Client, ua

from benchmarks.bridge import status_of
from benchmarks.delivery import Subscriber
from bridge import identity
from bridge.demo.views import MACHINERY, PROGRAM_STATE
from tests.e2e.bridge_process import BridgeProcess

MACHINES = 500
SECONDS = 60.0
PUBLISHING_MS = 10.0
_FOLLOWED = '"machine followed without the plugin"'
_LOGGED = {"paused": True, "resuming": False, "printing": False}
_STATES = {"Interrupted": True, "Running": False}

Event = tuple[int, bool]
"""The number of an OctoPrint, and whether its print paused or was resumed."""


class SimulatedPlant:
    """The other process; `events` are those that happened there, and when, in seconds since the epoch."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.urls: list[str] = told["urls"]
        self.keys: list[str] = told["keys"]
        self.events: list[tuple[Event, float]] = []
        self.pid = process.pid
        self._process = process
        self._asked: dict[str, Any] | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def asked(self) -> dict[str, Any]:
        """How many requests came since the last call, and the shortest time between two to one OctoPrint."""
        self._asked = None
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        while (found := self._asked) is None:
            time.sleep(0.01)
        return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "number" in said:
                self.events.append(((said["number"], said["paused"]), said["at"]))
            else:
                self._asked = said


@contextmanager
def plant(count: int, socket: str) -> Iterator[SimulatedPlant]:
    """So many OctoPrints, their push sockets ``open`` or ``refused``."""
    command = [sys.executable, "-m", "benchmarks.peers.simulated_plant", str(count), socket]
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield SimulatedPlant(process, json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(30)


class LogReader:
    """Notes when the state of a printer can be read in the log."""

    def __init__(self, path: Path, numbers: dict[str, int]) -> None:
        self.seen: list[tuple[Event, float]] = []
        self._path = path
        self._numbers = numbers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            (position,) = connection.execute("SELECT max(position) FROM record").fetchone()
            statement = (
                "SELECT position, machine, data FROM record"
                " WHERE position > ? AND kind = 'state' ORDER BY position"
            )
            while not self._stop.wait(0.002):
                for newest, machine, data in connection.execute(statement, (position,)).fetchall():
                    position = newest
                    paused = _LOGGED.get(json.loads(data)["state"])
                    if paused is not None:
                        self.seen.append(((self._numbers[machine], paused), time.time()))


class ProgramStates(Subscriber):
    """An OPC UA client that notes when the programs of machines paused or went on."""

    def __init__(self, url: str, nodes: Sequence[str], numbers: Sequence[int]) -> None:
        super().__init__({"url": url, "nodes": list(nodes)}, PUBLISHING_MS)
        self.seen: list[tuple[Event, float]] = []
        self._numbers = numbers

    async def _take(self, result: ua.PublishResult) -> None:
        now = time.time()
        for notification in result.NotificationMessage.NotificationData or ():
            for item in getattr(notification, "MonitoredItems", ()):
                value = item.Value.Value
                paused = _STATES.get(value.Value.Text) if value is not None and value.Value else None
                if paused is not None:
                    self.seen.append(((self._numbers[item.ClientHandle], paused), now))


def latencies(happened: Sequence[tuple[Event, float]], seen: Sequence[tuple[Event, float]]) -> list[float]:
    """Milliseconds from each event to when it was seen first after that, in ascending order."""
    waiting: dict[Event, list[float]] = {}
    for event, at in seen:
        waiting.setdefault(event, []).append(at)
    found = []
    for event, at in happened:
        later = [one for one in waiting.get(event, ()) if one >= at]
        if later:
            found.append((later[0] - at) * 1e3)
    return sorted(found)


def percentiles(found: Sequence[float]) -> str:
    if not found:
        return f"{'-':>8} {'-':>8}"
    return f"{found[len(found) // 2]:>8.1f} {found[int(len(found) * 0.99)]:>8.1f}"


async def nodes_of(url: str) -> dict[str, str]:
    """The node of the program's state of each machine, by the machine's id."""
    async with Client(url, timeout=60) as client:
        folder = client.get_node(ua.NodeId(1001, await client.get_namespace_index(MACHINERY)))
        machines = await folder.get_children(refs=ua.ObjectIds.Organizes)
    return {
        str(one.nodeid.Identifier): ua.NodeId(
            f"{one.nodeid.Identifier}.{PROGRAM_STATE}", one.nodeid.NamespaceIndex
        ).to_string()
        for one in machines
    }


def bridge_for(folder: Path, simulated: SimulatedPlant) -> BridgeProcess:
    entries = [
        {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": [1]}
        for url, key in zip(simulated.urls, simulated.keys, strict=True)
    ]
    return BridgeProcess(folder, entries, settings="anonymous = true\n")


async def measure(bridge: BridgeProcess, simulated: SimulatedPlant, came_up_after: float) -> str:
    """One line of figures, of a bridge whose machines are all followed."""
    assert bridge.process is not None
    state = bridge.folder / "state"
    by_url = {one.url: one.machine for one in identity.load(state / "machines.json")}
    numbers = {by_url[url]: number for number, url in enumerate(simulated.urls)}
    nodes = await nodes_of(bridge.endpoint_url)
    machines = sorted(numbers, key=numbers.__getitem__)
    client = ProgramStates(
        bridge.endpoint_url, [nodes[one] for one in machines], [numbers[one] for one in machines]
    )
    await client.begin()
    reader = await asyncio.to_thread(LogReader, state / "log.sqlite", numbers)
    await asyncio.sleep(10.0)  # what every start brings is over
    await asyncio.to_thread(simulated.asked)
    pid, before = bridge.process.pid, status_of(bridge.process.pid)[1]
    plant_before, first, begin = status_of(simulated.pid)[1], len(simulated.events), time.monotonic()
    await asyncio.sleep(SECONDS)
    elapsed, (memory, cpu) = time.monotonic() - begin, status_of(pid)
    happened = list(simulated.events[first:])
    plant_cores = (status_of(simulated.pid)[1] - plant_before) / elapsed
    asked = await asyncio.to_thread(simulated.asked)
    await asyncio.sleep(11.0)  # by REST what happened is seen late
    reader.stop()
    await client.client.disconnect()
    cores, count = (cpu - before) / elapsed, len(simulated.urls)
    in_log, in_opcua = latencies(happened, reader.seen), latencies(happened, client.seen)
    return (
        f"{count:>8} {came_up_after:>6.1f} {cores:>6.3f} {cores / count * 1e3:>10.2f} {memory:>7.1f}"
        f" {len(happened):>7} {percentiles(in_log)} {percentiles(in_opcua)}"
        f" {asked['requests'] / elapsed / count * 60:>9.1f} {asked['shortest_pause']:>9.1f} {plant_cores:>7.2f}"
    )


def run_one(count: int, socket: str) -> str:
    """Start OctoPrints and a bridge, and measure."""
    with tempfile.TemporaryDirectory() as folder, plant(count, socket) as simulated:
        bridge = bridge_for(Path(folder), simulated)
        begin = time.monotonic()
        bridge.start(wait=False)
        try:
            while bridge.text().count(_FOLLOWED) < count:
                if (
                    time.monotonic() - begin > 120
                    or bridge.process is None
                    or bridge.process.poll() is not None
                ):
                    raise RuntimeError(f"not all are followed:\n{bridge.text()[-3000:]}")
                time.sleep(0.1)
            return asyncio.run(measure(bridge, simulated, time.monotonic() - begin))
        finally:
            bridge.kill()


def run(count: int = MACHINES) -> None:
    """Print one line for the push socket, and one for REST alone."""
    print(f"\n{count} OctoPrints without the plugin, half of them printing, for {SECONDS:.0f} s")
    print(
        "cores of the bridge, also in thousandths a machine; ms from an event to the log and to an OPC UA client;"
        " REST requests a minute and machine, and the shortest time between two"
    )
    print(
        f"{'':>8} {'count':>8} {'up s':>6} {'cores':>6} {'/1000 each':>10} {'MB':>7} {'events':>7}"
        f" {'log p50':>8} {'p99':>8} {'OPC p50':>8} {'p99':>8} {'req/min':>9} {'pause s':>9} {'(plant)':>7}"
    )
    for name, socket in (("socket", "open"), ("REST", "refused")):
        print(f"{name:>8} {run_one(count, socket)}", flush=True)


if __name__ == "__main__":
    print(datetime.now().astimezone().isoformat(timespec="seconds"))
    run(int(sys.argv[1]) if len(sys.argv) > 1 else MACHINES)
