"""What the MES side costs: to keep what happens during an outage, and to tell it afterwards; all on one computer."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bridge import wire
from bridge.machine import Machine, Transition
from bridge.mes import MesSink, Registration
from bridge.settings import MesSettings
from tests.bridge.events import Story

RUNS = 3
MACHINES, PRINTS = 100, 20
REGISTRATION = Registration("Printer", "http://127.0.0.1:5000", "opc.tcp://bridge:4840", "ns=2;s=m", {})


@contextmanager
def _sandbox(folder: Path) -> Iterator[str]:
    """The url of a sandbox in a process of its own, whose token is ``token`` in `folder`."""
    command = [sys.executable, "-m", "bridge.cli", "sandbox", "--port", "0", "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(line.split('"')[1] for line in process.stdout if line.startswith("url"))
    finally:
        process.terminate()
        process.wait()


def _prints() -> list[Transition]:
    """`PRINTS` prints with a pause on each of `MACHINES` machines, as they follow one another in a log."""
    stories = [Story(name=f"m{number}") for number in range(MACHINES)]
    for number in range(PRINTS):
        for story in stories:
            run = f"run-{number}"
            story.tell(wire.JOB_STARTED, run=run)
            story.states("printing", "paused", "printing")
            story.tell(wire.JOB_ENDED, run=run)
            story.states("operational")
    length = len(stories[0].transitions)
    found = [stories[n].transitions[i] for i in range(length) for n in range(MACHINES)]
    return [_placed(transition, position) for position, transition in enumerate(found, 1)]


def _placed(transition: Transition, position: int) -> Transition:
    r = transition.record
    record = type(r)(position, r.machine, r.instance, r.seq, r.time, r.kind, r.data)
    return Transition(record, transition.before, transition.after, transition.changes)


async def _outage(transitions: list[Transition], folder: Path) -> tuple[float, float, float, float]:
    """Keep everything while there is no MES, then catch up: seconds wall and CPU of each."""
    token = folder / "mes" / "token"
    settings = MesSettings(id=1, url="http://127.0.0.1:1", service_id="sandbox", token_file=token)
    sink = MesSink((settings,), folder, "bridge-1", "log", len(transitions))
    for number in range(MACHINES):
        sink.register(f"m{number}", (1,), REGISTRATION, Machine())
    sink.start()
    begun, cpu = time.perf_counter(), time.process_time()
    for transition in transitions:
        sink.handle(transition)
    await sink.drain()
    kept = time.perf_counter() - begun, time.process_time() - cpu
    await sink.stop()
    with _sandbox(folder / "mes") as url:
        back = MesSettings(id=1, url=url, service_id="sandbox", token_file=token)
        sink = MesSink((back,), folder, "bridge-1", "log", len(transitions))
        for number in range(MACHINES):
            sink.register(f"m{number}", (1,), REGISTRATION, transitions[-1].after)
        begun, cpu = time.perf_counter(), time.process_time()
        sink.start()
        await asyncio.to_thread(_wait_until_told, sink)
        caught_up = time.perf_counter() - begun, time.process_time() - cpu
        state = await asyncio.to_thread(_state, url.partition("/api")[0])
        jobs = sum(len(machine["jobs"]) for machine in state["machines"])
        assert jobs == MACHINES * PRINTS, jobs
        await sink.stop()
    return *kept, *caught_up


def _wait_until_told(sink: MesSink) -> None:
    while sink.states()[0].waiting:
        time.sleep(0.1)


def _state(url: str) -> Any:
    return requests.get(f"{url}/state.json?all=1", timeout=60).json()


def run() -> None:
    """Print the figures."""
    transitions = _prints()
    events = MACHINES * PRINTS * 4
    print(f"\nThe MES side: {MACHINES} machines, {events} events of {MACHINES * PRINTS} prints")
    rows = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(asyncio.run(_outage(transitions, Path(folder))))
            size = Path(folder, "mes.sqlite").stat().st_size
    kept, kept_cpu, told, told_cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"kept while there is no MES   {kept_cpu / events * 1e6:6.0f} us CPU, {kept / events * 1e6:6.0f} us an event"
    )
    print(
        f"told when it is back         {told_cpu / events * 1e6:6.0f} us CPU, {told / events * 1e6:6.0f} us an event"
    )
    print(f"mes.sqlite after it          {size / 1e6:6.1f} MB")
