"""Which machines are followed from outside: those that were verified and whose plugin is not heard.

In flow verified candidates and the word that a plugin was heard; out flow sessions that begin and end. A plugin
comes first: when it is heard the session has ended before the first of its events is appended, and begins again
when the plugin has been silent for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import structlog

from bridge.log import Log
from bridge.machine import Machine
from bridge.sources.pull.session import Channel, Session
from bridge.sources.pull.socket import no_redirects
from bridge.sources.verification import Candidate

log = structlog.get_logger(__name__)

_CONNECTING_AT_ONCE = 20


@dataclass(slots=True)
class _Followed:
    """One machine: from `begins` on, by the clock, it is followed, unless its plugin is heard meanwhile."""

    candidate: Candidate
    begins: float
    session: Session | None = None
    running: asyncio.Task[None] | None = None
    owner: asyncio.Task[None] | None = None


class PullSource:
    """Follows machines while it runs. A plugin counts as silent after `silent_after` seconds of the `clock`.

    `machine` gives what the log says of one; `heard` is awaited at each sign of life, with the machine's id.
    """

    def __init__(
        self,
        store: Log,
        machine: Callable[[str], Machine],
        heard: Callable[[str], Awaitable[None]],
        silent_after: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._machine = machine
        self._heard = heard
        self.silent_after = silent_after
        self._clock = clock
        self.events = 0
        """How many were noticed since start."""
        self._turns = asyncio.Semaphore(_CONNECTING_AT_ONCE)
        self._followed: dict[str, _Followed] = {}
        self._plugin_heard: dict[str, float] = {}
        self._new: asyncio.Queue[_Followed] = asyncio.Queue()

    def follow(self, candidate: Candidate) -> None:
        """Follow the machine, with this url and key from now on: they were verified."""
        self.forget(candidate.machine)
        printer = self._machine(candidate.machine).printer
        expects_plugin = printer is not None and printer.plugin_version is not None
        heard = self._plugin_heard.get(candidate.machine, self._clock() if expects_plugin else None)
        begins = 0.0 if heard is None else heard + self.silent_after
        self._followed[candidate.machine] = followed = _Followed(candidate, begins)
        self._new.put_nowait(followed)

    def forget(self, machine: str) -> None:
        """Follow the machine no longer."""
        followed = self._followed.pop(machine, None)
        if followed is not None and followed.owner is not None:
            followed.owner.cancel()

    def channel(self, machine: str) -> Channel | None:
        """How the machine is followed now; None when it is not."""
        followed = self._followed.get(machine)
        return followed.session.channel if followed is not None and followed.session is not None else None

    async def plugin_heard(self, machine: str) -> bool:
        """The machine's plugin is there. Whether it takes over from here: then nothing more is appended from here."""
        self._plugin_heard[machine] = self._clock()
        followed = self._followed.get(machine)
        if followed is None:
            return False
        followed.begins = self._clock() + self.silent_after
        running = followed.running
        if running is None:
            return False
        running.cancel()
        await asyncio.wait([running])
        return True

    def _count(self, events: int) -> None:
        self.events += events

    async def run(self) -> None:
        """Until cancelled."""
        # No limit of connections: each machine has one, and those that wait must not hold the others back. No cookies:
        # the key alone says who asks.
        connector = aiohttp.TCPConnector(limit=0)
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=jar, trace_configs=[no_redirects()]
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            while True:
                followed = await self._new.get()
                if self._followed.get(followed.candidate.machine) is followed:
                    followed.owner = group.create_task(self._follow(followed, http))

    async def _follow(self, followed: _Followed, http: aiohttp.ClientSession) -> None:
        candidate = followed.candidate
        while True:
            silent_for = followed.begins - self._clock()
            if silent_for > 0:
                await asyncio.sleep(silent_for)
                continue
            followed.session = session = Session(
                candidate.machine,
                candidate.url,
                candidate.key.reveal(),
                http,
                self._store,
                lambda: self._machine(candidate.machine),
                self._heard,
                self._count,
                self._turns,
            )
            followed.running = running = asyncio.create_task(session.run(), name=f"pull {candidate.machine}")
            try:
                await asyncio.wait([running])
            finally:
                running.cancel()
                followed.running = followed.session = None
            log.info("machine left to its plugin", machine=candidate.machine)
