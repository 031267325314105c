"""Each machine is asked, until it answers, whether its url and key are right. Only people read the outcome.

A machine that was paired and is reached over plain http is not asked: its key would travel in clear, which pairing
promises it does not. There a push of its plugin, signed with that key, is the proof.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import structlog

from bridge.aggregator import Secret
from bridge.sources.octoprint import KeyRefused, OctoPrintError, verify

log = structlog.get_logger(__name__)

_AT_ONCE = 10
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 60.0
_PLUGIN_EXPECTED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine to be asked."""

    machine: str
    url: str
    key: Secret
    paired: bool = False

    @property
    def by_plugin(self) -> bool:
        """Whether only its plugin can prove it."""
        return self.paired and urlsplit(self.url).scheme != "https"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the last attempt, in words."""

    ok: bool
    detail: str


class Verification:
    """Asks candidates while it runs, a few at a time, each until it could be verified; then `verified` is called."""

    def __init__(self, verified: Callable[[Candidate], None]) -> None:
        self.outcomes: dict[str, Outcome] = {}
        """By machine; none of one whose answer or plugin is still awaited."""
        self.by_plugin: set[str] = set()
        """The machines that are not asked, but wait for their plugins or have heard of them."""
        self._verified = verified
        self._wanted: dict[str, Candidate] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._new: asyncio.Queue[Candidate | str] = asyncio.Queue()

    def ask(self, candidate: Candidate) -> None:
        """Verify the machine, with this url and key from now on."""
        self._wanted[candidate.machine] = candidate
        self.outcomes.pop(candidate.machine, None)
        self.by_plugin.discard(candidate.machine)
        if candidate.by_plugin:
            self.by_plugin.add(candidate.machine)
        self._new.put_nowait(candidate)

    def forget(self, machine: str) -> None:
        """Ask the machine no longer."""
        self._wanted.pop(machine, None)
        self.outcomes.pop(machine, None)
        self.by_plugin.discard(machine)
        self._new.put_nowait(machine)

    def heard(self, machine: str) -> None:
        """A push of its plugin, signed with the key that the machine has now."""
        if machine in self.by_plugin and machine not in self.outcomes:
            self.outcomes[machine] = Outcome(True, "its plugin delivers, signed with the key")
            log.info("machine verified by its plugin", machine=machine)

    async def run(self) -> None:
        """Until cancelled."""
        asking: dict[str, asyncio.Task[None]] = {}
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            while True:
                candidate = await self._new.get()
                machine = candidate if isinstance(candidate, str) else candidate.machine
                if machine in asking:
                    asking.pop(machine).cancel()
                if isinstance(candidate, str):
                    continue
                asking[candidate.machine] = group.create_task(
                    self._wait_for_plugin(candidate)
                    if candidate.by_plugin
                    else self._verify_until_good(http, candidate)
                )

    async def _wait_for_plugin(self, candidate: Candidate) -> None:
        log.info(
            "machine waits for its plugin: it was paired, and its key is not sent over plain http",
            machine=candidate.machine,
            url=candidate.url,
        )
        await asyncio.sleep(_PLUGIN_EXPECTED_WITHIN_S)
        if candidate.machine not in self.outcomes:
            log.warning(
                "the MESBridge plugin of a paired machine does not deliver yet; check that OctoPrint runs, and what"
                " the plugin's settings tab says",
                machine=candidate.machine,
                url=candidate.url,
            )

    async def _verify_until_good(self, http: aiohttp.ClientSession, candidate: Candidate) -> None:
        machine, pause = candidate.machine, _FIRST_RETRY_S
        while True:
            try:
                async with self._turns:
                    found = await verify(http, candidate.url, candidate.key.reveal())
                break
            except OctoPrintError as error:
                outcome = Outcome(False, str(error))
                if self._is_news(machine, outcome):
                    kind = "key refused" if isinstance(error, KeyRefused) else "OctoPrint not verified"
                    log.warning(kind, machine=machine, detail=outcome.detail)
            except Exception as error:  # whatever it is, the bridge and its other machines go on
                outcome = Outcome(
                    False,
                    f"asking {candidate.url} failed in an unforeseen way ({type(error).__name__}); check the url of"
                    " this machine in config.json, and report it with the log. It is asked again, and its pushes"
                    " are taken all the same",
                )
                if self._is_news(machine, outcome):
                    log.exception("OctoPrint not verified", machine=machine, detail=outcome.detail)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (spreads load)
            pause = min(pause * 2, _LONGEST_RETRY_S)
        if self._wanted.get(machine) is not candidate:  # it is another, or gone, since it was asked
            return
        self.outcomes[machine] = Outcome(True, f"OctoPrint {found.version} answers, state {found.state}")
        log.info("OctoPrint verified", machine=machine, version=found.version, state=found.state)
        self._verified(candidate)

    def _is_news(self, machine: str, outcome: Outcome) -> bool:
        """Whether `outcome`, which is kept, differs from the one before."""
        before = self.outcomes.get(machine)
        self.outcomes[machine] = outcome
        return outcome != before
