"""What the two ends of the chain show: an OPC UA client's view and the MES's view of the one machine.

In flow addresses; out flows what each side says now, and how long after the printer's event it said so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.common.subscription import DataChangeNotificationHandler
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

PUBLISHING_INTERVAL_MS = 10
MACHINERY = "http://opcfoundation.org/UA/Machinery/"

ITEM_STATE = "MachineryBuildingBlocks.MachineryItemState.CurrentState"
PROGRAM_STATE = "Production.ActiveProgram.State.CurrentState"
PROGRAM_NAME = "Production.ActiveProgram.Name"
PROGRESS = "Production.ActiveProgram.Progress"
_WATCHED = (ITEM_STATE, PROGRAM_STATE, PROGRAM_NAME, PROGRESS)
HEATERS = {"tool0": "Tool 0", "bed": "Bed"}
"""Those of the virtual printer: OctoPrint's names and the names of their nodes."""
_HEATER = "Monitoring.Process.{}.AnalogSignal"


@dataclass(slots=True)
class OpcUaView(DataChangeNotificationHandler):
    """A client of its own, with a certificate, a password and one subscription.

    `latencies_ms` holds, for every notification of a change, the time from the value's source timestamp,
    which the plugin made at the printer's event, to its arrival here.
    """

    endpoint_url: str
    user: str
    password: str
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    seen_at: dict[str, datetime] = field(default_factory=dict)
    source_time: dict[str, datetime] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    _client: Client | None = None
    _settled: bool = False

    async def connect(self) -> None:
        """Subscribe to the machine's states and to `HEATERS`."""
        certificate, key = self.folder / "client.der", self.folder / "client.pem"
        uri = "urn:mesbridge:demo-client"
        await setup_self_signed_certificate(
            key,
            certificate,
            uri,
            "localhost",
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "demo client"},
        )
        client = Client(self.endpoint_url)
        client.application_uri = uri
        await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
        client.set_user(self.user)
        client.set_password(self.password)
        await client.connect()
        self._client = client
        machines = client.get_node(ua.NodeId(1001, await client.get_namespace_index(MACHINERY)))
        (machine,) = await machines.get_children(refs=ua.ObjectIds.Organizes)
        wanted = [*_WATCHED, *(_HEATER.format(name) for name in HEATERS.values())]
        root = machine.nodeid
        nodes = [
            client.get_node(ua.NodeId(f"{root.Identifier}.{path}", root.NamespaceIndex)) for path in wanted
        ]
        subscription = await client.create_subscription(PUBLISHING_INTERVAL_MS, self)
        await subscription.subscribe_data_change(nodes, queuesize=10)
        self._settled = True

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Called by the client's library for each notification."""
        now = datetime.now(UTC)
        path = str(node.nodeid.Identifier).partition(".")[2]
        source = data.monitored_item.Value.SourceTimestamp
        self.values[path] = value.Text if isinstance(value, ua.LocalizedText) else value
        self.seen_at[path] = now
        if source is None:
            return
        self.source_time[path] = source = source if source.tzinfo else source.replace(tzinfo=UTC)
        if self._settled:
            self.latencies_ms.append((now - source).total_seconds() * 1000)

    @property
    def item_state(self) -> str:
        return str(self.values.get(ITEM_STATE, ""))

    @property
    def program_state(self) -> str:
        return str(self.values.get(PROGRAM_STATE, ""))

    def heater(self, name: str) -> Any:
        """The temperature of a heater by the name of its node, in °C; None before it is known."""
        return self.values.get(_HEATER.format(name))

    async def disconnect(self) -> None:
        """Close the session, when there is one."""
        if self._client is not None:
            client, self._client, self._settled = self._client, None, False
            try:
                async with asyncio.timeout(5):
                    await client.disconnect()
            except (OSError, TimeoutError, ua.UaError):
                return  # the server went first
