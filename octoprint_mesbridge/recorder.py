"""The thread between OctoPrint's events and the outbox.

In flow events, put on a queue by OctoPrint's own threads; out flow occurrences into the outbox. Everything
that costs time (asking the printer, checking, SQLite) happens here. Samples are fetched from here too: a
printer callback would make OctoPrint copy every temperature inside its serial threads.

It is a thread apart from the sender, because an event must reach the disk within a moment even while a bridge
that does not answer keeps the sender waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from bridge import wire

from .observer import ERROR_TEXT_WITHIN, JOB_EVENTS, Observer, View
from .occurrence import Occurrence
from .outbox import Outbox
from .stock import Stock

_SNAPSHOT = object()
_RECORD = object()
_STOP = object()

RETRY_S = 2.0
"""How long to wait before writing again after the disk refused."""

GATHER_S = 0.05
"""Events seldom come alone: what follows within this is stored and sent together with the first."""

FIRST_LOOK_S = 1.0
"""How soon the printer is looked at when a print has begun or ended."""

SETTLED_S = 1.0
"""What an event says of files or spools is on the disk and in the settings within this; more may follow meanwhile."""

LOOKING_SHARE = 0.02
"""The part of this thread's time that the looking at files and spools may take, however many there are."""

_URGENT = JOB_EVENTS | {_STOP}
"""What ends the gathering: a crash must not cost a job event."""

MORE_WITHIN_S = ERROR_TEXT_WITHIN.total_seconds() + 0.1
"""When to look whether OctoPrint has said more, and else to tell without it."""


