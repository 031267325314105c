"""What the settings tab asks and commands: the plugin's SimpleApi.

In flow OctoPrint's GET and POST of ``/api/plugin/mesbridge``; out flows the status as flat JSON, which others
add their parts to, and the answers of the commands. Each command has its permission, and those that change
what somebody else may do want the password to have been typed recently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import flask
from flask_babel import gettext
from octoprint.access import ADMIN_GROUP
from octoprint.access.permissions import Permissions
from octoprint.server import current_user
from octoprint.server.util.flask import ensure_credentials_checked_recently

from .access import Access
from .lifetime import LONGEST
from .notice import N_, Notice, NoticeError

STATUS, GENERATE, ROTATE, REVOKE = "STATUS", "GENERATE", "ROTATE", "REVOKE"

_LONGEST_OVERLAP_HOURS = LONGEST / timedelta(hours=1)


@dataclass(frozen=True)
class Command:
    """`run` gets the command's JSON object and returns what its answer has beside the status.

    It may raise `NoticeError`, which becomes 409 with its words.
    """

    permission: str
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    reauthenticate: bool = False


class Api:
    """Status and commands; `on_change` is called after a command that may have changed the keys."""

    def __init__(self, access: Access, logger: Any, on_change: Callable[[], None]) -> None:
        self._access = access
        self._logger = logger
        self._on_change = on_change
        self._parts: list[Callable[[], Mapping[str, Any]]] = []
        self._commands = {
            "generate_key": Command(GENERATE, self._generate, reauthenticate=True),
            "rotate_key": Command(ROTATE, self._rotate, reauthenticate=True),
            "end_overlap": Command(ROTATE, self._end_overlap, reauthenticate=True),
            "revoke_key": Command(REVOKE, self._revoke, reauthenticate=True),
        }

    def add_status(self, part: Callable[[], Mapping[str, Any]]) -> None:
        """Let `part` add its names to the status; `Notice` values are told in the asker's language."""
        self._parts.append(part)

    def add_command(self, name: str, command: Command) -> None:
        self._commands[name] = command

    def commands(self) -> dict[str, list[str]]:
        """The names, without mandatory parameters: each command says in words what it lacks."""
        return {name: [] for name in self._commands}

    def get(self) -> Any:
        _require(STATUS)
        return self._answer({})

    def run(self, name: str, data: Mapping[str, Any]) -> Any:
        command = self._commands[name]
        _require(command.permission)
        if command.reauthenticate:
            ensure_credentials_checked_recently()
            self._logger.info("%s, by %s from %s", name, current_user.get_id(), flask.request.remote_addr)
        try:
            answer = command.run(data)
        except NoticeError as error:
            flask.abort(409, description=error.notice.localised(gettext))
        return self._answer(answer)

    def status(self) -> dict[str, Any]:
        """The status in the language of the request."""
        status: dict[str, Any] = {"key": self._access.status(), "trouble": self._access.trouble()}
        for part in self._parts:
            status.update(part())
        return {name: _localised(value) for name, value in status.items()}

    def _answer(self, extra: Mapping[str, Any]) -> Any:
        response = flask.jsonify({**self.status(), **_localised(dict(extra))})
        response.headers["Cache-Control"] = "no-store"
        return response

    # ~~ keys

    def _generate(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        job_control = _job_control(data) or False
        with self._key_change(N_("No key could be kept, so none is valid now: %(reason)s")):
            return {"api_key": self._access.generate(job_control)}

    def _rotate(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        job_control, overlap = _job_control(data), _overlap(data)
        record = self._access.record
        if job_control and record is not None and not record.job_control:
            _require(GENERATE)  # more rights are a new key's matter
        with self._key_change(N_("The new key could not be kept, so the old one stays in use: %(reason)s")):
            return {"api_key": self._access.rotate(overlap, job_control)}

    def _end_overlap(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._key_change(
            N_(
                "The old key is refused from now on, but that could not be kept: %(reason)s. "
                "Solve that; otherwise it is valid again after a restart, until its time is over"
            )
        ):
            self._access.end_overlap()
        return {}

    def _revoke(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._key_change(
            N_(
                "The key is refused from now on, but not all of it could be deleted: %(reason)s. "
                "Solve that and revoke again; otherwise it may be valid after a restart"
            )
        ):
            self._access.revoke()
        return {}

    @contextmanager
    def _key_change(self, words: str) -> Iterator[None]:
        """Around a change of the keys: tells of it afterwards, and puts an `OSError` into `words`."""
        try:
            yield
        except OSError as error:
            notice = Notice(words, {"reason": str(error)})
            self._logger.error("%s", notice)
            flask.abort(500, description=notice.localised(gettext))
        finally:
            self._on_change()


def permissions() -> list[dict[str, Any]]:
    """What the hook ``octoprint.access.permissions`` wants; the names become ``PLUGIN_MESBRIDGE_...``.

    OctoPrint asks at its start, when there is no language yet. Its page translates the descriptions, but nobody's
    names, not even its own.
    """
    described = {
        STATUS: (
            "See the MES connection",
            N_(
                "Allows seeing the state of the MES connection, searching the network for bridges, and testing a "
                "connection from this OctoPrint to any address"
            ),
        ),
        GENERATE: (
            "Generate the MES key",
            N_("Allows making the key of the MES bridge, also by pairing with one, and choosing its rights"),
        ),
        ROTATE: (
            "Replace the MES key",
            N_(
                "Allows replacing the key of the MES bridge by a new one with the same rights, and ending the one "
                "before"
            ),
        ),
        REVOKE: ("Revoke the MES key", N_("Allows revoking the key of the MES bridge")),
    }
    return [
        {
            "key": key,
            "name": name,
            "description": description,
            "roles": [key.lower()],
            "default_groups": [ADMIN_GROUP],
            "dangerous": key != STATUS,
        }
        for key, (name, description) in described.items()
    ]


def _require(permission: str) -> None:
    if not getattr(Permissions, f"PLUGIN_MESBRIDGE_{permission}").can():
        flask.abort(403)


def _job_control(data: Mapping[str, Any]) -> bool | None:
    value = data.get("job_control")
    if value is not None and not isinstance(value, bool):
        flask.abort(400, description="job_control: true or false is expected")
    return value


def _overlap(data: Mapping[str, Any]) -> timedelta:
    hours = data.get("overlap_hours")
    if (
        isinstance(hours, bool)
        or not isinstance(hours, (int, float))
        or not 0 <= hours <= _LONGEST_OVERLAP_HOURS
    ):
        flask.abort(
            400,
            description=gettext(
                "For how long the old key stays valid must be a number of hours from 0 to %(longest)d",
                longest=_LONGEST_OVERLAP_HOURS,
            ),
        )
    return timedelta(hours=hours)


def _localised(value: Any) -> Any:
    if isinstance(value, Notice):
        return value.localised(gettext)
    if isinstance(value, dict):
        return {name: _localised(item) for name, item in value.items()}
    return [_localised(item) for item in value] if isinstance(value, list) else value
