"""Files, layers and spools, from real OctoPrints and from plugins that send what the real ones do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from bridge.demo.octoprint import OctoPrint, slow_gcode
from tests.e2e.octoprint_server import running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
CUBE = "M83\n" + "".join(f"G1 X{10 + n % 2 * 50} Y{10 + n} F1200 E2\n" for n in range(40))


class Site:
    def __init__(self, octoprint: OctoPrint, bridge: Receiver) -> None:
        self.octoprint = octoprint
        self.bridge = bridge

    def last(self, kind: str, holds: Callable[[Any], bool], timeout: float = 30.0) -> Any:
        """The data of the newest event of `kind`, once it is as it should be."""
        deadline = time.monotonic() + timeout
        while True:
            events = self.bridge.events([kind])
            if events and holds(events[-1].data):
                return events[-1].data
            assert time.monotonic() < deadline, f"the last {kind} is {events[-1:]}"
            time.sleep(0.02)

    def files(self, *paths: str) -> list[dict[str, Any]]:
        told = self.last(wire.FILES, lambda data: {one["path"] for one in data["files"]} == set(paths))
        return list(told["files"])

    def spools(self, holds: Callable[[Any], bool]) -> Any:
        return self.last(wire.FEEDSTOCK, lambda data: holds(data["tools"]))["tools"]

    def spool_plugin(self, identifier: str, command: str, **data: Any) -> None:
        self.octoprint._post(f"/api/plugin/{identifier}", {"command": command, **data})


def begin(version: str, folder: Path, *plugins: tuple[str, str]) -> Iterator[Site]:
    (folder / "plugins").mkdir()
    for source, identifier in plugins:
        shutil.copy(HERE / source, folder / "plugins" / f"{identifier}.py")
    bridge = Receiver()
    try:
        with running(version, folder) as octoprint:
            octoprint._post("/api/settings", {"gcodeAnalysis": {"runAt": "always"}})
            bridge.accept(octoprint.generate_key())
            octoprint.configure_plugin(bridge.url, sample_interval=0.5)
            bridge.wait_for(wire.SNAPSHOT, reason="start")
            yield Site(octoprint, bridge)
    finally:
        bridge.stop()


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An OctoPrint with stand-ins for DisplayLayerProgress and both spool plugins."""
    yield from begin(
        request.param,
        tmp_path_factory.mktemp("octoprint"),
        ("layer_plugin.py", "DisplayLayerProgress"),
        ("spool_plugins.py", "SpoolManager"),
        ("spool_plugins.py", "Spoolman"),
    )


def test_what_is_uploaded_is_told_with_its_analysis_and_what_is_deleted_is_gone(site: Site) -> None:
    site.files()
    site.octoprint.upload("cube.gcode", CUBE)
    told = site.last(
        wire.FILES,
        lambda data: (
            [one["path"] for one in data["files"]] == ["cube.gcode"] and data["files"][0]["filament"]
        ),
        timeout=45.0,
    )["files"][0]
    assert told["size"] == len(CUBE)
    assert told["estimated_print_time"] > 0
    assert told["filament"]["tool0"]["length"] == pytest.approx(80.0, abs=3)
    assert wire.utc_now().timestamp() - wire.parse_time(told["date"]).timestamp() < 120
    site.octoprint._call("DELETE", "/api/files/local/cube.gcode")
    site.files()


def test_the_list_is_withdrawn_where_it_is_not_to_be_told(site: Site) -> None:
    site.octoprint.upload("secret.gcode", CUBE)
    site.files("secret.gcode")
    site.octoprint.configure_plugin(site.bridge.url, tell_files=False)
    site.files()
    site.octoprint.configure_plugin(site.bridge.url, tell_files=True)
    site.files("secret.gcode")


def test_a_layer_is_told_as_often_as_the_printer_is_looked_at(site: Site) -> None:
    site.octoprint.upload("part.gcode", slow_gcode(60, 50))
    before = len(site.bridge.events([wire.PROGRESS]))
    site.octoprint.print("part.gcode")
    site.last(wire.PROGRESS, lambda data: data["layer"] == data["layers"] == 30)
    site.bridge.wait_for(wire.JOB_ENDED, result="completed")
    told = [event.data["layer"] for event in site.bridge.events([wire.PROGRESS])[before:]]
    known = [layer for layer in told if layer is not None]
    assert known == sorted(known)
    assert len(told) <= 15, "of 30 layers in 1.5 s, and 3 s of printing"


def test_the_spool_of_spool_manager_is_told_with_what_it_says_of_it(site: Site) -> None:
    site.spool_plugin("SpoolManager", "select", tool=0, spool=12, remaining=812.5)
    black = {"name": "Galaxy Black", "material": "PETG", "manufacturer": None}
    told = site.spools(lambda tools: "tool0" in tools and tools["tool0"]["name"])
    assert told["tool0"] == {"identifier": "12", "remaining": 812.5, **black}
    site.spool_plugin("SpoolManager", "weigh", tool=0, spool=12, remaining=799.0)
    site.spools(lambda tools: tools["tool0"]["remaining"] == 799.0)


def test_the_spool_of_spoolman_is_told_by_its_identifier(site: Site) -> None:
    site.spool_plugin("Spoolman", "select", tool=1, spool="5")
    told = site.spools(lambda tools: "tool1" in tools)
    assert {key: value for key, value in told["tool1"].items() if value is not None} == {"identifier": "5"}


@pytest.mark.parametrize("version", versions() or ["1.11.8"])
def test_without_these_plugins_no_layer_and_no_spool_is_told(version: str, tmp_path: Path) -> None:
    for site in begin(version, tmp_path):
        site.octoprint.upload("part.gcode", slow_gcode(30, 50))
        site.octoprint.print("part.gcode")
        site.bridge.wait_for(wire.JOB_ENDED, result="completed")
        assert {str(event.data) for event in site.bridge.events([wire.FEEDSTOCK])} == {"{'tools': {}}"}
        assert {event.data["layer"] for event in site.bridge.events([wire.PROGRESS])} == {None}
