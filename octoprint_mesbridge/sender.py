"""The thread between the outbox and the bridge.

In flow batches from the outbox; out flow signed pushes, and back the bridge's signed answers, which let
the outbox forget. When to try again is decided here; how bytes travel is the matter of `line`, what an answer
means is in `_judge`, what travels in `bridge.wire`.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge import wire

from .dialect import in_old_words
from .hello import JSON_HEADERS, Greeting, meet, refusal
from .line import Answer, Line, Unreachable, base_url
from .notice import N_, Notice, NoticeError
from .outbox import Outbox

_MAX_REPLY_BYTES = 64 * 1024
_AGAIN_S = 60.0
"""So long a key that the bridge did not know is tried after the others."""

_OLD_WORDS_S = 3600.0
"""So long a bridge that was too old for what is new is spared it; a connection that breaks ends that, too."""

_SETTLING_S = 5.0
_SOON_S = 1.0
"""So long after a pairing a bridge may still be about to serve the key; meanwhile it is tried this often."""

_PATIENCE_S = 1.0
"""After this time without an answer it is said that one is waited for."""


def push_url(address: str) -> str:
    """Where to push to, for the bridge's `address` (``http://host:port``). Raises `BadAddress`, in words."""
    return base_url(address) + wire.PATH


@dataclass(frozen=True)
class Signer:
    """A key to sign with; `valid_until` (aware) is when it ends, None while it is the one in use."""

    key: wire.PushKey
    valid_until: datetime | None = None


@dataclass(frozen=True)
class Target:
    """Where to push to, what signs it (the newest first), and the certificate that is pinned (SHA-256, hex).

    `paired` is when the bridge took the newest key (monotonic), None if that was not seen.
    """

    url: str
    signers: tuple[Signer, ...]
    certificate: str | None = None
    paired: float | None = None

    @property
    def settling(self) -> bool:
        """Whether the bridge took the key only just now."""
        return self.paired is not None and time.monotonic() - self.paired < _SETTLING_S


@dataclass(frozen=True)
class Timing:
    """All in seconds."""

    heartbeat: float = 10.0
    first_retry: float = 0.5
    longest_retry: float = 30.0
    connect: float = 3.05
    read: float = 10.0


class _Failed(NoticeError):
    """A push that was not acknowledged; `slow` when only a person can help, so that haste is useless."""

    def __init__(self, notice: Notice, slow: bool = False) -> None:
        super().__init__(notice)
        self.slow = slow


class _NotUnderstood(_Failed):
    """The bridge refused what the batch says; it may be older than the plugin."""


class _UnknownKey(Exception):
    """The bridge knows no machine with the key that signed."""


class _NotYet(Exception):
    """The bridge does not know the key that it took just now."""


class _ClockApart(Exception):
    """The bridge refused the signature's age; `offset` is what its clock is ahead of this one."""

    def __init__(self, offset: timedelta) -> None:
        super().__init__()
        self.offset = offset


