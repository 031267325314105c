"""The plugin inside real OctoPrints, before a bridge reduced to the taking of pushes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest
import requests

from bridge import wire
from bridge.demo.octoprint import ADMIN, OctoPrint, slow_gcode
from octoprint_mesbridge.keys import USER_PREFIX
from tests.e2e.octoprint_server import Visitor, running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

RUNAWAY = "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!"
SAMPLES = wire.COALESCED


class Site:
    """One OctoPrint, and what a bridge received from it."""

    def __init__(self, octoprint: OctoPrint, bridge: Receiver) -> None:
        self.octoprint = octoprint
        self.bridge = bridge
        self.key = ""

    def new_key(self) -> str:
        self.octoprint.configure_plugin("")  # nothing is pushed until this bridge knows the key
        self.key = self.octoprint.generate_key()
        self.bridge.accept(self.key)
        return self.key

    def administrator(self, remember: bool = False) -> Visitor:
        return Visitor(self.octoprint.url).log_in(ADMIN, self.octoprint.password, remember)

    def story(self, first: int = 0) -> list[tuple[str, ...]]:
        """What was told since the event with index `first`, without the samples and what differs by the run."""
        return [_told(event) for event in self.bridge.events()[first:] if event.kind not in SAMPLES]

    def expect(self, first: int, *story: tuple[str, ...], timeout: float = 30.0) -> None:
        """Since the event with index `first`, this is told and, for a moment longer, nothing else."""
        deadline = time.monotonic() + timeout
        while len(self.story(first)) < len(story) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        assert self.story(first) == list(story)

    def wait_for_snapshot_since(self, moment: datetime, timeout: float = 30.0) -> None:
        """What had been waiting arrives before it."""
        deadline = time.monotonic() + timeout
        while not any(event.time >= moment for event in self.bridge.events([wire.SNAPSHOT])):
            assert time.monotonic() < deadline, f"no snapshot since {moment} within {timeout} s"
            time.sleep(0.02)

    def told(self) -> int:
        return len(self.bridge.events())

    def ask(self, method: str, path: str, key: str | None = None, **arguments: Any) -> requests.Response:
        headers = {"X-Api-Key": self.key if key is None else key}
        return requests.request(method, self.octoprint.url + path, headers=headers, timeout=30, **arguments)


def _told(event: wire.Event) -> tuple[str, ...]:
    shown = {
        wire.STATE: ("state", "error"),
        wire.SNAPSHOT: ("reason", "state"),
        wire.JOB_STARTED: ("file", "origin"),
        wire.JOB_ENDED: ("result", "reason"),
        wire.ERROR: ("text",),
    }
    values = (event.data[field] for field in shown.get(event.kind, ()))
    return (event.kind, *(value for value in values if value is not None))


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    bridge = Receiver()
    try:
        with running(request.param, tmp_path_factory.mktemp("octoprint")) as octoprint:
            octoprint.upload("part.gcode", slow_gcode(70, 50))
            octoprint.upload("long.gcode", slow_gcode(400, 50))
            yield Site(octoprint, bridge)
    finally:
        bridge.stop()


@pytest.fixture
def connected(site: Site) -> Site:
    """The site with a key in use and its bridge told where to push to; nothing of before is still to come."""
    if not site.key:
        site.new_key()
    site.octoprint.wait_operational()
    site.octoprint.configure_plugin("")
    begun = wire.utc_now()
    site.octoprint.configure_plugin(site.bridge.url, sample_interval=1.0)  # the prints here are short
    site.wait_for_snapshot_since(begun)
    return site


def test_without_a_key_the_plugin_is_silent_and_says_why(site: Site) -> None:
    site.octoprint.configure_plugin(site.bridge.url)
    status = site.octoprint.plugin_status()
    assert status["key"] is None
    assert status["idle"] == "No key has been generated"
    assert site.bridge.received.batches == []


@pytest.mark.parametrize("address", [8484, ["http://bridge"], {"host": "bridge"}, True, "http://[", "bridge"])
def test_an_address_that_is_none_is_said_in_words_and_survives_a_save(site: Site, address: Any) -> None:
    site.new_key()
    try:
        site.octoprint.configure_plugin(address)
        assert "address" in site.octoprint.plugin_status()["idle"]
    finally:
        site.octoprint.configure_plugin("")
        site.octoprint.plugin_command("revoke_key")
        site.key = ""
    log = (site.octoprint.base_folder / "logs" / "octoprint.log").read_text()
    assert "Could not save settings for plugin MESBridge" not in log


def test_nobody_but_an_administrator_gets_a_key(site: Site) -> None:
    command = {"command": "generate_key"}
    assert site.ask("POST", "/api/plugin/mesbridge", key="", json=command).status_code in (400, 403)
    assert site.ask("GET", "/api/plugin/mesbridge", key="").status_code == 403
    user = {"name": "guest", "password": "guest", "active": True, "groups": ["users"], "permissions": []}
    assert site.administrator().post("/api/access/users", user).ok
    guest = Visitor(site.octoprint.url).log_in("guest", "guest")
    assert guest.post("/api/plugin/mesbridge", command).status_code == 403
    assert guest.get("/api/plugin/mesbridge").status_code == 403
    assert guest.get("/api/settings").json()["plugins"]["mesbridge"]["bridge_url"] == ""


def test_a_key_needs_the_password_again_when_the_login_is_only_a_remembered_one(site: Site) -> None:
    remembered = site.administrator(remember=True).come_back_later()
    assert remembered.get("/api/currentuser").json()["name"] == ADMIN
    refused = remembered.post("/api/plugin/mesbridge", {"command": "generate_key"})
    assert refused.status_code == 403
    assert "reauthenticate" in refused.text
    assert site.octoprint.plugin_status()["key"] is None


def test_a_key_may_read_the_status_and_nothing_else(site: Site) -> None:
    key = site.new_key()
    assert len(key) >= 32
    for path in ("/api/version", "/api/printer", "/api/job", "/api/currentuser"):
        assert site.ask("GET", path).status_code == 200, path
    assert site.ask("GET", "/api/currentuser").json()["permissions"] == ["STATUS"]
    assert site.ask("POST", "/api/login", json={"passive": True}).json()["name"].startswith(USER_PREFIX)
    for method, path in (
        ("GET", "/api/settings"),
        ("GET", "/api/files"),
        ("POST", "/api/job"),
        ("GET", "/api/connection"),
        ("GET", "/api/access/users"),
        ("GET", "/api/plugin/appkeys"),
        ("POST", "/api/plugin/appkeys"),
        ("GET", "/api/plugin/mesbridge"),
        ("POST", "/api/plugin/mesbridge"),
        ("POST", "/api/printer/command"),
        ("POST", "/api/logout"),
        ("GET", "/plugin/appkeys/probe"),
    ):
        assert site.ask(method, path, json={"command": "generate", "app": "x"}).status_code == 403, path
    own = f"/api/access/users/{site.octoprint.plugin_status()['key']['user']}/apikey"
    assert site.ask("POST", own).status_code == 403


def test_a_wrong_key_is_nobody(site: Site) -> None:
    assert site.ask("GET", "/api/version", key="x" * 43).status_code == 403
    assert site.ask("GET", "/api/currentuser", key="x" * 43).json()["name"] is None


def test_a_revoked_key_is_dead_and_its_user_gone(site: Site) -> None:
    name = site.octoprint.plugin_status()["key"]["user"]
    assert site.octoprint.plugin_command("revoke_key")["key"] is None
    assert site.ask("GET", "/api/version").status_code == 403
    users = site.administrator().get("/api/access/users").json()["users"]
    assert [user["name"] for user in users if user["name"].startswith(USER_PREFIX)] == []
    assert name.startswith(USER_PREFIX)


async def test_revoking_the_key_ends_the_open_socket_of_its_holder(site: Site) -> None:
    site.new_key()
    login = site.ask("POST", "/api/login", json={"passive": True}).json()

    async def heard_within(seconds: float) -> set[str]:
        """The kinds of messages that arrive until then; OctoPrint sends the printer's data twice a second."""
        kinds: set[str] = set()
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                async for message in socket:
                    kinds.update(message.json())
        return kinds

    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{site.octoprint.url}/sockjs/websocket") as socket,
    ):
        await socket.send_json({"auth": f"{login['name']}:{login['session']}"})
        site.octoprint.send("M105")
        assert "current" in await heard_within(2.0)
        site.octoprint.plugin_command("revoke_key")
        site.key = ""
        await heard_within(1.0)  # what was on its way, and the notice
        site.octoprint.send("M105")
        assert "current" not in await heard_within(2.0)


