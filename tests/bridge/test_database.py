"""Files of an older layout are brought to the present one, or are left as they are."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bridge.database import WrongLayout, give_back, open_database, transaction, used_bytes

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


MIGRATION = """
import sys
from pathlib import Path
from bridge.database import open_database
steps = {1: "UPDATE thing SET name = name || '!'; ALTER TABLE thing ADD COLUMN size INTEGER;"
            " UPDATE thing SET size = length(name);", 2: "ALTER TABLE thing ADD COLUMN colour TEXT;"}
print("begins", flush=True)
open_database(Path(sys.argv[1]), "", 3, steps)
print("done", flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.01, 0.05, 0.2])
def test_a_migration_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path, after: float) -> None:
    path = tmp_path / "db"
    database = open_database(path, OLD, 1)
    with transaction(database):
        database.executemany("INSERT INTO thing VALUES (?)", [("x" * 200,)] * 100_000)
    database.close()
    with subprocess.Popen([sys.executable, "-c", MIGRATION, path], stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "begins\n"
        time.sleep(after)
        one.kill()
    with closing(sqlite3.connect(path)) as found:
        whole = found.execute("SELECT count(*) FROM thing WHERE name LIKE '%!'").fetchone()[0]
        state = (layout(found), columns(found), whole)
        assert state in ((1, ["name"], 0), (3, ["name", "size", "colour"], 100_001))
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_gives_unused_pages_back_but_for_some_that_are_soon_used_again(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = open_database(path, OLD, 1)
    with transaction(database):
        database.executemany("INSERT INTO thing VALUES (?)", [("x" * 4000,)] * 2000)
    with transaction(database):
        database.execute("DELETE FROM thing WHERE rowid % 4")
    large, used = pages(database), used_bytes(database)
    steps = 0
    more = True
    while more:
        steps += 1
        with transaction(database):
            more = give_back(database, 50, 0.1)
    assert steps > 10
    assert pages(database) < large / 2
    assert pages(database) - used_bytes(database) // 4096 >= 0.05 * pages(database)
    assert used_bytes(database) <= used
    assert database.execute("SELECT count(*) FROM thing").fetchone()[0] == 500
    database.close()


def pages(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA page_count").fetchone()[0])


@pytest.mark.parametrize(("found", "steps"), [(1, {}), (1, {2: STEPS[2]}), (4, STEPS)])
def test_a_file_that_no_step_leads_on_from_is_refused_untouched(
    tmp_path: Path, found: int, steps: dict[int, str]
) -> None:
    open_database(tmp_path / "db", OLD, found).close()
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(WrongLayout, match=f"layout {found}, this one has 3"):
        open_database(tmp_path / "db", NEW, 3, steps)
    assert (tmp_path / "db").read_bytes() == before
