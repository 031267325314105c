"""The OPC UA server: one object that ties the address space, its instances, security and asyncua together.

In: its settings, templates, instances, events. Out: a listening endpoint. See the package's docstring for how to
use it.
"""

import asyncio
import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from asyncua import Server, ua

from . import certificates, session_objects
from .audit import Audit
from .capabilities import capabilities
from .counts import Load
from .declarations import Addition, NameKey, Planner
from .errors import AddressUnavailable, InstanceError, TemplateError
from .events import SERVER, Event, EventTypes, base_fields
from .instances import Instance, Instances
from .internal import GuardedBinaryServer, LazyInternalServer
from .limits import Limits
from .logins import Logins
from .metadata import PERMISSIONS, NamespaceMetadata, namespace_metadata
from .model_changes import ModelChanges
from .ports import EVERYWHERE, MAIN, Ports, Scope
from .quiet import tame_asyncua
from .roles import show_roles
from .session_objects import SessionObjects
from .space import LazyAddressSpace
from .state_machines import StateTransition, transitions
from .subscriptions import items_of
from .template import Template, make_template
from .times import EPOCH, ticks_now, to_ticks
from .trust import TrustList
from .type_dictionaries import hide_type_dictionaries
from .typetable import TypeTable
from .users import Role, Users

log = structlog.get_logger(__name__)

SECURE = [
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
]
ACTIVATION_TIMEOUT = 30.0  # s
_LOOK_EVERY_S = 2.0
MIN_PUBLISHING_INTERVAL = 10.0  # ms
DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class BuildInfo:
    """What Server/ServerStatus/BuildInfo says (Part 5, 12.4)."""

    product_uri: str
    manufacturer: str
    product: str
    version: str
    build_number: str = ""
    build_date: datetime = EPOCH


class Namespaces(Mapping[str, int]):
    """Namespace indexes by prefix or URI; "own" is the namespace of the instances, "" the standard one."""

    def __init__(self, table: TypeTable, own_uri: str) -> None:
        self.uris = [*table.namespaces, own_uri]
        self.own = len(table.namespaces)
        self._indexes = {uri: index for index, uri in enumerate(self.uris) if uri}
        self._indexes |= {**table.prefixes, "own": self.own, "": 0}

    def __getitem__(self, key: str) -> int:
        return self._indexes[key]

    def __iter__(self) -> Any:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)

    def name(self, name: str) -> NameKey:
        """A browse name written with its prefix, or with none when it is of the standard namespace."""
        prefix, separator, rest = name.partition(":")
        if not separator:
            return 0, name
        index = int(prefix) if prefix.isdecimal() else self.get(prefix)
        if index is None or index >= len(self.uris) or not rest:
            raise TemplateError(
                f"{name!r}: unknown namespace prefix {prefix!r}; there are {', '.join(self.prefixes())}"
            )
        return index, rest

    def prefixes(self) -> list[str]:
        """The short names."""
        return [key for key, index in self._indexes.items() if key and key != self.uris[index]]


