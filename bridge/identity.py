"""Which machine an entry of config.json is: ids that stay the same when the order, name, url or key changes.

In flow the url and key id of each entry, out flow machine ids; what was known is kept in one JSON file.
An entry is the machine that had the same key, else the one that had the same url; both changed at once make
a new machine. Which keys came by pairing is kept in a file beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.aggregator.fields import same_place
from bridge.files import write_private

_KEY_ID = re.compile(r"[0-9a-f]{24}")
_MOST_PAIRED = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """A machine and what it was recognised by last."""

    machine: str
    url: str
    key_id: str


class IdentityError(Exception):
    """The file of known machines cannot be used; the text says which, why, and what to do."""


def assign(entries: Iterable[tuple[str, str]], known: Iterable[Known]) -> tuple[list[str], list[Known]]:
    """The machine id of each entry ``(url, key id)``, and what to remember: all that is and was known.

    No two entries may have the same place or key id.
    """
    wanted = list(entries)
    free = {k.machine: k for k in known}
    ids: dict[int, str] = {}
    for mark_of_known, mark_of_entry in _MARKS:
        marked: dict[str, Known] = {}
        for one in free.values():
            marked.setdefault(mark_of_known(one), one)
        for index, (url, key_id) in enumerate(wanted):
            match = None if index in ids else marked.pop(mark_of_entry(url, key_id), None)
            if match is not None:
                ids[index] = free.pop(match.machine).machine
    taken = {*ids.values(), *free}
    for index, (url, _) in enumerate(wanted):
        if index not in ids:
            ids[index] = _new_id(_normal(url), taken)
            taken.add(ids[index])
    now = [Known(ids[index], url, key_id) for index, (url, key_id) in enumerate(wanted)]
    return [ids[index] for index in range(len(wanted))], [*now, *free.values()]


def load(path: Path) -> list[Known]:
    """The machines known so far; none when there is no file yet. Raises `IdentityError`."""
    try:
        return [_known(item) for item in json.loads(path.read_text(encoding="utf-8"))["machines"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IdentityError(
            f"{path}: the list of known machines cannot be read ({error}); bring it back from a backup, or delete it:"
            " then those machines keep their ids whose urls are still the first they had here"
        ) from None


def _known(item: dict[str, str]) -> Known:
    known = Known(**item)
    if not all(isinstance(value, str) for value in item.values()):
        raise TypeError("a machine, url or key_id is no text")
    return known


def save(path: Path, known: Iterable[Known]) -> None:
    """Remember `known`. Raises `IdentityError`."""
    try:
        write_private(path, json.dumps({"machines": [asdict(k) for k in known]}, indent=1).encode())
    except OSError as error:
        raise IdentityError(
            f"{path}: the list of known machines cannot be kept: {error.strerror or error}; check that the disk is not"
            " full and that the bridge's user may write there"
        ) from None


def paired(folder: Path) -> frozenset[str]:
    """The ids of the keys that came by pairing; none when nothing was paired yet. Raises `IdentityError`."""
    return frozenset(_paired(folder / "paired.json"))


def remember_paired(folder: Path, key_id: str) -> None:
    """Remember that a key came by pairing. Raises `IdentityError`.

    To be called before the key is written down anywhere, so that no crash lets it pass for one added by hand. It
    stays remembered when no machine has it any more: it may come back, from a backup or with an entry put back.
    """
    path = folder / "paired.json"
    key_ids = [*(one for one in _paired(path) if one != key_id), key_id][-_MOST_PAIRED:]
    try:
        write_private(path, json.dumps({"key_ids": key_ids}, indent=1).encode())
    except OSError as error:
        raise IdentityError(
            f"{path}: which keys came by pairing cannot be kept: {error.strerror or error}; check that the disk is not"
            " full and that the bridge's user may write there"
        ) from None


def _paired(path: Path) -> list[str]:
    """The ids of the keys, the one that was paired last at the end."""
    try:
        key_ids = json.loads(path.read_text(encoding="utf-8"))["key_ids"]
        return [key_id for key_id in key_ids if _KEY_ID.fullmatch(key_id)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IdentityError(
            f"{path}: which keys came by pairing cannot be read ({error}); bring it back from a backup, or delete it:"
            " then OctoPrints that were paired are asked with their keys, over plain http in clear"
        ) from None


def _new_id(url: str, taken: set[str]) -> str:
    digest = hashlib.sha256(url.encode()).hexdigest()
    return next(i for n in range(8, 65) if (i := f"octoprint-{digest[:n]}") not in taken)


def place(url: str) -> str:
    """A form in which two urls of one OctoPrint are equal; what is no url stays as it is."""
    try:
        return same_place(url)
    except ValueError:
        return url


def _normal(url: str) -> str:
    """What ids are made of."""
    return url.rstrip("/").lower()


def bridge_id(folder: Path) -> str:
    """What names this bridge for ever: made at first use, kept in `folder`. Raises `IdentityError`."""
    path = folder / "bridge-id"
    try:
        if not path.exists():
            write_private(path, f"bridge-{secrets.token_hex(8)}".encode())
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise IdentityError(
            f"{path}: the bridge's own name cannot be kept: {error}; make the folder writable"
        ) from None


_MARKS: tuple[tuple[Callable[[Known], str], Callable[[str, str], str]], ...] = (
    (lambda known: known.key_id, lambda url, key_id: key_id),
    (lambda known: place(known.url), lambda url, key_id: place(url)),
    (lambda known: known.url, lambda url, key_id: _normal(url)),  # as urls were kept earlier
)
"""What makes an entry a machine that is known, the surest first: of the known one, and of the entry."""
