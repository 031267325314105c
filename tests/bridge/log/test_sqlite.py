from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import wire
from bridge.log import LogError, Record
from bridge.log.sqlite import _MOST_INSTANCES, LAYOUT, SqliteLog
from tests.bridge.log.contract import LogContract, Reopen, batch


@pytest.fixture
async def reopen(tmp_path: Path) -> AsyncIterator[Reopen]:
    opened: list[SqliteLog] = []

    async def again(listener=lambda records: None) -> SqliteLog:
        if opened:
            await opened[-1].close()
        opened.append(SqliteLog(tmp_path / "log.sqlite", listener))
        return opened[-1]

    yield again
    await opened[-1].close()


class TestSqliteLog(LogContract):
    async def test_the_listener_hears_records_in_order_before_the_append_returns(
        self, reopen: Reopen
    ) -> None:
        heard: list[Record] = []
        log = await reopen(heard.extend)

        async def append(machine: str) -> None:
            for n in range(1, 30):
                appended = await log.append(machine, batch(n))
                assert heard[-1].position >= appended.records[-1].position

        await asyncio.gather(*(append(f"m{k}") for k in range(8)))
        assert [r.position for r in heard] == sorted(r.position for r in heard)
        assert heard == list(log.read(0))

    async def test_the_file_is_readable_by_its_owner_only(self, reopen: Reopen, tmp_path: Path) -> None:
        log = await reopen()
        await log.append("m", batch(1))
        assert {oct(p.stat().st_mode & 0o077) for p in tmp_path.iterdir()} == {"0o0"}

    async def test_trimming_forgets_only_what_is_old_and_consumed(self, reopen: Reopen) -> None:
        log = await reopen()
        records = (await log.append("m", batch(1, 2, 3))).records
        assert await log.trim(wire.utc_now() - timedelta(days=1), records[-1].position) == 0
        assert await log.trim(wire.utc_now() + timedelta(days=1), records[1].position) == 2
        assert [r.seq for r in log.read(0)] == [3]
        assert (await log.append("m", batch(1, 2, 3))).records == ()

    async def test_samples_are_forgotten_once_consumed_and_a_clock_that_is_ahead_keeps_nothing(
        self, reopen: Reopen
    ) -> None:
        log = await reopen()
        ahead = wire.utc_now() + timedelta(days=3650)
        events = [
            (wire.HEATERS, {"heaters": {}}),
            (wire.ERROR, {"text": "x"}),
            (wire.HEATERS, {"heaters": {}}),
        ]
        numbered = tuple(wire.Event(n, ahead, kind, data) for n, (kind, data) in enumerate(events, 1))
        records = (await log.append("m", wire.Batch("one", 0, 3, numbered, ahead))).records
        assert await log.trim(wire.utc_now() - timedelta(days=1), records[1].position) == 1
        assert [r.seq for r in log.read(0)] == [2, 3]
        assert await log.trim(wire.utc_now() + timedelta(days=1), records[2].position) == 2
        assert log.end == records[2].position

    async def test_an_unexpected_failure_is_told_to_who_waits_and_the_log_goes_on(
        self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = await reopen()
        with monkeypatch.context() as broken, capture_logs() as said:
            broken.setattr("bridge.log.sqlite._append", lambda *_: 1 / 0)
            with pytest.raises(LogError, match="division by zero"):
                await log.append("m", batch(1))
        assert said[0]["log_level"] == "error"
        assert (await log.append("m", batch(1))).through == 1

    async def test_a_listener_that_fails_keeps_nobody_waiting(self, reopen: Reopen) -> None:
        def fail(records: object) -> None:
            raise RuntimeError("a test says so")

        log = await reopen(fail)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        assert (await asyncio.wait_for(log.append("m", batch(1)), 10)).through == 1

    async def test_appending_after_close_is_an_error_not_a_hang(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.close()
        with pytest.raises(LogError, match="closed"):
            await log.append("m", batch(1))


async def test_a_store_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"log\.sqlite: the log cannot be used.*check that"):
        SqliteLog(tmp_path / "missing" / "log.sqlite", lambda records: None)


async def test_a_failing_disk_fails_the_append_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, lambda records: None)
    await log.append("m", batch(1))
    with sqlite3.connect(path) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(LogError, match="disk full"):
        await log.append("m", batch(2))
    with sqlite3.connect(path) as other:
        other.execute("DROP TRIGGER full")
    assert (await log.append("m", batch(2))).gap is False
    assert [r.seq for r in log.read(0)] == [1, 2]
    await log.close()


