"""asyncua as it comes, with values that change. Prints one line of JSON, then writes until told to end."""

from __future__ import annotations

import asyncio
import json
import sys

from asyncua import Server, ua

from benchmarks.peers.pace import write_at


async def main(items: int, rate: float) -> None:
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:example:plant")
    nodes = [
        await server.nodes.objects.add_variable(ua.NodeId(f"v{number}", index), f"{index}:V{number}", 0.0)
        for number in range(items)
    ]
    await server.start()
    port = server.bserver._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    told = {"url": f"opc.tcp://127.0.0.1:{port}/", "nodes": [node.nodeid.to_string() for node in nodes]}
    print(json.dumps(told), flush=True)
    await write_at(rate, lambda number, value: nodes[number % items].write_value(value))
    await server.stop()


asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
