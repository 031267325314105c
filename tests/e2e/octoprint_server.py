"""Real OctoPrints for tests: the environments under ``.octoprint/`` with the plugin of this tree in them."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.demo.octoprint import TREE, Environment, OctoPrint, ensure_environment, free_port

ENVIRONMENTS = TREE / ".octoprint"


def versions() -> list[str]:
    """The OctoPrint versions that are set up here."""
    found = ENVIRONMENTS.iterdir() if ENVIRONMENTS.exists() else []
    return sorted(folder.name for folder in found if Environment(folder).python.exists())


def environment(version: str) -> Environment:
    """The environment of `version` with this tree's plugin. Without one: fails under CI, skips elsewhere."""
    folder = ENVIRONMENTS / version
    if not Environment(folder).python.exists():
        message = f"no OctoPrint {version} under {ENVIRONMENTS}; `make test` sets it up"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return ensure_environment(version, folder, print)


@contextmanager
def running(version: str, base_folder: Path, seeded: bool = True) -> Iterator[OctoPrint]:
    """An OctoPrint of `version` with its printer connected; ended whatever happens.

    `seeded`: with the usual configuration, which is made once.
    """
    octoprint = OctoPrint(environment(version), base_folder, free_port())
    if seeded and not (base_folder / "config.yaml").exists():
        seed = _seed(version)
        shutil.copytree(seed.base_folder, base_folder, dirs_exist_ok=True)
        octoprint.password = seed.password
    try:
        octoprint.start()
        octoprint.wait_operational()
        yield octoprint
    finally:
        octoprint.stop()


@functools.cache
def _seed(version: str) -> OctoPrint:
    """One whose base folder others begin with: to make the administrator costs two seconds each time."""
    folder = Path(tempfile.mkdtemp(prefix="mesbridge-seed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    seed = OctoPrint(environment(version), folder, free_port())
    seed.seed()
    return seed


class Visitor:
    """A browser at an OctoPrint's address; answers come as they are, whatever their status."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.get(url + "/login/", timeout=30)

    def log_in(self, user: str, password: str, remember: bool = False) -> Visitor:
        body = {"user": user, "pass": password, "remember": remember}
        self.post("/api/login", body).raise_for_status()
        return self

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=30)

    def post(self, path: str, body: Any) -> requests.Response:
        token = next((c.value for c in self.session.cookies if c.name.startswith("csrf_token")), "")
        return self.session.post(self.url + path, json=body, headers={"X-CSRF-Token": token}, timeout=30)

    def come_back_later(self) -> Visitor:
        """The same browser after a restart: it has only the cookie that "remember me" left in it."""
        later = Visitor(self.url)
        for cookie in self.session.cookies:
            if cookie.name.startswith("remember_token"):
                later.session.cookies.set_cookie(cookie)
        later.post("/api/login", {"passive": True}).raise_for_status()
        return later
