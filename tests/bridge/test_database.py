"""Files of an older layout are brought to the present one, or are left as they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bridge.database import WrongLayout, open_database

OLD = "CREATE TABLE thing (name TEXT); INSERT INTO thing VALUES ('kept');"
NEW = "CREATE TABLE thing (name TEXT, size INTEGER, colour TEXT);"
STEPS = {1: "ALTER TABLE thing ADD COLUMN size INTEGER;", 2: "ALTER TABLE thing ADD COLUMN colour TEXT;"}


def columns(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(thing)")]


def layout(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_an_older_file_is_brought_to_the_present_layout_with_what_it_holds(tmp_path: Path) -> None:
    open_database(tmp_path / "db", OLD, 1).close()
    database = open_database(tmp_path / "db", NEW, 3, STEPS)
    assert (columns(database), layout(database)) == (["name", "size", "colour"], 3)
    assert database.execute("SELECT name FROM thing").fetchall() == [("kept",)]
    database.close()


def test_a_new_file_needs_no_steps(tmp_path: Path) -> None:
    database = open_database(tmp_path / "db", NEW, 3, STEPS)
    assert (columns(database), layout(database)) == (["name", "size", "colour"], 3)
    database.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    open_database(tmp_path / "db", OLD, 1).close()
    with pytest.raises(sqlite3.OperationalError):
        open_database(tmp_path / "db", NEW, 3, {**STEPS, 2: "ALTER TABLE nothing ADD COLUMN colour TEXT;"})
    database = open_database(tmp_path / "db", OLD, 1)
    assert columns(database) == ["name"]
    database.close()


@pytest.mark.parametrize(("found", "steps"), [(1, {}), (1, {2: STEPS[2]}), (4, STEPS)])
def test_a_file_that_no_step_leads_on_from_is_refused_untouched(
    tmp_path: Path, found: int, steps: dict[int, str]
) -> None:
    open_database(tmp_path / "db", OLD, found).close()
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(WrongLayout, match=f"layout {found}, this one has 3"):
        open_database(tmp_path / "db", NEW, 3, steps)
    assert (tmp_path / "db").read_bytes() == before
