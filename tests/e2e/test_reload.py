"""Changes while twenty printers print: in force within seconds, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.subscription import DataChangeNotificationHandler

from bridge import https, wire
from bridge.demo.octoprint import free_port
from bridge.demo.views import ITEM_STATE, MACHINERY
from bridge.settings import PushSettings
from octoprint_mesbridge.sender import Signer, Target, push_url
from tests.bridge.events import DATA
from tests.e2e.bridge_process import BridgeProcess, Plugin
from tests.e2e.faults.mes import MesProcess
from tests.e2e.faults.plant import wait
from tests.e2e.faults.printer import Printer
from tests.e2e.faults.report import compare

pytestmark = pytest.mark.e2e

MACHINES = 20
RENAMED, REMOVED, REKEYED, IN_BOTH, ADDED = 1, 2, 3, 4, MACHINES + 1
UNTOUCHED = range(5, MACHINES + 1)
NEW_KEY = "9f" * 22


def section(number: int, mes: MesProcess) -> str:
    return (
        f'[[mes]]\nid = {number}\nurl = "http://127.0.0.1:{mes.port}/api/v2.0/service-panel"\n'
        f'service_id = "sandbox"\ntoken_file = "{mes.token_file}"\nheartbeat = 1\nlease = 3\n'
    )


class Watcher(DataChangeNotificationHandler):
    """An OPC UA client in a thread of its own, with one subscription to the state of every machine."""

    def __init__(self, endpoint_url: str) -> None:
        self.seen: dict[str, list[tuple[str, ua.StatusCode]]] = defaultdict(list)
        self.ended: list[Any] = []
        self._endpoint_url = endpoint_url
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()))

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    async def _watch(self) -> None:
        async with Client(self._endpoint_url) as client:
            folder = client.get_node(ua.NodeId(1001, await client.get_namespace_index(MACHINERY)))
            nodes = [
                client.get_node(ua.NodeId(f"{one.nodeid.Identifier}.{ITEM_STATE}", one.nodeid.NamespaceIndex))
                for one in await folder.get_children(refs=ua.ObjectIds.Organizes)
            ]
            subscription = await client.create_subscription(50, self)
            await subscription.subscribe_data_change(nodes, queuesize=100)
            self._ready.set()
            while not self._over.is_set():
                await asyncio.sleep(0.05)

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        machine = str(node.nodeid.Identifier).partition(".")[0]
        found = data.monitored_item.Value
        self.seen[machine].append((getattr(value, "Text", ""), found.StatusCode))

    def status_change_notification(self, status: Any) -> None:
        self.ended.append(status)


ONLY_WHEN_ASKED = "from bridge.filewatch import Watch; Watch.__init__.__defaults__ = (3600.0,)"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A bridge for one machine, open to any OPC UA client."""
    yield from running_plant(tmp_path)


@pytest.fixture
def blind_plant(tmp_path: Path) -> Iterator[Plant]:
    """The same, but it looks at its files only when it is asked to."""
    yield from running_plant(tmp_path, ONLY_WHEN_ASKED)


def running_plant(folder: Path, before: str = "") -> Iterator[Plant]:
    bridge = BridgeProcess(folder, [entry(1)], "anonymous = true\n")
    (folder / "config.json").chmod(0o600)
    bridge.start(before=before)
    try:
        yield Plant(bridge)
    finally:
        bridge.kill()


def entry(number: int, **changes: Any) -> dict[str, Any]:
    key = f"{number:02}" * 22
    return {
        "type": "OCTOPRINT",
        "url": f"http://127.0.0.1:{number}",
        "authentication_file_path": key,
        "mes_id": [1],
    } | changes


class Plant:
    """The bridge and its two files, which are changed as editors do."""

    def __init__(self, bridge: BridgeProcess) -> None:
        self.bridge = bridge
        self.config, self.settings = bridge.folder / "config.json", bridge.folder / "settings.toml"
        self.took: dict[str, float] = {}

    def write(self, path: Path, text: str) -> float:
        """Put another file in its place; returns when."""
        other = path.with_suffix(".new")
        other.write_text(text)
        other.replace(path)
        return time.time()

    def change(self, what: str, path: Path, text: str, event: str = "changes are in force") -> dict[str, Any]:
        """Write, and wait for what the log says of it; notes how long that took."""
        before = len(self.said(event))
        written = self.write(path, text)
        wait(lambda: len(self.said(event)) > before, 30)
        line = self.said(event)[before]
        told = datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))
        self.took[what] = (told - datetime.fromtimestamp(written, UTC)).total_seconds()
        return line

    def configure(self, *entries: dict[str, Any]) -> None:
        self.write(self.config, json.dumps(entries))

    def wait_said(self, event: str, times: int = 1) -> dict[str, Any]:
        wait(lambda: len(self.said(event)) >= times, 30)
        return self.said(event)[times - 1]

    def reload(self) -> dict[str, Any]:
        """As `mesbridge reload --json` has it."""
        ran = self.command("--json")
        assert ran.returncode == 0, ran.stderr
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "bridge.cli", "reload", "--settings", "settings.toml", *options]
        return subprocess.run(program, cwd=self.bridge.folder, capture_output=True, text=True, timeout=60)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.bridge.lines() if line.get("event", "").startswith(event)]


