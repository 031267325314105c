"""The demo for a person: what the three sides say, side by side and live, until Ctrl-C.

In flows a running chain; out flows a redrawn screen, or on something that is no terminal a line for each change.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from bridge.demo.chain import OPCUA_USER, Chain
from bridge.demo.octoprint import ADMIN, Printing, slow_gcode
from bridge.demo.views import HEATERS, PROGRAM_NAME, PROGRESS, OpcUaView

FILE = "benchy.gcode"
_MOVES, _DWELL_MS = 900, 100
_REFRESH_S = 0.5
_REST_S = 5.0
_WIDTH = 30


async def show(chain: Chain, opcua: OpcUaView) -> None:
    """Print a file and show what is said of it, for ever."""
    await asyncio.to_thread(chain.octoprint.upload, FILE, slow_gcode(_MOVES, _DWELL_MS))
    await asyncio.to_thread(chain.octoprint.print, FILE)
    told = ""
    idle = 0.0
    while True:
        printing = await asyncio.to_thread(chain.octoprint.job)
        idle = idle + _REFRESH_S if printing.state == "Operational" else 0.0
        if idle > _REST_S:
            await asyncio.to_thread(chain.octoprint.print, FILE)
        lines = await _table(chain, printing, opcua)
        if sys.stdout.isatty():
            print(
                "\x1b[H\x1b[J" + "\n".join([*_addresses(chain), "", *lines, "", "Ctrl-C ends the demo."]),
                flush=True,
            )
        elif (line := " | ".join(lines[2].split())) != told:
            if not told:
                print("\n".join(_addresses(chain)))
            told = line
            print("\n".join(lines), flush=True)
        await asyncio.sleep(_REFRESH_S)


def _addresses(chain: Chain) -> list[str]:
    return [
        f"OctoPrint    {chain.octoprint.url}   user {ADMIN}, password {chain.octoprint.password}",
        f"OPC UA       {chain.endpoint_url}   Basic256Sha256, user {OPCUA_USER}, password {chain.opcua_password}",
        f"MES sandbox  {chain.mes_url}",
        f"Status page  {chain.web_url}",
    ]


async def _table(chain: Chain, printing: Printing, opcua: OpcUaView) -> list[str]:
    measured = await asyncio.to_thread(chain.octoprint.temperatures)
    mes = await asyncio.to_thread(chain.mes_says)
    values = opcua.values
    rows = [
        ("OctoPrint", "OPC UA client", "MES"),
        ("-" * len("OctoPrint"), "-" * len("OPC UA client"), "-" * len("MES")),
        (printing.state, f"{opcua.item_state}, program {opcua.program_state}", mes.status),
        (printing.file or "-", str(values.get(PROGRAM_NAME) or "-"), f"job {mes.job}" if mes.job else "-"),
        (_percent(printing.completion), _percent(values.get(PROGRESS)), ""),
        *(
            (f"{own} {_celsius(measured.get(own))}", f"{name} {_celsius(opcua.heater(name))}", "")
            for own, name in HEATERS.items()
        ),
    ]
    widths = [max(_WIDTH, *(len(cell) + 2 for cell in column)) for column in zip(*rows, strict=True)]
    return ["".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _percent(value: Any) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _celsius(value: Any) -> str:
    return "-" if value is None else f"{value:.1f} °C"
