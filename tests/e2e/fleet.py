"""A plant of printers that do not exist, on a real bridge: signed pushes, and a day that has passed.

What each printer does follows from its number alone, so that pictures and tests always see the same plant.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from bridge import wire
from bridge.log import Record
from bridge.machine import Heater, Link, Machine, apply
from bridge.machine.transition import LINK
from bridge.web.history import History
from tests.bridge.events import JOB, PRINTER
from tests.e2e.bridge_process import BridgeProcess

FILES = (
    "bracket_v3.gcode", "housing-lower.gcode", "clip-x24.gcode", "duct_45deg.gcode", "gripper-finger-L.gcode",
    "cable-guide.gcode", "jig-0417.gcode", "spacer_8mm.gcode", "lens-cap.gcode", "drawer-front.gcode",
)  # fmt: skip
MODELS = ("MK4", "MK4", "MK4", "XL", "Core One")
ERRORS = ("Heating failed, system halted: hotend", "Lost connection to the printer: read timed out")
DAY = (
    (0.5, 5.2, "completed", 215),
    (6.0, 9.1, "failed", 240),
    (10.4, 17.9, "completed", 215),
    (19.2, 24, "", 215),
)
"""The prints of the first printer in the last 24 hours: from, to, how it ended, and degrees of the nozzle."""
_Event = tuple[datetime, str, Mapping[str, Any]]


class Printer:
    """One of them: number `number`, with the state that comes of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key = f"{number:04}" * 11
        self.url = f"http://10.20.{number // 200}.{number % 200 + 10}:5000"
        self.name = f"{'ABCDEFGHJK'[number // 50 % 10]}-{number % 50 + 1:02}"
        self.push_key = wire.PushKey.derive(self.key)
        self.seq = 0
        self.state = self._state()
        self.out_of_reach = number % 97 == 23

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "type": "OCTOPRINT",
            "url": self.url,
            "authentication_file_path": self.key,
            "custom_name": self.name,
            "mes_id": [1],
        }

    def _state(self) -> str:
        number = self.number
        if number % 83 == 7:
            return "error"
        if number % 47 == 5:
            return "paused"
        if number % 9 == 4:
            return "operational"
        return "disconnected" if number % 31 == 3 else "printing"

    def heaters(self, wobble: float = 0.0) -> dict[str, Any]:
        hot = self.state in ("printing", "paused")
        goal = {"tool0": 215.0 if hot else 0.0, "bed": 60.0 if hot else 0.0}
        cold = {"tool0": 24.0, "bed": 23.0}
        return {
            name: {"actual": (target or cold[name]) + 0.1 * (self.number % 7) + wobble, "target": target}
            for name, target in goal.items()
        }

    def past(self, now: datetime) -> list[_Event]:
        """What it tells when the bridge first hears of it."""
        began = now - timedelta(minutes=20 + self.number * 7 % 200)
        if self.number == 0:
            began = now - timedelta(hours=24 - DAY[-1][0])
        file, estimate = FILES[self.number % len(FILES)], 3600.0 * (3 + self.number % 5)
        profile = {**PRINTER["profile"], "model": MODELS[self.number % len(MODELS)]}
        printer = {
            **PRINTER,
            "uuid": f"u{self.number}",
            "name": self.name,
            "profile": profile,
            "identity": {
                "manufacturer": "Prusa Research",
                "location": f"Hall {self.number // 250 + 1}, row {self.number // 50 + 1}",
            },
        }
        job = None
        if self.state in ("printing", "paused", "error"):
            job = {
                **JOB,
                "run": f"r{self.number}",
                "file": file,
                "path": file,
                "started": wire.format_time(began),
                "estimated_print_time": estimate,
            }
        snapshot = {
            "reason": "start",
            "state": "printing" if job else self.state,
            "error": None,
            "job": job,
            "progress": None,
            "heaters": self.heaters(),
            "printer": printer,
        }
        events = [*(self._day(now) if self.number == 0 else ()), (began, wire.SNAPSHOT, snapshot)]
        if self.state == "operational":
            done = {
                **JOB,
                "run": f"d{self.number}",
                "file": file,
                "path": file,
                "started": wire.format_time(began),
            }
            result = "failed" if self.number % 5 == 2 else "completed"
            reason = "the print came off the bed" if result == "failed" else None
            ended = now - timedelta(minutes=2 + self.number % 15)
            events += [
                (began, wire.JOB_STARTED, done),
                (
                    ended,
                    wire.JOB_ENDED,
                    {
                        "run": f"d{self.number}",
                        "result": result,
                        "reason": reason,
                        "print_time": 900.0,
                        "completion": 80.0,
                    },
                ),
            ]
        if job:
            events.append(self.progress(now))
        if self.state == "paused":
            events += [
                (now - timedelta(minutes=4), wire.JOB_PAUSED, {"run": f"r{self.number}"}),
                (now - timedelta(minutes=4), wire.STATE, {"state": "paused", "error": None}),
            ]
        if self.state == "error":
            text = ERRORS[self.number % 2]
            events += [
                (now - timedelta(minutes=9), wire.ERROR, {"text": text}),
                (now - timedelta(minutes=9), wire.STATE, {"state": "error", "error": text}),
            ]
        return events

    def _day(self, now: datetime) -> Iterator[_Event]:
        """The jobs of `DAY` that are over."""
        for number, (start, end, result, _) in enumerate(DAY[:-1]):
            run, file = f"past-{number}", FILES[number + 2]
            began, ended = (now - timedelta(hours=24 - hours) for hours in (start, end))
            job = {**JOB, "run": run, "file": file, "path": file, "started": wire.format_time(began)}
            yield began, wire.JOB_STARTED, job
            reason = "thermal runaway" if result == "failed" else None
            seconds = 3600.0 * (end - start)
            yield (
                ended,
                wire.JOB_ENDED,
                {"run": run, "result": result, "reason": reason, "print_time": seconds, "completion": 60.0},
            )

    def progress(self, now: datetime) -> _Event:
        percent = float((self.number * 13 + 61) % 97 + 1)
        return (
            now,
            wire.PROGRESS,
            {
                "run": f"r{self.number}",
                "completion": percent,
                "print_time": 60 * percent,
                "print_time_left": 60 * (101 - percent),
                "layer": int(percent * 3),
                "layers": 303,
            },
        )

    def push(self, url: str, http: requests.Session, events: list[_Event], instance: str = "one") -> None:
        """Deliver `events`, signed as the plugin does."""
        now = wire.utc_now()
        numbered = tuple(wire.Event(self.seq + n, *event) for n, event in enumerate(events, 1))
        batch = wire.Batch(instance, self.seq, self.seq + len(events), numbered, now)
        body, message = wire.encode_batch(batch), wire.new_message_id()
        answer = http.post(url, data=body, headers=wire.sign(self.push_key, message, now, body), timeout=60)
        assert answer.status_code == 200, answer.text
        self.seq += len(events)


