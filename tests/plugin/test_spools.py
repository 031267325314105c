"""What the spool plugins say, in the wire's words."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from octoprint_mesbridge.spools import EVENTS, Spools

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def tools(spools: Spools, settings: dict[str, Any]) -> dict[str, Any]:
    record = spools.record(settings)
    assert record is not None
    return dict(wire.PAYLOADS[wire.FEEDSTOCK](record, wire.FEEDSTOCK)["tools"])


def test_a_spool_of_spool_manager_is_known_by_number_until_an_event_describes_it() -> None:
    spools = Spools()
    assert tools(spools, {"SpoolManager": [None, 12]})["tool1"]["identifier"] == "12"
    assert tools(spools, {"SpoolManager": [None, 12]})["tool1"]["name"] is None
    spools.learn(
        "plugin_spoolmanager_spool_selected",
        {
            "toolId": 1,
            "databaseId": 12,
            "spoolName": "Galaxy Black",
            "material": "PETG",
            "colorName": "black",
            "remainingWeight": 812.5,
        },
    )
    assert tools(spools, {"SpoolManager": [None, 12]}) == {
        "tool1": {
            "identifier": "12",
            "name": "Galaxy Black",
            "material": "PETG",
            "manufacturer": None,
            "remaining": 812.5,
        }
    }


def test_a_spool_that_is_taken_off_is_gone_though_the_event_says_no_more_than_that() -> None:
    spools = Spools()
    spools.learn("plugin_spoolmanager_spool_deselected", {"toolId": 0, "databaseId": None})
    assert tools(spools, {"SpoolManager": [None]}) == {}


def test_a_spool_of_spoolman_is_known_by_its_number_whether_read_from_the_file_or_not() -> None:
    for tool in (0, "0"):
        told = tools(Spools(), {"Spoolman": {tool: {"spoolId": "5"}, "1": {"spoolId": None}}})
        assert [(name, spool["identifier"]) for name, spool in told.items()] == [("tool0", "5")]


def test_numbers_of_one_plugin_are_not_taken_for_those_of_another() -> None:
    spools = Spools()
    spools.learn("plugin_spoolmanager_spool_selected", {"databaseId": 5, "spoolName": "Black"})
    assert tools(spools, {"Spoolman": {"0": {"spoolId": "5"}}})["tool0"]["name"] is None


def test_of_two_plugins_the_first_counts() -> None:
    told = tools(Spools(), {"SpoolManager": [1], "Spoolman": {"0": {"spoolId": "2"}, "1": {"spoolId": "3"}}})
    assert {name: spool["identifier"] for name, spool in told.items()} == {"tool0": "1", "tool1": "3"}


@given(
    st.sampled_from(sorted(EVENTS)),
    st.dictionaries(
        st.sampled_from(["databaseId", "spoolName", "material", "remainingWeight"]) | st.text(), ANYTHING
    ),
    ANYTHING,
    ANYTHING,
)
def test_whatever_plugins_hold_the_record_is_sound(
    event: str, payload: dict[str, Any], manager: Any, spoolman: Any
) -> None:
    spools = Spools()
    spools.learn(event, payload)
    tools(spools, {"SpoolManager": manager, "Spoolman": spoolman})
    tools(spools, {"SpoolManager": [payload.get("databaseId")], "Spoolman": {"0": {"spoolId": manager}}})
