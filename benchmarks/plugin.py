"""What the plugin costs inside OctoPrint: on the processor, on the event thread, on the disk, in memory."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.demo.octoprint import ADMIN, OctoPrint, free_port, slow_gcode
from tests.e2e.octoprint_server import Visitor, environment, versions
from tests.plugin.receiver import Receiver

PROBE = Path(__file__).with_name("probe.py")

PRINT_S = 62
MOVE_S = 0.04
SETTLE_S = 4


def print_job(seconds: float) -> str:
    """G-code of about `seconds`: 25 moves a second, a layer every ten seconds, heating at first, no dwelling."""
    lines = ["M104 S200", "M140 S60", "G28", "G90", "G1 F480"]
    for move in range(int(seconds / MOVE_S)):
        if move % 250 == 0:
            lines += [f"G1 Z{0.2 + move / 250 * 0.2:.2f} F9000", "G1 F480"]
        forth = move % 2
        # The virtual printer takes a tenth of the time for what goes up: here 3.2 mm at 8 mm/s.
        lines.append(f"G1 X{100 + 3.2 * forth:.1f} Y{100 + 3.2 * (1 - forth):.1f} E{move * 0.05:.2f}")
    return "\n".join([*lines, "M104 S0", "M140 S0", ""])


@dataclass(frozen=True)
class Reading:
    """CPU seconds, and bytes written to the disk, of a process so far; CPU seconds by thread."""

    cpu: float
    written: int
    threads: dict[int, float]

    @classmethod
    def of(cls, pid: int) -> Reading:
        folder = Path(f"/proc/{pid}")
        ticks = (folder / "stat").read_text().rpartition(")")[2].split()
        io = dict(line.split(": ") for line in (folder / "io").read_text().splitlines())
        threads = {}
        for task in (folder / "task").iterdir():
            with suppress(OSError):  # a thread that has ended meanwhile
                threads[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
        cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
        return cls(cpu, int(io["write_bytes"]), threads)


def pid_of(octoprint: OctoPrint) -> int:
    assert octoprint._process is not None
    return octoprint._process.pid


@contextmanager
def prepared(version: str, with_plugin: bool, gcode: str) -> Iterator[tuple[OctoPrint, Receiver]]:
    """An OctoPrint that is ready to print ``job.gcode``, its plugin connected to a bridge, or switched off."""
    bridge = Receiver()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "plugins").mkdir()
        shutil.copy(PROBE, base / "plugins" / "probe.py")
        octoprint = OctoPrint(environment(version), base, free_port())
        try:
            octoprint.start()
            octoprint.wait_operational()
            octoprint.upload("job.gcode", gcode)
            if with_plugin:
                bridge.accept(octoprint.generate_key())
                octoprint.configure_plugin(bridge.url)
                bridge.wait_for("snapshot")
            else:
                visitor = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)
                visitor.post(
                    "/api/plugin/pluginmanager", {"command": "disable", "plugin": "mesbridge"}
                ).raise_for_status()
            octoprint.stop()
            octoprint.start()
            octoprint.wait_operational()
            yield octoprint, bridge
        finally:
            octoprint.stop()
            bridge.stop()


@dataclass(frozen=True)
class Cost:
    """Of one print in one OctoPrint."""

    cpu: float
    written: int
    own_threads: float


def one_pair(version: str) -> tuple[Cost, Cost]:
    """A print with the plugin and one without, at the same time."""
    with ExitStack() as stack:
        sides = [stack.enter_context(prepared(version, on, print_job(PRINT_S))) for on in (True, False)]
        printers = [octoprint for octoprint, _ in sides]
        time.sleep(SETTLE_S)
        before = [Reading.of(pid_of(one)) for one in printers]
        for one in printers:
            one.print("job.gcode")
        time.sleep(PRINT_S + 8 + SETTLE_S)
        after = [Reading.of(pid_of(one)) for one in printers]
        for one in printers:
            assert one.state() == "Operational", one.job()
            one.send("M118 probe")
        costs = []
        for one, begin, end in zip(printers, before, after, strict=True):
            probed = probe_of(one)
            own = sum(
                end.threads.get(ident, 0) - begin.threads.get(ident, 0)
                for name, ident in probed["threads"].items()
                if name.startswith("mesbridge")
            )
            costs.append(Cost(end.cpu - begin.cpu, end.written - begin.written, own))
        return costs[0], costs[1]


def probe_of(octoprint: OctoPrint) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((octoprint.base_folder / "plugins" / "probe.json").read_text())
    return found


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)] if ordered else math.nan


def side_by_side(version: str, runs: int) -> None:
    print(f"\nOctoPrint {version}: one print of {PRINT_S} s, with and without the plugin at the same time")
    print(f"{'with s':>8} {'without s':>10} {'more %':>7} {'threads ms':>11} {'disk kB':>8} {'without':>8}")
    more, own = [], []
    for _ in range(runs):
        on, off = one_pair(version)
        more.append((on.cpu / off.cpu - 1) * 100)
        own.append(on.own_threads / off.cpu * 100)
        print(
            f"{on.cpu:>8.2f} {off.cpu:>10.2f} {more[-1]:>7.1f} {on.own_threads * 1e3:>11.0f}"
            f" {on.written / 1e3:>8.0f} {off.written / 1e3:>8.0f}",
            flush=True,
        )
    print(f"median {statistics.median(more):+.1f} %, from {min(more):+.1f} to {max(more):+.1f} %; ", end="")
    print(f"the plugin's own threads {statistics.median(own):.1f} %")


def days() -> None:
    print(
        "\n24 h of printing (144 prints with a pause, a sample every 5 s) by a simulated clock, on the disk"
    )
    print(f"{'bridge':>8} {'MB after 1 h':>13} {'after 24 h':>11} {'objects':>8} {'after':>7}", end="")
    print(f" {'kB/h to disk':>13} {'file kB':>8} {'waiting':>8} {'CPU s':>6}")
    for bridge in ("up", "away"):
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.day", bridge], check=True, stdout=subprocess.PIPE
        )
        told = json.loads(ran.stdout)
        first, last = (kilobytes / 1e3 for kilobytes in told["resident_kb"])
        print(
            f"{bridge:>8} {first:>13.2f} {last:>11.2f} {told['objects'][0]:>8} {told['objects'][1]:>7}",
            end="",
        )
        print(f" {told['written'] / 24e3:>13.0f} {told['file'] / 1e3:>8.0f} {told['waiting']:>8}", end="")
        print(f" {told['cpu_s']:>6.1f}")


def events(version: str) -> None:
    """What an event costs the thread that serves all plugins, where there are many of them."""
    with prepared(version, True, slow_gcode(500, 50)) as (octoprint, _):
        octoprint.print("job.gcode")
        octoprint.wait_state("Printing", "Starting")
        octoprint.wait_state("Operational", timeout=90)
        time.sleep(1)
        probed = probe_of(octoprint)
    for what, took in (
        ("events of a print with dwells", "events_us"),
        ("calls of nothing instead", "nothing_us"),
    ):
        us = probed[took]
        print(
            f"{len(us)} {what}, on the event thread: p50 {percentile(us, 0.5):.1f} µs, "
            f"p99 {percentile(us, 0.99):.1f} µs, longest {max(us):.1f} µs"
        )
    print(f"called from {len(probed['callers'])} thread")


def run(quick: bool) -> None:
    print(
        "\nThe plugin inside OctoPrint. CPU s: of the whole process over one print; threads ms: of the plugin's"
    )
    print("two threads; disk kB: all that OctoPrint wrote meanwhile, its own settings and logs included.")
    for version in versions()[: 1 if quick else None]:
        side_by_side(version, 1 if quick else 3)
        events(version)
    days()
