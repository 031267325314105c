"""How it stands with a MES instance, for people and for monitors: values without any behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bridge.mes.store import Told


@dataclass(frozen=True, slots=True)
class MachineState:
    """How it stands with a machine at a MES instance: its `activation` once the MES has answered to its registration,
    what the MES took last, how many messages wait and are refused, and why they are `held` back, if they are."""

    activation: str | None
    told: Told | None
    waiting: int
    refused: int
    held: str | None


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How it stands with a MES instance: `trouble` in words and its begin, or None; counts of messages; and each
    machine, also those that are told of no more."""

    mes: int
    url: str
    trouble: str | None
    trouble_since: datetime | None
    waiting: int
    refused: int
    machines: Mapping[str, MachineState]


@dataclass(frozen=True, slots=True)
class DeliveryLoad:
    """A MES instance in figures: messages that wait and since when, messages refused, whether it can be
    told anything now, machines registered there, and requests since the start by what became of them."""

    mes: int
    waiting: int
    waits_since: datetime | None
    refused: int
    reachable: bool
    registered: int
    requests: Mapping[str, int]
