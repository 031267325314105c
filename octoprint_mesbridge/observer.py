"""What OctoPrint reports, told in the wire's words, the same for OctoPrint 1.11 and 2.0.

In flow OctoPrint's events (name, payload, the moment it was seen) and a view of the printer; out flow
occurrences for the outbox. No clock, no thread, no file, no import of OctoPrint.

OctoPrint ends a print in many ways: a cancelled print is reported as cancelled and then as failed; after a
firmware kill 1.11 reports the failure long after the connection is gone and 2.0 before; a print that
loses its printer while paused is not reported by 1.11 at all; the connectors of 2.0 report a print that was
begun at the printer by nothing but its state. Here each print begins and ends once: at its own events, or
else with the states of the printer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from bridge import wire

from .layers import LAYER_CHANGED, Layers
from .occurrence import Occurrence
from .records import (
    at_least_zero,
    heaters_differ,
    heaters_record,
    job_record,
    percent,
    progress_moved,
    progress_record,
    text_or_none,
)

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

JOB_EVENTS = frozenset(
    {"PrintStarted", "PrintPaused", "PrintResumed", "PrintDone", "PrintCancelled", "PrintFailed"}
)
"""OctoPrint's events that begin, turn or end a print."""

NO_TEXT = "The printer reported an error without a text"
CLOSED = "The connection to the printer was closed"
UNSAID = "The printer stopped printing before the end of the file, without a reason"

ERROR_TEXT_WITHIN = timedelta(seconds=0.5)
"""OctoPrint says that there is an error a moment before it says which; longer than this is not waited."""

ERROR_MATTERS_FOR = timedelta(seconds=10)
"""An error reported longer ago than this is not why the printer is gone now."""

EVENT_WITHIN = timedelta(seconds=2)
"""A print whose beginning or end is seen in the printer's state is told of by an event within this, or not at all."""

WHOLE = 99.5
"""A print that has done so much, in percent, is complete where the printer is idle next and no event says more."""

_NOTHING = frozenset({"", "error", "unknown"})
"""What OctoPrint gives as the reason of a failure when it knows none."""

