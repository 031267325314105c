"""Reports to MES instances: transitions of the machines in, requests of ``docs/mes-api.yaml`` out."""

from bridge.mes.sink import MesSink, Registration
from bridge.mes.states import DeliveryLoad, DeliveryState, MachineState
from bridge.mes.store import MesError
from bridge.mes.trouble import Pace

__all__ = ["DeliveryLoad", "DeliveryState", "MachineState", "MesError", "MesSink", "Pace", "Registration"]
