"""Whether the ports that config.json gives to machines can be had on this computer.

In: the config. Out: the same with a warning for each port that another program uses, which names a free one. A
MESBridge that runs already is no other program: it is asked over OPC UA who it is.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Collection, Iterator
from dataclasses import replace

from bridge.aggregator import Config, MachineEntry, Problem

PRODUCT_URI = "urn:mesbridge"
_ANSWER_S = 3.0
_PORTS = range(4840, 65536)  # OPC UA's own port and above


def examined(config: Config) -> Config:
    """`config` with what stands in the way of its ports here and now."""
    named = {machine.umati_server_port for machine in config.machines if machine.umati_server_port}
    return replace(
        config,
        machines=tuple(
            replace(machine, problems=(*machine.problems, *_problems(config, machine, named)))
            for machine in config.machines
        ),
    )


def _problems(config: Config, machine: MachineEntry, named: Collection[int]) -> Iterator[Problem]:
    port = machine.umati_server_port
    if port is None or machine.left_to_aggregator or _is_free(port) or _is_ours(port):
        return
    free = next((one for one in _PORTS if one not in named and _is_free(one)), None)
    yield Problem(
        "warning",
        config.path,
        machine.line,
        machine.column,
        "umati_server_port",
        f"port {port} is used by another program on this computer: the machine would be shown on the common port",
        f"stop that program, or give the machine port {free}, which is free" if free else "stop that program",
    )


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # what else may be wrong is for the server to say
    return True


def _is_ours(port: int) -> bool:
    from asyncua import Client

    async def products() -> list[str]:
        servers = await Client(f"opc.tcp://127.0.0.1:{port}/", timeout=_ANSWER_S).connect_and_find_servers()
        return [server.ProductUri for server in servers]

    try:
        return PRODUCT_URI in asyncio.run(asyncio.wait_for(products(), _ANSWER_S))
    except Exception:  # noqa: BLE001 (whatever answers there, it is not ours)
        return False
