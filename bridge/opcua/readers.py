"""For whom a request is served, where what is found depends on it.

In: the session whose request begins. Out: that session, and what was made for this one request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from asyncua import ua


class Reader(Protocol):
    """A session, as far as it matters for what it may see."""

    @property
    def is_operator(self) -> bool: ...
    @property
    def may_audit(self) -> bool: ...
    @property
    def is_encrypted(self) -> bool: ...

    def sees(self, session_id: ua.NodeId, user: str | None) -> bool: ...


class Nobody:
    """Sees nothing of sessions: what a monitored item finds, since it would go on after its user's role changed."""

    is_operator = False
    may_audit = False
    is_encrypted = False

    def sees(self, session_id: ua.NodeId, user: str | None) -> bool:
        """Whether the session with this id, of this user, is shown."""
        return False


NOBODY = Nobody()


class Reading:
    """One request of a reader; each value is made once for it, however often the request names its node."""

    __slots__ = ("_made", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._made: dict[Any, Any] | None = {}

    def value(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives; called anew once the request is done, should a task of it still go on."""
        if self._made is None:
            return make()
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def end(self) -> None:
        """The request is done."""
        self._made = None


READING: ContextVar[Reading | None] = ContextVar("reading", default=None)
"""The request that is being served; None, for the server itself, sees everything but what is made for a reader."""


@contextmanager
def read_by(reader: Reader) -> Iterator[None]:
    """What is looked up meanwhile is for this reader."""
    reading = Reading(reader)
    token = READING.set(reading)
    try:
        yield
    finally:
        READING.reset(token)
        reading.end()


def made_once(key: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives, called once for the present request."""
    reading = READING.get()
    return make() if reading is None else reading.value(key, make)
