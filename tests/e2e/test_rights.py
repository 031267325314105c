"""What a key opens in real OctoPrints, and how it ends.

The requests are those of the running server's own URL map. What was found is kept in ``docs/key-rights.md``; with
``MESBRIDGE_WRITE_DOCS=1`` in the environment this test writes that file, otherwise it compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import requests

from bridge import wire
from bridge.demo.octoprint import ADMIN, TREE, OctoPrint
from octoprint_mesbridge.keys import USER_PREFIX
from octoprint_mesbridge.rights import CONTROLLING, READING
from tests.e2e.octoprint_server import Visitor, environment, running, versions

pytestmark = pytest.mark.e2e

DOCUMENT = TREE / "docs" / "key-rights.md"

# Tells the server's routes, and stands in for the Plugin Manager's uninstallation.
WITNESS = """
import json, os
import octoprint.plugin
from octoprint.server import app

__plugin_name__ = "Witness"
__plugin_pythoncompat__ = ">=3.9,<4"


class Witness(octoprint.plugin.StartupPlugin, octoprint.plugin.SimpleApiPlugin):
    def routes(self, server_routes, *args, **kwargs):
        self.patterns = [route[0] for route in server_routes]
        return []

    def on_after_startup(self):
        rules = [[rule.rule, rule.endpoint, sorted(rule.methods)] for rule in app.url_map.iter_rules()]
        with open(os.path.join(os.path.dirname(__file__), "..", "routes.json"), "w") as file:
            json.dump({"rules": rules, "patterns": self.patterns}, file)

    def is_api_protected(self):
        return True

    def get_api_commands(self):
        return {"uninstall": []}

    def on_api_command(self, command, data):
        self._plugin_manager.plugins["mesbridge"].implementation.on_plugin_pending_uninstall()


__plugin_implementation__ = Witness()
__plugin_hooks__ = {"octoprint.server.http.routes": __plugin_implementation__.routes}
"""


class Rule(NamedTuple):
    """A request that OctoPrint's Flask knows, with a path in which the variable parts are filled in."""

    method: str
    path: str
    endpoint: str

    @property
    def guarded(self) -> bool:
        """Whether the guard is asked: it is in a blueprint, the API's or a plugin's."""
        return "." in self.endpoint

    @property
    def area(self) -> str:
        return self.endpoint.rpartition(".")[0].replace("plugin.", "plugin ") or "pages of OctoPrint itself"


class Site:
    """One OctoPrint, and what its server knows."""

    def __init__(self, version: str, octoprint: OctoPrint) -> None:
        self.version = version
        self.octoprint = octoprint
        told = json.loads((octoprint.base_folder / "routes.json").read_text())
        self.rules = [
            Rule(method, _filled(rule), endpoint)
            for rule, endpoint, methods in sorted(told["rules"])
            for method in methods
        ]
        self.patterns: list[str] = told["patterns"]

    def ask(self, method: str, path: str, key: str | None, **rest: Any) -> requests.Response:
        headers = {"X-Api-Key": key, **rest.pop("headers", {})} if key else rest.pop("headers", {})
        url = self.octoprint.url + path
        return requests.request(method, url, headers=headers, timeout=30, allow_redirects=False, **rest)

    def command(self, command: str, **data: Any) -> dict[str, Any]:
        answer = self.administrator().post("/api/plugin/mesbridge", {"command": command, **data})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def administrator(self) -> Visitor:
        return Visitor(self.octoprint.url).log_in(ADMIN, self.octoprint.password)

    def service_users(self) -> list[str]:
        users = self.administrator().get("/api/access/users").json()["users"]
        return [user["name"] for user in users if user["name"].startswith(USER_PREFIX)]


