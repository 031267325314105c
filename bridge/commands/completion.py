"""`mesbridge completion`: the script that has a shell complete the command's words.

In: the parser of the command line, and the name of the shell. Out: the script, on standard output.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import shtab

_FOLDERS: Final = frozenset({"folder", "environments"})


def run(parser: argparse.ArgumentParser, shell: str, stdout: TextIO) -> int:
    """Writes the script for `shell`; returns the exit status."""
    for action in _actions(parser):
        if action.type is Path:
            complete = shtab.DIRECTORY if action.dest in _FOLDERS else shtab.FILE
            action.complete = complete  # type: ignore[attr-defined]
    stdout.write(shtab.complete(parser, shell) + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of the parser and of all its subcommands."""
    for action in parser._actions:  # argparse has no other way to them, and shtab goes this one, too
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for one in set(action.choices.values()):
                yield from _actions(one)
