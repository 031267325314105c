"""Machines as JSON text and back, for checkpoints of the log."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from bridge import wire
from bridge.machine.model import Machine


def dump(machines: Mapping[str, Machine]) -> str:
    """All `machines`, by id, as JSON."""
    return json.dumps({name: _plain(machine) for name, machine in machines.items()}, separators=(",", ":"))


def load(text: str) -> dict[str, Machine]:
    """The reverse of `dump`. Raises `ValueError`, `KeyError` or `TypeError` on text of another shape."""
    return {name: _typed(Machine, value) for name, value in json.loads(text).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return wire.format_time(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _typed(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    if hint is datetime:
        return wire.parse_time(value)
    if typing.get_origin(hint) is Mapping:
        item_hint = typing.get_args(hint)[1]
        return {key: _typed(item_hint, item) for key, item in value.items()}
    if typing.get_origin(hint) is tuple:
        item_hint = typing.get_args(hint)[0]
        return tuple(_typed(item_hint, item) for item in value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if is_dataclass(hint):
        kind = typing.cast(type, hint)
        return kind(**{name: _typed(_hints(kind)[name], item) for name, item in value.items()})
    return value
