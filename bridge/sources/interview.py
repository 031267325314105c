"""All that `mesbridge check --online` wants to know of one OctoPrint, asked without changing anything there.

In: its url and key. Out: `Interview`: what it said, and what is wrong.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from bridge.aggregator.problem import Finding
from bridge.settings import is_loopback
from bridge.sources.octoprint import PUBLIC_FILE, Answer, Unreachable, clock_difference_s, request, shown

NEEDED: Final = "STATUS"
CLOCK_TOLERANCE_S: Final = 5.0
_TIMED_REQUESTS: Final = 3
_GLOBAL_KEY_USER: Final = "_api"
_PLUGIN_USER: Final = "mesbridge-key-"
_POWERFUL: Final = frozenset({"ADMIN", "SETTINGS", "SYSTEM"})
_PLUGIN_FILE: Final = "/plugin/mesbridge/static/js/mesbridge.js"
_PLUGIN_LIST: Final = "/plugin/pluginmanager/plugins"
_MAY_LIST_PLUGINS: Final = "PLUGIN_PLUGINMANAGER_LIST"


@dataclass(slots=True)
class Interview:
    """What an OctoPrint said; None is what could not be learnt.

    `state` is its own text. `user` owns the key. `clock_difference_s`: how much its clock is ahead of ours, to about
    a second. `push_socket`: whether the key opens it. `key_in_clear`: whether others on the network could read the key.
    """

    reachable: bool = False
    version: str | None = None
    state: str | None = None
    key_accepted: bool | None = None
    user: str | None = None
    rights: tuple[str, ...] = ()
    plugin_seen: bool | None = None
    plugin_version: str | None = None
    push_socket: bool | None = None
    latency_ms: float | None = None
    clock_difference_s: float | None = None
    key_in_clear: bool = False
    findings: list[Finding] = field(default_factory=list)

    def error(self, message: str, hint: str) -> None:
        self.findings.append(Finding("error", message, hint))

    def warning(self, message: str, hint: str) -> None:
        self.findings.append(Finding("warning", message, hint))


async def interview(http: aiohttp.ClientSession, url: str, api_key: str) -> Interview:
    """Ask the OctoPrint at `url`. Never raises for what it or the network does."""
    found = Interview(key_in_clear=not is_private(url))
    try:
        await _Interviewer(http, url.rstrip("/"), api_key, found).run()
    except Unreachable as error:
        said, _, advice = str(error).partition("; ")
        found.error(said, advice or "check that OctoPrint runs, and its url in config.json")
    _judge_clock(found)
    return found


class _Interviewer:
    def __init__(self, http: aiohttp.ClientSession, base: str, api_key: str, found: Interview) -> None:
        self._http, self._base, self._key, self._found = http, base, api_key, found

    async def run(self) -> None:
        found = self._found
        user = await self._timed_user()
        found.reachable = True
        found.user = None if user["name"] is None else shown(user["name"])
        found.key_accepted = found.user is not None
        found.rights = tuple(one for one in user["permissions"] if isinstance(one, str))
        if not found.key_accepted:
            found.error(
                f"{self._base} does not know the key of this machine",
                "generate one in the plugin's settings tab, or take one of a user with the STATUS permission, and put"
                " it where the machine's entry says",
            )
        else:
            self._judge_rights()
            if NEEDED in found.rights:
                await self._printer()
            await self._log_in()
        await self._plugin()

    async def _timed_user(self) -> Mapping[str, Any]:
        """Whose the key is; any key may ask this, and a wrong one is told that it is nobody's."""
        seconds = []
        for _ in range(1 + _TIMED_REQUESTS):
            begin = time.perf_counter()
            answer = await self._ask("/api/currentuser")
            seconds.append(time.perf_counter() - begin)
            name = answer.content.get("name", ...)
            if answer.status in (401, 403):
                raise Unreachable(
                    f"{self._base} answers {answer.status} before the key is looked at; check whether a reverse proxy"
                    " in front of OctoPrint wants a login, and let the bridge through"
                )
            known = isinstance(name, str | None) and isinstance(answer.content.get("permissions"), list)
            if answer.status != 200 or not known:
                raise Unreachable(
                    f"{self._base} answers {answer.status}, but not as an OctoPrint does; check url in config.json"
                    " (scheme, port, and the path when OctoPrint is behind a reverse proxy)"
                )
        self._found.latency_ms = statistics.median(seconds[1:]) * 1000  # the first one also connected
        return answer.content

    def _judge_rights(self) -> None:
        found = self._found
        advice = "use the plugin's key, or one of a user with the STATUS permission alone"
        if NEEDED not in found.rights:
            found.error(
                f"the key is valid, but its user {found.user!r} lacks the STATUS permission",
                "grant it in OctoPrint's settings under Access Control, or use the plugin's key",
            )
        if found.user == _GLOBAL_KEY_USER:
            found.warning("this is the global key, which can do everything in this OctoPrint", advice)
        elif powers := sorted(_POWERFUL.intersection(found.rights)):
            found.warning(
                f"the key can do far more than the bridge needs: its user {found.user!r} has {', '.join(powers)}",
                advice,
            )

    async def _printer(self) -> None:
        version = await self._ask("/api/version")
        if isinstance(server := version.content.get("server"), str):
            self._found.version = shown(server)
        for path in ("/api/printer", "/api/job"):
            answer = await self._ask(path)
            if answer.status not in (200, 409):  # 409: no printer is connected, a normal answer
                self._found.error(
                    f"{self._base}{path} answers {answer.status}", "look into OctoPrint's log (octoprint.log)"
                )
            elif isinstance(state := answer.content.get("state"), str):
                self._found.state = shown(state)

    async def _log_in(self) -> None:
        answer = await self._ask("/api/login", {"passive": True})
        session = answer.content.get("session")
        self._found.push_socket = answer.status == 200 and isinstance(session, str) and bool(session)
        if not self._found.push_socket:
            self._found.warning(
                f"the key opens no session for the push socket: {self._base}/api/login answers {answer.status}",
                "look into OctoPrint's log (octoprint.log), and let a reverse proxy pass /api/login on",
            )

    async def _plugin(self) -> None:
        """Its files are public, so that no key is needed; and a key that it made needs it."""
        found = self._found
        answer = await self._ask(_PLUGIN_FILE, key=False)
        made_by_it = (found.user or "").startswith(_PLUGIN_USER)
        found.plugin_seen = answer.status == 200 or made_by_it
        if found.clock_difference_s is None:
            await self._ask(PUBLIC_FILE, key=False)
        if found.plugin_seen and _MAY_LIST_PLUGINS in found.rights:
            listed = (await self._ask(_PLUGIN_LIST)).content.get("plugins")
            for plugin in listed if isinstance(listed, list) else []:
                if isinstance(plugin, dict) and plugin.get("key") == "mesbridge":
                    found.plugin_version = shown(str(plugin.get("version")))

    async def _ask(self, path: str, body: Mapping[str, Any] | None = None, *, key: bool = True) -> Answer:
        before, method = datetime.now(UTC), "GET" if body is None else "POST"
        answer = await request(self._http, method, self._base, path, self._key if key else None, body)
        difference = clock_difference_s(answer.headers.get("Date"), before, datetime.now(UTC))
        if difference is not None:
            self._found.clock_difference_s = difference
        return answer


def clock_finding(difference_s: float | None, whose: str) -> Finding | None:
    """What there is to say of a clock that is `difference_s` ahead."""
    if difference_s is None or abs(difference_s) <= CLOCK_TOLERANCE_S:
        return None
    way = "ahead of" if difference_s > 0 else "behind"
    return Finding(
        "warning",
        f"the clock of {whose} is {abs(difference_s):.0f} s {way} this computer's, and so are the times that it tells",
        "have both computers set their clocks from the same time server (NTP)",
    )


def _judge_clock(found: Interview) -> None:
    if (finding := clock_finding(found.clock_difference_s, "this OctoPrint")) is not None:
        found.findings.append(finding)


def is_private(url: str) -> bool:
    """Whether nobody on the network can read what is sent to `url`: https, or this computer itself."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