def test_a_whole_print_with_a_pause(connected: Site) -> None:
    octoprint, bridge, first = connected.octoprint, connected.bridge, connected.told()
    octoprint.print("part.gcode")
    bridge.wait_for(wire.PROGRESS)
    octoprint.pause()
    octoprint.wait_state("Paused")
    octoprint.resume()
    octoprint.wait_state("Printing")
    octoprint.send("M701")
    ended = bridge.wait_for(wire.JOB_ENDED, result="completed")
    octoprint.wait_state("Operational")
    connected.expect(
        first,
        ("state", "starting"),
        ("job_started", "part.gcode", "local"),
        ("state", "printing"),
        ("state", "pausing"),
        ("job_paused",),
        ("state", "paused"),
        ("state", "resuming"),
        ("job_resumed",),
        ("state", "printing"),
        ("filament_change",),
        ("state", "finishing"),
        ("job_ended", "completed"),
        ("state", "operational"),
    )
    assert ended.data["completion"] == 100
    assert 1 < ended.data["print_time"] < 60
    (started,) = bridge.events([wire.JOB_STARTED])
    assert wire.parse_time(started.data["started"]) == started.time
    runs = {event.data["run"] for event in bridge.events()[first:] if "run" in event.data}
    assert runs == {started.data["run"]}
    assert bridge.received.gaps == []


