"""What a push waits for the log, while old events are forgotten and the file gives its pages back.

A log is filled to twice the size that the settings allow, then trimmed while plugins push 200 batches a second; the
time of each append is measured, and compared with that without a trim. ``--size MB`` for another size than 500.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge import wire
from bridge.log.sqlite import SqliteLog

_RATE = 200
_MEASURED_S = 10.0
_HEATERS = {"heaters": {f"tool{n}": {"actual": 200.1 + n, "target": 205.0} for n in range(6)}}
_STATE = {"state": "printing", "error": None, "text": "x" * 200}


def _batch(seq: int, now: datetime) -> wire.Batch:
    event = wire.Event(seq, now, wire.STATE, _STATE)
    return wire.Batch("one", seq - 1, seq, (event,), now)


def _fill(path: Path, size: int) -> int:
    """Put records into the file of a log until it has `size` bytes; every third is a sample. Returns how many."""
    state, heaters = json.dumps(_STATE), json.dumps(_HEATERS)
    now = wire.format_time(wire.utc_now())
    position = 0
    with closing(sqlite3.connect(path)) as db:
        while path.stat().st_size < size:
            rows = (
                (
                    f"octoprint-{n % 500:08x}",
                    "past",
                    n,
                    now,
                    *(("heaters", heaters) if n % 3 else ("state", state)),
                )
                for n in range(position + 1, position + 20_001)
            )
            with db:
                db.executemany(
                    "INSERT INTO record (machine, instance, seq, time, kind, data) VALUES (?, ?, ?, ?, ?, ?)",
                    rows,
                )
            position += 20_000
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return position


async def _push(log: SqliteLog, over: asyncio.Event, seconds: float) -> list[float]:
    """Append until `over` is set and for at least `seconds`; how long each took, in seconds."""
    took: list[float] = []
    numbers = {f"m{n}": 0 for n in range(20)}
    begun = due = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one(machine: str) -> None:
        numbers[machine] += 1
        batch = _batch(numbers[machine], wire.utc_now())
        start = time.perf_counter()
        await log.append(machine, batch)
        took.append(time.perf_counter() - start)

    number = 0
    while not over.is_set() or time.perf_counter() < begun + seconds:
        task = asyncio.create_task(one(f"m{number % 20}"))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        due += 1 / _RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(*running)
    return took


async def measure(folder: Path, size: int) -> dict[str, object]:
    path = folder / "log.sqlite"
    log = SqliteLog(path, lambda records: None)
    await log.close()
    filled = _fill(path, 2 * size)
    log = SqliteLog(path, lambda records: None)
    over = asyncio.Event()
    over.set()
    quiet = await _push(log, over, _MEASURED_S)
    before = path.stat().st_size
    over.clear()
    pushing = asyncio.create_task(_push(log, over, _MEASURED_S))
    start, largest_wal = time.perf_counter(), 0

    async def watch() -> None:
        nonlocal largest_wal
        while True:
            largest_wal = max(largest_wal, log.size[1])
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    long_ago = datetime.now(UTC) - timedelta(days=30)
    forgotten = await log.trim(long_ago, filled, size)
    took = time.perf_counter() - start
    over.set()
    busy = await pushing
    watching.cancel()
    after = path.stat().st_size
    await log.close()
    return {
        "records": filled,
        "forgotten": forgotten,
        "trim_s": round(took, 1),
        "file_mb": [round(before / 2**20), round(after / 2**20)],
        "largest_wal_mb": round(largest_wal / 2**20, 1),
        "append_ms": {"quiet": _figures(quiet), "while trimming": _figures(busy)},
    }


def _figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in at.items()
    } | {"n": len(ordered)}


def run() -> None:
    """Measure, and print one JSON object."""
    size = int(sys.argv[sys.argv.index("--size") + 1]) if "--size" in sys.argv else 500
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), size * 2**20)), indent=1))


if __name__ == "__main__":
    run()
