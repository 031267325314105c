"""The last day of all machines, in memory and in its file."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import wire
from bridge.machine import Link, Machine
from bridge.web.day import LENGTH, MOST_JOBS, MOST_NOTICES, MOST_STATES, minute_of
from bridge.web.history import DAMAGED, FILE, History
from tests.bridge.events import START, Story

NOW_MINUTE = minute_of(START) - 5


class Plant:
    """One printer, and a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        self.story = Story()
        self.history = self.begin()

    def begin(self) -> History:
        self.history = History(self.folder, lambda: {"m": self.story.machine}, lambda: self.now)
        return self.history

    def tell(self, kind: str, **changes: Any) -> None:
        self.now = max(self.now, self.story.now + timedelta(seconds=1))
        self.history.handle(self.story.tell(kind, **changes))

    def minutes(self, count: int) -> None:
        for _ in range(count):
            self.now += timedelta(minutes=1)
            self.history.sample()

    def shown(self) -> dict[str, Any]:
        return self.history.day("m").shown(self.now)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    plant = Plant(tmp_path)
    plant.tell("link", link="up", detail="")
    plant.tell(wire.SNAPSHOT)
    return plant


async def test_a_day_survives_a_restart(plant: Plant) -> None:
    plant.tell(wire.JOB_STARTED)
    plant.tell(wire.STATE, state="printing")
    plant.minutes(5)
    plant.tell(wire.JOB_ENDED)
    plant.tell(wire.STATE, state="operational")
    await plant.history.save()
    before = plant.shown()
    said = plant.history.recent()
    assert [one.name for one in said] == ["JobCompleted"]
    plant.begin()
    assert plant.shown()["states"] == []
    await plant.history.load()
    assert plant.shown() == before
    assert plant.history.recent() == said
    assert before["jobs"][0]["result"] == "completed"
    assert before["heaters"]["tool0"]["actual"][-1] == 210.1


async def test_what_happens_while_the_past_is_read_stays(plant: Plant) -> None:
    plant.tell(wire.STATE, state="printing")
    plant.minutes(3)
    await plant.history.save()
    plant.begin()
    plant.minutes(2)
    plant.tell(wire.STATE, state="paused")
    await plant.history.load()
    shown = plant.shown()
    assert [state for _, _, state in shown["states"]] == ["operational", "printing", "paused"]
    assert sum(one is not None for one in shown["heaters"]["bed"]["actual"]) == 5


async def test_what_is_told_twice_is_shown_once(plant: Plant) -> None:
    plant.tell(wire.JOB_STARTED)
    plant.tell(wire.ERROR)
    await plant.history.save()
    plant.begin()
    for transition in plant.story.transitions:  # as a bridge does that was killed
        plant.history.handle(transition)
    await plant.history.load()
    await plant.history.save()
    assert [one.name for one in plant.history.recent()] == ["PrinterError"]
    assert len(plant.shown()["jobs"]) == 1


async def test_a_machine_out_of_reach_has_no_samples_and_says_so(plant: Plant) -> None:
    plant.minutes(2)
    plant.tell("link", link="lost", detail="nothing heard for 30 s")
    plant.minutes(3)
    plant.tell("link", link="up", detail="the plugin delivers")
    plant.minutes(1)
    bed = plant.shown()["heaters"]["bed"]["actual"][-6:]
    assert [one is not None for one in bed] == [True, True, False, False, False, True]
    assert [one.name for one in plant.history.recent()] == ["ConnectionBack", "ConnectionLost"]


async def test_a_printer_whose_clock_is_ahead_is_shown_now_and_one_that_is_years_behind_not_at_all(
    plant: Plant,
) -> None:
    transition = plant.story.tell(wire.STATE, state="paused")
    ahead = replace(transition.record, time=plant.now + timedelta(days=400))
    plant.history.handle(replace(transition, record=ahead))
    assert plant.shown()["states"][-1][2] == "paused"
    assert plant.shown()["states"][-1][1] == plant.now.timestamp()
    behind = replace(transition.record, time=datetime.fromtimestamp(0, START.tzinfo))
    count = len(plant.history.day("m").states)
    plant.history.handle(replace(transition, record=behind))
    assert len(plant.history.day("m").states) == count


