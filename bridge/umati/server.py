"""The machines on the OPC UA server.

In flow machines as they are added, and every transition after that; out flow written values, events, and the address
that clients use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

import bridge
from bridge.machine import Machine, Transition
from bridge.occupancy import PRODUCT_URI
from bridge.opcua import BuildInfo, Instance, Limits, OpcUaServer, Role, Template, TrustList, Users
from bridge.opcua.counts import Load
from bridge.opcua.names import escaped
from bridge.settings import FeedstockSettings, IdentificationSettings, OpcUaSettings
from bridge.state import PKI
from bridge.umati import job_management, template
from bridge.umati.events import Message, messages
from bridge.umati.feedstock import Feedstock
from bridge.umati.identification import Identification, identify
from bridge.umati.job_management import JobManagement, StatusEvent
from bridge.umati.job_orders import FeedstockOf, JobOrders
from bridge.umati.part import Part
from bridge.umati.production_plan import ProductionPlan
from bridge.umati.profile import Profile, feedstock_path, profile_of, refitted
from bridge.umati.projection import Projection, nameplate
from bridge.umati.readings import Reading
from bridge.umati.stacklight import Stacklight
from bridge.wire import utc_now

log = structlog.get_logger(__name__)

MACHINES_FOLDER = ("mach", 1001)
NOTIFICATION_EVENT_TYPE = ("mt", 35)
ALERT_TYPE = ("mt", 39)
ALERT_FIELDS: Mapping[str, Any] = {
    "ConditionClassId": ua.NodeId(ua.Int32(ObjectIds.ProcessConditionClassType)),
    "ConditionClassName": ua.LocalizedText("ProcessConditionClassType"),
    "ConditionName": "Alert",
    "BranchId": ua.NodeId(),
    "Retain": False,
    "EnabledState": ua.LocalizedText("Enabled"),
    "EnabledState/Id": True,
    "ActiveState": ua.LocalizedText("Inactive"),
    "ActiveState/Id": False,
    "AckedState": ua.LocalizedText("Acknowledged"),
    "AckedState/Id": True,
    "InputNode": ua.NodeId(),
    "SuppressedOrShelved": False,
    "Quality": ua.StatusCode(),
    "LastSeverity": 0,
    "Comment": ua.LocalizedText(""),
    "ClientUserId": "",
}
"""An alert is told once: OPC 40501-1 makes it a condition (OPC 10000-9), but nobody can acknowledge or retain it."""
ALERT_TIMES = ("Quality/SourceTimestamp", "LastSeverity/SourceTimestamp", "Comment/SourceTimestamp")


@dataclass(frozen=True, slots=True)
class MachineIdentity:
    """What the configuration says of a machine: its name, if any, OctoPrint's address, its nameplate and feedstock."""

    custom_name: str | None
    url: str
    settings: IdentificationSettings
    feedstock: tuple[FeedstockSettings, ...] = ()


@dataclass(slots=True)
class _Served:
    """A machine on the server, as its nodes show it."""

    identity: MachineIdentity
    machine: Machine
    profile: Profile
    identification: Identification
    feedstock: Feedstock
    instance: Instance


