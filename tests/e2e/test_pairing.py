"""Pairing as a whole: the bridge as a process, `mesbridge pair` at its side, and a plugin that asks to be taken in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from asyncua import Client, ua

from bridge import handshake, wire
from bridge.aggregator import load
from bridge.demo.octoprint import ADMIN, OctoPrint, free_port, slow_gcode
from tests.bridge.events import DATA
from tests.e2e.bridge_process import BridgeProcess, Plugin
from tests.e2e.octoprint_server import Visitor, running, versions

pytestmark = pytest.mark.e2e

KEY, OTHER_KEY = "k" * 43, "o" * 43
OCTOPRINT = "http://127.0.0.1:9"
WITH_COMMENTS = """// the printers of hall 3
[
    {   // the old one
        "type": "OCTOPRINT", "url": "http://127.0.0.1:10", "custom_name": "Old one",
        "authentication_file_path": "%s",  /* inline */
        "mes_id": [7],
    },
]
"""
Make = Callable[..., BridgeProcess]


class Asking:
    """A plugin's half of a pairing, without OctoPrint."""

    def __init__(
        self, origin: str, key: str = KEY, url: str = OCTOPRINT, name: str = "Prusa in hall 3"
    ) -> None:
        self.origin = origin
        self.key = key
        self.half = handshake.Half()
        certificate, https = None, origin.startswith("https")
        self.http = requests.Session()
        if https:
            self.http.verify, self.http.trust_env = False, False
            certificate = seen_certificate(origin)
        self.introduction = handshake.Introduction(
            handshake.commitment(self.half.reveal()),
            "uuid-1",
            name,
            url,
            "1.11.8",
            "0.2.0",
            certificate,
            https,
        )
        answer = self._post(handshake.PATH, handshake.encode(self.introduction), {})
        self.refusal = answer.json()["error"] if answer.status_code != 200 else None
        if self.refusal is None:
            self.answer = handshake.decode_answer(answer.content)
            reveal = self.half.reveal()
            self.session = self.half.session(self.answer.public, self.introduction, self.answer, reveal)
            assert self._say("reveal", handshake.encode(reveal)).state == handshake.WAITING

    @property
    def id(self) -> str:
        return self.answer.id

    def state(self) -> handshake.State:
        return self._say("state", b"{}")

    def hand_over(self) -> handshake.State:
        """What the plugin does as soon as both persons have said yes."""
        return self._say("key", handshake.encode_sealed(self.session.seal(self.key)))

    def cancel(self) -> handshake.State:
        return self._say("cancel", handshake.encode(handshake.State(handshake.CANCELLED)))

    def _say(self, what: str, body: bytes) -> handshake.State:
        message_id = wire.new_message_id()
        headers = wire.sign(self.session.signing_key, message_id, wire.utc_now(), body)
        answer = self._post(f"{handshake.PATH}/{self.id}/{what}", body, headers)
        assert answer.status_code == 200, answer.text
        wire.verify_reply(self.session.signing_key, message_id, answer.headers, answer.content)
        return handshake.decode_state(answer.content)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        return self.http.post(self.origin + path, data=body, headers=headers, timeout=30)


