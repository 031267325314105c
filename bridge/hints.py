"""The commands that texts suggest, as the person who reads them has to give them.

Whoever makes a text does not know with which options the command was started that shows it. So a text names a
command in backticks, as in "`mesbridge pair list`", and whoever shows it adds ``--settings FILE`` where it was given.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_SUGGESTED = re.compile(r"`(mesbridge (?:backup|mes|pair|reload|restore|run|trust|user|watch)(?: [^`]*)?)`")


def with_settings(text: str, settings: Path | None) -> str:
    """`text`, in which each command takes the same `settings` as the one that shows it."""
    if settings is None:
        return text
    option = f"--settings {shlex.quote(str(settings))}"
    return _SUGGESTED.sub(lambda found: f"`{found[1]} {option}`", text)
