"""Pairing from the settings tab's side: a real OctoPrint, a real bridge, and `mesbridge pair` between them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.demo import octoprint as demo
from bridge.demo.octoprint import ADMIN, OctoPrint
from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.octoprint_server import Visitor, running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

HTTPS = "[push]\nhttps = true"


class Tab:
    """What the settings tab of an OctoPrint does."""

    def __init__(self, octoprint: OctoPrint) -> None:
        self.octoprint = octoprint
        self.log_in()

    def log_in(self) -> None:
        self._visitor = Visitor(self.octoprint.url).log_in(ADMIN, self.octoprint.password)

    def status(self) -> Any:
        return self._visitor.get("/api/plugin/mesbridge").json()

    def command(self, command: str, **data: Any) -> Any:
        answer = self._visitor.post("/api/plugin/mesbridge", {"command": command, **data})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, holds: Callable[[Any], Any], timeout: float = 30.0) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if holds(status):
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.2)

    def wait_pairing(self, state: str) -> Any:
        return self.wait(lambda status: status["pairing"]["state"] == state)["pairing"]


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with running(request.param, tmp_path_factory.mktemp("octoprint")) as octoprint:
        yield Tab(octoprint)


@pytest.fixture(params=["http", "https"])
def bridge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BridgeProcess]:
    bridge = BridgeProcess(tmp_path, [], "anonymous = true\n")
    (tmp_path / "config.json").chmod(0o600)
    if request.param == "https":
        settings = tmp_path / "settings.toml"
        settings.write_text(settings.read_text().replace("[push]", HTTPS))
    bridge.start()
    yield bridge
    bridge.stop()


def url(bridge: BridgeProcess) -> str:
    secure = HTTPS in (bridge.folder / "settings.toml").read_text()
    return f"http{'s' if secure else ''}://127.0.0.1:{bridge.push_port}"


def pair(bridge: BridgeProcess, *arguments: str) -> str:
    command = [sys.executable, "-m", "bridge.cli", "pair", *arguments, "--settings", "settings.toml"]
    ran = subprocess.run(command, cwd=bridge.folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def request_pairing(tab: Tab, bridge: BridgeProcess) -> tuple[str, str]:
    """The request's id at the bridge, and the code that the tab shows."""
    tab.command("request_pairing", bridge_url=url(bridge), octoprint_url=tab.octoprint.url)
    code = tab.wait_pairing("comparing")["code"]
    listed = pair(bridge, "list")
    assert code in listed
    line = next(line for line in listed.splitlines() if code in line)
    found = re.search(r"\b[0-9a-f]{8}\b", line)
    assert found, listed
    return found[0], code


def test_a_printer_is_paired_and_paired_again_without_anything_being_copied(
    tab: Tab, bridge: BridgeProcess
) -> None:
    tab.command("request_pairing", bridge_url=url(bridge), octoprint_url=tab.octoprint.url)
    assert "mesbridge pair open" in tab.wait_pairing("failed")["message"]

    pair(bridge, "open")
    before = tab.status()["key"]
    identity, code = request_pairing(tab, bridge)
    tab.command("confirm_pairing", code=code)
    assert tab.status()["key"] == before
    pair(bridge, "accept", identity, "--mes", "1")
    tab.wait_pairing("done")
    status = tab.wait(lambda status: status["connected"])
    assert status["error"] is None
    assert not status["previous_key_in_use"]
    assert (status["pinned"] is not None) == url(bridge).startswith("https")
    settings = tab.octoprint.base_folder / "config.yaml"
    assert url(bridge) in settings.read_text()

    (secret,) = (bridge.folder / "secrets").iterdir()
    key = secret.read_text().strip()
    assert key.startswith(status["key"]["prefix"])
    kept = [path for path in tab.octoprint.base_folder.rglob("*") if path.is_file()]
    assert [path for path in kept if key.encode() in path.read_bytes()] == []

    test = tab.command("test_connection", bridge_url=url(bridge))["test"]
    assert test["ok"], test
    assert tab.status()["bridge"]["version"]

    first = status["key"]["prefix"]
    identity, code = request_pairing(tab, bridge)
    tab.command("confirm_pairing", code=code)
    pair(bridge, "accept", identity, "--mes", "1")
    tab.wait_pairing("done")
    status = tab.wait(lambda status: status["connected"] and status["key"]["prefix"] != first)
    assert status["key"]["previous"]["prefix"] == first
    tab.wait(lambda status: status["connected"] and not status["previous_key_in_use"], timeout=30)


