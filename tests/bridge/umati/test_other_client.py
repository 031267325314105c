"""The machine as a client of another make reads it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge import wire
from tests import needs
from tests.bridge.umati.test_server import serving, story

SECONDS = 60


@asynccontextmanager
async def node_opcua(script: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A script of this folder, running with node-opcua's client; ended when the block ends."""
    process = await asyncio.create_subprocess_exec(
        needs.node(),
        str(Path(__file__).with_name(script)),
        *arguments,
        env={**os.environ, "NODE_PATH": str(needs.NODE_MODULES)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def read_with_node_opcua(endpoint: str) -> dict[str, Any]:
    arguments = (endpoint, "urn:mesbridge:machines", "octoprint-1")
    async with node_opcua("read_machine.js", *arguments) as process, asyncio.timeout(SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    answer = next(line for line in output.decode().splitlines() if line.startswith("{"))  # it logs there too
    return dict(json.loads(answer))


async def test_node_opcua_reads_every_node_and_finds_the_state_by_its_browse_path(tmp_path: Path) -> None:
    told = story(extruders=2, heated_chamber=True)
    told.tell(wire.JOB_STARTED)
    told.states("printing")
    told.tell(wire.PROGRESS)
    async with serving(tmp_path, told) as server:
        answer = await read_with_node_opcua(server.endpoint_url)
    assert answer["translated"] == ["octoprint-1.Production.ActiveProgram.State.CurrentState.Number"]
    found = answer["found"]
    values = {path: (one["type"], one["value"], one["status"]) for path, one in found.items()}
    assert values["Production/ActiveProgram/State/CurrentState/Number"] == ("UInt32", 1, "Good")
    assert values["Production/ActiveProgram/Progress"] == ("Double", 50, "Good")
    assert values["Monitoring/MachineTool/OperationMode"] == ("Int32", 1, "Good")
    assert values["Monitoring/Process/Tool 0/AnalogSignal"] == ("Double", 210.1, "Good")
    assert values["Notification/Prognoses/JobEnd/SourceIdentifier"] == ("String", "run-1", "Good")
    assert values["MachineryBuildingBlocks/OperationCounters/OperationCycleCounter"] == ("UInt32", 1, "Good")
    assert found["Monitoring/Process/Tool 0/AnalogSignal/EURange"]["value"] == {"low": 0, "high": 500}
    unknown = ("Null", None, "BadWaitingForInitialData")
    assert values["Monitoring/Process/Chamber/AnalogSignal"] == unknown
    nameless = {
        path: one["status"] for path, one in found.items() if one["value"] is None or one["status"] != "Good"
    }
    silent = {
        f"Monitoring/Process/{h}/{s}"
        for h in ("Tool 1", "Chamber")
        for s in ("AnalogSignal", "ProcessValueSetpoint")
    }
    control = "MachineryBuildingBlocks/JobManagement/JobOrderControl"
    in_no_state = {f"{control}/CurrentState", f"{control}/CurrentState/Id"}
    identification = {f"Identification/{name}" for name in ("YearOfConstruction", "InitialOperationDate")}
    untold = {f"{control}/WorkMaster", *identification}
    without_a_transition = {path for path in found if "LastTransition" in path}  # since the server began
    assert nameless.keys() == {*silent, *in_no_state, *untold, *without_a_transition}
    orders = found[f"{control}/JobOrderList"]["value"]
    assert [order["jobOrder"]["jobOrderID"] for order in orders] == ["run-1"]
    assert orders[0]["state"][0]["stateText"]["text"] == "Running"
    responses = found["MachineryBuildingBlocks/JobManagement/JobOrderResults/JobOrderResponseList"]["value"]
    assert [response["jobOrderID"] for response in responses] == ["run-1"]
    runs = next(one for one in responses[0]["jobResponseData"] if one["ID"] == "Runs")["value"]["value"]
    assert (runs[0]["currentLayer"], runs[0]["remainingTime"]) == (59, 290_000)
