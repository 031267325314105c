"""Changed files taken over while the bridge runs: config.json, the secret files that it names, and the settings.

In flow the files, when they have changed or somebody asks; out flow calls of the parts that the changes concern. First
everything is read and checked; files with new errors are refused as a whole, and what is in force stays so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from bridge import instances, settings
from bridge.adoption import Adoption
from bridge.aggregator import Config, ConfigUnreadable, Problem, load
from bridge.control import Command, Refused
from bridge.identity import IdentityError
from bridge.inforce import Merged, MesChanges, merge, mes_changes, objections
from bridge.mes import MesSink
from bridge.opcua import AddressUnavailable
from bridge.settings import Settings, SettingsError
from bridge.site import Applied, Served, Site, assign
from bridge.umati import UmatiServer

log = structlog.get_logger(__name__)


class Unusable(Exception):
    """The files are not taken over; each of the `problems` says what is wrong and what to do."""

    def __init__(self, problems: Iterable[Problem | str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(_text(one) for one in self.problems))


@dataclass(frozen=True, slots=True)
class Change:
    """What was taken over: machines, MES instances, `keys` of the settings; and the keys `waiting` for a restart."""

    machines: Applied
    mes: MesChanges
    keys: tuple[str, ...]
    waiting: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.machines or self.mes or self.keys)


@dataclass(frozen=True, slots=True)
class _Found:
    config: Config
    shown: Config
    merged: Merged
    entries: list[Served]


class Reloader:
    """Takes over the files from which `config` and `in_force` were read; a bridge without settings has no `path`.

    `take` is called with the settings that are in force from then on. Nobody else serves machines meanwhile: the lock
    is the one of `adoption`.
    """

    def __init__(
        self,
        config: Config,
        path: Path | None,
        in_force: Settings,
        folder: Path,
        site: Site,
        umati: UmatiServer,
        mes: MesSink,
        adoption: Adoption,
        take: Callable[[Settings], None],
    ) -> None:
        self._config = config
        self._path = path
        self.settings = in_force
        self._folder = folder
        self._site = site
        self._umati = umati
        self._mes = mes
        self._adoption = adoption
        self._take = take
        self._told = _told(self._examined(config, in_force))
        self._refused: tuple[str, ...] = ()
        self._waiting: tuple[str, ...] = ()
        self._read = config

    def files(self) -> set[Path]:
        """The files that count, also those that a refused config.json names: one of them may be what it lacks."""
        found = {self._config.path, *([self._path] if self._path else [])}
        for entry in (*self._config.machines, *self._read.machines):
            if entry.credential.path is not None:
                found.add(entry.credential.path)
            elif entry.credential.source == "file":  # its name might be a key, and is not known here
                found.add(self._config.path.absolute().parent)
        return found

    async def changed(self, asked: bool) -> None:
        """For `bridge.filewatch`: the files have changed, or somebody has `asked`; what comes of it is in the log."""
        try:
            change = await self.reload()
        except Unusable:
            return
        if asked and not change:
            log.info("config.json, its secret files and the settings were read again: nothing has changed")

    async def reload(self) -> Change:
        """Read the files, and take over what has changed. Raises `Unusable`; then everything is as it was."""
        begun = time.perf_counter()
        async with self._adoption.lock:
            try:
                found = await asyncio.to_thread(self._look)
            except Unusable as unusable:
                self._tell_refused(unusable)
                raise
            self._tell_news(found.shown)
            if self._refused:
                self._refused = ()
                log.info("config.json, its secret files and the settings can be used again")
            change = await self._apply(found)
        if change:
            took = round(1000 * (time.perf_counter() - begun))
            log.info("changes are in force", **_counts(change), machines=len(self._site), took_ms=took)
        if change.waiting != self._waiting and change.waiting:
            log.warning(
                "these changes of the settings need a restart of the bridge; until then the old values are in force",
                keys=list(change.waiting),
            )
        self._waiting = change.waiting
        return change

    def _look(self) -> _Found:
        """Read and check; changes nothing but the list of machine ids. Raises `Unusable`."""
        problems: list[Problem | str] = []
        new, config = self.settings, self._config
        try:
            new = settings.load(self._path)
        except SettingsError as error:
            problems += error.problems
        try:
            config = self._read = load(self._config.path)
            problems += objections(self._config, config)
        except ConfigUnreadable as error:
            problems += error.problems
        if problems:
            raise Unusable(problems)
        merged = merge(self.settings, new) if self._path else Merged(self.settings, (), ())
        try:
            entries = assign(config, merged.settings, self._folder)
        except IdentityError as error:
            raise Unusable([str(error)]) from None
        return _Found(config, self._examined(config, merged.settings), merged, entries)

    def _examined(self, config: Config, with_: Settings) -> Config:
        return instances.examined(config, with_.mes, self._path and self._path.absolute())

    async def _apply(self, found: _Found) -> Change:
        now, before = found.merged.settings, self.settings
        await self._open_ports(found.entries)
        self._config, self.settings, self._adoption.settings = found.config, now, now
        machines = self._site.apply(found.entries)
        for machine in machines.added:
            log.info("machine added", machine=machine)
        for machine in machines.removed:
            log.info("machine not served any more: its MES is told that it is Offline", machine=machine)
        for machine, what in machines.changed.items():
            log.info("machine changed", machine=machine, what=what)
        mes = mes_changes(before.mes, now.mes)
        if mes:
            self._mes.change(now.mes, self._site.registrations())
        self._take(now)
        await self._umati.close_unused_ports()
        return Change(machines, mes, found.merged.keys, found.merged.waiting)

    async def _open_ports(self, entries: Iterable[Served]) -> None:
        wanted = {one.port for one in entries if one.port is not None}
        for port in sorted(wanted - self._umati.own_ports):  # one that was taken before, too
            try:
                await self._umati.open_port(port)
            except AddressUnavailable as error:
                log.error(
                    "a port of its own cannot be given: the machine is shown on the common port; once the port is"
                    " free, `mesbridge reload` gives it",
                    port=port,
                    reason=str(error),
                )

    # ----------------------------------------------------------------- what people are told

    def _tell_refused(self, unusable: Unusable) -> None:
        """Once, however often the files are looked at as they are."""
        texts = tuple(_text(one) for one in unusable.problems)
        if texts == self._refused:
            return
        self._refused = texts
        for problem in unusable.problems:
            if isinstance(problem, Problem):
                tell(problem)
            else:
                log.error(problem)
        log.error(
            "the changed files are not taken over: what was in force before stays so until they are put right",
            errors=len(texts),
        )

    def _tell_news(self, config: Config) -> None:
        """What is wrong with the config now, unless it was before."""
        now = _told(config)
        for mark, (problem, entry) in now.items():
            if mark not in self._told:
                tell(problem, **entry)
        self._told = now


def commands(reloader: Reloader) -> dict[str, Command]:
    """What `mesbridge reload` may ask of the running bridge, by the path of `bridge.control`."""

    async def reload(values: Mapping[str, Any]) -> dict[str, Any]:
        try:
            change = await reloader.reload()
        except Unusable as unusable:
            raise Refused(str(unusable)) from None
        return {
            "machines": asdict(change.machines),
            "mes": asdict(change.mes),
            "settings": change.keys,
            "need_restart": change.waiting,
        }

    return {"reload": reload}


def tell(problem: Problem, **entry: int) -> None:
    """Log what is wrong with config.json."""
    key = {} if problem.key is None else {"key": problem.key}
    tell = log.error if problem.severity == "error" else log.warning
    tell(problem.message, **entry, where=_where(problem), **key, hint=problem.hint)


def _told(config: Config) -> dict[tuple[Any, ...], tuple[Problem, dict[str, int]]]:
    """The problems by what makes one another; where it stands does not, since lines move."""
    of_file: list[tuple[Problem, dict[str, int]]] = [(problem, {}) for problem in config.problems]
    of_entries = [
        (problem, {"entry": entry.index}) for entry in config.machines for problem in entry.problems
    ]
    return {
        (
            one.severity,
            one.file,
            one.key,
            one.message,
            config.machines[place["entry"]].url if place else None,
        ): (
            one,
            place,
        )
        for one, place in [*of_file, *of_entries]
    }


def _where(problem: Problem) -> str:
    place = (problem.file, problem.line, problem.column)
    return ":".join(str(part) for part in place if part is not None)


def _text(problem: Problem | str) -> str:
    if isinstance(problem, str):
        return problem
    key = f"{problem.key}: " if problem.key else ""
    return f"{_where(problem)}: {key}{problem.message} ({problem.hint})"


def _counts(change: Change) -> dict[str, Any]:
    """The numbers that are not 0, and the names of the rest."""
    machines, mes = change.machines, change.mes
    said = {
        "added": len(machines.added),
        "removed": len(machines.removed),
        "changed": len(machines.changed),
        "failed": len(machines.failed),
        "mes_added": list(mes.added),
        "mes_removed": list(mes.removed),
        "mes_changed": list(mes.changed),
        "settings": list(change.keys),
    }
    return {name: value for name, value in said.items() if value}
