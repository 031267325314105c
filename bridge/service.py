"""The service: sources, log, machines and sinks put together, started, watched and stopped.

In flow the machines of config.json and the settings. Nothing else in the bridge may assume that one process
holds every machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from bridge import __version__, control, identity, logs, reload, wire
from bridge.adoption import Adoption, commands
from bridge.aggregator import Config, edit
from bridge.announce import Announcement, Announcing
from bridge.control import Command
from bridge.fleet import Fleet
from bridge.https import Certificates, Https
from bridge.https import load as load_https
from bridge.log import LogError
from bridge.log.sqlite import SqliteLog
from bridge.machine import Machine, Transition
from bridge.mes import MesError, MesSink
from bridge.mes.commands import commands as mes_commands
from bridge.notify import Notifier
from bridge.opcua import AddressUnavailable
from bridge.reload import Reloader
from bridge.settings import Settings
from bridge.site import Served, Site, assign
from bridge.sources import door
from bridge.sources.hello import Greeter
from bridge.sources.pairing import PairingDesk
from bridge.sources.presence import Presence
from bridge.sources.pull import PullSource
from bridge.sources.push import PushReceiver
from bridge.sources.verification import Verification
from bridge.state import StateFolder
from bridge.umati import UmatiServer
from bridge.watch import Watch
from bridge.web import WebServer
from bridge.web.health import Health
from bridge.web.metrics import Metrics, Parts

log = structlog.get_logger(__name__)

_CHECKPOINT_EVERY_S = 30.0
_TRIM_EVERY_S = 300.0


class ServiceError(Exception):
    """The service cannot start; the text says what stands in the way, and what to do."""


class Service:
    """The bridge for the machines of `config`, with the `settings` that were read from the file at `path`."""

    def __init__(self, config: Config, settings: Settings, path: Path | None = None) -> None:
        self._config = config
        self._settings = settings
        self._path = path
        self._fleet = Fleet()
        self._watch: Watch | None = None

    def reload(self) -> None:
        """Read the files again now, and take over what has changed; what comes of it is in the log."""
        if self._watch is not None:
            self._watch.at_once()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises `ServiceError` and what the parts have against starting: `StateFolderError`, `LogError`,
        `IdentityError`, `OpcUaError`, `MesError`, `HttpsError`.
        """
        settings, notifier = self._settings, Notifier()
        async with contextlib.AsyncExitStack() as stack:
            folder = StateFolder(settings.bridge.state_folder)
            stack.callback(folder.close)
            if folder.open_to_others:
                log.warning(
                    "other users of this computer can look into the state folder: chmod 700",
                    folder=str(folder.path),
                )
            edit.tidy(self._config)
            entries = assign(self._config, settings, folder.path)
            https = load_https(settings.push, folder.path) if settings.push.https else None
            store = SqliteLog(folder.path / "log.sqlite", self._fleet.take)
            stack.push_async_callback(store.close)
            bridge_id = identity.bridge_id(folder.path)
            mes = MesSink(settings.mes, folder.path, bridge_id, store.id, store.end)
            stack.push_async_callback(mes.stop)
            umati = UmatiServer(settings.opcua, folder.path)
            stack.push_async_callback(umati.stop)
            presence = Presence(store, settings.push.silent_after, time.monotonic)

            async def pulled(machine: str) -> None:
                await presence.heard(machine, "OctoPrint answers")

            pull = PullSource(
                store, self._fleet.__getitem__, pulled, settings.push.silent_after, time.monotonic
            )
            verification = Verification(pull.follow)

            async def pushed(machine: str) -> None:
                verification.heard(machine)  # before anybody can replace the key that signed
                if await pull.plugin_heard(machine):
                    receiver.want_snapshot(machine)
                await presence.heard(machine)

            receiver = PushReceiver(store, pushed)
            site = Site(self._fleet, umati, mes, presence, receiver, verification, pull)
            logs.know_names(site.name)
            health = Health(
                store.answer,
                {
                    "log": lambda: store.trouble,
                    "opcua": lambda: None if umati.listens else "does not listen",
                    "mes": lambda: None if mes.runs else "what is to be told to a MES is not kept",
                },
            )
            metrics = Metrics(
                Parts(
                    self._fleet,
                    store,
                    mes,
                    umati,
                    receiver.counts,
                    site.names,
                    settings.bridge.log_size * 2**20,
                    {"plugin": lambda: receiver.counts.events, "pull": lambda: pull.events},
                ),
                lambda _: settings.web.is_local,
                settings.web.metrics_token_file,
            )
            await self._show(stack, health, metrics)
            await self._start_sinks(entries, store, umati, mes, site)
            stack.push_async_callback(self._checkpoint, store, mes)
            name = settings.bridge.shown_name
            adoption = Adoption(self._config.path, settings, folder.path, site)
            desk = PairingDesk(bridge_id, name, https.fingerprint if https else None, adoption.adopt)
            greeter = Greeter(bridge_id, name, receiver.sender, lambda: desk.is_open)
            announcing = Announcing(
                lambda one: Announcement(
                    one.bridge.shown_name, bridge_id, __version__, host, port, https is not None
                )
            )

            def take(new: Settings) -> None:
                self._settings = new
                logs.configure(
                    new.bridge.log_level, new.bridge.log_format, self._path and self._path.absolute()
                )
                desk.name_bridge(new.bridge.shown_name)
                greeter.bridge_name = new.bridge.shown_name
                presence.silent_after = pull.silent_after = new.push.silent_after
                announcing.tell(new)

            reloader = Reloader(
                self._config, self._path, settings, folder.path, site, umati, mes, adoption, take
            )
            asked = {
                **commands(desk, adoption, verification),
                **mes_commands(mes, site.names),
                **reload.commands(reloader),
            }
            host, port = await self._hear(stack, folder.path, https, receiver, (desk, greeter), asked)
            certificates = Certificates(settings.push, folder.path, https)

            async def changed(asked: bool) -> None:
                desk.certificate = await certificates.renewed()
                await reloader.changed(asked)

            self._watch = Watch(lambda: reloader.files() | certificates.files, changed)
            if settings.opcua.anonymous:
                log.warning("OPC UA is open to anyone, without encryption: opcua.anonymous is true")
            if settings.opcua.trust == "any":
                log.warning("OPC UA takes any client's certificate: opcua.trust is any")
            if not entries and self._config.machines:
                log.warning(
                    "no machine is served: see what is said of the entries of config.json above; an OctoPrint with the"
                    " plugin can be taken in now: `mesbridge pair open`"
                )
            log.info(
                "MESBridge serves",
                version=__version__,
                machines=len(entries),
                refused=sum(not e.left_to_aggregator for e in self._config.machines) - len(entries),
                opcua=umati.endpoint_url,
                push=f"http{'s' if https else ''}://{host}:{port}",
                **({"certificate_sha256": https.fingerprint} if https else {}),
            )
            health.phase = "serving"
            notifier.ready(f"serves {len(entries)} machines")
            stack.push_async_callback(announcing.end)
            announcing.tell(settings)
            await _until(
                stop,
                asyncio.create_task(presence.watch(), name="presence"),
                asyncio.create_task(self._keep(store, mes), name="checkpoints"),
                asyncio.create_task(verification.run(), name="verification"),
                asyncio.create_task(pull.run(), name="pull"),
                asyncio.create_task(notifier.watch(health.unwell), name="watchdog"),
                asyncio.create_task(asyncio.to_thread(self._tell_unnamed_secrets), name="leftovers"),
                asyncio.create_task(self._watch.run(), name="watch"),
            )
            health.phase = "stopping"
            notifier.stopping()
            log.info("MESBridge stops")
        log.info("MESBridge stopped")

    def _tell_unnamed_secrets(self) -> None:
        """Secret files that pairings may have left that were killed."""
        unnamed = edit.unnamed_secrets(self._config.path)
        if unnamed:
            log.warning(
                "no entry of config.json names these secret files: remove them if nothing else needs them",
                files=[str(one) for one in unnamed],
            )

    async def _start_sinks(
        self, entries: Sequence[Served], store: SqliteLog, umati: UmatiServer, mes: MesSink, site: Site
    ) -> None:
        """Bring the machines to where the log stands, and the sinks to where the machines stand."""
        records = self._fleet.restore(store)
        if mes.position < self._fleet.position:
            log.error(
                "mes.sqlite is an older copy than log.sqlite, or was deleted: what happened in between is not told to"
                " any MES. Next time bring back both files, from the same copy",
                told_up_to=mes.position,
                log_begins_at=self._fleet.position,
            )
        before = dict(self._fleet.machines)
        replayed = _Collector()
        self._fleet.sinks = [replayed]
        self._fleet.take(records)
        for one in entries:
            if one.port is not None:
                umati.give_port(one.machine, one.port)
        try:
            await umati.start()
        except AddressUnavailable as error:
            raise ServiceError(f"{error} (opcua.port and opcua.host in the settings)") from None
        for one in entries:
            site.serve(one, told=before.get(one.machine, Machine()))
        for transition in replayed.transitions:
            mes.handle(transition)
            site.handle(transition)
        for machine in sorted(machine for machine in mes.registered if machine not in site):
            log.info("machine not served any more: its MES is told that it is Offline", machine=machine)
            mes.withdraw(machine)
        mes.start()  # only now, so that registrations and what was replayed are told as one
        self._fleet.sinks = [umati, mes, site]

    async def _hear(
        self,
        stack: contextlib.AsyncExitStack,
        folder: Path,
        https: Https | None,
        receiver: PushReceiver,
        parts: tuple[PairingDesk | Greeter, ...],
        asked: Mapping[str, Command],
    ) -> tuple[str, int]:
        """Hear plugins, and the commands of whoever runs the bridge; returns the host and port for plugins."""
        application = receiver.application()
        for part in parts:
            part.add_routes(application)
        host, port = self._settings.push.host, self._settings.push.port
        context = https.context if https else None
        try:
            heard = await stack.enter_async_context(door.serve(application, host, port, context))
        except OSError as error:
            raise ServiceError(
                f"plugins cannot be heard on {host}:{port}: {_explain(error, 'push')}"
            ) from None
        try:
            await stack.enter_async_context(control.listen(folder, asked))
        except OSError as error:
            log.error(
                "commands such as `mesbridge pair` cannot be taken",
                folder=str(folder),
                error=error.strerror or str(error),
            )
        return heard

    async def _show(self, stack: contextlib.AsyncExitStack, health: Health, metrics: Metrics) -> None:
        """Serve the status page, from before the bridge serves; without it the machines are served all the same."""
        settings = self._settings.web
        if not settings.enabled:
            return
        server = WebServer(settings, (health.add_routes, metrics.add_routes))
        try:
            host, port = await stack.enter_async_context(server.serve())
        except OSError as error:
            log.error(
                "the status page is not served",
                host=settings.host,
                port=settings.port,
                error=_explain(error, "web"),
            )
        else:
            log.info("status page", url=f"http://{host}:{port}/")

    async def _keep(self, store: SqliteLog, mes: MesSink) -> None:
        """Checkpoints now and then, and less often a look for records that nobody needs any more."""
        next_trim = time.monotonic()
        while True:
            await asyncio.sleep(_CHECKPOINT_EVERY_S)
            await self._checkpoint(store, mes)
            if time.monotonic() >= next_trim:
                next_trim += _TRIM_EVERY_S
                try:
                    await self._fleet.trim(
                        store,
                        wire.utc_now() - timedelta(days=self._settings.bridge.keep_days),
                        self._settings.bridge.log_size * 2**20,
                    )
                    await asyncio.to_thread(mes.tidy)
                except (LogError, MesError) as error:
                    log.error("old events could not be forgotten", error=str(error))

    async def _checkpoint(self, store: SqliteLog, mes: MesSink) -> None:
        try:
            await self._fleet.checkpoint(store, mes.drain)
        except (LogError, MesError) as error:
            log.error("no checkpoint: the next start takes longer", error=str(error))


class _Collector:
    """A sink that keeps what it is shown."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    def handle(self, transition: Transition) -> None:
        self.transitions.append(transition)


def _explain(error: OSError, section: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"another program uses the port: stop that one, or choose another {section}.port in the settings"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this computer has no such address: set {section}.host to one of its own, or to 127.0.0.1"
    return f"{error.strerror or error}; choose another {section}.host or {section}.port in the settings"


async def _until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for `stop`; a task that fails ends the wait with its exception."""
    waiting = asyncio.create_task(stop.wait(), name="stop")
    running: set[asyncio.Task[object]] = {waiting, *tasks}
    try:
        while not waiting.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
