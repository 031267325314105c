"""The queue between printer and bridge."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import tempfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge import wire
from octoprint_mesbridge.database import FORMAT, open_database
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.outbox import (
    BATCH_BYTES,
    JOBS,
    Backlog,
    Outbox,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def occurrence(kind: str, number: int = 0) -> Occurrence:
    data: dict[str, Any] = {
        wire.ERROR: {"text": f"{number}"},
        wire.STATE: {"state": "printing"},
        wire.PROGRESS: {"completion": number % 100},
        wire.HEATERS: {"heaters": {}},
        wire.JOB_STARTED: {"run": f"{number}", "file": "a", "started": wire.format_time(NOON)},
        wire.JOB_PAUSED: {"run": f"{number}"},
        wire.JOB_RESUMED: {"run": f"{number}"},
        wire.JOB_ENDED: {"run": f"{number}", "result": "completed"},
    }[kind]
    return Occurrence(NOON + timedelta(seconds=number), kind, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def seqs(batch: wire.Batch) -> list[int]:
    return [event.seq for event in batch.events]


def test_what_is_appended_is_the_next_batch_until_it_is_acknowledged(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1), occurrence(wire.ERROR, 2)])

    batch = outbox.next_batch()
    assert (batch.instance, batch.after, batch.through, seqs(batch)) == (outbox.name, 0, 2, [1, 2])
    assert [event.data["text"] for event in batch.events] == ["1", "2"]
    assert batch.events[1].time == NOON + timedelta(seconds=2)
    assert seqs(outbox.next_batch()) == [1, 2]

    outbox.acknowledge(outbox.name, 1)
    assert (outbox.next_batch().after, seqs(outbox.next_batch())) == (1, [2])
    outbox.acknowledge(outbox.name, 2)
    assert (outbox.next_batch().after, outbox.next_batch().through, seqs(outbox.next_batch())) == (2, 2, [])


def test_only_the_newest_sample_of_a_kind_waits_and_the_numbers_of_the_others_are_missing(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.PROGRESS, 1), occurrence(wire.ERROR, 2), occurrence(wire.HEATERS, 3)])
    outbox.append([occurrence(wire.PROGRESS, 4)])

    batch = outbox.next_batch()
    assert (seqs(batch), batch.through) == ([2, 3, 4], 4)
    assert outbox.superseded == {wire.PROGRESS: 1, wire.HEATERS: 0}


def test_a_sample_superseded_while_it_was_on_its_way_does_not_hold_up_the_acknowledgement(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.PROGRESS, 1)])
    sent = outbox.next_batch()
    outbox.append([occurrence(wire.PROGRESS, 2)])

    outbox.acknowledge(outbox.name, sent.through)
    assert (outbox.next_batch().after, seqs(outbox.next_batch())) == (1, [2])


def test_samples_are_not_written_to_disk(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    written = path.with_name("outbox.db-wal").stat()
    for number in range(50):
        outbox.append([occurrence(wire.HEATERS, number)])
        outbox.acknowledge(outbox.name, 0)
    after = path.with_name("outbox.db-wal").stat()
    assert (after.st_size, after.st_mtime_ns) == (written.st_size, written.st_mtime_ns)


def test_an_earlier_instance_is_delivered_first_and_under_its_own_name(path: Path) -> None:
    first = Outbox(path)
    first.append([occurrence(wire.ERROR, 1), occurrence(wire.ERROR, 2)])
    first.acknowledge(first.name, 1)
    first.close()
    second = Outbox(path)
    second.append([occurrence(wire.ERROR, 3)])

    batch = second.next_batch()
    assert (batch.instance, batch.after, batch.through, seqs(batch)) == (first.name, 0, 2, [2])
    second.acknowledge(first.name, 2)
    assert (second.next_batch().instance, seqs(second.next_batch())) == (second.name, [1])


def test_what_was_acknowledged_is_gone_from_the_file_with_the_next_event_or_at_the_end(path: Path) -> None:
    def stored() -> list[int]:
        return [row[0] for row in sqlite3.connect(path).execute("SELECT seq FROM events")]

    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1), occurrence(wire.ERROR, 2)])
    outbox.acknowledge(outbox.name, 1)
    assert (outbox.backlog().waiting, seqs(outbox.next_batch())) == (1, [2])
    outbox.append([occurrence(wire.ERROR, 3)])
    assert stored() == [2, 3]
    outbox.acknowledge(outbox.name, 3)
    outbox.close()
    assert stored() == []


def test_the_newest_acknowledged_event_is_remembered_and_the_oldest_waiting_one_known(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.last_acknowledged is None
    outbox.append([occurrence(wire.ERROR, 1), occurrence(wire.PROGRESS, 2), occurrence(wire.ERROR, 3)])
    assert outbox.backlog() == Backlog(3, wire.format_time(NOON + timedelta(seconds=1)))
    outbox.acknowledge(outbox.name, 2)
    two = {"seq": 2, "kind": wire.PROGRESS, "time": wire.format_time(NOON + timedelta(seconds=2))}
    assert outbox.last_acknowledged == two
    assert outbox.backlog() == Backlog(1, wire.format_time(NOON + timedelta(seconds=3)))
    outbox.acknowledge(outbox.name, 3)
    assert outbox.last_acknowledged["kind"] == wire.ERROR
    assert outbox.backlog() == Backlog(0, None)


def test_an_acknowledgement_of_what_was_never_sent_forgets_nothing_that_comes_after_it(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    outbox.acknowledge(outbox.name, 99)
    assert outbox.acked == 1
    outbox.append([occurrence(wire.ERROR, 2)])
    outbox.close()
    assert seqs(Outbox(path).next_batch()) == [2]


def test_several_earlier_instances_are_delivered_in_the_order_of_their_lives(path: Path) -> None:
    lives = []
    for number in range(4):
        lives.append(Outbox(path))
        lives[-1].append([occurrence(wire.ERROR, number)])
    delivered = []
    while lives[-1].backlog().waiting:
        batch = lives[-1].next_batch()
        delivered.append(batch.instance)
        lives[-1].acknowledge(batch.instance, batch.through)
    assert delivered == [life.name for life in lives]


def test_a_bridge_that_knows_more_than_it_was_sent_does_not_hold_up_what_follows(path: Path) -> None:
    """After a crash what was acknowledged is in the file again, and the bridge answers how far it is already."""
    many = 2 * wire.MAX_EVENTS + 10
    first = Outbox(path)
    first.append(occurrence(wire.ERROR, number) for number in range(many))
    second = Outbox(path)
    second.append([occurrence(wire.ERROR, 0)])
    assert second.next_batch().through == wire.MAX_EVENTS

    second.acknowledge(first.name, many)
    assert second.last_acknowledged is not None
    assert second.last_acknowledged["seq"] == many
    assert second.backlog().waiting == 1
    assert (second.next_batch().instance, seqs(second.next_batch())) == (second.name, [1])


def test_a_batch_stays_below_what_the_bridge_accepts(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([Occurrence(NOON, wire.ERROR, {"text": "x" * 2048}) for _ in range(1200)])
    arrived: list[int] = []
    while outbox.backlog().waiting:
        batch = outbox.next_batch()
        body = wire.encode_batch(batch)
        assert len(body) <= wire.MAX_BODY_BYTES
        assert wire.decode_batch(body).events == batch.events
        arrived += seqs(batch)
        outbox.acknowledge(batch.instance, batch.through)
    assert arrived == list(range(1, 1201))
    assert BATCH_BYTES < wire.MAX_BODY_BYTES


def test_what_the_disk_refuses_is_sent_from_memory_and_written_later(path: Path) -> None:
    outbox = Outbox(path)
    blocker = sqlite3.connect(path, isolation_level=None, timeout=0)
    outbox._database.execute("PRAGMA busy_timeout=0")
    blocker.execute("BEGIN IMMEDIATE")
    outbox.append([occurrence(wire.PROGRESS, 1), occurrence(wire.ERROR, 2), occurrence(wire.ERROR, 3)])
    assert outbox.storage() == {"full": False, "error": "database is locked"}
    assert seqs(outbox.next_batch()) == [1, 2, 3]
    assert outbox.backlog().oldest == wire.format_time(NOON + timedelta(seconds=2))
    outbox.acknowledge(outbox.name, 2)
    assert seqs(outbox.next_batch()) == [3]
    blocker.execute("ROLLBACK")

    outbox.save()
    assert outbox.storage() == {"full": False, "error": None}
    assert [event.data["text"] for event in Outbox(path).next_batch().events] == ["3"]


def test_a_disk_is_known_to_take_events_again_even_when_none_is_left_to_write(path: Path) -> None:
    outbox = Outbox(path)
    blocker = sqlite3.connect(path, isolation_level=None, timeout=0)
    outbox._database.execute("PRAGMA busy_timeout=0")
    blocker.execute("BEGIN IMMEDIATE")
    outbox.append([occurrence(wire.ERROR, 1)])
    outbox.acknowledge(outbox.name, 1)
    outbox.save()
    assert outbox.refusal is not None
    blocker.execute("ROLLBACK")
    outbox.save()
    assert outbox.refusal is None
    assert Outbox(path).backlog().waiting == 0


def test_memory_holds_only_so_much_of_what_the_disk_refuses_but_every_job_event(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_UNSAVED", 4)
    outbox = Outbox(path)
    blocker = sqlite3.connect(path, isolation_level=None, timeout=0)
    outbox._database.execute("PRAGMA busy_timeout=0")
    blocker.execute("BEGIN IMMEDIATE")
    outbox.append([occurrence(kind, n) for n, kind in enumerate([wire.ERROR, wire.JOB_PAUSED] * 3)])
    outbox.append([occurrence(wire.JOB_RESUMED, 6), occurrence(wire.ERROR, 7)])
    assert outbox.dropped == {wire.ERROR: 4}
    assert seqs(outbox.next_batch()) == [2, 4, 6, 7]
    outbox.append([occurrence(wire.JOB_ENDED, 8)])
    blocker.execute("ROLLBACK")
    outbox.save()
    kept = Outbox(path)
    assert (kept.next_batch().after, seqs(kept.next_batch())) == (0, [2, 4, 6, 7])
    kept.acknowledge(outbox.name, 7)
    assert (kept.next_batch().after, seqs(kept.next_batch())) == (8, [9])


def test_what_cannot_be_written_for_a_reason_nobody_foresaw_is_sent_once_and_written_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path)

    def odd(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("octoprint_mesbridge.outbox.transaction", odd)
        outbox.append([occurrence(wire.JOB_STARTED, 1)])
        outbox.append([occurrence(wire.JOB_ENDED, 2)])
        assert outbox.storage() == {"full": False, "error": "MemoryError"}
        assert seqs(outbox.next_batch()) == [1, 2]
    outbox.save()
    assert outbox.storage() == {"full": False, "error": None}
    assert seqs(Outbox(path).next_batch()) == seqs(outbox.next_batch()) == [1, 2]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_when_too_many_wait_the_oldest_but_job_events_go_counted_and_the_gap_shows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_WAITING", 10)
    first = Outbox(path)
    first.append([occurrence(wire.JOB_STARTED, 0), *(occurrence(wire.ERROR, n) for n in range(1, 4))])
    second = Outbox(path)
    for number in range(8):
        second.append([occurrence(wire.ERROR, number), occurrence(wire.PROGRESS, number)])
    assert second.dropped == {wire.ERROR: 2}
    batch = second.next_batch()
    assert (batch.instance, batch.after, batch.through, seqs(batch)) == (first.name, 0, 1, [1])
    second.acknowledge(first.name, 1)
    batch = second.next_batch()
    assert (batch.instance, batch.after, batch.through, seqs(batch)) == (first.name, 3, 4, [4])

    second.append([occurrence(wire.ERROR, number) for number in range(8, 14)])
    assert second.dropped == {wire.ERROR: 7}
    assert second.next_batch().instance == second.name, "nothing of the first one is left"
    batch = Outbox(path).next_batch()
    assert (batch.instance, batch.after) == (second.name, 7)
    assert [e.data["text"] for e in batch.events] == [str(n) for n in range(4, 14)]


def test_a_later_loss_of_older_events_does_not_hide_one_of_newer_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_WAITING", 10)
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_UNSAVED", 4)
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, number) for number in range(1, 9)])
    outbox._database.execute("PRAGMA query_only=1")
    outbox.append([occurrence(wire.ERROR, number) for number in range(9, 15)])
    outbox._database.execute("PRAGMA query_only=0")
    outbox.save()
    assert outbox.dropped == {wire.ERROR: 4}, "9 and 10 from memory, then 1 and 2 from the file"
    for told in (Outbox(path), outbox):
        batch = told.next_batch()
        assert (batch.after, batch.through, seqs(batch)) == (0, 8, [3, 4, 5, 6, 7, 8])
        told.acknowledge(outbox.name, 8)
        assert (told.next_batch().after, seqs(told.next_batch())) == (10, [11, 12, 13, 14])


def test_job_events_are_kept_however_many_they_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_WAITING", 10)
    outbox = Outbox(path)
    for number in range(50):
        outbox.append([occurrence(sorted(JOBS)[number % 4], number), occurrence(wire.ERROR, number)])
    assert set(outbox.dropped) == {wire.ERROR}
    arrived = [event.kind for batch in drained(outbox) for event in batch.events if event.kind in JOBS]
    assert arrived == [sorted(JOBS)[number % 4] for number in range(50)]


def drained(outbox: Outbox) -> list[wire.Batch]:
    """All batches until nothing waits, each as the bridge reads it."""
    batches = []
    while outbox.backlog().waiting:
        batches.append(wire.decode_batch(wire.encode_batch(outbox.next_batch())))
        outbox.acknowledge(batches[-1].instance, batches[-1].through)
    return batches


def test_a_file_of_another_format_is_moved_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sqlite3.connect(path, isolation_level=None).execute("CREATE TABLE events (of_another INTEGER)")
    outbox = Outbox(path, logging.getLogger("test"))
    outbox.append([occurrence(wire.ERROR, 1)])
    assert seqs(outbox.next_batch()) == [1]
    assert "another version of MESBridge" in caplog.text


def test_what_waits_in_a_file_of_0_1_0_is_delivered(path: Path) -> None:
    with sqlite3.connect(path, isolation_level=None) as old:
        old.executescript("""
            CREATE TABLE instances (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
                last INTEGER NOT NULL, acked INTEGER NOT NULL);
            CREATE TABLE events (instance INTEGER NOT NULL REFERENCES instances (id), seq INTEGER NOT NULL,
                time TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
                PRIMARY KEY (instance, seq)) WITHOUT ROWID;
            INSERT INTO instances VALUES (3, 'first', 9, 4), (7, 'second', 2, 0);
            INSERT INTO events VALUES (3, 6, '2026-01-01T00:00:00.000Z', 'error', '{"text": "a"}'),
                (3, 9, '2026-01-01T00:00:01.000Z', 'error', '{"text": "b"}'),
                (7, 2, '2026-01-01T00:00:02.000Z', 'error', '{"text": "c"}');
        """)
    old.close()
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    told = [(b.instance, b.after, b.through, [event.seq for event in b.events]) for b in drained(outbox)]
    assert told == [("first", 4, 9, [6, 9]), ("second", 0, 2, [2]), (outbox.name, 0, 1, [1])]
    outbox.close()
    assert Outbox(path).backlog().waiting == 0


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_moved_aside_said_and_replaced(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    outbox = Outbox(path, logging.getLogger("test"))
    outbox.append([occurrence(wire.ERROR, 1)])

    assert seqs(outbox.next_batch()) == [1]
    (aside,) = path.parent.glob("outbox.db.damaged-*")
    assert aside.read_bytes() == content
    assert "damaged" in caplog.text
    assert aside.name in caplog.text


def damage(path: Path) -> None:
    """Overwrite the database at `path`, which others may have open, so that whoever reads it next finds out."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA user_version={FORMAT}")  # else the others believe in what they have in memory
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    path.write_bytes(b"\xff" * path.stat().st_size)


