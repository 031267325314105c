"""Twenty printers print while everything around them fails, one thing after the other; at the end, the report."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.faults.mes import MesProcess
from tests.e2e.faults.network import Network
from tests.e2e.faults.printer import Printer
from tests.e2e.faults.report import Report, compare

_DISK_BYTES = 24 * 2**20
_AN_HOUR = "+3600"
_FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@dataclass(frozen=True)
class Plan:
    """How much of what; times in seconds."""

    machines: int = 20
    jobs_each: int = 10
    job_s: float = 26.0
    kills: int = 10
    mes_away_s: float = 180.0
    outage_s: float = 10.0
    faults: Sequence[str] = (
        "lose_answers",
        "fill_disk",
        "bring_back_log_after_kill",
        "kill_mes",
        "bring_back_both_after_stop",
        "step_clock",
        "bring_back_log_after_stop",
        "bring_back_both_after_kill",
        "mes_away",
    )
    """Methods of `Siege`, in the order in which they are called; the bridge is killed after each."""
    settled_s: float = 20.0
    """So long something that is wrong may still turn out right, once all was printed."""
    seed: int = 7


SHORT = Plan(
    machines=6,
    jobs_each=6,
    job_s=2.5,
    kills=3,
    mes_away_s=2.0,
    outage_s=1.0,
    faults=(
        "lose_answers",
        "kill_mes",
        "fill_disk",
        "bring_back_log_after_kill",
        "step_clock",
        "mes_away",
        "bring_back_both_after_stop",
    ),
)
FULL = Plan()


class Siege:
    """The plant, and what is done to it. `say` is told what is being done."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._order = random.Random(plan.seed)
        self._begin = time.monotonic()
        self.done: Counter[str] = Counter()
        self.mes = MesProcess(folder / "mes")
        self.to_mes = Network(self.mes.port, self._order)
        (folder / "bridge").mkdir()
        settings = (
            f'[[mes]]\nid = 1\nurl = "http://127.0.0.1:{self.to_mes.port}/api/v2.0/service-panel"\n'
            f'service_id = "sandbox"\ntoken_file = "{self.mes.token_file}"\nheartbeat = 1\nlease = 3\ntimeout = 3\n'
        )
        self.bridge = BridgeProcess(folder / "bridge", [], settings)
        self.state = folder / "bridge" / "state"
        self.state.mkdir(mode=0o700)
        self._clock = folder / "clock"
        self._clock.write_text("+0")
        self.to_bridge = Network(self.bridge.push_port, self._order)
        (folder / "outboxes").mkdir()
        address = f"http://127.0.0.1:{self.to_bridge.port}"
        self.printers = [
            Printer(
                number,
                address,
                folder / "outboxes",
                plan.jobs_each,
                plan.job_s,
                random.Random(self._order.random()),
            )
            for number in range(10, 10 + plan.machines)
        ]
        (folder / "bridge" / "config.json").write_text(json.dumps([one.entry for one in self.printers]))

    def run(self) -> Report:
        """Everything; ends with all that was started ended."""
        with contextlib.ExitStack() as stack:
            if mounted := small_disk(self.state):
                stack.enter_context(mounted)
            stack.callback(self._end)
            self.mes.start()
            self._start_bridge()
            for printer in self.printers:
                printer.start()
            for fault in self._plan.faults:
                getattr(self, fault)()
                self._kill_some()
            while self.done["bridge killed -9"] < self._plan.kills:
                self.kill_bridge()
            self._say("waiting until all is printed and told")
            report = self._settle()
            assert self.bridge.stop() == 0, self.bridge.text()
            return report

    # -------------------------------------------------------------- what is done

    def kill_bridge(self) -> None:
        """At whatever it is doing."""
        self._note("bridge killed -9")
        self._pause()
        self.bridge.kill()
        self._start_bridge()

    def kill_mes(self) -> None:
        self._note("MES killed -9")
        self.mes.kill()
        self._pause()
        self.mes.start()

    def mes_away(self) -> None:
        """For long; the bridge is killed in the middle of it."""
        self._note(f"MES away for {self._plan.mes_away_s:g} s")
        self.mes.kill()
        time.sleep(self._plan.mes_away_s / 2)
        self.kill_bridge()
        time.sleep(self._plan.mes_away_s / 2)
        self.mes.start()

    def lose_answers(self) -> None:
        """Of the MES to the bridge, and of the bridge to the plugins; while that lasts, the bridge is killed, too."""
        self._note("period of lost answers")
        self.to_mes.lost_answers, self.to_bridge.lost_answers = 0.2, 0.3
        time.sleep(self._plan.outage_s)
        self.kill_bridge()
        time.sleep(self._plan.outage_s)
        self.to_mes.lost_answers = self.to_bridge.lost_answers = 0.0

    def step_clock(self) -> None:
        """The bridge's, by an hour forwards and back."""
        self._note("clock stepped by an hour and back")
        self._clock.write_text(_AN_HOUR)
        time.sleep(self._plan.outage_s + 1)
        self._clock.write_text("+0")
        time.sleep(self._plan.outage_s)

    def fill_disk(self) -> None:
        """So that neither the log nor the queue for the MES takes anything for a while."""
        if not self.state.is_mount():
            return
        self._note("disk full")
        assert self.bridge.stop() == 0
        self._start_bridge()
        filler = fill(self.state)
        self._wait(self._refused)
        time.sleep(self._plan.outage_s)
        filler.unlink()
        self._pause()

    def bring_back_log_after_kill(self) -> None:
        self._bring_back(with_mes=False, killed=True)

    def bring_back_log_after_stop(self) -> None:
        self._bring_back(with_mes=False, killed=False)

    def bring_back_both_after_kill(self) -> None:
        self._bring_back(with_mes=True, killed=True)

    def bring_back_both_after_stop(self) -> None:
        self._bring_back(with_mes=True, killed=False)

    def _bring_back(self, with_mes: bool, killed: bool) -> None:
        """An older copy of the log, with or without that of the queue for the MES."""
        self._note(f"log brought back {'with' if with_mes else 'without'} mes.sqlite")
        copies = {name: self._copy(name) for name in ("log.sqlite", "mes.sqlite")}
        time.sleep(self._plan.outage_s)
        if killed:
            self.bridge.kill()
            self.done["bridge killed -9"] += 1
        else:
            assert self.bridge.stop() == 0
        for name in copies if with_mes else ("log.sqlite",):
            for file in self.state.glob(f"{name}*"):
                file.unlink()
            shutil.copy(copies[name], self.state / name)
        self._start_bridge()
        self._pause()

    def lose_state(self) -> None:
        """Beyond what can be healed: what no MES was told yet is deleted together with the log."""
        self._note("state deleted")
        self.mes.kill()
        self._wait(lambda: all(one.printed and not one.waiting for one in self.printers))
        self.bridge.kill()
        for file in self.state.glob("*.sqlite*"):
            file.unlink()
        self.mes.start()
        self._start_bridge()

    # -------------------------------------------------------------- means

    def _kill_some(self) -> None:
        if self.done["bridge killed -9"] < self._plan.kills:
            self.kill_bridge()

    def _start_bridge(self) -> None:
        if self.bridge.output.exists():
            with (self.bridge.folder / "history.jsonl").open("a") as history:
                history.write(self.bridge.text())
            self.bridge.output.unlink()
        environment = {}
        if _FAKETIME:
            environment = {
                "LD_PRELOAD": str(_FAKETIME[0]),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        self.bridge.start(environment=environment)

    def _copy(self, name: str) -> Path:
        """As a backup makes it while the bridge runs."""
        copy = self.bridge.folder / f"copy-of-{name}"
        copy.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.state / name)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy

    def _all_told(self) -> bool:
        uri = f"file:{self.state / 'mes.sqlite'}?mode=ro"
        for _ in range(3):
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
                if database.execute("SELECT count(*) FROM message").fetchone()[0]:
                    return False
            time.sleep(0.1)
        return True

    def _refused(self) -> int:
        return sum(
            line.get("reason") == "store" or "cannot be kept" in line.get("event", "")
            for line in self.bridge.lines()
        )

    def _settle(self) -> Report:
        """The report once nothing more is to come, or at the latest after a while."""
        self._wait(
            lambda: all(one.done for one in self.printers), 120 + self._plan.jobs_each * self._plan.job_s
        )
        lives = [one.life for one in self.printers]
        deadline = time.monotonic() + self._plan.settled_s
        while True:
            report = compare(lives, self.mes.machines())
            if (report.sound and self._all_told()) or time.monotonic() > deadline:
                return report
            time.sleep(0.2)

    def _wait(self, what: Callable[[], Any], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, f"this did not happen in time: {self.bridge.text()[-3000:]}"
            time.sleep(0.05)

    def _pause(self) -> None:
        time.sleep(self._order.uniform(0.1, 1.0) * self._plan.outage_s)

    def _note(self, what: str) -> None:
        self.done[what] += 1
        ended = sum(len(one.printed) for one in self.printers)
        self._say(f"{time.monotonic() - self._begin:6.1f} s  {ended:4} jobs ended  {what}")

    def _end(self) -> None:
        if self.bridge.process is not None:
            self.bridge.kill()
        for printer in self.printers:
            printer.stop()
        for network in (self.to_mes, self.to_bridge):
            network.close()
        self.mes.kill()

    def circumstances(self) -> dict[str, Any]:
        """For the report."""
        lost = self.to_mes.lost + self.to_bridge.lost
        return {
            "machines": len(self.printers),
            **self.done,
            "answers lost": lost,
            "duration": f"{time.monotonic() - self._begin:.0f} s",
        }


def small_disk(folder: Path) -> contextlib.AbstractContextManager[None] | None:
    """A disk of its own at `folder`; None where none may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=700", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True).returncode
    ):
        return None

    @contextlib.contextmanager
    def mounted() -> Iterator[None]:
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    return mounted()


def fill(folder: Path) -> Path:
    """Fill the disk at `folder` to the brim; returns the file that does."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler
