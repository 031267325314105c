"""The plugin's life in a real OctoPrint, through its Plugin Manager: installed, upgraded, backed up, removed.

The OctoPrints here are those of the other tests without the plugin, each in an environment of its own, so
that pip may change it. The older plugin is the plugin's half of release 0.1.0.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import wire
from bridge.demo.octoprint import ADMIN, TREE, Environment, OctoPrint, free_port, slow_gcode
from octoprint_mesbridge.access import USER_PREFIX
from tests.e2e.octoprint_server import Visitor, environment, running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

OLDER = Path(__file__).parent / "releases" / "MESBridge-0.1.0.zip"
OURS = ("octoprint_mesbridge", "bridge")
REPOSITORY = "https://github.com/no--such--owner/MESBridge"  # GitHub allows no name with two hyphens in a row
INSTALL_S = 240.0


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of the tree as a forge makes one of a commit; its distribution names a repository."""
    path = tmp_path_factory.mktemp("zip") / "MESBridge-main.zip"
    list_files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(list_files, cwd=TREE).decode().split("\0")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in filter(None, names):
            if (TREE / name).is_file() and (name.startswith(OURS) or "/" not in name):
                archive.writestr(f"MESBridge-main/{name}", _content(name))
    return path


def _content(name: str) -> bytes:
    content = (TREE / name).read_bytes()
    if name == "pyproject.toml":
        content += f'\n[project.urls]\nRepository = "{REPOSITORY}"\n'.encode()
    return content


