"""The simulated OctoPrint says what a real one says: the same keys, types and order of events at each step."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.demo.octoprint import OctoPrint, free_port, slow_gcode
from tests.e2e.octoprint_server import environment
from tests.simulated.octoprint import STATUS_AND_FILES, SimulatedOctoPrint
from tests.simulated.plant import Plant
from tests.simulated.shapes import ADMIN

pytestmark = pytest.mark.e2e

VERSIONS = ("1.11.8", "2.0.0rc7")
FILE = "a.gcode"
EVENTS = (
    "Connecting",
    "Connected",
    "Disconnected",
    "Error",
    "FileAdded",
    "FileDeselected",
    "PrintStarted",
    "PrintPaused",
    "PrintResumed",
    "PrintDone",
    "PrintCancelling",
    "PrintCancelled",
    "PrintFailed",
    "PrinterStateChanged",
    "UpdatedFiles",
)
UNORDERED = ("FileAdded", "UpdatedFiles")
"""Some of these OctoPrint tells from other threads, so that their place among the others varies."""

MAY_BE_NOTHING = {
    "apikey",
    "currentZ",
    "filepos",
    "plate",
    "printTime",
    "printTimeLeft",
    "printTimeLeftOrigin",
    "completion",
    "size",
    "user",
}
ANY = ("any",)


@dataclass
class Subject:
    """An OctoPrint, real or simulated: where it is, its keys, and how to have something happen."""

    url: str
    key: str
    admin_key: str
    does: dict[str, Callable[[], Any]]


@dataclass
class Record:
    """What one said, by what was asked at which step."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, str | None]] = field(default_factory=list)
    payloads: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)


