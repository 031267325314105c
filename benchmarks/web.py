"""What the status page costs: 500 printers on a real bridge that all change, and pages that follow them."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from bridge import wire
from bridge.machine import Heater, Link, Machine
from bridge.web.history import FILE, History
from tests.e2e.browser import chromium
from tests.e2e.fleet import Plant

MACHINES, PAGES, SECONDS, ROUND_S = 500, 5, 20.0, 2.0
DAY_MACHINES = 1000
_TICKS_A_SECOND = 100


def _cpu(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def _asked(url: str, **query: str) -> tuple[float, int, dict[str, Any]]:
    begun = time.perf_counter()
    answer = requests.get(url, params=query, timeout=60)
    return time.perf_counter() - begun, len(answer.content), answer.json()


class _Changing:
    """Every printer tells other temperatures every `ROUND_S`, in a thread."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        rounds = 0
        while not self._over.is_set():
            begun = time.monotonic()
            self._plant.tell_heaters(rounds)
            rounds += 1
            self._over.wait(max(0.0, ROUND_S - (time.monotonic() - begun)))


def _share(plant: Plant, seconds: float = SECONDS) -> float:
    """Of one core, in percent."""
    assert plant.bridge.process is not None
    begun, before = time.monotonic(), _cpu(plant.bridge.process.pid)
    time.sleep(seconds)
    return 100 * (_cpu(plant.bridge.process.pid) - before) / (time.monotonic() - begun)


def _pages(plant: Plant) -> tuple[float, float, float]:
    """CPU of the bridge without and with pages, in percent of a core, and seconds until a page shows all machines."""
    with _Changing(plant):
        alone = _share(plant)
    with chromium() as browser:
        page = browser.new_page()
        begun = time.perf_counter()
        page.goto(plant.bridge.web_url)
        page.wait_for_function(f"() => document.querySelectorAll('#machines > li').length === {MACHINES}")
        drawn = time.perf_counter() - begun
        page.close()
    marks = [""] * PAGES

    def follow(number: int) -> None:
        # Asks as the page does; that many browsers would measure this computer.
        while not over.wait(2.0):
            marks[number] = _asked(f"{plant.bridge.web_url}/overview.json", since=marks[number])[2]["mark"]

    over = threading.Event()
    followers = [threading.Thread(target=follow, args=(number,)) for number in range(PAGES)]
    for one in followers:
        one.start()
    with _Changing(plant):
        watched = _share(plant)
    over.set()
    for one in followers:
        one.join()
    return alone, watched, drawn


def _day(folder: Path) -> tuple[float, float, float, float]:
    """CPU ms a minute on the event loop and in the thread, MB in the file, CPU s to read it."""
    now = wire.utc_now() - timedelta(days=1)
    machines = {}
    clock = [now]
    history = History(folder, lambda: machines, lambda: clock[0])
    sampled, saved = [], []
    for minute in range(24 * 60):
        clock[0] = now + timedelta(minutes=minute)
        heaters = {
            name: Heater(20.0 + (minute * 7 + index) % 200, 200.0, clock[0])
            for index, name in enumerate(("tool0", "bed", "chamber"))
        }
        if minute % 60 == 0:
            machines = {
                f"octoprint-{number:08x}": Machine(link=Link.UP, heaters=heaters)
                for number in range(DAY_MACHINES)
            }
        begun = time.process_time()
        history.sample()
        sampled.append(time.process_time() - begun)
        begun = time.process_time()
        asyncio.run(history.save())
        saved.append(time.process_time() - begun)
    size = (folder / FILE).stat().st_size
    again = History(folder, lambda: machines, lambda: clock[0])
    begun = time.process_time()
    asyncio.run(again.load())
    took = time.process_time() - begun
    return 1e3 * statistics.median(sampled), 1e3 * statistics.median(saved), size / 1e6, took


def run() -> None:
    """Print the figures."""
    print(f"\nThe status page: {MACHINES} machines")
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), MACHINES)
        try:
            plant.open()
            plant.tell_past()
            url = f"{plant.bridge.web_url}/overview.json"
            firsts = [_asked(url) for _ in range(5)]
            mark = firsts[-1][2]["mark"]
            plant.tell_heaters(1)
            all_changed = _asked(url, since=mark)
            quiet = _asked(url, since=all_changed[2]["mark"])
            alone, watched, drawn = _pages(plant)
        finally:
            plant.close()
    size, seconds = firsts[-1][1], statistics.median(one[0] for one in firsts)
    print(f"the first answer             {size / 1e3:6.0f} kB, {1e3 * seconds:6.1f} ms")
    print(f"an update, all changed       {all_changed[1] / 1e3:6.0f} kB, {1e3 * all_changed[0]:6.1f} ms")
    print(f"an update, nothing changed   {quiet[1] / 1e3:6.1f} kB, {1e3 * quiet[0]:6.1f} ms")
    print(f"until a browser shows all    {drawn:6.2f} s")
    print(f"CPU, all change every {ROUND_S:g} s     {alone:5.1f} %, with {PAGES} open pages {watched:5.1f} %")
    with tempfile.TemporaryDirectory() as folder:
        sampled, saved, megabytes, took = _day(Path(folder))
    print(
        f"a day of {DAY_MACHINES} machines: {sampled:.1f} ms of CPU a minute on the loop, {saved:.0f} in a thread,"
    )
    print(f"  {megabytes:.0f} MB in history.sqlite, read with {took:.1f} s of CPU in a thread at the start")


if __name__ == "__main__":
    run()