class Installation:
    """An OctoPrint with an environment that its Plugin Manager may change."""

    def __init__(self, version: str, folder: Path) -> None:
        self.environment = _without_plugin(environment(version), folder / "venv")
        self.octoprint = OctoPrint(self.environment, folder / "base", free_port())

    @property
    def base(self) -> Path:
        return self.octoprint.base_folder

    def start(self) -> None:
        self.octoprint.start()
        self.octoprint.wait_operational()

    def restart(self) -> None:
        self.octoprint.stop()
        self.start()

    def administrator(self) -> Visitor:
        return Visitor(self.octoprint.url).log_in(ADMIN, self.octoprint.password)

    def manage(self, command: str, **values: Any) -> dict[str, Any]:
        """A command of the Plugin Manager."""
        body = {"command": command, "plugin": "mesbridge", **values}
        answer = self.administrator().post("/api/plugin/pluginmanager", body)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def install(self, archive: Path) -> None:
        """Upload `archive` to the Plugin Manager, and restart as it asks."""
        before = self.log().count("The plugin was installed successfully")
        visitor = self.administrator()
        token = next(c.value for c in visitor.session.cookies if c.name.startswith("csrf_token"))
        answer = visitor.session.post(
            self.octoprint.url + "/plugin/pluginmanager/upload_file",
            files={"file": (archive.name, archive.read_bytes(), "application/zip")},
            headers={"X-CSRF-Token": token},
            timeout=30,
        )
        answer.raise_for_status()
        assert answer.json() == {"in_progress": True}
        self.wait(lambda: self.log().count("The plugin was installed successfully") > before, INSTALL_S)
        self.restart()

    def wait(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.console()
            time.sleep(0.2)

    def plugin(self) -> dict[str, Any] | None:
        """What the Plugin Manager says of the plugin; None when it knows none."""
        plugins = self.administrator().get("/plugin/pluginmanager/plugins").json()["plugins"]
        return next((plugin for plugin in plugins if plugin["key"] == "mesbridge"), None)

    def key_user(self, key: str) -> str | None:
        """Whom OctoPrint takes the holder of `key` for."""
        headers = {"X-Api-Key": key}
        answer = Visitor(self.octoprint.url).session.get(
            self.octoprint.url + "/api/currentuser", headers=headers, timeout=30
        )
        return answer.json()["name"] if answer.ok else None

    def users(self) -> list[str]:
        answer = self.administrator().get("/api/access/users").json()
        return [user["name"] for user in answer["users"]]

    def log(self) -> str:
        return (self.base / "logs" / "octoprint.log").read_text()

    def console(self) -> str:
        path = self.base / "logs" / "plugin_pluginmanager_console.log"
        return (path.read_text() if path.exists() else "")[-3000:] + self.log()[-3000:]

    def packages(self) -> set[str]:
        """What of ours is in the environment."""
        return {path.name for path in _site_packages(self.environment).iterdir() if _is_ours(path.name)}

    def traces(self) -> list[str]:
        """Files that name the plugin in their path or text, but for logs and copies that OctoPrint makes."""
        found = []
        for path in self.base.rglob("*"):
            place = path.relative_to(self.base)
            # 2.0 keeps the configuration that these tests begin with, Software Update what it last looked for.
            copies = place.parts[0].startswith("config.") and place.name != "config.yaml"
            if copies or place.parts[0] in ("logs", "console.log") or place.parts[1:2] == ("softwareupdate",):
                continue
            text = path.read_bytes().lower() if path.is_file() else b""
            if "mesbridge" in str(place).lower() or b"mesbridge" in text:
                found.append(str(place))
        return found


def _is_ours(name: str) -> bool:
    return name in OURS or "mesbridge" in name.lower()


def _site_packages(environment: Environment) -> Path:
    (folder,) = (environment.folder / "lib").glob("python*/site-packages")
    return folder


def _without_plugin(original: Environment, folder: Path) -> Environment:
    """`original` as it was before the plugin came; its packages are linked, not copied."""
    venv.create(folder, symlinks=True, with_pip=False)
    copy = Environment(folder)
    for path in _site_packages(original).iterdir():
        if not _is_ours(path.name) and path.name != "__pycache__":
            (_site_packages(copy) / path.name).symlink_to(path)
    return copy


@pytest.fixture(params=versions() or ["1.11.8"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    made = Installation(request.param, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.octoprint.stop()


def test_a_zip_is_installed_and_uninstalled_without_a_trace(
    installation: Installation, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    octoprint = installation.octoprint
    assert installation.plugin() is None

    installation.install(newer)
    plugin = installation.plugin()
    assert plugin
    assert (plugin["version"], plugin["enabled"], plugin["managable"]) == (bridge.__version__, True, True)
    assert plugin["license"] == "AGPL-3.0-or-later"
    privacy = installation.administrator().get("/" + plugin["privacypolicy"])
    assert privacy.ok
    assert "no cloud service" in privacy.text

    octoprint.configure_plugin("http://127.0.0.1:9")
    key = octoprint.generate_key()
    assert str(installation.key_user(key)).startswith(USER_PREFIX)

    # The real Software Update takes the check; without the internet it says so and nothing worse.
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    installation.manage("enable", plugin="softwareupdate")
    installation.restart()
    told = installation.administrator().get("/plugin/softwareupdate/check?targets=mesbridge").json()
    update = told["information"]["mesbridge"]
    assert update["displayName"] == "MESBridge"
    assert update["displayVersion"] == bridge.__version__
    assert update["releaseNotes"] is None or REPOSITORY in update["releaseNotes"]

    answer = installation.manage("uninstall", cleanup=True)
    assert answer["needs_restart"]
    assert installation.key_user(key) is None
    installation.restart()
    assert installation.plugin() is None
    assert installation.packages() == set()
    assert installation.users() == [ADMIN]
    assert installation.key_user(key) is None
    assert installation.traces() == []


def test_an_upgrade_keeps_key_settings_and_waiting_events(installation: Installation, newer: Path) -> None:
    octoprint = installation.octoprint
    installation.install(OLDER)
    assert (installation.plugin() or {})["version"] == "0.1.0"
    receiver = Receiver()
    try:
        address = receiver.url
        receiver.stop()
        octoprint.configure_plugin(address, identity={"manufacturer": "Prusa", "location": "Hall 3"})
        key = octoprint.generate_key()
        user = installation.key_user(key)
        octoprint.upload("part.gcode", slow_gcode(5, 50))
        octoprint.print("part.gcode")
        installation.wait(lambda: octoprint.job().completion == 100)
        before = octoprint.plugin_status()
        assert before["waiting"] > 0

        installation.install(newer)
        assert (installation.plugin() or {})["version"] == bridge.__version__
        after = octoprint.plugin_status()
        assert after["trouble"] is None
        assert after["waiting"] > 0
        assert after["dropped"] == before["dropped"] == {}
        assert after["key"]["prefix"] == before["key"]["prefix"] == key[:4]
        assert installation.key_user(key) == user
        settings = installation.administrator().get("/api/settings").json()["plugins"]["mesbridge"]
        assert settings["bridge_url"] == address
        assert settings["identity"]["manufacturer"] == "Prusa"
        assert settings["identity"]["location"] == "Hall 3"

        receiver.accept(key)
        receiver.start()
        receiver.wait_for(wire.JOB_ENDED)
        jobs = [event for event in receiver.events() if event.kind.startswith("job_")]
        assert [event.kind for event in jobs] == [wire.JOB_STARTED, wire.JOB_ENDED]
        assert jobs[0].data["file"] == "part.gcode"
    finally:
        receiver.stop()

    installation.manage("uninstall", cleanup=False)
    assert installation.key_user(key) is None
    installation.restart()
    assert installation.packages() == set()
    assert installation.users() == [ADMIN]
    left = installation.base / "data" / "mesbridge"
    assert [path.name for path in left.glob("*key*")] == []
    assert key not in "".join(path.read_text(errors="replace") for path in left.rglob("*") if path.is_file())


@pytest.mark.parametrize("version", versions() or ["1.11.8"])
def test_a_backup_holds_neither_key_nor_events_and_can_be_restored(version: str, tmp_path: Path) -> None:
    with running(version, tmp_path / "base") as octoprint:
        octoprint.configure_plugin("http://127.0.0.1:9", identity={"location": "Hall 3"})
        key = octoprint.generate_key()
        octoprint.upload("secret-part.gcode", slow_gcode(2, 50))
        octoprint.print("secret-part.gcode")
        _wait(lambda: octoprint.job().completion == 100)
        assert octoprint.plugin_status()["waiting"] > 0
        visitor = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)
        visitor.post("/plugin/backup/backup", {"exclude": ["uploads"]}).raise_for_status()
        _wait(lambda: visitor.get("/plugin/backup/").json()["backups"])
        (backup,) = (octoprint.base_folder / "data" / "backup").glob("*.zip")
        signing = wire.PushKey.derive(key).secret.hex()
        password = octoprint.password

    with zipfile.ZipFile(backup) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert [name for name in inside if "data/mesbridge/" in name] == ["basedir/data/mesbridge/printer.uuid"]
    for secret in (key, signing, hashlib.sha256(key.encode()).hexdigest()):
        assert [name for name, content in inside.items() if secret.encode() in content] == []

    restored = OctoPrint(environment(version), tmp_path / "restored", free_port())
    restored.base_folder.mkdir()
    restore = ["-m", "octoprint", "-b", restored.base_folder, "plugins", "backup:restore", backup]
    subprocess.run([environment(version).python, *restore], check=True, cwd=tmp_path, capture_output=True)
    restored.password = password
    try:
        restored.start()
        restored.wait_operational()
        status = restored.plugin_status()
        assert (status["trouble"], status["key"], status["waiting"]) == (None, None, 0)
        visitor = Visitor(restored.url).log_in(ADMIN, password)
        settings = visitor.get("/api/settings").json()["plugins"]["mesbridge"]
        assert settings["identity"]["location"] == "Hall 3"
        assert restored.generate_key() != key
        users = [user["name"] for user in visitor.get("/api/access/users").json()["users"]]
        assert len([name for name in users if name.startswith(USER_PREFIX)]) == 1
    finally:
        restored.stop()


def _wait(condition: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
