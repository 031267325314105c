"""Ports of config.json that cannot be had on this computer."""

import asyncio
import socket
from pathlib import Path

from bridge import occupancy
from bridge.aggregator import load
from bridge.settings import IdentificationSettings, OpcUaSettings
from bridge.umati import MachineIdentity, UmatiServer
from tests.bridge.events import Story


def config_naming(folder: Path, *ports: int) -> Path:
    path = folder / "config.json"
    entries = [
        f'{{"type": "OCTOPRINT", "url": "http://h{port}", "authentication_file_path": "{port}.txt",'
        f' "mes_id": [1], "umati_server_port": {port}}}'
        for port in ports
    ]
    for port in ports:
        (folder / f"{port}.txt").write_text(f"{port:032}")
        (folder / f"{port}.txt").chmod(0o600)
    path.write_text(f"[{','.join(entries)}]")
    return path


def free_port() -> int:
    with socket.create_server(("", 0)) as one:
        port: int = one.getsockname()[1]
    return port


def test_a_port_that_another_program_uses_is_told_with_one_that_is_free(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as other:
        taken, free = other.getsockname()[1], free_port()
        one, two = occupancy.examined(load(config_naming(tmp_path, taken, free))).machines
    (problem,) = one.problems
    assert (problem.severity, problem.key, problem.line) == ("warning", "umati_server_port", 1)
    assert f"port {taken} is used by another program" in problem.message
    offered = next(int(word) for word in problem.hint.replace(",", "").split() if word.isdecimal())
    assert offered not in (taken, free)
    socket.create_server(("", offered)).close()
    assert two.problems == ()


async def test_a_running_mesbridge_is_no_other_program(tmp_path: Path) -> None:
    port = free_port()
    server = UmatiServer(OpcUaSettings(port=0, anonymous=True), tmp_path)
    server.give_port("octoprint-1", port)
    story = Story(name="octoprint-1")
    await server.start()
    try:
        server.add_machine(
            story.name, MachineIdentity(None, "http://h", IdentificationSettings()), story.machine
        )
        examined = await asyncio.to_thread(occupancy.examined, load(config_naming(tmp_path, port)))
    finally:
        await server.stop()
    assert examined.machines[0].problems == ()
