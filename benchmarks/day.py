"""Twenty-four hours of printing in a few seconds: recorder, observer and outbox, driven by a simulated clock.

Started as a process of its own, with ``up`` or ``away`` for what the bridge does; prints one line of JSON. A print
takes ten minutes and has a pause; the printer is looked at every five seconds, and every value has moved since.
What a turn of a job writes is brought to the disk before the next one, as the system does within half a minute.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge import wire
from octoprint_mesbridge.observer import Observer
from octoprint_mesbridge.outbox import Outbox
from octoprint_mesbridge.recorder import Recorder
from octoprint_mesbridge.stock import Stock

PRINT_S, SAMPLE_S = 600, 5
FILE = {"name": "part.gcode", "path": "lab/part.gcode", "origin": "local", "size": 1234567}
TURNS: Mapping[int, list[tuple[str, dict[str, Any]]]] = {
    0: [
        ("PrinterStateChanged", {"state_id": "STARTING"}),
        ("PrintStarted", FILE),
        ("PrinterStateChanged", {"state_id": "PRINTING"}),
    ],
    300: [
        ("PrinterStateChanged", {"state_id": "PAUSING"}),
        ("PrinterStateChanged", {"state_id": "PAUSED"}),
        ("PrintPaused", FILE),
    ],
    320: [
        ("PrinterStateChanged", {"state_id": "RESUMING"}),
        ("PrintResumed", FILE),
        ("PrinterStateChanged", {"state_id": "PRINTING"}),
    ],
    590: [
        ("PrinterStateChanged", {"state_id": "FINISHING"}),
        ("PrintDone", {**FILE, "time": 590.0}),
        ("PrinterStateChanged", {"state_id": "OPERATIONAL"}),
    ],
}


class MovingView:
    """A printer of which every value moves all the time."""

    def __init__(self) -> None:
        self.second = 0

    def job(self) -> Mapping[str, Any]:
        filament = {"tool0": {"length": 1500.0, "volume": 3.6}}
        return {"file": dict(FILE), "estimatedPrintTime": 590.0, "filament": filament}

    def progress(self) -> Mapping[str, Any]:
        done = self.second % PRINT_S
        return {"completion": done / PRINT_S * 100, "printTime": done, "printTimeLeft": PRINT_S - done}

    def heaters(self, since: datetime | None = None) -> Mapping[str, Any]:
        swing = float(self.second % 7)
        return {
            "tool0": {"actual": 200 + swing, "target": 205.0, "offset": 0},
            "bed": {"actual": 60 + swing, "target": 60.0, "offset": 0},
        }

    def printer(self) -> Mapping[str, Any]:
        profile = {
            "name": "Default",
            "model": None,
            "extruders": 1,
            "heated_bed": True,
            "heated_chamber": False,
        }
        return {
            "uuid": "3f0c2a54-8d5e-4c0e-9a59-0a7d3f0c2a54",
            "name": "Printer 1",
            "octoprint_version": "2.0.0",
            "plugin_version": "1.0.0",
            "firmware": "Marlin 2.1",
            "profile": profile,
            "identity": {},
        }


class NoSupplies:
    def files(self) -> dict[str, Any]:
        return {"files": []}

    def spool_settings(self) -> Mapping[str, Any]:
        return {}


def resident_kb() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def main(bridge: str, hours: int = 24) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        outbox = Outbox(Path(folder, "outbox.db"))
        view = MovingView()
        observer = Observer("OPERATIONAL")
        recorder = Recorder(
            observer, view, Stock(NoSupplies()), outbox, logging.getLogger(), lambda: None, SAMPLE_S
        )
        begin = datetime(2026, 11, 23, tzinfo=UTC)
        recorder.set_recording(True)
        for item in recorder._wait():
            recorder._take(begin, *item[1:])
        readings = []
        cpu = time.process_time()
        writing = written()
        for second in range(0, hours * 3600, SAMPLE_S):
            view.second = second
            now = begin + timedelta(seconds=second)
            for name, payload in TURNS.get(second % PRINT_S, []):
                recorder._take(now, name, payload)
            recorder._keep(observer.sample(now, view.heaters(), view.progress()))
            recorder._store()
            if second % PRINT_S in TURNS:
                for file in Path(folder).iterdir():
                    descriptor = os.open(file, os.O_RDONLY)
                    os.fsync(descriptor)
                    os.close(descriptor)
            if bridge == "up":
                batch = outbox.next_batch()
                wire.encode_batch(batch)
                outbox.acknowledge(batch.instance, batch.through)
            if second in (3600, hours * 3600 - SAMPLE_S):
                gc.collect()
                readings.append((resident_kb(), len(gc.get_objects())))
        told = {
            "waiting": outbox.backlog().waiting,
            "cpu_s": time.process_time() - cpu,
            "written": written() - writing,
            "file": sum(file.stat().st_size for file in Path(folder).iterdir()),
            "resident_kb": [reading[0] for reading in readings],
            "objects": [reading[1] for reading in readings],
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
