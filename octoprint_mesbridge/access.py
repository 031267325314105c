"""The bridge's key: who may use it, and for what.

In flows an administrator's wish (make a key, revoke it) and every request's key or user; out flows the
user that a key stands for, the verdict on a request, and what signs the pushes. Knows OctoPrint only
through the user manager handed in.

A key of OctoPrint has exactly the rights of its user, and a logged-in user may mint further keys. So each
key gets a service user of its own that may read the status and nothing else, and a list of the few requests
that such a user may make at all. A fresh user per key means that whatever was minted for an old one dies
with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
import threading
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bridge import wire

USER_PREFIX = "mesbridge-key-"
"""No ":" in it: OctoPrint's socket authentication splits on that."""

PERMISSIONS = ("STATUS",)

ALLOWED = frozenset(
    {
        ("GET", "api.apiVersion"),
        ("GET", "api.printerState"),
        ("GET", "api.jobState"),
        ("GET", "api.get_current_user"),
        ("POST", "api.login"),
    }
)
"""The (method, endpoint) pairs a service user may call; HEAD and OPTIONS are not GET here."""

_LAST_USED_STEP = timedelta(minutes=15)


class NotSetUp(Exception):
    """OctoPrint's access control has no owner yet; a user made now would lock that owner out."""


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key. `secret` (hex) signs pushes; nothing here leads back to the key itself."""

    user: str
    sha256: str
    prefix: str
    created: str
    key_id: str
    secret: str
    last_used: str | None = None

    @property
    def push_key(self) -> wire.PushKey:
        return wire.PushKey(self.key_id, bytes.fromhex(self.secret))

    def __repr__(self) -> str:
        return f"KeyRecord({self.user}, {self.key_id})"


class KeyStore:
    """One `KeyRecord` in a file that only OctoPrint's own system user can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> KeyRecord | None:
        """The record, or None when there is none. Raises `ValueError` when the file makes no sense."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            record = KeyRecord(**json.loads(text))
            bytes.fromhex(record.secret)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self._path} is damaged; generate a new key in the MESBridge settings"
            ) from None
        return record

    def save(self, record: KeyRecord) -> None:
        """Replace the file in one step, so that a crash leaves the old or the new one."""
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".key-")  # created with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(record), file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


class Access:
    """Makes and revokes the key, and judges each request that bears one."""

    def __init__(self, store: KeyStore, users: Any, logger: Any) -> None:
        self._store = store
        self._users = users
        self._logger = logger
        self._guarded = False
        self._lock = threading.Lock()
        self._last_used_saved: datetime | None = None
        self._record: KeyRecord | None = None
        try:
            self._record = store.load()
        except (OSError, ValueError) as error:
            self._logger.error("The key cannot be read, so it is not accepted: %s", error)

    @property
    def record(self) -> KeyRecord | None:
        return self._record

    def guard_attached(self) -> None:
        """Say that `denies` is asked about every request from now on; before that no key is accepted."""
        self._guarded = True

    def denies(self, user_id: str | None, method: str, endpoint: str | None) -> bool:
        """Whether this request is one that a service user may not make."""
        is_service_user = user_id is not None and user_id.startswith(USER_PREFIX)
        return is_service_user and (method, endpoint) not in ALLOWED

    def validate(self, api_key: Any) -> Any:
        """The service user that `api_key` stands for, or None. Never raises: OctoPrint would log the key."""
        try:
            record = self._record
            if record is None or not self._guarded or not isinstance(api_key, str):
                return None
            if not hmac.compare_digest(_digest(api_key), record.sha256):
                return None
            user = self._users.find_user(userid=record.user)
            if user is None or not user.is_active:
                return None
            self._note_use(record, wire.utc_now())
            return user
        except Exception as error:  # noqa: BLE001 - see above; the text of an error could hold the key
            self._logger.error("A key could not be checked and was refused (%s)", type(error).__name__)
            return None

    def generate(self) -> str:
        """A new key, to be shown once; the one before it is dead when this returns. Raises `NotSetUp`."""
        if not self._users.has_been_customized():
            raise NotSetUp("OctoPrint is not set up yet: finish its setup wizard, then generate the key")
        self.revoke()
        api_key = secrets.token_urlsafe(32)
        push_key = wire.PushKey.derive(api_key)
        record = KeyRecord(
            user=USER_PREFIX + secrets.token_hex(4),
            sha256=_digest(api_key),
            prefix=api_key[:4],
            created=wire.format_time(wire.utc_now()),
            key_id=push_key.key_id,
            secret=push_key.secret.hex(),
        )
        # A random password that nobody learns: without one, OctoPrint 2.0 lets the holder of the key set it.
        self._users.add_user(
            record.user, secrets.token_urlsafe(32), active=True, permissions=list(PERMISSIONS), groups=[]
        )
        try:
            self._store.save(record)
        except OSError:
            self._users.remove_user(record.user)
            raise
        with self._lock:
            self._record = record
        self._logger.info("A new key was generated, with the user %s", record.user)
        return api_key

    def revoke(self) -> bool:
        """End the key, its user and that user's open sessions; whether there was anything to end.

        Raises `OSError` when the file cannot be deleted; the key is dead even then, for want of its user.
        """
        with self._lock:
            had_key = self._record is not None
            self._record = None
        # Removing a user leaves his sockets open; logging his sessions out, before that, closes them.
        for session in self._users.find_sessions_for(lambda user: _is_service_user(user)):
            self._users.logout_user(session)
        leftover = [user.get_id() for user in self._users.get_all_users() if _is_service_user(user)]
        for user_id in leftover:
            self._users.remove_user(user_id)
        self._store.delete()
        if had_key or leftover:
            self._logger.info("The key was revoked and its user removed")
        return had_key or bool(leftover)

    def _note_use(self, record: KeyRecord, moment: datetime) -> None:
        with self._lock:
            if self._record is None or self._record.key_id != record.key_id:
                return  # revoked meanwhile: it must not come back
            self._record = replace(record, last_used=wire.format_time(moment))
            if self._last_used_saved is not None and moment - self._last_used_saved < _LAST_USED_STEP:
                return
            self._last_used_saved = moment
            try:
                self._store.save(self._record)
            except OSError as error:
                self._logger.warning("The key's last use could not be noted: %s", error)


def _is_service_user(user: Any) -> bool:
    user_id = user.get_id()
    return isinstance(user_id, str) and user_id.startswith(USER_PREFIX)


def _digest(api_key: str) -> str:
    return hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest()
