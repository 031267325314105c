"""The bridge's own OPC UA server with many machines, and what it costs to have them. Prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bridge.settings import IdentificationSettings, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from tests.bridge.umati.test_server import story

EXTRA = 100  # machines that come and go while it runs


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = UmatiServer(OpcUaSettings(port=0, anonymous=True), Path(folder))
        machine = story().machine

        def add(number: int) -> None:
            identity = MachineIdentity(f"Printer {number}", f"http://pi/{number}", IdentificationSettings())
            server.add_machine(f"machine-{number}", identity, machine)

        add(0)  # the template is made once
        begin = time.process_time()
        for number in range(1, count):
            add(number)
        added = time.process_time() - begin
        await server.start()
        for number in range(count, count + EXTRA):
            add(number)
        begin = time.process_time()
        for number in range(count, count + EXTRA):
            server.remove_machine(f"machine-{number}")
        removed = time.process_time() - begin
        told = {
            "url": server.endpoint_url,
            "add_ms": added / max(count - 1, 1) * 1e3,
            "remove_ms": removed / EXTRA * 1e3,
        }
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop()


asyncio.run(main(int(sys.argv[1])))
