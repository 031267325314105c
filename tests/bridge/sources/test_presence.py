from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from bridge import wire
from bridge.log import Appended, Log
from bridge.log.sqlite import SqliteLog
from bridge.sources.presence import Presence


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.sqlite", lambda records: None)
    yield log
    await log.close()


def links(store: SqliteLog) -> list[tuple[str, str]]:
    return [(record.machine, record.data["link"]) for record in store.read(0)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_silence_and_return_are_events_in_the_log(store: SqliteLog) -> None:
    clock = Clock()
    presence = Presence(store, silent_after=0.05, clock=clock)
    presence.add("a")
    presence.add("b")
    watch = asyncio.create_task(presence.watch())
    await presence.heard("a")
    await presence.heard("a")
    assert links(store) == [("a", "up")]
    clock.now += 1
    await presence.heard("a")
    await until(lambda: ("b", "lost") in links(store))
    clock.now += 1
    await until(lambda: ("a", "lost") in links(store))
    await presence.heard("a")
    assert links(store) == [("a", "up"), ("b", "lost"), ("a", "lost"), ("a", "up")]
    watch.cancel()


async def test_a_machine_that_was_taken_out_and_is_back_is_heard_and_missed_as_before(
    store: SqliteLog,
) -> None:
    clock = Clock()
    presence = Presence(store, silent_after=0.05, clock=clock)
    watch = asyncio.create_task(presence.watch())
    told: list[tuple[str, str]] = []
    for _ in range(2):
        presence.add("a")
        await presence.heard("a")
        told.append(("a", "up"))
        assert links(store) == told
        clock.now += 1
        told.append(("a", "lost"))
        await until(lambda: links(store) == told)
        presence.forget("a")
    watch.cancel()


class Lagging:
    """A log whose writer is told late that its event is in."""

    def __init__(self, store: SqliteLog) -> None:
        self._store = store
        self.told = asyncio.Event()

    async def append(self, machine: str, batch: wire.Batch) -> Appended:
        appended = await self._store.append(machine, batch)
        await self.told.wait()
        return appended


async def test_a_sign_of_life_while_the_silence_is_being_noted_is_noted_too(store: SqliteLog) -> None:
    clock = Clock()
    lagging = Lagging(store)
    presence = Presence(cast(Log, lagging), silent_after=0.05, clock=clock)
    presence.add("a")
    watch = asyncio.create_task(presence.watch())
    clock.now += 1
    await until(lambda: links(store) == [("a", "lost")])
    back = asyncio.create_task(presence.heard("a"))
    await asyncio.sleep(0)
    lagging.told.set()
    await back
    assert links(store) == [("a", "lost"), ("a", "up")]
    watch.cancel()


async def test_a_machine_is_not_lost_before_its_time(store: SqliteLog) -> None:
    clock = Clock()
    presence = Presence(store, silent_after=0.05, clock=clock)
    presence.add("a")
    watch = asyncio.create_task(presence.watch())
    await asyncio.sleep(0.2)
    assert links(store) == []
    watch.cancel()
