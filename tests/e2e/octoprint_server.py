"""Real OctoPrints for tests: the environments under ``.octoprint/`` with the plugin of this tree in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
def running(version: str, base_folder: Path) -> Iterator[OctoPrint]:
    """An OctoPrint of `version` with its printer connected; ended whatever happens."""
    octoprint = OctoPrint(environment(version), base_folder, free_port())
    try:
        octoprint.start()
        octoprint.wait_operational()
        yield octoprint
    finally:
        octoprint.stop()
