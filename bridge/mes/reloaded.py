"""A value made from files, and made anew once one of them is another: so secrets and certificates change in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_Mark = tuple[int, int, int] | None


class Reloaded(Generic[T]):
    """What `make` makes of `files`. Whatever `make` raises is raised, and it is asked again the next time."""

    def __init__(self, files: Iterable[Path | None], make: Callable[[], T]) -> None:
        self._files = tuple(file for file in files if file is not None)
        self._make = make
        self._made: tuple[tuple[_Mark, ...], T] | None = None

    def get(self) -> T:
        """The value for the files as they are now; costs one look at each, and no reading unless they changed."""
        marks = tuple(_mark(file) for file in self._files)
        if self._made is None or self._made[0] != marks:
            self._made = None
            self._made = marks, self._make()
        return self._made[1]

    def forget(self) -> None:
        """Make it anew the next time, for a file may change without a sign of it."""
        self._made = None


def _mark(file: Path) -> _Mark:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
