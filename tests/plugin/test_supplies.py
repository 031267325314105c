"""Files and spools, asked of OctoPrint's objects and its folder of uploads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.printables import MAX_BYTES, Printable, files_record
from octoprint_mesbridge.supplies import OctoPrintSupplies

ANALYSIS = {"estimatedPrintTime": 90.5, "filament": {"tool0": {"length": 1500.0, "volume": 3.6}}}


class FileManager:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata: dict[str, Any] = {}
        self.asked: list[str] = []

    def path_on_disk(self, location: str, path: str) -> str:
        return str(self.root / path)

    def get_metadata(self, location: str, path: str) -> Any:
        self.asked.append(path)
        return self.metadata.get(path)


class Settings:
    def __init__(self) -> None:
        self.tell_files = True

    def get_boolean(self, path: list[str]) -> bool:
        return bool(getattr(self, path[0]))

    def global_get(self, path: list[str]) -> Any:
        return {"SpoolManager": [4], "Spoolman": None}[path[1]]


class PluginManager:
    def __init__(self, *there: str) -> None:
        self.there = there

    def get_plugin_info(self, identifier: str, require_enabled: bool = False) -> Any:
        assert require_enabled
        return object() if identifier in self.there else None


class Uploads:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.file_manager = FileManager(root)
        self.settings = Settings()
        self.supplies = OctoPrintSupplies(
            self.file_manager, PluginManager(), self.settings, lambda name: name.endswith(".gcode")
        )

    def add(self, path: str, modified: float = 1e9) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(b"G28\n")
        os.utime(self.root / path, (modified, modified))

    def told(self) -> list[dict[str, Any]]:
        return list(wire.PAYLOADS[wire.FILES](self.supplies.files(), wire.FILES)["files"])

    def paths(self) -> list[str]:
        return [file["path"] for file in self.told()]


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def test_a_file_is_told_with_what_octoprint_found_in_it(uploads: Uploads) -> None:
    uploads.add("lab/part.gcode", 1e9)
    uploads.file_manager.metadata["lab/part.gcode"] = {"analysis": ANALYSIS, "hash": "1"}
    assert uploads.told() == [
        {
            "path": "lab/part.gcode",
            "size": 4,
            "date": "2001-09-09T01:46:40.000000Z",
            "estimated_print_time": 90.5,
            "filament": {"tool0": {"length": 1500.0, "volume": 3.6}},
        }
    ]


@pytest.mark.parametrize("metadata", [None, {}, {"analysis": None}, {"analysis": [1]}, "odd"])
def test_a_file_without_a_sound_analysis_is_told_without_it(uploads: Uploads, metadata: Any) -> None:
    uploads.add("part.gcode")
    uploads.file_manager.metadata["part.gcode"] = metadata
    assert uploads.told()[0]["estimated_print_time"] is None


def test_models_and_what_is_hidden_are_left_out(uploads: Uploads) -> None:
    for path in ("a.stl", ".metadata.json", ".upload.gcode", ".trash/b.gcode", "c.gcode"):
        uploads.add(path)
    assert uploads.paths() == ["c.gcode"]


def test_a_link_that_leads_back_lists_nothing_twice(uploads: Uploads) -> None:
    uploads.add("lab/part.gcode")
    (uploads.root / "lab" / "back").symlink_to(uploads.root)
    assert uploads.paths() == ["lab/part.gcode"]


def test_many_folders_are_not_open_at_once(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        uploads.add(f"f{number}/part.gcode")
    opened, most = 0, 0
    scandir = os.scandir

    class Counted:
        def __init__(self, folder: Any) -> None:
            self.entries = scandir(folder)

        def __enter__(self) -> Any:
            nonlocal opened, most
            opened += 1
            most = max(most, opened)
            return self.entries

        def __exit__(self, *error: object) -> None:
            nonlocal opened
            opened -= 1
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Counted)
    assert len(uploads.paths()) == 40
    assert most == 1


def test_the_newest_come_first_and_only_their_metadata_are_asked_for(uploads: Uploads) -> None:
    for number in range(wire.MAX_FILES + 20):
        uploads.add(f"f{number % 3}/{number}.gcode", modified=1e9 + number)
    newest = [f"f{number % 3}/{number}.gcode" for number in range(wire.MAX_FILES + 19, 19, -1)]
    assert uploads.paths() == newest
    assert uploads.file_manager.asked == newest


def test_a_link_that_leads_back_ends(uploads: Uploads) -> None:
    uploads.add("lab/a.gcode")
    (uploads.root / "lab" / "again").symlink_to(uploads.root / "lab")
    (uploads.root / "gone.gcode").symlink_to(uploads.root / "nowhere")
    assert uploads.paths() == ["lab/a.gcode"]


def test_where_files_are_not_to_be_told_the_list_is_empty_and_nothing_is_read(uploads: Uploads) -> None:
    uploads.add("secret.gcode")
    uploads.settings.tell_files = False
    assert uploads.paths() == []
    assert uploads.file_manager.asked == []


def test_a_name_that_utf_8_cannot_carry_does_not_keep_the_others_back(uploads: Uploads) -> None:
    uploads.add("a.gcode")
    (uploads.root / os.fsdecode(b"b\xff.gcode")).write_bytes(b"")
    assert sorted(uploads.paths()) == ["a.gcode", "b?.gcode"]


def test_a_list_of_long_paths_is_cut_so_that_it_fits_into_a_push() -> None:
    found = [(Printable(1e9, "\u00fc" * 4000 + str(number), 1), None) for number in range(wire.MAX_FILES)]
    record = files_record(found)
    assert 0 < len(str(record).encode()) <= MAX_BYTES
    assert record["files"][0]["path"].endswith("0")


def test_only_plugins_that_are_there_are_asked_for_spools(tmp_path: Path) -> None:
    for there, told in (
        ((), {}),
        (("SpoolManager",), {"SpoolManager": [4]}),
        (("Spoolman",), {"Spoolman": None}),
    ):
        supplies = OctoPrintSupplies(FileManager(tmp_path), PluginManager(*there), Settings(), bool)
        assert supplies.spool_settings() == told
