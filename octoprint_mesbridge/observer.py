"""What OctoPrint reports, told in the wire's words, the same for OctoPrint 1.11 and 2.0.

In flow OctoPrint's events (name, payload, the moment it was seen) and a view of the printer; out flow
occurrences for the outbox. No clock, no thread, no file, no import of OctoPrint.

OctoPrint ends a print in many ways: a cancelled print is reported as cancelled and then as failed; after a
firmware kill 1.11 reports the failure long after the connection is gone and 2.0 before; a print that
loses its printer while paused is not reported by 1.11 at all. Here each print ends once: at its own end event,
or else when the printer is in an error or gone.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from bridge import wire

from .occurrence import Occurrence

STATES = {
    "NONE": "disconnected",
    "OFFLINE": "disconnected",
    "CLOSED": "disconnected",
    "CLOSED_WITH_ERROR": "disconnected",
    "OPEN_SERIAL": "connecting",
    "DETECT_SERIAL": "connecting",
    "DETECTING": "connecting",
    "CONNECTING": "connecting",
    "ERROR": "error",
    "OPERATIONAL": "operational",
    "TRANSFERING_FILE": "transferring",
    "TRANSFERRING_FILE": "transferring",
    "STARTING": "starting",
    "PRINTING": "printing",
    "PAUSING": "pausing",
    "PAUSED": "paused",
    "RESUMING": "resuming",
    "FINISHING": "finishing",
    "CANCELLING": "cancelling",
}
"""OctoPrint's state ids (1.11: ``MachineCom.STATE_*`` and OFFLINE; 2.0: ``ConnectedPrinterState``) on the wire."""

ORIGINS = {"sdcard": "printer"}
"""What OctoPrint 1.11 calls the printer's own storage, as 2.0 does."""

JOB_EVENTS = frozenset(
    {"PrintStarted", "PrintPaused", "PrintResumed", "PrintDone", "PrintCancelled", "PrintFailed"}
)
"""OctoPrint's events that begin, turn or end a print."""

NO_TEXT = "The printer reported an error without a text"
CLOSED = "The connection to the printer was closed"

ERROR_TEXT_WITHIN = timedelta(seconds=0.5)
"""OctoPrint says that there is an error a moment before it says which; longer than this is not waited."""

ERROR_MATTERS_FOR = timedelta(seconds=10)
"""An error reported longer ago than this is not why the printer is gone now."""

_NOT_CONNECTED = frozenset({"disconnected", "connecting", "error"})
_LOST = frozenset({"disconnected", "error"})

CELSIUS_STEP = 0.5
PERCENT_STEP = 0.1
SECONDS_STEP = 5.0
"""Smaller changes of a sample than these are not worth a message."""


class View(Protocol):
    """What can be asked of the printer at the moment of asking, in OctoPrint's own shapes."""

    def job(self) -> Mapping[str, Any]:
        """``PrinterInterface.get_current_job()``."""

    def progress(self) -> Mapping[str, Any]:
        """``get_current_data()["progress"]``."""

    def heaters(self, since: datetime | None = None) -> Mapping[str, Any]:
        """``get_current_temperatures()``; empty when nothing was measured at `since` or later."""

    def printer(self) -> Mapping[str, Any]:
        """The wire's ``printer`` record."""


def _new_run() -> str:
    return uuid.uuid4().hex


