"""The whole chain on real OctoPrints: print -> plugin -> bridge -> OPC UA and MES."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.chain import OPCUA_USER, Chain
from bridge.demo.octoprint import slow_gcode
from bridge.demo.views import OpcUaView
from tests import needs
from tests.e2e.octoprint_server import environment

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.11.8", "2.0.0rc7")


@pytest.mark.parametrize(
    ("version", "options"), [*((version, ()) for version in VERSIONS), (VERSIONS[0], ("--without-plugin",))]
)
def test_the_demo_agrees_with_itself_on_every_step(version: str, options: tuple[str, ...]) -> None:
    environment(version)
    command = [sys.executable, "-m", "bridge.cli", "demo", "--check", "--octoprint", version, *options]
    ran = subprocess.run(
        [*command, "--environments", ROOT / ".octoprint"], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    report = json.loads(ran.stdout)
    assert report["ok"] is True
    assert [(s["step"], s["octoprint"], s["opcua"]["program_state"], s["mes"]) for s in report["steps"]] == [
        ("print", "Printing", "Running", "Running"),
        ("pause", "Paused", "Interrupted", "Running"),
        ("resume", "Printing", "Running", "Running"),
        ("done", "Operational", "Ended", "Idle"),
        ("print again", "Printing", "Running", "Running"),
        ("cancel", "Operational", "Aborted", "Idle"),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_a_closed_terminal_leave_no_process_and_no_folder_behind(
    tmp_path: Path, number: int
) -> None:
    environment(VERSIONS[0])
    command = [sys.executable, "-m", "bridge.cli", "demo", "--environments", str(ROOT / ".octoprint")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "MES sandbox" in line:
                break
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True)
    assert left.stdout == ""


@pytest.fixture
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chain]:
    version, with_plugin = getattr(request, "param", (VERSIONS[0], True))
    made = Chain(environment(version), tmp_path, lambda text: None, with_plugin)
    try:
        made.start()
        made.wait_connected()
        yield made
    finally:
        made.close()


def wait(what: Callable[[], Any], timeout: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < deadline, f"not in time: {found!r}"
        time.sleep(0.1)
    return found


def test_a_bridge_killed_during_a_print_comes_back_complete(chain: Chain, tmp_path: Path) -> None:
    """The print is paused and ended while the bridge is dead: afterwards nothing is missing or doubled."""
    chain.octoprint.upload("long.gcode", slow_gcode(60, 100))
    chain.octoprint.print("long.gcode")
    wait(lambda: chain.mes_says().job == "running")
    assert chain.bridge is not None
    chain.bridge.kill()
    chain.octoprint.pause()
    chain.octoprint.wait_state("Paused")
    chain.octoprint.resume()
    chain.octoprint.wait_state("Operational", timeout=60)
    chain.start_bridge()
    wait(lambda: (chain.mes_says().status, chain.mes_says().job) == ("Idle", "completed"))
    [machine] = chain.mes_state()["machines"]
    [job] = machine["jobs"]
    assert job["file"] == "long.gcode"
    told = [event["type"] for event in reversed(machine["events"])]
    assert [one for one in told if one != "job_estimate_changed"] == [
        "job_started",
        "job_paused",
        "job_resumed",
        "job_finished",
    ]

    async def look() -> tuple[str, str]:
        view = OpcUaView(chain.endpoint_url, OPCUA_USER, chain.opcua_password, tmp_path)
        await view.connect()
        await asyncio.sleep(0.5)
        await view.disconnect()
        return view.item_state, view.program_state

    assert asyncio.run(look()) == ("NotExecuting", "Ended")


@pytest.mark.parametrize(
    "chain", [*((version, True) for version in VERSIONS), (VERSIONS[0], False)], indirect=True
)
def test_a_client_of_another_make_sees_a_whole_print(chain: Chain, tmp_path: Path) -> None:
    """node-opcua, with a certificate and a password, from before the print to its end."""
    chain.octoprint.upload("short.gcode", slow_gcode(30, 100))
    script = Path(__file__).with_name("watch_print.js")
    command = [
        needs.node(),
        script,
        chain.endpoint_url,
        OPCUA_USER,
        chain.opcua_password,
        tmp_path / "node-pki",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        watchdog = threading.Timer(60, node.kill)
        watchdog.start()
        try:
            assert node.stdout is not None
            assert "watching\n" in iter(node.stdout.readline, "")  # node-opcua writes lines of its own before
            chain.octoprint.print("short.gcode")
            told = json.loads(node.stdout.read().splitlines()[-1])
        finally:
            watchdog.cancel()
            node.kill()
    assert told["programStates"] == ["Initializing", "Running", "Ended"]
    assert told["itemStates"] == ["NotExecuting", "Executing", "NotExecuting"]
    assert told["jobStates"] == ["Running", "Ended"]
    values = told["values"]
    assert values["Identification/ComponentName"] == "Demo printer"
    assert values["Identification/Manufacturer"] == "OctoPrint"
    assert values["Production/ActiveProgram/Name"] == "short.gcode"
    assert values["Production/ActiveProgram/Progress"] == 100
    assert values["Monitoring/Process/Tool 0/AnalogSignal"] > 20
    assert values["Monitoring/Process/Bed/AnalogSignal/EngineeringUnits"]["displayName"]["text"] == "°C"
    management = "MachineryBuildingBlocks/JobManagement"
    [order] = values[f"{management}/JobOrderControl/JobOrderList"]
    [response] = values[f"{management}/JobOrderResults/JobOrderResponseList"]
    assert order["jobOrder"]["workMasterID"][0]["ID"] == "short.gcode"
    masters = values[f"{management}/JobOrderControl/WorkMaster"]
    assert "short.gcode" in [master["ID"] for master in masters]
    assert response["jobOrderID"] == order["jobOrder"]["jobOrderID"]
    assert [state["stateText"]["text"] for state in response["jobState"]] == ["Ended", "Completed"]
    [job] = chain.mes_state()["machines"][0]["jobs"]
    assert parsed(response["startTime"]) == pytest.approx(parsed(job["started"]), abs=0.001)
    in_no_state = f"{management}/JobOrderControl/CurrentState"
    assert sorted(told["bad"]) == [
        "Identification/InitialOperationDate: BadWaitingForInitialData",
        f"{in_no_state}/Id: BadStateNotActive",
        f"{in_no_state}: BadStateNotActive",
        *(  # once the job has ended nobody knows of an end to come
            f"Notification/Prognoses/JobEnd/{name}: BadWaitingForInitialData"
            for name in ("PredictedTime", "SourceIdentifier")
        ),
    ]


def parsed(time: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()