class UmatiServer:
    """Owns the OPC UA server. Users are kept in `state_folder`/users.json, certificates in `state_folder`/pki."""

    def __init__(self, settings: OpcUaSettings, state_folder: Path) -> None:
        self._settings = settings
        self._users = Users(state_folder / "users.json")
        self._server = OpcUaServer(
            host=settings.host,
            port=settings.port,
            instance_namespace_uri=settings.instance_namespace,
            application_name=settings.application_name,
            certificate_folder=state_folder / PKI,
            users=self._users,
            trust=TrustList(
                state_folder / PKI,
                accept_any=settings.trust == "any",
                remedy="if you know this client: `mesbridge trust accept {id}`",
            ),
            anonymous=settings.anonymous,
            anonymous_role=Role(settings.anonymous_role),
            activation_timeout=settings.activation_timeout,
            announced_host=settings.announced_host,
            min_publishing_interval=settings.minimum_publishing_interval,
            limits=Limits(**asdict(settings.limits)),
            type_dictionaries=settings.type_dictionaries,
            build_info=BuildInfo(
                product_uri=PRODUCT_URI,
                manufacturer="MESBridge",
                product="MESBridge",
                version=bridge.__version__,
            ),
        )
        self._projection = Projection(self._server.node_id, self._server.transitions)
        self._jobs = JobManagement(JobOrders(self._server.node_id))
        self._job_status_event = self._server.derive_event_type(
            "JobOrderStatusEventType", self._server.node_id(*job_management.STATUS_EVENT_TYPE)
        )
        self._parts: list[Part] = []
        if settings.stacklight:
            self._parts.append(Stacklight(self._server.node_id))
        if settings.production_plan:
            self._parts.append(ProductionPlan(self._server.node_id))
        self._templates: WeakValueDictionary[Profile, Template] = WeakValueDictionary()  # those in use
        self._served: dict[str, _Served] = {}

    @property
    def endpoint_url(self) -> str:
        """The address of the server, with a host name that other computers can use."""
        return self._server.endpoint_url

    @property
    def session_count(self) -> int:
        """How many clients are there."""
        return self._server.session_count

    def endpoint_url_of(self, machine_id: str) -> str:
        """The address at which the machine is shown: that of its own port if it has one, else the server's."""
        return self._server.endpoint_url_of(machine_id)

    @property
    def load(self) -> Load:
        """How much the server does for its clients."""
        return self._server.load

    @property
    def listens(self) -> bool:
        """Whether clients can connect."""
        return self._server.listens

    def give_port(self, machine_id: str, port: int | None) -> None:
        """Show the machine on a port of its own, not on the common one, or with None on that; before it is added,
        and after `open_port` once the server is started."""
        self._server.give_port(machine_id, port)

    @property
    def own_ports(self) -> frozenset[int]:
        """The ports for machines of their own on which clients can connect."""
        return self._server.own_ports

    async def open_port(self, port: int) -> None:
        """Listen on a port for machines of its own. Raises `bridge.opcua.AddressUnavailable`."""
        await self._server.open_port(port)

    async def close_unused_ports(self) -> None:
        """Listen no longer on ports on which no machine is shown any more; their clients' connections end."""
        await self._server.close_unused_ports()

    async def start(self) -> None:
        """Listen. Raises `bridge.opcua.OpcUaError`, also for a users file that cannot be used."""
        if not self._settings.anonymous and not self._users.names():
            log.warning(
                "nobody can log in to OPC UA, since there is no user: add one with `mesbridge user add NAME`;"
                " no restart is needed",
                users=str(self._users.path),
            )
        await self._server.start()

    async def stop(self) -> None:
        """Close all sessions and stop listening."""
        await self._server.stop()

    def add_machine(self, machine_id: str, identity: MachineIdentity, machine: Machine) -> None:
        """Serve `machine` under this id, which becomes its NodeId; before or after `start`."""
        self._served[machine_id] = self._serve(machine_id, identity, machine, utc_now())

    def change_machine(self, machine_id: str, identity: MachineIdentity) -> None:
        """Show the machine as the configuration has it now. Its nodes stay, unless its feedstock is another."""
        served, time = self._served[machine_id], utc_now()
        if served.identity.feedstock != identity.feedstock:
            self.remove_machine(machine_id)
            self.add_machine(machine_id, identity, served.machine)
            return
        served.identity = identity
        self._show_nameplate(machine_id, served, served.machine, time)

    def remove_machine(self, machine_id: str) -> None:
        """Serve the machine no longer."""
        del self._served[machine_id]
        self._server.remove_instance(machine_id)

    def node_id(self, machine_id: str) -> str:
        """The machine's NodeId as any client can resolve it, whatever the namespace's index."""
        uri = self._settings.instance_namespace.replace("%", "%25").replace(";", "%3B")  # OPC 10000-6, 5.1.12
        return f"nsu={uri};s={escaped(self._served[machine_id].instance.name)}"

    def handle(self, transition: Transition) -> None:
        """Show what `transition` changed. Those of machines that are not served are left alone."""
        served = self._served.get(transition.record.machine)
        if served is None:
            return
        # What is shown counts, should an earlier transition have failed half way.
        transition = replace(transition, before=served.machine)
        before, after = transition.before, transition.after
        if (
            before.printer is not after.printer
            or before.heaters.keys() != after.heaters.keys()
            or before.spools.keys() != after.spools.keys()
        ):
            self._refit(transition.record.machine, served, transition)
        instance = served.instance
        feedstock = _feedstock_of(instance)
        for path, reading in chain(
            self._projection.changes(before, transition, served.profile),
            self._jobs.changes(transition, feedstock),
            served.feedstock.changes(transition),
            *(part.changes(transition) for part in self._parts),
        ):
            instance.write(path, *reading)
        served.machine = after
        if transition.changes and self._server.is_listened_to:
            time = transition.record.time
            for event in self._jobs.events(transition, feedstock):
                self._emit_job_status(instance, event, time)
            for message in messages(transition):
                self._emit(instance, message, time)

    def _refit(self, machine_id: str, served: _Served, transition: Transition) -> None:
        """Fit the machine's nodes to what has become known of its printer; those that stay are the same ones."""
        after, time, instance = transition.after, transition.record.time, served.instance
        now = self._show_nameplate(machine_id, served, after, time)
        profile = refitted(served.profile, served.machine, after, served.feedstock.tools(after))
        if profile != served.profile:
            instance.refit(self._template(profile))
            if profile.feedstock and profile.feedstock != served.profile.feedstock:
                path, version = served.feedstock.version(time)
                instance.write(path, *version)
            served.profile = profile
            readings = self._whole(instance, after, profile, now, served.feedstock, time)
            for path in instance.unwritten():
                instance.write(path, *readings[path])
            log.info(
                "the machine has other nodes now",
                machine=machine_id,
                heaters=profile.heaters,
                feedstock=profile.feedstock,
            )

    def _show_nameplate(
        self, machine_id: str, served: _Served, machine: Machine, time: datetime
    ) -> Identification:
        """Write what has changed of it; returns what it is now."""
        was, now = served.identification, self._identify(machine_id, served.identity, machine)
        if now.component_name != was.component_name:
            served.instance.rename(now.component_name)
        shown = dict(nameplate(was, time))
        for path, reading in nameplate(now, time):
            if reading != shown[path]:
                served.instance.write(path, *reading)
        served.identification = now
        return now

    def _serve(
        self, machine_id: str, identity: MachineIdentity, machine: Machine, since: datetime
    ) -> _Served:
        feedstock = Feedstock(machine_id, identity.feedstock)
        profile = profile_of(machine, feedstock.tools(machine))
        identification = self._identify(machine_id, identity, machine)
        instance = self._server.add_instance(
            machine_id,
            identification.component_name,
            self._template(profile),
            parent=self._server.node_id(*MACHINES_FOLDER),
        )
        readings = self._whole(instance, machine, profile, identification, feedstock, since)
        for path, reading in readings.items():
            instance.write(path, *reading)
        return _Served(identity, machine, profile, identification, feedstock, instance)

    def _whole(
        self,
        instance: Instance,
        machine: Machine,
        profile: Profile,
        identification: Identification,
        feedstock: Feedstock,
        since: datetime,
    ) -> dict[str, Reading]:
        return self._projection.whole(machine, profile, identification, since) | dict(
            chain(
                self._jobs.whole(machine, since, _feedstock_of(instance)),
                feedstock.whole(machine, since),
                *(part.whole(machine, since) for part in self._parts),
            )
        )

    def _template(self, profile: Profile) -> Template:
        known = self._templates.get(profile)
        if known is None:
            known = self._templates[profile] = template.build(
                self._server, profile, [part.nodes for part in self._parts]
            )
            known.on_call(job_management.BY_ID, self._by_id, for_observers=True)
            known.on_call(job_management.BY_STATE, self._by_state, for_observers=True)
        return known

    async def _by_id(self, instance: Instance, job_order_id: ua.Variant) -> ua.CallMethodResult:
        machine = self._served[instance.name].machine
        return self._jobs.by_id(machine, _feedstock_of(instance), job_order_id.Value)

    async def _by_state(self, instance: Instance, states: ua.Variant) -> ua.CallMethodResult:
        machine = self._served[instance.name].machine
        return self._jobs.by_state(machine, _feedstock_of(instance), states.Value)

    def _identify(self, machine_id: str, identity: MachineIdentity, machine: Machine) -> Identification:
        return identify(machine_id, identity.custom_name, identity.url, identity.settings, machine.printer)

    def _emit_job_status(self, instance: Instance, event: StatusEvent, time: datetime) -> None:
        fields = {**event.fields, "Message": ua.LocalizedText(event.text), "Severity": event.severity}
        self._server.emit_event(
            instance,
            ("", *job_management.NOTIFIERS),
            self._job_status_event,
            fields,
            source=job_management.RESULTS,
            source_time=time,
        )

    def _emit(self, instance: Instance, message: Message, time: datetime) -> None:
        fields: dict[str, Any] = {"Message": ua.LocalizedText(message.text), "Severity": message.severity}
        if message.alert:
            event_type, fields = ALERT_TYPE, {**ALERT_FIELDS, **fields, "ErrorCode": message.name}
            fields |= dict.fromkeys(ALERT_TIMES, time)
        else:
            event_type, fields = NOTIFICATION_EVENT_TYPE, {**fields, "Identifier": message.name}
        self._server.emit_event(
            instance, template.NOTIFIERS, self._server.node_id(*event_type), fields, source_time=time
        )


def _feedstock_of(instance: Instance) -> FeedstockOf:
    """Where the machine shows what a tool is fed with, if it does."""

    def find(tool: str) -> ua.NodeId | None:
        path = feedstock_path(tool)
        return instance.node_id(path) if path in instance.template.paths else None

    return find