def seen_certificate(origin: str) -> str:
    """SHA-256 of the certificate at `origin`."""
    host, port = origin.removeprefix("https://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as secured:
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return sha256(der).hexdigest()


class Recorder:
    """A proxy that keeps every byte of both directions."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.seen = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with one, other:
            try:
                while data := one.recv(65536):
                    self.seen += data
                    other.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[BridgeProcess] = []

    def one(config: str = "[]", settings: str = "anonymous = true\n", https: bool = False) -> BridgeProcess:
        bridge = BridgeProcess(tmp_path, [], settings)
        (tmp_path / "config.json").write_text(config)
        (tmp_path / "config.json").chmod(0o600)
        if https:
            path = tmp_path / "settings.toml"
            path.write_text(path.read_text().replace("[push]", "[push]\nhttps = true"))
        made.append(bridge)
        return bridge

    yield one
    for bridge in made:
        if bridge.process is not None and bridge.process.poll() is None:
            bridge.kill()


def origin(bridge: BridgeProcess, https: bool = False) -> str:
    return f"http{'s' if https else ''}://127.0.0.1:{bridge.push_port}"


def command(bridge: BridgeProcess, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bridge.cli", "pair", *arguments, "--settings", "settings.toml"]


def pair(bridge: BridgeProcess, *arguments: str, status: int = 0) -> str:
    """What `mesbridge pair` says."""
    ran = subprocess.run(
        command(bridge, *arguments), cwd=bridge.folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


def accept(bridge: BridgeProcess, request_id: str, *more: str) -> subprocess.Popen[str]:
    """`pair accept`, which goes on until the key is there."""
    return subprocess.Popen(
        command(bridge, "accept", request_id, "--mes", "1", *more),
        cwd=bridge.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def accepted(asking: Asking) -> None:
    deadline = time.monotonic() + 30
    while asking.state().state != handshake.ACCEPTED:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def paired(bridge: BridgeProcess, asking: Asking, *more: str) -> str:
    """The whole way; what `pair accept` said."""
    accepting = accept(bridge, asking.id, *more)
    try:
        accepted(asking)
        assert asking.hand_over().state == handshake.SERVED
        if asking.origin.startswith("http:"):
            Plugin(bridge.push_url, asking.key, "sign-of-life").push()
        said, _ = accepting.communicate(timeout=60)
    finally:
        accepting.kill()
    assert accepting.returncode == 0, said
    return said


async def shown_machines(endpoint_url: str) -> list[str]:
    """The names of the machines that an OPC UA client sees."""
    async with Client(endpoint_url) as client:
        index = await client.get_namespace_index("http://opcfoundation.org/UA/Machinery/")
        folder = client.get_node(f"ns={index};i=1001")
        machines = await folder.get_children(refs=ua.ObjectIds.Organizes)
        names = [(await machine.read_display_name()).Text for machine in machines]
        return [name for name in names if name is not None]


def machines(bridge: BridgeProcess) -> list[str]:
    return asyncio.run(shown_machines(bridge.endpoint_url))


@pytest.mark.parametrize("config", ["[]", WITH_COMMENTS % OTHER_KEY], ids=["empty", "with comments"])
def test_an_accepted_machine_is_written_down_and_served_at_once(make: Make, config: str) -> None:
    bridge = make(config)
    bridge.start()
    before = machines(bridge)
    pair(bridge, "open", "--minutes", "5")
    asking = Asking(origin(bridge))
    listed = pair(bridge, "list")
    assert f"{asking.id}  {asking.session.code}  Prusa in hall 3  {OCTOPRINT}" in listed
    assert bridge.wait_for("pairing waits")["request"] == asking.id
    said = paired(bridge, asking)
    assert asking.session.code in said
    assert "its plugin delivers" in said

    Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    assert sorted(machines(bridge)) == sorted([*before, "Prusa in hall 3"])
    text = (bridge.folder / "config.json").read_text()
    without_entry = re.sub(r"\s*\{[^{}]*Prusa in hall 3[^{}]*\},?", "", text)
    assert "".join(without_entry.split()) == "".join(config.split())
    entry = load(bridge.folder / "config.json").machines[-1]
    assert (entry.url, entry.custom_name, entry.mes_id, entry.served) == (
        OCTOPRINT,
        "Prusa in hall 3",
        (1,),
        True,
    )
    assert entry.credential.path is not None
    assert entry.credential.path.stat().st_mode & 0o777 == 0o600
    assert str(entry.credential.path) in said
    assert KEY not in said + bridge.text() + text

    bridge.stop()
    bridge.output.unlink()
    bridge.start()
    assert sorted(machines(bridge)) == sorted([*before, "Prusa in hall 3"])


def test_a_machine_that_is_served_already_gets_its_new_key_and_stays_the_same(make: Make) -> None:
    bridge = make(WITH_COMMENTS % OTHER_KEY)
    bridge.start()
    old = Plugin(f"{origin(bridge)}{wire.PATH}", OTHER_KEY, "old")
    old.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    pair(bridge, "open")
    said = paired(bridge, Asking(origin(bridge), url="http://127.0.0.1:10/", name="Another name"))
    assert "the entry was there" in said
    with pytest.raises(AssertionError, match="unknown_key"):
        old.push((wire.STATE, dict(DATA[wire.STATE])))
    new = Plugin(f"{origin(bridge)}{wire.PATH}", KEY, "new")
    new.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    assert machines(bridge) == ["Old one"]
    known = json.loads((bridge.folder / "state" / "machines.json").read_text())["machines"]
    assert [one["key_id"] for one in known] == [wire.PushKey.derive(KEY).key_id]
    assert load(bridge.folder / "config.json").machines[0].mes_id == (7,)


def test_a_closed_bridge_takes_no_request_and_says_so(make: Make) -> None:
    bridge = make()
    bridge.start()
    assert "Pairing is closed" in pair(bridge, "list")
    assert Asking(origin(bridge)).refusal == "closed"
    pair(bridge, "open")
    pair(bridge, "close")
    assert Asking(origin(bridge)).refusal == "closed"
    assert "There are no requests" in pair(bridge, "list")


def test_a_refused_request_ends_without_a_key(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    assert "Prusa in hall 3" in pair(bridge, "refuse", asking.id)
    assert asking.state().state == handshake.REFUSED
    assert asking.hand_over().state == handshake.REFUSED
    assert "does not wait any more" in pair(bridge, "accept", asking.id, "--mes", "1", status=1)
    assert (bridge.folder / "config.json").read_text() == "[]"


def test_a_request_cancelled_in_octoprint_ends_at_the_bridge_too(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    accepting = accept(bridge, asking.id)
    accepted(asking)
    assert asking.cancel().state == handshake.CANCELLED
    said, _ = accepting.communicate(timeout=30)
    assert (accepting.returncode, "Not paired: cancelled in OctoPrint" in said) == (1, True)
    assert "cancelled" in pair(bridge, "list")
    assert asking.hand_over().state == handshake.CANCELLED
    assert (bridge.folder / "config.json").read_text() == "[]"
    ended = bridge.wait_for("pairing ended")
    assert (ended["request"], ended["code"]) == (asking.id, asking.session.code)


def test_an_octoprint_that_is_there_under_another_address_is_noticed(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    paired(bridge, Asking(origin(bridge)))
    snapshot = dict(DATA[wire.SNAPSHOT])
    snapshot["printer"] = {**snapshot["printer"], "uuid": "uuid-1"}
    Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, snapshot))
    (secret,) = (bridge.folder / "secrets").iterdir()
    secret.chmod(0o640)

    again = Asking(origin(bridge), OTHER_KEY, "http://127.0.0.1:10")
    said = pair(bridge, "accept", again.id, status=1)
    assert "'Prusa in hall 3', machine octoprint-" in said
    assert f"--url {OCTOPRINT};" in said
    assert again.state().state == handshake.WAITING
    said = paired(bridge, again, "--url", OCTOPRINT)
    assert "'Prusa in hall 3', machine octoprint-" in said
    assert f"{secret}: holds the key, for its owner only" in said
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == (OTHER_KEY + "\n", 0o600)
    assert len(load(bridge.folder / "config.json").machines) == 1


def test_what_the_person_says_goes_before_what_the_plugin_says(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge), url="http://octopi.local")
    paired(bridge, asking, "--url", "http://127.0.0.1:9/octoprint", "--name", "Bay 12", "--mes", "3", "4")
    entry = load(bridge.folder / "config.json").machines[0]
    assert (entry.url, entry.custom_name, entry.mes_id) == (
        "http://127.0.0.1:9/octoprint",
        "Bay 12",
        (3, 4),
    )


def test_without_a_mes_to_show_it_in_nothing_is_accepted(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    assert "--mes N" in pair(bridge, "accept", asking.id, status=1)
    assert asking.state().state == handshake.WAITING


def test_the_person_may_go_away_while_the_plugin_still_asks_its_own(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    accepting = accept(bridge, asking.id)
    accepted(asking)
    time.sleep(0.5)
    accepting.send_signal(2)
    said, _ = accepting.communicate(timeout=30)
    assert accepting.returncode == 130
    assert f"mesbridge pair refuse {asking.id}" in said
    assert "Traceback" not in said
    assert asking.hand_over().state == handshake.SERVED


def test_a_bridge_that_is_killed_in_the_middle_starts_again_without_it(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    accepting = accept(bridge, asking.id)
    accepted(asking)
    bridge.kill()
    (bridge.folder / "secrets").mkdir()
    (bridge.folder / "secrets" / "octoprint-orphan.txt").touch()
    half = bridge.folder / "secrets" / ".octoprint-prusa.txt.a1b2c3d4.mesbridge"
    half.touch()
    said, _ = accepting.communicate(timeout=30)
    assert accepting.returncode == 1
    assert "did not end in order" in said
    assert "did not end in order" in pair(bridge, "list", status=1)
    bridge.output.unlink()
    bridge.start()
    assert "octoprint-orphan.txt" in str(bridge.wait_for("no entry of config.json names")["files"])
    assert not half.exists()
    assert "Pairing is closed" in pair(bridge, "list")
    with pytest.raises(AssertionError, match="unknown"):
        asking.hand_over()
    assert (bridge.folder / "config.json").read_text() == "[]"
    bridge.stop()
    assert "no bridge runs with the state folder" in pair(bridge, "list", status=1)


def test_a_bridge_that_is_killed_when_the_key_is_written_serves_the_machine_when_it_starts_again(
    make: Make,
) -> None:
    bridge = make()
    bridge.start(
        before="import os; import bridge.adoption as adoption; adoption.assign = lambda *_: os._exit(9)"
    )
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    accepting = accept(bridge, asking.id)
    accepted(asking)
    with pytest.raises(requests.ConnectionError):
        asking.hand_over()
    said, _ = accepting.communicate(timeout=30)
    assert (accepting.returncode, "did not end in order" in said) == (1, True)
    bridge.output.unlink()
    bridge.start()
    assert "waits for its plugin" in bridge.wait_for("machine waits")["event"]
    Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    assert machines(bridge) == ["Prusa in hall 3"]


def test_over_plain_http_octoprint_is_not_asked_with_a_paired_key_neither_at_once_nor_later(
    make: Make,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as octoprint:
        octoprint.settimeout(3)
        bridge = make()
        bridge.start()
        pair(bridge, "open")
        address = f"http://127.0.0.1:{octoprint.getsockname()[1]}"
        paired(bridge, Asking(origin(bridge), url=address))
        bridge.stop()
        bridge.output.unlink()
        bridge.start()
        bridge.wait_for("machine waits for its plugin")
        with pytest.raises(TimeoutError):
            octoprint.accept()
        Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
        bridge.wait_for("machine verified by its plugin")

        # A key that a person put there is one that the Aggregator sends in the same way.
        (secret,) = (bridge.folder / "secrets").iterdir()
        secret.write_text(OTHER_KEY)
        bridge.stop()
        bridge.output.unlink()
        bridge.start()
        octoprint.settimeout(20)
        connection, _ = octoprint.accept()
        with connection:
            assert OTHER_KEY.encode() in connection.recv(4096)


def test_who_listens_between_them_never_sees_the_key(make: Make) -> None:
    bridge = make()
    bridge.start()
    pair(bridge, "open")
    recorder = Recorder(bridge.push_port)
    try:
        asking = Asking(f"http://127.0.0.1:{recorder.port}")
        paired(bridge, asking)
        Plugin(f"http://127.0.0.1:{recorder.port}{wire.PATH}", KEY).push(
            (wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT]))
        )
    finally:
        recorder.close()
    assert b"Prusa in hall 3" in recorder.seen
    assert KEY.encode() not in recorder.seen


def test_a_machine_that_was_taken_in_is_registered_with_its_mes(make: Make, tmp_path: Path) -> None:
    mes, port = tmp_path / "mes", free_port()
    mes.mkdir()
    (mes / "token").write_text("t" * 32)
    settings = (
        f'[[mes]]\nid = 1\nurl = "http://127.0.0.1:{port}/api/v2.0/service-panel"\nservice_id = "sandbox"\n'
        f'token_file = "{mes / "token"}"\n'
    )
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", "sandbox", "--port", str(port), "--folder", str(mes)]
    )
    try:
        bridge = make(settings="anonymous = true\n" + settings)
        bridge.start()
        pair(bridge, "open")
        paired(bridge, Asking(origin(bridge)))
        Plugin(bridge.push_url, KEY).push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
        deadline = time.monotonic() + 30
        shown: list[Any] = []
        while not shown or shown[0]["status"] in ("", "Offline"):
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
            with contextlib.suppress(requests.ConnectionError):
                shown = requests.get(f"http://127.0.0.1:{port}/state.json", timeout=30).json()["machines"]
        assert [one["name"] for one in shown] == ["Prusa in hall 3"]
    finally:
        sandbox.kill()
        sandbox.wait()


def test_a_request_that_nobody_accepts_expires_on_both_sides(make: Make) -> None:
    bridge = make()
    soon = "from datetime import timedelta; import bridge.sources.pairing as desk; desk.REQUEST_LASTS = timedelta(0, 4)"
    bridge.start(before=soon)
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    accepting = accept(bridge, asking.id)
    accepted(asking)
    said, _ = accepting.communicate(timeout=30)
    assert accepting.returncode == 1
    assert "Not paired: the key did not come in time" in said
    assert asking.hand_over().state == handshake.EXPIRED
    assert (bridge.folder / "config.json").read_text() == "[]"


def test_over_https_the_certificate_stays_and_is_named_at_start(make: Make) -> None:
    bridge = make(https=True)
    bridge.start()
    told = bridge.wait_for("MESBridge serves")
    assert told["push"].startswith("https://")
    assert told["certificate_sha256"] == seen_certificate(origin(bridge, https=True))
    pair(bridge, "open")
    paired(bridge, Asking(origin(bridge, https=True)))
    bridge.stop()
    bridge.output.unlink()
    bridge.start()
    assert told["certificate_sha256"] == seen_certificate(origin(bridge, https=True))


def test_a_certificate_that_cannot_be_used_keeps_the_bridge_from_starting_and_is_named(make: Make) -> None:
    bridge = make()
    path = bridge.folder / "settings.toml"
    files = 'https = true\ncertificate_file = "gone.pem"\nprivate_key_file = "gone.key"'
    path.write_text(path.read_text().replace("[push]", f"[push]\n{files}"))
    bridge.start(wait=False)
    assert bridge.process is not None
    assert bridge.process.wait(30) == 1
    said = bridge.lines()[-1]
    assert said["event"] == "MESBridge cannot start"
    assert "gone.pem: cannot be read: No such file or directory" in said["detail"]
    assert "push.certificate_file" in said["detail"]


def test_an_entry_that_cannot_be_written_is_told_on_both_sides(make: Make) -> None:
    bridge = make("[]")
    bridge.start()
    pair(bridge, "open")
    asking = Asking(origin(bridge))
    (bridge.folder / "config.json").write_text("{ broken")
    accepting = accept(bridge, asking.id)
    accepted(asking)
    ended = asking.hand_over()
    said, _ = accepting.communicate(timeout=30)
    assert ended.state == handshake.FAILED
    assert "config.json" in ended.message
    assert (accepting.returncode, "config.json" in said) == (1, True)


class Tab:
    """The settings tab of a real OctoPrint."""

    def __init__(self, octoprint: OctoPrint) -> None:
        self._visitor = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)

    def command(self, command: str, **values: str) -> None:
        answer = self._visitor.post("/api/plugin/mesbridge", {"command": command, **values})
        assert answer.status_code == 200, answer.text

    def wait(self, holds: Callable[[Any], Any], timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while not holds(status := self._visitor.get("/api/plugin/mesbridge").json()):
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
        return status


def logged(bridge: BridgeProcess) -> list[str]:
    """The kinds of all events in the log of a bridge that does not run."""
    with contextlib.closing(sqlite3.connect(bridge.folder / "state" / "log.sqlite")) as connection:
        return [kind for (kind,) in connection.execute("SELECT kind FROM record ORDER BY position")]


@pytest.mark.parametrize("version", versions() or ["1.11.8"])
def test_a_real_octoprint_minds_another_certificate_and_loses_nothing_meanwhile(
    make: Make, version: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bridge = make(WITH_COMMENTS % OTHER_KEY, https=True)
    bridge.start()
    pair(bridge, "open")
    with running(version, tmp_path_factory.mktemp("octoprint")) as octoprint:
        tab = Tab(octoprint)
        tab.command("request_pairing", bridge_url=origin(bridge, https=True), octoprint_url=octoprint.url)
        code = tab.wait(lambda status: status["pairing"]["code"])["pairing"]["code"]
        request_id = next(line.split()[0] for line in pair(bridge, "list").splitlines() if code in line)
        tab.command("confirm_pairing", code=code)
        said = pair(bridge, "accept", request_id, "--mes", "1", "--name", "Bay 12")
        assert "Waiting for its plugin: its plugin delivers" in said
        tab.wait(lambda status: status["connected"] and status["pairing"]["state"] == "done")
        assert machines(bridge) == ["Old one", "Bay 12"]
        assert "// the printers of hall 3" in (bridge.folder / "config.json").read_text()

        bridge.kill()
        own = bridge.folder / "state" / "https.pem"
        kept = own.rename(bridge.folder / "kept.pem")
        bridge.output.unlink()
        bridge.start()
        refused = tab.wait(lambda status: "certificate" in (status["error"] or ""))
        assert not refused["connected"]
        octoprint.upload("part.gcode", slow_gcode(5, 100))
        octoprint.print("part.gcode")
        tab.wait(lambda status: status["waiting"] > 0)
        octoprint.wait_state("Operational")
        bridge.kill()
        assert wire.JOB_STARTED not in logged(bridge)

        kept.replace(own)
        bridge.output.unlink()
        bridge.start()
        tab.wait(lambda status: status["connected"] and not status["waiting"])
        bridge.stop()
    told = logged(bridge)
    assert [told.count(kind) for kind in (wire.JOB_STARTED, wire.JOB_ENDED)] == [1, 1]
