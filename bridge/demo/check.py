"""`mesbridge demo --check`: two prints without a person; after each step all three sides have to agree.

In flows a running chain; out flows a report, and whether everything was as it should be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bridge.demo.chain import Chain
from bridge.demo.octoprint import slow_gcode
from bridge.demo.views import PROGRAM_STATE, OpcUaView

FILE = "demo.gcode"
_MOVES, _DWELL_MS = 100, 100
_AGREE_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What the three sides say after a step. `job` is the state of the newest job in the MES."""

    step: str
    act: Callable[[Chain], None]
    octoprint: str
    item_state: str
    program_state: str
    mes: str
    job: str


STEPS = (
    Expected(
        "print", lambda c: c.octoprint.print(FILE), "Printing", "Executing", "Running", "Running", "running"
    ),
    Expected(
        "pause", lambda c: c.octoprint.pause(), "Paused", "NotExecuting", "Interrupted", "Running", "paused"
    ),
    Expected(
        "resume", lambda c: c.octoprint.resume(), "Printing", "Executing", "Running", "Running", "running"
    ),
    Expected("done", lambda c: None, "Operational", "NotExecuting", "Ended", "Idle", "completed"),
    Expected(
        "print again",
        lambda c: c.octoprint.print(FILE),
        "Printing",
        "Executing",
        "Running",
        "Running",
        "running",
    ),
    Expected(
        "cancel",
        lambda c: c.octoprint.cancel(),
        "Operational",
        "NotExecuting",
        "Aborted",
        "Idle",
        "cancelled",
    ),
)


@dataclass(slots=True)
class Report:
    """What is printed as one line of JSON."""

    endpoint: str
    mes_url: str
    ok: bool = True
    steps: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        found = {"ok": self.ok, "steps": self.steps, "endpoint": self.endpoint, "mes_url": self.mes_url}
        return found if self.problem is None else {**found, "problem": self.problem}


async def check(chain: Chain, opcua: OpcUaView, progress: Callable[[str], None]) -> Report:
    """Take the chain through `STEPS`. Ends at the first step on which the sides do not agree."""
    report = Report(chain.endpoint_url, chain.mes_url)
    await asyncio.to_thread(chain.octoprint.upload, FILE, slow_gcode(_MOVES, _DWELL_MS))
    for expected in STEPS:
        progress(f"Step: {expected.step}")
        before = opcua.seen_at.get(PROGRAM_STATE)
        await asyncio.to_thread(expected.act, chain)
        found, agreed = await _agree(chain, opcua, expected, before)
        report.steps.append(found)
        if not agreed:
            report.ok = False
            report.problem = f"after {expected.step!r} the sides did not say {_wanted(expected)} in time"
            break
    return report


async def _agree(
    chain: Chain, opcua: OpcUaView, expected: Expected, before: datetime | None
) -> tuple[dict[str, Any], bool]:
    """What the sides say in the end, and whether it is what is expected."""
    deadline = time.monotonic() + _AGREE_WITHIN_S
    told_by_mes: datetime | None = None
    while True:
        octoprint = await asyncio.to_thread(chain.octoprint.state)
        status, job = await asyncio.to_thread(chain.mes_says)
        mes_right = (status, job) == (expected.mes, expected.job)
        if mes_right and told_by_mes is None:
            told_by_mes = datetime.now(UTC)
        agreed = (
            mes_right
            and octoprint == expected.octoprint
            and (opcua.item_state, opcua.program_state) == (expected.item_state, expected.program_state)
            and opcua.seen_at.get(PROGRAM_STATE) != before
        )
        if agreed or time.monotonic() > deadline:
            happened = opcua.source_time.get(PROGRAM_STATE)
            found = {
                "step": expected.step,
                "octoprint": octoprint,
                "opcua": {"item_state": opcua.item_state, "program_state": opcua.program_state},
                "mes": status,
                "opcua_ms": _milliseconds(happened, opcua.seen_at.get(PROGRAM_STATE)),
                "mes_ms": _milliseconds(happened, told_by_mes),
            }
            return found, agreed
        await asyncio.sleep(0.02)


def _milliseconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else round((end - begin).total_seconds() * 1000, 1)


def _wanted(expected: Expected) -> str:
    return (
        f"{expected.octoprint}, {expected.item_state}/{expected.program_state}, {expected.mes}/{expected.job}"
    )
