"""The keys as they are kept: one in use, the one before it until its time is over, and one on offer to a bridge."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge import wire

from .files import remove_leftovers, replace_file

USER_PREFIX = "mesbridge-key-"
"""No ":" in it: OctoPrint's socket authentication splits on that."""


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key. `secret` (hex) signs pushes; nothing here leads back to the key itself.

    `valid_until` is set in the record of a key that was replaced or is on offer. All times are RFC 3339 texts.
    """

    user: str
    sha256: str
    prefix: str
    created: str
    key_id: str
    secret: str
    last_used: str | None = None
    last_address: str | None = None
    job_control: bool = False
    valid_until: str | None = None

    @property
    def push_key(self) -> wire.PushKey:
        return wire.PushKey(self.key_id, bytes.fromhex(self.secret))

    @property
    def end(self) -> datetime | None:
        """When the key stops being accepted, if it does."""
        return wire.parse_time(self.valid_until) if self.valid_until else None

    def __repr__(self) -> str:
        return f"KeyRecord({self.user}, {self.key_id})"


@dataclass(frozen=True)
class Keys:
    """The key in use, the one before it, and those that a bridge may or may not have taken, newest first."""

    current: KeyRecord
    previous: KeyRecord | None = None
    offered: tuple[KeyRecord, ...] = ()

    @property
    def records(self) -> tuple[KeyRecord, ...]:
        """Newest first."""
        return (*self.offered, self.current, *([self.previous] if self.previous else []))

    def noting(self, user: str, values: Mapping[str, Any]) -> Keys:
        """The same with `values` in the record of `user`."""

        def noted(record: KeyRecord) -> KeyRecord:
            return replace(record, **values) if record.user == user else record

        return Keys(
            noted(self.current),
            self.previous and noted(self.previous),
            tuple(map(noted, self.offered)),
        )


class KeyStore:
    """`Keys` in a file that only OctoPrint's own system user can read: the current record, and in it, as
    ``previous`` and (a list) ``offered``, the others. Version 0.1.0 kept the same with fewer fields."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Keys | None:
        """The keys, or None when there are none. Raises `OSError`, and `ValueError` when the file makes no sense."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            values = json.loads(content)
            previous, offered = values.pop("previous", None), values.pop("offered", [])
            before = None if previous is None else _record(previous)
            keys = Keys(_record(values), before, tuple(map(_record, offered)))
            if any(record.end is None for record in keys.records if record is not keys.current):
                raise ValueError("a key beside the one in use has no end")
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise ValueError(f"{self.path} is damaged") from None  # the cause could quote a secret
        return keys

    def save(self, keys: Keys) -> None:
        """Replace the file in one step, so that a crash leaves the old or the new one. Raises `OSError`."""
        values = asdict(keys.current)
        if keys.previous is not None:
            values["previous"] = asdict(keys.previous)
        if keys.offered:
            values["offered"] = [asdict(record) for record in keys.offered]
        replace_file(self.path, json.dumps(values))

    def delete(self) -> None:
        """Delete the file, if there is one. Raises `OSError`."""
        self.path.unlink(missing_ok=True)

    def clear_up(self) -> None:
        """Remove what a crash left of a writing; it holds what signs pushes."""
        remove_leftovers(self.path)


def digest(api_key: str) -> str:
    """What is kept in place of a key."""
    return hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest()


def _record(values: dict[str, Any]) -> KeyRecord:
    """Raises `KeyError`, `TypeError` or `ValueError` when `values` are not those of a key."""
    record = KeyRecord(**values)
    for entry in fields(KeyRecord):
        value = getattr(record, entry.name)
        kinds: tuple[type, ...] = (bool,) if entry.name == "job_control" else (str,)
        if not isinstance(value, kinds) and not (value is None and entry.default is None):
            raise TypeError(entry.name)
    bytes.fromhex(record.secret)
    wire.parse_time(record.created)
    if record.valid_until:
        wire.parse_time(record.valid_until)
    # Nobody else's user may ever be what a key stands for.
    if not record.user.startswith(USER_PREFIX) or not re.fullmatch("[0-9a-f]{64}", record.sha256):
        raise ValueError("no key's record")
    return record
