"""One machine served from outside: connected, followed, and connected again, for as long as it is wanted.

The push socket comes first. Where there is none, the REST API is asked in turns, and the socket is tried again now
and then. Beside a socket the REST API is asked once in a while whether it says the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import aiohttp
import structlog

from bridge import wire
from bridge.log import Log, LogError
from bridge.machine import Machine
from bridge.sources.octoprint import (
    PUBLIC_FILE,
    KeyRefused,
    OctoPrintError,
    SocketRefused,
    Unreachable,
    ask,
    clock_difference_s,
    request,
)
from bridge.sources.pull.follower import Follower
from bridge.sources.pull.listing import printables
from bridge.sources.pull.socket import Lost, PushSocket, login, opened
from bridge.sources.pull.writer import Writer
from octoprint_mesbridge.occurrence import Occurrence
from octoprint_mesbridge.records import mapping

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
_TURN_S = 15.0
_MOST_FILES_BYTES = 4 << 20
_LISTING_SHARE = 0.01
_COARSE = timedelta(seconds=2)
"""A ``Date`` is in whole seconds."""

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
        self._may_list = True
        self._list_again = 0.0
        self._logged_in = float("-inf")
        self._told_channel: Channel | None = None
        self._stale: list[str] = []
        self._temperature: Any = None
        self._listed: list[Any] | None = None
        self._trouble: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        pause = _FIRST_RETRY_S
        while True:
            begun = time.monotonic()
            try:
                await self._serve()
            except LogError as error:
                if self._is_news(str(error)):
                    log.error(
                        "what an OctoPrint tells cannot be kept; it is asked anew until it can",
                        machine=self._machine,
                        error=str(error),
                    )
            except (OctoPrintError, Lost) as error:
                self._tell(error)
                if isinstance(error, KeyRefused):
                    pause = _LONGEST_RETRY_S
            except Exception as error:
                # Whatever it is, the other machines go on, and this one is tried again.
                if self._is_news(repr(error)):
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
        async with self._turn():
            auth = await login(self._http, self._base, self._key)
            await self._prepare()
        self._listed = await self._files()
        async with opened(self._http, self._base, auth, Follower.EVENTS) as socket:
            await self._begin(await self._first(socket))
            self._is(Channel.SOCKET)
            next_look = time.monotonic() + _LOOK_EVERY_S * random.uniform(0.5, 1.0)  # noqa: S311
            while not self._follower.disagrees:
                said = await socket.messages(_SOON_S if self._follower.awaits_more else _QUIET_S)
                await self._heard(self._machine)
                if any(name == "reauthRequired" for name, _ in said):
                    await self._log_in_again(socket)
                await self._writer.append(self._understood(said))
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _LOOK_EVERY_S
                    await self._look()
            log.info("OctoPrint tells something else than before; it is asked anew", machine=self._machine)

    async def _log_in_again(self, socket: PushSocket) -> None:
        """A session ends when its user is changed, and when it was forgotten."""
        before, self._logged_in = self._logged_in, time.monotonic()
        if self._logged_in - before < POLL_EVERY_S:
            raise Lost("it asks again and again who the bridge is")
        await socket.log_in(await login(self._http, self._base, self._key))

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
        path = next(
            (one for one in self._stale if one != _FILES or time.monotonic() >= self._list_again), None
        )
        if path is not None:
            self._stale.remove(path)
            if path == _FILES:
                await self._tell_files(await self._files())
            elif await self._learn_name():
                await self._writer.append(self._follower.snapshot(wire.utc_now()))
            return
        self._follower.reconcile(wire.utc_now(), await self._get("/api/job"))

    # ----------------------------------------------------------------- the REST API

    async def _through_rest(self, until: float) -> None:
        """Ask in turns until the time has come to try the socket again."""
        async with self._turn():
            await self._prepare()
            version = await self._get("/api/version")
            self._follower.picture.note_version(version.get("server"))
            await self._learn_clock()
        self._listed = await self._files()
        job = await self._get("/api/job")
        await self._begin({**job, "state": {"text": job.get("state"), "error": job.get("error")}})
        self._is(Channel.REST)
        paths = ("/api/job", "/api/job", "/api/printer")  # a print matters more than a temperature
        turn = 0
        while time.monotonic() < until:
            await asyncio.sleep(POLL_EVERY_S)
            answer = await self._get(paths[turn % len(paths)])
            await self._heard(self._machine)
            if answer:
                await self._writer.append(self._follower.polled(wire.utc_now(), answer))
            turn = turn + 1 if self._follower.connected else 0

    # ----------------------------------------------------------------- both

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of those who connect at the same time, for no longer than it may take. Raises `Unreachable`."""
        async with self._turns:
            try:
                async with asyncio.timeout(_TURN_S):
                    yield
            except TimeoutError:
                raise Unreachable(
                    f"{self._base} answers too slowly: not all in {_TURN_S:g} s; look what keeps OctoPrint busy"
                ) from None

    async def _prepare(self) -> None:
        """Learn what neither socket nor polling tells; the moments of what comes next are not to wait for it."""
        self._follower = Follower(self._known(), self._follower.ahead)
        await self._learn_profile()
        await self._learn_name()
        # The socket's history of temperatures may be empty, or name heaters that are not there.
        self._temperature = (await self._get("/api/printer")).get("temperature")

    async def _begin(self, history: Mapping[str, Any]) -> None:
        now = {**history, "temps": [self._temperature]}
        told = self._follower.begin(wire.utc_now(), now, self._listed or ())
        await self._heard(self._machine)
        await self._writer.append(told)
        await self._tell_files(self._listed)
        self._listed = None

    async def _learn_clock(self) -> None:
        """A socket tells OctoPrint's time with each message; of the rest, only a file for everybody does."""
        before = wire.utc_now()
        answer = await request(self._http, "GET", self._base, PUBLIC_FILE, None)
        now = wire.utc_now()
        ahead = clock_difference_s(answer.headers.get("Date"), before, now)
        if ahead is not None:
            self._follower.note_clock(now.timestamp() + ahead, now, _COARSE)

    async def _learn_profile(self) -> None:
        answer = await self._ask("/api/connection")
        current, options = (mapping(answer.get(name)) for name in ("current", "options"))
        chosen = str(current.get("printerProfile") or options.get("printerProfilePreference"))
        named = options.get("printerProfiles")
        for one in named if isinstance(named, list) else ():
            if isinstance(one, Mapping) and one.get("id") == chosen:
                self._follower.picture.note_profile({"name": one.get("name")})
        profile = mapping((await self._ask("/api/printerprofiles")).get("profiles")).get(chosen)
        if isinstance(profile, Mapping):
            self._follower.picture.note_profile(profile)

    async def _learn_name(self) -> bool:
        """The name stands in the settings, which only some keys may read. Whether it is another one."""
        appearance = (await self._ask("/api/settings")).get("appearance")
        return isinstance(appearance, Mapping) and self._follower.picture.note_name(appearance.get("name"))

    async def _files(self) -> list[Any] | None:
        """What OctoPrint lists; None when the key may not ask. Long lists are asked for less often."""
        if not self._may_list:
            return None
        begun = time.monotonic()
        status, answer = await ask(
            self._http, "GET", self._base, _FILES, self._key, largest=_MOST_FILES_BYTES
        )
        self._may_list = status not in (401, 403)
        ended = time.monotonic()
        self._list_again = ended + (ended - begun) / _LISTING_SHARE
        files = answer.get("files") if status == 200 else None
        return files if isinstance(files, list) else None

    async def _tell_files(self, files: list[Any] | None) -> None:
        if files is not None:
            moment = self._follower.time_of(wire.utc_now())
            await self._writer.append([Occurrence(moment, wire.FILES, printables(files))])

    async def _get(self, path: str) -> Mapping[str, Any]:
        """What the bridge cannot do without; nothing where no printer is connected.

        Raises `Unreachable`, and `KeyRefused` when it is not permitted any more.
        """
        status, answer = await ask(self._http, "GET", self._base, path, self._key)
        if status in (401, 403):
            raise KeyRefused(
                f"{self._base} does not permit {path} with the key of this machine any more; it needs the STATUS"
                " permission"
            )
        if status not in (200, 409):
            raise Unreachable(f"{self._base}{path} answers {status}; look into OctoPrint's log")
        return answer if status == 200 else {}

    async def _ask(self, path: str) -> Mapping[str, Any]:
        """What the key may not be permitted to ask; then nothing. Raises `Unreachable`."""
        status, answer = await ask(self._http, "GET", self._base, path, self._key)
        return answer if status == 200 else {}

    def _is(self, channel: Channel) -> None:
        self.channel = channel
        if channel is Channel.SOCKET:
            self._trouble = None  # by REST it lasts
        if channel is not self._told_channel:
            self._told_channel = channel
            log.info("machine followed without the plugin", machine=self._machine, through=channel.value)

    def _tell(self, error: Exception) -> None:
        if self._is_news(str(error)):
            kind = "the push socket is not there; OctoPrint is asked by REST"
            event = kind if isinstance(error, SocketRefused) else "OctoPrint is not followed now"
            self._told_channel = self._told_channel if isinstance(error, SocketRefused) else None
            log.warning(event, machine=self._machine, detail=str(error))

    def _is_news(self, trouble: str) -> bool:
        """Whether this is another trouble than the one that lasts."""
        before, self._trouble = self._trouble, trouble
        return trouble != before
