"""A simulated printer with the plugin's real outbox and sender: it prints by itself and writes down what is true."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge import wire
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.outbox import Outbox
from octoprint_mesbridge.sender import Sender, Signer, Target, Timing, push_url
from tests.bridge.events import DATA, JOB
from tests.e2e.faults.report import Happening, Job, Life

RESULTS = ("completed", "cancelled", "failed")
_Event = tuple[str, Mapping[str, Any]]
_TIMING = Timing(heartbeat=0.5, first_retry=0.1, longest_retry=1.0, connect=1.0, read=2.0)


class Printer:
    """Prints `jobs` jobs, each of about `duration` seconds, and pushes to the bridge at `address`.

    Before each it rests for up to the share `rest` of that time. Its outbox is in `folder`.
    """

    def __init__(
        self,
        number: int,
        address: str,
        folder: Path,
        jobs: int,
        duration: float,
        order: random.Random,
        rest: float = 0.2,
    ) -> None:
        self.number = number
        self.key = f"{number:02}" * 22
        self.printed: list[Job] = []
        self.happenings: list[Happening] = []
        self._jobs, self._duration, self._rest, self._order = jobs, duration, rest, order
        self._state = "operational"
        self._job: Mapping[str, Any] | None = None
        self._lock = threading.RLock()
        self._outbox = Outbox(folder / f"outbox-{number}.db")
        self._sender = Sender(
            self._outbox, logging.getLogger(__name__), lambda: self._snapshot("requested"), _TIMING
        )
        self._sender.aim(Target(push_url(address), (Signer(wire.PushKey.derive(self.key)),)))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._print_all, name=f"printer-{number}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    @property
    def entry(self) -> dict[str, Any]:
        """Of config.json."""
        return {"type": "OCTOPRINT", "url": self.url, "authentication_file_path": self.key, "mes_id": [1]}

    @property
    def life(self) -> Life:
        return Life(self.url, self.printed, self.happenings)

    @property
    def waiting(self) -> int:
        """How many events the bridge does not have yet."""
        return self._outbox.backlog().waiting

    @property
    def done(self) -> bool:
        return not self._thread.is_alive() and not self.waiting

    def start(self) -> None:
        self._snapshot("start")
        self._sender.start()
        self._thread.start()

    def stop(self) -> None:
        """End what it is doing."""
        self._over.set()
        self._thread.join()
        self._sender.stop(2.0)
        self._outbox.close()

    def _print_all(self) -> None:
        for number in range(self._jobs):
            self._over.wait(self._order.uniform(0.0, self._rest) * self._duration)
            if self._over.is_set():
                return
            self._print(f"run-{self.number}-{number}", self._order.choice(RESULTS))

    def _print(self, run: str, result: str) -> None:
        started = self._begin(run)
        self._pass_time(0.2)
        self._progress(run, 0.2)
        if self._order.random() < 0.7:
            self._tell("job_paused", (wire.JOB_PAUSED, {"run": run}), state="paused")
            self._pass_time(0.1)
            self._tell("job_resumed", (wire.JOB_RESUMED, {"run": run}), state="printing")
        if self._order.random() < 0.2:
            self._tell("warning", (wire.FILAMENT_CHANGE, {"run": run}))
        self._pass_time(0.3)
        self._progress(run, 0.6)
        self._pass_time(0.3)
        if result == "failed":
            self._tell("error", (wire.ERROR, {"text": f"thermal runaway in {run}"}))
        reason = None if result == "completed" else result
        end = {**DATA[wire.JOB_ENDED], "run": run, "result": result, "reason": reason}
        ended = self._tell("job_finished", (wire.JOB_ENDED, end), state="operational")
        self.printed.append(Job(run, started, ended, result))

    def _begin(self, run: str) -> str:
        with self._lock:
            now = wire.utc_now()
            started = wire.format_time(now)
            self._job = {**JOB, "run": run, "started": started}
            self._happen((wire.STATE, {"state": "starting", "error": None}), moment=now)
            return self._tell("job_started", (wire.JOB_STARTED, self._job), state="printing", moment=now)

    def _progress(self, run: str, part: float) -> None:
        time, left = part * self._duration, self._order.uniform(100, 1000)
        progress = {**DATA[wire.PROGRESS], "run": run, "print_time": time, "print_time_left": left}
        self._happen((wire.PROGRESS, progress))

    def _tell(self, type_: str, what: _Event, state: str = "", moment: datetime | None = None) -> str:
        """Let something happen that the MES is to hear of; returns when it did."""
        with self._lock:
            job = self._job["run"] if self._job else None
            events = [what]
            if what[0] == wire.JOB_ENDED:
                self._job = None
            if state:
                self._state = state
                events.append((wire.STATE, {"state": state, "error": None}))
            time = self._happen(*events, moment=moment)
            self.happenings.append(Happening(type_, job, time))
            return time

    def _happen(self, *events: _Event, moment: datetime | None = None) -> str:
        with self._lock:
            moment = moment or wire.utc_now()
            self._outbox.append([Occurrence(moment, kind, dict(data)) for kind, data in events])
        self._sender.wake()
        return wire.format_time(moment)

    def _snapshot(self, reason: str) -> None:
        with self._lock:
            now = {"reason": reason, "state": self._state, "job": self._job}
            self._happen((wire.SNAPSHOT, {**DATA[wire.SNAPSHOT], **now}))

    def _pass_time(self, share: float) -> None:
        self._over.wait(share * self._duration * self._order.uniform(0.7, 1.3))