async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database, but somebody's" * 100)
    with pytest.raises(LogError, match="damaged"):
        SqliteLog(path, lambda records: None)
    assert path.read_bytes() == b"not a database, but somebody's" * 100


async def test_damage_that_shows_while_reading_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, lambda records: None)
    await log.close()
    path.write_bytes(b"not a database, but somebody's" * 100)
    for read in (lambda: list(log.read(0)), lambda: log.load_checkpoint("a"), lambda: log.end):
        with pytest.raises(LogError, match="damaged"):
            read()


async def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LogError, match="another version"):
        SqliteLog(path, lambda records: None)


WRITER = """
import asyncio, sys
from pathlib import Path
from bridge.log.sqlite import SqliteLog
from tests.bridge.log.contract import batch
async def main():
    log = SqliteLog(Path(sys.argv[1]), lambda records: None)
    n = 0
    while True:
        n += 1
        print((await log.append("m", batch(n))).through, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 200])
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "log.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(acknowledged):
            last = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        last = int(rest[-1]) if rest and rest[-1].isdigit() else last
    log = SqliteLog(path, lambda records: None)
    kept = [r.seq for r in log.read(0)]
    await log.close()
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) >= last


async def fill(log: SqliteLog, count: int, size: int = 2000) -> int:
    """Append so many events of about `size` bytes; returns the last position."""
    now = wire.utc_now()
    for first in range(1, count + 1, 100):
        events = tuple(
            wire.Event(n, now, wire.ERROR, {"text": "x" * size}) for n in range(first, first + 100)
        )
        appended = await log.append("m", wire.Batch("one", first - 1, first + 99, events, now))
    return appended.records[-1].position


async def test_above_its_size_the_oldest_that_all_have_go_first_and_the_file_gets_smaller(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, lambda records: None)
    last = await fill(log, 8000)
    long_ago, limit = wire.utc_now() - timedelta(days=1), 8 * 2**20
    assert path.stat().st_size + log.size[1] > 2 * limit
    assert await log.trim(long_ago, 100, limit) == 100  # no sink has more
    assert await log.trim(long_ago, last, limit) > 3000
    kept = [r.seq for r in log.read(0)]
    assert kept == list(range(kept[0], 8001))  # the newest, without a hole
    assert len(kept) > 800  # of some 1800 for which there is room: no more than a step too many is forgotten
    await log.close()
    assert path.stat().st_size <= limit
    assert not path.with_name("log.sqlite-wal").exists()
    log = SqliteLog(path, lambda records: None)
    assert log.end == last
    assert (await log.append("m", batch(1))).records == ()  # forgotten, and still known to have come
    await log.close()


def instances(path: Path, machine: str) -> list[str]:
    with closing(sqlite3.connect(path)) as other:
        rows = other.execute("SELECT instance FROM source WHERE machine = ? ORDER BY heard", (machine,))
        return [row[0] for row in rows]


async def test_instances_without_end_neither_fill_the_file_nor_cost_others_their_records(
    tmp_path: Path,
) -> None:
    path, now, limit = tmp_path / "log.sqlite", wire.utc_now(), 2 * 2**20
    log = SqliteLog(path, lambda records: None)
    await log.append("other", batch(1, 2))
    for first in range(0, 20_000, 2000):
        names = [f"{number:064d}" for number in range(first, first + 2000)]
        await asyncio.gather(*(log.append("m", wire.Batch(name, 0, 0, (), now)) for name in names))
    assert await log.trim(now - timedelta(days=1), log.end, limit) == 0
    assert [record.machine for record in log.read(0)] == ["other", "other"]
    kept = instances(path, "m")
    assert (len(kept), kept[-1]) == (_MOST_INSTANCES, names[-1])
    assert (await log.append("other", batch(1, 2))).records == ()
    await log.close()
    assert path.stat().st_size < limit


async def test_an_instance_with_records_is_remembered_however_many_came_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.log.sqlite._MOST_INSTANCES", 5)
    monkeypatch.setattr("bridge.log.sqlite._TRIM_CHUNK", 3)
    path, yesterday = tmp_path / "log.sqlite", wire.utc_now() - timedelta(days=1)
    log = SqliteLog(path, lambda records: None)
    names = [f"n{number}" for number in range(20)]
    records = [(await log.append("m", batch(1, 2, instance=name))).records[-1] for name in names]
    await log.append("m", batch(3, instance="n0"))  # it was not gone
    assert await log.trim(yesterday, log.end) == 0
    for name in names:
        assert (await log.append("m", batch(1, 2, instance=name))).records == ()
    assert await log.trim(wire.utc_now() + timedelta(days=1), records[9].position) == 20
    assert instances(path, "m") == [*names[10:], "n0"]
    assert await log.trim(wire.utc_now() + timedelta(days=1), log.end) == 21
    assert instances(path, "m") == [*names[16:], "n0"]
    assert (await log.append("m", batch(3, 4, instance="n0", after=2))).records[0].seq == 4
    await log.close()


async def test_a_file_that_cannot_give_pages_back_fills_again_instead_of_growing(tmp_path: Path) -> None:
    path = released_log(tmp_path)
    log = SqliteLog(path, lambda records: None)
    last = await fill(log, 3000)
    await log.trim(wire.utc_now() + timedelta(days=1), last)
    await log.close()
    before = path.stat().st_size
    log = SqliteLog(path, lambda records: None)
    now = wire.utc_now()
    for first in range(3001, 5001, 100):
        events = tuple(
            wire.Event(n, now, wire.ERROR, {"text": "x" * 2000}) for n in range(first, first + 100)
        )
        await log.append("m", wire.Batch("one", first - 1, first + 99, events, now))
    await log.close()
    assert path.stat().st_size <= before


async def test_appends_go_on_between_the_steps_of_a_trim(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", lambda records: None)
    last = await fill(log, 8000, 100)
    trimming = asyncio.create_task(log.trim(wire.utc_now() + timedelta(days=1), last))
    number = 0
    while not trimming.done():
        number += 1
        await log.append("other", batch(number))
    assert await trimming == 8000
    assert number > 8  # one for each step at least
    assert [r.machine for r in log.read(0)] == ["other"] * number
    await log.close()


RELEASED_1 = """
CREATE TABLE log (id TEXT NOT NULL);
INSERT INTO log VALUES ('0123456789abcdef0123456789abcdef');
CREATE TABLE mark (time TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE record (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL, instance TEXT NOT NULL, seq INTEGER NOT NULL,
    time TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE source (
    machine TEXT NOT NULL, instance TEXT NOT NULL, through INTEGER NOT NULL,
    PRIMARY KEY (machine, instance)) WITHOUT ROWID;
CREATE TABLE checkpoint (
    consumer TEXT PRIMARY KEY, position INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO record VALUES (7, 'm', 'old', 3, '2026-01-02T03:04:05.000000Z', 'error', '{"text":"x"}');
INSERT INTO source VALUES ('m', 'old', 3);
INSERT INTO checkpoint VALUES ('machines', 7, '');
PRAGMA user_version = 1;
"""
"""A log as version 0.2.0 wrote it; not made from the code of today, so that a change of that is noticed."""


def released_log(folder: Path) -> Path:
    path = folder / "log.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(RELEASED_1)
    return path


async def test_a_log_that_the_released_version_wrote_goes_on(tmp_path: Path) -> None:
    log = SqliteLog(released_log(tmp_path), lambda records: None)
    assert (log.id, log.end, log.load_checkpoint("machines")) == (
        "0123456789abcdef0123456789abcdef",
        7,
        (7, ""),
    )
    assert [(r.position, r.seq, r.data) for r in log.read(0)] == [(7, 3, {"text": "x"})]
    appended = await log.append("m", batch(3, 4, instance="old"))
    assert [(r.position, r.seq) for r in appended.records] == [(8, 4)]
    assert instances(tmp_path / "log.sqlite", "m") == ["old"]
    await log.close()


async def test_a_log_of_a_newer_layout_is_refused_without_a_byte_changed(tmp_path: Path) -> None:
    path = released_log(tmp_path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {LAYOUT + 1}")
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(LogError, match=f"layout {LAYOUT + 1}, this one has {LAYOUT}"):
        SqliteLog(path, lambda records: None)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
