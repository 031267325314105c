"""What the status page says of a machine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge import wire
from bridge.machine import Machine
from bridge.settings import IdentificationSettings
from bridge.umati.identification import identify
from bridge.web.overview import (
    AtMes,
    Attention,
    Condition,
    Facts,
    attention,
    condition,
    detail,
    expected_end,
    row,
)
from tests.bridge.events import START, Story, printing

ACTIVE = AtMes(1, activation="active", status="Running", told=START)


def facts(machine: Machine, *mes: AtMes) -> Facts:
    nameplate = identify("m", "Left", "http://left", IdentificationSettings(), machine.printer)
    return Facts("m", machine, nameplate, "http://left", "plugin", mes, "opc.tcp://bridge:4840", "nsu=x;s=m")


def after(*tell: tuple[str, dict[str, Any]]) -> Machine:
    story = printing()
    for kind, data in tell:
        story.tell(kind, **data)
    return story.machine


ENDED = (wire.JOB_ENDED, {})
FAILED = (wire.JOB_ENDED, {"result": "failed", "reason": "off the bed"})
READY = (wire.STATE, {"state": "operational"})


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(), Condition.UNKNOWN),
        (after(), Condition.PRINTING),
        (after((wire.STATE, {"state": "paused"})), Condition.PAUSED),
        (after((wire.STATE, {"state": "finishing"})), Condition.PRINTING),
        (after(ENDED, READY), Condition.READY),
        (after(ENDED, (wire.STATE, {"state": "disconnected"})), Condition.OFF),
        (after((wire.ERROR, {"text": "hot"})), Condition.ERROR),
        (after((wire.STATE, {"state": "error", "error": None})), Condition.ERROR),
        (after(("link", {"link": "lost", "detail": "silence"})), Condition.LOST),
    ],
)
def test_a_machine_is_in_one_condition(machine: Machine, expected: Condition) -> None:
    assert condition(machine) is expected


@pytest.mark.parametrize(
    ("machine", "mes", "level", "why"),
    [
        (after(), [ACTIVE], Attention.NONE, None),
        (after((wire.ERROR, {"text": "thermal runaway"})), [], Attention.NOW, "thermal runaway"),
        (after(("link", {"link": "lost", "detail": "s"})), [], Attention.NOW, "while it prints benchy.gcode"),
        (
            after(ENDED, READY, ("link", {"link": "lost", "detail": "s"})),
            [],
            Attention.SOON,
            "cannot be reached",
        ),
        (after((wire.STATE, {"state": "paused"})), [], Attention.SOON, "waits for a person"),
        (after(FAILED, READY), [], Attention.SOON, "failed: off the bed"),
        (after(ENDED, READY), [], Attention.NONE, None),
        (after(), [replace(ACTIVE, refused=2)], Attention.SOON, "MES 1 refuses messages"),
        (after(), [replace(ACTIVE, activation="refused")], Attention.SOON, "refuses this machine"),
        (after(), [replace(ACTIVE, activation="pending")], Attention.LOW, "activate"),
        (after(), [replace(ACTIVE, held="busy")], Attention.LOW, "wait: busy"),
        (Machine(), [], Attention.LOW, "Never heard"),
        (after((wire.STATE, {"state": "paused"})), [replace(ACTIVE, held="busy")], Attention.SOON, "person"),
    ],
)
def test_what_is_worst_asks_for_attention(
    machine: Machine, mes: list[AtMes], level: Attention, why: str | None
) -> None:
    found, text = attention(machine, tuple(mes))
    assert found is level
    assert (text is None) if why is None else why in (text or "")


def test_a_failed_print_is_no_news_once_the_next_one_runs() -> None:
    machine = after(FAILED, READY, (wire.JOB_STARTED, {"run": "run-2"}), (wire.STATE, {"state": "printing"}))
    assert attention(machine, ()) == (Attention.NONE, None)


def test_a_row_changes_only_with_what_a_person_can_see() -> None:
    story = printing()
    story.tell(wire.HEATERS, heaters={"tool0": {"actual": 210.1, "target": 210.0}})
    before = row(facts(story.machine, ACTIVE))
    story.tell(wire.HEATERS, heaters={"tool0": {"actual": 209.8, "target": 210.0}})
    assert row(facts(story.machine, ACTIVE)) == before
    story.tell(wire.HEATERS, heaters={"tool0": {"actual": 212.0, "target": 210.0}})
    now = row(facts(story.machine, ACTIVE))
    assert now["heaters"] == {"tool0": [212, 210]}
    assert now["mes"] == {"1": "good"}
    assert now["condition"] == "printing"
    assert now["since"] == wire.format_time(story.machine.state_since or START)
    json.dumps(now)


def test_the_end_of_a_print_stays_the_same_while_it_goes_as_expected() -> None:
    story = printing()
    ends = set()
    for step in range(5):
        transition = story.tell(wire.PROGRESS, print_time_left=600.0 - step)
        assert transition.after.job is not None
        ends.add(expected_end(transition.after.job))
    assert len(ends) == 1


@pytest.mark.parametrize("left", [1e18, 1e300])
def test_an_absurd_time_left_has_no_end(left: float) -> None:
    job = after((wire.PROGRESS, {"print_time_left": left})).job
    assert job is not None
    assert expected_end(job) is None


def test_a_print_that_is_paused_or_lost_ends_at_no_known_time() -> None:
    assert row(facts(after((wire.PROGRESS, {}))))["job"]["ends"] is not None
    for event in ((wire.STATE, {"state": "paused"}), ("link", {"link": "lost", "detail": "s"})):
        assert row(facts(after((wire.PROGRESS, {}), event)))["job"]["ends"] is None


def test_the_page_of_a_machine_says_all_that_is_known() -> None:
    story = printing()
    story.tell(wire.FEEDSTOCK)
    story.tell(wire.JOB_ENDED)
    told = detail(facts(story.machine, replace(ACTIVE, held="busy")))
    assert told["opcua"] == {"endpoint": "opc.tcp://bridge:4840", "node_id": "nsu=x;s=m"}
    assert told["mes"][0]["status"] == "Running"
    assert told["mes"][0]["health"] == "waiting"
    assert told["octoprint"]["version"] == "1.11.8"
    assert told["identification"]["manufacturer"] == "Prusa Research"
    assert told["spools"] == {"tool0": "Prusament PLA Galaxy Black"}
    assert [job["result"] for job in told["finished"]] == ["completed"]
    json.dumps(told)


def test_long_texts_are_cut() -> None:
    told = row(facts(after((wire.ERROR, {"text": "x" * 2000}))))
    assert len(told["why"]) == 300
    assert told["why"].endswith("…")


def test_a_machine_never_heard_of_has_a_row_too() -> None:
    told = row(facts(Machine()))
    assert (told["condition"], told["job"], told["heaters"], told["since"]) == ("unknown", None, {}, None)
    json.dumps(detail(facts(Machine())))


def test_the_lost_machine_tells_since_when() -> None:
    story = printing()
    story.position += 60
    story.link("lost")
    assert row(facts(story.machine))["since"] == wire.format_time(START + timedelta(seconds=story.position))


def test_a_story_without_jobs_has_none() -> None:
    assert row(facts(Story().machine))["job"] is None
