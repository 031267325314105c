"""MES instances that come, go and change while machines are reported: what waits is told once, to whom it belongs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import wire
from bridge.machine import Machine
from bridge.mes import MesSink
from bridge.mes.client import Kind, Message, Outcome, Verdict
from bridge.mes.delivery import Delivery
from bridge.mes.store import Store
from bridge.sandbox import Sandbox
from bridge.settings import MesSettings
from tests.bridge.events import Story
from tests.bridge.mes.chain import (
    REGISTRATION,
    events_of,
    machines_of,
    make_sink,
    mes_settings,
    running_sandbox,
    wait_until,
)

PRINT = ["job_started", "job_paused", "job_resumed", "job_finished"]


class Plant:
    """A sink to which machine `m` is reported."""

    def __init__(self, sink: MesSink, *mes_ids: int) -> None:
        self.sink = sink
        self.story = Story()
        self.mes_ids = mes_ids
        self._told = 0

    @property
    def machine(self) -> tuple[str, tuple[int, ...], Any, Machine]:
        return "m", self.mes_ids, REGISTRATION, self.story.machine

    def tell(self) -> None:
        """Hand over what the story has become."""
        for transition in self.story.transitions[self._told :]:
            self.sink.handle(transition)
        self._told = len(self.story.transitions)

    def begin(self) -> None:
        self.story.link("up")
        self.story.tell(wire.SNAPSHOT)
        self.story.tell(wire.JOB_STARTED)
        self.story.states("starting", "printing")
        self.tell()

    def pause(self) -> None:
        self.story.states("pausing", "paused")
        self.tell()

    def end(self) -> None:
        self.story.states("resuming", "printing")
        self.story.tell(wire.JOB_ENDED)
        self.story.states("finishing", "operational")
        self.tell()

    def change(self, *instances: MesSettings) -> None:
        self.sink.change(instances, [self.machine])


@asynccontextmanager
async def plant(
    folder: Path, *instances: MesSettings, mes_ids: tuple[int, ...] = (1, 2)
) -> AsyncIterator[Plant]:
    one = Plant(make_sink(folder, *instances), *mes_ids)
    one.sink.register(*one.machine)
    one.sink.start()
    try:
        yield one
    finally:
        await one.sink.stop()


async def until(condition: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(wait_until, condition, 30.0)


def status(sandbox: Sandbox) -> str | None:
    machines = machines_of(sandbox)
    return machines[0]["status"] if machines else None


def heard(sandbox: Sandbox) -> list[str]:
    machines = machines_of(sandbox)
    return events_of(machines[0]) if machines else []


async def test_a_mes_that_is_added_hears_how_the_machine_is_and_all_that_comes_after(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "1") as first, running_sandbox(tmp_path / "2") as second:
        async with plant(tmp_path, mes_settings(first)) as one:
            one.begin()
            await until(lambda: status(first) == "Running")
            one.change(mes_settings(first), mes_settings(second, id=2))
            await until(lambda: status(second) == "Running")
            one.pause()
            one.end()
            later = ["job_estimate_changed", *PRINT[1:]]  # so that it knows the job that runs
            await until(lambda: (heard(first), heard(second)) == (PRINT, later))


async def test_other_settings_of_a_mes_lose_and_double_nothing_and_show_no_machine_offline(
    tmp_path: Path,
) -> None:
    with running_sandbox(tmp_path / "1") as sandbox:
        settings, seen = mes_settings(sandbox), set()
        async with plant(tmp_path, settings) as one:
            one.begin()
            await until(lambda: status(sandbox) == "Running")
            for number, step in enumerate((one.pause, one.end, one.tell)):
                step()
                one.change(replace(settings, heartbeat=1.0 + number, auth_header="Authorization"))
                for _ in range(10):
                    seen.add(await asyncio.to_thread(status, sandbox))
            await until(lambda: heard(sandbox) == PRINT and status(sandbox) == "Idle")
            assert "Offline" not in seen
        assert len(machines_of(sandbox)) == 1


async def test_what_waits_for_a_mes_that_is_away_goes_where_it_is_said_to_be_now(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "1") as sandbox:
        settings = mes_settings(sandbox)
        async with plant(tmp_path, replace(settings, url="http://127.0.0.1:1")) as one:
            one.begin()
            await one.sink.drain()
            one.pause()
            one.change(settings)
            one.end()
            await until(lambda: heard(sandbox) == PRINT and status(sandbox) == "Idle")


async def test_a_mes_that_moved_without_its_data_hears_of_a_machine_that_says_nothing_new(
    tmp_path: Path,
) -> None:
    with running_sandbox(tmp_path / "1") as first, running_sandbox(tmp_path / "2") as second:
        async with plant(tmp_path, mes_settings(first)) as one:
            one.begin()
            await until(lambda: status(first) == "Running")
            one.change(mes_settings(second))
            await until(lambda: status(second) == "Running" and status(first) == "Offline")


async def test_a_mes_that_is_taken_out_is_signed_off_and_the_other_goes_on(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "1") as first, running_sandbox(tmp_path / "2") as second:
        async with plant(tmp_path, mes_settings(first), mes_settings(second, id=2)) as one:
            one.begin()
            await until(lambda: (status(first), status(second)) == ("Running", "Running"))
            one.change(mes_settings(first))
            await until(lambda: status(second) == "Offline")
            one.pause()
            one.end()
            await until(lambda: heard(first) == PRINT and status(first) == "Idle")
            assert heard(second) == PRINT[:1]
            assert [state.mes for state in one.sink.states()] == [1]
            one.change(mes_settings(first), mes_settings(second, id=2))
            await until(lambda: status(second) == "Idle")


async def test_a_mes_that_is_changed_while_it_hangs_hears_everything_once_it_answers(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "1") as sandbox, socket.create_server(("127.0.0.1", 0)) as dumb:
        settings = mes_settings(sandbox, timeout=2.0)
        async with plant(tmp_path, replace(settings, url=f"http://127.0.0.1:{dumb.getsockname()[1]}")) as one:
            one.begin()
            answerless, _ = await asyncio.to_thread(dumb.accept)
            with answerless:
                one.pause()
                for heartbeat in (3.0, 4.0, 5.0):
                    one.change(replace(settings, heartbeat=heartbeat))
                one.end()
                await until(lambda: heard(sandbox) == PRINT and status(sandbox) == "Idle")


class Waiting:
    """A client whose MES answers only when it is let to."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.answering = threading.Event()

    def send(self, message: Message, timeout: float | None = None) -> Outcome:
        self.sent.append(message)
        assert self.answering.wait(30)
        return Outcome(Verdict.DONE, answer={"activation": "active"})

    def close(self) -> None: ...


