"""Changes while twenty printers print: in force within seconds, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
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

from bridge import wire
from bridge.demo.views import ITEM_STATE, MACHINERY
from octoprint_mesbridge.sender import Signer, Target, push_url
from tests.e2e.bridge_process import BridgeProcess
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

        served = [printer for number, printer in printers.items() if number != REMOVED]
        wait(lambda: all(printer.done for printer in served), 120)
        lives = [printer.life for printer in served]
        urls = {life.url for life in lives}

        def told() -> Any:
            report = compare(lives, [m for m in first.machines() if m["url"] in urls])
            return report if report.sound else None

        with contextlib.suppress(AssertionError):
            wait(told, 30)
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
        assert max(plant.took.values()) < 10
        assert held[printers[RENAMED].url]["name"] == "Bay 1"
        assert held[printers[REMOVED].url]["status"] == "Offline"
        (elsewhere,) = second.machines()
        assert (elsewhere["url"], elsewhere["status"]) == (printers[IN_BOTH].url, "Idle")
        assert watcher.ended == []
        assert all(status.is_good() for seen in untouched.values() for _, status in seen)
        for number, seen in untouched.items():
            begun = [value for value, _ in seen[1:]].count("Executing")
            happened = [one.type for one in printers[number].happenings]
            assert begun <= happened.count("job_started") + happened.count("job_resumed")
            assert begun > 0
        gone = watcher.seen[ids[printers[REMOVED].url]][-1][1]
        assert gone.value == ua.StatusCodes.BadNodeIdUnknown
        assert all(status.is_good() for _, status in watcher.seen[ids[printers[RENAMED].url]])
        assert "Traceback" not in bridge.text()
        assert bridge.stop() == 0
