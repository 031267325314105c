"""What the observer tells and the outbox keeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class Occurrence(NamedTuple):
    """Something that happened, before it has a number: `time` is aware, `kind` and `data` are the wire's."""

    time: datetime
    kind: str
    data: Mapping[str, Any]