def test_a_file_that_is_damaged_while_in_use_is_replaced_and_only_what_waited_in_it_is_missing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1), occurrence(wire.PROGRESS, 2), occurrence(wire.ERROR, 3)])
    damage(path)
    outbox.append([occurrence(wire.JOB_STARTED, 4)])

    assert outbox.storage() == {"full": False, "error": None}
    before, after = drained(outbox)
    assert (before.after, before.through, seqs(before)) == (0, 2, [2])
    assert (after.after, after.through, seqs(after)) == (3, 4, [4])
    (aside,) = path.parent.glob("outbox.db.damaged-*")
    assert aside.name in caplog.text
    assert seqs(Outbox(path).next_batch()) == [4]


def test_damage_that_is_found_in_reading_costs_neither_the_next_event_nor_the_reader_anything(
    path: Path,
) -> None:
    Outbox(path).append([occurrence(wire.ERROR, 0)])
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    damage(path)
    assert outbox.backlog() == Backlog(0, None)
    outbox.append([occurrence(wire.ERROR, 2)])
    damage(path)
    batch = outbox.next_batch()
    assert (batch.after, batch.through, seqs(batch)) == (2, 2, []), "the bridge sees that there is a gap"
    outbox.append([occurrence(wire.ERROR, 3)])
    damage(path)
    outbox.acknowledge(outbox.name, 2)
    outbox.append([occurrence(wire.ERROR, 4)])
    batch = outbox.next_batch()
    assert (batch.after, batch.through, seqs(batch)) == (3, 4, [4])
    assert outbox.storage() == {"full": False, "error": None}


