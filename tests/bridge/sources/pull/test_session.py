"""OctoPrints followed from outside over real sockets, while everything that can goes wrong on the way.

The OctoPrints are simulated. What takes seconds in a plant takes tenths of them here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.aggregator import Secret
from bridge.fleet import Fleet
from bridge.log.sqlite import SqliteLog
from bridge.machine import JobState, Machine, Result
from bridge.sources.pull import Channel, PullSource, follower, session
from bridge.sources.verification import Candidate
from tests.simulated.octoprint import STATUS, STATUS_AND_FILES, SimulatedOctoPrint
from tests.simulated.plant import Plant

KEY = "k" * 43
PACE_S = 0.5
SLACK_S = 0.25
FILE = "part.gcode"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the usual times."""
    for name in (
        "POLL_EVERY_S",
        "_LOOK_EVERY_S",
        "_SOCKET_AGAIN_S",
        "_FIRST_RETRY_S",
        "_LONGEST_RETRY_S",
        "_STABLE_AFTER_S",
        "_HISTORY_WITHIN_S",
        "_QUIET_S",
    ):
        monkeypatch.setattr(session, name, getattr(session, name) / 10)
    monkeypatch.setattr(session, "_LOOK_EVERY_S", 1.0)
    monkeypatch.setattr(follower, "_DISAGREES_FOR", timedelta(seconds=0.8))


class Following:
    """One simulated OctoPrint, and what the log makes of it."""

    def __init__(
        self,
        octoprint: SimulatedOctoPrint,
        source: PullSource,
        machines: Fleet,
        signs_of_life: Sequence[float],
    ) -> None:
        self.signs_of_life = signs_of_life
        self.octoprint = octoprint
        self.source = source
        self.begun = time.monotonic()
        self._machines = machines

    @property
    def machine(self) -> Machine:
        return self._machines["m"]

    @property
    def channel(self) -> Channel | None:
        return self.source.channel("m")

    def sockets(self) -> int:
        """How often the socket was asked for."""
        return sum(one.path == "/sockjs/websocket" for one in self.octoprint.requests)

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not true():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(
    folder: Path, *, wait: bool = True, permissions: frozenset[str] = STATUS, **faults: Any
) -> AsyncIterator[Following]:
    """An OctoPrint with such `faults` from the beginning, followed."""
    octoprint = SimulatedOctoPrint(KEY, permissions)
    octoprint.heat(tool0=(21.0, 0.0), bed=(21.0, 0.0))
    for name, value in faults.items():
        setattr(octoprint, name, value)
    machines = Fleet()
    store = SqliteLog(folder / "log.sqlite", machines.take)

    signs_of_life: list[float] = []

    async def heard(machine: str) -> None:
        signs_of_life.append(time.monotonic())

    async with Plant([octoprint]).served() as plant:
        source = PullSource(store, machines.__getitem__, heard, 30.0, time.monotonic)
        running = asyncio.create_task(source.run())
        try:
            source.follow(Candidate("m", plant.url_of(0), Secret(KEY)))
            found = Following(octoprint, source, machines, signs_of_life)
            if wait:
                await found.until(lambda: found.channel)
            yield found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await store.close()


def gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_a_print_over_the_socket(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        assert one.channel is Channel.SOCKET
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        one.octoprint.advance(40.0)
        one.octoprint.heat(tool0=(200.5, 210.0))
        job = one.machine.job
        assert job is not None
        assert abs(job.started.timestamp() - one.octoprint.told_at["PrintStarted"]) < 1.0
        await one.until(lambda: one.machine.job and one.machine.job.completion == 40.0)
        await one.until(lambda: one.machine.heaters["tool0"].actual == 200.5)
        one.octoprint.pause()
        await one.until(lambda: one.machine.job and one.machine.job.state is JobState.INTERRUPTED)
        one.octoprint.resume()
        one.octoprint.finish()
        await one.until(lambda: one.machine.job and one.machine.job.result is Result.COMPLETED)
        await one.until(lambda: one.machine.state == "operational")


async def test_a_print_by_rest_where_a_proxy_lets_no_websocket_through(tmp_path: Path) -> None:
    async with following(tmp_path, socket="refused") as one:
        assert one.channel is Channel.REST
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        one.octoprint.pause()
        await one.until(lambda: one.machine.job and one.machine.job.state is JobState.INTERRUPTED)
        one.octoprint.resume()
        one.octoprint.advance(50.0)
        await one.until(lambda: one.machine.job and one.machine.job.completion == 50.0)
        one.octoprint.finish()
        await one.until(lambda: one.machine.job and one.machine.job.result is Result.COMPLETED)


@pytest.mark.parametrize("socket", ["open", "refused"])
async def test_steady_requests_are_never_closer_than_the_pace(tmp_path: Path, socket: str) -> None:
    async with following(tmp_path, socket=socket) as one:
        begun = time.monotonic()
        await asyncio.sleep(8 * PACE_S)
        assert one.octoprint.shortest_pause(begun) > PACE_S - SLACK_S
        asked = one.octoprint.asked(begun)
        assert 2 <= len(asked) <= 9


async def test_an_octoprint_that_is_away_is_asked_less_and_less_and_found_again(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        begun = time.monotonic()
        await one.octoprint.stop()
        await one.until(lambda: len(one.octoprint.asked(begun)) >= 4)
        pauses = gaps([request.at for request in one.octoprint.asked(begun)])
        assert pauses[2] > 1.5 * pauses[0]
        assert one.channel is None
        await one.octoprint.start()
        await one.until(lambda: one.channel is Channel.SOCKET)


async def test_an_octoprint_that_starts_again_during_a_print_has_lost_it(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        await one.octoprint.restart(away=0.3)
        await one.until(lambda: one.machine.job and one.machine.job.result)
        assert one.machine.job is not None
        assert one.machine.job.result is Result.FAILED


async def test_a_session_that_ended_is_renewed_on_the_same_socket(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.end_sessions()
        await one.until(lambda: sum(r.path == "/api/login" for r in one.octoprint.requests) == 2)
        await asyncio.sleep(0.2)
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        assert one.sockets() == 1


async def test_what_happened_while_nobody_was_logged_in_is_noticed(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.end_sessions()
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)


async def test_a_key_that_is_refused_is_said_once_and_hardly_asked_with(tmp_path: Path) -> None:
    with capture_logs() as said:
        async with following(tmp_path) as one:
            one.octoprint.refuse()
            begun = time.monotonic()
            await one.until(lambda: one.channel is None)
            await asyncio.sleep(4.0)
            assert len(one.octoprint.asked(begun)) <= 3
    (told,) = (line for line in said if line["log_level"] == "warning")
    assert "does not accept the key" in told["detail"]


@pytest.mark.parametrize("socket", ["open", "refused"])
async def test_times_are_those_of_octoprints_clock_however_it_is_heard(tmp_path: Path, socket: str) -> None:
    async with following(tmp_path, socket=socket, ahead=3600.0) as one:
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        job = one.machine.job
        assert job is not None
        assert abs(job.started.timestamp() - one.octoprint.told_at["PrintStarted"]) < 3.0


async def test_what_a_proxy_answers_in_place_of_octoprint_is_no_sign_of_life(tmp_path: Path) -> None:
    async with following(tmp_path, socket="refused") as one:
        one.octoprint.down = True
        await one.until(lambda: one.channel is None)
        await one.until(lambda: one.octoprint.asked()[-1].at > one.begun + 3)
        assert one.signs_of_life[-1] < one.octoprint.asked()[-1].at - 1


async def test_a_socket_that_says_nothing_is_replaced_by_rest(tmp_path: Path) -> None:
    async with following(tmp_path, socket="silent") as one:
        assert one.channel is Channel.REST
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)


async def test_a_socket_that_falls_silent_is_noticed_by_what_rest_says(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.socket = "silent"
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)


async def test_a_socket_that_works_again_is_taken_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(session, "_SOCKET_AGAIN_S", 2.0)
    async with following(tmp_path, socket="refused") as one:
        assert one.channel is Channel.REST
        one.octoprint.socket = "open"
        await one.until(lambda: one.channel is Channel.SOCKET)


async def test_a_slow_octoprint_is_followed_all_the_same(tmp_path: Path) -> None:
    async with following(tmp_path, delay=0.3) as one:
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        assert one.channel is Channel.SOCKET


async def test_a_printer_that_is_let_go_and_one_that_fails(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.disconnect()
        await one.until(lambda: one.machine.state == "disconnected")
        one.octoprint.connect()
        await one.until(lambda: one.machine.state == "operational")
        one.octoprint.print(FILE)
        await one.until(lambda: one.machine.active_job)
        one.octoprint.fail("Thermal Runaway")
        await one.until(lambda: one.machine.job and one.machine.job.result is Result.FAILED)
        assert one.machine.job is not None
        assert one.machine.job.reason == "Thermal Runaway"


async def test_a_plugin_that_is_heard_has_the_source_silent_at_once(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        assert await one.source.plugin_heard("m") is True
        assert one.channel is None
        begun, state = time.monotonic(), one.machine
        one.octoprint.print(FILE)
        await asyncio.sleep(1.0)
        assert one.octoprint.asked(begun) == []
        assert one.machine == state
        assert await one.source.plugin_heard("m") is False


async def test_a_file_that_is_uploaded_is_listed_a_while_later(tmp_path: Path) -> None:
    async with following(tmp_path, permissions=STATUS_AND_FILES) as one:
        one.octoprint.add_file("new.gcode")
        await one.until(lambda: [file.path for file in one.machine.files or ()] == ["new.gcode"])


async def test_a_key_that_may_not_list_files_asks_for_them_once(tmp_path: Path) -> None:
    async with following(tmp_path) as one:
        one.octoprint.add_file("new.gcode")
        await asyncio.sleep(3.0)
        assert sum(request.path == "/api/files" for request in one.octoprint.requests) == 1
        assert one.machine.files is None
