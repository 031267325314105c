"""The status page in a real browser, served by a real bridge; and the same in a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge import wire
from bridge.opcua import Users
from tests.e2e.bridge_process import PASSWORD, USER, BridgeProcess
from tests.e2e.browser import chromium
from tests.e2e.fleet import Plant, Printer
from tests.e2e.status_pictures import MACHINE, open_page, plant_with_a_day

pytestmark = pytest.mark.e2e

HOSTILE = "<img src=x onerror=\"document.title='broken into'\"><script>document.title='broken into'</script>"
WITHIN_MS = 30_000
CONTRASTS = r"""(selectors) => {
  const parse = (text) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a];
  };
  const luminance = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  const found = {};
  for (const selector of selectors) {
    [...document.querySelectorAll(selector)].slice(0, 25).forEach((node, index) => {
      if (!node.textContent) return;
      const [one, other] = [parse(getComputedStyle(node).color), behind(node)].map(luminance).sort((a, b) => b - a);
      found[`${selector} ${index} ${node.textContent.slice(0, 20)}`] = (one + 0.05) / (other + 0.05);
    });
  }
  return found;
}"""
"""The contrast (WCAG) of the text of each node to what is behind it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """One printer that prints."""
    plant = Plant(tmp_path, 1)
    plant.open()
    try:
        yield plant
    finally:
        plant.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant_with_a_day(tmp_path_factory.mktemp("large"), 500, silent_after=3600) as plant:
        yield plant


def tell(plant: Plant, *events: tuple[str, dict[str, Any]]) -> None:
    now = wire.utc_now()
    printer = plant.printers[0]
    printer.push(plant.bridge.push_url, requests.Session(), [(now, kind, data) for kind, data in events])


def test_what_a_printer_does_appears_on_the_open_page(browser: Any, plant: Plant) -> None:
    page = open_page(browser, plant)
    row = page.get_by_role("listitem").filter(has_text=MACHINE).first
    row.get_by_text("Never heard", exact=True).wait_for()
    plant.tell_past()
    row.get_by_text("Printing", exact=True).wait_for()
    row.get_by_text("bracket_v3.gcode").wait_for()
    row.get_by_text("Plugin").wait_for()
    tell(plant, (wire.STATE, {"state": "paused", "error": None}))
    row.get_by_text("Paused", exact=True).wait_for()
    row.get_by_text("waits for a person").wait_for()
    assert page.title() == "(1) MESBridge"
    tell(plant, (wire.ERROR, {"text": "thermal runaway"}))
    row.get_by_text("thermal runaway").wait_for()
    page.locator("#notices").get_by_text("thermal runaway", exact=True).wait_for()
    row.get_by_role("link", name=MACHINE).click()
    page.get_by_role("heading", name=MACHINE).wait_for()
    page.get_by_text("opc.tcp://127.0.0.1").wait_for()
    page.get_by_text("nsu=urn:mesbridge:machines;s=").wait_for()
    page.locator(".one > .why").get_by_text("thermal runaway").wait_for()
    assert page.problems == []


def test_the_page_says_that_it_is_not_live_and_goes_on_after_a_restart(browser: Any, plant: Plant) -> None:
    plant.tell_past()
    page = open_page(browser, plant)
    page.get_by_text("bracket_v3.gcode").first.wait_for()
    plant.bridge.kill()
    page.get_by_text("Not live: as of").wait_for()
    plant.bridge.output.unlink()
    plant.bridge.start()
    page.locator("#connection.live").wait_for(timeout=WITHIN_MS)
    tell(plant, (wire.STATE, {"state": "paused", "error": None}))
    page.locator("#machines").get_by_text("Paused", exact=True).wait_for(timeout=WITHIN_MS)


