"""Simulated OctoPrints of which half print. Prints one line of JSON, then one for each event, until told to end.

Each printing one tells progress and temperatures all the time, and pauses or goes on once in `EVERY_S`. A line on
standard input has it say how it was asked since the line before.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tests.simulated.octoprint import STATUS_AND_FILES, SimulatedOctoPrint
from tests.simulated.plant import Plant

EVERY_S = 25.0
_STEPS_A_SECOND = 10


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def step(octoprint: SimulatedOctoPrint, second: int) -> None:
    """What happens at a printer within a second."""
    octoprint.advance(min(99.0, second / 40))
    octoprint.heat(tool0=(200.0 + second % 7 / 10, 200.0), bed=(60.0 + second % 5 / 10, 60.0))


def toggle(number: int, octoprint: SimulatedOctoPrint) -> None:
    """Pause a print, or let it go on, and say so."""
    at = time.time()
    if octoprint.state_id == "PRINTING":
        octoprint.pause()
    else:
        octoprint.resume()
    say(number=number, paused=octoprint.state_id == "PAUSED", at=at)


async def printing(octoprints: list[SimulatedOctoPrint]) -> None:
    """Every second each of them goes on, and every `EVERY_S` seconds it pauses or is resumed, all at other times."""
    begin, done = time.monotonic(), 0
    while True:
        await asyncio.sleep(max(0.0, begin + done / _STEPS_A_SECOND - time.monotonic()))
        for number in range(done % _STEPS_A_SECOND, len(octoprints), _STEPS_A_SECOND):
            step(octoprints[number], done // _STEPS_A_SECOND)
        per_step = len(octoprints) / EVERY_S / _STEPS_A_SECOND
        for number in range(int(done * per_step), int((done + 1) * per_step)):
            toggle(2 * (number % len(octoprints)), octoprints[number % len(octoprints)])
        done += 1


async def asked(octoprints: list[SimulatedOctoPrint]) -> None:
    """Say how the OctoPrints were asked, whenever a line comes."""
    since = time.monotonic()
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        requests = [len(one.asked(since)) for one in octoprints]
        elapsed, pauses = time.monotonic() - since, [one.shortest_pause(since) for one in octoprints]
        say(requests=sum(requests), elapsed=elapsed, shortest_pause=min(pauses))
        since = time.monotonic()


async def main(count: int, socket: str) -> None:
    octoprints = [SimulatedOctoPrint(f"{number:043d}", STATUS_AND_FILES) for number in range(count)]
    for number, octoprint in enumerate(octoprints):
        octoprint.socket = socket
        octoprint.heat(tool0=(21.0, 0.0), bed=(21.0, 0.0))
        if number % 2 == 0:
            octoprint.print(f"part{number}.gcode")
    async with Plant(octoprints).served() as plant:
        urls = [plant.url_of(number) for number in range(count)]
        say(urls=urls, keys=[one.key for one in octoprints])
        work = asyncio.create_task(printing(octoprints[::2]))
        await asked(octoprints)
        work.cancel()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
