"""What a backup of the bridge looks like: one tar.gz; its first file, ``manifest.json``, names all others.

In: a manifest as values. Out: its text, and back, checked: nothing of an archive is believed before.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 4 * 2**20
STATE, CONFIG = "state/", "config/"
NOT_KEPT = frozenset({"lock", "control.json"})
"""Of the state folder: what belongs to the bridge that runs, and says nothing to another."""

DISPENSABLE = frozenset({"history.sqlite"})
"""Databases of the state folder on which no machine depends: what cannot be used is left out, and the rest is kept."""

_NO_NAME = r"/\\\x00-\x1f" + (r":*?\"<>|" if sys.platform == "win32" else "")
_PART = rf"(?!\.\.?(?:/|$))[^{_NO_NAME}]{{1,200}}"
_NAME = re.compile(rf"(?:{STATE}|{CONFIG})(?:{_PART}/){{0,8}}{_PART}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BackupError(Exception):
    """A backup cannot be made or brought back; the text names the file, says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of an archive; `origin` is where a file of the configuration lay."""

    size: int
    sha256: str
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds: `files` by name, `layouts` of the databases among them, `created` in UTC."""

    version: str
    created: str
    bridge_id: str
    layouts: Mapping[str, int]
    files: Mapping[str, Kept]

    def dump(self) -> bytes:
        """As JSON."""
        said = {"format": FORMAT, **asdict(self)}
        return json.dumps(said, indent=1, sort_keys=True).encode()


def load(text: bytes) -> Manifest:
    """The manifest that `dump` has made so. Raises `BackupError` for any other."""
    try:
        said = json.loads(text)
        if said["format"] != FORMAT:
            raise BackupError(
                f"was written by another version of MESBridge ({_shown(said.get('version'))}): use that one"
            )
        files = {_checked(name): _kept(one) for name, one in said["files"].items()}
        layouts = {str(name): int(number) for name, number in said["layouts"].items()}
        return Manifest(
            _shown(said["version"]), _shown(said["created"]), _shown(said["bridge_id"]), layouts, files
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackupError("is no backup of MESBridge, or is damaged") from None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.removeprefix(STATE) in NOT_KEPT:
        raise BackupError(f"holds a file with a name that no backup has ({_shown(name)}): do not use it")
    return name


def _kept(said: Mapping[str, Any]) -> Kept:
    size, sha256, origin = said["size"], said["sha256"], said["origin"]
    if type(size) is not int or size < 0 or not _SHA256.fullmatch(sha256):
        raise ValueError(size)
    return Kept(size, sha256, None if origin is None else _shown(origin))


def _shown(text: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text))[:1000]
