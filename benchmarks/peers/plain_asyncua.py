"""asyncua as it comes, with objects of the same size as the bridge's machines. Prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from asyncua import Server, ua

GROUPS, VARIABLES = 20, 4  # below a machine: 20 objects of 4 variables
EXTRA = 10


async def main(count: int) -> None:
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:example:plant")
    folder = await server.nodes.objects.add_folder(index, "Machines")

    async def add(number: int) -> None:
        machine = await folder.add_object(ua.NodeId(f"m{number}", index), f"{index}:Printer {number}")
        for group in range(GROUPS):
            name = f"m{number}.{group}"
            part = await machine.add_object(ua.NodeId(name, index), f"{index}:Part {group}")
            for variable in range(VARIABLES):
                await part.add_variable(
                    ua.NodeId(f"{name}.{variable}", index), f"{index}:Value {variable}", 1.0
                )

    begin = time.process_time()
    for number in range(count):
        await add(number)
    added = time.process_time() - begin
    await server.start()
    for number in range(count, count + EXTRA):
        await add(number)
    begin = time.process_time()
    for number in range(count, count + EXTRA):
        await server.delete_nodes([server.get_node(ua.NodeId(f"m{number}", index))], recursive=True)
    removed = time.process_time() - begin
    port = server.bserver._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    told = {
        "url": f"opc.tcp://127.0.0.1:{port}/",
        "folder": folder.nodeid.to_string(),
        "add_ms": added / count * 1e3,
        "remove_ms": removed / EXTRA * 1e3,
    }
    print(json.dumps(told), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


asyncio.run(main(int(sys.argv[1])))