def _filled(rule: str) -> str:
    known = {
        "target": "local",
        "origin": "local",
        "storage": "local",
        "filename": "part.gcode",
        "path": "part.gcode",
    }

    def value(part: re.Match[str]) -> str:
        return "1" if part[1] == "int:" else known.get(part[2], "mesbridge")

    return re.sub(r"<(\w+(?:\([^)]*\))?:)?(\w+)>", value, rule)


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("rights")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "witness.py").write_text(WITNESS)
    with running(request.param, folder) as octoprint:
        deadline = time.monotonic() + 30
        while not (folder / "routes.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        octoprint.upload("part.gcode", "G28\nM105\n")
        yield Site(request.param, octoprint)


BODIES: dict[str, dict[str, Any]] = {
    "api.login": {"passive": True},
    "api.gcodeFileCommand": {"command": "select"},
    "api.controlJob": {"command": "pause"},
}
"""The JSON that makes an allowed request one; all others are sent an empty object."""


def outcome(site: Site, rule: Rule, key: str | None) -> int:
    if rule.endpoint == "api.uploadGcodeFile" and rule.method == "POST":
        name = f"up{time.monotonic_ns()}.gcode"
        return site.ask("POST", rule.path, key, files={"file": (name, b"G28\n", "text/plain")}).status_code
    body = {} if rule.method in ("GET", "HEAD") else {"json": BODIES.get(rule.endpoint, {})}
    return site.ask(rule.method, rule.path, key, **body).status_code


# --------------------------------------------------------------------------- the matrix


def test_of_all_requests_that_the_server_knows_a_key_may_make_the_listed_ones_and_no_other(
    site: Site,
) -> None:
    assert len({rule.endpoint for rule in site.rules if rule.area == "api"}) > 80, "the whole API is asked"
    found: dict[str, dict[str, Counter[str]]] = {}
    wrong: list[str] = []
    for kind, job_control, listed in (("read", False, READING), ("job", True, CONTROLLING)):
        key = site.command("generate_key", job_control=job_control)["api_key"]
        for rule in site.rules:
            status = outcome(site, rule, key)
            expected = (rule.method, rule.endpoint) in listed
            if rule.guarded:
                allowed = status != 403
                missing = status == 404 and rule.path.endswith("/local/")  # a folder cannot be selected
                good = missing or status in (200, 201, 204, 304, 409)
                if allowed != expected or (allowed and not good):
                    wrong.append(f"{kind}: {rule.method} {rule.path} ({rule.endpoint}): {status}")
                verdict = "allowed" if allowed else "refused"
            else:
                anonymous = outcome(site, rule, None)
                if status != anonymous:
                    wrong.append(f"{kind}: {rule.method} {rule.path}: {status}, without a key {anonymous}")
                verdict = "as without a key"
            found.setdefault(rule.area, {}).setdefault(kind, Counter())[verdict] += 1
    assert wrong == []
    _document(site, found)


def test_it_is_the_key_that_is_refused_and_not_the_request(site: Site) -> None:
    """The control of the matrix: an administrator gets an answer to the same requests, where they are harmless."""
    administrator = site.administrator()
    asked = {
        rule.path: administrator.session.get(
            site.octoprint.url + rule.path, timeout=30, allow_redirects=False
        ).status_code
        for rule in site.rules
        if rule.guarded
        and rule.method == "GET"
        and "static" not in rule.endpoint
        and "mesbridge" not in rule.path
    }
    answered = [path for path, status in asked.items() if status in (200, 204, 304)]
    assert len(answered) > 30
    assert [path for path, status in asked.items() if status == 403] == []


def test_beyond_flask_a_key_opens_nothing(site: Site) -> None:
    """Downloads, the camera and uploads of plugins are Tornado's own; a key counts for nothing there."""
    paths = [_filled_pattern(pattern) for pattern in site.patterns if not pattern.startswith("/sockjs")]
    downloads = [path for path in paths if path.startswith("/downloads/")]
    assert len(downloads) >= 8
    assert "/downloads/files/local/part.gcode" in downloads
    for job_control in (False, True):
        key = site.command("generate_key", job_control=job_control)["api_key"]
        assert [path for path in downloads if site.ask("GET", path, key).status_code != 403] == []
        for path in paths:
            assert site.ask("GET", path, key).status_code == site.ask("GET", path, None).status_code, path
    assert site.administrator().get("/downloads/files/local/part.gcode").status_code == 200


def _filled_pattern(pattern: str) -> str:
    """A path that a route of Tornado matches; the first part of two is a storage."""
    pattern = pattern.rstrip("$").replace("\\", "")
    if pattern.count("(") > 1:
        pattern = re.sub(r"\([^)]*\)", "local", pattern, count=1)
    return re.sub(r"\([^)]*\)", "part.gcode", pattern)


def _document(site: Site, found: dict[str, dict[str, Counter[str]]]) -> None:
    section = [
        f"## OctoPrint {site.version}",
        "",
        "| area | read-only key | key with job control |",
        "|---|---|---|",
    ]
    total: dict[str, Counter[str]] = {"read": Counter(), "job": Counter()}
    for area, kinds in sorted(found.items()):
        if area.endswith("mesbridge"):
            continue
        cells = []
        for kind in ("read", "job"):
            total[kind] += kinds[kind]
            cells.append(", ".join(f"{count} {verdict}" for verdict, count in sorted(kinds[kind].items())))
        section.append(f"| {area} | {cells[0]} | {cells[1]} |")
    sums = [", ".join(f"{n} {verdict}" for verdict, n in sorted(total[kind].items())) for kind in total]
    section.append(f"| **all** | **{sums[0]}** | **{sums[1]}** |")
    text = "\n".join(section) + "\n"
    document = DOCUMENT.read_text(encoding="utf-8")
    pattern = re.compile(rf"## OctoPrint {re.escape(site.version)}\n.*?(?=\n## |\Z)", re.DOTALL)
    if os.environ.get("MESBRIDGE_WRITE_DOCS"):
        document = pattern.sub("", document).rstrip() + "\n\n" + text
        DOCUMENT.write_text(document, encoding="utf-8")
    written = pattern.search(document)
    assert written is not None, (
        f"{DOCUMENT} has no section on {site.version}: write it with MESBRIDGE_WRITE_DOCS=1"
    )
    assert written[0].strip() == text.strip(), f"{DOCUMENT} is stale: write it with MESBRIDGE_WRITE_DOCS=1"


# --------------------------------------------------------------------------- job control


def test_job_control_prints_a_file_from_its_upload_to_its_end(site: Site) -> None:
    key = site.command("generate_key", job_control=True)["api_key"]
    gcode = "G28\n" + "G4 P50\n" * 400
    uploaded = site.ask(
        "POST",
        "/api/files/local",
        key,
        files={"file": ("order.gcode", gcode.encode(), "text/plain")},
        data={"userdata": '{"order": 4711}'},
    )
    assert uploaded.status_code == 201, uploaded.text
    listed = site.ask("GET", "/api/files", key).json()["files"]
    assert "order.gcode" in [file["name"] for file in listed]
    select = {"command": "select", "print": True}
    assert site.ask("POST", "/api/files/local/order.gcode", key, json=select).status_code == 204
    site.octoprint.wait_state("Printing")
    assert site.ask("POST", "/api/job", key, json={"command": "pause", "action": "pause"}).status_code == 204
    site.octoprint.wait_state("Paused")
    assert site.ask("POST", "/api/job", key, json={"command": "pause", "action": "resume"}).status_code == 204
    site.octoprint.wait_state("Printing")
    assert site.ask("POST", "/api/job", key, json={"command": "cancel"}).status_code == 204
    site.octoprint.wait_state("Operational")


@pytest.mark.parametrize(
    ("method", "path", "rest"),
    [
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "copy", "destination": "copy.gcode"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "move", "destination": "moved.gcode"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "slice"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "analyse"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "unselect"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "uploadSd"}}),
        ("POST", "/api/files/local/part.gcode", {"json": {"command": "refresh_thumbnails"}}),
        ("DELETE", "/api/files/local/part.gcode", {}),
        ("POST", "/api/files/local", {"files": {"foldername": (None, "folder")}}),
        ("POST", "/api/files/local?foldername=folder", {"json": {}}),
        ("POST", "/api/files/local?file.name=x.gcode&file.path=config.yaml", {"json": {}}),
        ("POST", "/api/files/sdcard", {"files": {"file": ("x.gcode", b"G28\n", "text/plain")}}),
        ("POST", "/api/files/printer", {"files": {"file": ("x.gcode", b"G28\n", "text/plain")}}),
        ("POST", "/api/printer/command", {"json": {"command": "M112"}}),
        ("POST", "/api/connection", {"json": {"command": "disconnect"}}),
        ("POST", "/api/login", {"json": {"user": "admin", "pass": "x"}}),
    ],
)
def test_job_control_is_no_more_than_that(site: Site, method: str, path: str, rest: dict[str, Any]) -> None:
    key = site.command("generate_key", job_control=True)["api_key"]
    answer = site.ask(method, path, key, **rest)
    assert answer.status_code in ((400, 403) if "file.path" in path else (403,)), answer.text
    assert site.administrator().get("/api/files/local/part.gcode").status_code == 200


