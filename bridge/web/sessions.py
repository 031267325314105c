"""Who is logged in to the status page. In flow names of users who proved themselves, and cookies; out flow names.

A session is a random token of which only a digest is kept, in a file for its owner alone, so that a restart of the
bridge logs nobody out. It ends after a week, at the logout, and when the user is removed or has another password.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

import structlog

from bridge.files import write_private
from bridge.opcua import Users, UsersError

log = structlog.get_logger(__name__)

FILE = "web-sessions.json"
LASTS_S = 7 * 24 * 3600
_MOST = 1000
_DIGITS = 64


class Sessions:
    """Kept in ``web-sessions.json`` in `folder`. Times are in seconds since 1970."""

    def __init__(self, folder: Path, users: Users) -> None:
        self._path = folder / FILE
        self._users = users
        self._open = self._read()

    def begin(self, name: str, now: float) -> str:
        """Log the user in; returns the token for the cookie."""
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = (name, _digest(self._users.credential(name) or ""), now + LASTS_S)
        self._open = {key: one for key, one in self._open.items() if one[2] > now}
        while len(self._open) > _MOST:
            del self._open[next(iter(self._open))]
        self._write()
        return token

    def user(self, token: str | None, now: float) -> str | None:
        """Whose session this is; None when it is nobody's, or over."""
        name, credential, ends = self._open.get(_digest(token or ""), ("", "", 0.0))
        if ends <= now:
            return None
        try:
            held = self._users.credential(name)
        except UsersError:
            return None
        return name if held is not None and _digest(held) == credential else None

    def end(self, token: str | None) -> None:
        """Log out."""
        if self._open.pop(_digest(token or ""), None) is not None:
            self._write()

    def _read(self) -> dict[str, tuple[str, str, float]]:
        try:
            held = json.loads(self._path.read_bytes())
            return {
                str(key): (str(name), str(credential), float(ends))
                for key, (name, credential, ends) in held.items()
                if len(key) == _DIGITS
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("nobody stays logged in to the status page", file=str(self._path), error=str(error))
            return {}

    def _write(self) -> None:
        try:
            write_private(self._path, json.dumps(self._open).encode())
        except OSError as error:
            log.warning(
                "sessions of the status page end with the bridge",
                file=str(self._path),
                error=error.strerror or str(error),
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
