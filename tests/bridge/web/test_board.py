"""The overview as it is sent to those who look: only what has changed."""

from __future__ import annotations

import json
from typing import Any

from bridge import wire
from bridge.settings import IdentificationSettings
from bridge.umati.identification import identify
from bridge.web.board import Board
from bridge.web.overview import Facts
from tests.bridge.events import Story

FLEET = {"bridge": "Hall 3"}


class Plant:
    def __init__(self) -> None:
        self.stories = {name: Story(name=name) for name in ("a", "b")}
        self.looked: list[str] = []
        self.board = Board(lambda: list(self.stories), self.look)

    def look(self, machine: str) -> Facts:
        self.looked.append(machine)
        known = self.stories[machine].machine
        nameplate = identify(machine, machine, "http://x", IdentificationSettings(), known.printer)
        return Facts(machine, known, nameplate, "http://x")

    def tell(self, machine: str, kind: str, **changes: Any) -> None:
        self.board.handle(self.stories[machine].tell(kind, **changes))

    def ask(self, mark: str | None = None, notices: list[Any] | None = None) -> dict[str, Any]:
        self.board.update(FLEET, notices or [])
        told: dict[str, Any] = json.loads(self.board.since(mark, "now"))
        return told


def ids(told: dict[str, Any]) -> list[str]:
    return [one["id"] for one in told["machines"]]


def test_who_looks_first_gets_everything_and_then_only_what_changed() -> None:
    plant = Plant()
    first = plant.ask()
    assert ids(first) == first["order"] == ["a", "b"]
    assert first["fleet"] == FLEET
    again = plant.ask(first["mark"])
    assert (ids(again), again["order"], again["fleet"], again["notices"]) == ([], None, None, None)
    plant.tell("b", wire.STATE)
    assert ids(plant.ask(first["mark"])) == ["b"]
    assert ids(plant.ask()) == ["a", "b"]


def test_a_line_is_made_once_for_all_who_look() -> None:
    plant = Plant()
    mark = plant.ask()["mark"]
    plant.looked.clear()
    plant.tell("b", wire.STATE)
    for _ in range(5):
        assert ids(plant.ask(mark)) == ["b"]
    assert plant.looked == ["b"]


def test_what_looks_the_same_is_not_sent() -> None:
    plant = Plant()
    plant.tell("a", wire.HEATERS)
    mark = plant.ask()["mark"]
    plant.tell("a", wire.HEATERS)
    assert ids(plant.ask(mark)) == []


def test_machines_come_and_go() -> None:
    plant = Plant()
    mark = plant.ask()["mark"]
    plant.stories["c"] = Story(name="c")
    told = plant.ask(mark)
    assert (ids(told), told["order"]) == (["c"], ["a", "b", "c"])
    del plant.stories["a"]
    told = plant.ask(told["mark"])
    assert (ids(told), told["order"]) == ([], ["b", "c"])
    plant.stories["a"] = Story(name="a")
    assert ids(plant.ask(told["mark"])) == ["a"]


def test_a_page_of_an_earlier_run_of_the_bridge_gets_everything() -> None:
    mark = Plant().ask()["mark"]
    assert ids(Plant().ask(mark)) == ["a", "b"]
    assert ids(Plant().ask("nonsense")) == ["a", "b"]


def test_notices_are_sent_when_there_are_others() -> None:
    plant = Plant()
    mark = plant.ask()["mark"]
    told = plant.ask(mark, notices=[{"text": "x"}])
    assert told["notices"] == [{"text": "x"}]
    assert plant.ask(told["mark"], notices=[{"text": "x"}])["notices"] is None


def test_records_of_machines_that_are_not_served_are_passed_over() -> None:
    plant = Plant()
    gone = Story(name="gone")
    plant.board.handle(gone.tell(wire.STATE))
    assert ids(plant.ask()) == ["a", "b"]
