"""The bridge's own OPC UA server with values that change. Prints one line of JSON, then writes until told to end."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.pace import write_at
from bridge.settings import IdentificationSettings, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from tests.bridge.umati.test_server import story

PATHS = [
    f"Monitoring.Process.{heater}.{value}"
    for heater in ("Tool 0", "Bed")
    for value in ("AnalogSignal", "ProcessValueSetpoint")
]


async def main(items: int, rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = OpcUaSettings(port=0, anonymous=True, minimum_publishing_interval=0)
        server = UmatiServer(settings, Path(folder))
        machine = story().machine
        written = []
        for number in range(items // len(PATHS)):
            identity = MachineIdentity(f"Printer {number}", f"http://pi/{number}", IdentificationSettings())
            server.add_machine(f"machine-{number}", identity, machine)
            instance = server._served[f"machine-{number}"].instance
            written += [(instance, path) for path in PATHS]
        await server.start()
        nodes = [instance.node_id(path).to_string() for instance, path in written]
        print(json.dumps({"url": server.endpoint_url, "nodes": nodes}), flush=True)

        def write(number: int, value: float) -> None:
            instance, path = written[number % len(written)]
            instance.write(path, value)

        await write_at(rate, write)
        await server.stop()


asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
