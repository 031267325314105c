from __future__ import annotations

from bridge import wire
from bridge.umati.profile import heater_path, profile_of, refitted
from tests.bridge.events import PRINTER, Story


def known(extruders: int = 1, *, bed: bool = True, chamber: bool = False, heaters: object = None) -> Story:
    story = Story()
    profile = {**PRINTER["profile"], "extruders": extruders, "heated_bed": bed, "heated_chamber": chamber}
    story.tell(wire.SNAPSHOT, printer={**PRINTER, "profile": profile}, heaters=heaters or {})
    return story


def test_a_machine_never_heard_of_has_no_heaters() -> None:
    assert profile_of(Story().machine).heaters == ()


def test_the_heaters_are_those_of_the_printer_profile_in_a_fixed_order() -> None:
    assert profile_of(known(2, chamber=True).machine).heaters == ("tool0", "tool1", "bed", "chamber")
    assert profile_of(known(11, bed=False).machine).heaters[-2:] == ("tool9", "tool10")


def test_a_heater_that_reports_a_temperature_exists_and_one_that_never_does_not() -> None:
    silent = {"chamber": {"actual": None, "target": None}, "W": {"actual": 30.0, "target": None}}
    assert profile_of(known(heaters=silent).machine).heaters == ("tool0", "bed", "W")


def test_a_heater_that_falls_silent_stays_until_the_printer_is_another() -> None:
    story = known(heaters={"W": {"actual": 30.0, "target": None}})
    before, profile = story.machine, profile_of(story.machine)
    story.tell(wire.HEATERS, heaters={})
    assert refitted(profile, before, story.machine) == profile
    other = known(2).machine
    assert refitted(profile, before, other).heaters == ("tool0", "tool1", "bed")


def test_heaters_that_would_be_the_same_node_are_one_and_the_printer_profile_names_it() -> None:
    warm = {"actual": 30.0, "target": None}
    told = {"Chamber": warm, "": warm, "tool00": warm, "tool\u0661": warm}
    heaters = profile_of(known(2, chamber=True, heaters=told).machine).heaters
    assert heaters == ("tool0", "tool1", "bed", "chamber", "tool00", "tool\u0661")
    assert len({heater_path(name) for name in heaters}) == len(heaters)


def test_names_become_titles_and_paths() -> None:
    assert heater_path("tool1") == "Monitoring.Process.Tool 1"
    assert heater_path("bed") == "Monitoring.Process.Bed"
    assert heater_path("w.1") == "Monitoring.Process.W%2E1"