class Recorder:
    """Owns the thread; `put` may be called from any other."""

    def __init__(
        self,
        observer: Observer,
        view: View,
        stock: Stock,
        outbox: Outbox,
        logger: Any,
        on_stored: Callable[[], None],
        sample_interval: float,
    ) -> None:
        self._observer = observer
        self._view = view
        self._stock = stock
        self._outbox = outbox
        self._logger = logger
        self._on_stored = on_stored
        self.sample_interval = sample_interval
        self._next_sample = 0.0
        self._next_look = 0.0
        self._events = observer.events | stock.events
        self._queue: queue.SimpleQueue[tuple[float, Any, Any]] = queue.SimpleQueue()
        self._recording = False
        self._pending: list[Occurrence] = []
        self._disk_refused = False
        self._told_of_dropped = False
        self.refused: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="mesbridge.recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, name: str, payload: Any) -> None:
        """Take an event of OctoPrint; costs its thread a microsecond."""
        if name in self._events:
            self._queue.put((time.time(), name, payload))

    def request_snapshot(self, reason: str) -> None:
        """Put a full picture into the stream."""
        self._queue.put((time.time(), _SNAPSHOT, reason))

    def set_recording(self, recording: bool) -> None:
        """Switch the storing on, which begins with a snapshot, or off; the printer is followed all the same."""
        self._queue.put((time.time(), _RECORD, recording))

    def stop(self, timeout: float) -> bool:
        """Store what is queued, say that OctoPrint ends, and end the thread; waits `timeout` seconds at most.

        Whether the thread has ended.
        """
        self._queue.put((time.time(), _STOP, None))
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopping = False
        job = self._observer.job
        while not stopping:
            for seen, name, payload in self._wait():
                stopping = stopping or name is _STOP
                self._take(datetime.fromtimestamp(seen, timezone.utc), name, payload)
            if self._observer.awaits_more:
                self._look_within(MORE_WITHIN_S)
            if self._observer.job is not job:
                job = self._observer.job
                self._look_within(FIRST_LOOK_S)
            if not stopping and self._sees_something() and time.monotonic() >= self._next_sample:
                self._sample()
            self._store()
            if not stopping and self._stock_is_stale() and time.monotonic() >= self._next_look:
                self._look_at_stock()
                self._store()

    def _wait(self) -> list[tuple[float, Any, Any]]:
        """Everything queued, after waiting for the first of it until something is to be done unasked."""
        due = [self._next_sample] if self._sees_something() else []
        due += [self._next_look] if self._stock_is_stale() else []
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        if self._pending or self._outbox.refusal is not None:
            timeout = RETRY_S if timeout is None else min(RETRY_S, timeout)
        items = []
        try:
            items.append(self._queue.get(timeout=timeout))
            until = time.monotonic() + GATHER_S
            while items[-1][1] not in _URGENT:
                items.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                items.append(self._queue.get_nowait())
        except queue.Empty:
            return items

    def _look_within(self, seconds: float) -> None:
        self._next_sample = min(self._next_sample, time.monotonic() + seconds)

    def _sees_something(self) -> bool:
        """Whether a look at the printer could tell anything that somebody wants to know."""
        return self._recording and (self._observer.connected or self._observer.awaits_more)

    def _stock_is_stale(self) -> bool:
        return self._recording and bool(self._stock.stale)

    def _look_at_stock(self) -> None:
        begun = time.monotonic()
        for kind in sorted(self._stock.stale):
            with self._tolerant(kind):
                self._keep(self._stock.look(kind, datetime.now(timezone.utc)))
        now = time.monotonic()
        self._next_look = now + max(self.sample_interval, (now - begun) / LOOKING_SHARE)

    def _take(self, moment: datetime, name: Any, payload: Any) -> None:
        if name is _RECORD:
            begins = payload and not self._recording
            self._recording = payload
            if begins:
                name, payload = _SNAPSHOT, "start"
        if name is _STOP:
            self._keep([*self._observer.unsaid(), Occurrence(moment, wire.SHUTDOWN, {})])
        elif name is _SNAPSHOT:
            with self._tolerant("a snapshot"):
                self._keep(self._observer.snapshot(moment, payload, self._view))
        elif name in self._stock.events:
            if not self._stock.stale:
                self._next_look = max(self._next_look, time.monotonic() + SETTLED_S)
            with self._tolerant(name):
                self._stock.observe(name, payload)
        elif isinstance(name, str):
            with self._tolerant(name):
                self._keep(self._observer.observe(moment, name, payload, self._view))

    def _sample(self) -> None:
        with self._tolerant("a sample"):
            heaters = self._view.heaters(self._observer.measured_since)
            progress = self._view.progress() if self._observer.job else {}  # costs a copy of all data
            if not self._queue.empty():
                return  # what was read may already be what follows those events
            self._keep(self._observer.sample(datetime.now(timezone.utc), heaters, progress))
        self._next_sample = time.monotonic() + self.sample_interval

    @contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        """What nobody foresaw may cost one event, but not the events after it; it is told once in full."""
        try:
            yield
        except Exception as error:
            self.refused[what] += 1
            if self.refused[what] == 1:
                self._logger.exception("MESBridge could not make sense of %s; it is left out", what)
            else:
                self._logger.debug("Left out %s again: %s", what, error)

    def _keep(self, occurrences: list[Occurrence]) -> None:
        if not self._recording:
            return
        for one in occurrences:
            if one.kind == wire.SNAPSHOT:
                self._stock.tell_anew()
                self._next_look = time.monotonic()
            try:
                checked = wire.PAYLOADS[one.kind](one.data, one.kind)
            except wire.WireError as error:
                self.refused[one.kind] += 1
                self._logger.warning("A %s event was left out, because it is not sound: %s", one.kind, error)
                continue
            self._pending.append(one._replace(data=checked))

    def _store(self) -> None:
        with self._tolerant("the storing of events"):
            self._store_pending()

    def _store_pending(self) -> None:
        if self._pending:
            self._outbox.append(self._pending)
            self._pending = []
            self._on_stored()
        elif self._outbox.refusal is not None:
            self._outbox.save()
        # The bridge takes the past for the present at first, and so would take a print that runs for ended.
        if self._outbox.has_late and self._observer.job is None:
            self._outbox.release_late()
            self.request_snapshot("requested")
        self._tell_of_storage()

    def _tell_of_storage(self) -> None:
        refusal = self._outbox.storage()["error"]
        if refusal is not None and not self._disk_refused:
            self._logger.error(
                "Events cannot be stored (%s). They are sent from memory, and lost if OctoPrint ends before the "
                "bridge has them; printing goes on. Check the disk that holds OctoPrint's data: whether there is "
                "room on it, and whether it can be written to.",
                refusal,
            )
        elif refusal is None and self._disk_refused:
            self._logger.info("Events are stored again")
        self._disk_refused = refusal is not None
        if self._outbox.dropped and not self._told_of_dropped:
            self._told_of_dropped = True
            self._logger.error(
                "The bridge has been away for so long that the oldest events, job events apart, were dropped to "
                "make room; check the bridge and its address in the MESBridge settings."
            )