class OpcUaServer:
    """An OPC UA server of instances; see the package's docstring."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        instance_namespace_uri: str,
        application_name: str,
        certificate_folder: Path,
        users: Users,
        build_info: BuildInfo,
        anonymous: bool = False,
        anonymous_role: Role = Role.OBSERVER,
        trust: TrustList | None = None,
        activation_timeout: float = ACTIVATION_TIMEOUT,
        application_uri: str | None = None,
        announced_host: str | None = None,
        min_publishing_interval: float = MIN_PUBLISHING_INTERVAL,
        limits: Limits = DEFAULT_LIMITS,
        type_dictionaries: bool = True,
    ) -> None:
        tame_asyncua()
        self.host = host
        self.announced_host = announced_host
        self.port = port
        self.application_name = application_name
        self.application_uri = application_uri
        self.build_info = build_info
        self._certificate_folder = certificate_folder
        self._anonymous = anonymous
        table = TypeTable()
        table.register_data_types()
        self.namespaces = Namespaces(table, instance_namespace_uri)
        self.instances = Instances(self.namespaces.own)
        self.space = LazyAddressSpace(table, self.instances)
        if not type_dictionaries:
            hide_type_dictionaries(self.space)
        self._trust = trust or TrustList(certificate_folder)
        logins = Logins(users, anonymous, anonymous_role)
        self._iserver = LazyInternalServer(
            self.space, logins, anonymous, min_publishing_interval, limits, self._trust
        )
        self._iserver.max_pending_activation_seconds = activation_timeout
        self._min_publishing_interval = min_publishing_interval
        self.instances.space = self.space
        self._planner = Planner(self.space, self.namespaces.name)
        self._event_types = EventTypes(self.space, self._planner)
        self._iserver.audit = Audit(self._emit_audit, lambda: self.is_listened_to)
        self._server: Server | None = None
        self._ports = Ports()
        self._binaries: dict[int, GuardedBinaryServer] = {}
        self._watching: asyncio.Task[None] | None = None
        self._describe_namespace(instance_namespace_uri)
        show_roles(self.space)
        of_sessions = self.build_template(session_objects.TYPE)
        SessionObjects(self.instances, of_sessions, self._iserver.activated_sessions).serve()
        changes = ModelChanges(self.space, self.namespaces.own, self._emit_model_change)
        self.instances.model_changed = changes.tell

    @property
    def endpoint_url(self) -> str:
        """Where clients connect to; with the real port once started."""
        return self._url(self.port)

    @property
    def session_count(self) -> int:
        """How many sessions of clients there are in which a user is."""
        return len(self._iserver.activated_sessions())

    def endpoint_url_of(self, name: str) -> str:
        """Where clients connect to for this instance."""
        return self._url(max(self._ports.of(name), MAIN) or self.port)

    def _url(self, port: int) -> str:
        own = socket.gethostname() if self.host in certificates.WILDCARDS else self.host
        host = self.announced_host or own
        return f"opc.tcp://[{host}]:{port}/" if ":" in host else f"opc.tcp://{host}:{port}/"

    def give_port(self, name: str, port: int | None) -> None:
        """Show the instance `name` on `port` alone, where only instances with this port are, or with None on the main
        one; before `start`, or after `open_port` and before it is added.

        Should `start` find the port taken, it says so in the log and shows the instance on the common port.
        """
        if port is None or port == self.port or (self._binaries and port not in self._binaries):
            self._ports.take(name)
        else:
            self._ports.give(name, port)

    @property
    def own_ports(self) -> frozenset[int]:
        """The ports for instances of their own that are listened on; the main one is none of them."""
        return frozenset(self._binaries) - {MAIN}

    async def open_port(self, port: int) -> None:
        """Listen on another port, for instances that are to be given it; after `start`. Raises AddressUnavailable."""
        if self._server is not None and port != self.port and port not in self._binaries:
            await self._listen(port, self._bind(port), self._server._policies)

    async def close_unused_ports(self) -> None:
        """Listen no longer where no instance is; the connections there end."""
        used = self._ports.names()
        for port in [one for one in self._binaries if one != MAIN and one not in used]:
            await self._binaries.pop(port).end()

    def node_id(self, namespace: str, identifier: int | str) -> ua.NodeId:
        """A NodeId by namespace prefix or URI."""
        return ua.NodeId(identifier, self.namespaces[namespace])

    def transitions(self, machine_type: ua.NodeId) -> Mapping[tuple[ua.NodeId, ua.NodeId], StateTransition]:
        """The transitions of a type of state machines, by the NodeIds of the states they lead from and to."""
        return transitions(self.space, machine_type)

    def build_template(
        self,
        type_id: ua.NodeId,
        include: Iterable[str] = (),
        additions: Iterable[Addition] = (),
        constants: Mapping[str, Any] | None = None,
        notifiers: Iterable[str] = (),
        data_types: Mapping[str, ua.NodeId] | None = None,
        types: Mapping[str, ua.NodeId] | None = None,
    ) -> Template:
        """The template of instances of a type: all that is mandatory, and what is included and added.

        `include` and `additions` use browse paths; `constants` (values that are the same on all instances),
        `notifiers` (objects to whose events clients may subscribe), `data_types` and `types` (narrower than
        declared) use paths. TemplateError for what does not exist or fit.
        """
        plan = self._planner.plan(type_id, include, additions, types)
        return make_template(self.space, plan, constants or {}, notifiers, data_types or {})

    def add_instance(self, name: str, display_name: str, template: Template, parent: ua.NodeId) -> Instance:
        """A new instance below a folder; InstanceError when the name is taken."""
        return self.instances.add(name, display_name, template, parent)

    def remove_instance(self, name: str) -> None:
        """Take an instance away; its monitored items get BadNodeIdUnknown."""
        self.instances.remove(name)

    def derive_event_type(self, name: str, supertype: ua.NodeId) -> ua.NodeId:
        """A type of events in the namespace of the instances, with the fields of its supertype."""
        return self._event_types.derive(name, supertype, self.namespaces.own)

    def emit_event(
        self,
        instance: Instance,
        notifiers: Iterable[str],
        event_type: ua.NodeId,
        fields: Mapping[str, Any],
        source: str = "",
        source_time: datetime | int | None = None,
    ) -> None:
        """Send an event to the subscribers of these objects and of the Server object, after all earlier values.

        `fields` are by name (`Message`, `Severity` 1-1000, and the type's own); values are Variants or what the
        field's data type takes. `source` is the path of the object that it is about.
        """
        emitting = [instance.node_id(path) for path in notifiers]
        for path in (*notifiers, source):
            if path not in instance.template.paths:
                raise InstanceError(f"{instance.name} has no object {path!r}")
        about = instance.template.paths[source]
        received = ticks_now()
        name = about.browse_name.Name if source else instance.display_name.Text
        time = received if source_time is None else to_ticks(source_time)
        values = base_fields(event_type, instance.node_id(source), name, time, received) | dict(fields)
        variants = self._event_types.variants(event_type, values)
        for node_id in (*emitting, SERVER):
            self._iserver.subscription_service.emit(Event(node_id, variants, instance=instance.name))

    def _emit_model_change(self, instance: str, event_type: ua.NodeId, fields: Mapping[str, Any]) -> None:
        if self.is_listened_to:
            now = ticks_now()
            values = base_fields(event_type, SERVER, "Server", now, now) | dict(fields)
            variants = self._event_types.variants(event_type, values)
            self._iserver.subscription_service.emit(Event(SERVER, variants, instance=instance))

    @property
    def is_listened_to(self) -> bool:
        """Whether any client has a subscription: without one nobody would hear of an event."""
        return bool(self._iserver.subscription_service.subscriptions)

    @property
    def listens(self) -> bool:
        """Whether clients can connect."""
        return self._watching is not None and not self._watching.done()

    @property
    def load(self) -> Load:
        """How much it does for its clients."""
        server = self._iserver
        subscriptions = server.subscription_service
        return Load(
            len(server.connections),
            len(server.activated_sessions()),
            len(subscriptions.subscriptions),
            items_of(subscriptions.subscriptions.values()),
            subscriptions.told,
            server.counts.RejectedSessionCount,
            server.counts.RejectedRequestsCount,
        )

    def _emit_audit(
        self, event_type: ua.NodeId, source: ua.NodeId, source_name: str, fields: Mapping[str, Any]
    ) -> None:
        now = ticks_now()
        values = base_fields(event_type, source, source_name, now, now) | dict(fields)
        variants = self._event_types.variants(event_type, values)
        self._iserver.subscription_service.emit(Event(SERVER, variants, confidential=True))

    async def start(self) -> None:
        """Listen. AddressUnavailable when that is not possible, CertificateError when the certificate is not usable."""
        listening = {MAIN: self._bind(self.port)}
        try:
            self.port = listening[MAIN].getsockname()[1]
            listening |= self._bind_own()
            identity = certificates.load_or_create(
                self._certificate_folder,
                self.application_name,
                self.application_uri,
                certificates.host_names(self.announced_host or self.host),
            )
            self.application_uri = self._iserver.audit.server_id = identity.application_uri
            self._trust.make_folders()
            self._server = await self._prepared_server(identity)
            await self._iserver.start()
            for port, bound in listening.items():
                await self._listen(port, bound, self._server._policies)
            self._watching = asyncio.create_task(self._watch())
        except BaseException:
            for bound in listening.values():
                bound.close()
            await self.stop()
            raise
        own = len(listening) - 1
        log.info(
            "OPC UA server listens",
            endpoint=self.endpoint_url,
            anonymous=self._anonymous,
            **({"ports_of_one_machine": own} if own else {}),
        )

    async def stop(self) -> None:
        """Close all sessions and stop listening."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        while self._binaries:
            await self._binaries.popitem()[1].stop()
        if self._server is not None:
            await self._iserver.stop()
            self._server = None

    async def _listen(self, port: int, bound: socket.socket, policies: list[Any]) -> None:
        """Serve on the socket `bound` those instances that are on `port`."""
        binary = self._binaries[port] = GuardedBinaryServer(
            self._iserver, bound, self._iserver.limits.transport, Scope(self._ports, port)
        )
        binary.set_policies(policies)
        await binary.start()

    async def _watch(self) -> None:
        """End connections of clients and sessions of users that an administrator wants here no more."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._trust.refresh():
                await self._iserver.recheck_certificates()
            await self._iserver.end_sessions()

    def _describe_namespace(self, uri: str) -> None:
        plan = self._planner.plan(ua.NodeId(ua.ObjectIds.NamespaceMetadataType), PERMISSIONS, ())
        plan.reference_type = ua.NodeId(ua.ObjectIds.HasComponent)
        template = make_template(self.space, plan, namespace_metadata(uri, self._anonymous), (), {})
        folder = ua.NodeId(ua.ObjectIds.Server_Namespaces)
        self.instances.add(uri, uri, template, folder, NamespaceMetadata)
        self._ports.give(uri, EVERYWHERE)

    def _bind_own(self) -> dict[int, socket.socket]:
        bound = {}
        for port, names in self._ports.names().items():
            try:
                bound[port] = self._bind(port)
            except AddressUnavailable as error:
                self._ports.give_up(port)
                log.error(
                    "a port of its own cannot be given: shown on the common port",
                    reason=str(error),
                    port=port,
                    shown=names,
                    endpoint=self.endpoint_url,
                )
        return bound

    def _bind(self, port: int) -> socket.socket:
        address = f"{self.host or '0.0.0.0'}:{port}"  # noqa: S104 (only for the message)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, port), family=family, backlog=100)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                problem = "another program uses it: stop that one or choose another port"
            elif error.errno == errno.EACCES:
                problem = "this user may not listen there: choose a port above 1023"
            elif error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN):
                problem = "this machine has no such address: choose one of its own, or 127.0.0.1"
            else:
                problem = error.strerror or str(error)
            raise AddressUnavailable(f"the OPC UA server cannot listen on {address}: {problem}") from error

    async def _prepared_server(self, identity: certificates.Identity) -> Server:
        """asyncua's Server for its endpoints and standard nodes; it never listens itself."""
        server = Server(iserver=self._iserver)
        self._iserver.endpoints.clear()  # of an attempt to start before
        server.name = self.application_name
        server.application_type = ua.ApplicationType.Server
        server.product_uri = self.build_info.product_uri
        server.set_endpoint(self.endpoint_url)
        server.set_security_policy(
            [*SECURE, ua.SecurityPolicyType.NoSecurity] if self._anonymous else list(SECURE)
        )
        self._iserver.certificate = identity.certificate
        self._iserver.private_key = identity.key
        await self._iserver.init()
        await server.get_node(ua.ObjectIds.Server_NamespaceArray).write_value(self.namespaces.uris)
        await server.set_application_uri(identity.application_uri)
        build = self.build_info
        await server.set_build_info(
            build.product_uri,
            build.manufacturer,
            build.product,
            build.version,
            build.build_number,
            build.build_date,
        )
        await self._tell_capabilities()
        await server._setup_server_nodes()
        return server

    async def _tell_capabilities(self) -> None:
        """Server/ServerCapabilities, and what else the Server object says of itself (Part 5, 6.3.1)."""
        values = dict(capabilities(self._iserver.limits, self._min_publishing_interval))
        values[ua.NodeId(ua.ObjectIds.Server_ServiceLevel)] = ua.Variant(255, ua.VariantType.Byte)
        values[ua.NodeId(ua.ObjectIds.Server_Auditing)] = ua.Variant(True)
        values[ua.NodeId(ua.ObjectIds.Server_ServerDiagnostics_EnabledFlag)] = ua.Variant(True)
        redundancy = ua.NodeId(ua.ObjectIds.Server_ServerRedundancy_RedundancySupport)
        values[redundancy] = ua.Variant(0, ua.VariantType.Int32)
        now = datetime.now(UTC)
        for node_id, variant in values.items():
            if node_id in self.space:
                await self.space.write_attribute_value(
                    node_id, ua.AttributeIds.Value, ua.DataValue(variant, ua.StatusCode(), now, now)
                )
