"""The sandbox's page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from bridge import wire
from bridge.sandbox import Sandbox
from tests.bridge.mes.chain import running_sandbox
from tests.e2e.browser import chromium

pytestmark = pytest.mark.e2e

HOSTILE = "<img src=x onerror=\"document.title='broken into'\"><script>document.title='broken into'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path, activate=False) as sandbox:
        yield sandbox


class Bridge:
    """Tells the sandbox what a bridge would."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.keys = 0

    def send(self, method: str, path: str, **body: Any) -> None:
        self.keys += 1
        answer = requests.request(
            method,
            f"{self.sandbox.mes_url}/services/{self.sandbox.service_id}/{path}",
            data=json.dumps(body),
            headers={"Authorization": f"Token {self.sandbox.token}", "Idempotency-Key": str(self.keys)},
            timeout=30,
        )
        assert answer.status_code < 300, answer.text

    def register(self, machine: str, name: str) -> None:
        self.send(
            "PUT",
            f"machines/{machine}",
            bridge="bridge-1",
            name=name,
            url="http://192.168.1.41:5000",
            opcua={"endpoint": "opc.tcp://bridge:4840", "node_id": f"nsu=urn:mesbridge:machines;s={machine}"},
            identification={"manufacturer": "Prusa Research", "model": "MK4", "year_of_construction": 2024},
        )
        self.send("POST", "heartbeat", bridge="bridge-1", lease=600)

    def status(self, machine: str, status: str, light: str) -> None:
        since = "2026-11-23T08:00:00.000000Z"
        self.send("PUT", f"machines/{machine}/status", status=status, since=since, stack_light=light)

    def event(
        self, machine: str, kind: str, file: str = "bracket.gcode", run: str = "1", **more: Any
    ) -> None:
        started = "2026-11-23T08:00:00.000000Z"
        job = {"id": run, "file": file, "started": started, "estimated_duration": 5400}
        severity = more.pop("severity", "info")
        body = {"type": kind, "severity": severity, "time": "2026-11-23T09:12:30.000000Z", "job": job, **more}
        self.send("POST", f"machines/{machine}/events", **body)


def state_of(sandbox: Sandbox) -> Any:
    return requests.get(f"{sandbox.url}/state.json", timeout=30).json()


def open_page(browser: Any, sandbox: Sandbox, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if line.type == "error" else None)
    page.goto(sandbox.url)
    return page


def test_machines_jobs_and_events_appear_on_the_open_page(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    page.get_by_text("No machine is registered yet").wait_for()
    bridge.register("m", "Left printer")
    bridge.status("m", "Running", "green")
    bridge.event("m", "job_started")
    machine = page.get_by_role("article")
    machine.get_by_role("heading", name="Left printer").wait_for()
    machine.get_by_text("Running", exact=True).wait_for()
    row = machine.get_by_role("row").filter(has_text="bracket.gcode")
    row.get_by_text("running", exact=True).wait_for()
    bridge.event("m", "job_finished", result="completed", reason=None, print_time=4000)
    bridge.event("m", "warning", severity="warning", text="The printer waits for a filament change.")
    row.get_by_text("completed", exact=True).wait_for()
    machine.get_by_role("listitem").filter(has_text="filament change").wait_for()
    bridge.send("POST", "sign-off", bridge="bridge-1")
    machine.get_by_text("Offline", exact=True).wait_for()
    assert page.problems == []


def test_a_machine_shows_what_it_is_and_that_nothing_happened_yet(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    bridge.register("m", "Left printer")
    bridge.register("n", "Right printer")
    bridge.status("n", "Stopped", "red")
    machine = page.get_by_role("article").filter(has_text="Left printer")
    machine.get_by_text("Prusa Research MK4 · http://192.168.1.41:5000").wait_for()
    machine.get_by_text("No job yet").wait_for()
    machine.get_by_text("Nothing has happened yet").wait_for()
    page.get_by_text("1 Stopped, 1 Offline").wait_for()
    machine.get_by_text("Nameplate and addresses").click()
    machine.get_by_text("opc.tcp://bridge:4840").wait_for()
    bridge.event("m", "job_started")
    machine.get_by_text("No job yet").wait_for(state="hidden")
    machine.get_by_text("opc.tcp://bridge:4840").wait_for()  # what a person opened stays open
    assert page.problems == []


def test_a_person_activates_a_machine(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    bridge.register("m", "Left printer")
    page.get_by_text("Activation: pending").wait_for()
    page.get_by_role("button", name="Activate Left printer").click()
    page.get_by_text("Activation: pending").wait_for(state="hidden")
    (machine,) = state_of(sandbox)["machines"]
    assert machine["activation"] == "active"


def test_what_a_machine_says_is_shown_as_text_and_never_run(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    bridge.register("m", HOSTILE)
    bridge.event("m", "job_started", file=HOSTILE)
    bridge.event("m", "error", severity="error", text=HOSTILE)
    page.get_by_role("heading", name=HOSTILE).wait_for()
    page.get_by_role("listitem").filter(has_text=HOSTILE).first.wait_for()
    assert page.title() == "Sandbox MES"
    assert page.locator("main img, main script").count() == 0


def test_the_page_fits_a_telephone(browser: Any, sandbox: Sandbox) -> None:
    bridge = Bridge(sandbox)
    bridge.register("m", "Left printer with a name that goes on and on")
    bridge.event("m", "job_started", file="a-very-long-file-name-without-any-blank-in-it-0123456789.gcode")
    page = open_page(browser, sandbox, viewport={"width": 360, "height": 740})
    page.get_by_role("row").filter(has_text="a-very-long").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_text("Plan a job").click()
    page.get_by_text("Misbehave", exact=True).click()
    page.get_by_role("button", name="Begin").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def minutes_from_now(minutes: float) -> datetime:
    return wire.utc_now() + timedelta(minutes=minutes)


def test_a_person_plans_a_job_and_the_print_that_starts_is_that_job(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox, timezone_id="America/New_York"), Bridge(sandbox)
    bridge.register("m", "Left printer")
    bridge.register("n", "Right printer")
    page.get_by_text("Plan a job").click()
    page.locator("#plan").get_by_label("Machine").select_option("Right printer")
    page.get_by_label("Name", exact=True).fill("Bracket for Monday")
    start = minutes_from_now(30).astimezone(ZoneInfo("America/New_York")).replace(second=0, microsecond=0)
    page.get_by_label("Start", exact=True).fill(f"{start:%Y-%m-%dT%H:%M}")
    page.get_by_label("End", exact=True).fill(f"{start + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    page.get_by_role("button", name="Add").click()
    timeline = page.locator("#timeline")
    timeline.get_by_role("img", name="Bracket for Monday: planned").wait_for()
    (machine,) = [one for one in state_of(sandbox)["machines"] if one["id"] == "n"]
    assert machine["schedule"][0]["start"] == wire.format_time(
        start
    )  # what was typed is of the reader's zone
    started = wire.format_time(minutes_from_now(-5))
    job = {"id": "1", "file": "bracket.gcode", "started": started, "estimated_duration": 5400}
    bridge.send("POST", "machines/n/events", type="job_started", severity="info", time=started, job=job)
    timeline.get_by_role("img", name="bracket.gcode: running").wait_for()
    bar = timeline.get_by_role("img", name="is Bracket for Monday of the schedule")
    assert "expected until" in (bar.get_attribute("aria-label") or "")
    page.get_by_text("is Bracket for Monday, planned").wait_for()
    ended = wire.format_time(minutes_from_now(0))
    over = {"result": "cancelled", "reason": None, "print_time": 300}
    bridge.send(
        "POST", "machines/n/events", type="job_finished", severity="warning", time=ended, job=job, **over
    )
    timeline.get_by_role("img", name="bracket.gcode: cancelled").wait_for()
    page.get_by_role("button", name="Remove Bracket for Monday from the schedule").click()
    timeline.get_by_role("img", name="Bracket for Monday: planned").wait_for(state="detached")
    timeline.get_by_role("img", name="bracket.gcode: cancelled").wait_for()
    assert page.problems == []


def test_a_plan_that_ends_before_it_starts_is_refused_with_words(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    bridge.register("m", "Left printer")
    page.get_by_text("Plan a job").click()
    page.get_by_label("Name", exact=True).fill("Backwards")
    page.get_by_label("End", exact=True).fill("2020-01-01T00:00")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("alert").filter(has_text="a time after the start").wait_for()
    assert state_of(sandbox)["machines"][0]["schedule"] == []


def test_a_person_lets_the_mes_misbehave_and_behave_again(browser: Any, sandbox: Sandbox) -> None:
    page, bridge = open_page(browser, sandbox), Bridge(sandbox)
    bridge.register("m", "Left printer")
    page.get_by_text("Misbehave", exact=True).click()
    page.get_by_label("The MES").select_option("stumbles (500)")
    page.get_by_label("so many times").fill("3")
    page.get_by_role("button", name="Begin").click()
    page.get_by_text("it stumbles (500), 3 times more").wait_for()
    with pytest.raises(AssertionError, match="misbehaves on command"):
        bridge.register("n", "Right printer")
    page.get_by_text("2 times more").wait_for()
    page.get_by_role("button", name="Behave again").click()
    page.get_by_text("misbehaves on command").wait_for(state="hidden")
    bridge.register("n", "Right printer")
    assert page.problems == []


def test_the_page_is_dark_for_whoever_likes_it_so(browser: Any, sandbox: Sandbox) -> None:
    def background(scheme: str) -> str:
        page = open_page(browser, sandbox, color_scheme=scheme)
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert background("dark") == "rgb(21, 24, 28)"
    assert background("light") == "rgb(244, 245, 247)"


def test_many_machines_stay_quick(browser: Any, sandbox: Sandbox) -> None:
    """What costs is measured elsewhere; here the page must come to rest and show all of them."""
    bridge = Bridge(sandbox)
    for number in range(60):
        bridge.register(f"m{number}", f"Printer {number:02}")
        for run in range(5):
            bridge.event(f"m{number}", "job_started", run=str(run))
    page = open_page(browser, sandbox)
    page.get_by_role("heading", name="Printer 59").wait_for()
    assert page.locator("#timeline .row").count() == 61
