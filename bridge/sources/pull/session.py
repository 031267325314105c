"""One machine served from outside: connected, followed, and connected again, for as long as it is wanted.

The push socket comes first. Where there is none, the REST API is asked in turns, and the socket is tried again now
and then. Beside a socket the REST API is asked once in a while whether it says the same.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import aiohttp
import structlog

from bridge import wire
from bridge.log import Log, LogError
from bridge.machine import Machine
from bridge.sources.octoprint import KeyRefused, OctoPrintError, SocketRefused, Unreachable, ask
from bridge.sources.pull.follower import Follower
from bridge.sources.pull.listing import printables
from bridge.sources.pull.socket import Lost, PushSocket, login, opened
from bridge.sources.pull.writer import Writer
from octoprint_mesbridge.occurrence import Occurrence

log = structlog.get_logger(__name__)

POLL_EVERY_S = 5.0
"""The steady pace of requests to one OctoPrint, at most."""

_LOOK_EVERY_S = 30.0
_SOCKET_AGAIN_S = 300.0
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0
_STABLE_AFTER_S = 30.0
_HISTORY_WITHIN_S = 15.0
_QUIET_S = 5.0
_SOON_S = 0.5
_MOST_FILES_BYTES = 8 << 20
_FILES = "/api/files?recursive=true"


class Channel(StrEnum):
    """How a machine without the plugin is heard of."""

    SOCKET = "socket"
    REST = "rest"


class Session:
    """Serves the machine `machine` at `url`. `heard` is awaited at each sign of life, `count` called with
    how many events were kept, and `turns` are taken to connect."""

    def __init__(
        self,
        machine: str,
        url: str,
        api_key: str,
        http: aiohttp.ClientSession,
        store: Log,
        known: Callable[[], Machine],
        heard: Callable[[str], Awaitable[None]],
        count: Callable[[int], None],
        turns: asyncio.Semaphore,
    ) -> None:
        self.channel: Channel | None = None
        self._machine = machine
        self._base = url.rstrip("/")
        self._key = api_key
        self._http = http
        self._known = known
        self._heard = heard
        self._turns = turns
        self._writer = Writer(store, machine, count)
        self._follower = Follower(known())
        self._stale: list[str] = []
        self._temperature: Any = None
        self._listed: list[Any] | None = None
        self._may_list = True
        self._trouble: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        pause = _FIRST_RETRY_S
        while True:
            begun = time.monotonic()
            try:
                await self._serve()
            except (OctoPrintError, Lost, LogError) as error:
                self._tell(error)
                if isinstance(error, KeyRefused):
                    pause = _LONGEST_RETRY_S
            except Exception:  # whatever it is, the other machines go on, and this one is tried again
                log.exception("an OctoPrint without the plugin was not understood", machine=self._machine)
            self.channel = None
            if time.monotonic() - begun > _STABLE_AFTER_S:
                pause = _FIRST_RETRY_S
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (spreads load)
            pause = min(pause * 2, _LONGEST_RETRY_S)

    async def _serve(self) -> None:
        try:
            await self._through_socket()
        except SocketRefused as error:
            self._tell(error)
            await self._through_rest(time.monotonic() + _SOCKET_AGAIN_S)

    # ----------------------------------------------------------------- the push socket

    async def _through_socket(self) -> None:
        async with self._turns:
            auth = await login(self._http, self._base, self._key)
            await self._prepare()
        async with opened(self._http, self._base, auth, Follower.EVENTS) as socket:
            await self._begin(await self._first(socket))
            self._is(Channel.SOCKET)
            next_look = time.monotonic() + _LOOK_EVERY_S * random.uniform(0.5, 1.0)  # noqa: S311
            while not self._follower.disagrees:
                said = await socket.messages(_SOON_S if self._follower.awaits_more else _QUIET_S)
                await self._heard(self._machine)
                if any(name == "reauthRequired" for name, _ in said):
                    await socket.log_in(await login(self._http, self._base, self._key))
                await self._writer.append(self._understood(said))
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _LOOK_EVERY_S
                    await self._look()
            log.info("OctoPrint tells something else than before; it is asked anew", machine=self._machine)

    async def _first(self, socket: PushSocket) -> Mapping[str, Any]:
        """The ``history`` with which a socket begins; what came before is in it."""
        until = time.monotonic() + _HISTORY_WITHIN_S
        while time.monotonic() < until:
            for name, data in await socket.messages(_QUIET_S):
                if name == "connected" and isinstance(data, Mapping):
                    self._follower.picture.note_version(data.get("version"))
                elif name == "reauthRequired":
                    raise SocketRefused(f"the push socket of {self._base} does not take the login of the key")
                elif name == "history" and isinstance(data, Mapping):
                    return data
        raise SocketRefused(
            f"the push socket of {self._base} tells nothing; its user may lack the STATUS permission"
        )

    def _understood(self, said: Sequence[tuple[str, Any]]) -> list[Occurrence]:
        came = wire.utc_now()
        if not said:
            return self._follower.tick(came)
        told: list[Occurrence] = []
        for name, data in said:
            if not isinstance(data, Mapping):
                continue
            if name == "current":
                told += self._follower.current(came, data)
            elif name == "event" and isinstance(data.get("type"), str):
                self._note_stale(data["type"])
                told += self._follower.event(came, data["type"], data.get("payload"))
        return told

    def _note_stale(self, event: str) -> None:
        wanted = {"UpdatedFiles": _FILES, "SettingsUpdated": "/api/settings"}.get(event)
        if wanted is not None and wanted not in self._stale:
            self._stale.append(wanted)

    async def _look(self) -> None:
        """One request: whether all is as the socket tells it, or what else may be another by now."""
        if self._stale:
            path = self._stale.pop(0)
            if path == _FILES:
                await self._tell_files(await self._files())
            elif await self._learn_name():
                await self._writer.append(self._follower.snapshot(wire.utc_now()))
            return
        status, answer = await self._get("/api/job")
        if status == 200:
            self._follower.reconcile(wire.utc_now(), answer)

    # ----------------------------------------------------------------- the REST API

    async def _through_rest(self, until: float) -> None:
        """Ask in turns until the time has come to try the socket again."""
        async with self._turns:
            await self._prepare()
            status, version = await self._get("/api/version")
            if status == 200:
                self._follower.picture.note_version(version.get("server"))
        status, job = await self._get("/api/job")
        if status != 200:
            raise Unreachable(f"{self._base}/api/job answers {status}; look into OctoPrint's log")
        await self._begin({**job, "state": {"text": job.get("state"), "error": job.get("error")}})
        self._is(Channel.REST)
        paths = ("/api/job", "/api/job", "/api/printer")  # a print matters more than a temperature
        turn = 0
        while time.monotonic() < until:
            await asyncio.sleep(POLL_EVERY_S)
            status, answer = await self._get(paths[turn % len(paths)])
            await self._heard(self._machine)
            if status == 200:
                await self._writer.append(self._follower.polled(wire.utc_now(), answer))
            turn = turn + 1 if self._follower.connected else 0

    # ----------------------------------------------------------------- both

    async def _prepare(self) -> None:
        """Learn what neither socket nor polling tells; the moments of what comes next are not to wait for it."""
        self._follower = Follower(self._known())
        await self._learn_profile()
        await self._learn_name()
        # The socket's history of temperatures may be empty, or name heaters that are not there.
        _, printer = await self._get("/api/printer")
        self._temperature = printer.get("temperature")
        self._listed = await self._files()

    async def _begin(self, history: Mapping[str, Any]) -> None:
        now = {**history, "temps": [self._temperature]}
        told = self._follower.begin(wire.utc_now(), now, self._listed or ())
        await self._heard(self._machine)
        await self._writer.append(told)
        await self._tell_files(self._listed)
        self._listed = None

    async def _learn_profile(self) -> None:
        status, answer = await self._get("/api/connection", permitted=False)
        current, options = (_mapping(answer.get(name)) for name in ("current", "options"))
        chosen = str(current.get("printerProfile") or options.get("printerProfilePreference"))
        named = options.get("printerProfiles")
        for one in named if isinstance(named, list) else ():
            if isinstance(one, Mapping) and one.get("id") == chosen:
                self._follower.picture.note_profile({"name": one.get("name")})
        status, answer = await self._get("/api/printerprofiles", permitted=False)
        profile = _mapping(answer.get("profiles")).get(chosen) if status == 200 else None
        if isinstance(profile, Mapping):
            self._follower.picture.note_profile(profile)

    async def _learn_name(self) -> bool:
        """The name stands in the settings, which only some keys may read. Whether it is another one."""
        status, answer = await self._get("/api/settings", permitted=False)
        appearance = _mapping(answer.get("appearance"))
        return status == 200 and self._follower.picture.note_name(appearance.get("name"))

    async def _files(self) -> list[Any] | None:
        """What OctoPrint lists; None when the key may not ask."""
        if not self._may_list:
            return None
        status, answer = await self._get(_FILES, permitted=False, largest=_MOST_FILES_BYTES)
        self._may_list = status != 403
        files = answer.get("files")
        return files if status == 200 and isinstance(files, list) else None

    async def _tell_files(self, files: list[Any] | None) -> None:
        if files is not None:
            moment = self._follower.time_of(wire.utc_now())
            await self._writer.append([Occurrence(moment, wire.FILES, printables(files))])

    async def _get(
        self, path: str, *, permitted: bool = True, largest: int = 1 << 20
    ) -> tuple[int, Mapping[str, Any]]:
        """Raises `Unreachable`, and `KeyRefused` when what the bridge cannot do without is not `permitted` any more."""
        status, answer = await ask(self._http, "GET", self._base, path, self._key, largest=largest)
        if permitted and status in (401, 403):
            raise KeyRefused(
                f"{self._base} does not permit {path} with the key of this machine any more; it needs the STATUS"
                " permission"
            )
        return status, answer

    def _is(self, channel: Channel) -> None:
        self.channel, self._trouble = channel, None
        log.info("machine followed without the plugin", machine=self._machine, through=channel.value)

    def _tell(self, error: Exception) -> None:
        """Log a trouble once while it lasts."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            kind = "the push socket is not there; OctoPrint is asked by REST"
            event = kind if isinstance(error, SocketRefused) else "OctoPrint is not followed now"
            log.warning(event, machine=self._machine, detail=self._trouble)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
