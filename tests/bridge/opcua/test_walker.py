"""Instances are complete and valid by OPC UA's own rules; the walker would say so if not."""

import pytest
from asyncua import Client, ua

from bridge.opcua import Instance, OpcUaServer

from .walker import rank_allowed, walk


async def test_x(client, machine, server):
    for p in await walk(client, machine.node_id()): print(p)
    for p,n in machine.template.paths.items(): print(p, n)
    assert 0
