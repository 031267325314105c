"""The bridge's key: who may use it, and for what.

In flows an administrator's wish (make a key, rotate it, revoke it), the passing of time, and every request's
key or user; out flows the user that a key stands for, the verdict on a request, and what signs the pushes.
Knows OctoPrint only through the user manager handed in.

A key of OctoPrint has exactly the rights of its user, and a logged-in user may mint further keys. So each
key gets a service user of its own that may read the status and, if wanted, control jobs, and a list of the few
requests that such a user may make at all.

One key is in use. Beside it there may be the one before, until its time is over, and keys that were offered to a
bridge in pairing, until it is known whether the bridge has them: neither a crash nor a bridge that falls silent
at that moment may cost the key that worked. That somebody uses an offered key is how it is known.
"""

from __future__ import annotations

import hmac
import math
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
from .lifetime import LONGEST, Lifetimes
from .notice import N_, Notice, NoticeError
from .service_users import ServiceUsers, is_service_user

OFFER = timedelta(days=1)
"""So long an offered key is valid when no bridge has used it."""

OVERLAP = timedelta(hours=1)
"""So long the key before stays valid when a bridge has an offered one."""

_MOST_OFFERS = 3

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


class Leaving(NoticeError):
    """The plugin is being uninstalled, and a user made now would stay behind."""

    def __init__(self) -> None:
        super().__init__(
            Notice(N_("The plugin is being uninstalled: no key is made before OctoPrint is restarted"))
        )


class NoKey(NoticeError):
    """There is nothing to rotate."""

    def __init__(self) -> None:
        super().__init__(Notice(N_("There is no key that could be replaced: generate one")))


