"""The spools that are mounted, as the spool plugins of OctoPrint tell them.

Each of these plugins keeps in its settings which spool is selected for which tool, and fires an event when that
changes; more is public of none. SpoolManager's events also describe the spool. FilamentManager tells other plugins
nothing, and what Spoolman knows of a spool is had over the network alone: so of Spoolman's spools the identifier
is known, and of FilamentManager's nothing.

In flow those settings and payloads, whatever they hold; out flows the wire's ``feedstock``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from .records import apart, number, sound_text

GRAMS_STEP = 1.0
"""A smaller change of what remains on a spool is not worth a message."""

_MOST_TOOLS = 32
_MOST_SPOOLS = 256
_LONGEST = 512

Spool = dict[str, Any]


class SpoolPlugin(Protocol):
    """A plugin with the id `identifier`, whose setting `setting` says which spools are selected."""

    identifier: str
    setting: str
    events: frozenset[str]

    def selected(self, setting: Any) -> Iterator[tuple[int, str]]:
        """Tool and spool of each selection."""

    def described(self, payload: Mapping[str, Any]) -> Spool | None:
        """The spool that the payload of an event is about, if it says more than which one it is."""


class SpoolManager:
    """https://github.com/OllisGit/OctoPrint-SpoolManager: a list of numbers, by tool."""

    identifier = "SpoolManager"
    setting = "selectedSpoolsDatabaseIds"
    events = frozenset(
        f"plugin_spoolmanager_spool_{what}"
        for what in ("selected", "deselected", "weight_updated_after_print")
    )

    def selected(self, setting: Any) -> Iterator[tuple[int, str]]:
        for tool, value in enumerate(setting if isinstance(setting, list) else []):
            identifier = _identifier(value)
            if identifier is not None:
                yield tool, identifier

    def described(self, payload: Mapping[str, Any]) -> Spool | None:
        identifier = _identifier(payload.get("databaseId"))
        if identifier is None or "spoolName" not in payload:
            return None
        return {
            "identifier": identifier,
            "name": _text(payload.get("spoolName")),
            "material": _text(payload.get("material")),
            "manufacturer": None,
            "remaining": number(payload.get("remainingWeight"), -1e9, 1e9),
        }


class Spoolman:
    """https://github.com/mdziekon/octoprint-spoolman: an object by tool, of ``{"spoolId": text}``."""

    identifier = "Spoolman"
    setting = "selectedSpoolIds"
    events = frozenset({"plugin_Spoolman_spool_selected"})

    def selected(self, setting: Any) -> Iterator[tuple[int, str]]:
        for tool, value in setting.items() if isinstance(setting, Mapping) else ():
            index = str(tool)  # a number until the settings were read from the file again
            identifier = _identifier(value.get("spoolId")) if isinstance(value, Mapping) else None
            if identifier is not None and index.isascii() and index.isdigit() and len(index) <= 4:
                yield int(index), identifier

    def described(self, payload: Mapping[str, Any]) -> Spool | None:
        return None


PLUGINS: tuple[SpoolPlugin, ...] = (SpoolManager(), Spoolman())
"""Where several have a spool for the same tool, the first counts."""

EVENTS = frozenset().union(*(plugin.events for plugin in PLUGINS))


class Spools:
    """Remembers what events said of spools."""

    def __init__(self) -> None:
        self._described: dict[tuple[str, str], Spool] = {}

    def learn(self, event: str, payload: Mapping[str, Any]) -> None:
        for plugin in PLUGINS:
            spool = plugin.described(payload) if event in plugin.events else None
            if spool is not None:
                if len(self._described) >= _MOST_SPOOLS:
                    self._described.clear()
                self._described[plugin.identifier, spool["identifier"]] = spool

    def record(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What is mounted, from the settings of the plugins that are there, by their ids.

        Nothing without any: one may have been there before, and the bridge still know its spools.
        """
        tools: dict[str, Spool] = {}
        for plugin in PLUGINS:
            for tool, identifier in plugin.selected(settings.get(plugin.identifier)):
                if tool < _MOST_TOOLS:
                    spool = self._described.get((plugin.identifier, identifier)) or _unknown(identifier)
                    tools.setdefault(f"tool{tool}", spool)
        return {"tools": tools}


def feedstock_differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether another spool is mounted, or noticeably less is on one."""
    tools, before = new["tools"], old["tools"]
    return tools.keys() != before.keys() or any(_spools_differ(tools[name], before[name]) for name in tools)


def _spools_differ(new: Spool, old: Spool) -> bool:
    return apart(new["remaining"], old["remaining"], GRAMS_STEP) or any(
        new[key] != old[key] for key in new if key != "remaining"
    )


def _unknown(identifier: str) -> Spool:
    spool: Spool = dict.fromkeys(("name", "material", "manufacturer", "remaining"))
    return {"identifier": identifier, **spool}


def _identifier(value: Any) -> str | None:
    """Of a spool: a number or a text; some say -1 where none is selected."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value in (-1, "-1"):
        return None
    return _text(value)


def _text(value: Any) -> str | None:
    return None if value is None else sound_text(str(value)).strip()[:_LONGEST] or None
