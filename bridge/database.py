"""SQLite files that survive a power cut: how the bridge opens and changes each of its stores.

In flow a path and a layout; out flows a connection in autocommit mode, whose changes go through `transaction`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

_LARGEST_WAL = 16 * 2**20
"""Bytes of the write-ahead log that stay on the disk after a burst."""

_INCREMENTAL = 2  # of auto_vacuum


class WrongLayout(Exception):
    """The file was written by another version of MESBridge; the text says so, and what to do."""


def open_database(
    path: Path, schema: str, layout: int, steps: Mapping[int, str] = MappingProxyType({})
) -> sqlite3.Connection:
    """The database at `path`; a new one gets `schema` and mode 0600. May be used from any thread, one at a time.

    An older file is brought to `layout` by `steps`: by layout, the statements that lead to the next one.
    Raises `OSError`, `sqlite3.Error`, and `WrongLayout` when there is no such way; then the file is untouched.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        missing = range(found, layout) if found else ()
        if found > layout or not steps.keys() >= set(missing):
            raise WrongLayout(
                f"was written by another version of MESBridge (layout {found}, this one has {layout});"
                " run that version, or choose another folder"
            )
        if not found:  # a file that can give pages back must be made so
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # FULL: what was committed has reached the disk, and only then is anybody told that it is kept.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
        script = "".join(steps[one] for one in missing) if found else schema
        if script:
            connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {layout}; COMMIT;")
    except (sqlite3.Error, WrongLayout):
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block, or nothing of it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # some failures have rolled back already
            connection.execute("ROLLBACK")


def used_bytes(connection: sqlite3.Connection) -> int:
    """How much of the file holds something."""
    return (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * _pragma(
        connection, "page_size"
    )


def give_back(connection: sqlite3.Connection, pages: int, keep: float) -> bool:
    """Make the file smaller by so many unused `pages`, as long as more than the share `keep` of it is unused; returns
    whether there is more to give back. A file that an earlier version made stays as large as it is, and fills again."""
    free, total = _pragma(connection, "freelist_count"), _pragma(connection, "page_count")
    spare = free - int(total * keep)
    if spare < pages or _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return False
    for _ in range(
        pages
    ):  # Python's sqlite3 ends a statement without columns after one step, which is one page
        connection.execute("PRAGMA incremental_vacuum(1)")
    return spare >= 2 * pages


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def is_damaged(error: Exception) -> bool:
    """Whether `error` speaks of the file's content, and not of the disk, its rights or another process."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