def test_a_cancelled_print_ends_once(connected: Site) -> None:
    octoprint, bridge, first = connected.octoprint, connected.bridge, connected.told()
    octoprint.print("long.gcode")
    bridge.wait_for(wire.JOB_STARTED, 1, file="long.gcode")
    octoprint.wait_state("Printing")
    octoprint.cancel()
    bridge.wait_for(wire.JOB_ENDED, result="cancelled")
    octoprint.wait_state("Operational")
    connected.expect(
        first,
        ("state", "starting"),
        ("job_started", "long.gcode", "local"),
        ("state", "printing"),
        ("state", "cancelling"),
        ("job_ended", "cancelled"),
        ("state", "operational"),
    )


def test_a_print_begun_at_once_after_a_cancelled_one_is_a_job_of_its_own(connected: Site) -> None:
    octoprint, bridge, first = connected.octoprint, connected.bridge, connected.told()
    octoprint.print("long.gcode")
    octoprint.wait_state("Printing")
    octoprint.cancel()
    octoprint.wait_state("Operational")
    octoprint.print("part.gcode")
    bridge.wait_for(wire.JOB_ENDED, 2, result="completed")
    jobs = [one for one in connected.story(first) if one[0].startswith("job_")]
    assert jobs == [
        ("job_started", "long.gcode", "local"),
        ("job_ended", "cancelled"),
        ("job_started", "part.gcode", "local"),
        ("job_ended", "completed"),
    ]
    runs = [event.data["run"] for event in bridge.events([wire.JOB_STARTED])[-2:]]
    reached = [e.data["completion"] or 0 for e in bridge.events([wire.PROGRESS]) if e.data["run"] == runs[1]]
    assert reached == sorted(reached), "nothing of the print before is told of this one"


def test_a_firmware_kill_ends_the_print_once_and_connecting_again_gives_a_snapshot(connected: Site) -> None:
    octoprint, bridge, first = connected.octoprint, connected.bridge, connected.told()
    octoprint.print("long.gcode")
    bridge.wait_for(wire.JOB_STARTED, 3, file="long.gcode")
    octoprint.wait_state("Printing")
    octoprint.send("!!DEBUG:trigger_fatal_error_marlin")
    connected.expect(
        first,
        ("state", "starting"),
        ("job_started", "long.gcode", "local"),
        ("state", "printing"),
        ("error", RUNAWAY),
        ("job_ended", "failed", RUNAWAY),
        ("state", "error", RUNAWAY),
        ("state", "disconnected", RUNAWAY),
    )

    first = connected.told()
    octoprint.connect()
    octoprint.wait_operational()
    bridge.wait_for(wire.SNAPSHOT, reason="connected")
    assert connected.story(first)[:3] == [
        ("state", "connecting"),
        ("state", "operational"),
        ("snapshot", "connected", "operational"),
    ]


def test_a_bridge_that_lost_everything_gets_a_snapshot(connected: Site) -> None:
    bridge = connected.bridge
    bridge.received.held.clear()
    connected.octoprint.send("M701")  # anything that is told
    bridge.wait_for(wire.SNAPSHOT, reason="requested")
    assert bridge.received.gaps
    bridge.received.gaps.clear()


def test_what_happened_before_a_crash_arrives_after_it_and_in_order(connected: Site) -> None:
    octoprint, bridge = connected.octoprint, connected.bridge
    old = octoprint.plugin_status()["instance"]
    bridge.stop()
    octoprint.print("long.gcode")
    octoprint.wait_state("Printing")
    octoprint.pause()
    octoprint.wait_state("Paused")
    time.sleep(0.5)
    first = connected.told()
    assert octoprint.plugin_status()["waiting"] >= 6
    octoprint.kill()

    bridge.start()
    octoprint.start()
    octoprint.wait_operational()
    new = octoprint.plugin_status()["instance"]
    bridge.wait_for(wire.SNAPSHOT, 2, reason="connected")
    instances = [instance for instance, _ in bridge.received.events[first:]]
    assert instances == sorted(instances, key=[old, new].index)
    seqs = [event.seq for instance, event in bridge.received.events if instance == old]
    assert seqs == sorted(set(seqs))
    assert connected.story(first)[:9] == [
        ("state", "starting"),
        ("job_started", "long.gcode", "local"),
        ("state", "printing"),
        ("state", "pausing"),
        ("job_paused",),
        ("state", "paused"),
        ("snapshot", "start", "disconnected"),
        ("state", "connecting"),
        ("state", "operational"),
    ]
    begun = next(event for _, event in bridge.received.events[first:] if event.kind == wire.SNAPSHOT)
    assert begun.data["job"] is None
    assert bridge.received.gaps == []


def test_the_same_installation_keeps_its_uuid(connected: Site) -> None:
    uuids = {event.data["printer"]["uuid"] for event in connected.bridge.events([wire.SNAPSHOT])}
    assert len(uuids) == 1


def test_octoprint_ends_in_order_with_a_goodbye_to_the_bridge(connected: Site) -> None:
    ending = threading.Thread(target=connected.octoprint.stop)
    ending.start()
    connected.bridge.wait_for(wire.SHUTDOWN)
    ending.join(30)
    log = (connected.octoprint.base_folder / "logs" / "octoprint.log").read_text()
    assert "octoprint.plugins.mesbridge - ERROR" not in log
    assert "could not make sense" not in log
