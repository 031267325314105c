"""OctoPrint's serial threads, on which the printer waits: nothing of the plugin runs there."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from bridge import wire
from bridge.demo.octoprint import slow_gcode
from tests.e2e.octoprint_server import running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

SERIAL_THREADS = {"comm._monitor", "comm.sending_thread"}
"""The one that reads and the one that sends; alike in 1.11 and in 2.0."""


@pytest.mark.parametrize("version", versions() or ["1.11.8"])
def test_nothing_of_the_plugin_runs_on_the_serial_threads_during_a_print(
    version: str, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    witness = Path(shutil.copy(Path(__file__).with_name("thread_witness.py"), tmp_path / "plugins"))
    bridge = Receiver()
    try:
        with running(version, tmp_path) as octoprint:
            octoprint.upload("part.gcode", slow_gcode(60, 50))
            bridge.accept(octoprint.generate_key())
            octoprint.configure_plugin(bridge.url, sample_interval=0.5)
            bridge.wait_for(wire.SNAPSHOT, reason="start")
            octoprint.print("part.gcode")
            bridge.wait_for(wire.PROGRESS)
            bridge.wait_for(wire.JOB_ENDED, result="completed")
            report = witness.with_suffix(".json")
            deadline = time.monotonic() + 30
            while not report.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            told = json.loads(report.read_text())
    finally:
        bridge.stop()
    assert set(told["serial"]) >= SERIAL_THREADS
    assert set(told["mesbridge"]) >= {"mesbridge.recorder", "mesbridge.sender"}
    assert not SERIAL_THREADS & set(told["mesbridge"])

    assert not [hook for hook in told["hooks"] if hook.startswith("octoprint.comm.")]
    assert any("thread_witness" in module for module in told["callbacks"])
    assert not [module for module in told["callbacks"] if module.startswith("octoprint_mesbridge")]