def test_what_machines_say_is_shown_as_text_and_never_run(browser: Any, tmp_path: Path) -> None:
    printer = Printer(0)
    bridge = BridgeProcess(tmp_path, [{**printer.entry, "custom_name": HOSTILE}], silent_after=3600)
    bridge.start()
    try:
        bridge.wait_for("status page")
        now = wire.utc_now()
        events = [
            (
                moment,
                kind,
                json.loads(json.dumps(data).replace("bracket_v3.gcode", json.dumps(HOSTILE)[1:-1])),
            )
            for moment, kind, data in printer.past(now)
        ]
        error = (now, wire.ERROR, {"text": HOSTILE})
        heaters = (now, wire.HEATERS, {"heaters": {HOSTILE[:60]: {"actual": 1.0, "target": 2.0}}})
        printer.push(bridge.push_url, requests.Session(), [*events, heaters, error])
        page = browser.new_page()
        page.goto(bridge.web_url)
        page.get_by_role("link", name=HOSTILE).first.wait_for()
        page.locator("#notices").get_by_text(HOSTILE).first.wait_for()
        page.locator(".file").get_by_text(HOSTILE).wait_for()
        assert "broken" not in page.title()
        page.get_by_role("link", name=HOSTILE).first.click()
        page.get_by_role("heading", name=HOSTILE).wait_for()
        page.locator("#timeline svg").wait_for()
        page.locator("#timeline").hover()
        assert page.title() == f"{HOSTILE} · MESBridge"
        assert page.locator("main img, main script, aside img, aside script").count() == 0
    finally:
        bridge.stop()


def test_five_hundred_machines_are_found_filtered_and_sorted(browser: Any, large: Plant) -> None:
    page = open_page(browser, large, viewport={"width": 1440, "height": 900})
    rows = page.locator("#machines > li")
    page.wait_for_function("() => document.querySelectorAll('#machines > li').length === 500")
    levels = page.evaluate(
        "[...document.querySelectorAll('#machines > li')].map((one) => +/need(.)/.exec(one.className)[1])"
    )
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 3
    page.get_by_role("button", name=re.compile("^Error")).click()
    page.wait_for_function("() => document.querySelectorAll('#machines > li').length === 6")
    assert "show=error" in page.url
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('#machines > li').length === 6")
    page.get_by_role("button", name=re.compile("^All")).click()
    page.keyboard.press("/")
    page.keyboard.type("c-2 xl")
    page.wait_for_function("() => document.querySelectorAll('#machines > li').length < 20")
    assert all("C-2" in one and "XL" in one for one in rows.all_inner_texts())
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('#machines > li').length === 500")
    page.get_by_label("Order").select_option("By name")
    assert rows.first.inner_text().startswith("A-01")
    page.get_by_label("Search").fill("no such machine")
    page.get_by_text("No machine matches").wait_for()
    assert page.problems == []


def test_an_update_of_500_machines_carries_only_what_changed(large: Plant) -> None:
    url = f"{large.bridge.web_url}/overview.json"
    first = requests.get(url, timeout=60)
    printer = large.printers[7]
    event = (wire.utc_now(), wire.HEATERS, {"heaters": {"tool0": {"actual": 77.0, "target": 0.0}}})
    printer.push(large.bridge.push_url, requests.Session(), [event])
    then = requests.get(url, params={"since": first.json()["mark"]}, timeout=60)
    assert [one["name"] for one in then.json()["machines"]] == [printer.name]
    assert len(then.content) < 1500 < len(first.content)


@pytest.mark.parametrize("path", ["overview", "machine"])
def test_it_fits_a_telephone(browser: Any, large: Plant, path: str) -> None:
    where = "/" if path == "overview" else f"/machine/{large.ids()[MACHINE]}"
    page = open_page(browser, large, where, viewport={"width": 360, "height": 740})
    page.get_by_text(MACHINE).first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_text_can_be_read_in_light_and_dark(browser: Any, large: Plant, scheme: str) -> None:
    page = open_page(browser, large, color_scheme=scheme)
    page.locator("#machines > li").first.wait_for()
    contrasts = page.evaluate(
        CONTRASTS, [".name", ".place", ".condition", ".since", ".why", ".tag", ".chip", "#bridge"]
    )
    assert len(contrasts) > 50
    assert min(contrasts.values()) >= 4.5, sorted(contrasts.items(), key=lambda one: one[1])[:5]