SECOND_FAULTS = {
    "move_aside": OSError(errno.EROFS, "Read-only file system", "outbox.db"),
    "open_database": sqlite3.OperationalError("database or disk is full"),
}


@pytest.mark.parametrize("step", SECOND_FAULTS)
@pytest.mark.parametrize("at_start", [True, False])
def test_where_a_damaged_file_cannot_be_replaced_events_are_sent_from_memory_until_it_can_be(
    path: Path, step: str, at_start: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path)
    if at_start:
        outbox.close()
    damage(path)

    def fails(_: Path) -> Any:
        raise SECOND_FAULTS[step]

    with monkeypatch.context() as refusing:
        if at_start:  # the first attempt to open finds the damage
            attempts = iter([open_database])
            refusing.setattr("octoprint_mesbridge.outbox.open_database", lambda p: next(attempts, fails)(p))
            if step == "move_aside":
                refusing.setattr("octoprint_mesbridge.outbox.move_aside", fails)
            outbox = Outbox(path)
        else:
            refusing.setattr(f"octoprint_mesbridge.outbox.{step}", fails)
        outbox.append([occurrence(wire.JOB_STARTED, 1), occurrence(wire.PROGRESS, 2)])
        for _ in range(3):
            outbox.save()
        outbox.append([occurrence(wire.JOB_PAUSED, 3)])
        assert outbox.storage()["full"] == (step == "open_database")
        assert str(SECOND_FAULTS[step]) == outbox.storage()["error"]
        assert seqs(outbox.next_batch()) == [1, 2, 3]
        outbox.acknowledge(outbox.name, 1)
        assert outbox.backlog().waiting == 2

    outbox.save()
    assert outbox.storage() == {"full": False, "error": None}
    outbox.append([occurrence(wire.JOB_RESUMED, 4)])
    assert seqs(outbox.next_batch()) == [2, 3, 4]
    assert len(list(path.parent.glob("outbox.db.damaged-*"))) == 1
    assert caplog.text.count("is damaged") == 1
    assert seqs(Outbox(path).next_batch()) == [3, 4]


