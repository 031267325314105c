"""What `mesbridge mes` may ask of the running bridge, by the path of `bridge.control`: JSON in, JSON out.

``mes/status`` tells how it stands with each MES instance and each machine there, ``mes/retry`` sends refused messages
once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from bridge import wire
from bridge.control import Command, Refused
from bridge.mes.sink import MesSink
from bridge.mes.states import DeliveryState, MachineState
from bridge.mes.store import MesError

_MOST_REFUSALS = 100


def commands(mes: MesSink, names: Callable[[], Mapping[str, str]]) -> dict[str, Command]:
    """The commands. `names` tells what people call the machines that are served, by machine id."""

    def look(known: Mapping[str, str]) -> list[dict[str, Any]]:
        return [_shown(state, known, mes) for state in mes.states()]

    async def status(_: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"mes": await asyncio.to_thread(look, names())}
        except MesError as error:
            raise Refused(str(error)) from None

    async def retry(values: Mapping[str, Any]) -> dict[str, Any]:
        number, machine = values.get("mes"), values.get("machine")
        try:
            states = await asyncio.to_thread(mes.states)
        except MesError as error:
            raise Refused(str(error)) from None
        known = [state.mes for state in states]
        if number is not None and number not in known:
            raise Refused(f"there is no MES {number} in the settings; there are: {_list(known)}")
        if machine is not None and not any(machine in state.machines for state in states):
            there = _named(names(), machine)
            if len(there) != 1:
                raise Refused(_which(machine, there))
            machine = there[0]
        chosen = known if number is None else [number]
        try:
            counts = {str(one): await asyncio.to_thread(mes.retry, one, machine) for one in chosen}
        except MesError as error:
            raise Refused(str(error)) from None
        return {"retried": counts}

    return {"mes/status": status, "mes/retry": retry}


def _shown(state: DeliveryState, names: Mapping[str, str], mes: MesSink) -> dict[str, Any]:
    refusals = mes.refusals(state.mes, _MOST_REFUSALS) if state.refused else []
    return {
        "mes": state.mes,
        "url": state.url,
        "trouble": state.trouble,
        "trouble_since": _time(state.trouble_since),
        "waiting": state.waiting,
        "refused": state.refused,
        "machines": [_machine(one, names.get(one), at) for one, at in state.machines.items()],
        "refusals": [
            {
                "machine": one.machine,
                "name": names.get(one.machine),
                "key": one.key,
                "reason": one.reason,
                "time": _time(one.time),
            }
            for one in refusals
        ],
    }


def _machine(machine: str, name: str | None, at: MachineState) -> dict[str, Any]:
    return {
        "machine": machine,
        "name": name,
        "activation": at.activation,
        "told": _time(at.told.time) if at.told else None,
        "status": at.told.status if at.told else None,
        "waiting": at.waiting,
        "refused": at.refused,
        "held": at.held,
    }


def _named(names: Mapping[str, str], wanted: str) -> list[str]:
    """The machines with this id or, if there is none, this name."""
    return [wanted] if wanted in names else sorted(one for one, name in names.items() if name == wanted)


def _which(machine: str, there: list[str]) -> str:
    if there:
        return f"several machines are called {machine!r}: give one of the ids {_list(there)}"
    return f"no machine {machine!r} is served: give its id or its name as in `mesbridge mes status`"


def _list(values: list[Any]) -> str:
    return ", ".join(str(one) for one in values) or "none"


def _time(moment: datetime | None) -> str | None:
    return wire.format_time(moment) if moment is not None else None
