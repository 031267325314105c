"""The OCTOPRINT entries of a config.json, rewritten for another version of the Aggregator.

In: the text of the file, and its `Config`. Out: the new text, the secret files that it needs, and remarks on what the
version cannot express. All comments, and all keys and entries that are not concerned, stay as they are. An entry with
an error stays as it is, too. Nothing here reads or writes a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bridge.aggregator import fields, jsonc
from bridge.aggregator.config import Config
from bridge.aggregator.credential import Secret
from bridge.aggregator.entry import MachineEntry
from bridge.aggregator.insert import NotEditable
from bridge.aggregator.jsonc import Document, Member, Node, Object
from bridge.aggregator.layout import find_entries
from bridge.aggregator.problem import Problem, Severity
from bridge.aggregator.remove import Change, applied, removals

Target = Literal["1.1", "1.2", "1.4"]

_PATH: Final = "authentication_file_path"
_PORT: Final = "umati_server_port"
_LEFT: Final = "correct it and convert again, or rewrite it by hand"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the new file will stand, as far as its entries depend on it.

    `new_file` names a secret file that is not there yet. `name_of` names a secret file that is there. `is_key` tells
    whether a value would be read as the key itself, not as a path.
    """

    new_file: Callable[[MachineEntry], str]
    name_of: Callable[[Path, str], str]
    is_key: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file to be written, for the entry `index`: its name as the new text has it, and the key."""

    index: int
    name: str
    key: Secret


@dataclass(slots=True)
class Conversion:
    """`revealed`: the entries (from 0) whose keys stand in `text`, and did not stand in the old one."""

    text: str = field(default="", repr=False)
    secrets: list[SecretFile] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    revealed: list[int] = field(default_factory=list)


def convert(text: str, config: Config, target: Target, place: Place, *, inline: bool = False) -> Conversion:
    """`text`, which `config` was read from, for the Aggregator `target`. Raises `NotEditable`.

    `inline`: at 1.4, leave a key that stands in the file there, as far as it cannot be taken for a path.
    """
    document = jsonc.parse(text)
    for fault in document.faults:
        if fault.severity == "error" and fault.key is None:
            raise NotEditable(f"line {document.lines.line(fault.offset)}: {fault.message}; {fault.hint}")
    nodes = [] if document.root is None else find_entries(document.root).entries
    done, changes = Conversion(), []
    for entry, node in zip(config.machines, nodes, strict=True):
        if entry.left_to_aggregator:
            continue
        one = _Entry(entry, node, document, config.path, target, place, done)
        if entry.served and isinstance(node, Object):
            changes += one.convert(node, inline=inline)
        else:
            one.remark("error", None, "this entry has an error, and stays as it is", _LEFT)
    done.text = applied(text, changes)
    return done


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry, while it is rewritten."""

    entry: MachineEntry
    node: Node
    document: Document
    path: Path
    target: Target
    place: Place
    done: Conversion

    def convert(self, node: Object, *, inline: bool) -> list[Change]:
        removed: list[Member] = []
        changes = self._key(node, removed, inline=inline)
        if self.target == "1.1" and (name := node.index.get("custom_name")) is not None:
            removed.append(name)
            if not fields.is_unset(name.value):
                message = f"Aggregator 1.1 knows no custom_name: {self.entry.custom_name!r} is left out"
                self.remark(
                    "warning", name, message, "note the name: the machine's own name is shown instead"
                )
        if (port := node.index.get(_PORT)) is not None:
            if self.target == "1.4" or (not fields.is_unset(port.value) and self._port_of(port) is None):
                removed.append(port)
            self._remark_port(port, left_out=port in removed)
        return [*changes, *removals(self.document.text, node, removed)]

    # ------------------------------------------------------------------------- the key

    def _key(self, node: Object, removed: list[Member], *, inline: bool) -> list[Change]:
        """Puts the key where the target wants it; whatever else names one goes."""
        used = node.index["api_key" if self.entry.credential.source == "api_key" else _PATH]
        wanted = "api_key" if self.target == "1.1" else _PATH
        kept = node.index.get(wanted, used)
        for name in (_PATH, "api_key"):
            member = node.index.get(name)
            if member is None:
                continue
            if member is not kept:
                removed.append(member)
            if member is not used and not fields.is_unset(member.value):
                message = f"{name} is not used beside {used.key}, and what it holds is left out"
                self.remark("warning", member, message, "if it holds the right key, correct the entry first")
        value = self._value(used, inline=inline)
        changes = []
        if kept.key != wanted:
            changes.append(Change(kept.start, kept.end, json.dumps(wanted)))
        if not kept.key == used.key == wanted or fields.text_value(kept.value) != value:
            changes.append(Change(kept.value.start, kept.value.end, json.dumps(value, ensure_ascii=False)))
        return changes

    def _value(self, used: Member, *, inline: bool) -> str:
        credential, written = self.entry.credential, fields.text_value(used.value) or ""
        if credential.key is None:  # an entry that is served has one
            raise NotEditable(f"the key of the entry on line {self.entry.line} cannot be read")
        key = credential.key.reveal()
        if self.target == "1.1":
            if credential.source == "file":
                self.done.revealed.append(self.entry.index)
            return key
        if credential.source == "file" and credential.path is not None:
            return self.place.name_of(credential.path, written)
        stays = credential.source == "inline" or inline
        if self.target == "1.4" and stays:
            if self.place.is_key(key):
                return written if credential.source == "inline" else key
            message = "the key would be read as a path where it stands, so it goes into a file of its own"
            self.remark("warning", used, message, "nothing is to be done")
        secret = SecretFile(self.entry.index, self.place.new_file(self.entry), credential.key)
        self.done.secrets.append(secret)
        return secret.name

    # ------------------------------------------------------------------------- the port

    def _port_of(self, port: Member) -> int | None:
        value = port.value.value if isinstance(port.value, jsonc.Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if 1 <= value <= 65535 else None

    def _remark_port(self, port: Member, *, left_out: bool) -> None:
        if fields.is_unset(port.value):
            return
        number = self._port_of(port)
        if left_out and self.target == "1.4":
            which = "" if number is None else f" {number}"
            message = f"Aggregator 1.4 knows no umati_server_port: port{which} is left out"
            hint = "tell clients that connect to that port to use the common one (4840)"
        elif left_out:
            message, hint = (
                "umati_server_port is no port, and is left out",
                "give it a number from 1 to 65535",
            )
        elif self.entry.config_version == "1.4+":
            message = f"umati_server_port {number} was ignored so far, and counts from now on"
            hint = "take it out, if this machine is to be on the common port"
        else:
            return
        self.remark("warning", port, message, hint)

    def remark(self, severity: Severity, member: Member | None, message: str, hint: str) -> None:
        """Notes something at `member`, or at the entry."""
        start = self.node.start if member is None else member.start
        key = None if member is None else member.key
        self.done.remarks.append(
            Problem(severity, self.path, *self.document.lines.place(start), key, message, hint)
        )
