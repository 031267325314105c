"""`mesbridge watch`: what a terminal shows."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.cli import main
from bridge.commands.watch import View, frame

NOW = "2026-11-23T08:30:00.000000Z"
FLEET = {
    "bridge": "Hall 3",
    "opcua": {"endpoint": "opc.tcp://bridge:4840", "sessions": 2},
    "mes": [{"mes": 1, "trouble": None, "waiting": 0, "refused": 0}],
}


def machine(id_: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "name": id_,
        "condition": "printing",
        "since": "2026-11-23T08:00:00.000000Z",
        "attention": 0,
        "why": None,
        "job": {"file": "benchy.gcode", "result": None, "completion": 42, "ends": None},
        "heaters": {"tool0": [210, 215], "bed": [60, 0]},
        "source": "plugin",
        "mes": {"1": "good"},
        **changes,
    }


def view(*machines: dict[str, Any]) -> View:
    made = View()
    order = [one["id"] for one in machines]
    made.take(
        {"mark": "x.1", "now": NOW, "order": order, "fleet": FLEET, "notices": [], "machines": list(machines)}
    )
    return made


def shown(made: View, width: int | None = 200, height: int | None = None, colour: bool = False) -> str:
    return "\n".join(frame(made, width, height, colour=colour))


def test_each_machine_has_a_line_and_what_needs_attention_is_first() -> None:
    text = shown(view(machine("A"), machine("B", condition="error", attention=3, why="thermal runaway")))
    lines = [line for line in text.splitlines() if "benchy" in line]
    assert lines[0].split()[:3] == ["!!", "B", "Error"]
    assert "thermal runaway" in lines[0]
    assert "30 min" in lines[1]
    assert "T210/215 B60" in lines[1]
    assert "42 %" in lines[1]
    assert "2 machines: 1 error, 1 printing; 1 need attention" in text
    assert "MES 1 is told" in text


def test_it_fits_the_window_and_says_what_does_not() -> None:
    made = view(*(machine(f"m{number:03}") for number in range(500)))
    lines = frame(made, 60, 20, colour=False)
    assert len(lines) == 20
    assert max(map(len, lines)) <= 60
    assert "more: make the window higher" in lines[-1]
    for height in range(30):
        assert len(frame(made, 5, height, colour=False)) <= height


def test_colours_only_where_they_are_wanted() -> None:
    made = view(machine("A", condition="lost", attention=3))
    assert "\x1b[31m" in shown(made, colour=True)
    assert "\x1b" not in shown(made)


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\x1b[2Jb", "line\nbreak", "\u202egpj", "\r"])
def test_what_a_machine_says_cannot_move_the_cursor(evil: str) -> None:
    job = {"file": evil, "result": None, "completion": None, "ends": None}
    text = shown(view(machine("A", name=evil, why=evil, job=job, heaters={evil: [1, 1]})))
    assert not any(one in text for one in "\x1b\x07\r\u202e")
    assert len(text.splitlines()) == len(shown(view(machine("A"))).splitlines())


def test_only_what_changed_is_taken() -> None:
    made = view(machine("A"), machine("B"))
    news = {"mark": "x.2", "now": NOW, "order": None, "fleet": None, "notices": None}
    made.take({**news, "machines": [machine("B", name="Bee")]})
    assert [one["name"] for one in made.sorted] == ["A", "Bee"]
    made.take({**news, "order": ["B"], "machines": []})
    assert [one["name"] for one in made.sorted] == ["Bee"]
    assert made.fleet == FLEET


def test_an_outage_is_said_with_the_time_of_what_is_shown() -> None:
    assert "Not live" in "\n".join(
        frame(view(machine("A")), 80, 20, colour=False, trouble="Not live, as of 08:30:00")
    )


def test_a_machine_of_which_nothing_is_known_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = machine("A", condition="unknown", since=None, job=None, heaters={}, source=None, mes={})
    assert "Never heard" in shown(view(unknown))


def test_without_a_bridge_it_says_so(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.toml").write_text('[bridge]\nstate_folder = "state"\n')
    assert main(["watch", "--once", "--settings", str(tmp_path / "s.toml")]) == 1
    assert "no bridge runs" in capsys.readouterr().err
