from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

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
    async with asyncio.timeout(10):
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


async def test_a_machine_is_not_lost_before_its_time(store: SqliteLog) -> None:
    clock = Clock()
    presence = Presence(store, silent_after=0.05, clock=clock)
    presence.add("a")
    watch = asyncio.create_task(presence.watch())
    await asyncio.sleep(0.2)
    assert links(store) == []
    watch.cancel()
