"""What Prometheus is told by a bridge that works, with a MES and an OPC UA client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from asyncua import Client, ua
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from bridge import wire
from tests.bridge.events import DATA
from tests.bridge.mes.chain import running_sandbox, wait_until
from tests.docs import metrics
from tests.e2e.bridge_process import BridgeProcess, Plugin

pytestmark = pytest.mark.e2e

KEY = "a" * 43
MACHINE = {
    "type": "OCTOPRINT",
    "url": "http://127.0.0.1:9",
    "authentication_file_path": KEY,
    "mes_id": [1],
    "custom_name": 'The "left" one',
}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def scrape(bridge: BridgeProcess, **headers: str) -> dict[tuple[str, ...], float]:
    """The values, by name of the sample and values of its labels but for the name of the machine."""
    answer = requests.get(f"{bridge.web_url}/metrics", headers={**OPENMETRICS, **headers}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    found = {}
    for family in read_openmetrics(answer.text):
        for sample in family.samples:
            labels = [value for label, value in sample.labels.items() if label not in ("machine", "name")]
            found[sample.name, *labels] = sample.value
    return found


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_sandbox(tmp_path / "mes") as sandbox:
        folder = tmp_path / "bridge"
        folder.mkdir()
        one = BridgeProcess(
            folder,
            [MACHINE],
            f'anonymous = true\n[[mes]]\nid = 1\nurl = "{sandbox.mes_url}"\nservice_id = "{sandbox.service_id}"\n'
            f'token_file = "{sandbox.token_file}"\n',
        )
        yield one
        if one.process is not None:
            one.kill()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    one = BridgeProcess(tmp_path_factory.mktemp("started"), [MACHINE])
    one.start()
    yield one
    one.kill()


async def test_figures_follow_what_happens(bridge: BridgeProcess) -> None:
    bridge.start()
    plugin = Plugin(bridge.push_url, KEY)
    plugin.push((wire.SNAPSHOT, dict(DATA[wire.SNAPSHOT])))
    plugin.push(
        (wire.STATE, {"state": "printing", "error": None}), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED]))
    )
    plugin.push((wire.PROGRESS, dict(DATA[wire.PROGRESS])))
    Plugin(bridge.push_url, KEY).http.post(bridge.push_url, data=b"{}", timeout=30)
    wait_until(lambda: scrape(bridge)["mesbridge_sink_lag_events", "mes-1"] == 0, 40)

    said = scrape(bridge)
    assert said["mesbridge_events_total", "plugin"] == 4
    assert said["mesbridge_push_batches_total",] == 3
    assert said["mesbridge_snapshot_requests_total",] == 0
    assert said["mesbridge_pushes_refused_total", "unknown_key"] == 1
    assert said["mesbridge_log_position",] == 5  # with what the bridge itself notes
    assert said["mesbridge_log_size_bytes", "wal"] > 4096
    assert said["mesbridge_sink_lag_seconds", "mes-1"] == 0
    assert said["mesbridge_mes_deliveries_total", "1", "done"] >= 3
    assert said["mesbridge_mes_reachable", "1"] == 1
    assert said["mesbridge_mes_machines", "1"] == 1
    assert said["mesbridge_machines",] == 1
    assert said["mesbridge_machine_info", "1.11.8", "0.1.0"] == 1
    assert said["mesbridge_machine_up",] == 1
    assert said["mesbridge_machine_state", "printing"] == 1
    assert sum(value for key, value in said.items() if key[0] == "mesbridge_machine_state") == 1
    assert 0 < said["mesbridge_machine_job_progress_ratio",] <= 1
    assert said["mesbridge_machine_temperature_celsius", "tool0"] == 210.1
    assert said["mesbridge_machine_target_temperature_celsius", "bed"] == 60
    assert said["process_resident_memory_bytes",] > 2**20

    async with Client(bridge.endpoint_url) as client:
        subscription = await client.create_subscription(50, Silent())
        await subscription.subscribe_data_change(client.get_node(ua.ObjectIds.Server_ServerStatus_State))
        wait_until(lambda: scrape(bridge)["mesbridge_opcua_notifications_total",] >= 1, 40)
        said = scrape(bridge)
        assert said["mesbridge_opcua_sessions",] == 1
        assert said["mesbridge_opcua_subscriptions",] == 1
        assert said["mesbridge_opcua_monitored_items",] == 1
    told = said["mesbridge_opcua_notifications_total",]
    wait_until(lambda: scrape(bridge)["mesbridge_opcua_subscriptions",] == 0, 40)
    assert scrape(bridge)["mesbridge_opcua_notifications_total",] >= told  # a counter never falls

    plain = requests.get(f"{bridge.web_url}/metrics", timeout=30)
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {s.name for f in read_text(plain.text) for s in f.samples} == {key[0] for key in said}
    documented = metrics.DOCUMENT.read_text(encoding="utf-8")
    assert not [key[0] for key in said if f"| `{key[0]}` |" not in documented]


class Silent:
    def datachange_notification(self, *_: Any) -> None: ...


@pytest.mark.parametrize("host", ["evil.example", "[", "127.0.0.1.evil.example:80"])
def test_a_page_in_a_browser_that_has_a_name_for_this_computer_sees_none(
    started: BridgeProcess, host: str
) -> None:
    said = requests.get(f"{started.web_url}/metrics", headers={"Host": host}, timeout=30)
    assert 400 <= said.status_code < 500
    assert "mesbridge_" not in said.text


def test_the_names_of_this_computer_may_ask(started: BridgeProcess) -> None:
    for host in ("localhost:8486", "127.0.0.1", "[::1]:1"):
        said = requests.get(f"{started.web_url}/metrics", headers={"Host": host}, timeout=30)
        assert said.status_code == 200


def test_a_token_closes_them_on_loopback_too(tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, [MACHINE])
    settings = tmp_path / "settings.toml"
    settings.write_text(settings.read_text().replace("[web]\n", '[web]\nmetrics_token_file = "token"\n'))
    url = f"{bridge.web_url}/metrics"
    bridge.start()
    try:
        for said in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer k9-metrics"},
        ):  # there is no file yet
            refused = requests.get(url, headers=said, timeout=30)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (
                401,
                'Bearer realm="MESBridge"',
            )
        (tmp_path / "token").write_text("k9-metrics\n")
        assert requests.get(url, headers={"Authorization": "Bearer other"}, timeout=30).status_code == 401
        assert requests.get(url, headers={"Authorization": "Basic k9-metrics"}, timeout=30).status_code == 401
        assert ("mesbridge_machines",) in scrape(bridge, Authorization="Bearer k9-metrics")
        assert requests.get(f"{bridge.web_url}/readyz", timeout=30).status_code == 200
        assert "k9-metrics" not in bridge.text()
    finally:
        bridge.kill()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_port_that_is_open_to_others_shows_figures_to_those_with_the_token_only(tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, [MACHINE])
    settings = tmp_path / "settings.toml"
    text, opened = settings.read_text(), '[web]\nhost = "0.0.0.0"\nhttps = true\n'
    (tmp_path / "token").write_text("k9-metrics")
    url = bridge.web_url.replace("http:", "https:")
    for token in ("", 'metrics_token_file = "token"\n'):
        settings.write_text(text.replace("[web]\n", opened + token))
        bridge.output.unlink(missing_ok=True)
        bridge.start()
        try:
            assert requests.get(f"{url}/metrics", timeout=30, verify=False).status_code == 401
            assert requests.get(f"{url}/healthz", timeout=30, verify=False).status_code == 200
            assert requests.get(f"{url}/readyz", timeout=30, verify=False).status_code == 200
            said = requests.get(
                f"{url}/metrics", headers={"Authorization": "Bearer k9-metrics"}, timeout=30, verify=False
            )
            assert said.status_code == (200 if token else 401)
        finally:
            bridge.kill()
