"""Whether the MES instances that config.json names stand in the settings.

In: the config and the settings. Out: the config with an error at each entry that names one without a section, another
for each certificate file of a section that cannot be used, and a warning for each section that no entry names. Such a
machine is served all the same, and told to its other MES.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bridge.aggregator import Config, MachineEntry, Problem
from bridge.settings import MesSettings


def examined(config: Config, sections: Sequence[MesSettings], settings: Path | None) -> Config:
    """`config` with what is missing in the ``[[mes]]`` `sections`, which stand in the file `settings` if any."""
    known = {one.id for one in sections}
    named = {number for entry in config.machines if not entry.left_to_aggregator for number in entry.mes_id}
    unusable = [problem for one in sections for problem in _unusable(config, one, settings)]
    unused = [_unused(config, number, settings) for number in sorted(known - named)]
    machines = tuple(_examined(config, entry, known, settings) for entry in config.machines)
    return replace(config, machines=machines, problems=(*config.problems, *unused, *unusable))


def _examined(config: Config, entry: MachineEntry, known: set[int], settings: Path | None) -> MachineEntry:
    if entry.left_to_aggregator:
        return entry
    problems = tuple(
        Problem(
            "error",
            config.path,
            entry.line,
            entry.column,
            "mes_id",
            f"mes_id names MES {number}, of which the settings know nothing: it hears nothing of this machine",
            _advice(number, settings),
        )
        for number in entry.mes_id
        if number not in known
    )
    return replace(entry, problems=(*entry.problems, *problems)) if problems else entry


def _advice(number: int, settings: Path | None) -> str:
    where = f"add to {settings}" if settings else "write a settings file, and give it with --settings; in it"
    return (
        f"{where} a section [[mes]] with id = {number}, url, service_id and token_file, or take {number} out of mes_id;"
        " the settings.sample.toml that comes with the bridge shows one"
    )


def _unused(config: Config, number: int, settings: Path | None) -> Problem:
    return Problem(
        "warning",
        settings or config.path,
        None,
        None,
        None,
        f"no machine of {config.path} is reported to MES {number}",
        f"put {number} into the mes_id of a machine, or take its section [[mes]] out",
    )


def _unusable(config: Config, section: MesSettings, settings: Path | None) -> Iterator[Problem]:
    if not any((section.ca_file, section.client_certificate_file)):
        return
    from bridge.mes import MesError  # takes a while, and few sections name such files
    from bridge.mes.tls import context_of

    try:
        context_of(section)
    except MesError as error:
        what, _, advice = str(error).partition("; ")
        yield Problem(
            "error", settings or config.path, None, None, None, f"{what}: this MES hears nothing", advice
        )
