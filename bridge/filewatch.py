"""When files have changed, by a look at each every second. In: which files. Out: a call when they have come to rest.

Editors put another file in a file's place, or empty it and write it in two steps, and a secret file may come after the
file that names it. So a change counts only when a second look a little later finds the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

EVERY_S: Final = 1.0
_SETTLED_AFTER_S: Final = 0.3
_LONGEST_UNREST_S: Final = 10.0

Mark = tuple[int, ...] | None
"""By what a file is known again; None of one that is not there or may not be looked at."""


def marks(files: Iterable[Path]) -> dict[Path, Mark]:
    """How the files are now."""
    return {file: _mark(file) for file in files}


def _mark(file: Path) -> Mark:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    # The change of its inode tells of a chmod, too, by which a file can be read that could not be before.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_dev, found.st_ino


class Watch:
    """Calls `changed` when one of `files` has changed; both are asked anew each time.

    A file that was not among them at the last look counts as changed. `at_once` has it call without any change.
    """

    def __init__(
        self,
        files: Callable[[], Collection[Path]],
        changed: Callable[[bool], Awaitable[None]],
        every: float = EVERY_S,
    ) -> None:
        self._files = files
        self._changed = changed
        self._every = every
        self._asked = asyncio.Event()

    def at_once(self) -> None:
        """Call `changed` with True now, whether anything changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        known: Mapping[Path, Mark] = {}
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._every)
            asked = self._asked.is_set()
            self._asked.clear()
            now = await self._look()
            if now == known and not asked:
                continue
            known = now if asked else await self._settled(now)
            try:
                await self._changed(asked)
            except Exception:  # the bridge goes on as it is
                log.exception(
                    "changed files were not taken over, for a reason that nobody foresaw; report it with the log. A"
                    " restart of the bridge takes them over"
                )

    async def _settled(self, seen: Mapping[Path, Mark]) -> Mapping[Path, Mark]:
        """What two looks in a row see; or what the last one saw when the files do not come to rest."""
        end = time.monotonic() + _LONGEST_UNREST_S
        while time.monotonic() < end and not self._asked.is_set():
            await asyncio.sleep(_SETTLED_AFTER_S)
            before, seen = seen, await self._look()
            if seen == before:
                break
        return seen

    async def _look(self) -> dict[Path, Mark]:
        # Beside the loop: a disk of the network may take its time.
        return await asyncio.to_thread(marks, tuple(self._files()))
