"""One machine entry of config.json, of Aggregator 1.1, 1.2-1.3 or 1.4+.

In: the node of an entry and the folder of the file. Out: a `MachineEntry` and a report of what is wrong with it. Keys
that are not known here are left alone; one that looks like a known key misspelt is pointed out.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bridge.aggregator import fields
from bridge.aggregator.credential import Credential, Resolved, resolve_api_key, resolve_path_or_key
from bridge.aggregator.jsonc import Member, Node, Object
from bridge.aggregator.layout import KNOWN_KEYS
from bridge.aggregator.problem import Problem, Report

ConfigVersion = Literal["1.1", "1.2-1.3", "1.4+"]

OUR_TYPE: Final = "OCTOPRINT"
_SHORTEST_GUARDED_KEY: Final = 8
_LONGEST_TYPE: Final = 40
_NO_CREDENTIAL: Final = Resolved(Credential())


@dataclass(frozen=True, slots=True)
class MachineEntry:
    """An entry as far as it could be read. `index` counts from 0; `line` and `column` (from 1) are where it begins.

    `served`: an OCTOPRINT entry without errors, so that url, key and mes_id are there. `left_to_aggregator`: an
    entry of another machine type, which is none of our business. `config_version` is None when it can't be told.
    Of a bad value only what may be shown is kept.
    """

    index: int
    type: str | None
    left_to_aggregator: bool
    config_version: ConfigVersion | None
    custom_name: str | None
    url: str | None
    credential: Credential
    mes_id: tuple[int, ...]
    umati_server_port: int | None
    line: int
    column: int
    served: bool = False
    problems: tuple[Problem, ...] = field(default=(), repr=False)


def read_entry(index: int, node: Node, folder: Path, report: Report, place: tuple[int, int]) -> MachineEntry:
    """Reads an entry; `served` and `problems` are still to be set, when all of the file has been looked at."""
    if not isinstance(node, Object):
        message = f"a machine entry must be an object, not {fields.kind_of(node)}"
        report.error(node.start, None, message, 'write {"type": "OCTOPRINT", "url": ..., "mes_id": [1], ...}')
        return MachineEntry(index, None, False, None, None, None, Credential(), (), None, *place)
    machine_type, foreign = _read_type(node, report)
    if foreign:
        # What an entry of another type may hold is the Aggregator's to judge.
        report = report.scratch()
    reader = _EntryReader(node, folder, report, foreign=foreign)
    return reader.read(index, machine_type, place)


def _read_type(node: Object, report: Report) -> tuple[str | None, bool]:
    """Returns the type, and whether it is another one than ours."""
    member = node.index.get("type")
    if member is None or fields.is_unset(member.value):
        return None, False  # reported with the other required keys
    value = fields.text_value(member.value)
    hint = f'write "type": "{OUR_TYPE}"'
    if value is None or len(value) > _LONGEST_TYPE or not value.isprintable():
        report.error(member.value.start, "type", "the type must be a short text", hint)
        return None, False
    if value.upper() == OUR_TYPE:
        return value, False
    bare = re.sub(r"[^A-Z0-9]", "", value.upper())
    if difflib.get_close_matches(bare, [OUR_TYPE], cutoff=0.8):
        report.error(member.value.start, "type", f"this looks like a misspelt {OUR_TYPE}", hint)
        return value, False
    return value, True


class _EntryReader:
    """Reads the keys of one entry that is an object."""

    def __init__(self, node: Object, folder: Path, report: Report, *, foreign: bool) -> None:
        self.node = node
        self.folder = folder
        self.report = report
        self.foreign = foreign
        self.misspelt: dict[str, Member] = {}
        for key, member in node.index.items():
            meant = None if key in KNOWN_KEYS else _meant(key)
            if meant is not None and meant not in node.index:
                self.misspelt[meant] = member

    def read(self, index: int, machine_type: str | None, place: tuple[int, int]) -> MachineEntry:
        if self._set("type") is None:
            self._missing("type", f'write "type": "{OUR_TYPE}"')
        url = name = port = None
        mes_id: tuple[int, ...] = ()
        if (value := self._set("url")) is not None:
            url = fields.read_url(value, self.report)
        else:
            self._missing("url", "add the base URL of this OctoPrint, such as http://192.168.1.41:5000")
        if (member := self.node.index.get("custom_name")) is not None:
            name = fields.read_custom_name(member.value, self.report)
        if (value := self._set("mes_id")) is not None:
            mes_id = fields.read_mes_id(value, self.report)
        else:
            self._missing("mes_id", "add the MES instances that show this machine, such as [1]")
        resolved = _NO_CREDENTIAL if self.foreign else self._credential()
        version = self._version(is_key=resolved.is_key)
        if not self.foreign:
            self._mixture(version)
        if version != "1.4+" and (value := self._set("umati_server_port")) is not None:
            port = fields.read_port(value, self.report)
        for meant, member in self.misspelt.items():
            message = f"this key looks like a misspelt {meant}; as it stands it is ignored"
            self.report.warning(member.start, meant, message, f'write "{meant}"')
        url, name, machine_type = self._without_key(resolved, url, name, machine_type)
        return MachineEntry(
            index, machine_type, self.foreign, version, name, url, resolved.credential, mes_id, port, *place
        )

    def _set(self, key: str) -> Node | None:
        member = self.node.index.get(key)
        return None if member is None or fields.is_unset(member.value) else member.value

    def _missing(self, key: str, hint: str) -> None:
        """Reports a required key: at its misspelt form, at its empty value, or at the entry."""
        misspelt = self.misspelt.pop(key, None)
        if misspelt is not None:
            message = f"{key} is missing: this key looks like it, but is written differently"
            self.report.error(misspelt.start, key, message, f'write "{key}"')
        elif (member := self.node.index.get(key)) is not None:
            self.report.error(member.value.start, key, f"{key} is empty", hint)
        else:
            self.report.error(self.node.start, key, f"{key} is missing", hint)

    def _credential(self) -> Resolved:
        """The newest form that is filled in counts: authentication_file_path, then api_key."""
        for key in ("authentication_file_path", "api_key"):
            node = self._set(key)
            if node is None:
                continue
            value = fields.text_value(node)
            if value is None:
                message = f"{key} must be a text, not {fields.kind_of(node)}"
                hint = "give the key, or the path of the file that holds it, in quotes"
                if isinstance(node, Object):
                    hint += "; objects are for machines of other types"
                self.report.error(node.start, key, message, hint)
                return _NO_CREDENTIAL
            resolved = resolve_api_key(value) if key == "api_key" else resolve_path_or_key(value, self.folder)
            for finding in resolved.findings:
                self.report.add(node.start, key, finding)
            return resolved
        hint = (
            "name the file that holds the key of this OctoPrint (or give the key itself, from Aggregator 1.4)"
        )
        present = "api_key" in self.node.index or "api_key" in self.misspelt
        self._missing("api_key" if present else "authentication_file_path", hint)
        return _NO_CREDENTIAL

    def _version(self, *, is_key: bool) -> ConfigVersion | None:
        """By the keys: `api_key` alone is 1.1; `umati_server_port` beside a file ended with 1.3."""
        authentication = self._set("authentication_file_path")
        if authentication is None:
            return None if self._set("api_key") is None else "1.1"
        if is_key or isinstance(authentication, Object) or self._set("umati_server_port") is None:
            return "1.4+"
        return "1.2-1.3"

    def _mixture(self, version: ConfigVersion | None) -> None:
        """Keys of another version than the one the entry is read as."""
        index, hint = self.node.index, "remove it, or bring the whole entry to one version"
        if version == "1.1":
            if "authentication_file_path" in index:
                message = (
                    "authentication_file_path (from Aggregator 1.2) is empty; api_key (1.1) is used instead"
                )
                self.report.warning(
                    index["authentication_file_path"].start, "authentication_file_path", message, hint
                )
            if self._set("custom_name") is not None:
                message = "custom_name came with Aggregator 1.2, but api_key ended with 1.1; both are used"
                self.report.warning(index["custom_name"].start, "custom_name", message, hint)
        elif version is not None and "api_key" in index:
            message = (
                "api_key ended with Aggregator 1.1; authentication_file_path is used, and this is ignored"
            )
            self.report.warning(index["api_key"].start, "api_key", message, hint)
        if version == "1.4+" and self._set("umati_server_port") is not None:
            message = (
                "umati_server_port is gone in 1.4, and only Aggregator 1.4 and later take the key inline"
            )
            self.report.warning(
                index["umati_server_port"].start,
                "umati_server_port",
                f"{message}; it is ignored",
                "remove it, or put the key into a file if the Aggregator needs the port",
            )

    def _without_key(self, resolved: Resolved, *shown: str | None) -> tuple[str | None, ...]:
        """Takes out of what will be shown whatever holds the key, pasted into the wrong place."""
        keys = {resolved.credential.key.reveal()} if resolved.credential.key is not None else set()
        if resolved.credential.path is None:
            raw = (self._set(key) for key in ("authentication_file_path", "api_key"))
            keys |= {text.strip() for node in raw if node is not None and (text := fields.text_value(node))}
        keys = {key for key in keys if len(key) >= _SHORTEST_GUARDED_KEY}
        clean: list[str | None] = []
        for value, key in zip(shown, ("url", "custom_name", "type"), strict=True):
            if value is not None and any(secret in value for secret in keys):
                message = f"the key of this machine stands in its {key}"
                self.report.error(self.node.index[key].start, key, message, "remove it from there")
                clean.append(None)
            else:
                clean.append(value)
        return tuple(clean)


@functools.lru_cache(maxsize=256)
def _meant(key: str) -> str | None:
    """The known key that an unknown one is probably meant to be."""
    if len(key) > 40:
        return None
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    for known in KNOWN_KEYS:
        if plain == known.replace("_", ""):
            return known
    if plain in ("uri", "baseurl"):
        return "url"
    close = difflib.get_close_matches(key.lower(), KNOWN_KEYS, n=1, cutoff=0.8)
    return close[0] if close else None