def shape(value: Any, key: str = "") -> Any:
    """The keys and types in `value`. Lists of nothing, and values that may be None, are any."""
    if key in MAY_BE_NOTHING or (key == "temperature" and not value):
        return ANY
    if isinstance(value, dict):
        return {name: shape(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else ANY
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


def differences(real: Any, simulated: Any, where: str) -> list[str]:
    """How two shapes differ, in words."""
    if ANY in (real, simulated):
        return []
    if isinstance(real, dict) and isinstance(simulated, dict):
        found = [f"{where}.{name}: only the real one has it" for name in real.keys() - simulated.keys()]
        found += [f"{where}.{name}: only the simulated one has it" for name in simulated.keys() - real.keys()]
        for name in real.keys() & simulated.keys():
            found += differences(real[name], simulated[name], f"{where}.{name}")
        return found
    if isinstance(real, list) and isinstance(simulated, list):
        return differences(real[0], simulated[0], f"{where}[0]")
    return [] if real == simulated else [f"{where}: {real} is real, {simulated} is simulated"]


class Recorder:
    """Asks and listens, as the bridge does."""

    def __init__(self, http: aiohttp.ClientSession, subject: Subject) -> None:
        self.record = Record()
        self._http = http
        self._subject = subject
        self._step = ""
        self._newest: dict[str, Any] = {}

    async def whole_story(self) -> Record:
        """From a printer that waits to one that is gone."""
        await self._enter("idle")
        for path in ("version", "printer", "job", "connection", "currentuser", "files?recursive=true"):
            await self._ask(path)
        await self._ask("printerprofiles")
        await self._ask("settings", shown=False)
        await self._ask("printerprofiles", self._subject.admin_key)
        await self._ask("version", "x" * 32, shown=False)
        await self._ask("job", "x" * 32, shown=False)
        await self._ask("currentuser", "x" * 32)
        async with self._listening():
            await self._look()
            await self._do("print", "PRINTING")
            await self._look("job", f"files/local/{FILE}")
            await self._do("pause", "PAUSED")
            await self._look("printer", "job")
            await self._do("resume", "PRINTING")
            await self._do("finish", "OPERATIONAL")
            await self._look("job", f"files/local/{FILE}", "files?recursive=true")
            await self._do("print", "PRINTING")
            await self._do("cancel", "OPERATIONAL")
            await self._look("job", f"files/local/{FILE}")
            await self._do("print", "PRINTING")
            await self._do("fail", "OFFLINE", "CLOSED_WITH_ERROR", then="PrintFailed")
            await self._look("printer", "job", "connection")
            await self._do("connect", "OPERATIONAL", then="Connected")
            await self._look("job", "connection")
            await self._do("disconnect", "OFFLINE", "CLOSED")
            await self._look("printer", "job", "connection")
        return self.record

    async def _enter(self, step: str) -> None:
        self._step = step

    async def _ask(self, path: str, key: str | None = None, *, shown: bool = True) -> None:
        headers = {"X-Api-Key": key or self._subject.key}
        async with self._http.get(f"{self._subject.url}/api/{path}", headers=headers) as response:
            body = shape(await response.json(content_type=None)) if shown else ANY
        who = {None: "", self._subject.admin_key: " as admin"}.get(key, " with a wrong key")
        self.record.answers[f"{self._step}: {path}{who}"] = (response.status, body)

    async def _log_in(self, key: str) -> tuple[int, Any]:
        url, headers = f"{self._subject.url}/api/login", {"X-Api-Key": key}
        async with self._http.post(url, json={"passive": True}, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        status, user = await self._log_in(self._subject.key)
        self.record.answers["login"] = (status, shape(user))
        self.record.answers["login with a wrong key"] = ((await self._log_in("x" * 32))[0], ANY)
        address = self._subject.url + "/sockjs/websocket"
        async with self._http.ws_connect(address) as stranger:
            await stranger.send_json({"auth": "nobody:nothing"})
            said = [json.loads((await stranger.receive(30)).data) for _ in range(2)]
            self.record.messages["a stranger"] = [shape(said[0]), said[1]]
        async with self._http.ws_connect(address) as socket:
            await socket.send_json({"throttle": 1})
            wanted = {"state": {"logs": False, "messages": False}, "events": list(EVENTS), "plugins": False}
            await socket.send_json({"subscribe": wanted})
            await socket.send_json({"auth": f"{user['name']}:{user['session']}"})
            listening = asyncio.create_task(self._listen(socket))
            await self._until(lambda: "current" in self._newest)
            yield
            listening.cancel()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            for name, data in json.loads(message.data).items():
                self._newest[name] = data
                if name == "event":
                    self._hear(data["type"], data["payload"])
                elif name != "current":
                    self.record.messages[name] = shape(data)

    def _hear(self, kind: str, payload: Any) -> None:
        if kind not in UNORDERED:
            state = payload["state_id"] if kind == "PrinterStateChanged" else None
            self.record.events.append((kind, state))
        if kind == "PrintCancelled":
            payload.pop("reason", None)  # comes with the next event, and by chance with this one
        what = f" {payload['state_id']}" if kind == "PrinterStateChanged" else ""
        self.record.payloads[f"{self._step}: {kind}{what}"] = shape(payload)

    async def _do(self, step: str, *ends: str, then: str | None = None) -> None:
        await self._enter(step)
        before = len(self.record.events)
        self._newest.clear()
        happening = self._subject.does[step]()
        if isinstance(happening, Awaitable):
            await happening
        await self._until(lambda: any(state in ends for _, state in self.record.events[before:]))
        if then:
            await self._until(lambda: any(kind == then for kind, _ in self.record.events[before:]))

    async def _look(self, *paths: str) -> None:
        """What the step has come to, told by the socket and by REST."""
        await self._until(lambda: "current" in self._newest)
        await asyncio.sleep(
            1.5
        )  # the first may have been on its way before, and without a printer none may follow
        current = self._newest["current"]
        self.record.messages[f"{self._step}: current"] = shape(current)
        self.record.states[self._step] = (current["state"], current["busyFiles"])
        for path in paths:
            await self._ask(path)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.02)


async def real_one(version: str, folder: Path) -> Record:
    octoprint = OctoPrint(environment(version), folder, free_port(), with_plugin=False)

    def start() -> tuple[str, str]:
        octoprint.start()
        octoprint.wait_operational()
        octoprint.upload(FILE, slow_gcode(45, 100))
        return octoprint.make_user_key("bridge", *STATUS_AND_FILES), octoprint.make_application_key("test")

    async def fail() -> None:
        await asyncio.to_thread(octoprint.send, "!!DEBUG:trigger_fatal_error_marlin")

    try:
        key, admin_key = await asyncio.to_thread(start)
        does: dict[str, Callable[[], Any]] = {
            "print": lambda: asyncio.to_thread(octoprint.print, FILE),
            "pause": lambda: asyncio.to_thread(octoprint.pause),
            "resume": lambda: asyncio.to_thread(octoprint.resume),
            "finish": lambda: None,
            "cancel": lambda: asyncio.to_thread(octoprint.cancel),
            "fail": fail,
            "connect": lambda: asyncio.to_thread(octoprint.connect),
            "disconnect": lambda: asyncio.to_thread(octoprint.disconnect),
        }
        return await record(Subject(octoprint.url, key, admin_key, does))
    finally:
        octoprint.stop()


async def simulated_one(version: str) -> Record:
    octoprint = SimulatedOctoPrint("k" * 32, STATUS_AND_FILES, version)
    octoprint.keys["a" * 32] = ADMIN
    octoprint.add_file(FILE)
    octoprint.heat(tool0=(21.3, 0.0), bed=(21.3, 0.0))

    async def print_() -> None:
        octoprint.print(FILE)
        octoprint.advance(50.0)

    def connect() -> None:
        octoprint.connect()
        octoprint.heat(tool0=(21.3, 0.0), bed=(21.3, 0.0))

    does: dict[str, Callable[[], Any]] = {
        "print": print_,
        "pause": octoprint.pause,
        "resume": octoprint.resume,
        "finish": octoprint.finish,
        "cancel": octoprint.cancel,
        "fail": lambda: octoprint.fail(
            "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!"
        ),
        "connect": connect,
        "disconnect": octoprint.disconnect,
    }
    async with Plant([octoprint]).served() as plant:
        return await record(Subject(plant.url_of(0), "k" * 32, "a" * 32, does))


async def record(subject: Subject) -> Record:
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(30)) as http:
        return await Recorder(http, subject).whole_story()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_simulated_octoprint_speaks_as_a_real_one(version: str, tmp_path: Path) -> None:
    real, simulated = await asyncio.gather(real_one(version, tmp_path / "octoprint"), simulated_one(version))
    assert simulated.events == real.events
    assert simulated.states == real.states
    found = []
    for name, answer in real.answers.items():
        found += differences(answer[0], simulated.answers[name][0], f"{name} (status)")
        found += differences(answer[1], simulated.answers[name][1], name)
    for name, message in real.messages.items():
        found += differences(message, simulated.messages[name], name)
    for name, payload in real.payloads.items():
        if name in simulated.payloads:  # of those that come from other threads some are told more often
            found += differences(payload, simulated.payloads[name], name)
    assert found == []
