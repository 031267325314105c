"""Each machine as an `am:AdditiveManufacturingType` object, as umati's clients expect it (OPC 40540, on OPC 40501-1).

In flow machines and their transitions; out flow nodes, values and events of the OPC UA server in `bridge.opcua`.
What is shown and what feeds it stands in ``docs/address-space.md``.
"""

from bridge.umati.server import MachineIdentity, UmatiServer

__all__ = ["MachineIdentity", "UmatiServer"]