def test_an_upload_does_not_overwrite_a_file(site: Site) -> None:
    key = site.command("generate_key", job_control=True)["api_key"]
    replaced = {"file": ("part.gcode", b"M112\n", "text/plain")}
    answer = site.ask("POST", "/api/files/local", key, files=replaced)
    content = site.administrator().get("/downloads/files/local/part.gcode").text
    assert (answer.status_code, "M112" in content) == (403, False)


# --------------------------------------------------------------------------- the ways in


def test_a_key_in_the_address_is_refused_in_words(site: Site) -> None:
    key = site.command("generate_key")["api_key"]
    answer = site.ask("GET", f"/api/version?apikey={key}", None)
    assert answer.status_code == 403
    assert "X-Api-Key" in answer.json()["error"]
    assert site.ask("GET", f"/api/version?apikey={key}", key).status_code == 403
    assert site.octoprint.plugin_status()["key"]["last_used"] is None
    bearer = site.ask("GET", "/api/version", None, headers={"Authorization": f"Bearer {key}"})
    assert bearer.status_code == 200


def test_a_key_gives_no_cookie(site: Site) -> None:
    key = site.command("generate_key")["api_key"]
    with requests.Session() as browser:
        for method, path in (
            ("POST", "/api/login"),
            ("GET", "/api/currentuser"),
            ("GET", "/"),
            ("GET", "/login/"),
        ):
            browser.request(
                method,
                site.octoprint.url + path,
                headers={"X-Api-Key": key},
                json={"passive": True} if method == "POST" else None,
                timeout=30,
            )
            later = browser.get(site.octoprint.url + "/api/currentuser", timeout=30)
            assert later.json()["name"] is None, f"{method} {path} logged the browser in"


