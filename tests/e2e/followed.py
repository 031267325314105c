"""What the log of a bridge holds, read beside it: as a story, and as what it makes of its machines."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bridge import wire
from bridge.log import PULLED, Record
from bridge.machine import Machine, apply
from tests.e2e.story import SAMPLES, told


def records(state_folder: Path, after: int = 0) -> Iterator[Record]:
    """The records behind the position `after`."""
    address = f"{(state_folder / 'log.sqlite').as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
        rows = connection.execute("SELECT * FROM record WHERE position > ? ORDER BY position", (after,))
        for position, machine, instance, seq, time, kind, data in rows.fetchall():
            yield Record(position, machine, instance, seq, wire.parse_time(time), kind, json.loads(data))


def end(state_folder: Path) -> int:
    """The position of the newest record."""
    return max((one.position for one in records(state_folder)), default=0)


def story(state_folder: Path, after: int = 0) -> list[tuple[str, ...]]:
    """What was noticed from outside, without the samples."""
    return [
        told(wire.Event(one.seq, one.time, one.kind, one.data))
        for one in records(state_folder, after)
        if one.instance.startswith(PULLED) and one.kind not in SAMPLES
    ]


def changes(state_folder: Path) -> list[tuple[str, str]]:
    """What the whole log makes of the jobs of its one machine: each change, and the file of its job."""
    machine, found = Machine(), []
    for record in records(state_folder):
        transition = apply(machine, record)
        machine = transition.after
        for change in transition.changes:
            job = getattr(change, "job", None)
            if job is not None:
                found.append((type(change).__name__, job.file))
    return found
