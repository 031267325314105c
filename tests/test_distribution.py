"""What the one distribution carries, and what it asks for."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import bridge

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from what git has, as a user's zip of the repository is."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT).decode().split("\0")
    source = folder / "source"
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, source], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


@pytest.mark.parametrize("package", ["octoprint_mesbridge", "bridge"])
def test_the_wheel_carries_every_file_of_both_packages(wheel: zipfile.ZipFile, package: str) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "-z", package], cwd=ROOT).decode().split("\0")
    there = {name for name in filter(None, tracked) if (ROOT / name).is_file()}
    assert there - set(wheel.namelist()) == set()


def test_the_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bridge", "octoprint_mesbridge"}


def test_the_plugin_alone_needs_nothing_beyond_octoprint(wheel: zipfile.ZipFile) -> None:
    needed = metadata(wheel).get_all("Requires-Dist", [])
    assert [one for one in needed if "extra ==" not in one] == []
    assert metadata(wheel)["Requires-Python"] == "<4,>=3.9"


def test_all_versions_are_the_same(wheel: zipfile.ZipFile) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["version"]
    assert bridge.__version__ == declared == metadata(wheel)["Version"]
