"""The files that the printer can print, as the wire's ``files``.

In flow what the disk and OctoPrint's metadata say of them, whatever that is; out flow a record for `bridge.wire`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from bridge import wire

from .records import at_least_zero, filament_record, sound_text

MAX_BYTES = 256 * 1024
"""A list that is longer as JSON is cut: it must fit into a push beside other events, whatever the paths are."""

_LONGEST_PATH = 4096


class Printable(NamedTuple):
    """A file of machine code: `modified` in seconds since the epoch, `path` from OctoPrint's folder of uploads."""

    modified: float
    path: str
    size: int


def files_record(found: Iterable[tuple[Printable, Any]]) -> dict[str, Any]:
    """Of files with their metadata as OctoPrint has it, the newest first."""
    files: list[dict[str, Any]] = []
    room = MAX_BYTES
    for printable, metadata in found:
        if len(printable.path) > _LONGEST_PATH:
            continue  # cut, it would be the path of another file
        record = _file_record(printable, metadata)
        room -= len(json.dumps(record, ensure_ascii=False).encode())
        if room < 0 or len(files) == wire.MAX_FILES:
            break
        files.append(record)
    return {"files": files}


def _file_record(printable: Printable, metadata: Any) -> dict[str, Any]:
    analysis = metadata.get("analysis") if isinstance(metadata, Mapping) else None
    if not isinstance(analysis, Mapping):
        analysis = {}
    return {
        "path": sound_text(printable.path),
        "size": printable.size,
        "date": _date(printable.modified),
        "estimated_print_time": at_least_zero(analysis.get("estimatedPrintTime")),
        "filament": filament_record(analysis.get("filament")),
    }


def _date(seconds: float) -> str | None:
    try:
        return wire.format_time(datetime.fromtimestamp(seconds, timezone.utc))
    except (OverflowError, OSError, ValueError):
        return None