@pytest.mark.parametrize("bridge", ["https"], indirect=True)
def test_a_bridge_with_another_certificate_is_sent_nothing_until_it_is_paired_again(
    tab: Tab, bridge: BridgeProcess
) -> None:
    def paired() -> None:
        pair(bridge, "open")
        identity, code = request_pairing(tab, bridge)
        tab.command("confirm_pairing", code=code)
        pair(bridge, "accept", identity, "--mes", "1")
        tab.wait_pairing("done")
        tab.wait(lambda status: status["connected"] and status["error"] is None)

    paired()
    before = tab.status()["pinned"]["sha256"]
    bridge.stop()
    (bridge.folder / "state" / "https.pem").unlink()
    bridge.start()
    status = tab.wait(lambda status: "is not the one seen at pairing" in (status["error"] or ""))
    assert not status["connected"]
    assert url(bridge) in status["error"]
    test = tab.command("test_connection", bridge_url=url(bridge))["test"]
    assert "pair again" in test["advice"]

    paired()
    assert tab.status()["pinned"]["sha256"] != before


def test_after_a_pairing_the_printer_is_connected_within_two_seconds_and_no_error_of_before_is_shown(
    tab: Tab, bridge: BridgeProcess
) -> None:
    test = tab.command("test_connection", bridge_url=url(bridge))["test"]
    assert (test["ok"], test["verdict"]) == (False, "to_pair"), test
    assert test["advice"].startswith("The bridge is there")
    pair(bridge, "open")
    test = tab.command("test_connection", bridge_url=url(bridge))["test"]
    assert test["advice"] == "The bridge is there. Next: pair with it in Settings > MESBridge."

    for _ in range(2):  # with the key of another bridge, and with one that this bridge knows
        identity, code = request_pairing(tab, bridge)
        tab.command("confirm_pairing", code=code)
        pair(bridge, "accept", identity, "--mes", "1")
        seen = []
        while not seen or seen[-1]["pairing"]["state"] != "done":
            seen.append(tab.status())
            assert len(seen) < 3000, seen[-1]
        done = time.monotonic()
        while not seen[-1]["connected"]:
            seen.append(tab.status())
            assert time.monotonic() - done < 2.0, seen[-1]
        assert not any("does not know this key" in (status["error"] or "") for status in seen)
        assert {status["error"] for status in seen if status["pairing"]["state"] == "done"} == {None}
        assert seen[-1]["pairing"]["message"] == "Paired with the bridge"
        later = time.monotonic() + 3.0
        while time.monotonic() < later:
            status = tab.status()
            assert status["connected"], status
            assert status["error"] is None
            time.sleep(0.1)
        assert not status["previous_key_in_use"]
        assert status["clock_offset"] == 0


def test_a_request_that_is_cancelled_in_octoprint_ends_at_the_bridge_too(
    tab: Tab, bridge: BridgeProcess
) -> None:
    pair(bridge, "open")
    identity, _ = request_pairing(tab, bridge)
    tab.command("cancel_pairing")
    assert tab.status()["pairing"]["message"] == "Pairing was cancelled"
    deadline = time.monotonic() + 30
    while not re.search(rf"{identity}.*cancelled", pair(bridge, "list"), re.DOTALL):
        assert time.monotonic() < deadline, pair(bridge, "list")


