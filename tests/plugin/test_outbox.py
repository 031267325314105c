"""The queue between printer and bridge."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge import wire
from octoprint_mesbridge.outbox import BATCH_BYTES, Occurrence, Outbox, open_or_replace

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def occurrence(kind: str, number: int = 0) -> Occurrence:
    data: dict[str, Any] = {
        wire.ERROR: {"text": f"{number}"},
        wire.PROGRESS: {"completion": number % 100},
        wire.HEATERS: {"heaters": {}},
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
    second = Outbox(path)  # the first was not closed: a crash
    second.append([occurrence(wire.ERROR, 3)])

    batch = second.next_batch()
    assert (batch.instance, batch.after, batch.through, seqs(batch)) == (first.name, 1, 2, [2])
    second.acknowledge(first.name, 2)
    assert (second.next_batch().instance, seqs(second.next_batch())) == (second.name, [1])


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


def test_a_failed_write_keeps_the_numbers_so_that_it_can_be_tried_again(path: Path) -> None:
    outbox = Outbox(path)
    blocker = sqlite3.connect(path, isolation_level=None, timeout=0)
    outbox._database.execute("PRAGMA busy_timeout=0")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        outbox.append([occurrence(wire.PROGRESS, 1), occurrence(wire.ERROR, 2)])
    assert outbox.backlog().waiting == 0
    blocker.execute("ROLLBACK")

    outbox.append([occurrence(wire.PROGRESS, 1), occurrence(wire.ERROR, 2)])
    assert seqs(outbox.next_batch()) == [1, 2]


def test_when_too_many_wait_the_oldest_go_counted_and_the_gap_shows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.outbox.MAX_WAITING", 10)
    first = Outbox(path)
    first.append([occurrence(wire.ERROR, number) for number in range(4)])
    second = Outbox(path)
    for number in range(8):
        second.append([occurrence(wire.ERROR, number), occurrence(wire.PROGRESS, number)])
    assert second.dropped == {wire.ERROR: 2}
    assert (second.next_batch().instance, second.next_batch().after) == (first.name, 2)

    second.append([occurrence(wire.ERROR, number) for number in range(8, 14)])
    batch = second.next_batch()
    assert second.dropped == {wire.ERROR: 8}
    assert (batch.instance, batch.after) == (second.name, 7)
    assert [e.data["text"] for e in batch.events if e.kind == wire.ERROR] == [str(n) for n in range(4, 14)]
    assert Outbox(path).next_batch().after == 7


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_moved_aside_said_and_replaced(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    outbox = open_or_replace(path, logging.getLogger("test"))
    outbox.append([occurrence(wire.ERROR, 1)])

    assert seqs(outbox.next_batch()) == [1]
    (aside,) = path.parent.glob("outbox.db.damaged-*")
    assert aside.read_bytes() == content
    assert "damaged" in caplog.text
    assert aside.name in caplog.text


def test_a_file_that_is_damaged_while_in_use_is_replaced_by_a_new_instance(path: Path) -> None:
    outbox = Outbox(path)
    outbox.append([occurrence(wire.ERROR, 1)])
    old = outbox.name
    for name in ("outbox.db", "outbox.db-wal"):
        path.with_name(name).write_bytes(b"\xff" * 50_000)

    aside = outbox.begin_afresh()
    outbox.append([occurrence(wire.ERROR, 2)])
    batch = outbox.next_batch()
    assert (batch.instance != old, batch.after, seqs(batch)) == (True, 0, [1])
    assert path.with_name(aside).exists()
    outbox.acknowledge(old, 1)  # an answer that was on its way
    assert seqs(outbox.next_batch()) == [1]


def test_a_database_that_cannot_be_opened_is_left_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "outbox.db"
    folder.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        open_or_replace(folder, logging.getLogger("test"))
    assert folder.is_dir()


class AnyOrder(RuleBasedStateMachine):
    """Append, send, acknowledge, lose replies and crash in any order, against a bridge that keeps everything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "outbox.db")
        self.outbox = Outbox(self.path)
        self.crashed: list[Outbox] = []
        self.appended: list[tuple[str, str, int]] = []  # (instance, kind, number), in order
        self.held: dict[str, int] = {}
        self.arrived: list[tuple[str, int, str, int]] = []  # (instance, seq, kind, number)
        self.count = 0

    @rule(kinds=st.lists(st.sampled_from([wire.ERROR, wire.PROGRESS, wire.HEATERS]), min_size=1, max_size=5))
    def append(self, kinds: list[str]) -> None:
        batch = []
        for kind in kinds:
            self.count += 1
            batch.append(occurrence(kind, self.count))
            self.appended.append((self.outbox.name, kind, self.count))
        self.outbox.append(batch)

    @rule(reply_arrives=st.booleans())
    def push(self, reply_arrives: bool) -> None:
        batch = wire.decode_batch(wire.encode_batch(self.outbox.next_batch()))
        held = self.held.get(batch.instance, 0)
        assert batch.after <= held, "the bridge would see a gap where nothing is missing"
        for event in batch.events:
            if event.seq > held:
                number = round((event.time - NOON).total_seconds())
                self.arrived.append((batch.instance, event.seq, event.kind, number))
        self.held[batch.instance] = max(held, batch.through)
        if reply_arrives:
            self.outbox.acknowledge(batch.instance, self.held[batch.instance])

    @rule()
    def crash(self) -> None:
        self.crashed.append(self.outbox)  # not closed, as after kill -9
        self.outbox = Outbox(self.path)

    @precondition(lambda self: self.outbox.backlog().waiting)
    @rule()
    def drain(self) -> None:
        while self.outbox.backlog().waiting:
            self.push(reply_arrives=True)
        durable = [one for one in self.appended if one[1] == wire.ERROR]
        assert [(i, k, n) for i, _, k, n in self.arrived if k == wire.ERROR] == durable
        newest = {kind: n for i, kind, n in self.appended if i == self.outbox.name}
        arrived = {kind: n for i, _, kind, n in self.arrived if i == self.outbox.name}
        assert arrived == newest, "the newest sample of each kind is not missing"

    @invariant()
    def everything_arrives_in_order_and_once(self) -> None:
        numbers = [number for _, _, _, number in self.arrived]
        assert numbers == sorted(set(numbers))
        durable = [n for _, kind, n in self.appended if kind == wire.ERROR]
        arrived = [n for _, _, kind, n in self.arrived if kind == wire.ERROR]
        assert arrived == durable[: len(arrived)], "nothing but samples is ever skipped"

    def teardown(self) -> None:
        for outbox in (*self.crashed, self.outbox):
            outbox.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
