"""Makes docs/configuration.md: what each key of the settings and of config.json means, read from the code.

The sentences are those of ``bridge/settings.sample.toml`` and of ``bridge/aggregator/layout.py``; types, defaults and
what is allowed come from the settings' classes; what is in force at once from ``bridge/inforce.py``; which keys an
Aggregator's version knows is what the reader of config.json says of entries with and without them. The prose is in
``configuration.md`` beside this module.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from bridge import aggregator
from bridge.aggregator.entry import ConfigVersion, MachineEntry
from bridge.aggregator.layout import MEANINGS
from bridge.inforce import AT_ONCE
from bridge.settings import SAMPLE, Settings
from tests.docs.notation import table

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
PROSE = Path(__file__).with_name("configuration.md")

TYPES = {
    str: "text",
    Path: "path",
    int: "whole number",
    float: "number",
    bool: "true or false",
    date: "date",
}


COLUMNS = ("key", "type", "default", "allowed", "in force", "meaning")


class SampleError(Exception):
    """The sample does not explain a key; says which, and where to write it."""


@dataclass
class Explained:
    """What the sample says of a section, and of each of its keys."""

    text: str = ""
    keys: dict[str, str] = field(default_factory=dict)


_HEADER = re.compile(r"(?:# )?\[\[?(?P<name>[a-z_.]+)\]\]?\s*(?:#\s*(?P<text>.*))?$")
_KEY = re.compile(r"(?:# )?(?P<name>[a-z_]+) = (?:\"[^\"]*\"|\S+)\s*(?:#\s*(?P<text>.*))?$")
_GOES_ON = re.compile(r"(?:# )?\s{4,}#\s*(?P<text>.*)$")


def explained(sample: str) -> dict[str, Explained]:
    """The sentences of the sample by section: of the section those between its name and its first key, of a key those
    behind it and on indented lines after it, or on lines of their own before it."""
    sections: dict[str, Explained] = {}
    section, key, before = Explained(), "", list[str]()
    for line in sample.splitlines():
        if found := _HEADER.match(line):
            section = sections[found["name"]] = Explained(found["text"] or "")
            key, before = "", []
        elif found := _KEY.match(line):
            if not section.keys:
                section.text = " ".join(filter(None, [section.text, *before]))
                before = []
            key = found["name"]
            section.keys[key] = " ".join([*before, found["text"] or ""]).strip()
            before = []
        elif key and (found := _GOES_ON.match(line)):
            section.keys[key] = f"{section.keys[key]} {found['text']}"
        elif line.startswith("# "):
            before.append(line.removeprefix("# "))
    return sections


def _sections(kind: type, name: str = "") -> Iterator[tuple[str, str, type]]:
    """Each section of the settings: its name, how its header is written, and its class."""
    for item in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[item.name]
        several = typing.get_origin(hint) is tuple
        inner = typing.get_args(hint)[0] if several else hint
        if dataclasses.is_dataclass(inner):
            full = f"{name}.{item.name}" if name else item.name
            yield full, f"[[{full}]]" if several else f"[{full}]", typing.cast(type, inner)
            yield from _sections(typing.cast(type, inner), full)


def settings_tables() -> str:
    """A heading, the sample's sentence and a table for each section of the settings."""
    said = explained(SAMPLE.read_text(encoding="utf-8"))
    parts: list[str] = []
    seen: set[type] = set()
    for name, header, kind in _sections(Settings):
        section = said.get(name, Explained())
        parts += [f"### `{header}`", _sentence(section.text)]
        if kind not in seen:
            parts.append(table(COLUMNS, _rows(name, kind, section)))
        seen.add(kind)
    return "\n\n".join(filter(None, parts))


def _rows(name: str, kind: type, section: Explained) -> Iterator[list[str]]:
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        hint, optional = hints[item.name], False
        if isinstance(hint, types.UnionType):
            hint = next(option for option in typing.get_args(hint) if option is not type(None))
            optional = True
        if hint not in TYPES:
            continue  # a section of its own
        text = section.keys.get(item.name, "")
        if not text:
            raise SampleError(f"{SAMPLE}: [{name}] {item.name} is not explained; write a few words behind it")
        yield [
            f"`{item.name}`",
            TYPES[hint],
            _default(item, optional),
            _allowed(item.metadata),
            "at once" if _is_at_once(f"{name}.{item.name}") else "at a restart",
            text.replace("<", "&lt;"),
        ]


def _is_at_once(key: str) -> bool:
    """Whether the key, or the whole section that it is in, is taken over while the bridge runs."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in AT_ONCE for length in range(1, len(parts) + 1))


def _default(item: dataclasses.Field[Any], optional: bool) -> str:
    if item.default is not dataclasses.MISSING:
        if item.default is None:
            return ""
        unit = item.metadata.get("unit", "")
        text = json.dumps(item.default)
        return f"`{text.removesuffix('.0')}` {unit}".strip()
    return "" if item.default_factory is not dataclasses.MISSING else "**required**"


def _allowed(rules: Any) -> str:
    if "range" in rules:
        low, high = rules["range"]
        return f"{_number(low)} to {_number(high)} {rules.get('unit', '')}".strip()
    if "choices" in rules:
        return ", ".join(f"`{choice}`" for choice in rules["choices"])
    if "printable" in rules:
        return f"at most {rules['printable']} printable characters"
    if "pattern" in rules:
        return str(rules["pattern"][1])
    return "http or https, without password" if "url" in rules else ""


def _number(value: float) -> str:
    return f"{value:,}" if value >= 10_000 else f"{value:g}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


VERSIONS: dict[ConfigVersion, dict[str, Any]] = {
    "1.1": {"api_key": "A0A00B123E454H122BD513FE58B5E9BC"},
    "1.2-1.3": {"authentication_file_path": "secret.txt", "umati_server_port": 4841},
    "1.4+": {"authentication_file_path": "secret.txt"},
}
"""What makes an entry one of this version, beside what all have."""
COMMON = {"type": "OCTOPRINT", "url": "http://192.168.1.41:5000", "mes_id": [1]}
VALUES = {
    "custom_name": "Left printer",
    "umati_server_port": 4841,
    "api_key": "C0A0",
    "authentication_file_path": "C0A0",
}


def key_table() -> str:
    """The keys of an entry of config.json by version, as the reader of config.json has them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        secret = path.with_name("secret.txt")
        secret.write_text("B0A00B123E454H122BD513FE58B5E9BC")
        secret.chmod(0o600)
        rows = [
            [f"`{key}`", meaning, *(_standing(path, key, version) for version in VERSIONS)]
            for key, meaning in MEANINGS.items()
        ]
    return table(("key", "value", *VERSIONS), rows)


def _standing(path: Path, key: str, version: ConfigVersion) -> str:
    """``required``: without it the entry is not served. ``-``: with it, it is none of this version, or has faults."""
    own = COMMON | VERSIONS[version]
    lacking = _read(path, {name: value for name, value in own.items() if name != key})
    if not lacking.served:
        return "required"
    having = _read(path, own if key in own else own | {key: VALUES[key]})
    fits = having.served and having.config_version == version and not having.problems
    return "optional" if fits else "-"


def _read(path: Path, entry: dict[str, Any]) -> MachineEntry:
    path.write_text(json.dumps([entry]))
    path.chmod(0o600)
    return aggregator.load(path).machines[0]


def document() -> str:
    """The whole document. SampleError for a key that the sample does not explain."""
    tables = {"settings": settings_tables(), "config.json": key_table()}
    return re.sub(r"\{\{(.+?)\}\}", lambda place: tables[place[1]], PROSE.read_text(encoding="utf-8"))
