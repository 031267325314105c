"""Each machine is asked, until it answers, whether its url and key are right. Only people read the outcome."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
import structlog

from bridge.aggregator import Secret
from bridge.machine import Link
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


async def verify_all(candidates: Iterable[Candidate], link_of: Callable[[str], Link]) -> None:
    """Ask all `candidates`, a few at a time, each until it could be verified."""
    turns = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        for candidate in candidates:
            group.create_task(_verify_until_good(http, turns, candidate, link_of))


async def _verify_until_good(
    http: aiohttp.ClientSession,
    turns: asyncio.Semaphore,
    candidate: Candidate,
    link_of: Callable[[str], Link],
) -> None:
    machine, pause, told = candidate.machine, _FIRST_RETRY_S, ""
    while True:
        try:
            async with turns:
                found = await verify(http, candidate.url, candidate.key.reveal())
            break
        except OctoPrintError as error:
            if str(error) != told:
                told = str(error)
                kind = "key refused" if isinstance(error, KeyRefused) else "OctoPrint not verified"
                log.warning(kind, machine=machine, detail=told)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (spreads load)
        pause = min(pause * 2, _LONGEST_RETRY_S)
    log.info("OctoPrint verified", machine=machine, version=found.version, state=found.state)
    await asyncio.sleep(_PLUGIN_EXPECTED_WITHIN_S)
    if link_of(machine) is not Link.UP:
        log.warning(
            "OctoPrint answers, but its MESBridge plugin does not deliver; install it, enter this bridge's"
            " address in its settings tab, and use the key that it makes",
            machine=machine,
            url=candidate.url,
        )
