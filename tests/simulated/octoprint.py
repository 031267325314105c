"""A simulated OctoPrint; `tests.simulated.plant` serves many of them.

In flow calls of a test that say what happens at the printer or goes wrong on the way; out flow the answers of
OctoPrint's REST API and the messages of its push socket, and a record of who asked what and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, NamedTuple

from aiohttp import WSMsgType, web

from tests.simulated.printer import Printer
from tests.simulated.shapes import ADMIN, REFUSED, Shapes

STATUS = frozenset({"STATUS"})
STATUS_AND_FILES = frozenset({"STATUS", "FILES_LIST"})

_BASE_INTERVAL_S = 0.5
_MEASURE_EVERY_S = 2.0
_PERMISSION = {
    "/api/version": "STATUS",
    "/api/printer": "STATUS",
    "/api/job": "STATUS",
    "/api/connection": "STATUS",
    "/api/printerprofiles": "CONNECTION",
    "/api/settings": "SETTINGS_READ",
}


class Request(NamedTuple):
    """One request: when by `time.monotonic`, and what. A socket is asked for with ``GET /sockjs/websocket``."""

    at: float
    method: str
    path: str


@dataclass(eq=False)
class _Client:
    """One open socket."""

    socket: web.WebSocketResponse
    permissions: frozenset[str] = frozenset()
    throttle: int = 1
    state: bool = True
    events: frozenset[str] | None = None
    begun: bool = False
    told_state: tuple[str, str] = ("", "")
    readings: list[Any] = field(default_factory=list)
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)


class SimulatedOctoPrint(Printer):
    """One OctoPrint and its printer; to be called on the event loop that serves it.

    `keys` are the permissions by key. Faults are set from outside: `socket` is ``open``, ``refused`` (as by a reverse
    proxy that knows no websockets), or ``silent`` after its first message; `delay` is in seconds before each answer;
    `down` is when nobody is behind the reverse proxy, which answers 502. `told_at` is when each kind of event was told
    last, in seconds since the epoch.
    """

    def __init__(
        self, key: str, permissions: Iterable[str] = STATUS_AND_FILES, version: str = "1.11.8"
    ) -> None:
        super().__init__(Shapes(version))
        self.key = key
        self.keys: dict[str, frozenset[str]] = {key: frozenset(permissions)}
        self.requests: list[Request] = []
        self.socket = "open"
        self.delay = 0.0
        self.down = False
        self.told_at: dict[str, float] = {}
        self._clients: set[_Client] = set()
        self._sessions: dict[str, frozenset[str]] = {}
        self._measured = 0.0

    # ------------------------------------------------------------------- what goes wrong on the way

    def end_sessions(self, reason: str = "stale") -> None:
        """The logins of all sockets are worth nothing from now on."""
        self._sessions.clear()
        for client in self._clients:
            client.permissions, client.begun = frozenset(), False
            self._send(client, {"reauthRequired": {"reason": reason}})

    def refuse(self, key: str | None = None) -> None:
        """No request with this key, or the first one, is permitted any more."""
        self.keys.pop(key or self.key, None)
        self.end_sessions()

    async def stop(self) -> None:
        """OctoPrint ends: all sockets are closed, and the reverse proxy finds nobody."""
        self.tell("Shutdown", None)
        self.down = True
        self._sessions.clear()
        await asyncio.gather(*(client.socket.close(code=1001) for client in list(self._clients)))

    async def start(self) -> None:
        """OctoPrint is there again, with its printer connected and nothing selected."""
        self.down, self.state_id, self.error = False, "OPERATIONAL", ""
        self._selected, self._touched, self.completion = None, False, None

    async def restart(self, away: float = 0.0) -> None:
        """Stop, and start again after `away` seconds."""
        await self.stop()
        await asyncio.sleep(away)
        await self.start()

    # ------------------------------------------------------------------- who asked

    def asked(self, since: float = 0.0, *, sockets: bool = False) -> list[Request]:
        """The requests since then, without those for the socket, unless they are wanted, too."""
        return [
            one for one in self.requests if one.at >= since and (sockets or one.path != "/sockjs/websocket")
        ]

    def shortest_pause(self, since: float = 0.0) -> float:
        """Seconds between the two requests that were closest to each other; infinite when there are no two."""
        times = [one.at for one in self.asked(since)]
        return min((b - a for a, b in itertools.pairwise(times)), default=float("inf"))

    # ------------------------------------------------------------------- answers

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse:
        """One request to `path` of this OctoPrint."""
        self.requests.append(Request(time.monotonic(), request.method, path))
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.down:
            return web.Response(status=502, text="<html>502 Bad Gateway</html>", content_type="text/html")
        if path == "/sockjs/websocket":
            return await self._serve_socket(request)
        if path == "/robots.txt":
            return web.Response(text="User-agent: *", headers={"Date": formatdate(self.time(), usegmt=True)})
        permissions = self.keys.get(request.headers.get("X-Api-Key", ""))
        status, body = self._rest(request, path, permissions)
        return web.json_response(body, status=status)

    def _rest(
        self, request: web.Request, path: str, permissions: frozenset[str] | None
    ) -> tuple[int, Mapping[str, Any]]:
        shapes, base = self.shapes, str(request.url).split("/api/")[0]
        user = None if permissions is None else _user_of(permissions)
        if path == "/api/login" and request.method == "POST":
            if permissions is None or user is None:
                return 400, {
                    "error": "CSRF validation failed"
                }  # without a key it takes the asker for a browser
            session = secrets.token_hex(32)
            self._sessions[f"{user}:{session}"] = permissions
            return 200, shapes.login(user, session, permissions)
        if path == "/api/currentuser":
            return 200, {
                "name": user,
                "permissions": sorted(permissions or ()),
                "groups": [] if user else ["guests"],
            }
        needed = "FILES_LIST" if path.startswith("/api/files") else _PERMISSION.get(path)
        if needed is None:
            return 404, {"error": "Not Found"}
        if permissions is None or needed not in permissions:
            return 403, REFUSED
        return self._read(path, base)

    def _read(self, path: str, base: str) -> tuple[int, Mapping[str, Any]]:
        shapes = self.shapes
        state = shapes.state(self.state_id, self.error)
        match path:
            case "/api/version":
                return 200, shapes.api_version()
            case "/api/printer":
                if not state["flags"]["operational"]:
                    return 409, {"error": "Printer is not operational"}
                measured = {name: {**one, "offset": 0} for name, one in self.heaters.items()}
                return 200, {"sd": {"ready": True}, "state": state, "temperature": measured}
            case "/api/job":
                job = shapes.rest_job(self._file_of_job, self._touched)
                # 1.11 says an error only while there is one; 2.0 has the key always.
                error = {"error": self.error or None} if shapes.modern or self.error else {}
                return 200, {"job": job, "progress": self._progress(), "state": state["text"], **error}
            case "/api/connection":
                return 200, shapes.connection(state)
            case "/api/printerprofiles":
                return 200, shapes.profiles(base)
            case "/api/settings":
                return 200, {"appearance": {"name": ""}, "plugins": {}}
            case "/api/files":
                found = [shapes.file(file, base) for file in self.files.values()]
                return 200, {"files": found, "free": 1 << 36, "total": 1 << 38}
        file = self.files.get(path.removeprefix("/api/files/local/"))
        return (404, {"error": "Not Found"}) if file is None else (200, shapes.file(file, base))

    # ------------------------------------------------------------------- the push socket

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self.socket == "refused":
            return web.Response(status=400, text='Can "Upgrade" only to "WebSocket".')
        client = _Client(web.WebSocketResponse())
        await client.socket.prepare(request)
        self._clients.add(client)
        self._send(client, self.shapes.connected())
        at_work = [asyncio.create_task(one) for one in (self._beat(client), self._write(client))]
        try:
            async for message in client.socket:
                if message.type is WSMsgType.TEXT:
                    self._heard(client, json.loads(message.data))
        finally:
            for one in at_work:
                one.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)
            self._clients.discard(client)
        return client.socket

    def _heard(self, client: _Client, said: Mapping[str, Any]) -> None:
        if "throttle" in said:
            client.throttle = max(1, int(said["throttle"]))
        elif "subscribe" in said:
            wanted = said["subscribe"]
            client.state = bool(wanted.get("state"))
            events = wanted.get("events", [])
            client.events = None if events is True else frozenset(events or ())
            if client.state and client.begun:
                self._send_history(client)
        elif "auth" in said:
            permissions = self._sessions.get(str(said["auth"]))
            if permissions is None:
                client.permissions = frozenset()
                self._send(client, {"reauthRequired": {"reason": "stale"}})
                return
            client.permissions = permissions
            if "STATUS" in permissions and not client.begun:
                client.begun = True
                self._send_history(client)
                self._send(client, {"timelapse": None})

    def _is_news(self, client: _Client) -> bool:
        """With a printer OctoPrint tells again and again, and without one only what has changed."""
        told, client.told_state = client.told_state, (self.state_id, self.error)
        return told != client.told_state or self.shapes.state(*client.told_state)["flags"]["operational"]

    def _send_history(self, client: _Client) -> None:
        if client.state:
            self._send(client, {"history": {**self.message([]), "logs": [], "messages": []}})

    @staticmethod
    async def _write(client: _Client) -> None:
        with contextlib.suppress(ConnectionError):  # who does not listen any more misses nothing
            while True:
                await client.socket.send_str(await client.outgoing.get())

    async def _beat(self, client: _Client) -> None:
        """State, progress and temperatures, as often as this client wants them."""
        await asyncio.sleep(_BASE_INTERVAL_S * secrets.randbelow(1000) / 1000)
        while True:
            await asyncio.sleep(_BASE_INTERVAL_S * client.throttle)
            if time.monotonic() - self._measured >= _MEASURE_EVERY_S and self.heaters:
                self.measure()
            if client.begun and client.state and self._is_news(client):
                readings, client.readings = client.readings, []
                message = {**self.message(readings), "busyFiles": self._busy()}
                if "MONITOR_TERMINAL" in client.permissions:
                    message |= {"logs": [], "messages": []}
                self._send(client, {"current": message})

    def _send(self, client: _Client, message: Mapping[str, Any]) -> None:
        if self.socket != "silent" or "connected" in message:
            client.outgoing.put_nowait(json.dumps(message))

    def tell(self, kind: str, payload: Mapping[str, Any] | None) -> None:
        self.told_at[kind] = self.time()
        for client in self._clients:
            if client.begun and (client.events is None or kind in client.events):
                self._send(client, self.shapes.event(kind, payload))

    def measured(self, reading: Mapping[str, Any]) -> None:
        self._measured = time.monotonic()
        for client in self._clients:
            client.readings.append(reading)


def _user_of(permissions: frozenset[str]) -> str:
    return "admin" if permissions >= ADMIN else "bridge"
