"""`mesbridge check`: says what of a config.json can be served, and what is wrong with it.

In: the path of a config.json, and that of the bridge's settings where both are to be checked together; and whether the
OctoPrints and the MES are asked, too. Out: text for people or one JSON object, and the exit status: 0 when every
OCTOPRINT entry can be served as it says and all who were asked answered well, 1 when not, 2 when a file can't be read
at all. A key is never shown, not even in part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bridge import instances, occupancy
from bridge.aggregator import Config, ConfigUnreadable, Credential, MachineEntry, Problem, load
from bridge.settings import Settings, SettingsError
from bridge.settings import load as settings_of

if TYPE_CHECKING:
    from bridge.commands.online import Asked

_OK, _PROBLEMS, _UNREADABLE = 0, 1, 2


def run(config: Path, settings: Path | None, as_json: bool, stdout: TextIO, *, ask: bool = False) -> int:
    """Checks `config`, against `settings` where they are given, and writes the result; returns the exit status.

    `ask`: the OctoPrints, and the MES of the settings, are asked as well.
    """
    try:
        chosen = settings_of(settings) if settings else None
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return _UNREADABLE
    try:
        loaded = occupancy.examined(load(config))
        if chosen is not None:
            loaded = instances.examined(loaded, chosen.mes, settings)
    except ConfigUnreadable as error:
        if as_json:
            _write_json(stdout, {"ok": False, "machines": [], "problems": _plain(error.problems)})
        else:
            write(
                stdout,
                [*problem_lines(error.problems, ""), f"{config} can't be read: nothing can be served."],
            )
        return _UNREADABLE
    asked = None
    if ask:
        from bridge.identity import IdentityError

        try:
            asked = _asked(loaded, chosen)
        except IdentityError as error:
            print(f"mesbridge: {error}", file=sys.stderr)
            return _UNREADABLE
    ok = loaded.ok and (asked is None or asked.ok)
    if as_json:
        _write_json(stdout, _result(loaded, asked) | {"ok": ok})
    else:
        write(stdout, _report(loaded, asked))
    return _OK if ok else _PROBLEMS


def _asked(config: Config, settings: Settings | None) -> Asked:
    from bridge.commands import online  # takes a while

    return online.ask(config, settings or Settings(), given=settings is not None, progress=sys.stderr)


def _result(config: Config, asked: Asked | None) -> dict[str, Any]:
    machines = [_machine(machine) for machine in config.machines]
    result = {"ok": config.ok, "machines": machines, "problems": _plain(config.problems)}
    if asked is None:
        return result
    from bridge.commands import online

    for machine in machines:
        machine["online"] = online.machine_json(asked, machine["index"])
    return result | {"mes": online.mes_json(asked)}


def _write_json(stdout: TextIO, result: dict[str, Any]) -> None:
    stdout.write(json.dumps(result) + "\n")


def _machine(machine: MachineEntry) -> dict[str, Any]:
    path = machine.credential.path
    return {
        "index": machine.index,
        "type": machine.type,
        "served": machine.served,
        "config_version": machine.config_version,
        "custom_name": machine.custom_name,
        "url": machine.url,
        "credential": {"source": machine.credential.source, "path": None if path is None else str(path)},
        "mes_id": list(machine.mes_id),
        "umati_server_port": machine.umati_server_port,
        "problems": _plain(machine.problems),
    }


def _plain(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    names = ("severity", "line", "column", "key", "message", "hint")
    return [{name: getattr(problem, name) for name in names} for problem in problems]


def _report(config: Config, asked: Asked | None) -> Iterator[str]:
    if asked is not None:
        from bridge.commands import (
            online,  # it brings an HTTP client, which the check of files alone does without
        )

    for machine in config.machines:
        yield from _machine_lines(machine, config.path.absolute().parent)
        if asked is not None:
            yield from (f"    {line}" for line in online.machine_lines(asked, machine.index))
        yield ""
    if asked is not None:
        yield from online.mes_lines(asked)
    if config.problems:
        yield from problem_lines(config.problems, "")
        yield ""
    yield _summary(config)
    if asked is not None:
        errors = sum(finding.severity == "error" for finding in asked.findings())
        warnings = sum(finding.severity == "warning" for finding in asked.findings())
        skipped = f", {len(asked.not_asked)} not asked" if asked.not_asked else ""
        yield (
            f"Asked: {len(asked.octoprints)} OctoPrint{'' if len(asked.octoprints) == 1 else 's'}{skipped},"
            f" {len(asked.mes)} MES. Errors: {errors}, warnings: {warnings}."
        )


def _machine_lines(machine: MachineEntry, folder: Path) -> Iterator[str]:
    name = machine.custom_name or machine.url or f"entry on line {machine.line}"
    if machine.left_to_aggregator:
        yield f"[{machine.index}] {name}: left to the Aggregator (type {machine.type})"
    else:
        yield f"[{machine.index}] {name}: {'served' if machine.served else 'NOT SERVED'}"
        instances = ", ".join(map(str, machine.mes_id)) or "none"
        version = machine.config_version or "unknown"
        yield f"    url {machine.url or '(not usable)'}, MES {instances}, entry as of Aggregator {version}"
        yield f"    key: {_key_explained(machine.credential, folder)}"
        if machine.umati_server_port is not None:
            yield f"    shown by OPC UA on its own port {machine.umati_server_port}"
    yield from problem_lines(machine.problems, "    ")


def _key_explained(credential: Credential, folder: Path) -> str:
    """Why the value was taken as a path or as the key."""
    if credential.key is None:
        return "none that can be used"
    if credential.source == "file":
        return f"in the file {credential.path} (the value names an existing file, seen from {folder})"
    if credential.source == "inline":
        return (
            f"in config.json itself (the value has no path separator and no file extension, "
            f"and there is no file of that name in {folder})"
        )
    return "in config.json itself, as api_key"


def problem_lines(problems: Iterable[Problem], indent: str) -> Iterator[str]:
    """What is wrong, and what to do about it: two lines for each of `problems`."""
    for problem in problems:
        yield f"{indent}{problem}"
        yield f"{indent}    {problem.hint}"


def _summary(config: Config) -> str:
    problems = [*config.problems, *(problem for machine in config.machines for problem in machine.problems)]
    errors = sum(problem.severity == "error" for problem in problems)
    served = sum(machine.served for machine in config.machines)
    left = sum(machine.left_to_aggregator for machine in config.machines)
    others = f" {left} left to the Aggregator." if left else ""
    return (
        f"{config.path}: {served} of {len(config.machines) - left} OctoPrint machines can be served.{others} "
        f"Errors: {errors}, warnings: {len(problems) - errors}."
    )


def write(stdout: TextIO, lines: Iterable[str]) -> None:
    """Writes lines such that no terminal encoding and no control character in a file name can spoil them."""
    encoding = stdout.encoding or "utf-8"
    for line in lines:
        shown = "".join(character if character.isprintable() else "?" for character in line)
        stdout.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
