"""`mesbridge mes`: how it stands with each MES instance, and what can be done about messages it refused."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bridge import control, settings
from bridge.hints import with_settings
from bridge.settings import SettingsError
from bridge.tables import cell, lines

_REFUSALS_SHOWN = 5


def run(options: argparse.Namespace) -> int:
    """Carry out one action. 0 when done, 1 when refused or not possible, 2 when the settings cannot be used."""
    try:
        chosen = settings.load(options.settings)
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    try:
        if options.action == "retry":
            told = _retry(chosen.bridge.state_folder, options)
        else:
            told = _status(chosen.bridge.state_folder, options)
    except control.ControlError as error:
        print(with_settings(f"mesbridge: {error}", options.settings), file=sys.stderr)
        return 1
    print(with_settings("\n".join(told), options.settings))
    return 0


def _retry(folder: Any, options: argparse.Namespace) -> list[str]:
    found = control.ask(folder, "mes/retry", mes=options.mes, machine=options.machine)["retried"]
    return [
        f"MES {mes}: {_count(count, 'message')} sent again; what comes of it: `mesbridge mes status`"
        if count
        else f"MES {mes}: nothing was refused"
        for mes, count in found.items()
    ]


def _status(folder: Any, options: argparse.Namespace) -> list[str]:
    found = control.ask(folder, "mes/status")
    if options.json:
        return [json.dumps(found, indent=2)]
    if not found["mes"]:
        return ["The settings have no section [[mes]]: no MES is told of the machines."]
    return list(report(found["mes"]))


def report(instances: list[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of `mes status`: the instances, then their machines, then what a person has to look at."""
    yield from lines(
        ("MES", "URL", "WAITING", "REFUSED", "STATE"),
        [
            (str(mes["mes"]), cell(mes["url"], 60), str(mes["waiting"]), str(mes["refused"]), _state(mes))
            for mes in instances
        ],
    )
    machines = [(mes, one) for mes in instances for one in mes["machines"]]
    if machines:
        yield ""
        yield from lines(
            ("MACHINE", "MES", "REGISTERED", "LAST TOLD", "STATUS", "WAITING", "REFUSED"),
            [
                (
                    cell(one["name"] or one["machine"]),
                    str(mes["mes"]),
                    one["activation"] or "not yet",
                    _clock(one["told"]) if one["told"] else "never",
                    one["status"] or "-",
                    str(one["waiting"]),
                    str(one["refused"]),
                )
                for mes, one in sorted(machines, key=lambda pair: (_name(pair[1]).lower(), pair[0]["mes"]))
            ],
        )
    remarks = [remark for mes in instances for remark in _remarks(mes)]
    if remarks:
        yield ""
        yield from remarks


def _remarks(mes: Mapping[str, Any]) -> Iterator[str]:
    where = f"MES {mes['mes']}"
    for one in mes["machines"]:
        if one["held"]:
            yield f"{where}, {_name(one)}: messages wait, and are sent again: {cell(one['held'], 200)}"
        if one["activation"] == "pending":
            yield f"{where}, {_name(one)}: waits for a person to activate it there"
        if one["activation"] == "refused":
            yield f"{where}, {_name(one)}: is refused there; have it activated, or take {mes['mes']} out of its mes_id"
    for one in mes["refusals"][-_REFUSALS_SHOWN:]:
        yield f"{where}, {_name(one)}: refused at {_clock(one['time'])}: {cell(one['reason'], 200)} ({one['key']})"
    if mes["refused"]:
        yield (
            f"{where}: {_count(mes['refused'], 'message')} refused; once the cause is gone:"
            f" `mesbridge mes retry --mes {mes['mes']}`"
        )


def _state(mes: Mapping[str, Any]) -> str:
    if mes["trouble"] is None:
        return "is told"
    return f"cannot be told since {_clock(mes['trouble_since'])}: {cell(mes['trouble'], 200)}"


def _name(one: Mapping[str, Any]) -> str:
    return cell(one["name"] or one["machine"])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _clock(time_text: str) -> str:
    """A time of the bridge as this computer's people read it."""
    return f"{datetime.fromisoformat(time_text).astimezone():%Y-%m-%d %H:%M:%S}"
