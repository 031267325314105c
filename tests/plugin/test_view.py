"""What the observer is told of the printer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.view import OctoPrintView, profile_record, stored_uuid


class Settings:
    def __init__(self, identity: dict[str, Any], name: str = "") -> None:
        self.identity = identity
        self.name = name

    def get(self, path: list[str]) -> Any:
        return self.identity.get(path[1])

    def global_get(self, path: list[str]) -> Any:
        return self.name


class Profiles:
    def get_current_or_default(self) -> dict[str, Any]:
        return {
            "name": "Default",
            "model": "Generic RepRap Printer",
            "heatedBed": True,
            "heatedChamber": False,
            "extruder": {"count": 2, "sharedNozzle": False},
        }


class Printer:
    firmware_info: Any = None


def view(settings: Settings) -> OctoPrintView:
    return OctoPrintView(Printer(), Profiles(), settings, "u", "1.11.8", "0.1.0")


def test_the_printer_is_told_as_the_wire_wants_it() -> None:
    record = view(Settings({"serial_number": " 42 ", "model": "", "location": None}, "Anna")).printer()
    assert wire._printer(dict(record), "printer") == record
    assert record["name"] == "Anna"
    assert record["identity"] == {"serial_number": "42"}
    assert record["profile"]["extruders"] == 2
    assert record["firmware"] is None


def test_what_is_suggested_is_what_a_machine_is_told_as_without_it() -> None:
    suggested = view(Settings({"model": ""})).identity_suggestions()
    assert {key: text for key, text in suggested.items() if text} == {
        "model": "Generic RepRap Printer",
        "product_code": "Generic RepRap Printer",
        "serial_number": "u",
    }
    assert suggested["manufacturer"] is None
    assert view(Settings({"model": "MK4"})).identity_suggestions()["product_code"] == "MK4"


@pytest.mark.parametrize(
    ("extruder", "count"),
    [({"count": 3, "sharedNozzle": True}, 1), ({"count": 3}, 3), ({}, 1), ({"count": 99}, 32)],
)
def test_extruders_that_share_a_nozzle_count_as_one(extruder: dict[str, Any], count: int) -> None:
    assert profile_record({"extruder": extruder})["extruders"] == count


def test_the_uuid_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "printer.uuid"
    first = stored_uuid(path)
    assert uuid.UUID(first)
    assert stored_uuid(path) == first


def test_a_uuid_file_that_makes_no_sense_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "printer.uuid"
    path.write_text("nonsense")
    made = stored_uuid(path)
    assert stored_uuid(path) == made


def test_a_uuid_that_cannot_be_written_whole_is_not_written_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        stored_uuid(tmp_path / "printer.uuid")
    assert list(tmp_path.iterdir()) == []