class Observer:
    """Follows one printer; `state`, `job` and the rest are what the wire was told last.

    `state_id` is OctoPrint's own name of the state at the beginning.
    """

    def __init__(self, state_id: str = "OFFLINE", new_run: Callable[[], str] = _new_run) -> None:
        self._new_run = new_run
        self.state = STATES.get(state_id, "disconnected")
        self.error: str | None = None
        self.job: dict[str, Any] | None = None
        self._progress: dict[str, Any] | None = None
        self._heaters: dict[str, Any] = {}
        self._firmware: str | None = None
        self._halted = False
        self.measured_since: datetime | None = None
        """What was measured before this is of an earlier connection; None once that is sure."""
        self._error_since: datetime | None = None
        self._error_at = datetime.min.replace(tzinfo=timezone.utc)
        self._handlers: Mapping[str, Callable[[datetime, Mapping[str, Any], View], list[Occurrence]]] = {
            "PrinterStateChanged": self._state_changed,
            "PrintStarted": self._started,
            "PrintPaused": self._paused,
            "PrintResumed": self._resumed,
            "PrintDone": self._done,
            "PrintCancelled": self._cancelled,
            "PrintFailed": self._failed,
            "FilamentChange": self._filament_change,
            "Error": self._error_reported,
            "FirmwareData": self._firmware_known,
        }
        self.events = frozenset(self._handlers)

    @property
    def connected(self) -> bool:
        """Whether there is a printer to be sampled."""
        return self.state not in _NOT_CONNECTED

    @property
    def awaits_words(self) -> bool:
        """Whether there is an error about which OctoPrint has not said more yet; `sample` waits no longer."""
        return self._error_since is not None

    def observe(self, moment: datetime, name: str, payload: Any, view: View) -> list[Occurrence]:
        """What OctoPrint's event `name`, seen at `moment`, means on the wire: nothing, one thing or several."""
        handler = self._handlers.get(name)
        if handler is None:
            return []
        overdue = [] if name == "Error" else self._error_without_text()
        return overdue + handler(moment, payload if isinstance(payload, Mapping) else {}, view)

    def snapshot(self, moment: datetime, reason: str, view: View) -> list[Occurrence]:
        """Everything at once, as it stands at this point of the stream."""
        overdue = self._error_without_text()
        printer = dict(view.printer())
        self._firmware = printer["firmware"]
        self._heaters = _heaters(view.heaters(self.measured_since)) if self.connected else {}
        data = {
            "reason": reason,
            "state": self.state,
            "error": self.error,
            "job": self.job,
            "progress": self._progress,
            "heaters": self._heaters,
            "printer": printer,
        }
        return [*overdue, Occurrence(moment, wire.SNAPSHOT, data)]

    def sample(
        self, moment: datetime, temperatures: Mapping[str, Any], progress: Mapping[str, Any]
    ) -> list[Occurrence]:
        """What was read from `View.heaters` and `View.progress`, where it differs noticeably from what was told."""
        if self._error_since is not None and moment - self._error_since > ERROR_TEXT_WITHIN:
            return self._error_without_text()
        if not self.connected:
            return []
        occurrences = []
        heaters = _heaters(temperatures)
        if heaters:
            self.measured_since = None
        if heaters and _differ(heaters, self._heaters):
            self._heaters = heaters
            occurrences.append(Occurrence(moment, wire.HEATERS, {"heaters": heaters}))
        if self.job is not None:
            reached = _progress(self.job["run"], progress)
            if _moved(reached, self._progress):
                self._progress = reached
                occurrences.append(Occurrence(moment, wire.PROGRESS, reached))
        return occurrences

    def _state_changed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        state = STATES.get(str(payload.get("state_id")))
        if state is None or state == self.state:
            return []
        if state == "error" and self.error is None:
            self._error_since = moment
            return []
        return self._turn_to(state, moment, view)

    def _turn_to(self, state: str, moment: datetime, view: View | None = None) -> list[Occurrence]:
        """The change to `state`, what it does to a print, and a snapshot when the printer was not connected."""
        before, self.state = self.state, state
        occurrences = []
        if state in _LOST:
            if before not in _LOST and moment - self._error_at > ERROR_MATTERS_FOR:
                self.error = None
            occurrences += self._end(moment, "failed", self.error or CLOSED)
        else:
            self.error = None
        occurrences.append(Occurrence(moment, wire.STATE, {"state": state, "error": self.error}))
        if view is not None and before in _NOT_CONNECTED and self.connected:
            self.measured_since = moment
            occurrences += self.snapshot(moment, "connected", view)
        return occurrences

    def _error_without_text(self) -> list[Occurrence]:
        """The change to the error state, if it still waits for OctoPrint's words about the error."""
        if self._error_since is None:
            return []
        moment, self._error_since = self._error_since, None
        self.error, self._error_at = self.error or NO_TEXT, moment
        return self._turn_to("error", moment)

    def _started(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        # A paused print that is begun anew (OctoPrint 1.11 allows it) is given up by a person.
        result = "cancelled" if self._halted else "failed"
        occurrences = self._end(moment, result, "Another print began without an end of this one")
        self.job = _job(self._new_run(), moment, payload, view.job())
        self._progress = None
        occurrences.append(Occurrence(moment, wire.JOB_STARTED, self.job))
        return occurrences

    def _paused(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self._halted = self.job is not None
        return self._of_job(moment, wire.JOB_PAUSED)

    def _resumed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self._halted = False
        return self._of_job(moment, wire.JOB_RESUMED)

    def _done(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        return self._end(moment, "completed", None, payload.get("time"), 100.0)

    def _cancelled(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        return self._end(moment, "cancelled", None, payload.get("time"), payload.get("progress"))

    def _failed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        if payload.get("reason") == "cancelled":
            return []  # PrintCancelled has said so; the next print may have begun since
        return self._end(moment, "failed", payload.get("error") or payload.get("reason"), payload.get("time"))

    def _filament_change(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        run = self.job["run"] if self.job else None
        return [Occurrence(moment, wire.FILAMENT_CHANGE, {"run": run})]

    def _error_reported(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self.error, self._error_at = _text(payload.get("error"), 2048) or NO_TEXT, moment
        return [Occurrence(moment, wire.ERROR, {"text": self.error}), *self._error_without_text()]

    def _firmware_known(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        if not self.connected or view.printer()["firmware"] == self._firmware:
            return []
        return self.snapshot(moment, "connected", view)

    def _of_job(self, moment: datetime, kind: str) -> list[Occurrence]:
        return [Occurrence(moment, kind, {"run": self.job["run"]})] if self.job else []

    def _end(
        self,
        moment: datetime,
        result: str,
        reason: Any,
        print_time: Any = None,
        completion: Any = None,
    ) -> list[Occurrence]:
        """The end of the running print, if one runs; what the event does not say is taken from the last sample."""
        if self.job is None:
            return []
        last = self._progress or {}
        data = {
            "run": self.job["run"],
            "result": result,
            "reason": _text(reason, 2048),
            "print_time": _at_least_zero(last.get("print_time") if print_time is None else print_time),
            "completion": _percent(last.get("completion") if completion is None else completion),
        }
        self.job = None
        self._progress = None
        self._halted = False
        return [Occurrence(moment, wire.JOB_ENDED, data)]


# --------------------------------------------------------------------------- OctoPrint's values made sound


def _job(
    run: str, moment: datetime, payload: Mapping[str, Any], current: Mapping[str, Any]
) -> dict[str, Any]:
    """The wire's ``job``, from the event and, where it is about the same file, from the current job."""
    path = _text(payload.get("path"), 4096)
    file = _mapping(current.get("file"))
    if path is not None and file.get("path") not in (None, path):
        current, file = {}, {}
    origin = _text(payload.get("origin") or file.get("origin"), 64)
    size = payload.get("size") if payload.get("size") is not None else file.get("size")
    return {
        "run": run,
        "file": _text(payload.get("name") or file.get("name") or path, 512) or "unknown",
        "path": path,
        "origin": ORIGINS.get(origin or "", origin),
        "size": int(size) if isinstance(size, (int, float)) and 0 <= size < 1 << 53 else None,
        "started": wire.format_time(moment),
        "estimated_print_time": _at_least_zero(current.get("estimatedPrintTime")),
        "filament": _filament(current.get("filament")),
    }


def _filament(value: Any) -> dict[str, Any] | None:
    tools = {
        sound_text(str(tool))[:64]: {key: _at_least_zero(amounts.get(key)) for key in ("length", "volume")}
        for tool, amounts in _mapping(value).items()
        if isinstance(amounts, Mapping)
    }
    return tools or None


def _heaters(temperatures: Mapping[str, Any]) -> dict[str, Any]:
    heaters = {
        sound_text(str(name))[:64]: {
            key: _number(values.get(key), -300, 5000) for key in ("actual", "target")
        }
        for name, values in temperatures.items()
        if isinstance(values, Mapping)
    }
    # OctoPrint lists a chamber for every printer; one without any value is not there.
    return {name: values for name, values in heaters.items() if any(v is not None for v in values.values())}


def _progress(run: str, progress: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "completion": _percent(progress.get("completion")),
        "print_time": _at_least_zero(progress.get("printTime")),
        "print_time_left": _at_least_zero(progress.get("printTimeLeft")),
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any, limit: int) -> str | None:
    return None if value is None else sound_text(str(value))[:limit]


def sound_text(text: str) -> str:
    """`text` without what UTF-8 cannot carry: names of files may hold bytes that are no characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number(value: Any, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value if low <= value <= high else None


def _at_least_zero(value: Any) -> float | None:
    return _number(value, 0, 1e9)


def _percent(value: Any) -> float | None:
    number = _number(value, -math.inf, math.inf)
    return None if number is None else min(max(number, 0.0), 100.0)


def _differ(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    if new.keys() != old.keys():
        return True
    return any(
        _apart(values["actual"], old[name]["actual"], CELSIUS_STEP) or values["target"] != old[name]["target"]
        for name, values in new.items()
    )


def _moved(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    return old is None or any(
        _apart(new[key], old[key], step)
        for key, step in (
            ("completion", PERCENT_STEP),
            ("print_time", SECONDS_STEP),
            ("print_time_left", SECONDS_STEP),
        )
    )


def _apart(new: float | None, old: float | None, step: float) -> bool:
    if new is None or old is None:
        return new is not old
    return abs(new - old) >= step
