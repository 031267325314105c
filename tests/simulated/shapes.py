"""The answers and messages of OctoPrint 1.11 and 2.0, key by key, as real ones give them.

In flows what a simulated OctoPrint knows; out flow objects to be written as JSON. Pure. `tests/e2e/test_simulated.py`
holds each of them against a real OctoPrint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

ADMIN = frozenset(
    {"ADMIN", "STATUS", "CONNECTION", "FILES_LIST", "MONITOR_TERMINAL", "PRINT", "SETTINGS_READ"}
)
REFUSED = {
    "error": "You don't have the permission to access the requested resource."
    " It is either read-protected or not readable by the server."
}

_TEXTS = {
    "CLOSED": "Offline",
    "CLOSED_WITH_ERROR": "Offline after error",
    "DETECTING": "Detecting serial connection",
    "DETECT_SERIAL": "Detecting serial connection",
}
_PRINTING = frozenset({"STARTING", "PRINTING", "PAUSING", "RESUMING", "FINISHING", "CANCELLING"})
_CONNECTING = frozenset({"DETECTING", "DETECT_SERIAL", "CONNECTING"})
_CLOSED = frozenset({"OFFLINE", "CLOSED", "CLOSED_WITH_ERROR", "ERROR"})
_NOWHERE = dict.fromkeys("xyzfet")


@dataclass(frozen=True, slots=True)
class Shapes:
    """What one version says; `version` as OctoPrint gives it."""

    version: str

    @property
    def modern(self) -> bool:
        """Whether it is 2.0 or newer."""
        return not self.version.startswith("1.")

    @property
    def closed(self) -> str:
        """The name of the state without a printer."""
        return "CLOSED" if self.modern else "OFFLINE"

    @property
    def detecting(self) -> str:
        """The name of the state in which a printer is looked for."""
        return "DETECTING" if self.modern else "DETECT_SERIAL"

    # ------------------------------------------------------------------- parts

    def state(self, state_id: str, error: str) -> dict[str, Any]:
        """The state by its name in events; with an `error` a closed one is "Offline after error"."""
        after_error = state_id == "OFFLINE" and error
        flags = {
            "operational": state_id not in _CLOSED | _CONNECTING,
            "printing": state_id in _PRINTING or (self.modern and state_id == "PAUSED"),
            "cancelling": state_id == "CANCELLING",
            "pausing": state_id == "PAUSING",
            "resuming": state_id == "RESUMING",
            "finishing": state_id == "FINISHING",
            "closedOrError": state_id in _CLOSED,
            "error": state_id == "ERROR",
            "paused": state_id == "PAUSED",
            "ready": state_id == "OPERATIONAL",
            "sdReady": state_id not in _CLOSED | _CONNECTING,
        }
        text = "Offline after error" if after_error else text_of(state_id)
        return {"text": text, "flags": flags, "error": error}

    def job(self, file: Mapping[str, Any] | None, touched: bool) -> dict[str, Any]:
        """The job of messages; `touched`: since the start of OctoPrint a file was selected once."""
        wanted = ["name", "path", "size", "origin", "date"]
        if touched:
            wanted.append("display")
            if self.modern:
                wanted.append("upload")
        found = file or {}
        job: dict[str, Any] = {
            "file": {key: found.get(key) for key in wanted},
            "estimatedPrintTime": None,
            "filament": None if touched else ({} if self.modern else {"length": None, "volume": None}),
            "user": found.get("user"),
        }
        if not self.modern or not touched:
            job["lastPrintTime"] = found.get("lastPrintTime")
        if not self.modern and touched:
            job["averagePrintTime"] = found.get("lastPrintTime")
        if self.modern and touched:
            job["plate"] = 1
        return job

    def rest_job(self, file: Mapping[str, Any] | None, touched: bool) -> dict[str, Any]:
        """The job of ``/api/job``."""
        job = self.job(file, touched)
        if self.modern:
            job.pop("plate", None)
            job["lastPrintTime"] = None
            job["file"] = {**{"display": None, "upload": None}, **job["file"]}
        return job

    def file(self, file: Mapping[str, Any], base: str) -> dict[str, Any]:
        """A file of ``/api/files``. `base` is the address of the OctoPrint."""
        path = file["path"]
        entry: dict[str, Any] = {
            **{key: file[key] for key in ("date", "display", "name", "origin", "path", "size")},
            "refs": {
                "download": f"{base}/downloads/files/local/{path}",
                "resource": f"{base}/api/files/local/{path}",
            },
            "type": "machinecode",
            "typePath": ["machinecode", "gcode"],
            "user": "admin",
        }
        if not self.modern:
            entry["hash"] = "0" * 40
        if file.get("last"):
            entry["prints"] = {
                "failure": file["failure"],
                "success": file["success"],
                "last": {**file["last"], **({"printerProfile": "_default"} if self.modern else {})},
            }
        times = {} if file.get("lastPrintTime") is None else {"_default": file["lastPrintTime"]}
        if self.modern or times:
            entry["statistics"] = {"averagePrintTime": times, "lastPrintTime": times}
        return entry

    def event(self, kind: str, payload: Mapping[str, Any] | None) -> dict[str, Any]:
        """An event of the socket."""
        return {"event": {"type": kind, "payload": payload}}

    def printed(self, file: Mapping[str, Any], *, user: bool = True) -> dict[str, Any]:
        """What the events of a print say of its file."""
        told = {key: file[key] for key in ("name", "path", "origin", "size")}
        if self.modern:
            return {"connector": "serial", **told, **({"user": "admin"} if user else {})}
        return {**told, "owner": "admin", **({"user": "admin"} if user else {})}

    def place(self, completion: float, size: int) -> dict[str, Any]:
        """Where in the file a print was stopped."""
        return {
            "position": _NOWHERE,
            "fileposition": int(size * completion / 100),
            "progress": int(completion),
        }

    def of_printer(self, payload: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The payload of an event about the printer itself."""
        if self.modern:
            return {"connector": "serial", **(payload or {})}
        return dict(payload) if payload is not None else None

    def state_changed(self, state_id: str) -> dict[str, Any]:
        connector = (
            {"connector": "unknown" if state_id.startswith("CLOSED") else "serial"} if self.modern else {}
        )
        return {"state_id": state_id, "state_string": text_of(state_id), **connector}

    def common(self) -> dict[str, Any]:
        """What messages tell beside state, job and progress."""
        counted = {"count": 0, "transmitted": 8, "ratio": 0}
        if self.modern:
            return {
                "health": {**counted, "critical": False},
                "offsets": {},
                "currentZ": None,
                "currentTool": 0,
            }
        return {"resends": counted, "offsets": {}, "currentZ": None}

    # ------------------------------------------------------------------- whole answers

    def connected(self) -> dict[str, Any]:
        """The first message on a socket."""
        admin = {
            "key": "ADMIN",
            "name": "Admin",
            "dangerous": True,
            "default_groups": ["admins"],
            "description": "Admin is allowed to do everything",
            "needs": {"role": ["admin"]},
        }
        return {
            "connected": {
                "version": self.version,
                "display_version": self.version,
                "branch": "HEAD",
                "python_version": "3.11.7",
                "plugin_hash": "0" * 32,
                "config_hash": "0" * 32,
                "debug": False,
                "safe_mode": None,
                "online": True,
                "permissions": [admin],
            }
        }

    def api_version(self) -> dict[str, Any]:
        return {"api": "0.1", "server": self.version, "text": f"OctoPrint {self.version}"}

    def connection(self, state: Mapping[str, Any]) -> dict[str, Any]:
        there = state["flags"]["operational"]
        return {
            "current": {
                "baudrate": 115200 if there else None,
                "port": "VIRTUAL" if there else None,
                "printerProfile": "_default" if there or not self.modern else None,
                "state": state["text"] if there or not self.modern else "Offline",
            },
            "options": {
                "baudratePreference": None,
                "baudrates": [250000, 115200],
                "portPreference": "VIRTUAL",
                "ports": ["VIRTUAL"],
                "printerProfilePreference": "_default",
                "printerProfiles": [{"id": "_default", "name": "Default"}],
                **({"autoconnect": True} if self.modern else {}),
            },
        }

    def profiles(self, base: str) -> dict[str, Any]:
        axis = {"inverted": False, "speed": 6000}
        profile = {
            "axes": dict.fromkeys("exyz", axis),
            "color": "default",
            "current": True,
            "default": True,
            "extruder": {
                "count": 1,
                "defaultExtrusionLength": 5,
                "nozzleDiameter": 0.4,
                "offsets": [[0.0, 0.0]],
                "sharedNozzle": False,
            },
            "heatedBed": True,
            "heatedChamber": False,
            "id": "_default",
            "model": "Generic RepRap Printer",
            "name": "Default",
            "resource": f"{base}/api/printerprofiles/_default",
            "volume": {
                "custom_box": False,
                "depth": 200.0,
                "formFactor": "rectangular",
                "height": 200.0,
                "origin": "lowerleft",
                "width": 200.0,
            },
        }
        return {"profiles": {"_default": profile}}

    def login(self, user: str, session: str, permissions: Collection[str]) -> dict[str, Any]:
        """The answer to a passive login with a key; OctoPrint's own has the user's key in it, this one has none."""
        common: dict[str, Any] = {
            "_credentials_seen": "2026-01-01T00:00:00+00:00",
            "_is_external_client": False,
            "_login_mechanism": "apikey",
            "active": True,
            "apikey": None,
            "groups": [],
            "name": user,
            "needs": {"role": sorted(name.lower() for name in permissions)} if permissions else {},
            "permissions": sorted(permissions),
            "session": session,
            "settings": {},
        }
        if self.modern:
            return {**common, "_credentials_recheck_supported": False, "has_password": True}
        roles = ["user", "admin"] if "ADMIN" in permissions else ["user"]
        return {**common, "admin": "ADMIN" in permissions, "roles": roles, "user": True}


def text_of(state_id: str) -> str:
    """The state's own words, for those that simulated OctoPrints come to."""
    return _TEXTS.get(state_id, state_id.capitalize())