async def test_the_socket_of_a_key_tells_the_status_and_not_the_terminal(site: Site) -> None:
    key = site.command("generate_key", job_control=True)["api_key"]
    async with _socket(site, key) as socket:
        site.octoprint.send("M105")
        heard = await _heard(socket, 2.0)
    told = [message["current"] for message in heard if "current" in message]
    assert told
    assert all(not message.get("logs") for message in told)


def test_the_last_use_is_told_with_its_address(site: Site) -> None:
    key = site.command("generate_key")["api_key"]
    before = site.octoprint.plugin_status()["key"]
    assert (before["last_used"], before["last_address"]) == (None, None)
    site.ask("GET", "/api/printer", key)
    after = site.octoprint.plugin_status()["key"]
    assert after["last_address"] == "127.0.0.1"
    assert abs((wire.utc_now() - wire.parse_time(after["last_used"])).total_seconds()) < 10


CHECK_OF_A_BROKEN_ACCESS = """
import logging, sys
import flask
from octoprint_mesbridge.guard import Guard

class Broken:
    def find(self, api_key):
        raise RuntimeError("no user for " + api_key)

logging.basicConfig(level=logging.DEBUG)
guard = Guard(Broken(), logging.getLogger("guard"))
with flask.Flask("x").test_request_context("/api/version", headers={"X-Api-Key": sys.argv[1]}):
    print(guard.user_for(sys.argv[1]))
print(guard.user_for(sys.argv[1]))
"""


def test_a_check_that_goes_wrong_refuses_the_key_and_never_logs_it(site: Site) -> None:
    """OctoPrint would log the key if anything were raised; outside of a request it is no key either."""
    script = [environment(site.version).python, "-c", CHECK_OF_A_BROKEN_ACCESS, "s3cret"]
    ran = subprocess.run(script, capture_output=True, text=True, cwd="/")
    assert ran.stdout.split() == ["None", "None"], ran.stderr
    assert "RuntimeError" in ran.stderr
    assert "s3cret" not in ran.stderr


