"""The service: sources, log, machines and sinks put together, started, watched and stopped.

In flow the machines of config.json and the settings. Nothing else in the bridge may assume that one process
holds every machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from aiohttp import web

from bridge import __version__, identity, wire
from bridge.aggregator import Config, Secret
from bridge.fleet import Fleet
from bridge.log import LogError
from bridge.log.sqlite import SqliteLog
from bridge.machine import Machine, Transition
from bridge.mes import MesError, MesSink, Registration
from bridge.opcua import AddressUnavailable
from bridge.settings import IdentificationSettings, Settings
from bridge.sources.presence import Presence
from bridge.sources.push import PushReceiver, Sender
from bridge.sources.verification import Candidate, verify_all
from bridge.state import StateFolder
from bridge.umati import MachineIdentity, UmatiServer
from bridge.umati.identification import identify

log = structlog.get_logger(__name__)

_CHECKPOINT_EVERY_S = 30.0
_TRIM_EVERY_S = 300.0
_PUSHES_END_WITHIN_S = 2.0


class ServiceError(Exception):
    """The service cannot start; the text says what stands in the way, and what to do."""


@dataclass(frozen=True, slots=True)
class Served:
    """An entry of config.json that is served, as the machine it is."""

    machine: str
    index: int
    name: str | None
    url: str
    key: Secret
    push_key: wire.PushKey
    mes_ids: tuple[int, ...]
    identification: IdentificationSettings


class Service:
    """The bridge for the machines of `config`."""

    def __init__(self, config: Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._fleet = Fleet()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises `ServiceError` and what the parts have against starting: `StateFolderError`, `LogError`,
        `IdentityError`, `OpcUaError`, `MesError`.
        """
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            folder = StateFolder(settings.bridge.state_folder)
            stack.callback(folder.close)
            if folder.open_to_others:
                log.warning(
                    "other users of this computer can look into the state folder: chmod 700",
                    folder=str(folder.path),
                )
            served = {one.machine: one for one in self._assign(folder.path)}
            store = SqliteLog(folder.path / "log.sqlite", self._fleet.take)
            stack.push_async_callback(store.close)
            bridge_id = identity.bridge_id(folder.path)
            mes = MesSink(settings.mes, folder.path, bridge_id, store.id, store.end)
            stack.push_async_callback(mes.stop)
            umati = UmatiServer(settings.opcua, folder.path)
            stack.push_async_callback(umati.stop)
            await self._start_sinks(served, store, umati, mes)
            stack.push_async_callback(self._checkpoint, store, mes)
            presence = Presence(store, served, settings.push.silent_after, time.monotonic)
            senders = {one.push_key.key_id: Sender(one.machine, one.push_key) for one in served.values()}
            receiver = PushReceiver(store, senders, presence.heard)
            push = await stack.enter_async_context(self._listen(receiver))
            if settings.opcua.anonymous:
                log.warning("OPC UA is open to anyone, without encryption: opcua.anonymous is true")
            if not served:
                log.warning("no machine is served: see what is said of the entries of config.json above")
            log.info(
                "MESBridge serves",
                version=__version__,
                machines=len(served),
                refused=sum(not e.left_to_aggregator for e in self._config.machines) - len(served),
                opcua=umati.endpoint_url,
                push=push,
            )
            await _until(
                stop,
                asyncio.create_task(presence.watch(), name="presence"),
                asyncio.create_task(self._keep(store, mes), name="checkpoints"),
                asyncio.create_task(self._verify(served), name="verification"),
            )
            log.info("MESBridge stops")
        log.info("MESBridge stopped")

    def _assign(self, folder: Path) -> Iterator[Served]:
        """The entries that can be served, each with its machine id."""
        seen: dict[str, int] = {}
        usable = []
        for entry in self._config.machines:
            if not entry.served or entry.url is None or entry.credential.key is None:
                continue
            push_key = wire.PushKey.derive(entry.credential.key.reveal())
            marks = (identity.normal(entry.url), push_key.key_id)
            earlier = next((seen[mark] for mark in marks if mark in seen), None)
            if earlier is not None:
                log.error(
                    "entry not served: an earlier one has the same url or the same key; put the numbers of"
                    " both into one mes_id, or give each OctoPrint a key of its own",
                    entry=entry.index,
                    earlier=earlier,
                    url=entry.url,
                )
                continue
            seen.update(dict.fromkeys(marks, entry.index))
            usable.append((entry, entry.url, entry.credential.key, push_key))
        path = folder / "machines.json"
        machines, known = identity.assign(
            [(url, push_key.key_id) for _, url, _, push_key in usable], identity.load(path)
        )
        identity.save(path, known)
        for machine, (entry, url, key, push_key) in zip(machines, usable, strict=True):
            said = self._settings.identification_of(url)
            yield Served(machine, entry.index, entry.custom_name, url, key, push_key, entry.mes_id, said)

    async def _start_sinks(
        self, served: Mapping[str, Served], store: SqliteLog, umati: UmatiServer, mes: MesSink
    ) -> None:
        """Bring the machines to where the log stands, and both sinks to where the machines stand."""
        records = self._fleet.restore(store)
        before = dict(self._fleet.machines)
        replayed = _Collector()
        self._fleet.sinks = [replayed]
        self._fleet.take(records)
        for one in served.values():
            who = MachineIdentity(one.name, one.url, one.identification)
            umati.add_machine(one.machine, who, self._fleet[one.machine])
        try:
            await umati.start()
        except AddressUnavailable as error:
            raise ServiceError(f"{error} (opcua.port and opcua.host in the settings)") from None
        registrar = _Registrar(served, umati, mes)
        for one in served.values():
            missing = mes.unknown(one.mes_ids)
            if missing:
                log.warning(
                    "mes_id names MES instances that the settings do not know: add a section [[mes]] for each",
                    machine=one.machine,
                    entry=one.index,
                    missing=missing,
                )
            registrar.register(one, before.get(one.machine, Machine()))
        for transition in replayed.transitions:
            mes.handle(transition)
            registrar.handle(transition)
        for machine in sorted(mes.registered - served.keys()):
            log.info("machine not served any more: its MES is told that it is Offline", machine=machine)
            mes.withdraw(machine)
        mes.start()  # only now, so that registrations and what was replayed are told as one
        self._fleet.sinks = [umati, mes, registrar]

    @contextlib.asynccontextmanager
    async def _listen(self, receiver: PushReceiver) -> AsyncIterator[str]:
        host, port = self._settings.push.host, self._settings.push.port
        runner = web.AppRunner(receiver.application(), access_log=None, shutdown_timeout=_PUSHES_END_WITHIN_S)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise ServiceError(f"plugins cannot be heard on {host}:{port}: {_explain(error)}") from None
            bound = runner.addresses[0][1]
            yield f"http://{host}:{bound}"
        finally:
            await runner.cleanup()

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
                        store, wire.utc_now() - timedelta(days=self._settings.bridge.keep_days)
                    )
                except LogError as error:
                    log.error("old events could not be forgotten", error=str(error))

    async def _checkpoint(self, store: SqliteLog, mes: MesSink) -> None:
        try:
            await self._fleet.checkpoint(store, mes.drain)
        except (LogError, MesError) as error:
            log.error("no checkpoint: the next start takes longer", error=str(error))

    async def _verify(self, served: Mapping[str, Served]) -> None:
        candidates = [Candidate(one.machine, one.url, one.key) for one in served.values()]
        await verify_all(candidates, lambda machine: self._fleet[machine].link)