def test_a_folder_that_goes_with_its_damaged_file_and_comes_back_with_it_costs_no_further_event(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "outbox.db"
    path.parent.mkdir()
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    damage(path)
    path.parent.rename(tmp_path / "away")
    outbox.append([occurrence(wire.JOB_STARTED, 2)])
    outbox.save()
    assert outbox.refusal is not None
    assert seqs(outbox.next_batch()) == [2]
    (tmp_path / "away").rename(path.parent)
    outbox.save()
    assert outbox.refusal is None
    assert (Outbox(path).next_batch().after, seqs(Outbox(path).next_batch())) == (1, [2])


def test_a_damaged_file_that_a_person_has_removed_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(path)
    damage(path)
    with monkeypatch.context() as refusing:
        refusing.setattr(
            "octoprint_mesbridge.outbox.move_aside", lambda _: path.joinpath("in a file").touch()
        )
        outbox.append([occurrence(wire.ERROR, 1)])
        assert outbox.refusal is not None
        path.unlink()
        outbox.save()
    assert outbox.refusal is None
    assert seqs(Outbox(path).next_batch()) == [1]


def test_what_was_sent_from_memory_is_not_said_to_have_been_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_UNSAVED", 4)
    outbox = Outbox(path)
    outbox._database.execute("PRAGMA query_only=1")
    for number in range(1, 10):
        outbox.append([occurrence(wire.ERROR, number)])
        outbox.acknowledge(outbox.name, number)
    assert outbox.refusal is not None
    assert outbox.dropped == {}
    assert outbox.next_batch().after == 9


@pytest.mark.skipif(os.name != "posix", reason="there are no permissions")
def test_nobody_but_the_owner_can_read_the_file_or_those_beside_it(path: Path) -> None:
    def modes() -> set[int]:
        return {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    umask = os.umask(0)
    try:
        outbox = Outbox(path)
        outbox.append([occurrence(wire.ERROR, 1)])
        assert len(list(path.parent.iterdir())) == 3
        assert modes() == {0o600}
        path.with_name("outbox.db.damaged-1").touch()
        for file in path.parent.iterdir():
            file.chmod(0o644)
        Outbox(path).append([occurrence(wire.ERROR, 2)])
        assert modes() == {0o600}
        damage(path)
        outbox.append([occurrence(wire.ERROR, 3)])
        assert len(list(path.parent.iterdir())) == 5
        assert modes() == {0o600}
    finally:
        os.umask(umask)


def test_closing_twice_or_asking_afterwards_how_much_waits_does_no_harm(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1), occurrence(wire.ERROR, 2)])
    outbox.acknowledge(outbox.name, 1)
    outbox.close()
    outbox.close()
    assert outbox.backlog() == Backlog(1, None)
    assert not path.with_name("outbox.db-wal").exists()
    assert seqs(Outbox(path).next_batch()) == [2]