class Sender:
    """Owns the thread; every other method may be called from any thread.

    `on_change` is called when a connection or an error begins, `on_acknowledged` with the id of the key that
    signed a push which was acknowledged.
    """

    def __init__(
        self,
        outbox: Outbox,
        logger: Any,
        on_snapshot: Callable[[], None],
        timing: Timing | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_acknowledged: Callable[[str], object] = lambda key_id: None,
    ) -> None:
        self._outbox = outbox
        self._on_acknowledged = on_acknowledged
        self._logger = logger
        self._on_snapshot = on_snapshot
        self._on_change = on_change
        self.timing = timing or Timing()
        self._condition = threading.Condition()
        self._target: Target | None = None
        self._reason_idle: Notice | None = Notice(N_("Not started yet"))
        self._changed = False
        self._fresh = False
        self._deadline: float | None = None
        self._offset = timedelta(0)
        self._heard = False
        self._connected = False
        self._error: Notice | None = None
        self._last_error: tuple[Notice, datetime] | None = None
        self._trying_since: float | None = None
        self._acknowledged: str | None = None
        self._signing: Signer | None = None
        self._bridge: Greeting | None = None
        self._old_words_until = float("-inf")
        self._left_out = False
        self._refused: dict[str, float] = {}
        self._line = Line()
        self._thread = threading.Thread(target=self._run, name="mesbridge.sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def aim(self, target: Target | None, reason_idle: Notice | None = None) -> bool:
        """Push to `target` from now on; with None, push nothing, and say why in the status. Whether that is new."""
        with self._condition:
            new = (target, reason_idle) != (self._target, self._reason_idle)
            self._reason_idle = reason_idle
            self._refused = {}  # what was changed may be what the bridge has learnt, too
            if target != self._target:
                self._target = target
                self._changed = True
                self._connected = self._heard = False
                self._error = self._trying_since = self._signing = self._bridge = None
                self._line.abandon()
                self._condition.notify_all()
            return new

    def wake(self) -> None:
        """Say that the outbox has something new."""
        with self._condition:
            self._fresh = True
            self._condition.notify_all()

    def stop(self, timeout: float) -> bool:
        """Send what waits, as far as `timeout` seconds allow, and end the thread; whether it has ended."""
        with self._condition:
            self._deadline = time.monotonic() + timeout
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._condition:
            self._line.abandon()
        return not self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """What a person wants to know: `idle`, `error` and `last_error` are notices or None, times RFC 3339 texts.

        `error` is what is wrong now, `last_error` what was wrong last, and until when that was seen.
        `clock_offset` is what the bridge's clock is ahead, in seconds; None until the bridge was heard.
        """
        backlog = self._outbox.backlog()
        with self._condition:
            last_error, last_error_at = self._last_error or (None, None)
            return {
                "connected": self._connected,
                "idle": None if self._target else self._reason_idle,
                "error": self._error or self._patience(),
                "last_error": last_error,
                "last_error_at": last_error_at and wire.format_time(last_error_at),
                "bridge": self._bridge and self._bridge.record(),
                "acknowledged": self._acknowledged,
                "clock_offset": self._offset.total_seconds() if self._heard else None,
                "previous_key_in_use": bool(self._signing and self._signing.valid_until),
                "waiting": backlog.waiting,
                "oldest_waiting": backlog.oldest,
            }

    def _patience(self) -> Notice | None:
        since = self._trying_since
        if since is None or self._connected or time.monotonic() - since < _PATIENCE_S:
            return None
        return Notice(
            N_("No answer from the bridge at %(place)s yet; tried for %(seconds)d s"),
            {"place": _place(self._target), "seconds": time.monotonic() - since},
        )

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
                changed = self._changed
                if changed:
                    self._changed, failures, last_contact = False, 0, float("-inf")
                    self._old_words_until = float("-inf")
                    self._line.close()
                    self._line = Line(target.certificate if target else None)
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
        with self._condition:
            if self._trying_since is None:
                self._trying_since = time.monotonic()
        signer, reply = self._push_understood(target, batch)
        if reply.ack < batch.after and self._outbox.rewind(batch.instance, reply.ack):
            self._logger.warning(
                "The bridge has lost events that it had: those after the %dth are sent again", reply.ack
            )
            return
        self._outbox.acknowledge(batch.instance, reply.ack)
        if batch.events and reply.ack <= batch.after:
            raise _Failed(Notice(N_("The bridge answered, but did not take the events")))
        begins = self._note_success(target, signer)
        # The bridge repeats its wish until it is met, and a snapshot that meets it may be waiting already.
        if reply.snapshot and not self._outbox.backlog().waiting:
            self._on_snapshot()
        if begins:
            self._ask_who_it_is(target, signer)
        self._on_acknowledged(signer.key.key_id)

    def _ask_who_it_is(self, target: Target, signer: Signer) -> None:
        try:
            _, greeting = meet(self._line, _place(target), signer.key, self._offset)
        except Unreachable:
            return  # the next push will say it
        with self._condition:
            if not self._changed:
                self._bridge = greeting

    def _after(self, error: Exception, failures: int) -> float:
        """Tell what went wrong, the `failures`-th time in a row; returns the seconds until the next attempt."""
        if isinstance(error, _ClockApart):
            self._note_clock(error.offset)
            return 0.0 if failures == 1 else self._pause(failures)
        if isinstance(error, _NotYet):
            with self._condition:
                self._trying_since = None
            return _SOON_S
        if isinstance(error, sqlite3.Error):
            error = _Failed(
                Notice(N_("The queue of events cannot be read: %(reason)s"), {"reason": str(error)})
            )
        elif not isinstance(error, _Failed):
            if self._error is None:
                self._logger.error("Pushing to the bridge went wrong in an unforeseen way", exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            error = _Failed(Notice(N_("Unforeseen: %(reason)s"), {"reason": reason}), slow=True)
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

    def _push_understood(self, target: Target, batch: wire.Batch) -> tuple[Signer, wire.Reply]:
        """Whether the bridge understands what is new on the wire shows when it is told; else it is left out."""
        if time.monotonic() < self._old_words_until:
            return self._push(target, in_old_words(batch))
        try:
            answer = self._push(target, batch)
        except _NotUnderstood:
            in_old = in_old_words(batch)
            if in_old == batch:
                raise
            answer = self._push(target, in_old)
            self._old_words_until = time.monotonic() + _OLD_WORDS_S
            self._left_out = True
            self._logger.warning(
                "The bridge at %s is older than this plugin: files, layers and spools are left out. Install the "
                "same MESBridge version on both sides, and they are told.",
                _place(target),
            )
            return answer
        if self._left_out:  # it may be a newer bridge now, to which that is to be told after all
            self._left_out = False
            self._on_snapshot()
        return answer

    def _push(self, target: Target, batch: wire.Batch) -> tuple[Signer, wire.Reply]:
        """The bridge may know the newest key, or only the one before it as long as that is valid."""
        body = wire.encode_batch(batch)
        for signer in self._in_order(target):
            try:
                return signer, self._push_signed(target, signer.key, body)
            except _UnknownKey:
                with self._condition:
                    if not self._changed:
                        self._refused[signer.key.key_id] = time.monotonic()
        if target.settling:
            raise _NotYet
        raise _Failed(
            Notice(
                N_(
                    "The bridge at %(place)s does not know this key: pair with it, or put the key that was made"
                    " last where this machine's entry of config.json says, and restart the bridge"
                ),
                {"place": _place(target)},
            ),
            slow=True,
        )

    def _in_order(self, target: Target) -> list[Signer]:
        """The valid ones, the newest first; those that were refused lately come after the others."""
        if len(target.signers) < 2:
            return list(target.signers)
        now, lately = wire.utc_now(), time.monotonic() - (_SOON_S if target.settling else _AGAIN_S)
        valid = [
            signer for signer in target.signers if signer.valid_until is None or now < signer.valid_until
        ]
        return sorted(valid, key=lambda signer: self._refused.get(signer.key.key_id, lately) > lately)

    def _push_signed(self, target: Target, key: wire.PushKey, body: bytes) -> wire.Reply:
        message_id = wire.new_message_id()
        headers = wire.sign(key, message_id, wire.utc_now() + self._offset, body)
        try:
            answer = self._line.post(
                target.url,
                body,
                {**headers, **JSON_HEADERS},
                self.timing.connect,
                self.timing.read,
                _MAX_REPLY_BYTES,
            )
        except Unreachable as error:
            raise _Failed(error.notice) from error
        return _judge(target, key, message_id, answer)

    def _note_clock(self, offset: timedelta) -> None:
        with self._condition:
            self._offset = offset
            self._heard = not self._changed
        self._logger.warning(
            "The bridge's clock is %+.0f s from this one. Pushes are signed by the bridge's clock from now on; "
            "set the clock of this machine (NTP), because the times of events are taken from it.",
            offset.total_seconds(),
        )

    def _note_failure(self, failure: _Failed) -> None:
        with self._condition:
            if self._changed:
                return  # it was about the target before
            begins = self._error is None
            self._connected = False
            self._old_words_until = float("-inf")
            self._error = failure.notice
            self._last_error = failure.notice, wire.utc_now()
        log = self._logger.warning if begins else self._logger.debug
        log("%s. Events are kept and sent later.", failure)
        if begins:
            self._on_change()

    def _note_success(self, target: Target, signer: Signer) -> bool:
        """Whether the connection begins with this."""
        with self._condition:
            if self._changed:
                return False
            begins = not self._connected
            changed = not begins and signer != self._signing
            self._connected = self._heard = True
            self._error = self._trying_since = None
            self._signing = signer
            self._acknowledged = wire.format_time(wire.utc_now())
        if begins:
            self._logger.info("Connected to the bridge at %s", _place(target))
            self._on_change()
        if signer.valid_until and (begins or changed):
            self._logger.info(
                "Pushes are signed with the key before, as the bridge does not know the newest one yet. The key "
                "before is valid until %s; the bridge is asked about the newest one again and again.",
                wire.format_time(signer.valid_until),
            )
        elif changed:
            self._logger.info("The bridge knows the newest key now")
        return begins


def _place(target: Target | None) -> str:
    return target.url[: -len(wire.PATH)] if target else ""


def _judge(target: Target, key: wire.PushKey, message_id: str, answer: Answer) -> wire.Reply:
    """What the bridge said. Raises `_Failed`, `_UnknownKey` or `_ClockApart` when it is no acknowledgement."""
    status, place = answer.status, {"place": _place(target)}
    if answer.body is None:
        template = N_("%(place)s answers at great length: it is not the bridge; check the address")
        raise _Failed(Notice(template, place), slow=True)
    code, _ = refusal(answer)
    try:
        moment = wire.verify_reply(key, message_id, answer.headers, answer.body)
    except wire.SignatureError as error:
        if status == 401 and code == "unknown_key":
            raise _UnknownKey from error
        if status >= 500:
            template = N_("%(place)s answers HTTP %(status)d; events are sent when that has passed")
            raise _Failed(Notice(template, {**place, "status": status})) from error
        raise _Failed(
            Notice(
                N_(
                    "%(place)s answers HTTP %(status)d without the bridge's signature: check the address, and"
                    " whether a proxy or a login page stands in between"
                ),
                {**place, "status": status},
            ),
            slow=True,
        ) from error
    if status == 401 and code == "clock":
        raise _ClockApart(moment - wire.utc_now())
    said = {**place, "status": status, "code": code or "-"}
    if status in (413, 422):
        raise _NotUnderstood(
            Notice(
                N_(
                    "The bridge at %(place)s does not understand this plugin (HTTP %(status)d, %(code)s): install"
                    " the same MESBridge version on both sides"
                ),
                said,
            ),
            slow=True,
        )
    if status != 200:
        raise _Failed(
            Notice(N_("The bridge at %(place)s refuses (HTTP %(status)d, %(code)s); its log says why"), said),
            slow=status < 500 and code != "replayed",
        )
    try:
        return wire.decode_reply(answer.body)
    except wire.WireError as error:
        raise _Failed(
            Notice(
                N_(
                    "The bridge at %(place)s answers what this plugin does not understand (%(reason)s): install"
                    " the same MESBridge version on both sides"
                ),
                {**place, "reason": str(error)},
            ),
            slow=True,
        ) from error