# --------------------------------------------------------------------------- permissions of people


def test_each_command_has_a_permission_of_its_own(site: Site) -> None:
    site.command("revoke_key")
    commands: dict[str, dict[str, Any]] = {
        "GENERATE": {"command": "generate_key"},
        "ROTATE": {"command": "rotate_key", "overlap_hours": 1},
        "REVOKE": {"command": "revoke_key"},
    }
    visitors = {}
    for permission in ("STATUS", *commands):
        name = f"may-{permission.lower()}"
        user = {"name": name, "password": name, "active": True, "groups": ["users"]}
        user["permissions"] = [f"PLUGIN_MESBRIDGE_{permission}"]
        assert site.administrator().post("/api/access/users", user).ok
        visitors[permission] = Visitor(site.octoprint.url).log_in(name, name)
    for permission, visitor in visitors.items():
        expected = 200 if permission == "STATUS" else 403
        assert visitor.get("/api/plugin/mesbridge").status_code == expected, permission
    for allowed, command in commands.items():
        for permission, visitor in visitors.items():
            if permission != allowed:
                assert visitor.post("/api/plugin/mesbridge", command).status_code == 403, (
                    permission,
                    command,
                )
        assert visitors[allowed].post("/api/plugin/mesbridge", command).status_code == 200, allowed
    site.command("generate_key")
    site.command("rotate_key", overlap_hours=1)
    for permission, visitor in visitors.items():
        answer = visitor.post("/api/plugin/mesbridge", {"command": "end_overlap"})
        assert answer.status_code == (200 if permission == "ROTATE" else 403), permission
    wider = {**commands["ROTATE"], "job_control": True}
    assert visitors["ROTATE"].post("/api/plugin/mesbridge", wider).status_code == 403


