"""What new files mean for a bridge that runs: pure comparisons of what is in force with what was read.

In: two configs, or two settings. Out: what speaks against the new config, which settings can be taken over, and which
have to wait for a restart.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from bridge.aggregator import Config, MachineEntry, Problem
from bridge.settings import MesSettings, Settings

AT_ONCE: Final = frozenset(
    {
        "bridge.log_level",
        "bridge.log_format",
        "bridge.name",
        "bridge.keep_days",
        "bridge.log_size",
        "push.silent_after",
        "push.announce",
        "identification",
        "machine",
        "mes",
    }
)
"""The settings, and whole sections, that are taken over while the bridge runs; all others wait for a restart."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The settings that are in force from now on; which `keys` changed, and which `waiting` ones of the file differ
    from what is in force."""

    settings: Settings
    keys: tuple[str, ...]
    waiting: tuple[str, ...]


def merge(in_force: Settings, new: Settings) -> Merged:
    """Take from `new` what can be taken over at once."""
    keys: list[str] = []
    waiting: list[str] = []
    merged = _merged(in_force, new, "", keys, waiting)
    return Merged(merged, tuple(keys), tuple(waiting))


def _merged(old: Any, new: Any, place: str, keys: list[str], waiting: list[str]) -> Any:
    values = {}
    for field in dataclasses.fields(old):
        name = f"{place}{field.name}"
        was, wanted = getattr(old, field.name), getattr(new, field.name)
        values[field.name] = was
        if was == wanted:
            continue
        if name in AT_ONCE:
            keys.append(name)
            values[field.name] = wanted
        elif dataclasses.is_dataclass(was) and dataclasses.is_dataclass(wanted):
            values[field.name] = _merged(was, wanted, f"{name}.", keys, waiting)
        else:
            waiting.append(name)
    return dataclasses.replace(old, **values)


@dataclass(frozen=True, slots=True)
class MesChanges:
    """MES instances by the id of their sections."""

    added: tuple[int, ...]
    removed: tuple[int, ...]
    changed: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def mes_changes(before: Iterable[MesSettings], now: Iterable[MesSettings]) -> MesChanges:
    """Which sections ``[[mes]]`` are new, gone or others."""
    was, is_ = {one.id: one for one in before}, {one.id: one for one in now}
    return MesChanges(
        tuple(sorted(is_.keys() - was.keys())),
        tuple(sorted(was.keys() - is_.keys())),
        tuple(sorted(mes for mes in was.keys() & is_.keys() if was[mes] != is_[mes])),
    )


def objections(in_force: Config, new: Config) -> list[Problem]:
    """The errors for which `new` is refused: all that the config in force does not have, too, and names of secret
    files that are gone, which would be keys now.

    What was wrong before keeps no change from being taken over, just as it does not keep the bridge from starting.
    """
    known = Counter(_of_file(in_force))
    found = [problem for problem in new.problems if problem.severity == "error"]
    objecting = [one for one in found if not _used_up(known, (one.key, one.message))]
    known = Counter(_faulty(entry) for entry in _refused(in_force))
    for entry in _refused(new):
        if not _used_up(known, _faulty(entry)):
            objecting += [problem for problem in entry.problems if problem.severity == "error"]
    return objecting + list(_names_as_keys(in_force, new))


def _names_as_keys(in_force: Config, new: Config) -> Iterator[Problem]:
    """A value without `/` or an extension is the key itself when no file has that name. When one had it, it is away
    for a moment, and its name is no secret: it is neither to be sent to an OctoPrint, nor believed as one."""
    files = {entry.credential.path for entry in in_force.machines if entry.credential.source == "file"}
    for entry in new.machines:
        if entry.credential.source != "inline" or entry.credential.key is None:
            continue
        path = new.path.absolute().parent / entry.credential.key.reveal()
        if path in files:
            yield Problem(
                "error",
                new.path,
                entry.line,
                entry.column,
                "authentication_file_path",
                f"the secret file {path} is gone, and its name is not taken as the key",
                "put the file back; or name the one that holds the key now",
            )


def _of_file(config: Config) -> Iterator[tuple[Any, ...]]:
    return ((one.key, one.message) for one in config.problems if one.severity == "error")


def _refused(config: Config) -> Iterator[MachineEntry]:
    """The entries with errors; those of the Aggregator, too, since a file that is half written may end in one."""
    return (entry for entry in config.machines if any(one.severity == "error" for one in entry.problems))


def _faulty(entry: MachineEntry) -> tuple[Any, ...]:
    """An entry with errors, wherever it stands, and which of its keys are wrong."""
    keys = frozenset(problem.key for problem in entry.problems if problem.severity == "error")
    return entry.type, entry.url, entry.custom_name, entry.mes_id, entry.credential, keys


def _used_up(known: Counter[Any], one: tuple[Any, ...]) -> bool:
    """Whether `one` is among the `known` ones, each of which counts once."""
    if not known[one]:
        return False
    known[one] -= 1
    return True
