"""The kinds of MES that can be told: one module for each, and its name in the settings."""

from __future__ import annotations

from collections.abc import Callable

from bridge.mes.adapters.cloudevents import CloudEvents
from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Adapter
from bridge.settings import MesSettings

_ADAPTERS: dict[str, Callable[[MesSettings, str], Adapter]] = {
    "contract": Contract,
    "cloudevents": CloudEvents,
}


def adapter_for(settings: MesSettings, bridge_id: str) -> Adapter:
    """The adapter that `settings` name, for the bridge with this id."""
    return _ADAPTERS[settings.adapter](settings, bridge_id)
