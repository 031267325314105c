"""The thread between the outbox and the bridge.

In flow batches from the outbox; out flow signed pushes, and back the bridge's signed answers, which let
the outbox forget. When to try again is decided here; how bytes travel is the matter of `line`, what an answer
means is in `_judge`, what travels in `bridge.wire`.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from bridge import wire

from .line import Answer, Line, Unreachable
from .outbox import Outbox

_MAX_REPLY_BYTES = 64 * 1024
_ANSWER_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


def push_url(address: str) -> str:
    """Where to push to, for the bridge's `address` (``http://host:port``). Raises `ValueError`, in words."""
    text = address.strip()
    no_address = f"{text!r} is no address; one such as http://bridge.local:8484 is expected"
    try:
        parts = urlsplit(text)
        host, port, credentials = parts.hostname, parts.port, parts.username or parts.password
    except ValueError:
        raise ValueError(no_address) from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(no_address)
    if not parts.path.isascii() or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(no_address)
    if credentials:
        raise ValueError("the bridge's address must not contain a user name or password")
    if parts.query or parts.fragment:
        raise ValueError(f"the bridge's address must end after its port or path: {text!r}")
    return text.rstrip("/") + wire.PATH


@dataclass(frozen=True)
class Target:
    """Where to push to and what signs it."""

    url: str
    key: wire.PushKey


@dataclass(frozen=True)
class Timing:
    """All in seconds."""

    heartbeat: float = 10.0
    first_retry: float = 0.5
    longest_retry: float = 30.0
    connect: float = 3.05
    read: float = 10.0


class _Failed(Exception):
    """A push that was not acknowledged; `slow` when only a person can help, so that haste is useless."""

    def __init__(self, message: str, slow: bool = False) -> None:
        super().__init__(message)
        self.slow = slow


class _ClockApart(Exception):
    """The bridge refused the signature's age; `offset` is what its clock is ahead of this one."""

    def __init__(self, offset: timedelta) -> None:
        super().__init__()
        self.offset = offset


