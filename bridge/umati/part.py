"""A part of a machine: what its nodes need of the template, and how they are fed.

In flow machines and transitions; out flow readings by path. `bridge.umati.template` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from asyncua import ua

from bridge.machine import Machine, Transition
from bridge.opcua import Addition
from bridge.umati.readings import Write


@dataclass(frozen=True)
class Nodes:
    """What a part wants of the template; see `bridge.opcua.OpcUaServer.build_template`."""

    include: Sequence[str] = ()
    additions: Sequence[Addition] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    data_types: Mapping[str, ua.NodeId] = field(default_factory=dict)


class Part(Protocol):
    """A part that all machines have where a setting asks for it."""

    nodes: Nodes

    def whole(self, machine: Machine, since: datetime) -> Iterator[Write]:
        """Everything that is true of `machine`; `since` is the time of what has no time of its own."""

    def changes(self, transition: Transition) -> Iterator[Write]:
        """What `transition` made different."""
