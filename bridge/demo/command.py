"""`mesbridge demo`: the whole chain on a virtual printer, for a person to look at or as a check without one."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from bridge.demo.chain import OPCUA_USER, Chain, ChainError
from bridge.demo.check import check
from bridge.demo.live import show
from bridge.demo.octoprint import TREE, OctoPrintError, ensure_environment
from bridge.demo.views import OpcUaView

_ENDS = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def run(options: argparse.Namespace) -> int:
    """0 when all went well, 1 when not, 130 after Ctrl-C."""
    # Started in the background Ctrl-C would be ignored; a closed terminal sends SIGHUP.
    for name in _ENDS:
        signal.signal(getattr(signal, name), signal.default_int_handler)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    environments: Path = options.environments or TREE / ".octoprint"
    try:
        environment = ensure_environment(options.octoprint, environments.absolute() / options.octoprint, _say)
        if options.only_prepare:
            return 0
        folder = Path(tempfile.mkdtemp(prefix="mesbridge-demo-"))
        chain = Chain(environment, folder, _say, with_plugin=not options.without_plugin)
        try:
            return _with(chain, folder, options.check)
        finally:
            # A second Ctrl-C must not leave processes behind.
            for name in _ENDS:
                signal.signal(getattr(signal, name), signal.SIG_IGN)
            _say("Stopping")
            chain.close()
            shutil.rmtree(folder, ignore_errors=True)
    except (ChainError, OctoPrintError) as error:
        print(f"mesbridge demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _with(chain: Chain, folder: Path, checked: bool) -> int:
    chain.start()
    opcua = OpcUaView(chain.endpoint_url, OPCUA_USER, chain.opcua_password, folder)
    return asyncio.run(_check(chain, opcua) if checked else _show(chain, opcua))


async def _check(chain: Chain, opcua: OpcUaView) -> int:
    await _connected(chain, opcua)
    try:
        report = await check(chain, opcua, _say)
    finally:
        await opcua.disconnect()
    if opcua.latencies_ms:
        _say(
            f"OPC UA: {len(opcua.latencies_ms)} changes, from the printer's event to the client"
            f" p50 {statistics.median(opcua.latencies_ms):.1f} ms"
        )
    print(json.dumps(report.as_json()), flush=True)
    return 0 if report.ok else 1


async def _show(chain: Chain, opcua: OpcUaView) -> int:
    await _connected(chain, opcua)
    try:
        await show(chain, opcua)
    finally:
        await opcua.disconnect()
    return 0


async def _connected(chain: Chain, opcua: OpcUaView) -> None:
    """Wait for the first snapshot: before it the bridge does not know which heaters there are."""
    _say("Waiting for the first snapshot")
    await asyncio.to_thread(chain.wait_connected)
    await opcua.connect()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