async def test_the_file_is_bounded_to_a_day_and_private(plant: Plant) -> None:
    for _ in range(3):
        plant.minutes(10)
        plant.tell(wire.ERROR)
        await plant.history.save()
        plant.now += LENGTH
        plant.story.position += int(LENGTH.total_seconds())
    await plant.history.save()
    path = plant.folder / FILE
    with sqlite3.connect(path) as connection:
        for table in ("minute", "state", "job", "notice"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"this is no database, but a text of some length" * 50, b""])
async def test_a_file_that_cannot_be_used_costs_the_past_only(plant: Plant, content: bytes) -> None:
    (plant.folder / FILE).write_bytes(content)
    with capture_logs() as logs:
        await plant.history.load()
        plant.minutes(2)
        await plant.history.save()
        await plant.history.save()
    assert sum(line["log_level"] == "error" for line in logs) == (1 if content else 0)
    assert plant.shown()["heaters"]["bed"]["actual"][-1] is not None


async def test_a_machine_that_says_too_much_fills_neither_the_file_nor_the_memory(plant: Plant) -> None:
    sizes = []
    for minute in range(4):
        for number in range(700):
            plant.tell(wire.JOB_STARTED, run=f"run-{minute}-{number}", started=wire.format_time(plant.now))
            plant.tell(wire.STATE, state="printing")
            plant.tell(wire.JOB_ENDED, run=f"run-{minute}-{number}")
            plant.tell(wire.STATE, state="operational")
        await plant.history.save()
        sizes.append((plant.folder / FILE).stat().st_size)
    with closing(sqlite3.connect(plant.folder / FILE)) as file:
        counts = {
            table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("state", "job", "notice")
        }
        newest = file.execute("SELECT run FROM job ORDER BY started DESC LIMIT 1").fetchone()[0]
    assert counts == {"state": MOST_STATES, "job": MOST_JOBS, "notice": MOST_NOTICES}
    assert newest == "run-3-699"
    assert sizes[-1] == sizes[-2]
    before = plant.shown()
    plant.begin()
    await plant.history.load()
    assert plant.shown() == before


