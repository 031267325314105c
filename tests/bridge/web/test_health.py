"""Whether the bridge lives and serves, as its parts say, with a real log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bridge.log import LogError
from bridge.log.sqlite import SqliteLog
from bridge.web import health as module
from bridge.web.health import Health
from tests.bridge.log.contract import batch


def serving(log: SqliteLog, **checks: Callable[[], str | None]) -> Health:
    health = Health(log.answer, {"log": lambda: log.trouble, **checks})
    health.phase = "serving"
    return health


async def test_a_full_disk_is_no_reason_for_a_restart_but_the_bridge_does_not_serve(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, lambda records: None)
    health = serving(log)
    await log.append("m", batch(1))
    assert await health.missing() == []
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(LogError):
        await log.append("m", batch(2))
    assert await health.unwell() == []
    (reason,) = await health.missing()  # also after a question that wrote nothing
    assert reason.startswith("log: ")
    assert "disk full" in reason
    assert log.failures == 1
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER full")
    await log.append("m", batch(2))
    assert await health.missing() == []
    await log.close()


async def test_a_part_that_does_not_work_is_named(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", lambda records: None)
    health = serving(log, opcua=lambda: "does not listen", mes=lambda: None)
    assert await health.missing() == ["opcua: does not listen"]
    assert await health.unwell() == []
    health.phase = "stopping"
    await log.close()
    assert await health.missing() == ["the bridge is stopping"]
    assert await health.unwell() == []  # that the log is closed belongs to the end


async def test_a_closed_log_while_it_should_serve_is_not_well(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", lambda records: None)
    health = serving(log)
    await log.close()
    (reason,) = await health.unwell()
    assert "the log is closed" in reason


async def test_a_writer_that_hangs_is_not_well_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.05)

    async def never() -> None:
        await asyncio.Event().wait()

    health = Health(never)
    answers = await asyncio.gather(*(health.unwell() for _ in range(20)))
    assert all("has not answered" in reason for (reason,) in answers)
