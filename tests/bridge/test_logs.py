"""Lines of the service's log, as people, machines and systemd's journal get them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge

ROOT = Path(bridge.__file__).parent
SPEAK = """
import logging, sys
import structlog
from bridge import logs
logs.configure("info", sys.argv[1])
log = structlog.get_logger("bridge.speaks")
logs.know_names({"octoprint-1": "Left"}.get)
log.debug("too much")
log.info("machine reached", machine="octoprint-1")
log.info("machine reached", machine="octoprint-2")
log.warning("has a name of its own", machine="octoprint-1", name="mine")
log.bind(machine="octoprint-1").error("bound")
try:
    raise ValueError("two\\nlines")
except ValueError:
    log.exception("failed")
    logging.getLogger("asyncua.server").exception("a library %s", "fails")
logging.getLogger("asyncua.server").warning("a library chats")
logging.getLogger("aiohttp.server").error("with its own", extra={"machine": "octoprint-1"})
log.info("a name moves the cursor", name="Left\\x1b]0;owned\\x07")
"""


def speak(form: str, journal: bool = False) -> list[str]:
    """The lines; with `journal`, standard error is what systemd says that its journal is."""
    read, write = os.pipe()
    found = os.fstat(write)
    environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}" if journal else "8:12345"}
    with os.fdopen(read, encoding="utf-8") as lines:
        process = subprocess.Popen([sys.executable, "-c", SPEAK, form], stderr=write, env=environment)
        os.close(write)
        text = lines.read()
    assert process.wait(30) == 0, text
    return text.splitlines()


def test_every_json_line_is_an_object_that_says_what_how_grave_and_when() -> None:
    said = [json.loads(line) for line in speak("json")]
    assert all({"event", "level", "timestamp"} <= one.keys() for one in said)
    assert [one["event"] for one in said] == [
        "machine reached",
        "machine reached",
        "has a name of its own",
        "bound",
        "failed",
        "a library fails",
        "with its own",
        "a name moves the cursor",
    ]
    assert [one.get("name") for one in said] == [
        *("Left", None, "mine", "Left", None, None, "Left"),
        "Left\x1b]0;owned\x07",
    ]
    levels = ["info", "info", "warning", "error", "error", "error", "error", "info"]
    assert [one["level"] for one in said] == levels
    assert "ValueError: two\nlines" in said[4]["exception"]
    assert "ValueError: two\nlines" in said[5]["exception"]
    assert [one.get("library") for one in said[4:]] == [None, "asyncua.server", "aiohttp.server", None]


def test_people_get_lines_with_a_time_and_without_colours_in_a_file() -> None:
    lines = speak("human")
    assert "machine reached" in lines[0]
    assert "machine=octoprint-1" in lines[0]
    assert "name=Left" in lines[0]
    assert lines[0][:4].isdecimal()
    assert not any("\x1b" in line for line in lines)
    assert any("library=asyncua.server" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no journal")
@pytest.mark.parametrize("form", ["human", "json"])
def test_the_journal_gets_priorities_and_does_not_show_the_time_twice(form: str) -> None:
    lines = speak(form, journal=True)
    assert all(line[0] == "<" and line[2] == ">" for line in lines)  # also those of a traceback
    assert [lines[n][:3] for n in (0, 2, 3)] == ["<6>", "<4>", "<3>"]
    if form == "json":
        assert "timestamp" in json.loads(lines[0][3:])  # who reads that reads it alone
    else:
        assert lines[0].startswith("<6>[info")


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a module's log, and where it stands."""
    for path in ROOT.rglob("*.py"):
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(found, ast.Call)
                and isinstance(found.func, ast.Attribute)
                and found.func.attr in ("debug", "info", "warning", "error", "exception")
                and ast.unparse(found.func.value) in ("log", "self._log")
            ):
                yield f"{path.relative_to(ROOT)}:{found.lineno}", found


def test_what_happened_is_a_fixed_text_and_what_it_happened_to_is_in_fields() -> None:
    """Else nobody could look for it."""
    found = dict(calls())
    assert len(found) > 80
    assert [where for where, call in found.items() if is_built(call.args[0])] == []


def is_built(text: ast.expr) -> bool:
    """Whether a text is made of others when it is written; OPC UA and the status page log in alike, and are named."""
    if isinstance(text, ast.JoinedStr):
        return any(
            isinstance(part, ast.FormattedValue) and ast.unparse(part.value) != "self._door"
            for part in text.values
        )
    return isinstance(text, ast.BinOp)


def test_a_machine_is_called_the_same_in_every_line() -> None:
    odd = {"machine_id", "printer", "id", "octoprint"}
    assert [where for where, call in calls() if odd & {one.arg for one in call.keywords}] == []
