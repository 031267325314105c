"""The example: a machine with everything that the settings and a printer can give it, and what happens to it.

All times are those of the story, so that every run shows the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asyncua import Client

from bridge import wire
from bridge.machine import Machine, Transition
from bridge.settings import IdentificationSettings, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from tests.bridge.events import PRINTER, Story

NAME = "octoprint-5f0c2a91"
URL = "http://octopi.plant:5000"
IDENTIFICATION = IdentificationSettings(
    product_instance_uri="urn:prusa3d.com:MK4:CZPX1234",
    serial_number="CZPX1234",
    year_of_construction=2024,
    initial_operation_date=date(2024, 5, 1),
    location="Hall 3, bay 12",
    asset_id="FDM-07",
)
HEATERS = {
    "tool0": {"actual": 210.1, "target": 210.0},
    "tool1": {"actual": 24.9, "target": 0.0},
    "bed": {"actual": 59.8, "target": 60.0},
    "chamber": {"actual": 35.2, "target": 35.0},
}
NOT_ABOUT_NODES = ("anonymous",)
LAST = "ConnectionLost"
SWITCHES = [f.name for f in fields(OpcUaSettings) if f.type == "bool" and f.name not in NOT_ABOUT_NODES]
"""The settings of [opcua] that are on or off: each may give a machine nodes."""


def printing() -> Story:
    """A machine that prints."""
    told = Story(name=NAME)
    told.link("up")
    profile = {**PRINTER["profile"], "extruders": 2, "heated_chamber": True}
    told.tell(wire.SNAPSHOT, printer={**PRINTER, "profile": profile}, heaters=HEATERS)
    told.tell(wire.FILES)
    told.tell(wire.FEEDSTOCK)
    told.tell(wire.JOB_STARTED)
    told.states("printing")
    told.tell(wire.PROGRESS)
    return told


def happenings(told: Story) -> Iterator[Transition]:
    """All that makes a machine tell events, one thing after the other; `LAST` is the last of them."""
    yield told.tell(wire.JOB_PAUSED)
    yield told.tell(wire.JOB_RESUMED)
    yield told.tell(wire.FILAMENT_CHANGE)
    yield told.tell(wire.JOB_ENDED)
    for run, result in (("run-2", "cancelled"), ("run-3", "failed")):
        yield told.tell(wire.JOB_STARTED, run=run)
        yield told.tell(wire.JOB_ENDED, run=run, result=result, reason="thermal runaway")
    yield told.tell(wire.ERROR)
    yield told.tell(wire.JOB_STARTED, run="run-4")
    yield told.link("lost")


@asynccontextmanager
async def connected(told: Story, **switches: Any) -> AsyncIterator[tuple[Client, UmatiServer]]:
    """A client of a server that has heard the story so far; all switches are on but for these."""
    on: dict[str, Any] = {**dict.fromkeys(SWITCHES, True), **switches}
    with TemporaryDirectory() as folder:
        server = UmatiServer(OpcUaSettings(port=0, anonymous=True, **on), Path(folder))
        server.add_machine(NAME, MachineIdentity("FDM 7", URL, IDENTIFICATION), Machine())
        for transition in told.transitions:
            server.handle(transition)
        await server.start()
        try:
            async with Client(server.endpoint_url) as client:
                yield client, server
        finally:
            await server.stop()
