"""The bridge's state folder: made safe at start, and held by one process at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


PKI = "pki"
"""The folder in it of the OPC UA server's certificate, and of those that it trusts."""


RESTORING = ".{name}.restoring-"
"""So begins the name of the folder beside it in which a backup is unpacked."""


class StateFolderError(Exception):
    """The folder cannot be used; the text says which, why, and what to do."""


class StateFolder:
    """Owns `path` until `close`: made when missing, readable by its owner only. Raises `StateFolderError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists() and any(path.parent.glob(f"{RESTORING.format(name=path.name)}*")):
            raise StateFolderError(
                f"{path}: is missing, and a restore was ended half-way: give `mesbridge restore FILE` again. Without a"
                f" backup, give the newest {path.name}.before-... beside it its name back, and remove"
                f" {RESTORING.format(name=path.name)}..."
            )
        advice = "make it writable for the bridge's user, or set bridge.state_folder in the settings"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: IO[str] = open(path / "lock", "a", encoding="ascii", opener=_private)  # noqa: SIM115
        except OSError as error:
            raise StateFolderError(
                f"{path}: the state folder cannot be used: {error.strerror}; {advice}"
            ) from None
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._lock.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateFolderError(
                f"{path}: another mesbridge uses this state folder; stop it,"
                " or set another bridge.state_folder"
            ) from None

    @property
    def open_to_others(self) -> bool:
        """Whether other users of the computer can look into a folder that was there before (POSIX only)."""
        return sys.platform != "win32" and bool(self.path.stat().st_mode & 0o077)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