class Plant:
    """`count` printers on a bridge in `folder`."""

    def __init__(self, folder: Path, count: int, settings: str = "", silent_after: float = 3600.0) -> None:
        self.printers = [Printer(number) for number in range(count)]
        self.bridge = BridgeProcess(folder, [one.entry for one in self.printers], settings, silent_after)
        self._pool = ThreadPoolExecutor(4)
        self._http = requests.Session()

    def open(self) -> None:
        self.bridge.start()
        self.bridge.wait_for("status page")

    def close(self) -> None:
        self._pool.shutdown()
        self.bridge.stop()

    def tell_past(self) -> None:
        """Each printer's story until now."""
        now = wire.utc_now()
        self._all(lambda one: one.push(self.bridge.push_url, self._http, one.past(now)))

    def tell_heaters(self, round_: int) -> None:
        """Each printer's temperatures, other ones in each round; those that are out of reach tell nothing."""
        now = wire.utc_now()

        def tell(one: Printer) -> None:
            heaters = {"heaters": one.heaters(1.5 * (round_ % 3))}
            if not one.out_of_reach:
                one.push(self.bridge.push_url, self._http, [(now, wire.HEATERS, heaters)])

        self._all(tell)

    def _all(self, work: Any) -> None:
        list(self._pool.map(work, self.printers))

    def ids(self) -> dict[str, str]:
        """The machines' ids by name."""
        found = requests.get(f"{self.bridge.web_url}/overview.json", timeout=60).json()
        return {one["name"]: one["id"] for one in found["machines"]}


def write_day(folder: Path, machine: str, until: datetime) -> None:
    """A day with three prints, a pause and an outage in ``history.sqlite`` of the state folder `folder`."""
    known: dict[str, Machine] = {machine: Machine(link=Link.UP)}
    moment = until - timedelta(hours=24)
    history = History(folder, lambda: known, now=lambda: moment)
    seq = 0

    def tell(kind: str, data: Mapping[str, Any]) -> None:
        nonlocal seq
        seq += 1
        transition = apply(known[machine], Record(seq, machine, "past", seq, moment, kind, data))
        known[machine] = transition.after
        history.handle(transition)

    nozzle, bed = 24.0, 23.0
    tell(wire.STATE, {"state": "operational", "error": None})
    running: int | None = None
    for minute in range(24 * 60):
        moment = until - timedelta(hours=24) + timedelta(minutes=minute)
        at = minute / 60
        for number, (start, end, result, _) in enumerate(DAY):
            if running is None and start <= at < end:
                running = number
                tell(wire.STATE, {"state": "printing", "error": None})
            elif running == number and at >= end:
                running = None
                failed = result == "failed"
                error = "thermal runaway" if failed else None
                tell(wire.STATE, {"state": "error" if failed else "operational", "error": error})
        if minute == 570:
            tell(wire.STATE, {"state": "operational", "error": None})
        if minute in (780, 805):
            tell(wire.STATE, {"state": "paused" if minute == 780 else "printing", "error": None})
        if minute in (905, 940):
            tell(LINK, {"link": "lost" if minute == 905 else "up", "detail": "nothing heard for 30 s"})
        goal = DAY[running][3] if running is not None else 0
        nozzle += (max(goal, 24) - nozzle) * (0.45 if goal else 0.12)
        bed += ((60 if goal else 23) - bed) * (0.2 if goal else 0.04)
        wave = 0.6 * math.sin(minute / 3) if goal else 0.0
        heat = {
            "tool0": Heater(nozzle + wave, float(goal), moment),
            "bed": Heater(bed + wave / 4, 60.0 if goal else 0.0, moment),
        }
        known[machine] = replace(known[machine], heaters=heat)
        history.sample()
    asyncio.run(history.save())


def main() -> None:
    """Serve the plant until Ctrl-C: ``python -m tests.e2e.fleet [count]``."""
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), int((sys.argv[1:] or ["500"])[0]))
        plant.open()
        begun = time.monotonic()
        plant.tell_past()
        print(json.dumps({"url": plant.bridge.web_url, "told_s": time.monotonic() - begun}), flush=True)
        try:
            for round_ in range(10**6):
                time.sleep(2.0)
                plant.tell_heaters(round_)
        finally:
            plant.close()


if __name__ == "__main__":
    main()