class Sender:
    """Owns the thread; every other method may be called from any thread."""

    def __init__(
        self, outbox: Outbox, logger: Any, on_snapshot: Callable[[], None], timing: Timing | None = None
    ) -> None:
        self._outbox = outbox
        self._logger = logger
        self._on_snapshot = on_snapshot
        self.timing = timing or Timing()
        self._condition = threading.Condition()
        self._target: Target | None = None
        self._reason_idle = "Not started yet"
        self._changed = False
        self._fresh = False
        self._deadline: float | None = None
        self._offset = timedelta(0)
        self._connected = False
        self._error: str | None = None
        self._acknowledged: str | None = None
        self._line = Line()
        self._thread = threading.Thread(target=self._run, name="mesbridge.sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def aim(self, target: Target | None, reason_idle: str = "") -> None:
        """Push to `target` from now on; with None, push nothing, and say why in the status."""
        with self._condition:
            self._reason_idle = reason_idle
            if target != self._target:
                self._target = target
                self._changed = True
                self._connected = False
                self._error = None
                self._condition.notify_all()

    def wake(self) -> None:
        """Say that the outbox has something new."""
        with self._condition:
            self._fresh = True
            self._condition.notify_all()

    def stop(self, timeout: float) -> None:
        """Send what waits, as far as `timeout` seconds allow, and end the thread."""
        with self._condition:
            self._deadline = time.monotonic() + timeout
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        """What a person wants to know; times are RFC 3339 texts."""
        backlog = self._outbox.backlog()
        with self._condition:
            return {
                "connected": self._connected,
                "idle": None if self._target else self._reason_idle,
                "error": self._error,
                "acknowledged": self._acknowledged,
                "clock_offset": self._offset.total_seconds(),
                "waiting": backlog.waiting,
                "oldest_waiting": backlog.oldest,
            }

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._line.close()

    def _work(self) -> None:
        failures = 0
        last_contact = float("-inf")
        while True:
            with self._condition:
                target = self._target
                self._fresh = False
                if self._changed:
                    self._changed, failures, last_contact = False, 0, float("-inf")
                deadline = self._deadline
            stopping = deadline is not None
            if deadline is not None and (target is None or failures or time.monotonic() >= deadline):
                return
            if target is None:
                self._sleep(None, for_news=False)
                continue
            try:
                batch = self._outbox.next_batch()
                if not batch.events:
                    due = last_contact + self.timing.heartbeat
                    if stopping:
                        return
                    if time.monotonic() < due:
                        self._sleep(due - time.monotonic(), for_news=True)
                        continue
                self._exchange(target, batch)
            except Exception as error:  # noqa: BLE001 - the thread must outlive what nobody foresaw, too
                failures += 1
                self._sleep(self._after(error, failures), for_news=False)
            else:
                failures, last_contact = 0, time.monotonic()

    def _exchange(self, target: Target, batch: wire.Batch) -> None:
        reply = self._push(target, batch)
        self._outbox.acknowledge(batch.instance, reply.ack)
        if batch.events and reply.ack <= batch.after:
            raise _Failed("The bridge answered, but did not take the events")
        self._note_success(target)
        # The bridge repeats its wish until it is met, and a snapshot that meets it may be waiting already.
        if reply.snapshot and not self._outbox.backlog().waiting:
            self._on_snapshot()

    def _after(self, error: Exception, failures: int) -> float:
        """Tell what went wrong, the `failures`-th time in a row; returns the seconds until the next attempt."""
        if isinstance(error, _ClockApart):
            self._note_clock(error.offset)
            return 0.0 if failures == 1 else self._pause(failures)
        if isinstance(error, sqlite3.Error):
            error = _Failed(f"The queue of events cannot be read: {error}")
        elif not isinstance(error, _Failed):
            if self._error is None:
                self._logger.error("Pushing to the bridge went wrong in an unforeseen way", exc_info=error)
            error = _Failed(f"Unforeseen: {type(error).__name__}: {error}", slow=True)
        self._note_failure(error)
        return self.timing.heartbeat if error.slow else self._pause(failures)

    def _sleep(self, seconds: float | None, for_news: bool) -> None:
        """Wait; a new target or the end of OctoPrint ends it, fresh events only when `for_news`."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._changed or self._deadline is not None or (for_news and self._fresh), seconds
            )

    def _pause(self, failures: int) -> float:
        """Exponential back-off, half of it random, so that a plant does not come back all at once."""
        longest = min(self.timing.longest_retry, self.timing.first_retry * 2 ** min(failures - 1, 16))
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - nothing secret

    def _push(self, target: Target, batch: wire.Batch) -> wire.Reply:
        body = wire.encode_batch(batch)
        message_id = wire.new_message_id()
        headers = wire.sign(target.key, message_id, wire.utc_now() + self._offset, body)
        try:
            answer = self._line.post(
                target.url,
                body,
                {**headers, **_ANSWER_HEADERS},
                self.timing.connect,
                self.timing.read,
                _MAX_REPLY_BYTES,
            )
        except Unreachable as error:
            raise _Failed(
                f"The bridge at {target.url} cannot be reached: {error}; check the address, and that it runs"
            ) from error
        return _judge(target, message_id, answer)

    def _note_clock(self, offset: timedelta) -> None:
        self._offset = offset
        self._logger.warning(
            "The bridge's clock is %+.0f s from this one. Pushes are signed by the bridge's clock from now on; "
            "set the clock of this machine (NTP), because the times of events are taken from it.",
            offset.total_seconds(),
        )

    def _note_failure(self, failure: _Failed) -> None:
        text = str(failure)
        with self._condition:
            if self._changed:
                return  # it was about the target before
            begins = self._error is None
            self._connected = False
            self._error = text
        log = self._logger.warning if begins else self._logger.debug
        log("%s. Events are kept and sent later.", text)

    def _note_success(self, target: Target) -> None:
        with self._condition:
            if self._changed:
                return
            begins = not self._connected
            self._connected = True
            self._error = None
            self._acknowledged = wire.format_time(wire.utc_now())
        if begins:
            self._logger.info("Connected to the bridge at %s", target.url)


def _judge(target: Target, message_id: str, answer: Answer) -> wire.Reply:
    """What the bridge said. Raises `_Failed` or `_ClockApart` when it is not an acknowledgement."""
    status = answer.status
    if answer.body is None:
        raise _Failed(f"{target.url} answers at great length: it is not the bridge", slow=True)
    try:
        moment = wire.verify_reply(target.key, message_id, answer.headers, answer.body)
    except wire.SignatureError as error:
        if status == 401:
            raise _Failed(
                f"The bridge at {target.url} does not know this key: put the key that was "
                "made last where this machine's entry of config.json says, and restart the bridge",
                slow=True,
            ) from error
        if status >= 500:
            raise _Failed(f"{target.url} answers HTTP {status}") from error
        raise _Failed(
            f"{target.url} answers HTTP {status} without the bridge's signature ({error}): check the address, "
            "and whether a proxy or a login page stands in between",
            slow=True,
        ) from error
    code = _error_code(answer.body)
    if status == 401 and code == "clock":
        raise _ClockApart(moment - wire.utc_now())
    if status in (413, 422):
        raise _Failed(
            f"The bridge at {target.url} does not understand this plugin (HTTP {status}, {code}): install the "
            "same MESBridge version on both sides",
            slow=True,
        )
    if status != 200:
        raise _Failed(
            f"The bridge at {target.url} refuses (HTTP {status}, {code})",
            slow=status < 500 and code != "replayed",
        )
    try:
        return wire.decode_reply(answer.body)
    except wire.WireError as error:
        raise _Failed(
            f"The bridge at {target.url} answers what this plugin does not understand: {error}", slow=True
        ) from error


def _error_code(answer: bytes) -> str | None:
    try:
        code = json.loads(answer).get("error")
    except (ValueError, AttributeError, RecursionError):
        return None
    return str(code)[:200] if code is not None else None