@contextlib.contextmanager
def running_mes(*folders: Path) -> Iterator[list[MesProcess]]:
    instances = [MesProcess(folder) for folder in folders]
    try:
        for one in instances:
            one.start()
        yield instances
    finally:
        for one in instances:
            one.kill()


def test_changes_under_load_are_in_force_within_seconds_and_the_others_notice_nothing(tmp_path: Path) -> None:
    order = random.Random(11)
    (tmp_path / "bridge").mkdir()
    (tmp_path / "outboxes").mkdir()
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(running_mes(tmp_path / "mes-1", tmp_path / "mes-2"))
        bridge = BridgeProcess(tmp_path / "bridge", [], f"anonymous = true\n{section(1, first)}")
        address = f"http://127.0.0.1:{bridge.push_port}"
        printers = {
            n: Printer(n, address, tmp_path / "outboxes", 8, 2.5, random.Random(order.random()))
            for n in range(1, MACHINES + 2)
        }
        entries = {n: printers[n].entry for n in range(1, MACHINES + 1)}
        plant = Plant(bridge)

        def status_of(printer: Printer) -> str:
            return next(m["status"] for m in first.machines() if m["url"] == printer.url)

        def text() -> str:
            return json.dumps(list(entries.values()), indent=2)

        plant.config.write_text(text())
        bridge.start()
        stack.callback(bridge.kill)

        def start(printer: Printer) -> None:
            stack.callback(printer.stop)
            printer.start()

        for number in entries:
            start(printers[number])
        wait(lambda: len([m for m in first.machines() if m["jobs"]]) == MACHINES)
        watcher = stack.enter_context(Watcher(bridge.endpoint_url))
        ids = {m["url"]: m["id"] for m in first.machines()}

        entries[RENAMED] = {**entries[RENAMED], "custom_name": "Bay 1"}
        assert plant.change("a name", plant.config, text())["changed"] == 1
        del entries[REMOVED]
        assert plant.change("a machine removed", plant.config, text())["removed"] == 1
        entries[ADDED] = printers[ADDED].entry
        assert plant.change("a machine added", plant.config, text())["added"] == 1
        start(printers[ADDED])
        entries[REKEYED] = {**entries[REKEYED], "authentication_file_path": NEW_KEY}
        assert plant.change("a new key", plant.config, text())["changed"] == 1
        printers[REKEYED]._sender.aim(Target(push_url(address), (Signer(wire.PushKey.derive(NEW_KEY)),)))
        entries[IN_BOTH] = {**entries[IN_BOTH], "mes_id": [1, 2]}
        assert plant.change("a machine in another MES", plant.config, text())["changed"] == 1
        assert plant.said("mes_id names MES 2")
        more = plant.settings.read_text() + section(2, second)
        assert plant.change("a MES added", plant.settings, more)["mes_added"] == [2]
        whole = text()
        refused = "the changed files are not taken over"
        plant.change("an invalid file refused", plant.config, whole[: len(whole) // 2], refused)
        assert plant.said("changes are in force")[-1]["mes_added"] == [2]
        repaired = "config.json, its secret files and the settings can be used again"
        plant.change("a repaired file", plant.config, whole, repaired)
        other = more.replace(f"port = {bridge.opcua_port}", "port = 4999").replace(
            "[bridge]", '[bridge]\nname = "Hall 2"'
        )
        plant.change("a name of the bridge", plant.settings, other)
        assert plant.said("these changes of the settings need a restart")[-1]["keys"] == ["opcua.port"]

        wait(lambda: status_of(printers[REMOVED]) == "Offline")
        assert any(line["reason"] == "unknown_key" for line in plant.said("push refused"))
        entries[REMOVED] = printers[REMOVED].entry
        assert plant.change("the machine back again", plant.config, text())["added"] == 1

        served = list(printers.values())
        wait(lambda: all(printer.done for printer in served), 120)
        lives = [printer.life for printer in served]
        urls = {life.url for life in lives}

        def told() -> Any:
            report = compare(lives, [m for m in first.machines() if m["url"] in urls])
            return report if report.sound else None

        with contextlib.suppress(AssertionError):  # else the report says why
            wait(told, 30)
        wait(lambda: all(status_of(printer) == "Idle" for printer in served), 30)
        report = compare(lives, [m for m in first.machines() if m["url"] in urls])
        held = {m["url"]: m for m in first.machines()}
        untouched = {n: watcher.seen[ids[printers[n].url]] for n in UNTOUCHED}
        changes = sum(map(len, untouched.values()))
        print(
            "\n"
            + report.text(
                {
                    "machines untouched": len(untouched),
                    "their OPC UA changes": changes,
                    "of these not Good": sum(not s.is_good() for seen in untouched.values() for _, s in seen),
                    **{f"{what}, until in force": f"{took:.2f} s" for what, took in plant.took.items()},
                }
            )
        )
        assert report.sound
        assert max(plant.took.values()) < 30
        assert held[printers[RENAMED].url]["name"] == "Bay 1"
        assert held[printers[REMOVED].url]["status"] == "Idle"
        (elsewhere,) = second.machines()
        assert (elsewhere["url"], elsewhere["status"]) == (printers[IN_BOTH].url, "Idle")
        assert watcher.ended == []
        assert all(status.is_good() for seen in untouched.values() for _, status in seen)
        for number, seen in untouched.items():
            begun = [value for value, _ in seen[1:]].count("Executing")
            happened = [one.type for one in printers[number].happenings]
            assert begun <= happened.count("job_started") + happened.count("job_resumed")
            assert begun > 0
        gone = [status.value for _, status in watcher.seen[ids[printers[REMOVED].url]]]
        assert ua.StatusCodes.BadNodeIdUnknown in gone
        assert all(status.is_good() for _, status in watcher.seen[ids[printers[RENAMED].url]])
        assert "Traceback" not in bridge.text()
        assert bridge.stop() == 0


def test_a_file_that_is_deleted_or_broken_is_said_once_and_what_was_in_force_stays(plant: Plant) -> None:
    plant.config.unlink()
    plant.wait_said("the changed files are not taken over")
    assert "there is no such file" in plant.bridge.text()
    time.sleep(3)  # three more looks
    assert len(plant.said("the changed files are not taken over")) == 1
    plant.write(plant.config, "{")
    plant.wait_said("the changed files are not taken over", 2)
    plugin = Plugin(plant.bridge.push_url, entry(1)["authentication_file_path"])
    plugin.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    plant.configure(entry(1))
    plant.wait_said("config.json, its secret files and the settings can be used again")
    assert not plant.said("changes are in force")
    plugin.push((wire.STATE, dict(DATA[wire.STATE])))


def test_wrong_settings_are_refused_with_file_line_and_key_and_config_json_with_them(plant: Plant) -> None:
    right = plant.settings.read_text()
    plant.write(plant.settings, right.replace("silent_after", "silent_aftr"))
    plant.configure(entry(1), entry(2))
    plant.wait_said("the changed files are not taken over")
    ran = plant.command()
    assert ran.returncode == 2  # the command reads the same file
    assert "push.silent_aftr: there is no such key; did you mean silent_after?" in plant.bridge.text()
    assert not plant.said("machine added")
    plant.write(plant.settings, right)
    plant.wait_said("machine added")


def test_a_secret_file_that_comes_later_brings_its_machine(plant: Plant) -> None:
    plant.configure(entry(1), entry(2, authentication_file_path="secrets/two.txt"))
    plant.wait_said("the changed files are not taken over")
    assert plant.said("there is no file")[0]["key"] == "authentication_file_path"
    secret = plant.bridge.folder / "secrets" / "two.txt"
    secret.parent.mkdir()
    secret.touch(0o600)
    secret.write_text("2b" * 22)
    assert plant.wait_said("changes are in force")["added"] == 1
    Plugin(plant.bridge.push_url, "2b" * 22).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    plant.write(secret, "2c" * 22)
    assert plant.wait_said("machine changed")["what"] == ["key"]
    Plugin(plant.bridge.push_url, "2c" * 22, "two").push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    assert "2b2b" not in plant.bridge.text()


def test_who_asks_is_told_what_changed_or_what_is_wrong(blind_plant: Plant) -> None:
    plant = blind_plant
    plant.configure(entry(1, custom_name="Bay"), entry(2))
    ran = plant.command()
    assert ran.returncode == 0
    assert "changed (custom_name)" in ran.stdout
    assert ": added" in ran.stdout
    assert plant.reload()["machines"]["added"] == []
    plant.configure(entry(1, custom_name="Bay"), entry(2, url="no url"))
    ran = plant.command()
    assert ran.returncode == 1
    assert "config.json:1:" in ran.stderr
    assert "url: " in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_a_sighup_is_an_order_to_look_at_once(blind_plant: Plant) -> None:
    plant = blind_plant
    assert plant.bridge.process is not None
    plant.bridge.process.send_signal(signal.SIGHUP)
    plant.wait_said("config.json, its secret files and the settings were read again: nothing has changed")
    plant.configure(entry(1), entry(2))
    plant.bridge.process.send_signal(signal.SIGHUP)
    plant.wait_said("machine added")
    assert plant.bridge.process.poll() is None


async def sees(endpoint_url: str) -> list[str]:
    async with Client(endpoint_url) as client:
        folder = client.get_node(ua.NodeId(1001, await client.get_namespace_index(MACHINERY)))
        found = await folder.get_children(refs=ua.ObjectIds.Organizes)
        return sorted([str((await one.read_display_name()).Text) for one in found])


def test_ports_of_machines_come_and_go_and_sessions_on_the_others_stay(blind_plant: Plant) -> None:
    plant = blind_plant
    own = free_port()
    where = f"opc.tcp://127.0.0.1:{own}"
    secret = plant.bridge.folder / "bob.txt"
    secret.touch(0o600)
    secret.write_text("2b" * 22)
    ada, bob = (
        entry(1, custom_name="Ada"),
        entry(2, custom_name="Bob", authentication_file_path="bob.txt"),
    )
    plant.configure(ada, bob)
    plant.reload()
    with Watcher(plant.bridge.endpoint_url) as watcher:
        wait(lambda: len(watcher.seen) == 2)
        first = next(machine for machine in watcher.seen if watcher.seen[machine])
        plant.configure(ada, {**bob, "umati_server_port": own})
        assert list(plant.reload()["machines"]["changed"].values()) == [["umati_server_port"]]
        assert asyncio.run(sees(where)) == ["Bob"]
        assert asyncio.run(sees(plant.bridge.endpoint_url)) == ["Ada"]
        plant.configure(ada, bob)
        plant.reload()
        assert asyncio.run(sees(plant.bridge.endpoint_url)) == ["Ada", "Bob"]
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(sees(where))
        with socket.create_server(("127.0.0.1", own)):
            plant.configure(ada, {**bob, "umati_server_port": own})
            plant.reload()
            assert plant.said("a port of its own cannot be given")[0]["port"] == own
            assert asyncio.run(sees(plant.bridge.endpoint_url)) == ["Ada", "Bob"]
        assert list(plant.reload()["machines"]["changed"].values()) == [["umati_server_port"]]
        assert asyncio.run(sees(where)) == ["Bob"]
        assert asyncio.run(sees(plant.bridge.endpoint_url)) == ["Ada"]
        Plugin(plant.bridge.push_url, ada["authentication_file_path"]).push(
            (wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT]))
        )
        wait(lambda: any(len(seen) > 1 and seen[-1][1].is_good() for seen in watcher.seen.values()))
        assert watcher.ended == []
        assert first in watcher.seen


