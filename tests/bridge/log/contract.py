"""What every implementation of `bridge.log.Log` keeps; a test module gives it a `reopen` fixture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from bridge import wire
from bridge.log import Log, Record

Reopen = Callable[..., Awaitable[Log]]


def batch(
    *numbers: int, instance: str = "one", after: int | None = None, through: int | None = None
) -> wire.Batch:
    now = wire.utc_now()
    events = tuple(wire.Event(n, now, wire.ERROR, {"text": f"number {n}"}) for n in numbers)
    first = min(numbers, default=1) - 1 if after is None else after
    last = max(numbers, default=first) if through is None else through
    return wire.Batch(instance, first, last, events, now)


def said(records: Sequence[Record]) -> list[tuple[str, str, int]]:
    return [(r.machine, r.instance, r.seq) for r in records]


class LogContract:
    async def test_what_was_appended_is_there_after_reopening(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("m", batch(1, 2))
        log = await reopen()
        assert said(list(log.read(0))) == [("m", "one", 1), ("m", "one", 2)]

    async def test_an_event_that_comes_twice_is_kept_once(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("m", batch(1, 2))
        again = await log.append("m", batch(1, 2, 3))
        assert said(again.records) == [("m", "one", 3)]
        assert again.through == 3
        log = await reopen()
        assert (await log.append("m", batch(1, 2, 3))).records == ()
        assert [r.seq for r in log.read(0)] == [1, 2, 3]

    async def test_superseded_numbers_are_no_gap(self, reopen: Reopen) -> None:
        log = await reopen()
        first = await log.append("m", batch(4, after=0, through=6))
        assert (first.gap, first.first, first.through) == (False, True, 6)
        assert (await log.append("m", batch(9, after=6))).gap is False

    async def test_a_batch_beyond_what_is_here_is_a_gap_and_is_kept(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("m", batch(1))
        later = await log.append("m", batch(5, after=4))
        assert later.gap
        assert [r.seq for r in log.read(0)] == [1, 5]

    async def test_a_gap_that_the_plugin_can_fill_is_left_to_it(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("m", batch(1))
        later = await log.append("m", replace(batch(5, after=4), kept_from=3))
        assert (later.through, later.records, later.gap) == (1, (), False)
        filled = await log.append("m", replace(batch(3, 4, 5, after=2), kept_from=3))
        assert (filled.through, filled.gap) == (5, True)
        assert [r.seq for r in log.read(0)] == [1, 3, 4, 5]

    async def test_the_past_of_a_machine_never_heard_of_is_not_asked_for(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("other", batch(1))
        await log.append("m", batch(1, instance="bridge-noticed"))
        first = await log.append("m", replace(batch(5, after=4), kept_from=1))
        assert (first.through, first.gap, first.first) == (5, True, True)
        next_instance = await log.append("m", replace(batch(5, after=4, instance="two"), kept_from=1))
        assert (next_instance.through, next_instance.records) == (0, ())

    async def test_instances_and_machines_are_numbered_apart(self, reopen: Reopen) -> None:
        log = await reopen()
        await log.append("m", batch(1))
        assert (await log.append("m", batch(1, instance="two"))).first
        assert (await log.append("n", batch(1))).first
        assert len(list(log.read(0))) == 3

    async def test_a_consumer_reads_on_from_its_position(self, reopen: Reopen) -> None:
        log = await reopen()
        records = (await log.append("m", batch(1, 2, 3))).records
        assert [r.seq for r in log.read(records[0].position)] == [2, 3]

    async def test_a_checkpoint_is_what_was_saved_last(self, reopen: Reopen) -> None:
        log = await reopen()
        assert log.load_checkpoint("a") == (0, "")
        await log.save_checkpoint("a", 3, "three")
        await log.save_checkpoint("a", 4, "four")
        log = await reopen()
        assert log.load_checkpoint("a") == (4, "four")
        assert log.load_checkpoint("b") == (0, "")

    async def test_its_id_and_its_end_outlive_reopening_and_trimming(self, reopen: Reopen) -> None:
        log = await reopen()
        assert log.end == 0
        name, records = log.id, (await log.append("m", batch(1, 2))).records
        await log.trim(wire.utc_now() + timedelta(days=1), records[-1].position)
        log = await reopen()
        assert (log.id, log.end, list(log.read(0))) == (name, records[-1].position, [])
        assert len(name) >= 32