async def test_what_waits_for_a_file_that_cannot_be_written_is_bounded(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.web.history._MOST_ROWS", 10)
    plant.history = plant.begin()
    (plant.folder / FILE).mkdir()
    for number in range(30):
        plant.tell(wire.JOB_STARTED, run=f"run-{number}", started=wire.format_time(plant.now))
        plant.tell(wire.STATE, state="printing")
        plant.tell(wire.JOB_ENDED, run=f"run-{number}")
        plant.tell(wire.STATE, state="operational")
        plant.minutes(3)
        with capture_logs():
            await plant.history.save()
    news = plant.history._news
    assert (len(news.states), len(news.jobs), len(news.notices), len(news.samples)) == (10, 10, 10, 60)
    assert news.states[-1][2] == "operational"
    assert list(news.jobs)[-1] == ("m", "run-29")


DAMAGE = {
    "a minute that is no zlib": ("INSERT INTO minute VALUES (?, ?)", (NOW_MINUTE, b"garbage")),
    "a minute that is no JSON": ("INSERT INTO minute VALUES (?, ?)", (NOW_MINUTE, zlib.compress(b"{"))),
    "a minute that is a list": ("INSERT INTO minute VALUES (?, ?)", (NOW_MINUTE, zlib.compress(b"[1]"))),
    "a temperature that is none": (
        "INSERT INTO minute VALUES (?, ?)",
        (NOW_MINUTE, zlib.compress(b'{"m": {"bed": [1e9, "x"]}}')),
    ),
    "nested without end": ("INSERT INTO minute VALUES (?, ?)", (NOW_MINUTE, zlib.compress(b"[" * 200_000))),
    "a time that no calendar has": ("INSERT INTO state VALUES ('m', 1e20, 'printing')", ()),
    "a name that is no text": ("INSERT INTO state VALUES (?, ?, 'printing')", (b"m", START.timestamp())),
    "a table that is not there": ("DROP TABLE notice", ()),
    "a newer layout": ("PRAGMA user_version = 99", ()),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_file_that_holds_nonsense_is_said_once_moved_aside_and_begun_anew(
    plant: Plant, what: str
) -> None:
    plant.minutes(1)
    await plant.history.save()
    with closing(sqlite3.connect(plant.folder / FILE)) as file, file:
        file.execute(*DAMAGE[what])
    before = (plant.folder / FILE).read_bytes()
    plant.begin()
    with capture_logs() as logs:
        await plant.history.load()
        plant.minutes(1)
        await plant.history.save()
    assert [line["log_level"] for line in logs] == ["error", "info"]
    assert str(plant.folder / DAMAGED) in logs[0]["hint"]
    assert (plant.folder / DAMAGED).read_bytes() == before
    known = plant.shown()
    plant.begin()
    with capture_logs() as logs:
        await plant.history.load()
    assert (logs, plant.shown()) == ([], known)


async def test_a_file_that_is_damaged_while_the_bridge_runs_loses_nothing_that_was_not_in_it(
    plant: Plant,
) -> None:
    plant.minutes(1)
    await plant.history.save()
    for one in plant.folder.glob(f"{FILE}*"):
        one.write_bytes(b"this is no database, but a text of some length" * 200)
    plant.minutes(2)
    with capture_logs() as logs:
        await plant.history.save()
        await plant.history.save()
    assert [line["log_level"] for line in logs] == ["error", "info"]
    plant.begin()
    await plant.history.load()
    assert sum(one is not None for one in plant.shown()["heaters"]["bed"]["actual"]) == 2


async def test_what_cannot_be_written_for_its_content_is_left_out_and_the_file_stays(plant: Plant) -> None:
    plant.minutes(1)
    await plant.history.save()
    plant.history._news.states.append(("m", plant.now, "\ud800"))
    with capture_logs() as logs:
        await plant.history.save()
        plant.minutes(1)
        await plant.history.save()
    assert [line["log_level"] for line in logs] == ["error"]
    assert not (plant.folder / DAMAGED).exists()
    before = plant.shown()
    plant.begin()
    await plant.history.load()
    assert plant.shown()["heaters"] == before["heaters"]


async def test_what_could_not_be_written_is_written_later(plant: Plant) -> None:
    (plant.folder / FILE).mkdir()
    plant.tell(wire.ERROR)
    plant.minutes(2)
    with capture_logs() as logs:
        await plant.history.save()
        (plant.folder / FILE).rmdir()
        plant.minutes(1)
        await plant.history.save()
    assert [line["log_level"] for line in logs] == ["error", "info"]
    before = plant.shown()
    plant.begin()
    await plant.history.load()
    assert plant.shown() == before


async def test_a_machine_begins_with_what_it_is(tmp_path: Path) -> None:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.tell(wire.JOB_ENDED)
    story.tell(wire.JOB_STARTED, run="run-2", started=wire.format_time(story.now))
    story.states("printing")
    history = History(tmp_path, lambda: {"m": story.machine}, lambda: story.now + timedelta(minutes=1))
    history.add("m", story.machine)
    shown = history.day("m").shown(story.now + timedelta(minutes=1))
    assert [job["result"] for job in shown["jobs"]] == ["completed", None]
    assert shown["states"][-1][2] == "printing"


def test_a_machine_never_heard_of_has_an_empty_day(tmp_path: Path) -> None:
    history = History(tmp_path, lambda: {"m": Machine(link=Link.UNKNOWN)}, lambda: START)
    history.add("m", Machine())
    history.sample()
    shown = history.day("m").shown(START)
    assert (shown["states"], shown["jobs"], shown["heaters"]) == ([], [], {})
    json.dumps(shown)
