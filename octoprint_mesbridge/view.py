"""What the observer may ask of the printer, answered by OctoPrint.

In flow OctoPrint's own objects (printer, profile manager, settings); out flow the shapes of `observer.View`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .files import replace_file
from .records import sound_text

IDENTITY = (
    "manufacturer",
    "model",
    "product_code",
    "serial_number",
    "year_of_construction",
    "location",
    "asset_id",
)
"""What the owner may say about the machine; umati's Identification asks for it."""


class OctoPrintView:
    """`observer.View` over the objects that OctoPrint injects into a plugin."""

    def __init__(
        self,
        printer: Any,
        profiles: Any,
        settings: Any,
        printer_uuid: str,
        octoprint_version: str,
        plugin_version: str,
    ) -> None:
        self._printer = printer
        self._profiles = profiles
        self._settings = settings
        self._fixed = {
            "uuid": printer_uuid,
            "octoprint_version": octoprint_version[:64],
            "plugin_version": plugin_version[:64],
        }

    def job(self) -> Mapping[str, Any]:
        return self._printer.get_current_job() or {}

    def progress(self) -> Mapping[str, Any]:
        return self._printer.get_current_data().get("progress") or {}

    def heaters(self, since: datetime | None = None) -> Mapping[str, Any]:
        if since is not None:
            history = self._printer.get_temperature_history()  # with times, in whole seconds
            if not history or history[-1].get("time", 0) < int(since.timestamp()):
                return {}
        return self._printer.get_current_temperatures() or {}

    def identity_suggestions(self) -> dict[str, str | None]:
        """What a machine is told as where the owner says nothing: the bridge's rule, see its ``identify``."""
        profile = profile_record(self._profiles.get_current_or_default())
        model = profile["model"] or profile["name"]
        known = {
            "model": model,
            "product_code": self._identity()["model"] or model,
            "serial_number": self._fixed["uuid"],
        }
        return {key: known.get(key) for key in IDENTITY}

    def _identity(self) -> dict[str, str | None]:
        return {key: _text(self._settings.get(["identity", key])) for key in IDENTITY}

    def introduction(self) -> dict[str, str]:
        """Who this OctoPrint is, for a bridge that does not know it yet."""
        return {
            **self._fixed,
            "name": _text(self._settings.global_get(["appearance", "name"])) or "OctoPrint",
        }

    def printer(self) -> Mapping[str, Any]:
        firmware = self._printer.firmware_info or {}
        identity = self._identity()
        return {
            **self._fixed,
            "name": _text(self._settings.global_get(["appearance", "name"])),
            "firmware": _text(firmware.get("name")),
            "profile": profile_record(self._profiles.get_current_or_default()),
            "identity": {key: value for key, value in identity.items() if value},
        }


def profile_record(profile: Mapping[str, Any]) -> dict[str, Any]:
    """The wire's ``profile``. Extruders that share a nozzle share its heater, and so count as one."""
    extruder = profile.get("extruder") or {}
    count = 1 if extruder.get("sharedNozzle") else extruder.get("count") or 1
    return {
        "name": _text(profile.get("name")),
        "model": _text(profile.get("model")),
        "extruders": min(max(int(count), 0), 32),
        "heated_bed": bool(profile.get("heatedBed")),
        "heated_chamber": bool(profile.get("heatedChamber")),
    }


def stored_uuid(path: Path) -> str:
    """The name of this installation for ever: read from `path`, or made and written there. Raises `OSError`."""
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (FileNotFoundError, ValueError):
        made = str(uuid.uuid4())
        replace_file(path, made + "\n")
        return made


def _text(value: Any) -> str | None:
    text = "" if value is None else sound_text(str(value)).strip()
    return text[:512] or None
