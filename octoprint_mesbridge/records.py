"""OctoPrint's values as the wire's records: what is not sound in them is left out, and how far two are apart.

In flow shapes of OctoPrint 1.11 and 2.0, whatever they hold; out flow records for `bridge.wire`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge import wire

from .layers import Layers

ORIGINS = {"sdcard": "printer"}
"""What OctoPrint 1.11 calls the printer's own storage, as 2.0 does."""

CELSIUS_STEP = 0.5
PERCENT_STEP = 0.1
SECONDS_STEP = 5.0
"""Smaller changes of a sample than these are not worth a message."""


def job_record(
    run: str, moment: datetime, payload: Mapping[str, Any], current: Mapping[str, Any]
) -> dict[str, Any]:
    """The wire's ``job``, from the event and, where that is about the same file, or of none, from the current job."""
    path = text_or_none(payload.get("path"), 4096)
    file = mapping(current.get("file"))
    if path is not None and file.get("path") not in (None, path):
        current, file = {}, {}
    path = path or text_or_none(file.get("path"), 4096)
    origin = text_or_none(payload.get("origin") or file.get("origin"), 64)
    size = payload.get("size") if payload.get("size") is not None else file.get("size")
    return {
        "run": run,
        "file": text_or_none(payload.get("name") or file.get("name") or path, 512) or "unknown",
        "path": path,
        "origin": ORIGINS.get(origin or "", origin),
        "size": int(size) if isinstance(size, (int, float)) and 0 <= size < 1 << 53 else None,
        "started": wire.format_time(moment),
        "estimated_print_time": at_least_zero(current.get("estimatedPrintTime")),
        "filament": filament_record(current.get("filament")),
    }


def filament_record(value: Any) -> dict[str, Any] | None:
    """By tool, of an analysis or a job in OctoPrint's shape; None when it says nothing."""
    tools = {
        sound_text(str(tool))[:64]: {key: at_least_zero(amounts.get(key)) for key in ("length", "volume")}
        for tool, amounts in mapping(value).items()
        if isinstance(amounts, Mapping)
    }
    return tools or None


def heaters_record(temperatures: Mapping[str, Any]) -> dict[str, Any]:
    heaters = {
        sound_text(str(name))[:64]: {key: number(values.get(key), -300, 5000) for key in ("actual", "target")}
        for name, values in temperatures.items()
        if isinstance(values, Mapping)
    }
    # OctoPrint lists a chamber for every printer; one without any value is not there.
    return {name: values for name, values in heaters.items() if any(v is not None for v in values.values())}


def progress_record(run: str, progress: Mapping[str, Any], layers: Layers) -> dict[str, Any]:
    return {
        "run": run,
        "completion": percent(progress.get("completion")),
        "print_time": at_least_zero(progress.get("printTime")),
        "print_time_left": at_least_zero(progress.get("printTimeLeft")),
        "layer": layers.current,
        "layers": layers.total,
    }


def mapping(value: Any) -> Mapping[str, Any]:
    """`value`, or nothing where it is no mapping."""
    return value if isinstance(value, Mapping) else {}


def text_or_none(value: Any, limit: int) -> str | None:
    return None if value is None else sound_text(str(value))[:limit]


def sound_text(text: str) -> str:
    """`text` without what UTF-8 cannot carry: names of files may hold bytes that are no characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def number(value: Any, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):  # a whole number may be too long to be asked
        return None
    return value if low <= value <= high else None


def at_least_zero(value: Any) -> float | None:
    return number(value, 0, 1e9)


def percent(value: Any) -> float | None:
    found = number(value, -math.inf, math.inf)
    return None if found is None else min(max(found, 0.0), 100.0)


def heaters_differ(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    if new.keys() != old.keys():
        return True
    return any(
        apart(values["actual"], old[name]["actual"], CELSIUS_STEP) or values["target"] != old[name]["target"]
        for name, values in new.items()
    )


def progress_moved(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    return old is None or any(
        apart(new[key], old[key], step)
        for key, step in (
            ("completion", PERCENT_STEP),
            ("print_time", SECONDS_STEP),
            ("print_time_left", SECONDS_STEP),
            ("layer", 1),
            ("layers", 1),
        )
    )


def apart(new: float | None, old: float | None, step: float) -> bool:
    if new is None or old is None:
        return new is not old
    return abs(new - old) >= step
