"""The pictures of the status page in the docs, of a plant of 500 printers on a real bridge with a sandbox MES."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge import wire
from bridge.demo.octoprint import TREE
from tests.bridge.mes.chain import running_sandbox
from tests.e2e.browser import chromium
from tests.e2e.fleet import Plant, write_day

IMAGES = TREE / "docs" / "images"
MACHINE = "A-01"
_SILENT_S = 20.0


@contextmanager
def plant_with_a_day(folder: Path, count: int, silent_after: float = _SILENT_S) -> Iterator[Plant]:
    """`count` printers, some of them out of reach, and a day in the memory of the bridge."""
    (folder / "mes").mkdir()
    with running_sandbox(folder / "mes") as sandbox:
        mes = (
            f'[[mes]]\nid = 1\nurl = "{sandbox.mes_url}"\nservice_id = "{sandbox.service_id}"\n'
            f"token_file = '{sandbox.token_file}'\n"
        )
        plant = Plant(folder, count, mes, silent_after)
        try:
            plant.open()
            machine = plant.ids()[MACHINE]
            plant.bridge.stop()
            with ThreadPoolExecutor(1) as another:  # where no event loop of a browser runs
                another.submit(write_day, folder / "state", machine, wire.utc_now()).result()
            plant.bridge.output.unlink()
            plant.open()
            plant.tell_past()
            begun = time.monotonic()
            while time.monotonic() - begun < silent_after + 3 and silent_after < 60:
                plant.tell_heaters(0)
                time.sleep(silent_after / 4)
            yield plant
        finally:
            plant.close()


def open_page(browser: Any, plant: Plant, path: str = "/", **options: Any) -> Any:
    """A page that is live; `problems` are what its console has to say."""
    page = browser.new_page(locale="en-GB", **options)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console", lambda line: page.problems.append(line.text) if line.type in ("error", "warning") else None
    )
    page.goto(plant.bridge.web_url + path)
    page.locator("#connection.live").wait_for()
    return page


def main(images: Path = IMAGES, count: int = 500) -> None:
    with tempfile.TemporaryDirectory() as folder, plant_with_a_day(Path(folder), count) as plant:
        machine = f"/machine/{plant.ids()[MACHINE]}"
        wide, tall, phone = ({"width": w, "height": h} for w, h in ((1280, 780), (1280, 1040), (390, 844)))
        with chromium() as browser:
            for name, path, options in (
                ("status-500", "/", {"viewport": wide}),
                ("status-machine", machine, {"viewport": tall}),
                ("status-machine-dark", machine, {"viewport": tall, "color_scheme": "dark"}),
                ("status-phone", "/", {"viewport": phone, "device_scale_factor": 2}),
            ):
                page = open_page(browser, plant, path, **options)
                page.wait_for_timeout(1000)
                if name == "status-machine":
                    page.locator("#timeline").hover(position={"x": 760, "y": 140})
                page.screenshot(path=images / f"{name}.png")
                assert page.problems == [], page.problems
                page.close()
                print(f"{name}.png")


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:2]))
