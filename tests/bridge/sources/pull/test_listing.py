from __future__ import annotations

from typing import Any

from bridge import wire
from bridge.sources.pull.listing import flat, printables


def file(path: str, date: Any = 1_700_000_000, **more: Any) -> dict[str, Any]:
    return {"path": path, "date": date, "size": 10, "type": "machinecode", "origin": "local", **more}


def test_the_newest_printable_files_of_all_folders() -> None:
    analysis = {"estimatedPrintTime": 12.5, "filament": {"tool0": {"length": 1.0, "volume": 2.0}}}
    listed = [
        file("a.gcode", 1_700_000_000),
        {"type": "folder", "children": [file("f/b.gcode", 1_700_000_500, gcodeAnalysis=analysis)]},
        file("c.stl", type="model"),
        file("card.gco", origin="sdcard"),
        file("odd.gcode", date="yesterday"),
    ]
    record = printables(listed)
    assert [one["path"] for one in record["files"]] == ["f/b.gcode", "a.gcode"]
    assert record["files"][0]["estimated_print_time"] == 12.5
    wire.PAYLOADS[wire.FILES](record, "files")


def test_no_more_than_the_wire_takes() -> None:
    record = printables([file(f"{n}.gcode", 1_700_000_000 + n) for n in range(150)])
    assert [one["path"] for one in record["files"]] == [f"{n}.gcode" for n in range(149, 49, -1)]


def test_a_folder_without_end_is_not_followed_for_ever() -> None:
    folder: dict[str, Any] = {"children": []}
    for _ in range(500):
        folder = {"children": [folder, file("x")]}
    assert len(list(flat([folder]))) < 100
