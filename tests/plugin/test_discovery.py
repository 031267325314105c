"""Bridges found in the network, where anybody may announce anything."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from octoprint_mesbridge.discovery import MOST, find_bridges, sound


def announced(**changes: Any) -> dict[str, Any]:
    described = {b"version": b"0.2.0", b"id": b"b1", b"https": b"0"}
    return {"name": "Hall 3", "host": "10.0.0.7", "port": 8484, "txt_record": described, **changes}


def test_bridges_are_found_with_their_addresses() -> None:
    asked = []

    def browse(*service: str, **options: Any) -> list[dict[str, Any]]:
        asked.append((service, options))
        return [announced(), announced(name="Annex", host="10.0.0.8", txt_record={b"https": b"1"})]

    assert find_bridges(browse) == {
        "bridges": [
            {"name": "Annex", "url": "https://10.0.0.8:8484", "version": "", "https": True},
            {"name": "Hall 3", "url": "http://10.0.0.7:8484", "version": "0.2.0", "https": False},
        ],
        "note": None,
    }
    assert asked[0][0] == ("_mesbridge._tcp",)
    assert asked[0][1]["browse_timeout"] <= 3


def test_a_missing_discovery_plugin_and_an_empty_network_are_told_apart() -> None:
    assert "discovery plugin is switched off" in str(find_bridges(None)["note"])
    assert "No bridge announces itself" in str(find_bridges(lambda *_, **__: [])["note"])


def test_the_port_is_found_under_either_name() -> None:
    result = announced()
    result["post"] = result.pop("port")
    assert [bridge.url for bridge in sound([result])] == ["http://10.0.0.7:8484"]


def test_what_could_be_no_bridge_is_left_out() -> None:
    wrong: list[dict[str, Any]] = [
        announced(host="javascript:alert(1)"),
        announced(host="bridge.local"),
        announced(host="0.0.0.0"),
        announced(host="224.0.0.251"),
        announced(host=None),
        announced(port=0),
        announced(port=70000),
        announced(port="8484"),
        announced(name=None),
        announced(txt_record=[]) | {"txt_record": "text"},
        {},
    ]
    assert sound(wrong) == []


def test_names_are_cleaned() -> None:
    (bridge,) = sound([announced(name="Hall\u202e\x1b[31m" + "x" * 200, txt_record={b"version": b"\xff\n"})])
    assert bridge.name.startswith("Hall  [31m")
    assert len(bridge.name) == 128
    assert bridge.version.isprintable()


def test_an_ipv6_address_is_written_as_urls_want_it() -> None:
    assert [bridge.url for bridge in sound([announced(host="fd00::7")])] == ["http://[fd00::7]:8484"]


def test_a_flood_of_announcements_is_cut_off_and_each_address_shown_once() -> None:
    flood = [announced(host=f"10.0.{n // 200}.{n % 200 + 1}") for n in range(500)]
    assert len(sound(flood)) == MOST
    assert len(sound([announced(), announced(name="again")])) == 1


anything = st.none() | st.text() | st.integers() | st.binary() | st.floats()


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["name", "host", "port", "post", "txt_record"]),
            anything | st.dictionaries(anything, anything),
        )
    )
)
def test_no_announcement_can_stop_the_search(results: list[dict[str, Any]]) -> None:
    for bridge in sound(results):
        assert bridge.name.isprintable()
        assert bridge.url.startswith(("http://", "https://"))
