"""The status page: in flow the parts of the bridge as they are, out flow HTML, JSON, what `mesbridge watch` gets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from aiohttp import web

import bridge
from bridge import wire
from bridge.control import Command
from bridge.machine import Machine, Transition
from bridge.mes import MesError
from bridge.mes.states import DeliveryState
from bridge.settings import IdentificationSettings
from bridge.umati.identification import identify
from bridge.web.board import Board
from bridge.web.day import notice_json
from bridge.web.history import History
from bridge.web.overview import AtMes, Facts, detail, text
from bridge.web.overview import time as time_json

log = structlog.get_logger(__name__)

_STATIC: Final = {
    "static": Path(__file__).parent / "static",
    "common": Path(bridge.__file__).parent / "common",
}
_SERVED: Final = frozenset({".css", ".js", ".svg"})
_MES_EVERY_S = 5.0
_NOTICES_SHOWN = 40
_WORTH_COMPRESSING = 2048

Channel = Callable[[str], str | None]
"""How a machine without the plugin is heard: ``socket``, ``rest``, or None."""


class Entry(Protocol):
    """A machine that is served; `bridge.site.Served` is one."""

    @property
    def machine(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def url(self) -> str: ...
    @property
    def identification(self) -> IdentificationSettings: ...


class OpcUa(Protocol):
    """What is asked of the OPC UA server; `bridge.umati.UmatiServer` is one."""

    @property
    def endpoint_url(self) -> str: ...
    @property
    def session_count(self) -> int: ...
    def endpoint_url_of(self, machine_id: str) -> str: ...
    def node_id(self, machine_id: str) -> str: ...


class StatusPage:
    """A sink, and routes. `entries` are the machines that are served, `machines` what is known of each, `deliveries`
    asks how it stands with the MES instances, and may block. `channel`, see `Channel`. `login` says that people log in.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        entries: Callable[[], Iterable[Entry]],
        machines: Callable[[], Mapping[str, Machine]],
        opcua: OpcUa,
        deliveries: Callable[[], Iterable[DeliveryState]],
        channel: Channel = lambda _: None,
        login: bool = False,
    ) -> None:
        self._name = name
        self._entries = entries
        self._machines = machines
        self._opcua = opcua
        self._deliveries = deliveries
        self._channel = channel
        self._login = login
        self._started = wire.utc_now()
        self._served: dict[str, Entry] = {}
        self._at_mes: dict[str, tuple[AtMes, ...]] = {}
        self._mes: list[dict[str, Any]] = []
        self._mes_asked = float("-inf")
        self._mes_lock = asyncio.Lock()
        self._history = History(folder, machines)
        self._board = Board(self._sorted, self._facts)
        self._files = {
            f"/{where}/{path.name}": _File(path)
            for where, there in _STATIC.items()
            for path in there.iterdir()
            if path.suffix in _SERVED
        }
        self._pages = {
            name: (_STATIC["static"] / f"{name}.html").read_text(encoding="utf-8")
            for name in ("overview", "machine")
        }

    def handle(self, transition: Transition) -> None:
        """See `bridge.fleet.Sink`."""
        self._board.handle(transition)
        self._history.handle(transition)

    async def run(self) -> None:
        """Keep the last day, until cancelled."""
        for one in self._entries():
            self._history.add(one.machine, self._machine(one.machine))
        await self._history.run()

    async def save(self) -> None:
        """Write what of the last day is not written yet."""
        await self._history.save()

    def add_routes(self, application: web.Application) -> None:
        """Have `application` serve the page."""
        router = application.router
        router.add_get("/", self._overview_page)
        router.add_get("/machine/{machine}", self._machine_page)
        router.add_get("/overview.json", self._overview)
        router.add_get("/machine/{machine}/now.json", self._now)
        router.add_get("/machine/{machine}/day.json", self._day)
        router.add_get("/{where:static|common}/{file}", self._file)

    def commands(self) -> dict[str, Command]:
        """What `mesbridge watch` asks, by the path of `bridge.control`."""

        async def look(values: Mapping[str, Any]) -> dict[str, Any]:
            mark = values.get("since")
            found: dict[str, Any] = json.loads(await self._news(mark if isinstance(mark, str) else None))
            return found

        return {"watch": look}

    # ------------------------------------------------------------------ what is known

    def _sorted(self) -> list[str]:
        self._served = {one.machine: one for one in self._entries()}
        return list(self._served)

    def _machine(self, machine: str) -> Machine:
        return self._machines().get(machine) or Machine()

    def _facts(self, machine: str) -> Facts:
        one, known = self._served[machine], self._machine(machine)
        return Facts(
            machine,
            known,
            identify(machine, one.name, one.url, one.identification, known.printer),
            one.url,
            self._source(machine, known),
            self._at_mes.get(machine, ()),
            self._opcua.endpoint_url_of(machine),
            self._opcua.node_id(machine),
        )

    def _source(self, machine: str, known: Machine) -> str | None:
        channel = self._channel(machine)
        if channel is not None:
            return channel
        return "plugin" if known.printer is not None and known.printer.plugin_version else None

    async def _news(self, mark: str | None) -> str:
        """The overview as far as it changed after `mark`, as JSON text."""
        await self._ask_mes()
        names = {one: self._facts(one).nameplate.component_name for one in self._mentioned()}
        notices = [
            notice_json(one, text(names[one.machine]))
            for one in self._history.recent()[:_NOTICES_SHOWN]
            if one.machine in names
        ]
        fleet = {
            "bridge": self._name,
            "version": bridge.__version__,
            "login": self._login,
            "started": time_json(self._started),
            "opcua": {"endpoint": self._opcua.endpoint_url, "sessions": self._opcua.session_count},
            "mes": self._mes,
        }
        self._board.update(fleet, notices)
        return self._board.since(mark, wire.format_time(wire.utc_now()))

    def _mentioned(self) -> set[str]:
        order = set(self._sorted())
        return {one.machine for one in self._history.recent() if one.machine in order}

    async def _ask_mes(self) -> None:
        """Look how it stands with the MES instances, now and then, and for all who ask at the same time."""
        async with self._mes_lock:
            if time.monotonic() - self._mes_asked < _MES_EVERY_S:
                return
            try:
                states = await asyncio.to_thread(lambda: list(self._deliveries()))
            except MesError as error:
                self._mes = [{"mes": None, "trouble": text(str(error))}]
                return
            finally:
                self._mes_asked = time.monotonic()
        at: dict[str, list[AtMes]] = {}
        for state in states:
            for machine, one in state.machines.items():
                status, since = (one.told.status, one.told.time) if one.told else (None, None)
                at.setdefault(machine, []).append(
                    AtMes(
                        state.mes,
                        one.activation,
                        status,
                        since,
                        one.waiting,
                        one.refused,
                        one.held,
                        state.trouble,
                    )
                )
        now = {machine: tuple(ones) for machine, ones in at.items()}
        changed = {one for one in now.keys() | self._at_mes.keys() if now.get(one) != self._at_mes.get(one)}
        self._at_mes = now
        self._board.touch(changed)
        self._mes = [
            {
                "mes": state.mes,
                "url": state.url,
                "trouble": text(state.trouble),
                "trouble_since": time_json(state.trouble_since),
                "waiting": state.waiting,
                "refused": state.refused,
                "machines": len(state.machines),
            }
            for state in states
        ]

    # ------------------------------------------------------------------ HTTP

    async def _overview_page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._pages["overview"], content_type="text/html")

    async def _machine_page(self, request: web.Request) -> web.Response:
        self._find(request)
        return web.Response(text=self._pages["machine"], content_type="text/html")

    async def _overview(self, request: web.Request) -> web.Response:
        return _json(request, await self._news(request.query.get("since")))

    async def _now(self, request: web.Request) -> web.Response:
        machine = self._find(request)
        await self._ask_mes()
        facts = self._facts(machine)
        said = self._history.day(machine).notices.values()
        notices = sorted(said, key=lambda one: one.time, reverse=True)
        name = facts.nameplate.component_name
        return web.json_response(
            {
                "now": wire.format_time(wire.utc_now()),
                "bridge": self._name,
                "machine": detail(facts),
                "notices": [notice_json(one, name) for one in notices],
            }
        )

    async def _day(self, request: web.Request) -> web.Response:
        day = self._history.day(self._find(request))
        answer = web.json_response(day.shown(wire.utc_now()))
        answer.enable_compression()
        return answer

    async def _file(self, request: web.Request) -> web.Response:
        file = self._files.get(request.path)
        if file is None:
            raise web.HTTPNotFound(text="There is no such file.")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == file.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.content, content_type=file.kind, charset="utf-8", headers=headers)

    def _find(self, request: web.Request) -> str:
        machine = request.match_info["machine"]
        if machine not in self._served and machine not in self._sorted():
            raise web.HTTPNotFound(text="No such machine is served. Go back to the overview.")
        return machine


class _File:
    """A file of the page, in memory."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:20]}"'
        self.kind = mimetypes.types_map.get(path.suffix, "text/plain")


def _json(request: web.Request, made: str) -> web.Response:
    answer = web.Response(text=made, content_type="application/json")
    if len(made) > _WORTH_COMPRESSING and request.remote not in ("127.0.0.1", "::1"):
        answer.enable_compression()  # on this computer it would cost more than it saves
    return answer
