"""Transitions go in at one end and are seen in a real sandbox MES at the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge import wire
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
