"""The bridge's key: who may use it, and for what.

In flows an administrator's wish (make a key, rotate it, revoke it), the passing of time, and every request's
key or user; out flows the user that a key stands for, the verdict on a request, and what signs the pushes.
Knows OctoPrint only through the user manager handed in.

A key of OctoPrint has exactly the rights of its user, and a logged-in user may mint further keys. So each
key gets a service user of its own that may read the status and, if wanted, control jobs, and a list of the few
requests that such a user may make at all. A fresh user per key means that whatever was minted for an old one
dies with it.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bridge import wire

from . import rights
from .keys import USER_PREFIX, KeyRecord, Keys, KeyStore, digest
from .notice import N_, Notice, NoticeError

LONGEST_OVERLAP = timedelta(days=7)

_LAST_USED_STEP = timedelta(minutes=15)
"""Uses are written at most this often, to spare the SD card; what is shown is exact."""

_LONGEST_WAIT_S = 60.0
"""The end of an overlap is looked for at least this often, so that a clock that is set is noticed."""

_ADDRESS_LENGTH = 64


class NotSetUp(NoticeError):
    """OctoPrint's access control has no owner yet; a user made now would lock that owner out."""

    def __init__(self) -> None:
        super().__init__(
            Notice(N_("OctoPrint is not set up yet: finish its setup wizard, then generate the key"))
        )


class NoKey(NoticeError):
    """There is nothing to rotate."""

    def __init__(self) -> None:
        super().__init__(Notice(N_("There is no key that could be replaced: generate one")))