def test_a_database_that_cannot_be_opened_at_first_is_left_where_it_is_and_used_later(path: Path) -> None:
    path.mkdir()
    outbox = Outbox(path)
    assert "unable to open" in outbox.storage()["error"]
    outbox.append([occurrence(wire.JOB_STARTED, 1)])
    assert path.is_dir()
    assert seqs(outbox.next_batch()) == [1]
    path.rmdir()
    outbox.save()
    assert outbox.storage() == {"full": False, "error": None}
    assert not outbox.has_late
    assert seqs(Outbox(path).next_batch()) == [1]


@pytest.mark.parametrize("refusal", [sqlite3.OperationalError("disk is full"), OSError(errno.ENOSPC, "full")])
def test_what_waits_in_a_file_that_a_full_disk_kept_shut_is_delivered_later_and_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    before = Outbox(path)
    before.append([occurrence(wire.JOB_STARTED, 1)])
    before.close()

    def refuse(_: Path) -> sqlite3.Connection:
        raise refusal

    with monkeypatch.context() as full:
        full.setattr("octoprint_mesbridge.outbox.open_database", refuse)
        outbox = Outbox(path)
        assert outbox.storage()["full"]
        outbox.append([occurrence(wire.JOB_STARTED, 2)])
        assert outbox.next_batch().instance == outbox.name
    outbox.save()
    assert outbox.has_late
    assert outbox.next_batch().instance == outbox.name, "the bridge would take it for the present"
    assert outbox.backlog().waiting == 2
    outbox.release_late()
    batch = outbox.next_batch()
    assert (batch.instance, seqs(batch)) == (before.name, [1])
    outbox.acknowledge(before.name, 1)
    assert (outbox.next_batch().instance, seqs(outbox.next_batch())) == (outbox.name, [1])


