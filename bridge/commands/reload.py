"""`mesbridge reload`: the running bridge reads its files again. Out: what changed, or what is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge import control, settings
from bridge.hints import with_settings
from bridge.settings import SettingsError


def run(path: Path | None, *, as_json: bool) -> int:
    """0 when the files are in force, 1 when they are refused or no bridge runs, 2 when the settings cannot be used."""
    try:
        chosen = settings.load(path)
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    try:
        found = control.ask(chosen.bridge.state_folder, "reload")
    except control.ControlError as error:
        print(with_settings(f"mesbridge: {error}", path), file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if as_json else "\n".join(report(found)))
    return 0


def report(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines for people."""
    machines, mes = found["machines"], found["mes"]
    lines = [
        *(f"machine {one}: added" for one in machines["added"]),
        *(f"machine {one}: removed" for one in machines["removed"]),
        *(f"machine {one}: changed ({', '.join(what)})" for one, what in machines["changed"].items()),
        *(f"machine {one}: FAILED; the bridge's log says why" for one in machines["failed"]),
        *(f"MES {one}: {what}" for what in ("added", "removed", "changed") for one in mes[what]),
        *_settings(found["settings"], "in force"),
        *_settings(
            found["need_restart"], "needs a restart of the bridge; until then the old value is in force"
        ),
    ]
    yield from lines or ["Nothing has changed."]


def _settings(keys: Sequence[str], what: str) -> Iterator[str]:
    return (f"{key}: {what}" for key in keys if key != "mes")
