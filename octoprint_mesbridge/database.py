"""The outbox's file: the SQLite database of the events that wait, made, brought up to date and opened here."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bridge import wire

FORMAT = 2
"""Of the file; one of another format counts as damaged, but for that of 0.1.0."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    instance INTEGER NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL,
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (instance, seq)
) WITHOUT ROWID;
"""

# In 0.1.0 what was acknowledged and what was dropped were one number: the next batch begins after it.
_SET_ASIDE = "CREATE TEMP TABLE earlier AS SELECT id, name, acked FROM instances; DROP TABLE instances;"
_BRING_BACK = "INSERT INTO instances SELECT id, name, acked FROM earlier; DROP TABLE earlier;"


def open_database(path: Path) -> sqlite3.Connection:
    """The database at `path`, made where there is none, usable by any thread, readable by its owner alone.

    Raises `OSError` and `sqlite3.Error`, and leaves the file where it is then.
    """
    path.touch(mode=0o600)
    for file in path.parent.glob(f"{path.name}*"):  # SQLite's own beside it, and what was moved aside
        if file.is_file():
            with contextlib.suppress(OSError):  # there are file systems without permissions
                file.chmod(0o600)
    database = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=5)
    database.text_factory = _text  # what a worn card has done to one text costs that text only
    try:
        _prepare(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _prepare(database: sqlite3.Connection) -> None:
    execute = database.execute
    execute("PRAGMA page_size=1024")  # a commit writes whole pages
    execute("PRAGMA journal_mode=WAL")
    execute("PRAGMA synchronous=NORMAL")
    found = execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))
    if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={FORMAT}; COMMIT")
    elif _is_of_0_1_0(database):
        database.executescript(
            f"BEGIN; {_SET_ASIDE} {_SCHEMA} {_BRING_BACK} PRAGMA user_version={FORMAT}; COMMIT"
        )
    if execute("PRAGMA user_version").fetchone()[0] != FORMAT:
        raise sqlite3.DatabaseError("another version of MESBridge wrote it")
    execute("DELETE FROM instances WHERE id NOT IN (SELECT instance FROM events)")


def _is_of_0_1_0(database: sqlite3.Connection) -> bool:
    columns = [row[1] for row in database.execute("PRAGMA table_info(instances)")]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    return version == 0 and columns == ["id", "name", "last", "acked"]


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """``BEGIN IMMEDIATE`` to ``COMMIT``, or ``ROLLBACK`` when the block or the commit fails."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def is_damage(error: Exception) -> bool:
    """Whether the file itself is unsound; anything else (a full disk, a lock) passes, and the file is kept."""
    return type(error) is sqlite3.DatabaseError  # its subclasses are about other things


def move_aside(path: Path) -> str:
    """Make room for a new database at `path`; returns the name that the old file has now. Raises `OSError`."""
    aside = path.with_name(f"{path.name}.damaged-{wire.utc_now():%Y%m%dT%H%M%S%f}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside.name
