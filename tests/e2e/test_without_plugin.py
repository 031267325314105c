"""Real OctoPrints that have nothing but an API key: told as with the plugin, through restarts, and taken over by it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from bridge.demo.chain import Chain
from bridge.demo.octoprint import OctoPrint, slow_gcode
from bridge.files import write_private
from bridge.log import OWN
from tests.bridge.mes.chain import wait_until
from tests.e2e import followed
from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.octoprint_server import environment
from tests.e2e.test_pairing_plugin import Tab
from tests.e2e.test_streams import (
    CANCELLED,
    COMPLETED,
    CONNECTING,
    PAUSING,
    RESUMING,
    RUNAWAY,
    begins,
)

pytestmark = pytest.mark.e2e

VERSIONS = ("1.11.8", "2.0.0rc7")
CLOCK = timedelta(seconds=0.5)
"""So exact are times that come over the socket: both ends have the same clock here, and what comes takes a moment."""

_IN_TIME_S = 60.0


@pytest.fixture(scope="module", params=VERSIONS)
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """OctoPrint, the bridge and a MES; the bridge has the key of a user who may look and list files."""
    folder = tmp_path_factory.mktemp("chain")
    made = Chain(environment(request.param), folder, lambda text: None, with_plugin=False)
    try:
        made.start()
        made.wait_connected()
        yield made
    finally:
        made.close()


@pytest.fixture
def bridge_for(tmp_path: Path) -> Iterator[Callable[[str, str], BridgeProcess]]:
    """Starts a bridge for one OctoPrint with a key."""
    started: list[BridgeProcess] = []

    def one(url: str, key: str) -> BridgeProcess:
        folder = tmp_path / f"bridge{len(started)}"
        folder.mkdir()
        entry = {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": [1]}
        started.append(bridge := BridgeProcess(folder, [entry]))
        bridge.start()
        bridge.wait_for("machine followed without the plugin")
        return bridge

    yield one
    for bridge in started:
        if bridge.process is not None:
            bridge.kill()


def job_of(chain: Chain, file: str, **wanted: Any) -> dict[str, Any]:
    """The one job with this file that the MES has, once it is as `wanted`."""

    def found() -> dict[str, Any] | None:
        (machine,) = chain.mes_state()["machines"]
        jobs = [job for job in machine["jobs"] if job["file"] == file]
        assert len(jobs) <= 1, jobs
        return jobs[0] if jobs and wanted.items() <= jobs[0].items() else None

    job: dict[str, Any] = wait_until(found, _IN_TIME_S)
    return job


def events_of(chain: Chain, job: Mapping[str, Any]) -> list[str]:
    """The types of the events that the MES has of a job, without the estimates, oldest first."""
    (machine,) = chain.mes_state()["machines"]
    told = [event["type"] for event in reversed(machine["events"]) if event["job"] == job["id"]]
    return [one for one in told if one != "job_estimate_changed"]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def kill_bridge(chain: Chain) -> None:
    assert chain.bridge is not None
    chain.bridge.kill()


def run_print(octoprint: OctoPrint, file: str, moves: int) -> datetime:
    """Upload a file and print it; returns when that was asked for."""
    octoprint.upload(file, slow_gcode(moves, 50))
    asked = datetime.now(UTC)
    octoprint.print(file)
    return asked


def test_each_kind_of_key_tells_what_the_plugin_tells(
    chain: Chain, bridge_for: Callable[[str, str], BridgeProcess]
) -> None:
    octoprint = chain.octoprint
    folders = [
        bridge_for(octoprint.url, key).folder / "state"
        for key in (
            octoprint.make_user_key("looker", "STATUS"),
            octoprint.make_application_key("MESBridge"),
            octoprint.global_key(),
        )
    ]

    def tells(*expected: tuple[str, ...]) -> None:
        """Each of the bridges has been told this since the last time, and nothing else."""
        for index, folder in enumerate(folders):
            wait_until(lambda: len(followed.story(folder, seen[index])) >= len(expected), _IN_TIME_S)  # noqa: B023
        time.sleep(0.7)
        for index, folder in enumerate(folders):
            heard = followed.story(folder, seen[index])
            if heard[-1][0] == "snapshot" and heard[-1] == heard[-2]:
                heard.pop()  # OctoPrint may say twice that it is connected
            assert heard == list(expected)
            seen[index] = followed.end(folder)

    for folder in folders:
        assert followed.story(folder) == [("snapshot", "start", "operational")]
    seen = [followed.end(folder) for folder in folders]

    begun = run_print(octoprint, "good.gcode", 60)
    octoprint.wait_state("Printing")
    octoprint.pause()
    octoprint.wait_state("Paused")
    octoprint.resume()
    octoprint.wait_state("Operational")
    tells(*begins("good.gcode"), *PAUSING, *RESUMING, *COMPLETED)
    for folder in folders:
        (started,) = (one for one in followed.records(folder) if one.kind == wire.JOB_STARTED)
        assert begun <= wire.parse_time(started.data["started"]) <= begun + 2 * CLOCK
        assert started.time == wire.parse_time(started.data["started"])

    run_print(octoprint, "bad.gcode", 200)
    octoprint.wait_state("Printing")
    octoprint.cancel()
    octoprint.wait_state("Operational")
    tells(*begins("bad.gcode"), *CANCELLED)

    octoprint.print("bad.gcode")
    octoprint.wait_state("Printing")
    octoprint.send("!!DEBUG:trigger_fatal_error_marlin")
    tells(
        *begins("bad.gcode"),
        ("error", RUNAWAY),
        ("job_ended", "failed", RUNAWAY),
        ("state", "error", RUNAWAY),
        ("state", "disconnected", RUNAWAY),
    )
    octoprint.connect()
    octoprint.wait_operational()
    tells(*CONNECTING)


def test_a_bridge_that_is_killed_during_a_print_goes_on_with_the_same_job(chain: Chain) -> None:
    asked = run_print(chain.octoprint, "killed.gcode", 120)
    job_of(chain, "killed.gcode", state="running")
    kill_bridge(chain)
    chain.start_bridge()
    job = job_of(chain, "killed.gcode", state="completed")
    assert events_of(chain, job) == ["job_started", "job_finished"]
    assert asked <= moment(job["started"]) <= asked + 2 * CLOCK


def test_a_print_that_ends_while_the_bridge_is_away_ended_when_it_did(chain: Chain) -> None:
    octoprint = chain.octoprint
    run_print(octoprint, "half.gcode", 60)
    job_of(chain, "half.gcode", state="running")
    kill_bridge(chain)
    octoprint.wait_state("Operational")
    ended = datetime.now(UTC)
    chain.start_bridge()
    job = job_of(chain, "half.gcode", state="completed")
    assert abs(moment(job["ended"]) - ended) <= 2 * CLOCK + timedelta(seconds=1)  # 2.0 keeps whole seconds
    assert events_of(chain, job) == ["job_started", "job_finished"]


def test_a_whole_print_while_the_bridge_is_away_is_found_with_its_true_times(chain: Chain) -> None:
    octoprint = chain.octoprint
    kill_bridge(chain)
    asked = run_print(octoprint, "unseen.gcode", 40)
    octoprint.wait_state("Printing", "Starting")
    octoprint.wait_state("Operational")
    ended = datetime.now(UTC)
    chain.start_bridge()
    job = job_of(chain, "unseen.gcode", state="completed")
    whole_seconds = timedelta(seconds=1)
    assert abs(moment(job["started"]) - asked) <= 2 * CLOCK + whole_seconds
    assert abs(moment(job["ended"]) - ended) <= 2 * CLOCK + whole_seconds
    assert events_of(chain, job) == ["job_started", "job_finished"]


def test_an_octoprint_that_starts_again_during_a_print_ends_it_and_the_next_is_seen(chain: Chain) -> None:
    octoprint = chain.octoprint
    run_print(octoprint, "lost.gcode", 400)
    job_of(chain, "lost.gcode", state="running")
    octoprint.stop()
    octoprint.start()
    octoprint.wait_operational()
    job = job_of(chain, "lost.gcode", state="failed")
    assert events_of(chain, job) == ["job_started", "job_finished"]
    wait_until(lambda: chain.mes_says().status == "Idle", _IN_TIME_S)
    run_print(octoprint, "next.gcode", 40)
    assert events_of(chain, job_of(chain, "next.gcode", state="completed")) == ["job_started", "job_finished"]


def test_a_plugin_that_is_paired_during_a_print_takes_over_and_nothing_is_told_twice(chain: Chain) -> None:
    octoprint = chain.octoprint
    octoprint.enable_plugin()
    before = followed.end(chain.state_folder)
    octoprint.stop()
    octoprint.start()
    octoprint.wait_operational()
    wait_until(lambda: followed.story(chain.state_folder, before), _IN_TIME_S)
    asked = run_print(octoprint, "handed-over.gcode", 240)
    seen = job_of(chain, "handed-over.gcode", state="running")
    pair(chain)
    wait_until(lambda: pushed(chain), _IN_TIME_S)
    goes_on_as_one_job(chain, "handed-over.gcode", seen, asked)
    run_print(octoprint, "by-the-plugin.gcode", 20)
    job = job_of(chain, "by-the-plugin.gcode", state="completed")
    assert events_of(chain, job) == ["job_started", "job_finished"]
    again = [what for what, file in followed.changes(chain.state_folder) if file == "by-the-plugin.gcode"]
    assert again == ["JobStarted", "JobEnded"]


def test_a_plugin_that_is_silent_is_followed_with_its_key_until_it_delivers_again(chain: Chain) -> None:
    octoprint = chain.octoprint
    octoprint.configure_plugin("")
    kill_bridge(chain)
    write_private(chain.config_path.with_name("secret.txt"), octoprint.generate_key().encode())
    config = json.loads(chain.config_path.read_text())
    config["machines"][0]["authentication_file_path"] = "secret.txt"
    chain.config_path.write_text(json.dumps(config))
    before = followed.end(chain.state_folder)
    chain.start_bridge()
    wait_until(lambda: followed.story(chain.state_folder, before), _IN_TIME_S)
    asked = run_print(octoprint, "meanwhile.gcode", 160)
    seen = job_of(chain, "meanwhile.gcode", state="running")
    before = followed.end(chain.state_folder)
    octoprint.configure_plugin(chain.push_url)
    wait_until(lambda: pushed(chain, before), _IN_TIME_S)
    goes_on_as_one_job(chain, "meanwhile.gcode", seen, asked)


def goes_on_as_one_job(chain: Chain, file: str, seen: Mapping[str, Any], asked: datetime) -> None:
    """The print with this file, which the MES has `seen`, is paused, resumed and ended, and told once."""
    octoprint = chain.octoprint
    octoprint.pause()
    octoprint.wait_state("Paused")
    job_of(chain, file, state="paused")
    octoprint.resume()
    job = job_of(chain, file, state="completed")
    assert (job["id"], job["started"]) == (seen["id"], seen["started"])
    assert asked <= moment(job["started"]) <= asked + 2 * CLOCK
    assert events_of(chain, job) == ["job_started", "job_paused", "job_resumed", "job_finished"]
    kept = [what for what, about in followed.changes(chain.state_folder) if about == file]
    assert kept == ["JobStarted", "JobPaused", "JobResumed", "JobEnded"]


def pair(chain: Chain) -> None:
    """The plugin in OctoPrint asks, and on both sides somebody says yes."""
    tab = Tab(chain.octoprint)
    pairing = "-m", "bridge.cli", "pair"

    def command(*arguments: str) -> str:
        line = [sys.executable, *pairing, *arguments, "--settings", chain.settings_path]
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout

    command("open")
    tab.command("request_pairing", bridge_url=chain.push_url, octoprint_url=chain.octoprint.url)
    code = tab.wait_pairing("comparing")["code"]
    (request,) = (line.split()[0] for line in command("list").splitlines() if code in line)
    tab.command("confirm_pairing", code=code)
    command("accept", request, "--mes", "1")


def pushed(chain: Chain, after: int = 0) -> bool:
    """Whether the log has something that the plugin delivered."""
    return any(not one.instance.startswith(OWN) for one in followed.records(chain.state_folder, after))
