"""`mesbridge check --online` against real OctoPrints, with all kinds of keys, and the sandbox MES."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from bridge.demo.octoprint import ADMIN, OctoPrint, free_port
from bridge.sandbox import Sandbox
from tests.bridge.mes.chain import running_sandbox
from tests.e2e.octoprint_server import Visitor, running

pytestmark = pytest.mark.e2e

VERSIONS = ("1.11.8", "2.0.0rc7")


@dataclass(frozen=True)
class Asked:
    """A running OctoPrint, and the keys that its administrator has handed out."""

    octoprint: OctoPrint
    version: str
    keys: dict[str, str]


@pytest.fixture(scope="module", params=VERSIONS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    base: Path = tmp_path_factory.mktemp("octoprint")
    with running(request.param, base) as octoprint:
        admin = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)
        keys = {"plugin": octoprint.generate_key(), "wrong": "0" * 43}
        for name, permissions in (("guest", []), ("viewer", ["STATUS", "FILES_LIST"])):
            user = {"name": name, "password": "a-long-password", "active": True, "groups": []}
            assert admin.post("/api/access/users", user | {"permissions": permissions}).ok
            keys[name] = admin.post(f"/api/access/users/{name}/apikey", {}).json()["apikey"]
        keys["admin"] = admin.post(f"/api/access/users/{ADMIN}/apikey", {}).json()["apikey"]
        settings = yaml.safe_load((base / "config.yaml").read_text())
        if global_key := settings.get("api", {}).get("key"):  # since 2.0 there is none by default
            keys["global"] = global_key
        yield Asked(octoprint, request.param, keys)


def check(folder: Path, url: str, key: str, *more: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what people read, and what the one machine said, for programs."""
    config = folder / "config.json"
    entry = {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": [1]}
    config.touch(mode=0o600)
    config.write_text(json.dumps([entry]))
    command = [sys.executable, "-m", "bridge.cli", "check", str(config), "--online", *more]
    text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    plain = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120)
    assert (plain.returncode, text.stderr, plain.stderr) == (text.returncode, "", "")
    result = json.loads(plain.stdout)
    assert result["ok"] == (text.returncode == 0)
    assert key not in text.stdout + plain.stdout
    return text.returncode, text.stdout, result


def messages(online: dict[str, Any]) -> list[str]:
    return [f"{one['severity']}: {one['message']}" for one in online["problems"]]


def test_the_plugins_key_is_just_enough(asked: Asked, tmp_path: Path) -> None:
    status, text, result = check(tmp_path, asked.octoprint.url, asked.keys["plugin"])
    online = result["machines"][0]["online"]
    assert status == 0
    assert messages(online) == []
    assert online["version"] == asked.version
    assert online["state"] == "Operational"
    assert online["rights"] == ["STATUS"]
    assert online["user"].startswith("mesbridge-key-")
    assert (online["reachable"], online["key_accepted"], online["push_socket"]) == (True, True, True)
    assert (online["plugin_seen"], online["key_in_clear"]) == (True, False)
    assert 0 < online["latency_ms"] < 30_000
    assert abs(online["clock_difference_s"]) < 5
    assert f"OctoPrint {asked.version} answers in" in text
    assert "plugin MESBridge: there, its version cannot be seen" in text
    assert "Asked: 1 OctoPrint, 0 MES. Errors: 0, warnings: 0." in text


def test_what_a_user_may_do_more_is_told(asked: Asked, tmp_path: Path) -> None:
    status, text, result = check(tmp_path, asked.octoprint.url, asked.keys["viewer"])
    assert status == 0
    assert messages(result["machines"][0]["online"]) == []
    assert "key accepted: user viewer, with STATUS, and beyond what is needed FILES_LIST" in text


def test_a_wrong_key_is_an_error_with_a_remedy(asked: Asked, tmp_path: Path) -> None:
    status, text, result = check(tmp_path, asked.octoprint.url, asked.keys["wrong"])
    online = result["machines"][0]["online"]
    assert status == 1
    assert messages(online) == [f"error: {asked.octoprint.url} does not know the key of this machine"]
    assert (online["reachable"], online["key_accepted"], online["plugin_seen"]) == (True, False, True)
    assert "generate one in the plugin's settings tab" in text
    assert "Errors: 1" in text


