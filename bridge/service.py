"""The service: sources, log, machines and sinks put together, started, watched and stopped.

In flow the machines of config.json and the settings, and what changes in them. Nothing else in the bridge may assume
that one process holds every machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from bridge import __version__, control, identity, logs, reload
from bridge.adoption import Adoption, commands
from bridge.aggregator import Config, edit
from bridge.announce import Announcement, Announcing
from bridge.control import Command
from bridge.filewatch import Watch
from bridge.fleet import Fleet
from bridge.https import Certificates, Https
from bridge.https import load as load_https
from bridge.log.sqlite import SqliteLog
from bridge.machine import Machine, Transition
from bridge.mes import MesSink
from bridge.mes.commands import commands as mes_commands
from bridge.notify import Notifier
from bridge.opcua import AddressUnavailable
from bridge.reload import Reloader
from bridge.settings import Settings
from bridge.site import Served, Site, assign
from bridge.sources import door
from bridge.sources.hearing import Hearing
from bridge.sources.hello import Greeter
from bridge.sources.pairing import PairingDesk
from bridge.sources.push import PushReceiver
from bridge.state import StateFolder
from bridge.umati import UmatiServer
from bridge.upkeep import Upkeep
from bridge.web import Front, Health, Parts, StatusPage

log = structlog.get_logger(__name__)


class ServiceError(Exception):
    """The service cannot start; the text says what stands in the way, and what to do."""


class Service:
    """The bridge for the machines of `config`, with the `settings` that were read from the file at `path`."""

    def __init__(self, config: Config, settings: Settings, path: Path | None = None) -> None:
        self._config = config
        self._settings = settings
        self._path = path
        self._fleet = Fleet()
        self._notifier = Notifier()
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
        async with contextlib.AsyncExitStack() as stack:
            health, running = await self._start(stack)
            await _until(stop, running)
            health.phase = "stopping"
            self._notifier.stopping()
            log.info("MESBridge stops")
        log.info("MESBridge stopped")

    async def _start(
        self, stack: contextlib.AsyncExitStack
    ) -> tuple[Health, Mapping[str, Coroutine[Any, Any, None]]]:
        """Bring everything to where it serves; returns what has to run from then on, by name."""
        settings = self._settings
        folder = self._own_folder(stack)
        edit.tidy(self._config)
        entries = assign(self._config, settings, folder)
        https = load_https(settings.push, folder) if settings.push.https else None
        page_push = replace(settings.push, host=settings.web.host)
        page_https = load_https(page_push, folder) if settings.web.enabled and settings.web.https else None
        store = SqliteLog(folder / "log.sqlite", self._fleet.take)
        stack.push_async_callback(store.close)
        bridge_id = identity.bridge_id(folder)
        mes = MesSink(settings.mes, folder, bridge_id, store.id, store.end)
        stack.push_async_callback(mes.stop)
        umati = UmatiServer(settings.opcua, folder)
        stack.push_async_callback(umati.stop)
        hearing = Hearing(store, self._fleet.__getitem__, settings.push.silent_after)
        receiver = hearing.receiver
        site = Site(self._fleet, umati, mes, hearing.presence, receiver, hearing.verification, hearing.pull)
        logs.know_names(site.name)

        health = Health(
            store.answer,
            {
                "log": lambda: store.trouble,
                "opcua": lambda: None if umati.listens else "does not listen",
                "mes": lambda: None if mes.runs else "what is to be told to a MES is not kept",
            },
        )
        page = StatusPage(
            settings.bridge.shown_name,
            folder,
            lambda: site,
            lambda: self._fleet.machines,
            umati,
            mes.states,
            hearing.pull.channel,
            login=settings.web.asks_login,
        )
        events = {"plugin": lambda: receiver.counts.events, "pull": lambda: hearing.pull.events}
        measured = Parts(
            self._fleet,
            store,
            mes,
            umati,
            receiver.counts,
            site.names,
            lambda: self._settings.bridge.log_size * 2**20,
            events,
        )
        await self._show(stack, folder, health, page, measured, page_https)

        await self._start_sinks(entries, store, umati, mes, site)
        self._fleet.sinks.append(page)
        stack.push_async_callback(page.save)
        upkeep = Upkeep(self._fleet, store, mes, lambda: self._settings.bridge)
        stack.push_async_callback(upkeep.checkpoint)

        name = settings.bridge.shown_name
        adoption = Adoption(self._config.path, settings, folder, site)
        desk = PairingDesk(bridge_id, name, https.fingerprint if https else None, adoption.adopt)
        greeter = Greeter(bridge_id, name, receiver.sender, lambda: desk.is_open)
        host, port = await self._hear(stack, https, receiver, desk, greeter)
        announcing = Announcing(
            lambda one: Announcement(
                one.bridge.shown_name, bridge_id, __version__, host, port, https is not None
            )
        )
        stack.push_async_callback(announcing.end)
        announcing.tell(settings)

        def take(new: Settings) -> None:
            self._settings = new
            logs.configure(new.bridge.log_level, new.bridge.log_format, self._path and self._path.absolute())
            desk.name_bridge(new.bridge.shown_name)
            greeter.bridge_name = new.bridge.shown_name
            hearing.count_silence_from(new.push.silent_after)
            announcing.tell(new)

        reloader = Reloader(self._config, self._path, settings, folder, site, umati, mes, adoption, take)
        certificates = Certificates(settings.push, folder, https)
        page_certificates = Certificates(page_push, folder, page_https)

        async def changed(asked: bool) -> None:
            with self._notifier.reloading():
                desk.certificate = await certificates.renewed()
                await page_certificates.renewed()
                await reloader.changed(asked)
            self._notifier.status(f"serves {len(site)} machines")

        self._watch = Watch(lambda: reloader.files() | certificates.files | page_certificates.files, changed)
        await _take_commands(
            stack,
            folder,
            {
                **commands(desk, adoption, hearing.verification),
                **mes_commands(mes, site.names),
                **reload.commands(reloader),
                **page.commands(),
            },
        )
        self._tell_start(entries, umati, https, host, port)
        health.phase = "serving"
        self._notifier.ready(f"serves {len(entries)} machines")
        return health, {
            **dict(hearing.running()),
            "upkeep": upkeep.run(),
            "history": page.run(),
            "watchdog": self._notifier.watch(health.unwell),
            "leftovers": asyncio.to_thread(self._tell_unnamed_secrets),
            "watch": self._watch.run(),
        }

    def _own_folder(self, stack: contextlib.AsyncExitStack) -> Path:
        """The state folder, which is this process's own until the end."""
        folder = StateFolder(self._settings.bridge.state_folder)
        stack.callback(folder.close)
        if folder.open_to_others:
            log.warning(
                "other users of this computer can look into the state folder: chmod 700",
                folder=str(folder.path),
            )
        return folder.path

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
        https: Https | None,
        receiver: PushReceiver,
        desk: PairingDesk,
        greeter: Greeter,
    ) -> tuple[str, int]:
        """Hear plugins; returns host and port."""
        application = receiver.application()
        desk.add_routes(application)
        greeter.add_routes(application)
        host, port = self._settings.push.host, self._settings.push.port
        context = https.context if https else None
        try:
            return await stack.enter_async_context(door.serve(application, host, port, context))
        except OSError as error:
            reason = _explain(error, "push")
            raise ServiceError(f"plugins cannot be heard on {host}:{port}: {reason}") from None

    async def _show(
        self,
        stack: contextlib.AsyncExitStack,
        folder: Path,
        health: Health,
        page: StatusPage,
        measured: Parts,
        https: Https | None,
    ) -> None:
        """Serve the status page, from before the bridge serves; without it the machines are served all the same."""
        settings = self._settings.web
        if not settings.enabled:
            return
        context = https.context if https else None
        name = self._settings.bridge.shown_name
        front = Front(settings, folder, name, health, page, measured, context)
        try:
            await stack.enter_async_context(front.serve())
        except OSError as error:
            log.error(
                "the status page is not served",
                host=settings.host,
                port=settings.port,
                error=_explain(error, "web"),
            )

    def _tell_start(
        self, entries: Sequence[Served], umati: UmatiServer, https: Https | None, host: str, port: int
    ) -> None:
        if self._settings.opcua.anonymous:
            log.warning("OPC UA is open to anyone, without encryption: opcua.anonymous is true")
        if self._settings.opcua.trust == "any":
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

    def _tell_unnamed_secrets(self) -> None:
        """Secret files that pairings may have left that were killed."""
        unnamed = edit.unnamed_secrets(self._config.path)
        if unnamed:
            log.warning(
                "no entry of config.json names these secret files: remove them if nothing else needs them",
                files=[str(one) for one in unnamed],
            )


class _Collector:
    """A sink that keeps what it is shown."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    def handle(self, transition: Transition) -> None:
        self.transitions.append(transition)


async def _take_commands(
    stack: contextlib.AsyncExitStack, folder: Path, known: Mapping[str, Command]
) -> None:
    """Hear whoever runs the bridge; without that the machines are served all the same."""
    try:
        await stack.enter_async_context(control.listen(folder, known))
    except OSError as error:
        log.error(
            "commands such as `mesbridge pair` cannot be taken",
            folder=str(folder),
            error=error.strerror or str(error),
        )


def _explain(error: OSError, section: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"another program uses the port: stop that one, or choose another {section}.port in the settings"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this computer has no such address: set {section}.host to one of its own, or to 127.0.0.1"
    return f"{error.strerror or error}; choose another {section}.host or {section}.port in the settings"


async def _until(stop: asyncio.Event, running: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run all of them until `stop`; one that fails ends the wait with its exception."""
    waiting = asyncio.create_task(stop.wait(), name="stop")
    tasks: set[asyncio.Task[Any]] = {
        waiting,
        *(asyncio.create_task(one, name=name) for name, one in running.items()),
    }
    try:
        while not waiting.done():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
