"""The plugin as OctoPrint sees it: which mixins, which hooks, and what they are wired to.

In flow OctoPrint's calls; out flow calls to `Access`, `Recorder` and `Sender`, which do the work.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import flask
import octoprint
import octoprint.plugin
from flask_babel import gettext
from octoprint.access import ADMIN_GROUP
from octoprint.access.permissions import Permissions
from octoprint.server import current_user
from octoprint.server.util.flask import ensure_credentials_checked_recently

from .access import Access, KeyStore, NotSetUp
from .notice import N_, Notice, NoticeError
from .observer import Observer
from .outbox import Outbox, open_or_replace
from .recorder import Recorder
from .sender import Sender, Signer, Target, Timing, push_url
from .view import IDENTITY, OctoPrintView, stored_uuid

KEY_FILE = "key.json"
OUTBOX_FILE = "outbox.db"
UUID_FILE = "printer.uuid"

_SHOWN_OF_KEY = ("prefix", "created", "last_used", "user")

SHUTDOWN_S = 1.0
"""Each of the two threads gets this long to finish when OctoPrint ends."""


class MESBridgePlugin(
    octoprint.plugin.SettingsPlugin,
    octoprint.plugin.StartupPlugin,
    octoprint.plugin.ShutdownPlugin,
    octoprint.plugin.EventHandlerPlugin,
    octoprint.plugin.SimpleApiPlugin,
    octoprint.plugin.TemplatePlugin,
    octoprint.plugin.AssetPlugin,
):
    """Pushes what happens on the printer to a MESBridge, and makes the key with which that one asks back."""

    def __init__(self) -> None:
        super().__init__()
        self._access: Access | None = None
        self._outbox: Outbox | None = None
        self._recorder: Recorder | None = None
        self._sender: Sender | None = None
        self._trouble: str | None = None

    def initialize(self) -> None:
        # Everything is wired before OctoPrint connects to the printer, which it does before `on_startup`.
        self._access = Access(KeyStore(self._data_file(KEY_FILE)), self._user_manager, self._logger)
        try:
            view = OctoPrintView(
                self._printer,
                self._printer_profile_manager,
                self._settings,
                stored_uuid(self._data_file(UUID_FILE)),
                octoprint.__version__,
                self._plugin_version,
            )
            outbox = open_or_replace(self._data_file(OUTBOX_FILE), self._logger)
        except (OSError, sqlite3.Error) as error:
            self._trouble = (
                f"The plugin's data folder {self.get_plugin_data_folder()} cannot be used: {error}"
            )
            self._logger.error(
                "%s. Nothing is sent until OctoPrint is restarted with that solved.", self._trouble
            )
            return
        sender = Sender(
            outbox, self._logger, self._send_snapshot, Timing(heartbeat=self._seconds("heartbeat_interval"))
        )
        self._recorder = Recorder(
            Observer(self._printer.get_state_id()),
            view,
            outbox,
            self._logger,
            sender.wake,
            self._seconds("sample_interval"),
        )
        self._outbox, self._sender = outbox, sender
        self._configure()

    # ~~ StartupPlugin, ShutdownPlugin

    def on_after_startup(self) -> None:
        if self._recorder and self._sender:
            self._recorder.start()
            self._sender.start()

    def on_shutdown(self) -> None:
        if self._recorder and self._sender:
            self._recorder.stop(SHUTDOWN_S)
            self._sender.stop(SHUTDOWN_S)

    def on_plugin_pending_uninstall(self) -> None:
        if self._access:
            self._access.revoke()
            self._configure()

    # ~~ EventHandlerPlugin: one thread serves all plugins, so nothing is done here

    def on_event(self, event: str, payload: Any) -> None:
        recorder = self._recorder
        if recorder is not None:
            recorder.put(event, payload)

    # ~~ SettingsPlugin

    def get_settings_defaults(self) -> dict[str, Any]:
        return {
            "enabled": True,
            "bridge_url": "",
            "sample_interval": 2.0,
            "heartbeat_interval": 10.0,
            "identity": dict.fromkeys(IDENTITY, ""),
        }

    def get_settings_restricted_paths(self) -> dict[str, Any]:
        return {"admin": [[key] for key in self.get_settings_defaults()]}

    def on_settings_save(self, data: dict[str, Any]) -> Any:
        changed = super().on_settings_save(data)
        if self._recorder and self._sender:
            self._recorder.sample_interval = self._seconds("sample_interval")
            self._sender.timing = Timing(heartbeat=self._seconds("heartbeat_interval"))
            self._configure()
            if "identity" in data:
                self._send_snapshot()
        return changed

    # ~~ SimpleApiPlugin

    def is_api_protected(self) -> bool:
        return True

    def get_api_commands(self) -> dict[str, list[str]]:
        return {"generate_key": [], "revoke_key": []}

    def on_api_get(self, request: Any) -> Any:
        _require_permission()
        return flask.jsonify(self._status())

    def on_api_command(self, command: str, data: dict[str, Any]) -> Any:
        _require_permission()
        ensure_credentials_checked_recently()
        answer = {}
        try:
            if command == "generate_key":
                answer["api_key"] = self._access.generate()
            else:
                self._access.revoke()
        except NotSetUp as error:
            flask.abort(409, description=str(error))
        except OSError as error:
            self._logger.error("The key's file could not be changed: %s", error)
            flask.abort(500, description=f"The key's file could not be changed; no key is valid now: {error}")
        finally:
            self._configure()
        response = flask.jsonify({**answer, **self._status()})
        response.headers["Cache-Control"] = "no-store"
        return response

    # ~~ TemplatePlugin, AssetPlugin

    def is_template_autoescaped(self) -> bool:
        return True

    def get_template_configs(self) -> list[dict[str, Any]]:
        return [{"type": "settings", "name": "MESBridge", "custom_bindings": True}]

    def get_assets(self) -> dict[str, list[str]]:
        return {"js": ["js/mesbridge.js"]}

    # ~~ hooks

    def validate_key(self, api_key: str, *args: Any, **kwargs: Any) -> Any:
        return self._access.validate(api_key) if self._access else None

    def guard_requests(self, *args: Any, **kwargs: Any) -> list[Any]:
        self._access.guard_attached()
        return [self._guard]

    def additional_permissions(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return [
            {
                "key": "MANAGE",
                "name": "Manage the MES connection",
                "description": gettext(
                    "Allows making and revoking the key of the MES bridge and seeing the connection's state"
                ),
                "roles": ["manage"],
                "default_groups": [ADMIN_GROUP],
                "dangerous": True,
            }
        ]

    def backup_excludes(self, excludes: Any, *args: Any, **kwargs: Any) -> list[str]:
        return [KEY_FILE, OUTBOX_FILE, OUTBOX_FILE + "-wal", OUTBOX_FILE + "-shm"]

    # ~~ wiring

    def _guard(self) -> None:
        if self._access.denies(current_user.get_id(), flask.request.method, flask.request.endpoint):
            flask.abort(403, description="The key of the MES bridge may only read the printer's status")

    def _configure(self) -> None:
        """Point recorder and sender at what settings and key say now."""
        if not (self._recorder and self._sender):
            return
        target, reason = self._target()
        self._recorder.set_recording(target is not None)
        self._sender.aim(target, reason)

    def _target(self) -> tuple[Target | None, Notice | None]:
        record = self._access.record
        address = str(self._settings.get(["bridge_url"]) or "")
        if not self._settings.get_boolean(["enabled"]):
            return None, Notice(N_("Switched off in the settings"))
        if not address:
            return None, Notice(N_("The bridge's address is not set"))
        if record is None:
            return None, Notice(N_("No key has been generated"))
        try:
            return Target(push_url(address), (Signer(record.push_key),)), None
        except NoticeError as error:
            return None, error.notice

    def _status(self) -> dict[str, Any]:
        record = self._access.record
        key = {name: getattr(record, name) for name in _SHOWN_OF_KEY} if record else None
        status = {"key": key, "trouble": self._trouble, "instance": None}
        if self._recorder and self._sender and self._outbox:
            status.update(self._sender.status())
            status["instance"] = self._outbox.name
            status["dropped"] = dict(self._outbox.dropped)
            status["superseded"] = dict(+self._outbox.superseded)
            status["left_out"] = dict(self._recorder.refused)
        return {n: v.localised(gettext) if isinstance(v, Notice) else v for n, v in status.items()}

    def _send_snapshot(self) -> None:
        if self._recorder:
            self._recorder.request_snapshot("requested")

    def _seconds(self, key: str) -> float:
        value = self._settings.get_float([key], min=0.2, max=60)
        return self.get_settings_defaults()[key] if value is None else value

    def _data_file(self, name: str) -> Path:
        return Path(self.get_plugin_data_folder()) / name


def _require_permission() -> None:
    if not Permissions.PLUGIN_MESBRIDGE_MANAGE.can():
        flask.abort(403)
