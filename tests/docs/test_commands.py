"""Each command of README and docs is one that there is, and does what it is given for.

They are run for real, in a plant set up as README says. A command without a case in ``commands.py`` fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import cli
from tests import needs
from tests.docs.commands import CASES, case_of
from tests.docs.markdown import DOCUMENTS, EVERY_DOCUMENT, TREE, commands_of, inline_code, parts
from tests.docs.plant import Plant, plant

TOOLS = "mesbridge|make|openssl|echo|chmod|curl|uals|python3?|pip|systemctl|journalctl|sudo"
PROGRAMS = rf"(\S*/)?({TOOLS})\s.*"
PLACEHOLDERS = {"N": "1", "ID": "abcdef", "1.1|1.2|1.4": "1.4", "bash|zsh|fish": "bash"}


class Command(NamedTuple):
    """A command, where it stands, and whether as a name in the prose."""

    text: str
    place: str
    named: bool


def written(documents: tuple[Path, ...] = DOCUMENTS) -> Iterator[Command]:
    """All commands, in the order of the documents."""
    for document in documents:
        blocks, _ = parts(document)
        for block in blocks:
            if block.language in ("sh", "powershell"):
                for command in commands_of(block):
                    yield Command(command, block.place, False)
        for block in inline_code(document):
            if re.fullmatch(PROGRAMS, block.text):
                yield Command(re.sub(r"[\[\]]", "", block.text), block.place, True)


def mesbridge_words(command: str) -> list[str] | None:
    """What follows `mesbridge` in a command, or None if that is not its program."""
    text = re.sub(r"\[[^\]]*\]|\$\([^)]*\)", " x ", command)
    found = re.search(
        r"(?:^|[;&|]\s*)(?:sudo\s+(?:-u\s+\w+\s+)?)?(?:\S*/)?mesbridge(?:\.exe)?\s+(?P<rest>[^|;&>]*)", text
    )
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(found["rest"])] if found else None


def unknown(words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The subcommands and options that the parser does not know."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words:
            first, *rest = words
            if first.startswith("-"):
                break
            return unknown(rest, action.choices[first]) if first in action.choices else [first]
    options = [word.split("=")[0] for word in words if word.startswith("-")]
    return [option for option in options if option not in parser._option_string_actions]


def is_complete(words: list[str]) -> bool:
    """Whether the parser takes them as they are; what is only named in prose may lack arguments."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        cli._parser().parse_args(words)
        return True
    return False


COMMANDS = list(written())
OURS = {c.text: c for c in written(EVERY_DOCUMENT) if mesbridge_words(c.text) is not None}


def to_run() -> list[str]:
    """Each text once: those of shell blocks, and those in prose that are complete."""
    texts = dict.fromkeys(
        command.text
        for command in COMMANDS
        if not command.named or (words := mesbridge_words(command.text)) is None or is_complete(words)
    )
    order = {case.pattern: number for number, case in enumerate(CASES)}
    return sorted(texts, key=lambda text: order[found.pattern] if (found := case_of(text)) else -1)


@pytest.mark.parametrize("command", OURS.values(), ids=OURS)
def test_mesbridge_knows_the_command(command: Command) -> None:
    words = mesbridge_words(command.text)
    assert words is not None
    assert not unknown(words, cli._parser()), command.place
    assert command.named or is_complete(words), f"{command.place}: {command.text}: something is missing"


def test_a_command_that_there_is_not_is_noticed() -> None:
    for text, names in {
        "mesbridge chek config.json": ["chek"],
        "sudo mesbridge pair open --hours 3 --settings x": ["--hours"],
        "mesbridge mes status --json": [],
    }.items():
        words = mesbridge_words(text)
        assert words is not None
        assert unknown(words, cli._parser()) == names
    assert not is_complete(["trust", "accept"])


def test_every_command_has_a_case_and_every_case_a_command() -> None:
    lost = [f"{c.place}: {c.text}" for c in COMMANDS if c.text in set(to_run()) and case_of(c.text) is None]
    assert not lost, "add a case to tests/docs/commands.py for\n" + "\n".join(lost)
    used = {case.pattern for text in to_run() if (case := case_of(text))}
    assert not [case.pattern for case in CASES if case.pattern not in used]


def test_what_is_not_run_says_why() -> None:
    assert all(case.reason for case in CASES if case.run is None)


TRIED = [text for text in to_run() if (case := case_of(text)) is None or case.run is not None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The plant of README, with MES and bridge running."""
    needs.programs("bash", "curl", "openssl")
    with plant(tmp_path_factory.mktemp("plant")) as one:
        one.start_all()
        yield one


@pytest.mark.e2e
@pytest.mark.parametrize("text", TRIED, ids=TRIED)
def test_the_command_does_what_it_is_given_for(running: Plant, text: str) -> None:
    case = case_of(text)
    assert case is not None, f"no case for: {text}"
    assert case.run is not None
    case.run(running, text)


@pytest.mark.parametrize(
    "target", sorted({c.text.split()[1] for c in COMMANDS if c.text.startswith("make ")})
)
def test_make_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (TREE / "Makefile").read_text(encoding="utf-8"), re.M)
