"""The overview, kept up to date for all who look. In flow hints of what may have changed; out flow the lines that have,
as JSON text.

A line is made once for each change, however many pages are open; and only when somebody looks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from bridge.changes import Changes
from bridge.machine import Transition
from bridge.web.overview import Facts, row

_ORDER, _NOTICES, _FLEET = "\0order", "\0notices", "\0fleet"


class Board:
    """A sink. `known` gives the ids of all machines, `look` what is known of one."""

    def __init__(self, known: Callable[[], Iterable[str]], look: Callable[[str], Facts]) -> None:
        self._known = known
        self._look = look
        self._changes = Changes()
        self._rows: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._order: list[str] = []
        self._notices: list[Any] = []
        self._fleet: dict[str, Any] = {}

    def handle(self, transition: Transition) -> None:
        """The machine may look otherwise now."""
        self._dirty.add(transition.record.machine)

    def touch(self, machines: Iterable[str]) -> None:
        """Something else of these machines may have changed."""
        self._dirty.update(machines)

    def update(self, fleet: dict[str, Any], notices: list[Any]) -> None:
        """Work out what has changed."""
        order = list(self._known())
        if order != self._order:
            self._dirty.update(set(order) - set(self._order))
            for gone in set(self._order) - set(order):
                self._rows.pop(gone, None)
            self._order = order
            self._changes.note(_ORDER)
        for machine in self._dirty.intersection(order):
            made = _dump(row(self._look(machine)))
            if self._rows.get(machine) != made:
                self._rows[machine] = made
                self._changes.note(machine)
        self._dirty.clear()
        if notices != self._notices:
            self._notices = notices
            self._changes.note(_NOTICES)
        if fleet != self._fleet:
            self._fleet = fleet
            self._changes.note(_FLEET)

    def since(self, mark: str | None, now: str) -> str:
        """The JSON object of all that has changed after `mark`; what has not is null or left out."""
        after = self._changes.after
        rows = [self._rows[machine] for machine in self._order if after(mark, machine)]
        return (
            f'{{"mark":{_dump(self._changes.mark)},"now":{_dump(now)},'
            f'"order":{_dump(self._order) if after(mark, _ORDER) else "null"},'
            f'"fleet":{_dump(self._fleet) if after(mark, _FLEET) else "null"},'
            f'"notices":{_dump(self._notices) if after(mark, _NOTICES) else "null"},'
            f'"machines":[{",".join(rows)}]}}'
        )


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
