"""The layer that is being printed, as the plugin DisplayLayerProgress tells it.

OctoPrint 1.11 and 2.0 know no layers themselves, nor does their analysis of a file. In flow that plugin's
payloads, whatever they hold; out flow numbers for the wire's ``progress``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYER_CHANGED = "DisplayLayerProgress_layerChanged"
"""The one event of DisplayLayerProgress that comes once a layer; the others come with each move or percent."""


class Layers:
    """Follows one print: `current`, from 1, of `total`; each None while unknown.

    DisplayLayerProgress repeats the slicer's numbers, in texts, and as the total the last one. Cura counts from 0,
    others from 1, so a print that shows a layer 0 is counted from there.
    """

    def __init__(self) -> None:
        self._layer: int | None = None
        self._last: int | None = None
        self._counts_from_0 = False

    def note(self, payload: Mapping[str, Any]) -> None:
        """Take a `LAYER_CHANGED`; what is no layer in it counts as unknown."""
        self._layer = _whole(payload.get("currentLayer"))
        self._last = _whole(payload.get("totalLayer"))
        self._counts_from_0 = self._counts_from_0 or self._layer == 0

    @property
    def current(self) -> int | None:
        return self._from_1(self._layer)

    @property
    def total(self) -> int | None:
        if self._last is None or self._layer is None or self._last < self._layer:
            return None
        return self._from_1(self._last)

    def _from_1(self, number: int | None) -> int | None:
        return None if number is None else number + self._counts_from_0


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    return None
