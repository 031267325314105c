"""Transitions go in at one end and are seen in a real sandbox MES at the other."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import wire
from bridge.machine import Machine
from bridge.mes.messages import matters
from bridge.mes.outbox import Outbox, Registered
from bridge.mes.store import MesError, Store
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


async def test_a_print_is_seen_in_the_mes_with_its_true_times(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "mes") as sandbox:
        story, sink = Story(), make_sink(tmp_path, mes_settings(sandbox))
        sink.register("m", (1,), REGISTRATION, story.machine)
        sink.start()
        try:
            story.link("up")
            story.tell(wire.SNAPSHOT)
            story.tell(wire.JOB_STARTED)
            story.states("starting", "printing", "pausing", "paused", "resuming", "printing")
            story.tell(wire.JOB_ENDED)
            story.states("finishing", "operational")
            for transition in story.transitions:
                sink.handle(transition)
            assert await sink.drain() == story.position
            await asyncio.to_thread(
                wait_until,
                lambda: (m := machines_of(sandbox)) and m[0]["status"] == "Idle" and len(m[0]["events"]) == 4,
            )
        finally:
            await sink.stop()
        (machine,) = machines_of(sandbox)
    assert machine["status"] == "Offline"  # signed off
    assert events_of(machine) == ["job_started", "job_paused", "job_resumed", "job_finished"]
    (job,) = machine["jobs"]
    assert (job["state"], job["started"]) == ("completed", "2026-11-23T08:00:00.000000Z")


def told(store: Store, mes: int = 1) -> list[tuple[str, str]]:
    """What waits, as machine and status or type."""
    bodies = [(one.machine, json.loads(one.body)) for one in store.waiting(mes, 1000)]
    return [(machine, body.get("status") or body["type"]) for machine, body in bodies]


def a_print() -> Story:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.states("printing")
    return story


async def test_a_replay_after_a_crash_tells_nothing_twice_and_leaves_the_newest_status(
    tmp_path: Path,
) -> None:
    settings = MesSettings(id=1, url="http://127.0.0.1:1", service_id="s", token_file=tmp_path / "none")
    story = a_print()
    for replayed in (0, 2, 3, 0):
        sink = make_sink(tmp_path, settings)
        before = story.transitions[replayed].before
        sink.register("m", (1,), REGISTRATION, before)
        for transition in story.transitions[replayed:]:
            sink.handle(transition)
        sink.start()
        assert await sink.drain() == story.position
        await sink.stop()
    store = Store(tmp_path / "mes.sqlite")
    assert sorted(told(store)) == [("m", "Running"), ("m", "job_started")]
    store.close()


async def test_events_after_a_restart_go_where_the_machine_was_registered_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    Outbox(store, {1: 60.0}).take([Registered("m", (1,), Machine())])
    again = Outbox(store, {1: 60.0})
    again.take(a_print().transitions)
    assert ("m", "job_started") in told(store)


def test_temperatures_do_not_touch_the_disk_but_count_when_asked(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox = Outbox(store, {1: 60.0})
    outbox.take([])
    assert store.cursor == 0
    outbox.take([], 7)
    assert store.cursor == 7


def estimates(store: Store, mes: int = 1) -> list[float]:
    """The expected durations that wait to be told, in seconds; None where one is not known."""
    bodies = [json.loads(one.body) for one in store.waiting(mes, 1000)]
    return [
        body["job"]["estimated_duration"] for body in bodies if body.get("type") == "job_estimate_changed"
    ]


def test_an_estimate_is_told_when_it_has_moved_by_more_than_the_mes_wants_to_know_of(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox, story = Outbox(store, {1: 60.0, 2: 5.0}), a_print()
    for second, left in enumerate([599, 590, 541, 538, 500, 500, 700, None, 690]):
        story.tell(wire.PROGRESS, print_time=float(second), print_time_left=left)
    outbox.take([Registered("m", (1, 2), Machine()), *story.transitions])
    assert estimates(store, 1) == [504, 706]  # it began with 600, and has moved by 59 before
    assert estimates(store, 2) == [591, 543, 504, 706, 698]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_estimates_are_the_same_however_often_the_bridge_crashes(tmp_path: Path, batch: int) -> None:
    store = Store(tmp_path / "mes.sqlite")
    story = a_print()
    for second in range(20):
        story.tell(wire.PROGRESS, print_time=float(second), print_time_left=600.0 + 13 * second)
    Outbox(store, {1: 60.0}).take([Registered("m", (1,), Machine())])
    for first in range(0, len(story.transitions), batch):
        Outbox(store, {1: 60.0}).take(story.transitions[max(0, first - 3) : first + batch])
    assert estimates(store) == [600 + 14 * second for second in (5, 10, 15)]


def test_a_mes_that_gets_a_machine_during_a_print_learns_of_the_job_from_its_estimate(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox, story = Outbox(store, {1: 60.0, 2: 60.0}), a_print()
    outbox.take([Registered("m", (1,), Machine()), *story.transitions])
    outbox.take([Registered("m", (1, 2), story.machine)])
    outbox.take([story.tell(wire.PROGRESS, print_time=1.0, print_time_left=598.0)])
    assert (estimates(store, 1), estimates(store, 2)) == ([], [599.0])


def test_only_what_changes_an_estimate_is_handed_on() -> None:
    story = a_print()
    assert matters(story.tell(wire.PROGRESS, print_time=1.0, print_time_left=580.0))
    assert not matters(story.tell(wire.PROGRESS, print_time=2.0, print_time_left=579.0))
    assert not matters(story.tell(wire.HEATERS))


def test_each_mes_hears_only_of_its_own_machines(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox = Outbox(store, {1: 60.0, 2: 60.0})
    outbox.take(
        [Registered("m", (1, 2, 9), Machine()), Registered("n", (2,), Machine())],
    )
    assert told(store, 1) == [("m", "Offline")]
    assert told(store, 2) == [("m", "Offline"), ("n", "Offline")]


async def test_a_store_that_fails_is_said_to_whoever_waits_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MesSettings(id=1, url="http://127.0.0.1:1", service_id="s", token_file=tmp_path / "none")
    monkeypatch.setattr("bridge.mes.sink._RETRY_S", 0.01)
    sink, story = make_sink(tmp_path, settings), a_print()
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise MesError("mes.sqlite: the disk is full")

        broken.setattr(sink._store, "write", fail)
        sink.register("m", (1,), REGISTRATION, story.transitions[0].before)
        sink.start()
        for transition in story.transitions:
            sink.handle(transition)
        with pytest.raises(MesError, match="the disk is full"):
            await sink.drain()
    assert await sink.drain() == story.position
    await sink.stop()
    store = Store(tmp_path / "mes.sqlite")
    assert sorted(told(store)) == [("m", "Running"), ("m", "job_started")]
    store.close()


async def test_whoever_waits_for_a_sink_that_does_not_run_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(MesError, match="does not run"):
        await make_sink(tmp_path).drain()


async def test_stopping_does_not_wait_for_a_mes_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.mes.sink._STOP_WITHIN_S", 0.1)
    (tmp_path / "token").write_text("t")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = MesSettings(id=1, url=url, service_id="s", token_file=tmp_path / "token", timeout=3.0)
        sink = make_sink(tmp_path, settings)
        sink.register("m", (1,), REGISTRATION, Machine())
        sink.start()
        connection, _ = await asyncio.to_thread(silent.accept)
        await sink.stop()
        assert any(delivery._thread.is_alive() for delivery in sink._deliveries.values())
        connection.close()


async def test_a_plant_that_only_sends_temperatures_fills_no_memory(tmp_path: Path) -> None:
    sink, story = make_sink(tmp_path), Story()
    for _ in range(5):
        sink.handle(story.tell(wire.HEATERS))
    assert sink._items.qsize() == 0
    sink.start()
    assert await sink.drain() == 5
    await sink.stop()


@pytest.mark.parametrize("log", [("log-1", 0), ("log-2", 0), ("log-2", 10**9)])
async def test_what_a_new_or_restored_log_says_at_old_positions_is_told(
    tmp_path: Path, log: tuple[str, int]
) -> None:
    settings = MesSettings(id=1, url="http://127.0.0.1:1", service_id="s", token_file=tmp_path / "none")

    async def run(run: str, log: tuple[str, int]) -> None:
        sink = make_sink(tmp_path, settings, log=log)
        again = Story()
        again.link("up")
        again.tell(wire.SNAPSHOT)
        again.tell(wire.JOB_STARTED, run=run)
        sink.register("m", (1,), REGISTRATION, Machine())
        for transition in again.transitions:
            record = replace(transition.record, instance=run)
            sink.handle(replace(transition, record=record))
        sink.start()
        await sink.drain()
        await sink.stop()

    await run("run-1", ("log-1", 10**9))
    await run("run-2", log)
    store = Store(tmp_path / "mes.sqlite")
    assert sorted(one for _, one in told(store)) == ["Running", "job_started", "job_started"]
    store.close()


async def test_an_intact_log_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    for _ in range(2):
        sink, story = make_sink(tmp_path, log=("log-1", 3)), a_print()
        for transition in story.transitions[:3]:
            sink.handle(transition)
        sink.start()
        await sink.drain()
        await sink.stop()
        store = Store(tmp_path / "mes.sqlite")
        assert (store.follow("log-1", 3), store.cursor) == (None, 3)
        store.close()


def test_a_machine_that_is_served_no_more_is_offline_once_in_each_of_its_mes(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox, story = Outbox(store, {1: 60.0, 2: 60.0}), a_print()
    outbox.take([Registered("m", (1, 2), story.machine)])
    outbox.take([Registered("m", (1,), story.machine)])
    assert (told(store, 1), told(store, 2)) == ([("m", "Running")], [("m", "Offline")])
    for _ in range(2):
        outbox.take([Registered("m", (), Machine())])
        assert (told(store, 1), told(store, 2)) == ([("m", "Offline")], [("m", "Offline")])
    assert Outbox(store, {1: 60.0, 2: 60.0})._routes == {}
    outbox.take([Registered("m", (1,), story.machine)])
    assert told(store, 1) == [("m", "Running")]


def test_a_status_that_came_back_during_an_outage_is_told_with_its_new_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path / "mes.sqlite")
    outbox, story = Outbox(store, {1: 60.0}), a_print()
    outbox.take([Registered("m", (1,), Machine()), *story.transitions])
    store.delivered(1, store.waiting(1, 100))
    seen = len(story.transitions)
    story.tell(wire.JOB_ENDED)
    story.states("operational")
    story.tell(wire.JOB_STARTED, run="run-2", started="2026-11-23T09:00:00.000000Z")
    story.states("printing")
    outbox.take(story.transitions[seen:])
    (status,) = [json.loads(one.body) for one in store.waiting(1, 100) if one.kind == "status"]
    assert (status["status"], status["since"]) == ("Running", "2026-11-23T09:00:00.000000Z")


async def test_an_unforeseen_failure_while_keeping_is_shown_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.mes.sink._RETRY_S", 0.01)
    settings = MesSettings(id=1, url="http://127.0.0.1:1", service_id="s", token_file=tmp_path / "none")
    sink, story = make_sink(tmp_path, settings), a_print()
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr("bridge.mes.outbox.events_of", lambda _: 1 / 0)
        sink.register("m", (1,), REGISTRATION, Machine())
        sink.start()
        for transition in story.transitions:
            sink.handle(transition)
        with pytest.raises(MesError, match="division by zero"):
            await sink.drain()
    assert sum(bool(line.get("exc_info")) for line in logs) == 1
    assert await sink.drain() == story.position
    await sink.stop()
