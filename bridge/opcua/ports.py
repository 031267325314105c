"""Ports on which only some instances exist, before one address space.

In: which instances have a port of their own. Out: a scope for each port, that is, the instances whose nodes its
connections find. This is a matter of order, not of secrecy: who may log in may do so on every port.
"""

from collections.abc import Mapping
from contextvars import ContextVar

MAIN = 0
EVERYWHERE = -1


class Ports:
    """Each instance is on one port: its own, or the main one with all others that have none."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def give(self, name: str, port: int) -> None:
        """Let the instance `name` be on `port`, or EVERYWHERE; several may share one."""
        self._of[name] = port

    def take(self, name: str) -> None:
        """Let the instance `name` be on the common port."""
        self._of.pop(name, None)

    def of(self, name: str) -> int:
        """The port of an instance: MAIN if it has none of its own, or EVERYWHERE."""
        return self._of.get(name, MAIN)

    def names(self) -> Mapping[int, list[str]]:
        """The instances on each port that is not the main one."""
        found: dict[int, list[str]] = {}
        for name, port in self._of.items():
            if port != EVERYWHERE:
                found.setdefault(port, []).append(name)
        return found

    def give_up(self, port: int) -> None:
        """Bring the instances of a port back to the main one."""
        self._of = {name: own for name, own in self._of.items() if own != port}


class Scope:
    """The instances on one port, by name."""

    __slots__ = ("_port", "_ports")

    def __init__(self, ports: Ports, port: int) -> None:
        self._ports = ports
        self._port = port

    def __contains__(self, name: str) -> bool:
        return self._ports.of(name) in (self._port, EVERYWHERE)


SCOPE: ContextVar[Scope | None] = ContextVar("scope", default=None)
"""What the request that is being served may find; None, for the server itself, is everything."""
