"""The users that keys stand for, one for each key, in OctoPrint's user manager.

A fresh user per key means that whatever was minted for an old one dies with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from . import rights
from .keys import USER_PREFIX, KeyRecord
from .notice import N_, Notice


class ServiceUsers:
    """Over OctoPrint's user manager `users`."""

    def __init__(self, users: Any) -> None:
        self._users = users

    @property
    def may_be_made(self) -> bool:
        """Whether OctoPrint has an owner; a user made before that would lock that owner out."""
        return bool(self._users.has_been_customized())

    def add(self, record: KeyRecord) -> None:
        """Make the user of `record`. Raises `OSError`."""
        # From its first moment the user has no other rights than these, and the guard, which goes by the name,
        # lets it do nothing until its key is known.
        # A random password that nobody learns: without one, OctoPrint 2.0 lets the holder of the key set it.
        self._users.add_user(
            record.user,
            secrets.token_urlsafe(32),
            active=True,
            permissions=rights.permissions(record.job_control),
            groups=[],
        )

    def find(self, record: KeyRecord) -> Any:
        """The user of `record`; None when it is not there or not active."""
        user = self._users.find_user(userid=record.user)
        return user if user is not None and user.is_active else None

    def remove(self, record: KeyRecord) -> None:
        """Raises `OSError`."""
        if self._users.find_user(userid=record.user) is not None:
            self._users.remove_user(record.user)

    def end_all_but(self, keep: Collection[KeyRecord]) -> bool:
        """End the sessions of all service users but those of `keep`, and remove them; whether there were any.

        Raises `OSError`.
        """
        kept = {record.user for record in keep}

        def is_over(user: Any) -> bool:
            return is_service_user(user.get_id()) and user.get_id() not in kept

        # Removing a user leaves his sockets open; logging his sessions out, before that, closes them.
        for session in self._users.find_sessions_for(is_over):
            self._users.logout_user(session)
        over = [user.get_id() for user in self._users.get_all_users() if is_over(user)]
        for user_id in over:
            self._users.remove_user(user_id)
        return bool(over)

    def trouble(self, record: KeyRecord) -> Notice | None:
        """Why the key of `record` cannot do what it should, and what helps."""
        user = self._users.find_user(userid=record.user)
        said = {"user": record.user}
        if user is None:
            return Notice(
                N_("The key is not accepted, because its user %(user)s was removed. Replace the key."), said
            )
        if not user.is_active:
            return Notice(
                N_(
                    "The key is not accepted, because its user %(user)s was deactivated. "
                    "Activate it again under Access Control, or replace the key."
                ),
                said,
            )
        has = {permission.key for permission in user.permissions}
        lacking = [name for name in rights.permissions(record.job_control) if name not in has]
        if lacking:
            return Notice(
                N_(
                    "The key's user %(user)s no longer has the permissions %(names)s that the key needs. "
                    "Give them back under Access Control, or replace the key."
                ),
                {**said, "names": ", ".join(lacking)},
            )
        return None


def is_service_user(user_id: Any) -> bool:
    """Whether this is the name of a user that a key stands for."""
    return isinstance(user_id, str) and user_id.startswith(USER_PREFIX)
