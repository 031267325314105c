"""The machines as the log tells them, their checkpoints, and what a start makes of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import fleet, wire
from bridge.fleet import Fleet
from bridge.log.sqlite import SqliteLog
from bridge.machine import Transition
from tests.bridge.events import DATA


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Fleet, SqliteLog]]:
    machines = Fleet()
    store = SqliteLog(tmp_path / "log.sqlite", machines.take)
    yield machines, store
    await store.close()


async def tell(store: SqliteLog, seq: int, kind: str) -> None:
    now = wire.utc_now()
    event = wire.Event(seq, now, kind, dict(DATA[kind]))
    await store.append("m", wire.Batch("i", seq - 1, seq, (event,), now))


async def test_a_plant_that_is_never_quiet_gets_its_checkpoints(running: tuple[Fleet, SqliteLog]) -> None:
    machines, store = running
    await tell(store, 1, wire.JOB_STARTED)
    then = dict(machines.machines)

    async def drain_while_more_comes() -> int:
        durable = machines.position
        await tell(store, 2, wire.PROGRESS)
        return durable

    await machines.checkpoint(store, drain_while_more_comes)
    again = Fleet()
    assert [record.seq for record in again.restore(store)] == [2]
    assert again.machines == then


async def test_no_checkpoint_is_ahead_of_a_sink(running: tuple[Fleet, SqliteLog]) -> None:
    machines, store = running
    await tell(store, 1, wire.JOB_STARTED)

    async def behind() -> int:
        return machines.position - 1

    await machines.checkpoint(store, behind)
    assert [record.seq for record in Fleet().restore(store)] == [1]


async def test_only_what_a_checkpoint_holds_is_forgotten(running: tuple[Fleet, SqliteLog]) -> None:
    machines, store = running

    async def drained() -> int:
        return machines.position

    await tell(store, 1, wire.JOB_STARTED)
    await machines.checkpoint(store, drained)
    await tell(store, 2, wire.PROGRESS)
    await machines.trim(store, wire.utc_now() + timedelta(days=1))
    assert [record.seq for record in store.read(0)] == [2]


async def test_a_record_that_is_not_understood_stops_neither_the_others_nor_the_next_start(
    running: tuple[Fleet, SqliteLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    machines, store = running
    understood = fleet.apply

    def apply(machine: object, record: object) -> Transition:
        if record.kind == wire.STATE:  # type: ignore[attr-defined]
            raise KeyError("odd")
        return understood(machine, record)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet, "apply", apply)
    with capture_logs() as logs:
        await tell(store, 1, wire.STATE)
    await tell(store, 2, wire.JOB_STARTED)
    assert [line["key"] for line in logs] == ["m:i:1"]
    again = Fleet()
    again.take(again.restore(store))
    assert again.machines == machines.machines
    assert again["m"].job is not None