@pytest.mark.parametrize(
    "worn",
    [
        "data = substr(data, 2)",
        "data = '[]'",
        "data = CAST(x'7bff' AS TEXT)",
        "data = CAST(data AS BLOB)",
        "kind = CAST(kind AS BLOB)",
        "data = 7",
        "time = 'noon'",
        "time = x'00'",
        "kind = 'job_statted'",
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_an_event_that_cannot_be_read_holds_up_no_other_is_counted_and_shows_as_a_gap(
    path: Path, caplog: pytest.LogCaptureFixture, worn: str, earlier: bool
) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.JOB_STARTED, n) for n in (1, 2, 3)])
    with sqlite3.connect(path) as worn_card:
        worn_card.execute(f"UPDATE events SET {worn} WHERE seq = 2")
    worn_card.close()
    name = outbox.name
    if earlier:
        outbox.close()
        outbox = Outbox(path)
    assert outbox.backlog().waiting == 3
    before, after = outbox.next_batch(), None
    outbox.acknowledge(name, before.through)
    after = outbox.next_batch()
    assert [(one.instance, one.after, one.through, seqs(one)) for one in (before, after)] == [
        (name, 0, 1, [1]),
        (name, 2, 3, [3]),
    ]
    kind = "unreadable" if worn.startswith("kind") else wire.JOB_STARTED
    assert outbox.dropped == {kind: 1}
    assert "event 2 (" in caplog.text
    assert outbox.backlog().waiting == 1


