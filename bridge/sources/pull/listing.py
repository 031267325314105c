"""What ``/api/files`` lists: without folders, and what of it the printer can print as the wire's ``files``. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bridge import wire
from octoprint_mesbridge.printables import Printable, files_record
from octoprint_mesbridge.records import number

_DEEPEST = 32
LATEST = 1e11
"""Seconds since the epoch; what is later is no time."""


def flat(files: Iterable[Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The files in all folders, without the folders."""
    for file in files:
        if not isinstance(file, Mapping):
            continue
        children = file.get("children")
        if isinstance(children, list):
            if depth < _DEEPEST:
                yield from flat(children, depth + 1)
        else:
            yield file


def printables(files: Iterable[Any]) -> dict[str, Any]:
    """The wire's ``files``: the newest that OctoPrint itself holds; those on the printer's own card have no date."""
    found = (
        (Printable(date, path, int(size)), {"analysis": file.get("gcodeAnalysis")})
        for file in flat(files)
        if file.get("type") == "machinecode"
        and file.get("origin") == "local"
        and isinstance(path := file.get("path"), str)
        and (date := number(file.get("date"), 0, LATEST)) is not None
        and (size := number(file.get("size"), 0, 1 << 53)) is not None
    )
    return files_record(heapq.nlargest(wire.MAX_FILES, found, key=lambda one: one[0]))
