"""Writing at a steady rate until standard input ends."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any


async def write_at(rate: float, write: Callable[[int, float], Any]) -> None:
    """Call `write` with a count and a new value, `rate` times a second, in small portions."""
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    begin, done = time.monotonic(), 0
    while not ended.done():
        due = int((time.monotonic() - begin) * rate)
        while done < due:
            written = write(done, float(done + 1))
            if written is not None:
                await written
            done += 1
            if done % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.005)
