"""The plugin as OctoPrint sees it: which mixins, which hooks, and what they are wired to.

In flow OctoPrint's calls; out flow calls to `Access`, `Recorder` and `Sender`, which do the work.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import octoprint
import octoprint.plugin
from octoprint.events import Events
from octoprint.filemanager import valid_file_type

from . import health
from .access import Access
from .api import GENERATE, STATUS, Api, Command, permissions
from .connection import Connection
from .files import leftovers
from .guard import Guard
from .keys import KeyStore
from .notice import N_, Notice, NoticeError
from .observer import Observer
from .outbox import Outbox
from .recorder import Recorder
from .sender import Sender, Signer, Target, Timing, push_url
from .stock import Stock
from .supplies import OctoPrintSupplies
from .view import IDENTITY, OctoPrintView, stored_uuid

KEY_FILE = "key.json"
OUTBOX_FILE = "outbox.db"
UUID_FILE = "printer.uuid"

SHUTDOWN_S = 1.0
"""Pairing, what OctoPrint still has to tell, recorder and sender each get this long when OctoPrint ends."""


class MESBridgePlugin(
    octoprint.plugin.SettingsPlugin,
    octoprint.plugin.StartupPlugin,
    octoprint.plugin.ShutdownPlugin,
    octoprint.plugin.EventHandlerPlugin,
    octoprint.plugin.SimpleApiPlugin,
    octoprint.plugin.TemplatePlugin,
    octoprint.plugin.AssetPlugin,
    octoprint.plugin.WizardPlugin,
):
    """Pushes what happens on the printer to a MESBridge, and makes the key with which that one asks back."""

    def __init__(self) -> None:
        super().__init__()
        self._access: Access | None = None
        self._guard: Guard | None = None
        self._api: Api | None = None
        self._outbox: Outbox | None = None
        self._recorder: Recorder | None = None
        self._sender: Sender | None = None
        self._trouble: Notice | None = None
        self._view: OctoPrintView | None = None
        self._connection: Connection | None = None
        self._wrong_address: Notice | None = None
        self._configuring = threading.Lock()
        self._all_told = threading.Event()

    def initialize(self) -> None:
        # Everything is wired before OctoPrint connects to the printer, which it does before `on_startup`.
        self._access = Access(
            KeyStore(self._data_file(KEY_FILE)), self._user_manager, self._logger, self._configure
        )
        self._guard = Guard(self._access, self._logger)
        self._api = Api(self._access, self._logger, self._configure)
        self._api.add_status(self._status)
        try:
            self._view = view = OctoPrintView(
                self._printer,
                self._printer_profile_manager,
                self._settings,
                stored_uuid(self._data_file(UUID_FILE)),
                octoprint.__version__,
                self._plugin_version,
            )
        except OSError as error:
            self._trouble = Notice(
                N_(
                    "The plugin's data folder %(folder)s cannot be used: %(reason)s. "
                    "Nothing is sent until OctoPrint is restarted with that solved."
                ),
                {"folder": str(self._data_file("")), "reason": str(error)},
            )
            self._logger.error("%s", self._trouble)
            return
        supplies = OctoPrintSupplies(
            self._file_manager,
            self._plugin_manager,
            self._settings,
            lambda name: valid_file_type(name, type="machinecode"),
        )
        outbox = Outbox(self._data_file(OUTBOX_FILE), self._logger)
        sender = Sender(
            outbox,
            self._logger,
            self._send_snapshot,
            Timing(heartbeat=self._seconds("heartbeat_interval")),
            self._tell_changed,
            self._access.take_up,
        )
        self._recorder = Recorder(
            Observer(self._printer.get_state_id()),
            view,
            Stock(supplies),
            outbox,
            self._logger,
            sender.wake,
            self._seconds("sample_interval"),
        )
        self._outbox, self._sender = outbox, sender
        self._connection = connection = Connection(
            self._settings,
            self._access,
            self._logger,
            view.introduction,
            self._zeroconf_browse,
            self._configure,
            self._tell_changed,
        )
        self._api.add_status(connection.status)
        self._api.add_command("test_connection", Command(STATUS, connection.test))
        self._api.add_command("find_bridges", Command(STATUS, connection.find))
        self._api.add_command("request_pairing", Command(GENERATE, connection.request))
        self._api.add_command("confirm_pairing", Command(GENERATE, connection.confirm, reauthenticate=True))
        self._api.add_command("cancel_pairing", Command(GENERATE, connection.cancel))
        self._configure()

    # ~~ StartupPlugin, ShutdownPlugin

    def on_after_startup(self) -> None:
        if self._access:
            self._access.start()
        if self._recorder and self._sender:
            self._recorder.start()
            self._sender.start()

    def on_shutdown(self) -> None:
        if self._connection:
            self._connection.stop(SHUTDOWN_S)
        if self._access:
            self._access.close()
        if self._recorder and self._sender and self._outbox:
            self._all_told.wait(SHUTDOWN_S)
            ended = [self._recorder.stop(SHUTDOWN_S), self._sender.stop(SHUTDOWN_S)]
            if all(ended):
                self._outbox.close()

    def on_plugin_pending_uninstall(self) -> None:
        if self._connection:
            self._connection.stop(SHUTDOWN_S)
        if self._access:
            try:
                self._access.retire()
            finally:
                self._configure()

    # ~~ EventHandlerPlugin: one thread serves all plugins, so nothing is done here

    def on_event(self, event: str, payload: Any) -> None:
        recorder = self._recorder
        if recorder is not None:
            recorder.put(event, payload)
            if event == Events.SHUTDOWN:  # the last one
                self._all_told.set()

    # ~~ SettingsPlugin

    def get_settings_defaults(self) -> dict[str, Any]:
        return {
            "enabled": True,
            "bridge_url": "",
            "bridge_certificate": None,
            "sample_interval": 5.0,
            "heartbeat_interval": 10.0,
            "tell_files": True,
            "identity": dict.fromkeys(IDENTITY, ""),
        }

    def get_settings_restricted_paths(self) -> dict[str, Any]:
        # With the defaults, so that the tab finds every field also for who logs in later, without a new page.
        return {"admin": [[(key, default)] for key, default in self.get_settings_defaults().items()]}

    def on_settings_save(self, data: dict[str, Any]) -> Any:
        changed = super().on_settings_save(data)
        if self._recorder and self._sender:
            self._recorder.sample_interval = self._seconds("sample_interval")
            self._sender.timing = Timing(heartbeat=self._seconds("heartbeat_interval"))
            self._configure()
            if {"identity", "tell_files"} & data.keys():
                self._send_snapshot()
        return changed

    # ~~ SimpleApiPlugin

    def is_api_protected(self) -> bool:
        return True

    def get_api_commands(self) -> dict[str, list[str]]:
        return self._api.commands() if self._api else {}

    def on_api_get(self, request: Any) -> Any:
        return self._api.get()

    def on_api_command(self, command: str, data: dict[str, Any]) -> Any:
        return self._api.run(command, data)

    # ~~ TemplatePlugin, AssetPlugin

    def is_template_autoescaped(self) -> bool:
        return True

    def get_template_configs(self) -> list[dict[str, Any]]:
        return [
            {"type": "settings", "name": "MESBridge", "custom_bindings": True},
            {"type": "navbar", "styles": ["display: none"], "data_bind": "visible: wrong"},
            {"type": "wizard", "name": "MESBridge"},
        ]

    def get_assets(self) -> dict[str, list[str]]:
        return {
            "js": [f"js/mesbridge{part}.js" for part in ("_entry", "_text", "_words", "_key", "_mark", "")],
            "css": ["css/mesbridge.css"],
        }

    # ~~ WizardPlugin

    def is_wizard_required(self) -> bool:
        has_key = self._access is not None and self._access.record is not None
        return not has_key and not self._settings.get(["bridge_url"])

    def get_wizard_version(self) -> int:
        return 1

    # ~~ hooks

    def validate_key(self, api_key: str, *args: Any, **kwargs: Any) -> Any:
        return self._guard.user_for(api_key) if self._guard else None

    def guard_requests(self, *args: Any, **kwargs: Any) -> list[Any]:
        self._access.guard_attached()
        return [self._guard.check]

    def guard_answers(self, *args: Any, **kwargs: Any) -> list[Any]:
        return [self._guard.without_cookie]

    def guard_download(self, request: Any, *args: Any, **kwargs: Any) -> None:
        if self._guard:
            self._guard.check_download(request)

    def additional_permissions(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return permissions()

    def health_checks(self, *args: Any, **kwargs: Any) -> list[Any]:
        return health.checks(self._health)

    def backup_excludes(self, excludes: Any, *args: Any, **kwargs: Any) -> list[str]:
        queue = self._data_file(OUTBOX_FILE)
        named = [OUTBOX_FILE + suffix for suffix in ("", "-wal", "-shm")]
        others = [*queue.parent.glob(queue.name + ".damaged-*"), *leftovers(self._data_file(KEY_FILE))]
        return [KEY_FILE, *named, *(path.name for path in others)]

    # ~~ wiring

    def _configure(self) -> None:
        """Point recorder and sender at what settings and key say now."""
        if not (self._recorder and self._sender):
            return
        with self._configuring:  # else a slow thread could bring back what another one has ended
            self._wrong_address = None
            target, reason = self._target()
            # For a bridge whose address is wrong, too: somebody will correct it.
            self._recorder.set_recording(target is not None or self._wrong_address is not None)
            changed = self._sender.aim(target, reason)
        if changed:
            self._tell_changed()

    def _target(self) -> tuple[Target | None, Notice | None]:
        connection = self._connection
        keys = connection.push_keys() if connection else self._access.push_keys()
        signers = tuple(Signer(key, ends) for key, ends in keys)
        address = str(self._settings.get(["bridge_url"]) or "")
        if not self._settings.get_boolean(["enabled"]):
            return None, Notice(N_("Switched off in the settings"))
        if not address:
            return None, Notice(N_("The bridge's address is not set"))
        try:
            url = push_url(address)
        except NoticeError as error:
            self._wrong_address = error.notice if signers else None
            return None, error.notice
        if not signers and connection and connection.is_handing_over:
            return None, Notice(N_("The bridge is being given the key"))
        if not signers:
            return None, Notice(N_("No key has been generated"))
        certificate = connection.certificate(address) if connection else None
        paired = connection.paired_at if connection else None
        return Target(url, signers, certificate, paired), None

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"instance": None}
        trouble = self._trouble or self._wrong_address
        if trouble:
            status["trouble"] = trouble
        if self._recorder and self._sender and self._outbox:
            status.update(self._sender.status())
            status["instance"] = self._outbox.name
            status["acknowledged_event"] = self._outbox.last_acknowledged
            status["storage"] = self._outbox.storage()
            status["dropped"] = dict(self._outbox.dropped)
            status["superseded"] = dict(+self._outbox.superseded)
            status["left_out"] = dict(self._recorder.refused)
        if self._view:
            status["identity_suggestions"] = self._view.identity_suggestions()
        return status

    def _health(self) -> dict[str, Any]:
        # The first check may come before this plugin is initialised.
        return {"trouble": self._access.trouble(), **self._status()} if self._access else {}

    def _send_snapshot(self) -> None:
        if self._recorder:
            self._recorder.request_snapshot("requested")

    def _tell_changed(self) -> None:
        # Every client gets this, whatever it may see: the ones that may ask for the status then do.
        self._plugin_manager.send_plugin_message(self._identifier, {"changed": True})

    def _zeroconf_browse(self) -> Any:
        helpers = self._plugin_manager.get_helpers("discovery", "zeroconf_browse") or {}
        return helpers.get("zeroconf_browse")

    def _seconds(self, key: str) -> float:
        value = self._settings.get_float([key], min=0.2, max=60)
        return self.get_settings_defaults()[key] if value is None else value

    def _data_file(self, name: str) -> Path:
        try:
            folder = self.get_plugin_data_folder()
        except OSError:  # it cannot be made; whoever writes there says so
            folder = self._data_folder
        return Path(folder) / name