KINDS = [wire.ERROR, wire.STATE, wire.JOB_STARTED, wire.JOB_ENDED, wire.PROGRESS, wire.HEATERS]


class AnyOrder(RuleBasedStateMachine):
    """Append, send, acknowledge, lose replies, fill the disk, damage the file and crash in any order.

    Before a bridge that keeps all, what arrives is in order, once, and complete but for samples and for what
    `dropped` counts. Job events are lost in two ways only: with a file that is damaged, and when OctoPrint
    crashes while the disk refuses them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limits = pytest.MonkeyPatch()
        self.limits.setattr("octoprint_mesbridge.outbox.MAX_WAITING", 12)
        self.limits.setattr("octoprint_mesbridge.outbox.MAX_UNSAVED", 5)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "data", "outbox.db")
        self.path.parent.mkdir()
        self.away = Path(self.folder.name, "away")
        self.outboxes: list[Outbox] = []
        self.dropped: Counter[str] = Counter()
        self.appended: list[tuple[str, str, int]] = []  # (instance, kind, number), in order
        self.unsaved: set[int] = set()
        self.held: dict[str, int] = {}
        self.gaps: set[str] = set()
        self.arrived: list[tuple[str, int, str, int]] = []  # (instance, seq, kind, number)
        self.on_the_way: list[tuple[str, int]] = []
        self.count = 0
        self.full = False
        self.damaged = False
        self._start()

    def _start(self) -> None:
        self.outbox = Outbox(self.path)
        self.outboxes.append(self.outbox)

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    def append(self, kinds: list[str]) -> None:
        batch = []
        for kind in kinds:
            self.count += 1
            batch.append(occurrence(kind, self.count))
            self.appended.append((self.outbox.name, kind, self.count))
            if self.full:
                self.unsaved.add(self.count)
        self.outbox.append(batch)
        assert (self.outbox.refusal is not None) >= (self.full and not wire.COALESCED.issuperset(kinds))

    @rule(reply_arrives=st.booleans())
    def push(self, reply_arrives: bool) -> None:
        batch = wire.decode_batch(wire.encode_batch(self.outbox.next_batch()))
        held = self.held.get(batch.instance, 0)
        if batch.after > held:
            self.gaps.add(batch.instance)
            assert self.damaged or self.dropped + self.outbox.dropped, (
                "the bridge sees a gap where nothing is missing"
            )
        for event in batch.events:
            if event.seq > held:
                number = round((event.time - NOON).total_seconds())
                self.arrived.append((batch.instance, event.seq, event.kind, number))
        self.held[batch.instance] = max(held, batch.through)
        if reply_arrives:
            self.outbox.acknowledge(batch.instance, self.held[batch.instance])
        else:
            self.on_the_way.append((batch.instance, self.held[batch.instance]))

    @precondition(lambda self: self.on_the_way)
    @rule()
    def a_reply_arrives_late(self) -> None:
        self.outbox.acknowledge(*self.on_the_way.pop(0))

    @precondition(lambda self: not self.full)
    @rule()
    def the_disk_is_full(self) -> None:
        self.full = True
        self.outbox._database.execute("PRAGMA query_only=1")

    @precondition(lambda self: self.full)
    @rule()
    def the_disk_has_room(self) -> None:
        self._make_room()
        self.outbox.save()
        assert self.outbox.refusal is None
        self.unsaved.clear()

    def _make_room(self) -> None:
        self.full = False
        if self.away.exists():
            self.away.rename(self.path.parent)
        else:
            self.outbox._database.execute("PRAGMA query_only=0")

    @precondition(lambda self: not self.full)
    @rule(folder_goes=st.booleans())
    def the_file_is_damaged(self, folder_goes: bool) -> None:
        damage(self.path)
        self.damaged = True
        here = {number for _, _, _, number in self.arrived}
        self.appended = [one for one in self.appended if one[2] in here or one[1] in wire.COALESCED]
        if folder_goes:
            self.full = True
            self.path.parent.rename(self.away)
        self.append([wire.STATE])  # which finds out

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        if orderly:
            self.outbox.close()
        self.dropped += self.outbox.dropped
        waiting = {number for _, _, _, number in self.arrived}
        lost = self.unsaved - waiting if self.outbox.refusal is not None else set()
        self.appended = [one for one in self.appended if one[2] not in lost]
        self.unsaved.clear()
        self.full = False
        if self.away.exists():
            self.away.rename(self.path.parent)
        self._start()

    @rule()
    def drain(self) -> None:
        while self.outbox.backlog().waiting:
            self.push(reply_arrives=True)
        missing = Counter(kind for _, kind, _ in self.appended) - Counter(
            kind for _, _, kind, _ in self.arrived
        )
        for kind in wire.COALESCED:
            del missing[kind]
        assert not missing - (self.dropped + self.outbox.dropped)
        newest = {kind: n for i, kind, n in self.appended if i == self.outbox.name and kind in wire.COALESCED}
        arrived = {k: n for i, _, k, n in self.arrived if i == self.outbox.name and k in wire.COALESCED}
        assert arrived == newest, "the newest sample of each kind is not missing"

    @invariant()
    def everything_arrives_in_order_and_once(self) -> None:
        numbers = [number for _, _, _, number in self.arrived]
        assert numbers == sorted(set(numbers))
        jobs = [n for _, kind, n in self.appended if kind in JOBS]
        arrived = [n for _, _, kind, n in self.arrived if kind in JOBS]
        assert arrived == jobs[: len(arrived)], "no job event is ever skipped"
        assert not JOBS & self.outbox.dropped.keys()

    def teardown(self) -> None:
        for outbox in self.outboxes:
            outbox.close()
        self.folder.cleanup()
        self.limits.undo()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