@pytest.mark.parametrize(
    "data",
    [
        {"command": "rotate_key"},
        {"command": "rotate_key", "overlap_hours": -1},
        {"command": "rotate_key", "overlap_hours": 169},
        {"command": "rotate_key", "overlap_hours": "1"},
        {"command": "rotate_key", "overlap_hours": True},
        {"command": "rotate_key", "overlap_hours": 1, "job_control": "yes"},
        {"command": "generate_key", "job_control": 1},
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing(site: Site, data: dict[str, Any]) -> None:
    key = site.command("generate_key")["api_key"]
    assert site.administrator().post("/api/plugin/mesbridge", data).status_code == 400
    assert site.ask("GET", "/api/version", key).status_code == 200


def test_without_a_key_there_is_nothing_to_rotate_and_that_is_said(site: Site) -> None:
    site.command("revoke_key")
    rotate = {"command": "rotate_key", "overlap_hours": 1}
    answer = site.administrator().post("/api/plugin/mesbridge", rotate)
    assert answer.status_code == 409
    assert "generate one" in answer.json()["error"]


# --------------------------------------------------------------------------- the end of a key


async def test_when_the_overlap_is_over_the_old_key_its_user_and_its_socket_end_by_themselves(
    site: Site,
) -> None:
    old = site.command("generate_key")["api_key"]
    old_user = site.octoprint.plugin_status()["key"]["user"]
    async with _socket(site, old) as socket:
        rotated = site.command("rotate_key", overlap_hours=6 / 3600)
        new = rotated["api_key"]
        assert rotated["key"]["previous"]["prefix"] == old[:4]
        assert site.ask("GET", "/api/version", old).status_code == 200
        assert site.ask("GET", "/api/version", new).status_code == 200
        assert any("current" in message for message in await _heard(socket, 1.5))
        await _heard(socket, 6.0)
        site.octoprint.send("M105")
        assert not any("current" in message for message in await _heard(socket, 2.0))
    assert old_user not in site.service_users()
    assert site.ask("GET", "/api/version", old).status_code == 403
    assert site.ask("GET", "/api/version", new).status_code == 200
    assert site.octoprint.plugin_status()["key"]["previous"] is None


async def test_an_overlap_that_is_ended_early_ends_the_old_key_its_user_and_its_socket(site: Site) -> None:
    old = site.command("generate_key")["api_key"]
    old_user = site.octoprint.plugin_status()["key"]["user"]
    async with _socket(site, old) as socket:
        new = site.command("rotate_key", overlap_hours=1)["api_key"]
        assert any("current" in message for message in await _heard(socket, 1.5))
        ended = site.command("end_overlap")
        assert ended["key"]["previous"] is None
        await _heard(socket, 1.0)
        site.octoprint.send("M105")
        assert not any("current" in message for message in await _heard(socket, 2.0))
    assert old_user not in site.service_users()
    assert site.ask("GET", "/api/version", old).status_code == 403
    assert site.ask("GET", "/api/version", new).status_code == 200


def test_what_was_minted_for_a_keys_user_is_bound_as_the_key_and_dies_with_it(site: Site) -> None:
    site.command("generate_key", job_control=True)
    user = site.octoprint.plugin_status()["key"]["user"]
    administrator = site.administrator()
    own = administrator.post(f"/api/access/users/{user}/apikey", {}).json()["apikey"]
    wish = {"command": "generate", "app": "minted", "user": user}
    granted = administrator.post("/api/plugin/appkeys", wish).json()["api_key"]
    for minted in (own, granted):
        assert site.ask("GET", "/api/version", minted).status_code == 200
        assert site.ask("GET", "/api/settings", minted).status_code == 403
        assert (
            site.ask("POST", "/api/plugin/appkeys", minted, json={"command": "generate"}).status_code == 403
        )
        assert site.ask("GET", "/downloads/logs", minted).status_code == 403
    site.command("revoke_key")
    for minted in (own, granted):
        assert site.ask("GET", "/api/version", minted).status_code == 403
        assert site.ask("GET", "/api/currentuser", minted).json()["name"] is None


def test_the_secrets_are_in_no_other_place_than_their_own(site: Site) -> None:
    site.command("generate_key")
    old = site.command("rotate_key", overlap_hours=1)["api_key"]
    told, new = asyncio.run(_told_to_an_administrator_during_a_rotation(site))
    keys = [old, new]
    for key in keys:
        site.ask("GET", "/api/printer", key)
        site.ask("GET", "/api/settings", key)
    pushing = [wire.PushKey.derive(key).secret.hex() for key in keys]
    paths = ("/", "/api/settings", "/api/plugin/mesbridge", "/api/access/users", "/api/system/info")
    administrator = site.administrator()
    shown = [told, *(administrator.get(path).text for path in paths)]
    for secret in (*keys, *pushing):
        assert not any(secret in text for text in shown)
    private = site.octoprint.base_folder / "data" / "mesbridge" / "key.json"
    for file in site.octoprint.base_folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(key.encode() in content for key in keys), file
            assert file == private or not any(secret.encode() in content for secret in pushing), file
    assert all(secret in private.read_text() for secret in pushing)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["disabled", "safe mode"])
def test_without_the_plugin_the_key_is_dead_and_its_user_has_no_way_in(site: Site, how: str) -> None:
    octoprint = site.octoprint
    key = site.command("generate_key", job_control=True)["api_key"]
    user = octoprint.plugin_status()["key"]["user"]
    browser = requests.Session()
    browser.headers["User-Agent"] = "before"
    login = {"passive": True}
    session = browser.post(
        octoprint.url + "/api/login", headers={"X-Api-Key": key}, json=login, timeout=30
    ).json()
    browser.headers["User-Agent"] = "after"  # makes OctoPrint count a session as a remembered one
    browser.get(octoprint.url + "/api/currentuser", timeout=30)
    octoprint.stop()
    change = _disabled if how == "disabled" else _safe_once
    change(site, True)
    octoprint.start()
    _wait_answering(site)
    try:
        assert user in site.service_users()
        assert site.administrator().get("/api/plugin/mesbridge").status_code == 404
        assert site.ask("GET", "/api/version", key).status_code == 403
        assert browser.get(octoprint.url + "/api/version", timeout=30).status_code == 403
        assert not asyncio.run(_hears_the_printer(site, f"{session['name']}:{session['session']}"))
        for password in ("", None, key, user):
            named = {"user": user, "pass": password}
            assert site.ask("POST", "/api/login", None, json=named).status_code in (400, 403)
    finally:
        octoprint.stop()
        change(site, False)
        octoprint.start()
        octoprint.wait_operational()
    assert site.ask("GET", "/api/version", key).status_code == 200, "it comes back with the plugin"


def test_an_octoprint_that_is_not_set_up_gets_no_user(site: Site) -> None:
    octoprint = site.octoprint
    site.command("generate_key")
    octoprint.stop()
    users = octoprint.base_folder / "users.yaml"
    kept = users.read_text()
    users.unlink()
    try:
        octoprint.start()
        _wait_answering(site)
        time.sleep(1)
        answer = site.ask("POST", "/api/plugin/mesbridge", None, json={"command": "generate_key"})
        assert answer.status_code in (400, 403, 409)
        assert not users.exists() or USER_PREFIX not in users.read_text()
    finally:
        octoprint.stop()
        users.write_text(kept)
        octoprint.start()
        octoprint.wait_operational()


def test_an_uninstallation_leaves_neither_user_nor_key(site: Site) -> None:
    key = site.command("generate_key")["api_key"]
    site.command("rotate_key", overlap_hours=1)
    assert len(site.service_users()) == 2
    assert site.administrator().post("/api/plugin/witness", {"command": "uninstall"}).ok
    assert site.service_users() == []
    refused = site.administrator().post("/api/plugin/mesbridge", {"command": "generate_key"})
    assert (refused.status_code, site.service_users()) == (409, [])
    assert "being uninstalled" in refused.json()["error"]
    assert site.ask("GET", "/api/version", key).status_code == 403
    assert not (site.octoprint.base_folder / "data" / "mesbridge" / "key.json").exists()


# --------------------------------------------------------------------------- helpers


def _wait_answering(site: Site, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException, ValueError):
            if "name" in site.ask("GET", "/api/currentuser", None).json():
                return
        time.sleep(0.2)
    raise AssertionError(f"no answer within {timeout:g} s")


def _configuration(site: Site, change: Any) -> None:
    """Change the configuration in the environment of OctoPrint, which brings YAML."""
    import yaml

    path = site.octoprint.base_folder / "config.yaml"
    values = yaml.safe_load(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _disabled(site: Site, on: bool) -> None:
    def change(values: dict[str, Any]) -> None:
        disabled = values["plugins"]["_disabled"]
        disabled.append("mesbridge") if on else disabled.remove("mesbridge")

    _configuration(site, change)


def _safe_once(site: Site, on: bool) -> None:
    if on:
        _configuration(site, lambda values: values["server"].update(startOnceInSafeMode=True))


@contextlib.asynccontextmanager
async def _socket(site: Site, key: str) -> Any:
    login = site.ask("POST", "/api/login", key, json={"passive": True}).json()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{site.octoprint.url}/sockjs/websocket") as socket,
    ):
        await socket.send_json({"auth": f"{login['name']}:{login['session']}"})
        yield socket


async def _heard(socket: Any, seconds: float) -> list[dict[str, Any]]:
    """What arrives until then; OctoPrint sends the printer's data twice a second."""
    heard: list[dict[str, Any]] = []
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(seconds):
            async for message in socket:
                heard.append(message.json())
    return heard


async def _hears_the_printer(site: Site, auth: str) -> bool:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{site.octoprint.url}/sockjs/websocket") as socket,
    ):
        await socket.send_json({"auth": auth})
        return any({"current", "history"} & set(message) for message in await _heard(socket, 3.0))


async def _told_to_an_administrator_during_a_rotation(site: Site) -> tuple[str, str]:
    """What an administrator's socket tells meanwhile, and the new key."""
    login = site.administrator().post("/api/login", {"passive": True}).json()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{site.octoprint.url}/sockjs/websocket") as socket,
    ):
        await socket.send_json({"auth": f"{login['name']}:{login['session']}"})
        heard = await _heard(socket, 1.0)
        answer = await asyncio.to_thread(site.command, "rotate_key", overlap_hours=1)
        heard += await _heard(socket, 2.0)
    assert any("current" in message for message in heard)
    return json.dumps(heard), answer["api_key"]