_NOT_CONNECTED = frozenset({"disconnected", "connecting", "error"})
_LOST = frozenset({"disconnected", "error"})


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
        self._layers = Layers()
        self._heaters: dict[str, Any] = {}
        self._firmware: str | None = None
        self._halted = False
        self.measured_since: datetime | None = None
        """What was measured before this is of an earlier connection; None once that is sure."""
        self._failing: str | None = None
        self._begun_unsaid: datetime | None = None
        self._rests: tuple[datetime, str] | None = None
        """Since when the printer is idle although its print has not ended, and its state before that."""
        self._failure: tuple[datetime, str | None, Any] | None = None
        """When OctoPrint said that the print failed, its words and print time: told before the error behind it."""
        self._error_since: datetime | None = None
        self._error_at = datetime.min.replace(tzinfo=timezone.utc)
        self._handlers: Mapping[str, Callable[[datetime, Mapping[str, Any], View], list[Occurrence]]] = {
            "PrinterStateChanged": self._state_changed,
            "PrintStarted": self._started,
            "PrintPaused": self._paused,
            "PrintResumed": self._resumed,
            "PrintDone": self._done,
            "PrintCancelling": self._cancelling,
            "PrintCancelled": self._cancelled,
            "PrintFailed": self._failed,
            "FilamentChange": self._filament_change,
            "Error": self._error_reported,
            "FirmwareData": self._firmware_known,
            LAYER_CHANGED: self._layer_changed,
        }
        self.events = frozenset(self._handlers)

    @property
    def connected(self) -> bool:
        """Whether there is a printer to be sampled."""
        return self.state not in _NOT_CONNECTED

    @property
    def awaits_more(self) -> bool:
        """Whether OctoPrint is to say more: why there is an error, how a print ended. `sample` ends the waiting."""
        return any(one is not None for one in (self._error_since, self._rests, self._failure))

    def observe(self, moment: datetime, name: str, payload: Any, view: View) -> list[Occurrence]:
        """What OctoPrint's event `name`, seen at `moment`, means on the wire: nothing, one thing or several."""
        handler = self._handlers.get(name)
        if handler is None:
            return []
        overdue = [] if name in ("Error", "PrintFailed") else self._error_without_text()
        return overdue + handler(moment, payload if isinstance(payload, Mapping) else {}, view)

    def unsaid(self) -> list[Occurrence]:
        """What OctoPrint was to say more about, and will not any more."""
        return self._error_without_text() + self._end_failed() + self._end_unsaid()

    def snapshot(self, moment: datetime, reason: str, view: View) -> list[Occurrence]:
        """Everything at once, as it stands at this point of the stream."""
        overdue = self._error_without_text() + self._end_overdue(moment)
        printer = dict(view.printer())
        self._firmware = printer["firmware"]
        self._heaters = heaters_record(view.heaters(self.measured_since)) if self.connected else {}
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
        occurrences = self._end_overdue(moment)
        if not self.connected:
            return occurrences
        heaters = heaters_record(temperatures)
        if heaters:
            self.measured_since = None
        if heaters and heaters_differ(heaters, self._heaters):
            self._heaters = heaters
            occurrences.append(Occurrence(moment, wire.HEATERS, {"heaters": heaters}))
        if self.job is not None and self._rests is None:  # else it may be that of nothing
            reached = progress_record(self.job["run"], progress, self._layers)
            if progress_moved(reached, self._progress):
                self._progress = reached
                occurrences.append(Occurrence(moment, wire.PROGRESS, reached))
        return occurrences

    def _state_changed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        state = STATES.get(str(payload.get("state_id")))
        if state is None or state == self.state:
            return []
        if state == "error" and not self._recent_error(moment):
            self._error_since = moment
            return []
        return self._turn_to(state, moment, view)

    def _turn_to(self, state: str, moment: datetime, view: View | None = None) -> list[Occurrence]:
        """The change to `state`, what it does to a print, and a snapshot when the printer was not connected."""
        before, self.state = self.state, state
        occurrences = self._end_failed() + self._end_unsaid()
        if state in _LOST:
            if before not in _LOST:
                self.error = self._recent_error(moment)
            occurrences += self._end(moment, "failed", self.error or CLOSED)
        else:
            self.error = None
        if state == "printing" and self.job is None and view is not None:
            occurrences += self._begin(moment, {}, view)
            self._begun_unsaid = moment
        if state == "operational" and self.job is not None and view is not None:
            self._rests = moment, before
            self._look_a_last_time(self.job["run"], view)
        occurrences.append(Occurrence(moment, wire.STATE, {"state": state, "error": self.error}))
        if view is not None and before in _NOT_CONNECTED and self.connected:
            self.measured_since = moment
            occurrences += self.snapshot(moment, "connected", view)
        return occurrences

    def _look_a_last_time(self, run: str, view: View) -> None:
        """How far the print came since the last sample; what OctoPrint has forgotten already does not count."""
        reached, last = progress_record(run, view.progress(), self._layers), self._progress
        if last is not None and (reached["completion"] or 0.0) > (last["completion"] or 0.0):
            self._progress = reached

    def _error_without_text(self) -> list[Occurrence]:
        """The change to the error state, if it still waits for OctoPrint's words about the error."""
        if self._error_since is None:
            return []
        moment, self._error_since = self._error_since, None
        self.error, self._error_at = self._recent_error(moment) or NO_TEXT, moment
        return self._turn_to("error", moment)

    def _recent_error(self, moment: datetime) -> str | None:
        """The error that has to do with what happens now."""
        return self.error if moment - self._error_at <= ERROR_MATTERS_FOR else None

    def _started(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        if self._is_begun_already(moment, payload):
            self._begun_unsaid = None
            return []
        # A paused print that is begun anew (OctoPrint 1.11 allows it) is given up by a person.
        result = "cancelled" if self._halted else "failed"
        occurrences = self._end_failed() + self._end_unsaid()
        occurrences += self._end(moment, result, "Another print began without an end of this one")
        return occurrences + self._begin(moment, payload, view)

    def _is_begun_already(self, moment: datetime, payload: Mapping[str, Any]) -> bool:
        """Whether this tells of the print that was seen in the printer's state a moment ago."""
        begun, job = self._begun_unsaid, self.job
        if begun is None or job is None or moment - begun > EVENT_WITHIN:
            return False
        return job["path"] in (None, payload.get("path"))

    def _begin(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self.job = job_record(self._new_run(), moment, payload, view.job())
        self._progress = None
        self._layers = Layers()
        return [Occurrence(moment, wire.JOB_STARTED, self.job)]

    def _paused(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self._halted = self.job is not None
        return self._of_job(moment, wire.JOB_PAUSED)

    def _resumed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self._halted = False
        return self._of_job(moment, wire.JOB_RESUMED)

    def _done(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        return self._end(moment, "completed", None, payload.get("time"), 100.0)

    def _cancelling(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        """With an error of the firmware: OctoPrint gives the print up itself, where it is not to disconnect."""
        words = text_or_none(payload.get("firmwareError") or None, 2048)
        if words is None:
            return []
        self._failing = words if self.job else None
        if words == self._recent_error(moment):
            return []
        self.error, self._error_at = words, moment
        return [Occurrence(moment, wire.ERROR, {"text": words})]

    def _cancelled(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        return self._end(moment, *self._given_up(), payload.get("time"), payload.get("progress"))

    def _given_up(self) -> tuple[str, str | None]:
        """Result and reason of a print that is cancelled."""
        return ("failed", self._failing) if self._failing else ("cancelled", None)

    def _failed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        if self.job is None or payload.get("reason") == "cancelled":
            return []  # PrintCancelled has said so; the next print may have begun since
        if self._error_since is not None:
            return []  # the print ends with the error's words, which follow
        told = (payload.get("error"), self._recent_error(moment), payload.get("reason"))
        words = next((one for one in told if isinstance(one, str) and one.lower() not in _NOTHING), None)
        self._failure = moment, words, payload.get("time")
        if self.connected and self._recent_error(moment) is None:
            return []  # OctoPrint tells failures from a thread of their own: the error may come a moment later
        return self._end_failed()

    def _filament_change(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        run = self.job["run"] if self.job else None
        return [Occurrence(moment, wire.FILAMENT_CHANGE, {"run": run})]

    def _error_reported(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        self.error, self._error_at = text_or_none(payload.get("error"), 2048) or NO_TEXT, moment
        return [Occurrence(moment, wire.ERROR, {"text": self.error}), *self._error_without_text()]

    def _firmware_known(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        if not self.connected or view.printer()["firmware"] == self._firmware:
            return []
        return self.snapshot(moment, "connected", view)

    def _layer_changed(self, moment: datetime, payload: Mapping[str, Any], view: View) -> list[Occurrence]:
        """Told with the next sample: layers may be as short as seconds."""
        if self.job is not None:
            self._layers.note(payload)
        return []

    def _of_job(self, moment: datetime, kind: str) -> list[Occurrence]:
        return [Occurrence(moment, kind, {"run": self.job["run"]})] if self.job else []

    def _end_overdue(self, moment: datetime) -> list[Occurrence]:
        """The end of a print about which OctoPrint was to say more, when that has not come in time."""
        if self._failure is not None and moment - self._failure[0] > ERROR_TEXT_WITHIN:
            return self._end_failed()
        if self._rests is None or moment - self._rests[0] <= EVENT_WITHIN:
            return []
        return self._end_unsaid()

    def _end_unsaid(self) -> list[Occurrence]:
        """The end of a print after which the printer is idle, judged by what went before."""
        if self._rests is None:
            return []
        (moment, before), self._rests = self._rests, None
        done = (self._progress or {}).get("completion") or 0.0
        if before == "finishing" or (before == "printing" and done >= WHOLE):
            return self._end(moment, "completed", None, completion=100.0)
        return self._end(moment, *(self._given_up() if before == "cancelling" else ("failed", UNSAID)))

    def _end_failed(self) -> list[Occurrence]:
        """The end of a print that failed, if it waits for the error behind that."""
        if self._failure is None:
            return []
        (moment, words, print_time), self._failure = self._failure, None
        return self._end(moment, "failed", words or self._recent_error(moment) or CLOSED, print_time)

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
            "reason": text_or_none(reason, 2048),
            "print_time": at_least_zero(last.get("print_time") if print_time is None else print_time),
            "completion": percent(last.get("completion") if completion is None else completion),
        }
        self.job = None
        self._progress = self._failing = self._begun_unsaid = self._rests = self._failure = None
        self._halted = False
        return [Occurrence(moment, wire.JOB_ENDED, data)]