class Access:
    """Makes, replaces and revokes the key, and judges each request that bears one.

    `on_change` is called after the keys changed without a command: when one has ended or was taken up.
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
        self._users = ServiceUsers(users)
        self._logger = logger
        self._on_change = on_change
        self._now = now
        self._lifetimes = Lifetimes(now, monotonic)
        self._guarded = False
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._closed = False
        self._retired = False
        self._told_of_disk = False
        self._last_use_saved: datetime | None = None
        self._unsaved = False
        self._keys: Keys | None = None
        self._damage: Notice | None = None
        try:
            self._keys = store.load()
        except (OSError, ValueError) as error:
            self._damage = Notice(
                N_("The key cannot be read, so it is not accepted: %(error)s. Generate a new key."),
                {"error": str(error)},
            )
            self._logger.error("%s", self._damage)
        self._lifetimes.begin(self._keys)

    # ~~ the keys

    @property
    def record(self) -> KeyRecord | None:
        """The key in use."""
        keys = self._keys
        return keys.current if keys else None

    def push_keys(self) -> tuple[tuple[wire.PushKey, datetime | None], ...]:
        """What pushes may be signed with, newest first; the one before with the time at which it ends."""
        keys = self._keys
        previous = keys and keys.previous
        return tuple((one.push_key, one.end if one is previous else None) for one in self._valid())

    def status(self) -> dict[str, Any] | None:
        """What a person may know of the key; times are RFC 3339 texts."""
        keys = self._keys
        if keys is None:
            return None
        current, previous = keys.current, keys.previous
        if previous is not None and self._lifetimes.left(previous) <= 0:
            previous = None
        return {
            **_shown(current),
            "created": current.created,
            "user": current.user,
            "job_control": current.job_control,
            "previous": previous and {**_shown(previous), "valid_until": previous.valid_until},
        }

    def trouble(self) -> Notice | None:
        """Why the key in use is not accepted, and what helps."""
        record = self.record
        if self._damage or record is None:
            return self._damage
        return self._users.trouble(record)

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
        user = self._users.find(record)
        if user is not None:
            self._note_use(record, address)
            self.take_up(record.key_id)
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

        Raises `NotSetUp`, `Leaving`, and `OSError` when it cannot be kept: then no key is valid.
        """
        with self._lock:
            if not self._users.may_be_made:
                raise NotSetUp
            self.revoke()
            record, api_key = self._make(job_control)
            self._adopt(Keys(record), record)
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
            ends = wire.format_time(self._now() + min(overlap, LONGEST))
            previous = replace(old, valid_until=ends) if overlap > timedelta(0) else None
            self._adopt(Keys(record, previous), record)
            self._clear_users()
            return api_key

    def offer(self) -> str:
        """A new key for a bridge that may take it or not, with the rights of the one in use, which stays in use.

        It is accepted from now on and in use once it is taken up, or at once where there was none; without that
        it ends after `OFFER`. Raises as `generate` and `rotate` do.
        """
        with self._lock:
            if self._keys is None:
                return self.generate()
            record, api_key = self._make(self._keys.current.job_control)
            record = replace(record, valid_until=wire.format_time(self._now() + OFFER))
            offered = (record, *self._keys.offered)[:_MOST_OFFERS]
            self._adopt(replace(self._keys, offered=offered), record)
            self._clear_users()
            return api_key

    def take_up(self, key_id: str) -> bool:
        """A bridge has the key `key_id`: if that is on offer it is in use now, the one before valid for `OVERLAP` yet.

        Whether it was on offer. What cannot be kept is done at the next use.
        """
        keys = self._keys
        if keys is None or not keys.offered:
            return False  # nearly always, and without waiting for anybody
        with self._lock:
            keys = self._keys
            taken = next((one for one in keys.offered if one.key_id == key_id), None) if keys else None
            if keys is None or taken is None:
                return False
            ends = wire.format_time(self._now() + OVERLAP)
            newer = keys.offered[: keys.offered.index(taken)]
            try:
                self._keep(
                    Keys(replace(taken, valid_until=None), replace(keys.current, valid_until=ends), newer)
                )
            except OSError as error:
                if not self._told_of_disk:
                    self._logger.error("That the bridge has the new key could not be kept: %s", error)
                self._told_of_disk = True
                return False
            self._clear_users()
            self._logger.info("The bridge has the new key; the one before it is valid until %s", ends)
        self._on_change()
        return True

    def end_overlap(self) -> bool:
        """End the previous key before its time, its user and that one's open sessions; whether there was one.

        Raises `OSError` when that cannot be kept; until OctoPrint's next start the key is refused even then.
        """
        with self._lock:
            keys = self._keys
            if keys is None or keys.previous is None:
                return False
            self._keys = replace(keys, previous=None)
            self._set_timer()
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
        """End the key `key_id`, if it is on offer or in use; whether there was anything to end.

        The one before, if still valid, is in use then. Raises `OSError` when that cannot be kept.
        """
        with self._lock:
            keys = self._keys
            if keys is None:
                return False
            before = keys.previous if keys.previous in self._valid() else None
            offered = tuple(one for one in keys.offered if one.key_id != key_id)
            if offered != keys.offered:
                left = replace(keys, offered=offered)
            elif keys.current.key_id != key_id:
                return False
            elif before is None:
                return self.revoke()
            else:
                left = Keys(replace(before, valid_until=None), None, offered)
            self._keep(left)
            self._clear_users()
            self._logger.info("The key that was made last was withdrawn")
            return True

    def retire(self) -> None:
        """Revoke, and make no key any more: the plugin is being uninstalled. Raises `OSError`."""
        with self._lock:
            self._retired = True
            self.revoke()

    # ~~ the course of time

    def start(self) -> None:
        """Clear away what is left of keys that ended while OctoPrint was not running. Makes no user, ever."""
        with self._lock:
            self._store.clear_up()
            if self._damage is not None:
                return
            self._end_overdue()
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
                ended = self._end_overdue()
            if ended:
                self._on_change()
        except Exception:  # a timer's thread has nobody else to tell
            self._logger.exception("The end of a key could not be completed")

    def _end_overdue(self) -> bool:
        """End the keys whose time is over; whether there were any."""
        keys = self._keys
        over = [record for record in keys.records if self._lifetimes.left(record) <= 0] if keys else []
        if keys is None or not over:
            self._set_timer()
            return False
        self._keys = Keys(
            keys.current,
            None if keys.previous in over else keys.previous,
            tuple(one for one in keys.offered if one not in over),
        )
        self._set_timer()
        if keys.previous in over:
            self._logger.info("The previous key has ended")
        self._clear_users()
        try:
            self._store.save(self._keys)
        except OSError as error:
            self._logger.warning("That a key has ended could not be noted: %s", error)
        return True

    def _valid(self) -> tuple[KeyRecord, ...]:
        """The records of the keys that are accepted at this moment, newest first."""
        keys = self._keys
        return tuple(one for one in keys.records if self._lifetimes.left(one) > 0) if keys else ()

    def _set_timer(self) -> None:
        self._stop_timer()
        lives = [self._lifetimes.left(record) for record in self._keys.records] if self._keys else []
        if self._closed or all(math.isinf(left) for left in lives):
            return
        self._timer = threading.Timer(max(min(*lives, _LONGEST_WAIT_S), 0.0), self._tick)
        self._timer.name = "mesbridge.keys"
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ~~ users and files

    def _make(self, job_control: bool) -> tuple[KeyRecord, str]:
        """A key and its record, with a user that does not exist yet. Raises `Leaving`."""
        if self._retired:
            raise Leaving
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

    def _adopt(self, keys: Keys, new: KeyRecord) -> None:
        """Make the user of the `new` one of `keys`, and keep them. Raises `OSError`, leaving things as they were."""
        try:
            self._users.add(new)
            self._keep(keys)
        except OSError:
            self._users.remove(new)
            raise
        self._last_use_saved = None
        self._logger.info(
            "A new key was generated, with the user %s, %s job control%s",
            new.user,
            "with" if new.job_control else "without",
            f"; the one before it is valid until {keys.previous.valid_until}" if keys.previous else "",
        )

    def _keep(self, keys: Keys) -> None:
        """Have `keys` from now on. Raises `OSError`, leaving things as they were."""
        self._store.save(keys)
        self._lifetimes.begin(keys)  # first, or the key before would be refused for a moment
        self._keys = keys
        self._set_timer()

    def _end_users(self) -> bool:
        return self._users.end_all_but(self._valid())

    def _clear_users(self) -> None:
        """`_end_users` where the keys are as they should be already, so that a failure is only untidy."""
        try:
            self._end_users()
        except Exception as error:  # noqa: BLE001 - OctoPrint's own, too: somebody may log in or be removed just now
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
            self._keys = keys = keys.noting(record.user, used)
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


def _shown(record: KeyRecord) -> dict[str, Any]:
    return {"prefix": record.prefix, "last_used": record.last_used, "last_address": record.last_address}