def test_the_log_speaks_as_the_settings_say_from_now_on(blind_plant: Plant) -> None:
    plant = blind_plant
    text = plant.settings.read_text()
    plant.write(
        plant.settings, text.replace('log_format = "json"', 'log_format = "human"\nlog_level = "warning"')
    )
    assert plant.reload()["settings"] == ["bridge.log_level", "bridge.log_format"]
    before = plant.bridge.text()
    plant.configure(entry(1), entry(2))
    assert len(plant.reload()["machines"]["added"]) == 1
    assert "machine added" not in plant.bridge.text()[len(before) :]
    plant.write(plant.settings, text.replace('log_format = "json"', 'log_format = "human"'))
    plant.reload()
    plant.configure(entry(1))
    plant.reload()
    assert "] machine not served any more" in plant.bridge.text()


def test_a_certificate_for_https_is_replaced_in_use(tmp_path: Path) -> None:
    def issue(name: str) -> bytes:
        https.load(PushSettings(https=True), tmp_path / name)
        return (tmp_path / name / https.OWN).read_bytes()

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    old, new = issue("first"), issue("second")
    pem = tmp_path / "tls.pem"
    pem.touch(0o600)
    pem.write_bytes(old)
    bridge = BridgeProcess(tmp_path, [entry(1)])
    path = tmp_path / "settings.toml"
    files = f'https = true\ncertificate_file = "{pem}"\nprivate_key_file = "{pem}"\n'
    path.write_text(path.read_text().replace("[push]\n", f"[push]\n{files}"))
    bridge.start()

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", bridge.push_port)).strip()

    try:
        assert served().encode() in old
        pem.write_bytes(b"nothing of the kind")
        assert "old one is served" in bridge.wait_for("the new https certificate cannot be used")["event"]
        assert served().encode() in old
        pem.write_bytes(new)
        bridge.wait_for("new connections of plugins get the new https certificate")
        assert served().encode() in new
        assert bridge.stop() == 0
    finally:
        bridge.kill()
