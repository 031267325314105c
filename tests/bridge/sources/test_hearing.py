"""A plugin that is heard after its OctoPrint was followed from outside: until what it tells is taken, it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge import wire
from bridge.fleet import Fleet
from bridge.log import PULLED
from bridge.log.sqlite import SqliteLog
from bridge.sources.hearing import Hearing
from bridge.sources.push import Sender
from tests.bridge.events import DATA, PRINTER

KEY = wire.PushKey.derive("k" * 43)
FROM_OUTSIDE = {**PRINTER, "plugin_version": None, "uuid": None}


class Plugin:
    """Pushes to a bridge that has seen its OctoPrint from outside until now."""

    def __init__(self, client: Any, fleet: Fleet) -> None:
        self.fleet = fleet
        self.now = wire.utc_now()
        self._client = client
        self._seq = 0

    async def push(self, *events: tuple[str, float, dict[str, Any]]) -> bool:
        """Push kinds that happened so many seconds ago; returns whether a snapshot is asked for."""
        told = tuple(
            wire.Event(self._seq + n, self.now - timedelta(seconds=ago), kind, {**DATA[kind], **changes})
            for n, (kind, ago, changes) in enumerate(events, 1)
        )
        batch = wire.Batch("plugin", self._seq, self._seq + len(told), told, wire.utc_now())
        self._seq = batch.through
        body = wire.encode_batch(batch)
        headers = wire.sign(KEY, wire.new_message_id(), wire.utc_now(), body)
        answer = await self._client.post(wire.PATH, data=body, headers=headers)
        assert answer.status == 200
        return wire.decode_reply(await answer.read()).snapshot

    @property
    def version(self) -> str | None:
        printer = self.fleet["m"].printer
        return printer.plugin_version if printer else None


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Plugin]:
    fleet = Fleet()
    store = SqliteLog(tmp_path / "log.sqlite", fleet.take)
    hearing = Hearing(store, fleet.__getitem__, 30.0)
    hearing.presence.add("m")
    hearing.receiver.believe(Sender("m", KEY))
    async with TestClient(TestServer(hearing.receiver.application())) as client:
        one = Plugin(client, fleet)
        seen = wire.Event(1, one.now, wire.SNAPSHOT, {**DATA[wire.SNAPSHOT], "printer": FROM_OUTSIDE})
        await store.append("m", wire.Batch(PULLED + "1", 0, 1, (seen,), one.now))
        yield one
    await store.close()


async def test_a_snapshot_of_the_time_before_does_not_answer_the_wish(plugin: Plugin) -> None:
    assert await plugin.push((wire.SNAPSHOT, 60, {"reason": "start"}))
    assert await plugin.push((wire.HEATERS, 50, {}))
    assert plugin.version is None
    assert not await plugin.push((wire.SNAPSHOT, -1, {"reason": "requested"}))
    assert plugin.version == "0.1.0"


async def test_one_of_a_clock_that_is_a_minute_behind_does(plugin: Plugin) -> None:
    assert not await plugin.push((wire.SNAPSHOT, 60, {"reason": "requested"}))
    assert plugin.version == "0.1.0"


async def test_a_plugin_whose_clock_is_wrong_is_believed_in_the_end(plugin: Plugin) -> None:
    wished = [await plugin.push((wire.SNAPSHOT, 86400, {"reason": "requested"})) for _ in range(4)]
    assert wished == [True, True, True, False]
    assert plugin.version == "0.1.0"
    await plugin.push((wire.STATE, 86400, {"state": "paused"}))
    assert plugin.fleet["m"].state == "paused"
