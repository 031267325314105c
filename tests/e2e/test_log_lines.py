"""Each line of a whole life of a bridge can be read by a machine, and those about a printer say which."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import requests
from asyncua import Client, ua

from bridge import wire
from tests.bridge.events import DATA
from tests.e2e.bridge_process import BridgeProcess, Plugin

pytestmark = pytest.mark.e2e

KEY = "a" * 43
MACHINE = {
    "type": "OCTOPRINT",
    "url": "http://127.0.0.1:9",
    "authentication_file_path": KEY,
    "mes_id": [1],
    "custom_name": "Left",
}
ABOUT_A_MACHINE = {
    "machine reached",
    "machine not reachable",
    "OctoPrint not verified",
    "events are missing; a snapshot is asked for",
    "the machine has other nodes now",
}
CHATTY = """
import logging
from bridge import logs
configure = logs.configure
def then(*given):
    configure(*given)
    logging.getLogger("asyncio").error("a library speaks")
logs.configure = then
"""


def test_every_line_of_a_life_is_an_object_and_names_its_machine(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    mes = f'[[mes]]\nid = 1\nurl = "http://127.0.0.1:9"\nservice_id = "s"\ntoken_file = "{token}"\n'
    bridge = BridgeProcess(tmp_path, [MACHINE, {"type": "OCTOPRINT", "url": "nonsense"}], mes, silent_after=5)
    bridge.start(before=CHATTY)
    try:
        plugin = Plugin(bridge.push_url, KEY)
        plugin.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
        plugin.seq += 5
        plugin.push((wire.STATE, {"state": "printing", "error": None}))
        requests.post(bridge.push_url, data=b"{}", timeout=30)
        requests.post(
            bridge.push_url, data=b"{}", headers={wire.KEY_ID_HEADER: plugin.key.key_id}, timeout=30
        )

        async def intrude() -> None:
            with pytest.raises(ua.UaError):
                async with Client(bridge.endpoint_url):
                    pass

        asyncio.run(intrude())
        bridge.wait_for("machine not reachable", 60)
        bridge.wait_for("a library speaks")
        assert bridge.stop() == 0
    finally:
        bridge.kill()
    lines = [json.loads(line) for line in bridge.text().splitlines()]  # nothing else stands between them
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys(), line
        if line["event"] in ABOUT_A_MACHINE:
            assert line["machine"].startswith("octoprint-"), line
        if "machine" in line:
            assert line["name"] == "Left", line
    said = {line["event"] for line in lines}
    assert said >= ABOUT_A_MACHINE, said
    assert said >= {"push refused", "MESBridge serves", "MESBridge stopped"}
    assert KEY not in bridge.text()
