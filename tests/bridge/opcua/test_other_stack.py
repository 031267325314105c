"""node-opcua's client, which shares no line with the server, gets from its services what the standard says."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from asyncua import Client, ua

from bridge.opcua import OpcUaServer, Role
from tests import needs

from .conftest import PASSWORD, machine_template

METHOD = "MachineryBuildingBlocks.JobManagement.JobOrderResults.RequestJobResponseByJobOrderID"
PATIENCE = 60  # seconds; against hanging only


@pytest.mark.e2e
async def test_node_opcua_browses_in_portions_reads_parts_and_diagnostics_and_is_told_of_calls(
    make_server, tmp_path: Path
) -> None:
    server: OpcUaServer = make_server()
    server._iserver.logins._users.add("ann", PASSWORD, Role.OPERATOR)
    await server.start()
    machine = server.add_instance("m1", "One", machine_template(server), server.node_id("mach", 1001))
    types = ua.NodeId(ua.ObjectIds.BaseObjectType)
    async with Client(server.endpoint_url) as client:
        forward = ua.BrowseDirection.Forward
        references = await client.get_node(types).get_references(ua.ObjectIds.References, forward)
        process = await asyncio.create_subprocess_exec(
            needs.node(),
            str(Path(__file__).with_name("services.js")),
            *(server.endpoint_url, str(tmp_path / "node"), "ann", PASSWORD, types.to_string()),
            *(machine.node_id(METHOD.rpartition(".")[0]).to_string(), machine.node_id(METHOD).to_string()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        told = json.loads(output.decode().splitlines()[-1])
        assert [len(portion) for portion in told["portions"][:-1]] == [5] * (len(told["portions"]) - 1)
        assert len(told["portions"]) > 4
        names = [name for portion in told["portions"] for name in portion]
        assert names == [reference.BrowseName.Name for reference in references]
        assert told["released"] == "BadContinuationPointInvalid"
        assert told["namespaces"] == await client.get_namespace_array()
        assert told["part"] == told["namespaces"][1:3]
        assert told["none"] == "BadIndexRangeNoData"
        assert (told["sessions"], len(told["reads"])) == (2, 2)
        assert told["subscriptions"] == 0
        assert sorted(told["security"]) == [["", "UA Binary", "opc.tcp"], ["ann", "UA Binary", "opc.tcp"]]
        assert told["audit"] == {
            "SourceName": "Attribute/Call",
            "ClientUserId": "ann",
            "Status": "false",  # nobody serves the method
            "ServerId": server.application_uri,
            "MethodId": machine.node_id(METHOD).to_string(),
        }
    await server.stop()
