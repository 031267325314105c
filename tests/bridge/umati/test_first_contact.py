"""Whoever watches a machine before its printer is known goes on watching when it is, and misses or repeats nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, Node

from bridge import wire
from bridge.umati import UmatiServer
from tests.bridge.events import HEATERS, PRINTER, Story
from tests.bridge.umati.test_other_client import node_opcua
from tests.bridge.umati.test_server import NAME, Notes, node, serving, value

ITEM = "MachineryBuildingBlocks.MachineryItemState.CurrentState"
PROGRAM = "Production.ActiveProgram.State.CurrentState"
COMPONENT = "Identification.ComponentName"
TOOL_1 = "Monitoring.Process.Tool 1.AnalogSignal"
EXPECTED = {
    ITEM: ["NotAvailable", "NotExecuting", "Executing", "NotExecuting"],
    PROGRAM: ["Initializing", "Running", "Ended"],
    COMPONENT: [NAME, "Left printer", "Right printer"],
    "event": [
        "Job order of benchy.gcode started",
        "Print of benchy.gcode started",
        "Job order of benchy.gcode ended",
        "Print of benchy.gcode completed",
    ],
}
COLD = {"tool1": {"actual": 20.0, "target": 0.0}}
SECONDS = 30  # until a notification counts as lost


def printer(name: str, extruders: int) -> dict[str, Any]:
    """A printer of this name with so many tools."""
    return {**PRINTER, "name": name, "profile": {**PRINTER["profile"], "extruders": extruders}}


def live_through(server: UmatiServer, told: Story) -> None:
    """First contact, which makes nodes; a job; and another printer in its place, which makes others."""
    begun = len(told.transitions)
    told.link("up")
    told.tell(wire.SNAPSHOT)
    told.tell(wire.JOB_STARTED)
    told.states("printing")
    told.tell(wire.JOB_ENDED)
    told.states("operational")
    told.tell(wire.SNAPSHOT, printer=printer("Right printer", 2), heaters=COLD)
    for transition in told.transitions[begun:]:
        server.handle(transition)


@asynccontextmanager
async def watching_with_asyncua(server: UmatiServer) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with Client(server.endpoint_url) as client:
        notes: dict[str, Notes] = {}
        for path in EXPECTED:
            notes[path] = Notes()
            subscription = await client.create_subscription(10, notes[path])
            if path == "event":
                await subscription.subscribe_events(await node(client))
            else:
                await subscription.subscribe_data_change(await node(client, path), queuesize=100)
                await notes[path].until(lambda path=path: notes[path].values)

        async def seen() -> dict[str, list[Any]]:
            for path, expected in EXPECTED.items():
                got = notes[path].events if path == "event" else notes[path].values
                await notes[path].until(lambda got=got, expected=expected: len(got) >= len(expected))
            return {
                path: [event.Message.Text for event in one.events] if path == "event" else one.values
                for path, one in notes.items()
            }

        yield seen


@asynccontextmanager
async def watching_with_node_opcua(server: UmatiServer) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    paths = [path for path in EXPECTED if path != "event"]
    arguments = (server.endpoint_url, "urn:mesbridge:machines", NAME, *paths)
    async with node_opcua("watch_machine.js", *arguments) as process, asyncio.timeout(SECONDS):
        got: dict[str, list[Any]] = {path: [] for path in EXPECTED}

        async def heed(enough: Callable[[], bool]) -> None:
            while not enough():
                line = await process.stdout.readline()
                assert line, (await process.stderr.read()).decode()
                if line.startswith(b"["):
                    path, told = json.loads(line)
                    got[path].append(told)
                elif line == b"watching\n":
                    return

        await heed(lambda: False)

        async def seen() -> dict[str, list[Any]]:
            await heed(lambda: all(len(got[path]) >= len(EXPECTED[path]) for path in EXPECTED))
            process.stdin.close()
            for line in (await process.stdout.read()).splitlines():
                if line.startswith(b"["):
                    path, told = json.loads(line)
                    got[path].append(told)
            return got

        yield seen


@pytest.mark.parametrize("watching", [watching_with_asyncua, watching_with_node_opcua])
async def test_who_subscribed_before_first_contact_sees_all_that_follows_exactly_once(
    tmp_path: Path, watching: Any
) -> None:
    told = Story(name=NAME)
    async with serving(tmp_path, told, name=None) as server, watching(server) as seen:
        live_through(server, told)
        assert await seen() == EXPECTED


async def test_a_heater_that_goes_and_comes_back_is_told_to_its_watchers(tmp_path: Path) -> None:
    told = Story(name=NAME)
    told.link("up")
    told.tell(wire.SNAPSHOT, printer=printer("P", 2), heaters=COLD)
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        heard: asyncio.Queue[tuple[Any, str]] = asyncio.Queue()

        class Watcher:
            def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
                heard.put_nowait((value, data.monitored_item.Value.StatusCode.name))

        subscription = await client.create_subscription(10, Watcher())
        await subscription.subscribe_data_change(await node(client, TOOL_1), queuesize=100)
        async with asyncio.timeout(SECONDS):
            assert await heard.get() == (20.0, "Good")
            server.handle(told.tell(wire.SNAPSHOT, printer=printer("P", 1), heaters={}))
            assert await heard.get() == (None, "BadNodeIdUnknown")
            back = {"tool1": {"actual": 21.0, "target": 0.0}}
            server.handle(told.tell(wire.SNAPSHOT, printer=printer("P", 2), heaters=back))
            assert (await heard.get())[1] == "UncertainInitialValue"
            assert await heard.get() == (21.0, "Good")
        assert heard.empty()


@pytest.mark.parametrize("extruders", [0, 1, 3])
async def test_after_first_contact_every_node_has_its_value(tmp_path: Path, extruders: int) -> None:
    told = Story(name=NAME)
    async with serving(tmp_path, told) as server:
        told.link("up")
        told.tell(wire.SNAPSHOT, printer=printer("P", extruders), heaters={})
        for transition in told.transitions:
            server.handle(transition)
        assert server._served[NAME].instance.unwritten() == []


async def test_what_first_contact_does_not_change_keeps_its_time(tmp_path: Path) -> None:
    told = Story(name=NAME)
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        location = await node(client, "Identification.Location")
        before = await location.read_data_value()
        told.link("up")
        for transition in (told.transitions[0], told.tell(wire.SNAPSHOT)):
            server.handle(transition)
        assert (await location.read_data_value()).SourceTimestamp == before.SourceTimestamp
        assert await value(client, "Monitoring.Process.Bed.AnalogSignal") == HEATERS["bed"]["actual"]