class Access:
    """Makes, replaces and revokes the key, and judges each request that bears one.

    `on_change` is called after the keys changed without a command: at the end of an overlap.
    """

    def __init__(
        self,
        store: KeyStore,
        users: Any,
        logger: Any,
        on_change: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = wire.utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._users = users
        self._logger = logger
        self._on_change = on_change
        self._now = now
        self._monotonic = monotonic
        self._guarded = False
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._closed = False
        self._last_use_saved: datetime | None = None
        self._unsaved = False
        self._keys: Keys | None = None
        self._overlap_ends = 0.0
        self._damage: Notice | None = None
        try:
            self._keys = store.load()
        except (OSError, ValueError) as error:
            self._damage = Notice(
                N_("The key cannot be read, so it is not accepted: %(error)s. Generate a new key."),
                {"error": str(error)},
            )
            self._logger.error("%s", self._damage)
        self._time_overlap(self._keys)

    # ~~ the keys

    @property
    def record(self) -> KeyRecord | None:
        """The key in use."""
        keys = self._keys
        return keys.current if keys else None

    def push_keys(self) -> tuple[tuple[wire.PushKey, datetime | None], ...]:
        """What pushes may be signed with, newest first, each with the time at which it ends, if it does."""
        return tuple((record.push_key, record.end) for record in self._valid())

    def status(self) -> dict[str, Any] | None:
        """What a person may know of the key; times are RFC 3339 texts."""
        valid = self._valid()
        if not valid:
            return None
        shown = [
            {"prefix": record.prefix, "last_used": record.last_used, "last_address": record.last_address}
            for record in valid
        ]
        current = valid[0]
        previous = {**shown[1], "valid_until": valid[1].valid_until} if len(valid) > 1 else None
        return {
            **shown[0],
            "created": current.created,
            "user": current.user,
            "job_control": current.job_control,
            "previous": previous,
        }

    def trouble(self) -> Notice | None:
        """Why the key in use is not accepted, and what helps."""
        record = self.record
        if self._damage or record is None:
            return self._damage
        user = self._users.find_user(userid=record.user)
        if user is None:
            return Notice(
                N_("The key is not accepted, because its user %(user)s was removed. Replace the key."),
                {"user": record.user},
            )
        if not user.is_active:
            return Notice(
                N_(
                    "The key is not accepted, because its user %(user)s was deactivated. "
                    "Activate it again under Access Control, or replace the key."
                ),
                {"user": record.user},
            )
        return None

    # ~~ requests

    def guard_attached(self) -> None:
        """Say that `denies` is asked about every request from now on; before that no key is accepted."""
        self._guarded = True

    def find(self, api_key: Any) -> KeyRecord | None:
        """The record of `api_key`, if that is a key which is accepted now."""
        if not self._guarded or not isinstance(api_key, str):
            return None
        given = digest(api_key)
        for record in self._valid():
            if hmac.compare_digest(given, record.sha256):
                return record
        return None

    def use(self, record: KeyRecord, address: str | None) -> Any:
        """The service user that `record` stands for, noting that it was used from `address`; None without one."""
        user = self._users.find_user(userid=record.user)
        if user is None or not user.is_active:
            return None
        self._note_use(record, address)
        return user

    def denies(self, user_id: str | None, request: rights.Request) -> bool:
        """Whether this request is one that a service user may not make."""
        if not is_service_user(user_id):
            return False
        record = next((record for record in self._valid() if record.user == user_id), None)
        return record is None or not rights.allows(record.job_control, request)

    # ~~ commands

    def generate(self, job_control: bool = False) -> str:
        """A new key, to be shown once; all before it are dead when this returns.

        Raises `NotSetUp`, and `OSError` when it cannot be kept: then no key is valid.
        """
        with self._lock:
            if not self._users.has_been_customized():
                raise NotSetUp
            self.revoke()
            record, api_key = self._make(job_control)
            self._adopt(Keys(record))
            return api_key

    def rotate(self, overlap: timedelta, job_control: bool | None = None) -> str:
        """A new key, to be shown once; the one in use stays valid for `overlap`, an older one does not.

        The rights stay as they are unless `job_control` says otherwise. Raises `NoKey`, and `OSError` when the
        new key cannot be kept: then nothing has changed.
        """
        with self._lock:
            if self._keys is None:
                raise NoKey
            old = self._keys.current
            record, api_key = self._make(old.job_control if job_control is None else job_control)
            ends = wire.format_time(self._now() + min(overlap, LONGEST_OVERLAP))
            previous = replace(old, valid_until=ends) if overlap > timedelta(0) else None
            self._adopt(Keys(record, previous))
            self._clear_users()
            return api_key

    def end_overlap(self) -> bool:
        """End the previous key before its time, its user and that one's open sessions; whether there was one.

        Raises `OSError` when that cannot be kept; until OctoPrint's next start the key is refused even then.
        """
        with self._lock:
            keys = self._keys
            if keys is None or keys.previous is None:
                return False
            self._keys = Keys(keys.current)
            self._stop_timer()
            self._logger.info("The previous key was ended before its time")
            try:
                self._end_users()
            finally:
                self._store.save(self._keys)
            return True

    def revoke(self) -> bool:
        """End the keys, their users and those users' open sessions; whether there was anything to end.

        Raises `OSError` when the file cannot be deleted; the keys are dead even then, for want of their users.
        """
        with self._lock:
            had_key = self._keys is not None or self._damage is not None
            self._keys = self._damage = None
            self._stop_timer()
            try:
                ended = self._end_users()
            finally:
                self._store.delete()
            if had_key or ended:
                self._logger.info("The key was revoked and its user removed")
            return had_key or ended

    def withdraw(self, key_id: str) -> bool:
        """End the key in use if it is `key_id`, and put the one before it, if still valid, in its place for good.

        Whether there was anything to end. Raises `OSError` when that cannot be kept.
        """
        with self._lock:
            if self._keys is None or self._keys.current.key_id != key_id:
                return False
            valid = self._valid()
            if len(valid) < 2:
                return self.revoke()
            restored = Keys(replace(valid[1], valid_until=None))
            self._store.save(restored)
            self._keys = restored
            self._stop_timer()
            self._clear_users()
            self._logger.info("The newest key was withdrawn; the one before it is in use again")
            return True

    # ~~ the course of time

    def start(self) -> None:
        """Clear away what is left of keys that ended while OctoPrint was not running. Makes no user, ever."""
        with self._lock:
            if self._damage is not None:
                return
            self._end_overlap()
            self._clear_users()

    def close(self) -> None:
        """Keep the last use, and watch the clock no more."""
        with self._lock:
            self._closed = True
            self._stop_timer()
            if self._unsaved and self._keys is not None:
                self._save_use(self._keys)

    def _tick(self) -> None:
        try:
            with self._lock:
                ended = self._end_overlap()
            if ended:
                self._on_change()
        except Exception:  # a timer's thread has nobody else to tell
            self._logger.exception("The end of the previous key could not be completed")

    def _end_overlap(self) -> bool:
        """End the previous key, if its time is over."""
        keys = self._keys
        if keys is None or keys.previous is None or self._overlap_left(keys) > 0:
            self._set_timer()
            return False
        self._keys = Keys(keys.current)
        self._stop_timer()
        self._logger.info("The previous key has ended")
        self._clear_users()
        try:
            self._store.save(self._keys)
        except OSError as error:
            self._logger.warning("That the previous key has ended could not be noted: %s", error)
        return True

    def _valid(self) -> tuple[KeyRecord, ...]:
        """The records of the keys that are accepted at this moment, newest first."""
        keys = self._keys
        if keys is None:
            return ()
        return keys.records if self._overlap_left(keys) > 0 else (keys.current,)

    def _overlap_left(self, keys: Keys) -> float:
        """For how many seconds the previous key is valid, by whichever clock says less.

        The one that can be set shows the time across restarts; the other one bounds the overlap when somebody
        sets the first one back, or when it is wrong after a start without a network.
        """
        if keys.previous is None or keys.previous.end is None:
            return 0.0
        by_clock = (keys.previous.end - self._now()).total_seconds()
        return min(by_clock, self._overlap_ends - self._monotonic())

    def _time_overlap(self, keys: Keys | None) -> None:
        """Take the length of the overlap, for the clock that nobody sets."""
        if keys is not None and keys.previous is not None and keys.previous.end is not None:
            whole = keys.previous.end - wire.parse_time(keys.current.created)
            left = min(keys.previous.end - self._now(), whole, LONGEST_OVERLAP)
            self._overlap_ends = self._monotonic() + left.total_seconds()

    def _set_timer(self) -> None:
        self._stop_timer()
        keys = self._keys
        if keys is None or keys.previous is None or self._closed:
            return
        wait = min(max(self._overlap_left(keys), 0.0), _LONGEST_WAIT_S)
        self._timer = threading.Timer(wait, self._tick)
        self._timer.name = "mesbridge.keys"
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ~~ users and files

    def _make(self, job_control: bool) -> tuple[KeyRecord, str]:
        """A key and its record, with a user that does not exist yet."""
        api_key = secrets.token_urlsafe(32)
        push_key = wire.PushKey.derive(api_key)
        record = KeyRecord(
            user=USER_PREFIX + secrets.token_hex(4),
            sha256=digest(api_key),
            prefix=api_key[:4],
            created=wire.format_time(self._now()),
            key_id=push_key.key_id,
            secret=push_key.secret.hex(),
            job_control=job_control,
        )
        return record, api_key

    def _adopt(self, keys: Keys) -> None:
        """Make the user of the current key, and keep the keys. Raises `OSError`, leaving things as they were."""
        user = keys.current.user
        try:
            # From its first moment the user has no other rights than these, and the guard, which goes by the name,
            # lets it do nothing until its key is known here.
            # A random password that nobody learns: without one, OctoPrint 2.0 lets the holder of the key set it.
            self._users.add_user(
                user,
                secrets.token_urlsafe(32),
                active=True,
                permissions=rights.permissions(keys.current.job_control),
                groups=[],
            )
            self._store.save(keys)
        except OSError:
            if self._users.find_user(userid=user) is not None:
                self._users.remove_user(user)
            raise
        self._time_overlap(keys)  # first, or the key before would be refused for a moment
        self._keys = keys
        self._last_use_saved = None
        self._set_timer()
        self._logger.info(
            "A new key was generated, with the user %s, %s job control%s",
            user,
            "with" if keys.current.job_control else "without",
            f"; the one before it is valid until {keys.previous.valid_until}" if keys.previous else "",
        )

    def _end_users(self) -> bool:
        """End the sessions of all service users that have no valid key, and remove them; whether there were any."""
        keep = {record.user for record in self._valid()}

        def is_over(user: Any) -> bool:
            return is_service_user(user.get_id()) and user.get_id() not in keep

        # Removing a user leaves his sockets open; logging his sessions out, before that, closes them.
        for session in self._users.find_sessions_for(is_over):
            self._users.logout_user(session)
        over = [user.get_id() for user in self._users.get_all_users() if is_over(user)]
        for user_id in over:
            self._users.remove_user(user_id)
        return bool(over)

    def _clear_users(self) -> None:
        """`_end_users` where the keys are as they should be already, so that a failure is only untidy."""
        try:
            self._end_users()
        except OSError as error:
            self._logger.warning("A user of a key that has ended could not be removed for good: %s", error)

    def _note_use(self, record: KeyRecord, address: str | None) -> None:
        moment = self._now()
        used = {
            "last_used": wire.format_time(moment),
            "last_address": (address or "")[:_ADDRESS_LENGTH] or None,
        }
        with self._lock:
            keys = self._keys
            if keys is None:
                return  # revoked meanwhile: it must not come back
            if keys.current.user == record.user:
                keys = replace(keys, current=replace(keys.current, **used))
            elif keys.previous is not None and keys.previous.user == record.user:
                keys = replace(keys, previous=replace(keys.previous, **used))
            else:
                return
            self._keys = keys
            self._unsaved = True
            if self._last_use_saved is None or abs(moment - self._last_use_saved) >= _LAST_USED_STEP:
                self._last_use_saved = moment
                self._save_use(keys)

    def _save_use(self, keys: Keys) -> None:
        try:
            self._store.save(keys)
            self._unsaved = False
        except OSError as error:
            self._logger.warning("The key's last use could not be noted: %s", error)


def is_service_user(user_id: Any) -> bool:
    """Whether this is the name of a user that a key stands for."""
    return isinstance(user_id, str) and user_id.startswith(USER_PREFIX)
