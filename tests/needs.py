"""What some tests need beside Python. Where it is missing a test is skipped, but under CI it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NODE_MODULES = Path(__file__).parent / "e2e" / "node_modules"


def node() -> str:
    """The program node, with node-opcua's client installed in `NODE_MODULES`."""
    program = shutil.which("node")
    if program is None or not (NODE_MODULES / "node-opcua-client").is_dir():
        _missing("node, and `npm ci` in tests/e2e")
    return program


def npm() -> str:
    """The program npm."""
    program = shutil.which("npm")
    if program is None:
        _missing("npm")
    return program


def systemd_analyze() -> str:
    """The program systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        _missing("systemd-analyze (Debian's package systemd)")
    return program


def shell(name: str) -> str:
    """A shell such as ``zsh``."""
    program = shutil.which(name)
    if program is None:
        _missing(f"the shell {name}")
    return program


def chromium() -> str:
    """A Chromium without its downloads."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        _missing("Chromium (Debian's package chromium)")
    return program


def programs(*names: str) -> None:
    """Programs of a Debian that has the packages of their names."""
    for name in names:
        if shutil.which(name) is None:
            _missing(name)


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"this test needs {what}")
    pytest.skip(f"this test needs {what}")