def test_who_comes_after_waits_for_the_answer_that_is_on_its_way_and_does_not_sign_off(
    tmp_path: Path,
) -> None:
    store, settings = Store(tmp_path / "mes.sqlite"), MesSettings(id=1, url="http://127.0.0.1:1")
    clients = Waiting(), Waiting()
    before, after = (Delivery(settings, store, "bridge-1", client) for client in clients)
    clients[1].answering.set()
    before.register("m", "{}")
    before.start()
    wait_until(lambda: clients[0].sent)
    before.retire(5.0, deliver=False, sign_off=False)
    after.take_over(before)
    after.start(before)
    time.sleep(0.3)
    assert clients[1].sent == []
    clients[0].answering.set()
    wait_until(lambda: len(clients[1].sent) >= 2)
    assert [one.kind for one in clients[0].sent] == [Kind.REGISTRATION]
    assert [one.kind for one in clients[1].sent[:2]] == [Kind.REGISTRATION, Kind.HEARTBEAT]
    assert after.stop(5.0)
    assert clients[1].sent[-1].kind == Kind.SIGN_OFF
    store.close()


async def test_a_machine_that_left_is_not_brought_back_by_a_mes_that_loses_its_data(tmp_path: Path) -> None:
    folder, port = tmp_path / "mes", 0
    with running_sandbox(folder) as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        settings = mes_settings(sandbox, heartbeat=0.1)
        one = Plant(make_sink(tmp_path, settings), 1)
        one.sink.register(*one.machine)
        one.sink.register(
            "n", (1,), replace(REGISTRATION, name="Right", url="http://127.0.0.1:5001"), Machine()
        )
        one.sink.start()
        one.begin()
        await until(lambda: len(machines_of(sandbox)) == 2)
        one.sink.withdraw("m")
        await until(
            lambda: {m["name"]: m["status"] for m in machines_of(sandbox)}["Left printer"] == "Offline"
        )
        # What is said of it may be on its way yet, and would be told to whatever MES comes.
        await until(lambda: "m" not in one.sink.states()[0].machines)
    try:
        token = settings.token_file.read_bytes() if settings.token_file else b""
        shutil.rmtree(folder)
        folder.mkdir()
        assert settings.token_file is not None
        settings.token_file.write_bytes(token)
        settings.token_file.chmod(0o600)
        with running_sandbox(folder, port=port) as sandbox:
            await until(lambda: machines_of(sandbox))
            await asyncio.sleep(0.5)  # five signs of life
            assert [m["name"] for m in machines_of(sandbox)] == ["Right"]
            await one.sink.stop()
    finally:
        await one.sink.stop()
