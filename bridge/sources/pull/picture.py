"""What OctoPrint has said of its printer so far, for the observer to ask: `View` without OctoPrint's objects.

In flow parts of answers and messages, whatever they hold; out flow the shapes that the observer knows. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.machine import Machine
from octoprint_mesbridge.records import mapping, text_or_none
from octoprint_mesbridge.view import profile_record

_LONGEST_NAME = 512


class Picture:
    """`octoprint_mesbridge.observer.View` of an OctoPrint elsewhere; `known` is what the log says of its machine."""

    def __init__(self, known: Machine) -> None:
        printer = known.printer
        self._uuid = printer.uuid if printer else None
        self._identity = dict(printer.identity) if printer else {}
        self._version = printer.octoprint_version if printer else "unknown"
        self._name = printer.name if printer else None
        self._firmware: str | None = None
        self._profile: Mapping[str, Any] | None = None
        self._profile_name = printer.profile_name if printer else None
        self._job: Mapping[str, Any] = {}
        self._progress: Mapping[str, Any] = {}
        self._heaters: Mapping[str, Any] = {}
        self._measured: datetime | None = None

    def job(self) -> Mapping[str, Any]:
        return self._job

    def progress(self) -> Mapping[str, Any]:
        return self._progress

    def heaters(self, since: datetime | None = None) -> Mapping[str, Any]:
        if self._measured is None or (since is not None and self._measured < since):
            return {}
        return self._heaters

    def printer(self) -> Mapping[str, Any]:
        heaters = self._heaters
        profile = self._profile or {
            "name": self._profile_name,
            "extruder": {"count": sum(name.startswith("tool") for name in heaters)},
            "heatedBed": "bed" in heaters,
            "heatedChamber": "chamber" in heaters,
        }
        return {
            "uuid": self._uuid,
            "name": self._name,
            "octoprint_version": self._version,
            "plugin_version": None,
            "firmware": self._firmware,
            "profile": profile_record(profile),
            "identity": self._identity,
        }

    def note_version(self, version: Any) -> None:
        if isinstance(version, str) and version:
            self._version = version[:64]

    def note_name(self, name: Any) -> bool:
        """Whether it is another than before."""
        before, self._name = self._name, _text(name)
        return self._name != before

    def note_firmware(self, name: Any) -> None:
        self._firmware = _text(name)

    def note_profile(self, profile: Mapping[str, Any]) -> None:
        """The printer profile, as ``/api/printerprofiles`` has it, or just its ``name``."""
        extruder = profile.get("extruder")
        if isinstance(extruder, Mapping) and isinstance(extruder.get("count"), (int, type(None))):
            self._profile = profile
        else:
            self._profile_name = _text(profile.get("name"))

    def note_job(self, job: Any, progress: Any) -> None:
        self._job, self._progress = mapping(job), mapping(progress)

    def note_heaters(self, heaters: Any, moment: datetime) -> None:
        """Heaters by name, as ``/api/printer`` and the socket have them; other entries are left out later."""
        found = {name: one for name, one in mapping(heaters).items() if isinstance(one, Mapping)}
        if found:
            self._heaters, self._measured = found, moment


def _text(value: Any) -> str | None:
    text = text_or_none(value, _LONGEST_NAME)
    return text.strip() or None if text is not None else None
