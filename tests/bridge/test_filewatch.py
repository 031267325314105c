"""Files that change, as editors and people change them, and the one call that follows."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge import filewatch
from bridge.filewatch import Watch

SECONDS = 30


class Watched:
    """A folder that is watched, and what was found in its file at each call."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.json"
        self.files = {self.path}
        self.found: list[str | None] = []
        self.asked: list[bool] = []
        self.watch = Watch(lambda: self.files, self._changed, every=0.05)

    async def _changed(self, asked: bool) -> None:
        self.asked.append(asked)
        self.found.append(self.path.read_text() if self.path.exists() else None)

    async def calls(self, number: int) -> list[str | None]:
        async with asyncio.timeout(SECONDS):
            while len(self.found) < number:
                await asyncio.sleep(0.01)
        return self.found


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    one = Watched(tmp_path)
    one.path.write_text("first")
    task = asyncio.create_task(one.watch.run())
    await one.calls(1)  # what changed since the files were read at the start
    yield one
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def quiet(watched: Watched, calls: int) -> None:
    """That in ten looks nothing more is called."""
    await asyncio.sleep(0.5)
    assert len(watched.found) == calls


async def test_a_file_that_stays_as_it_is_calls_nothing(watched: Watched) -> None:
    await quiet(watched, 1)


async def test_a_file_that_is_written_over_replaced_deleted_and_there_again(watched: Watched) -> None:
    watched.path.write_text("again")
    assert await watched.calls(2) == ["first", "again"]
    other = watched.path.with_name("other")
    other.write_text("AGAIN")  # of the same size
    os.utime(other, ns=(watched.path.stat().st_atime_ns, watched.path.stat().st_mtime_ns))
    other.replace(watched.path)
    assert (await watched.calls(3))[-1] == "AGAIN"
    watched.path.unlink()
    assert (await watched.calls(4))[-1] is None
    watched.path.write_text("back")
    assert (await watched.calls(5))[-1] == "back"
    await quiet(watched, 5)


async def test_a_file_that_is_emptied_and_then_filled_is_read_when_it_is_whole(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filewatch, "_SETTLED_AFTER_S", 1.5)
    with watched.path.open("w") as file:
        for _ in range(8):
            file.write("part ")
            file.flush()
            await asyncio.sleep(0.1)
    assert (await watched.calls(2))[1] == "part " * 8
    await quiet(watched, 2)


async def test_a_file_that_may_be_read_only_now(watched: Watched) -> None:
    watched.path.chmod(0o640)
    await watched.calls(2)


async def test_a_file_that_is_named_only_now_counts_as_changed(watched: Watched, tmp_path: Path) -> None:
    watched.files = {watched.path, tmp_path / "secret.txt"}
    await watched.calls(2)
    (tmp_path / "secret.txt").write_text("key")
    await watched.calls(3)
    await quiet(watched, 3)


async def test_who_asks_is_answered_though_nothing_changed(watched: Watched) -> None:
    watched.watch.at_once()
    await watched.calls(2)
    assert watched.asked == [False, True]
    await quiet(watched, 2)
