"""What the address space costs with many machines: adding and removing one, browsing all, walking one.

Each server is a process of its own, and its CPU time is its own; the client, the same for all, is in this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from asyncua import Client, Node, ua

from benchmarks.bridge import status_of
from bridge.demo.octoprint import free_port

PEERS = Path(__file__).parent / "peers"
RUNS = 20


class Contender(NamedTuple):
    """A server, and with how many machines it is measured."""

    name: str
    command: list[str]
    machines: int


CONTENDERS = [
    *(
        Contender("bridge", [sys.executable, str(PEERS / "umati_server.py"), str(count)], count)
        for count in (100, 1000)
    ),
    Contender("asyncua", [sys.executable, str(PEERS / "plain_asyncua.py"), "100"], 100),
    *(
        Contender("node-opcua", ["node", str(PEERS / "node_opcua.js"), str(count)], count)
        for count in (100, 1000)
    ),
]


@contextmanager
def running(contender: Contender) -> Iterator[tuple[int, dict[str, Any]]]:
    """The server's process id, and what it says of itself."""
    port = [str(free_port())] if contender.command[0] == "node" else []
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [*contender.command, *port],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        told = next(line for line in process.stdout if line.startswith("{"))
        try:
            yield process.pid, json.loads(told)
        finally:
            process.stdin.close()
            process.wait(30)


async def measured(pid: int, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Milliseconds of wall time (the median), and of the server's CPU (the mean)."""
    await work()
    before, walls = status_of(pid)[1], []
    for _ in range(RUNS):
        begin = time.perf_counter()
        await work()
        walls.append(time.perf_counter() - begin)
    return statistics.median(walls) * 1e3, (status_of(pid)[1] - before) / RUNS * 1e3


async def walk(node: Node) -> int:
    """The number of nodes at and below `node`, found by browsing each."""
    below = await node.get_children(refs=ua.ObjectIds.HierarchicalReferences)
    return 1 + sum([await walk(child) for child in below])


async def browsing(pid: int, told: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float], int]:
    async with Client(told["url"], timeout=60) as client:
        if "folder" in told:
            folder = client.get_node(told["folder"])
        else:
            index = await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/")
            folder = client.get_node(ua.NodeId(1001, index))
        machines = await folder.get_children(refs=ua.ObjectIds.Organizes)
        nodes = await walk(machines[0])
        return (
            await measured(pid, folder.get_children),
            await measured(pid, lambda: walk(machines[0])),
            nodes,
        )


def run() -> None:
    """Print one line for each server."""
    print("\nThe address space: CPU of the server beside the wall time that a client sees")
    print("Target of the bridge: 0.2 ms to add a machine")
    print(
        f"{'server':>12} {'machines':>9} {'nodes each':>11} {'MB':>6} {'add ms':>8} {'remove ms':>10}"
        f" {'browse all ms: CPU':>19} {'wall':>7} {'walk one ms: CPU':>17} {'wall':>7}"
    )
    for contender in CONTENDERS:
        with running(contender) as (pid, told):
            everything, one, nodes = asyncio.run(browsing(pid, told))
            memory = status_of(pid)[0]
            print(
                f"{contender.name:>12} {contender.machines:>9} {nodes:>11} {memory:>6.0f} {told['add_ms']:>8.3f}"
                f" {told['remove_ms']:>10.3f} {everything[1]:>19.1f} {everything[0]:>7.1f}"
                f" {one[1]:>17.1f} {one[0]:>7.1f}"
            )
