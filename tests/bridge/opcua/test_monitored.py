"""Queues of monitored items, in whatever order values come and are taken."""

from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from hypothesis import given
from hypothesis import strategies as st

from bridge.opcua.changes import Change
from bridge.opcua.monitored import DataItem

OVERFLOW = 0x480
WRITE = st.tuples(st.just("write"), st.integers(0, 3), st.sampled_from([0, 0x40000000, 0x80310000]))
TAKE = st.tuples(st.just("take"), st.integers(1, 4), st.just(0))
STEPS = st.lists(st.one_of(WRITE, WRITE, TAKE), max_size=40)


def item_of(size: int, discard_oldest: bool, ready: list[Any]) -> DataItem:
    request = ua.MonitoredItemCreateRequest(MonitoringMode=ua.MonitoringMode.Reporting)
    item = DataItem(1, request, ready.append)
    item.resize(7, size, discard_oldest)
    return item


def decoded(encoded: bytes) -> tuple[Any, int]:
    value = ua_binary.struct_from_binary(ua.DataValue, Buffer(encoded))
    status = 0 if value.StatusCode is None else value.StatusCode.value
    return (None if value.Value is None else value.Value.Value), status


def change(value: int, status: int) -> Change:
    return Change(
        ua_binary.variant_to_binary(ua.Variant(float(value), ua.VariantType.Double)), status, 10**17
    )


def seen(value: int, status: int) -> tuple[Any, int]:
    """What a client sees of it: nothing of a value that is Bad."""
    return (None if status & 0x80000000 else float(value)), status


@given(STEPS)
def test_with_room_each_change_is_told_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    ready: list[Any] = []
    item = item_of(1000, True, ready)
    told: list[tuple[Any, int]] = []
    expected: list[tuple[Any, int]] = []
    for what, number, status in steps:
        if what == "take":
            told += map(decoded, item.take(number))
            continue
        item.push(change(number, status))
        if not expected or expected[-1] != seen(number, status):
            expected.append(seen(number, status))
    told += map(decoded, item.take(1000))
    assert told == expected
    assert bool(ready) == bool(expected)
    assert not item.reports


@given(STEPS, st.integers(1, 4), st.booleans())
def test_a_short_queue_ends_with_the_newest_and_says_once_that_others_were_lost(
    steps: list[tuple[str, int, int]], size: int, discard_oldest: bool
) -> None:
    item = item_of(size, discard_oldest, [])
    queue: list[tuple[Any, int]] = []
    lost = False
    last: tuple[Any, int] | None = None
    for what, number, status in [*steps, ("take", 1000, 0)]:
        if what == "write":
            item.push(change(number, status))
            if seen(number, status) != last:
                last = seen(number, status)
                if len(queue) == size:
                    queue.pop(0 if discard_oldest else -1)
                    lost = True
                queue.append(last)
            continue
        told = list(map(decoded, item.take(number)))
        marked = [index for index, (_, code) in enumerate(told) if code & OVERFLOW == OVERFLOW]
        assert [(value, code & ~OVERFLOW) for value, code in told] == queue[:number]
        del queue[:number]
        if lost and told and size > 1 and (discard_oldest or not queue):
            assert marked == [0 if discard_oldest else len(told) - 1]
            lost = False
        else:
            assert marked == []
        lost = lost and bool(queue)