def test_a_refused_request_leaves_the_keys_as_they_were(tab: Tab, bridge: BridgeProcess) -> None:
    pair(bridge, "open")
    before = tab.status()["key"]
    identity, code = request_pairing(tab, bridge)
    tab.command("confirm_pairing", code=code)
    pair(bridge, "refuse", identity)
    assert tab.wait_pairing("refused")["message"] == "This OctoPrint was refused at the bridge"
    now = tab.status()["key"]
    assert (now and now["prefix"]) == (before and before["prefix"])


@pytest.mark.parametrize("taken", [False, True])
def test_octoprint_killed_while_the_key_travels_goes_on_with_whichever_key_the_bridge_has(
    tab: Tab, taken: bool
) -> None:
    bridge = Receiver()
    try:
        known = tab.command("generate_key")["api_key"]
        bridge.accept(known)
        tab.octoprint.configure_plugin(bridge.url)
        tab.wait(lambda status: status["connected"])
        tab.command("rotate_key", overlap_hours=24)  # of which the bridge does not hear

        bridge.received.lose = lambda path: ("answer" if taken else "request") if path.endswith("key") else ""
        bridge.received.accept_at_once = True
        tab.command("request_pairing", bridge_url=bridge.url, octoprint_url=tab.octoprint.url)
        tab.wait_pairing("comparing")
        tab.command("confirm_pairing", code=bridge.code())
        (paired,) = bridge.received.pairings.values()
        tab.wait(lambda _: paired.api_key if taken else "offered" in key_file(tab))
        tab.octoprint.kill()
        tab.octoprint.start()
        tab.octoprint.wait_operational()
        if taken:
            bridge.accept(paired.api_key or "")
        tab.log_in()
        status = tab.wait(lambda status: status["connected"] and not status["waiting"])
        assert status["trouble"] is None
        assert status["previous_key_in_use"] is not taken
        assert ("offered" in key_file(tab)) is not taken
        assert status["key"]["prefix"] == (paired.api_key[:4] if paired.api_key else status["key"]["prefix"])
    finally:
        bridge.stop()
        tab.octoprint.configure_plugin("")


def key_file(tab: Tab) -> str:
    return (tab.octoprint.base_folder / "data" / "mesbridge" / "key.json").read_text()


@pytest.mark.parametrize("version", versions() or ["1.11.8"])
def test_a_bridge_that_announces_itself_is_found_through_octoprints_own_discovery(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zeroconf")
    monkeypatch.setattr(
        demo, "_DISABLED_PLUGINS", tuple(p for p in demo._DISABLED_PLUGINS if p != "discovery")
    )
    (tmp_path / "bridge").mkdir()
    bridge = BridgeProcess(tmp_path / "bridge", [], "anonymous = true\n")
    settings = bridge.folder / "settings.toml"
    name = f"Hall {bridge.push_port}"  # another bridge may be running here
    text = settings.read_text().replace("[push]", f'{HTTPS}\nhost = "0.0.0.0"')
    settings.write_text(text.replace("[bridge]", f'[bridge]\nname = "{name}"'))
    bridge.start()
    try:
        with running(version, tmp_path / "octoprint", seeded=False) as octoprint:
            tab = Tab(octoprint)
            bridge.wait_for("announced by mDNS")
            found = tab.command("find_bridges")
            ours = [one for one in found["bridges"] if one["url"].endswith(f":{bridge.push_port}")]
            assert ours, found
            assert ours[0]["name"].startswith(f"{name} (")  # with the beginning of its id
            assert ours[0]["https"] is True
            test = tab.command("test_connection", bridge_url=ours[0]["url"])["test"]
            assert test["verdict"] == "to_pair", test
    finally:
        bridge.stop()


def test_without_octoprints_discovery_the_address_is_to_be_typed(tab: Tab) -> None:
    found = tab.command("find_bridges")
    assert found["bridges"] == []
    assert "type the bridge's address in" in found["note"]
