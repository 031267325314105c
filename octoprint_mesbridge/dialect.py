"""What is said to a bridge that is older than the plugin.

A bridge refuses a batch with a kind or a field that it does not know. In flows such a batch; out flows the same in
the words of MESBridge 0.2, before files, spools and layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge import wire

NEW_KINDS = frozenset({wire.FILES, wire.FEEDSTOCK})
_NEW_IN_PROGRESS = frozenset({"layer", "layers"})


def in_old_words(batch: wire.Batch) -> wire.Batch:
    """The batch without what is new; it covers the same numbers, so that nothing is taken for lost."""
    told = (one for one in batch.events if one.kind not in NEW_KINDS)
    return replace(batch, events=tuple(replace(one, data=_data(one.kind, one.data)) for one in told))


def _data(kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind == wire.PROGRESS:
        return {key: value for key, value in data.items() if key not in _NEW_IN_PROGRESS}
    if kind == wire.SNAPSHOT and data.get("progress") is not None:
        return {**data, "progress": _data(wire.PROGRESS, data["progress"])}
    return data