def test_the_last_day_of_a_machine_is_drawn_and_read(browser: Any, large: Plant) -> None:
    page = open_page(
        browser, large, f"/machine/{large.ids()[MACHINE]}", viewport={"width": 1280, "height": 1000}
    )
    picture = page.locator("#timeline")
    picture.locator(".jobbar").nth(3).wait_for()
    assert picture.locator(".s-error").count() == 1
    assert picture.locator("rect.gap").count() == 1
    box = picture.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 100)
    reading = page.locator(".reading")
    reading.get_by_text("duct_45deg.gcode").wait_for()
    assert re.search(r"Nozzle 2\d\d\.\d °C → 240 °C", reading.inner_text())
    picture.focus()
    page.keyboard.press("ArrowLeft")
    assert "Nozzle" in picture.get_attribute("aria-description")
    page.get_by_role("button", name="1 h", exact=True).click()
    picture.locator(".jobbar").first.wait_for()
    assert picture.locator(".s-error").count() == 0
    assert page.problems == []


def test_a_day_is_kept_over_a_restart(browser: Any, large: Plant) -> None:
    url = f"{large.bridge.web_url}/machine/{large.ids()[MACHINE]}/day.json"
    day = requests.get(url, timeout=60).json()
    assert [job["result"] for job in day["jobs"]][:3] == ["completed", "failed", "completed"]
    assert sum(one is not None for one in day["heaters"]["tool0"]["actual"]) > 1300


def test_wider_than_this_computer_takes_https_and_a_login(browser: Any, tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, [Printer(0).entry])
    settings = (tmp_path / "settings.toml").read_text()
    (tmp_path / "settings.toml").write_text(settings.replace("[web]\n", '[web]\nhost = "0.0.0.0"\n'))
    bridge.start(wait=False)
    assert bridge.process is not None
    assert bridge.process.wait(60) == 2
    assert "passwords would travel in clear" in bridge.text()
    (tmp_path / "settings.toml").write_text(
        settings.replace("[web]\n", '[web]\nhost = "0.0.0.0"\nhttps = true\n')
    )
    bridge.start()
    try:
        bridge.wait_for("nobody can log in to the status page")
        Users(tmp_path / "state" / "users.json").add(USER, PASSWORD)
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(bridge.web_url.replace("http:", "https:"))
        page.get_by_label("Name").fill(USER)
        page.get_by_label("Password").fill("not this one")
        page.get_by_role("button", name="Log in").click()
        page.get_by_text("Name or password is wrong").wait_for()
        page.get_by_label("Name").fill(USER)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.locator("#connection.live").wait_for()
        (cookie,) = [one for one in context.cookies() if one["name"] == "__Host-mesbridge"]
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in").wait_for()
        assert PASSWORD not in bridge.text()
    finally:
        bridge.stop()


# ---------------------------------------------------------------------- the terminal


def watch(plant: Plant, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge.cli", "watch", "--settings", "settings.toml", *options],
        cwd=plant.bridge.folder, text=True, capture_output=True, timeout=60, check=False, **more,
    )  # fmt: skip


def test_a_terminal_shows_the_same_machines(plant: Plant) -> None:
    plant.tell_past()
    told = watch(plant, "--once")
    assert told.returncode == 0, told.stderr
    assert "\x1b" not in told.stdout
    (line,) = [line for line in told.stdout.splitlines() if MACHINE in line]
    assert "Printing" in line
    assert "bracket_v3.gcode" in line


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_terminal_is_live_follows_its_size_and_is_left_as_it_was(plant: Plant) -> None:
    import fcntl
    import pty
    import termios

    plant.tell_past()
    master, slave = pty.openpty()

    def resize(lines: int, columns: int) -> None:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    resize(20, 100)
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", "watch", "--settings", "settings.toml"],
        cwd=plant.bridge.folder, stdin=slave, stdout=slave, stderr=slave, env=environment,
    )  # fmt: skip
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < deadline, seen[-3000:]
            if select.select([master], [], [], 1.0)[0]:
                seen += os.read(master, 65536).decode(errors="replace")

    try:
        wait_for("bracket_v3.gcode")
        tell(plant, (wire.STATE, {"state": "paused", "error": None}))
        wait_for("Paused")
        resize(20, 30)
        seen = ""
        wait_for("…")
        frame = seen.split("\x1b[H")[-1]
        assert max(len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in frame.split("\n")) <= 31
        plant.bridge.kill()
        wait_for("Not live")
        process.send_signal(signal.SIGINT)
        wait_for("\x1b[?1049l")
        assert process.wait(30) == 0
        assert "Traceback" not in seen
    finally:
        process.kill()
        os.close(master)
        os.close(slave)
