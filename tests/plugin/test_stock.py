"""What is told of files and spools, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from octoprint_mesbridge.printables import Printable, files_record
from octoprint_mesbridge.stock import Stock

from .test_observer import NOON

SELECTED = "plugin_spoolmanager_spool_selected"
WEIGHED = "plugin_spoolmanager_spool_weight_updated_after_print"


class Shelf:
    """`stock.Supplies` that a test fills."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.selections: dict[str, Any] = {}
        self.reads = 0
        self.threads: set[str] = set()
        self.takes_s = 0.0
        self.fault: Exception | None = None

    def files(self) -> dict[str, Any]:
        self.reads += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(self.takes_s)
        if self.fault:
            raise self.fault
        return files_record((Printable(0.0, path, 1), None) for path in self.paths)

    def spool_settings(self) -> Mapping[str, Any]:
        return self.selections


def looked(stock: Stock) -> dict[str, Any]:
    told = [one for kind in stock.stale for one in stock.look(kind, NOON)]
    return {one.kind: wire.PAYLOADS[one.kind](one.data, one.kind) for one in told}


def spool(remaining: float, identifier: int = 7) -> dict[str, Any]:
    return {
        "toolId": 0,
        "databaseId": identifier,
        "spoolName": "Black",
        "material": "PLA",
        "colorName": "black",
        "remainingWeight": remaining,
    }


def test_nothing_is_told_twice_without_a_change() -> None:
    shelf = Shelf()
    stock = Stock(shelf)
    shelf.paths = ["a.gcode"]
    stock.observe("UpdatedFiles", {"type": "printables"})
    assert [file["path"] for file in looked(stock)[wire.FILES]["files"]] == ["a.gcode"]
    assert not stock.stale
    stock.observe("MetadataAnalysisFinished", {"path": "a.gcode"})
    assert looked(stock) == {}


def test_after_a_snapshot_all_is_told_again() -> None:
    shelf = Shelf()
    shelf.selections = {"Spoolman": {}}
    stock = Stock(shelf)
    for _ in range(2):
        stock.tell_anew()
        assert looked(stock) == {wire.FILES: {"files": []}, wire.FEEDSTOCK: {"tools": {}}}


def test_without_a_spool_plugin_no_spool_is_told_so_that_one_of_before_is_forgotten() -> None:
    stock = Stock(Shelf())
    stock.tell_anew()
    stock.observe(SELECTED, spool(500.0))
    assert looked(stock)[wire.FEEDSTOCK] == {"tools": {}}
    stock.observe(SELECTED, spool(400.0))
    assert wire.FEEDSTOCK not in looked(stock)


def test_what_could_not_be_read_is_asked_for_again() -> None:
    class Broken(Shelf):
        def files(self) -> dict[str, Any]:
            raise OSError("unmounted")

    stock = Stock(Broken())
    stock.tell_anew()
    with pytest.raises(OSError, match="unmounted"):
        stock.look(wire.FILES, NOON)
    assert wire.FILES in stock.stale


def test_a_gram_less_is_told_and_half_a_gram_is_not() -> None:
    shelf = Shelf()
    shelf.selections = {"SpoolManager": [7]}
    stock = Stock(shelf)
    stock.observe(SELECTED, spool(500.0))
    assert looked(stock)[wire.FEEDSTOCK]["tools"]["tool0"]["remaining"] == 500.0
    stock.observe(WEIGHED, spool(499.5))
    assert looked(stock) == {}
    stock.observe(WEIGHED, spool(499.0))
    assert looked(stock)[wire.FEEDSTOCK]["tools"]["tool0"]["remaining"] == 499.0


_TURNS = st.one_of(
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("snapshot"), st.none()),
    st.tuples(st.just("files"), st.lists(st.sampled_from(["a.gcode", "b.gcode"]), unique=True)),
    st.tuples(st.just("spool"), st.tuples(st.integers(1, 3), st.floats(0, 5))),
)


@given(st.lists(_TURNS, max_size=30))
def test_in_whatever_order_things_happen_the_last_look_leaves_the_truth_told(
    turns: list[tuple[str, Any]],
) -> None:
    shelf = Shelf()
    shelf.selections = {"SpoolManager": []}
    stock = Stock(shelf)
    stock.tell_anew()
    told: dict[str, Any] = {}
    for what, value in [*turns, ("look", None)]:
        if what == "look":
            told.update(looked(stock))
        elif what == "snapshot":
            stock.tell_anew()
        elif what == "files":
            shelf.paths = value
            stock.observe("UpdatedFiles", {})
        else:
            identifier, remaining = value
            stock.observe(SELECTED, spool(remaining, identifier))
            shelf.selections = {"SpoolManager": [identifier]}
            last = value
    assert [file["path"] for file in told[wire.FILES]["files"]] == shelf.paths
    if shelf.selections["SpoolManager"]:
        now = told[wire.FEEDSTOCK]["tools"]["tool0"]
        assert now["identifier"] == str(last[0])
        assert abs(now["remaining"] - last[1]) < 1.0
