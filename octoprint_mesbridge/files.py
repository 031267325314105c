"""Small files that must be whole after a power cut."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Make `path` hold `text`, readable by its owner alone (mode 0600). Raises `OSError`.

    A crash leaves the old content or the new one, never a part; on return the new one is on the disk.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # created with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def leftovers(path: Path) -> list[Path]:
    """What a crash in `replace_file` may have left beside `path`."""
    return list(path.parent.glob(f".{path.name}-*"))


def remove_leftovers(path: Path) -> None:
    """Remove them, as far as that is possible."""
    for leftover in leftovers(path):
        with contextlib.suppress(OSError):
            leftover.unlink()
