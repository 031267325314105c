"""What the printer can print and what it prints with: its files and its spools, told where they differ.

In flow events that say that something may have changed, and what is there, asked of `Supplies`; out flow
occurrences. When to ask is the recorder's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from bridge import wire

from . import spools
from .occurrence import Occurrence
from .spools import Spools, feedstock_differs

FILE_EVENTS = frozenset({"UpdatedFiles", "MetadataAnalysisFinished"})
"""OctoPrint 1.11 and 2.0 fire the first after each event of a single file or folder: the others say no more."""


class Supplies(Protocol):
    """What can be asked about files and spools at the moment of asking."""

    def files(self) -> dict[str, Any]:
        """The wire's ``files``."""

    def spool_settings(self) -> Mapping[str, Any]:
        """By the ids of the spool plugins that are there, their settings about what is selected."""


class Stock:
    """Remembers what was told; `stale` are the kinds of which that may not be true any more."""

    events = FILE_EVENTS | spools.EVENTS

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._spools = Spools()
        self._told: dict[str, dict[str, Any]] = {}
        self._stale: set[str] = set()

    @property
    def stale(self) -> frozenset[str]:
        return frozenset(self._stale)

    def observe(self, name: str, payload: Any) -> None:
        """Note what the event `name` of OctoPrint, or of one of its plugins, is about."""
        if name in FILE_EVENTS:
            self._stale.add(wire.FILES)
        elif name in spools.EVENTS:
            self._spools.learn(name, payload if isinstance(payload, Mapping) else {})
            self._stale.add(wire.FEEDSTOCK)

    def tell_anew(self) -> None:
        """A snapshot says nothing of files and spools: they are to follow it."""
        self._told.clear()
        self._stale |= {wire.FILES, wire.FEEDSTOCK}

    def look(self, kind: str, moment: datetime) -> list[Occurrence]:
        """Ask about `kind`; it is told if it differs noticeably from what was told."""
        found = self._found(kind)
        self._stale.discard(kind)
        if not self._is_news(kind, found):
            return []
        self._told[kind] = found
        return [Occurrence(moment, kind, found)]

    def _found(self, kind: str) -> dict[str, Any]:
        if kind == wire.FILES:
            return self._supplies.files()
        return self._spools.record(self._supplies.spool_settings())

    def _is_news(self, kind: str, found: dict[str, Any]) -> bool:
        told = self._told.get(kind)
        if told is None:
            return True
        return feedstock_differs(found, told) if kind == wire.FEEDSTOCK else found != told
