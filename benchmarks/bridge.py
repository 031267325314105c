"""What the bridge costs, on real processes and sockets. CPU time beside wall time."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge import wire
from bridge.demo.views import OpcUaView
from tests.bridge.events import DATA, JOB
from tests.e2e.bridge_process import PASSWORD, USER, BridgeProcess, Plugin

RUNS = 5


def machines(count: int) -> list[dict[str, Any]]:
    """Entries of config.json whose OctoPrints are off."""
    return [
        {
            "type": "OCTOPRINT",
            "url": f"http://127.0.0.1:9/{n}",
            "custom_name": f"Printer {n}",
            "authentication_file_path": f"{n:043d}",
            "mes_id": [1],
        }
        for n in range(count)
    ]


@contextmanager
def bridge_with(count: int) -> Iterator[BridgeProcess]:
    """A bridge that was started once before, so that its certificate exists."""
    with tempfile.TemporaryDirectory() as folder:
        bridge = BridgeProcess(Path(folder), machines(count))
        bridge.add_user()
        bridge.start()
        bridge.stop()
        bridge.output.unlink()
        yield bridge
        if bridge.process is not None and bridge.process.poll() is None:
            bridge.stop()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def status_of(pid: int) -> tuple[float, float]:
    """Resident memory in MB, and CPU seconds so far."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields["VmRSS"].split()[0]) / 1e3, (int(ticks[11]) + int(ticks[12])) / 100


def start() -> None:
    print("Start of `mesbridge run` until OPC UA listens, and until plugins are heard")
    print("Targets: 0.8 s and 75 MB; with 1,000 machines 1.5 s and 110 MB")
    print(f"{'machines':>9} {'OPC UA s':>9} {'all s':>7} {'CPU s':>7} {'MB':>7}")
    for count in (1, 100, 1000):
        rows = []
        with bridge_with(count) as bridge:
            for _ in range(RUNS):
                begin = time.perf_counter()
                bridge.start(wait=False)
                while not listening(bridge.opcua_port):
                    time.sleep(0.002)
                opcua = time.perf_counter() - begin
                while not listening(bridge.push_port):
                    time.sleep(0.002)
                everything = time.perf_counter() - begin
                assert bridge.process is not None
                memory, cpu = status_of(bridge.process.pid)
                rows.append((opcua, everything, cpu, memory))
                bridge.stop()
        opcua, everything, cpu, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{count:>9} {opcua:>9.2f} {everything:>7.2f} {cpu:>7.2f} {memory:>7.1f}")


async def watch(bridge: BridgeProcess, folder: Path, events: int) -> list[float]:
    view = OpcUaView(bridge.endpoint_url, USER, PASSWORD, folder)
    plugin = Plugin(bridge.push_url, machines(1)[0]["authentication_file_path"])
    await asyncio.to_thread(plugin.push, (wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    await asyncio.to_thread(plugin.push, (wire.JOB_STARTED, dict(JOB)))
    await view.connect()
    await asyncio.sleep(0.5)
    view.latencies_ms.clear()
    for n in range(events):
        progress = {**DATA[wire.PROGRESS], "completion": n / events * 100}
        await asyncio.to_thread(plugin.push, (wire.PROGRESS, progress))
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    await view.disconnect()
    return sorted(view.latencies_ms)


def latency() -> None:
    print(
        "\nFrom a signed push to an OPC UA client (Basic256Sha256, publishing interval 10 ms), one event a push"
    )
    with bridge_with(1) as bridge:
        bridge.start()
        assert bridge.process is not None
        before = status_of(bridge.process.pid)[1]
        found = asyncio.run(watch(bridge, bridge.folder, 500))
        used = status_of(bridge.process.pid)[1] - before
    p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
    print(
        f"{len(found)} changes   p50 {p50:.1f} ms   p99 {p99:.1f} ms   {used / 500 * 1e3:.2f} ms CPU an event"
    )


def pushes(machine_count: int = 50, rounds: int = 40) -> None:
    print("\nPushes of two events each, every one durable before it is acknowledged")
    with bridge_with(machine_count) as bridge:
        bridge.start()
        assert bridge.process is not None
        plugins = [
            Plugin(bridge.push_url, one["authentication_file_path"]) for one in machines(machine_count)
        ]
        for plugin in plugins:
            plugin.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])), (wire.JOB_STARTED, dict(JOB)))
        begin, before = time.perf_counter(), status_of(bridge.process.pid)[1]
        for n in range(rounds):
            for plugin in plugins:
                heater = {"actual": 200.0 + n, "target": 210.0}
                progress = {**DATA[wire.PROGRESS], "completion": n / rounds * 100}
                plugin.push((wire.HEATERS, {"heaters": {"tool0": heater}}), (wire.PROGRESS, progress))
        wall, cpu = time.perf_counter() - begin, status_of(bridge.process.pid)[1] - before
        count = machine_count * rounds
        print(
            f"{count} pushes   {cpu / count * 1e3:.2f} ms CPU, {wall / count * 1e3:.2f} ms wall each, one by one"
        )


def check() -> None:
    print("\n`mesbridge check` of 1,000 machines")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(machines(1000), indent=2))
        rows = []
        for _ in range(RUNS):
            begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-m", "bridge.cli", "check", path], check=True, stdout=subprocess.DEVNULL
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rows.append((time.perf_counter() - begin, cpu))
    wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{wall:.2f} s wall, {cpu:.2f} s CPU, the start of Python included")


def run() -> None:
    start()
    latency()
    pushes()
    check()
