"""The unit for systemd is one that systemd takes, and as closed as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

from tests import needs

UNIT = Path(__file__).resolve().parents[1] / "extras" / "mesbridge.service"
MOST_EXPOSED = 2.0


def service() -> dict[str, str]:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


def test_it_uses_what_the_bridge_tells_systemd() -> None:
    said = service()
    assert said["Type"] == "notify"
    assert (
        int(said["WatchdogSec"]) >= 6 * 5
    )  # the log's writer has 5 s for an answer, and is asked three times
    assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (
        said["RestartPreventExitStatus"] == "2"
    )  # what `mesbridge run` ends with when a file cannot be used
    assert "mesbridge run " in said["ExecStart"]


def test_systemd_understands_every_line_and_finds_it_closed(tmp_path: Path) -> None:
    program, unit = needs.systemd_analyze(), tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/mesbridge/bin/mesbridge", sys.executable))
    verified = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    told = subprocess.run(
        [program, "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", told.stdout)
    assert found, told.stdout + told.stderr
    assert float(found[1]) <= MOST_EXPOSED
