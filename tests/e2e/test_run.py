"""`mesbridge run` as a process: what it refuses, what it survives, and how it stops."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge import wire
from bridge.demo.octoprint import free_port
from tests.bridge.events import DATA
from tests.e2e.bridge_process import BridgeProcess, Plugin

pytestmark = pytest.mark.e2e

KEY = "a" * 43
MACHINE = {"type": "OCTOPRINT", "url": "http://127.0.0.1:9", "authentication_file_path": KEY, "mes_id": [1]}
Make = Callable[..., BridgeProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[BridgeProcess] = []

    def one(*machines: dict[str, Any], settings: str = "", folder: str = "bridge") -> BridgeProcess:
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append(BridgeProcess(tmp_path / folder, machines or [MACHINE], settings))
        return made[-1]

    yield one
    for bridge in made:
        if bridge.process is not None:
            bridge.kill()


def test_it_stops_cleanly_when_it_is_told_to(make: Make) -> None:
    bridge = make()
    bridge.start()
    assert bridge.stop() == 0
    assert bridge.lines()[-1]["event"] == "MESBridge stopped"
    assert "Traceback" not in bridge.text()


def test_it_stops_in_seconds_though_a_mes_is_dumb_and_a_push_hangs(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        url = f"http://127.0.0.1:{dumb.getsockname()[1]}"
        mes = f'[[mes]]\nid = 1\nurl = "{url}"\nservice_id = "s"\ntoken_file = "{tmp_path / "token"}"\n'
        bridge = make(MACHINE, settings=mes)
        bridge.start()
        answerless, _ = dumb.accept()
        with answerless, socket.create_connection(("127.0.0.1", bridge.push_port)) as half:
            half.sendall(b"POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert bridge.stop() == 0  # within 30 s; aiohttp alone would give the push 60
    assert bridge.lines()[-1]["event"] == "MESBridge stopped"


def test_one_bad_machine_does_not_stop_the_others(make: Make) -> None:
    bad = {"type": "OCTOPRINT", "url": "not a url", "authentication_file_path": "missing.txt", "mes_id": []}
    bridge = make(bad, MACHINE)
    bridge.start()
    assert bridge.wait_for("MESBridge serves")["machines"] == 1
    said = [line for line in bridge.lines() if line.get("entry") == 0]
    assert {line["key"] for line in said} >= {"url", "authentication_file_path", "mes_id"}
    assert all(line["hint"] and "config.json:" in line["where"] for line in said)


def test_two_entries_of_one_octoprint_are_one_machine_and_the_second_is_named(make: Make) -> None:
    bridge = make(MACHINE, {**MACHINE, "url": "http://127.0.0.1:10"})
    bridge.start()
    assert bridge.wait_for("this key is already used by the entry on line 1")["entry"] == 1
    serves = bridge.wait_for("MESBridge serves")
    assert (serves["machines"], serves["refused"]) == (1, 1)


def test_an_octoprint_that_is_off_is_named_with_the_remedy(make: Make) -> None:
    bridge = make()
    bridge.start()
    said = bridge.wait_for("OctoPrint not verified")
    assert "http://127.0.0.1:9 cannot be reached" in said["detail"]
    assert said["machine"].startswith("octoprint-")


def test_a_mes_id_without_a_section_is_named(make: Make) -> None:
    bridge = make()
    bridge.start()
    said = bridge.wait_for("mes_id names MES 1")
    assert said["where"] == "config.json:1:2"
    assert "a section [[mes]] with id = 1" in said["hint"]


@pytest.mark.parametrize("section", ["opcua", "push"])
def test_an_occupied_port_is_named_with_the_setting_to_change(make: Make, section: str) -> None:
    bridge = make()
    port = bridge.opcua_port if section == "opcua" else bridge.push_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        bridge.start(wait=False)
        assert bridge.process is not None
        assert bridge.process.wait(30) == 1
    said = bridge.lines()[-1]
    assert said["event"] == "MESBridge cannot start"
    assert str(port) in said["detail"]
    assert f"{section}.port" in said["detail"]


@pytest.mark.parametrize("section", ["opcua", "push"])
def test_an_address_of_another_computer_is_named(make: Make, section: str) -> None:
    bridge = make()
    path = bridge.folder / "settings.toml"
    path.write_text(path.read_text().replace(f"[{section}]", f'[{section}]\nhost = "192.0.2.1"'))
    bridge.start(wait=False)
    assert bridge.process is not None
    assert bridge.process.wait(30) == 1
    assert "192.0.2.1" in bridge.lines()[-1]["detail"]
    assert "no such address" in bridge.lines()[-1]["detail"]


def test_a_second_bridge_with_the_same_state_folder_is_refused(make: Make) -> None:
    first, second = make(), make(folder="bridge2")
    first.start()
    text = (second.folder / "settings.toml").read_text()
    (second.folder / "settings.toml").write_text(text.replace('"state"', f'"{first.folder / "state"}"'))
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(30) == 1
    assert "another mesbridge uses this state folder" in second.text()


def test_a_damaged_store_is_refused_and_left_as_it_is(make: Make) -> None:
    bridge = make()
    state = bridge.folder / "state"
    state.mkdir()
    (state / "log.sqlite").write_bytes(b"something else" * 100)
    bridge.start(wait=False)
    assert bridge.process is not None
    assert bridge.process.wait(30) == 1
    assert "log.sqlite" in bridge.lines()[-1]["detail"]
    assert (state / "log.sqlite").read_bytes() == b"something else" * 100


def test_a_state_folder_that_cannot_be_made_is_named(make: Make) -> None:
    bridge = make()
    (bridge.folder / "state").write_text("a file is in the way")
    bridge.start(wait=False)
    assert bridge.process is not None
    assert bridge.process.wait(30) == 1
    assert "state folder cannot be used" in bridge.lines()[-1]["detail"]


@pytest.mark.parametrize(
    ("config", "settings", "complaint"),
    [
        ("", "", "config.json"),
        ("[", "[bridge]\nx = 1", "settings.toml:2: bridge.x"),
        (None, "", "config.json"),
    ],
)
def test_files_that_cannot_be_used_end_it_with_2(
    tmp_path: Path, config: str | None, settings: str, complaint: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    (tmp_path / "settings.toml").write_text(settings)
    command = [sys.executable, "-m", "bridge.cli", "run", "config.json", "--settings", "settings.toml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2
    assert complaint in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_forged_push_is_logged_with_the_machine_and_changes_nothing(make: Make) -> None:
    bridge = make()
    bridge.start()
    plugin = Plugin(bridge.push_url, KEY)
    plugin.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    plugin.key = wire.PushKey(plugin.key.key_id, b"another secret")
    with pytest.raises(AssertionError, match="forged"):
        plugin.push((wire.STATE, dict(DATA[wire.STATE])))
    said = bridge.wait_for("push refused")
    assert (said["machine"].startswith("octoprint-"), said["reason"]) == (True, "forged")


async def read_namespaces(endpoint_url: str) -> list[str]:
    async with Client(endpoint_url) as client:
        found: list[str] = await client.get_namespace_array()
        return found


def test_nobody_enters_opcua_without_a_name_and_encryption(make: Make) -> None:
    bridge = make()
    bridge.start()
    with pytest.raises(ua.UaError):
        asyncio.run(read_namespaces(bridge.endpoint_url))


async def machines_at(endpoint_url: str) -> list[str]:
    """The names of the machines that a client finds there."""
    async with Client(endpoint_url) as client:
        index = await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/")
        folder = client.get_node(ua.NodeId(1001, index))
        found = await folder.get_children(refs=ua.ObjectIds.Organizes)
        return sorted([(await one.read_display_name()).Text for one in found])


def test_a_machine_with_a_port_of_its_own_is_alone_there(make: Make, tmp_path: Path) -> None:
    entries = []
    for number, name in enumerate(["Ada", "Bob", "Eve"]):
        secret = tmp_path / f"{name}.txt"
        secret.write_text(name * 12)
        secret.chmod(0o600)
        entries.append(
            {
                **MACHINE,
                "custom_name": name,
                "url": f"http://127.0.0.1:{9 + number}",
                "authentication_file_path": str(secret),
            }
        )
    own = entries[1]["umati_server_port"] = free_port()
    bridge = make(*entries, settings="anonymous = true\n")
    bridge.start()
    assert asyncio.run(machines_at(bridge.endpoint_url)) == ["Ada", "Eve"]
    assert asyncio.run(machines_at(f"opc.tcp://127.0.0.1:{own}")) == ["Bob"]


def test_anonymous_access_is_possible_and_announced_at_start(make: Make) -> None:
    bridge = make(settings="anonymous = true\n")
    bridge.start()
    assert "anyone" in bridge.wait_for("OPC UA is open")["event"]
    assert "urn:mesbridge:machines" in asyncio.run(read_namespaces(bridge.endpoint_url))


def test_no_secret_is_in_the_log_or_readable_by_others(make: Make) -> None:
    bridge = make()
    bridge.add_user()
    bridge.start()
    Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    bridge.stop()
    assert KEY not in bridge.text()
    state = bridge.folder / "state"
    assert state.stat().st_mode & 0o077 == 0
    for path in state.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
        holds_nothing_secret = path.is_dir() or path.name in ("lock", "certificate.der")
        assert holds_nothing_secret or path.stat().st_mode & 0o077 == 0, path


def test_an_empty_config_is_a_start_and_says_how_to_go_on_with_the_settings_that_were_given(
    make: Make,
) -> None:
    bridge = make()
    (bridge.folder / "config.json").write_text("[]")
    bridge.start()
    said = bridge.wait_for("the file holds no machines yet")
    settings = bridge.folder / "settings.toml"  # in full: a log is read in other folders
    assert f"`mesbridge pair open --settings {settings}`" in said["hint"]
    assert "key" not in said
    users = bridge.wait_for("nobody can log in")["event"]
    assert f"`mesbridge user add NAME --settings {settings}`" in users
    assert "above" not in bridge.text()
