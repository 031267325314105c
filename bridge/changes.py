"""Which machines have changed since somebody looked, so that a page that follows hundreds asks for the few."""

from __future__ import annotations

import secrets

_LONGEST = 18


class Changes:
    """Numbers the changes of one run of a program. Not for several threads at once."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._count = 0
        self._latest: dict[str, int] = {}

    def note(self, machine: str) -> None:
        """The machine has changed."""
        self._count += 1
        self._latest[machine] = self._count

    @property
    def mark(self) -> str:
        """What stands for now, to be given to `after`."""
        return f"{self._run}.{self._count}"

    def after(self, mark: str | None, machine: str) -> bool:
        """Whether the machine has changed after `mark`, or may have: marks of another run say nothing."""
        run, _, count = (mark or "").partition(".")
        if run != self._run or not count.isdecimal() or len(count) > _LONGEST:
            return True
        return self._latest.get(machine, 0) > int(count)