def test_a_key_without_status_is_told_apart(asked: Asked, tmp_path: Path) -> None:
    status, text, result = check(tmp_path, asked.octoprint.url, asked.keys["guest"])
    online = result["machines"][0]["online"]
    assert status == 1
    assert messages(online) == ["error: the key is valid, but its user 'guest' lacks the STATUS permission"]
    assert (online["key_accepted"], online["version"]) == (True, None)
    assert "grant it in OctoPrint's settings under Access Control" in text


def test_an_administrators_key_works_and_is_warned_of(asked: Asked, tmp_path: Path) -> None:
    status, _, result = check(tmp_path, asked.octoprint.url, asked.keys["admin"])
    online = result["machines"][0]["online"]
    assert status == 0
    assert messages(online) == [
        "warning: the key can do far more than the bridge needs: its user 'admin' has ADMIN, SETTINGS, SYSTEM"
    ]
    assert online["plugin_version"] is not None


def test_the_global_key_works_and_is_warned_of(asked: Asked, tmp_path: Path) -> None:
    if asked.version.startswith("2."):
        assert "global" not in asked.keys
        return
    status, _, result = check(tmp_path, asked.octoprint.url, asked.keys["global"])
    assert status == 0
    assert messages(result["machines"][0]["online"]) == [
        "warning: this is the global key, which can do everything in this OctoPrint"
    ]


def test_an_octoprint_that_is_down_does_not_hold_up_the_others(asked: Asked, tmp_path: Path) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    config = tmp_path / "config.json"
    config.touch(mode=0o600)
    urls = {down: "0" * 42, asked.octoprint.url: asked.keys["plugin"]}
    config.write_text(
        json.dumps(
            [
                {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": [1]}
                for url, key in urls.items()
            ]
        )
    )
    command = [sys.executable, "-m", "bridge.cli", "check", str(config), "--online"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert f"error: {down} cannot be reached" in done.stdout
    assert "check that OctoPrint runs and that url is right" in done.stdout
    assert f"OctoPrint {asked.version} answers in" in done.stdout


# --------------------------------------------------------------------------- the MES


def settings_for(folder: Path, url: str, token: str, service: str = "sandbox") -> Path:
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(token)
    file = folder / "settings.toml"
    file.write_text(
        f'[bridge]\nstate_folder = "state"\n[[mes]]\nid = 1\nurl = "{url}"\nservice_id = "{service}"\n'
        'token_file = "token"\n'
    )
    return file


def state(mes: Sandbox) -> Any:
    """All that the sandbox knows, but for the time."""
    known = requests.get(mes.url + "/state.json?all=1", timeout=30).json()
    return {name: value for name, value in known.items() if name != "now"}


def test_the_mes_is_asked_too_and_nothing_changes_there(asked: Asked, tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "mes") as mes:
        before = state(mes)
        settings = settings_for(tmp_path, mes.mes_url, mes.token)
        key = asked.keys["plugin"]
        status, text, result = check(tmp_path, asked.octoprint.url, key, "--settings", str(settings))
        assert status == 0, text
        assert state(mes) == before
        token = mes.token
    one = result["mes"][0]
    assert (one["id"], one["reachable"], one["token_accepted"], one["service_known"]) == (1, True, True, True)
    assert one["problems"] == []
    assert abs(one["clock_difference_s"]) < 5
    assert "no TLS; token accepted; service known" in text
    assert token not in text


@pytest.mark.parametrize(
    ("token", "service", "message"),
    [
        ("wrong", "sandbox", "the MES does not accept the token (HTTP 401: The token is missing or wrong"),
        (
            None,
            "other",
            "the MES does not know the service (HTTP 404: There is no such service: service other)",
        ),
    ],
)
def test_a_wrong_token_or_service_is_named(
    token: str | None, service: str, message: str, asked: Asked, tmp_path: Path
) -> None:
    with running_sandbox(tmp_path / "mes") as mes:
        settings = settings_for(tmp_path, mes.mes_url, token or mes.token, service)
        key = asked.keys["plugin"]
        status, text, _ = check(tmp_path, asked.octoprint.url, key, "--settings", str(settings))
    assert status == 1
    assert message in text


def test_a_mes_that_is_down_is_named_with_a_remedy(asked: Asked, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    settings = settings_for(tmp_path, url, "t")
    key = asked.keys["plugin"]
    status, text, result = check(tmp_path, asked.octoprint.url, key, "--settings", str(settings))
    assert status == 1
    assert f"MES 1 at {url}: NOT REACHED" in text
    assert "cannot be reached: Connection refused" in text
    assert "check that the MES runs, and url of [[mes]] id = 1" in text
    assert result["machines"][0]["online"]["reachable"] is True
