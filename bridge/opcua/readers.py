"""For whom a request is served, where what is found depends on it.

In: the session whose request begins. Out: that session, and what was made for this one request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from asyncua import ua


class Reader(Protocol):
    """A session, as far as it matters for what it may see."""

    session_id: ua.NodeId

    @property
    def is_operator(self) -> bool: ...


class Reading:
    """One request of a reader; each value is made once for it, however often the request names its node."""

    __slots__ = ("made", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.made: dict[Any, Any] = {}


READING: ContextVar[Reading | None] = ContextVar("reading", default=None)
"""The request that is being served; None, for the server itself, belongs to nobody."""


@contextmanager
def read_by(reader: Reader) -> Iterator[None]:
    """What is looked up meanwhile is for this reader."""
    token = READING.set(Reading(reader))
    try:
        yield
    finally:
        READING.reset(token)
