"""A simulated printer and what OctoPrint remembers of its files: what happens at it is told as events.

In flow calls of a test; out flow events of OctoPrint, by `Printer.tell`, and what its answers and messages show.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.simulated.shapes import Shapes


class Printer:
    """The printer of one OctoPrint, connected at first. Times are those of this computer's clock."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.state_id = "OPERATIONAL"
        self.error = ""
        self.completion: float | None = None
        self.heaters: dict[str, dict[str, float]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.ahead = 0.0
        """Seconds by which the clock of its computer is ahead."""
        self._selected: str | None = None
        self._touched = False
        self._begun = 0.0
        self._paused_at: float | None = None
        self._paused_for = 0.0
        self._print_time: float | None = None

    def time(self) -> float:
        """Seconds since the epoch, by the clock of its computer."""
        return time.time() + self.ahead

    def tell(self, kind: str, payload: Mapping[str, Any] | None) -> None:
        """An event of OctoPrint."""
        raise NotImplementedError

    def measured(self, reading: Mapping[str, Any]) -> None:
        """A measurement of the heaters, as messages have it."""
        raise NotImplementedError

    def connect(self) -> None:
        """The printer is found."""
        self.error = ""
        self.tell("Connecting", self.shapes.of_printer(None))
        self._enter(self.shapes.detecting)
        self._enter("OPERATIONAL")
        baudrate = None if self.shapes.modern else 0
        self.tell("Connected", self.shapes.of_printer({"port": "VIRTUAL", "baudrate": baudrate}))

    def disconnect(self) -> None:
        """The printer is let go; a print that goes on fails."""
        if self._selected is not None and self.state_id not in ("OPERATIONAL", self.shapes.closed):
            self._ended("cancelled")
        self.tell("Disconnecting", self.shapes.of_printer(None))
        self._close(self.shapes.closed)

    def add_file(self, name: str, size: int = 1737) -> None:
        """A file was uploaded."""
        self.files[name] = {
            "name": name,
            "display": name,
            "path": name,
            "origin": "local",
            "size": size,
            "date": int(self.time()),
            "upload": False,
            "success": 0,
            "failure": 0,
        }
        added = {
            "storage": "local",
            "path": name,
            "name": name,
            "type": ["machinecode", "gcode"],
            "operation": "add",
        }
        self.tell("FileAdded", added)
        self.tell(
            "UpdatedFiles", {"type": "printables", **({"storage": "local"} if self.shapes.modern else {})}
        )

    def print(self, name: str) -> None:
        """The print of a file begins; one that is not there is uploaded first."""
        if name not in self.files:
            self.add_file(name)
        self._selected, self._touched = name, True
        self._begun, self._paused_for, self.completion = self.time(), 0.0, 0.0
        self._print_time = self._paused_at = None
        self.tell("FileSelected", {**self.shapes.printed(self._file), "owner": "admin"})
        self._enter("STARTING")
        self.tell("PrintStarted", self.shapes.printed(self._file, user=not self.shapes.modern))
        self._enter("PRINTING")

    def advance(self, completion: float) -> None:
        """The print is at `completion` percent."""
        self.completion = completion

    def heat(self, **heaters: tuple[float, float]) -> None:
        """What the heaters measure, and their targets, in °C; told with the next message."""
        for name, (actual, target) in heaters.items():
            self.heaters[name] = {"actual": actual, "target": target}
        self.measure()

    def pause(self) -> None:
        self._enter("PAUSING")
        self._paused_at = self.time()
        self.tell("PrintPaused", {**self.shapes.printed(self._file), **self._place()})
        self._enter("PAUSED")

    def resume(self) -> None:
        self._enter("RESUMING")
        if self._paused_at is not None:
            self._paused_for += self.time() - self._paused_at
            self._paused_at = None
        self.tell("PrintResumed", self.shapes.printed(self._file))
        self._enter("PRINTING")

    def finish(self) -> None:
        """The print comes to its end."""
        self._enter("FINISHING")
        self.completion, self._print_time = 100.0, self._duration()
        done = {**self.shapes.printed(self._file, user=False), "time": self._print_time}
        self._note_end(success=True)
        self.tell("PrintDone", done)
        self._enter("OPERATIONAL")

    def cancel(self) -> None:
        """Somebody ends the print."""
        self.tell("PrintCancelling", self.shapes.printed(self._file))
        self._enter("CANCELLING")
        self._ended("cancelled")
        self._enter("OPERATIONAL")

    def fail(self, error: str = "Thermal Runaway, system stopped! Heater_ID: bed") -> None:
        """The firmware stops everything; OctoPrint gives the printer up."""
        file, printing = self._selected and self._file, self.completion is not None
        self._enter("ERROR")
        self.error = error
        told = {
            "error": error,
            "reason": "firmware",
            "consequence": "emergency",
            "logs": [],
            "faq": "firmware",
        }
        self.tell("Error", self.shapes.of_printer(told))
        ended = (
            {
                **self.shapes.printed(file, user=False),
                "time": self._duration(),
                "reason": "error",
                "error": "unknown" if self.shapes.modern else error,
                "progress": (self.completion or 0.0) / 100,
            }
            if file and printing
            else None
        )
        if ended:
            self._note_end(success=False)
        if self.shapes.modern:
            self.error = ""  # with the printer 2.0 forgets what was wrong, and 1.11 does not
        self._close("CLOSED_WITH_ERROR" if self.shapes.modern else "OFFLINE")
        if ended:
            self.tell("PrintFailed", ended)

    # ------------------------------------------------------------------- inside

    def measure(self) -> None:
        """The heaters are measured once more, as OctoPrint does every two seconds."""
        nothing = {"actual": None, "target": None}
        self.measured(
            {"time": int(self.time()), **self.heaters, "chamber": self.heaters.get("chamber", nothing)}
        )

    def message(self, readings: Sequence[Any]) -> dict[str, Any]:
        """What ``current`` and ``history`` have in common."""
        return {
            "state": self.shapes.state(self.state_id, self.error),
            "job": self.shapes.job(self._file_of_job, self._touched),
            "progress": self._progress(),
            **self.shapes.common(),
            "temps": list(readings),
            "markings": [],
            "serverTime": self.time(),
        }

    def _enter(self, state_id: str) -> None:
        self.state_id = state_id
        self.tell("PrinterStateChanged", self.shapes.state_changed(state_id))

    def _close(self, state_id: str) -> None:
        if self._selected is not None:
            self.tell("FileDeselected", None)
        self._selected = self.completion = None
        self.tell("Disconnected", self.shapes.of_printer(None))
        self.heaters = {}
        self._enter(state_id)

    def _ended(self, reason: str) -> None:
        """A print ended before its time, as two events."""
        payload = {**self.shapes.printed(self._file), **self._place(), "time": self._duration()}
        self._note_end(success=False)
        self.tell("PrintCancelled", payload)
        self.tell("PrintFailed", {**payload, "reason": reason})
        self.completion = None

    def _note_end(self, *, success: bool) -> None:
        file = self._file
        file["success" if success else "failure"] += 1
        file["last"] = {"date": self.time(), "success": success}
        if success:
            file["last"]["printTime"] = file["lastPrintTime"] = self._print_time

    @property
    def _file(self) -> dict[str, Any]:
        if self._selected is None:
            raise RuntimeError("nothing is printed at this simulated OctoPrint; call print() first")
        return self.files[self._selected]

    @property
    def _file_of_job(self) -> Mapping[str, Any] | None:
        return None if self._selected is None else {**self._file, "user": "admin"}

    def _place(self) -> dict[str, Any]:
        return self.shapes.place(self.completion or 0.0, self._file["size"])

    def _duration(self) -> float:
        until = self._paused_at or self.time()
        return until - self._begun - self._paused_for

    def _progress(self) -> dict[str, Any]:
        if self._selected is None or self.completion is None:
            return dict.fromkeys(
                ("completion", "filepos", "printTime", "printTimeLeft", "printTimeLeftOrigin")
            )
        done, running = self.completion, self._print_time is None
        spent = self._duration() if self._print_time is None else self._print_time
        left = int(spent * (100 - done) / done) if done else None
        return {
            "completion": done,
            "filepos": int(self._file["size"] * done / 100),
            "printTime": int(spent),
            "printTimeLeft": left if running else 0,
            "printTimeLeftOrigin": "linear" if running and done else None,
        }

    def _busy(self) -> list[Any]:
        active = self._selected is not None and self.shapes.state(self.state_id, "")["flags"]
        busy = active and (active["printing"] or active["paused"])
        return [{"origin": "local", "path": self._selected}] if busy else []
