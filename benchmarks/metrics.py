"""What a scrape by Prometheus costs a real bridge with 500 machines: ``python -m benchmarks.metrics``.

Each machine has told of itself, prints and has heaters. Prints the time until the answer is there, the bridge's own
processor time for it, the size and number of lines, and for how long pushes wait meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import requests

from bridge import wire
from tests.bridge.events import DATA
from tests.e2e.bridge_process import BridgeProcess, Plugin

_MACHINES = 500
_SCRAPES = 50


def _key(number: int) -> str:
    return f"{number:03}" + "a" * 40


def run(machines: int = _MACHINES) -> None:
    """Measure, and print one JSON object."""
    entries = [
        {
            "type": "OCTOPRINT",
            "url": f"http://127.0.0.1:9/{number}",
            "authentication_file_path": _key(number),
            "mes_id": [1],
            "custom_name": f"Printer {number}",
        }
        for number in range(machines)
    ]
    with tempfile.TemporaryDirectory() as folder:
        bridge = BridgeProcess(Path(folder), entries, silent_after=3600)
        bridge.start()
        try:
            print(json.dumps(_measure(bridge, machines), indent=1))
        finally:
            bridge.kill()


def _measure(bridge: BridgeProcess, machines: int) -> dict[str, object]:
    plugins = [Plugin(bridge.push_url, _key(number)) for number in range(machines)]
    for plugin in plugins:
        plugin.push(
            (wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED]))
        )
        plugin.push((wire.PROGRESS, dict(DATA[wire.PROGRESS])))
        plugin.http.close()
    url = f"{bridge.web_url}/metrics"
    with requests.Session() as http:
        quiet, over, waited = _pushes(plugins[0]), threading.Event(), []
        pushing = threading.Thread(target=lambda: waited.extend(_pushes(plugins[1], over)))
        cpu, took, answer = _cpu(bridge), [], http.get(url, timeout=30)
        pushing.start()
        for _ in range(_SCRAPES):
            begun = time.perf_counter()
            answer = http.get(url, timeout=30)
            took.append(time.perf_counter() - begun)
            time.sleep(0.1)
        over.set()
        pushing.join()
        spent = _cpu(bridge) - cpu
        begun = _cpu(bridge)
        for _ in range(_SCRAPES):
            http.get(url, timeout=30)
        alone = _cpu(bridge) - begun
    return {
        "machines": machines,
        "bytes": len(answer.content),
        "lines": answer.text.count("\n"),
        "answer_ms": {"median": _ms(statistics.median(took)), "max": _ms(max(took))},
        "bridge_cpu_ms_a_scrape": _ms(alone / _SCRAPES),
        "bridge_cpu_s_with_pushes": round(spent, 2),
        "push_ms": {
            "quiet": {"median": _ms(statistics.median(quiet)), "max": _ms(max(quiet))},
            "while scraped": {"median": _ms(statistics.median(waited)), "max": _ms(max(waited))},
        },
    }


def _pushes(plugin: Plugin, over: threading.Event | None = None) -> list[float]:
    """How long each push takes, in seconds; 100 of them, or until `over`."""
    took: list[float] = []
    while len(took) < 100 if over is None else not over.is_set():
        begun = time.perf_counter()
        plugin.push((wire.PROGRESS, dict(DATA[wire.PROGRESS])))
        took.append(time.perf_counter() - begun)
        time.sleep(0.02)
    return took


def _cpu(bridge: BridgeProcess) -> float:
    """Processor time of the bridge since its start, in seconds."""

    assert bridge.process is not None
    fields = Path(f"/proc/{bridge.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


if __name__ == "__main__":
    run()