class _Collector:
    """A sink that keeps what it is shown."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    def handle(self, transition: Transition) -> None:
        self.transitions.append(transition)


class _Registrar:
    """Registers machines with their MES instances, again whenever the printer turns out to be another."""

    def __init__(self, served: Mapping[str, Served], umati: UmatiServer, mes: MesSink) -> None:
        self._served = served
        self._umati = umati
        self._mes = mes

    def handle(self, transition: Transition) -> None:
        one = self._served.get(transition.record.machine)
        if one is not None and transition.before.printer != transition.after.printer:
            self.register(one, transition.after)

    def register(self, one: Served, machine: Machine) -> None:
        nameplate = identify(one.machine, one.name, one.url, one.identification, machine.printer)
        registration = Registration(
            name=nameplate.component_name,
            url=one.url,
            opcua_endpoint=self._umati.endpoint_url,
            opcua_node_id=self._umati.node_id(one.machine),
            identification={k: v for k, v in asdict(nameplate).items() if v not in (None, "")},
        )
        self._mes.register(one.machine, one.mes_ids, registration, machine)


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses the port: stop that one, or choose another push.port in the settings"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this computer has no such address: set push.host to one of its own, or to 127.0.0.1"
    return f"{error.strerror or error}; choose another push.host or push.port in the settings"


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
