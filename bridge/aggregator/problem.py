"""What can be wrong with a config.json, as values: found by the readers, shown by `mesbridge check` and the log.

In: nothing. Out: `Problem` (one finding, with its place in the file) and `ConfigUnreadable` (the file yields
no machines at all). Neither ever holds a key, nor text of the file that could be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bridge.aggregator.text import Lines

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """What is wrong with a value, before it is known where that value stands."""

    severity: Severity
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1, in characters; both are None where no place exists
    (a missing file). `key` is the name of the config key concerned, None for the file or entry as a whole."""

    severity: Severity
    file: Path
    line: int | None
    column: int | None
    key: str | None
    message: str
    hint: str

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.message}"


class ConfigUnreadable(Exception):
    """The file as a whole can't be used: missing, a folder, not permitted, no text, or no JSON.

    `problems` says why, the first one is the reason; `str()` gives that reason and what to do about it.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(f"{problems[0]} ({problems[0].hint})")
        self.problems = problems


class Report:
    """Collects the problems of one entry, or of the file as a whole, in the order they are found."""

    def __init__(self, file: Path, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self.problems: list[Problem] = []

    def scratch(self) -> Report:
        """A fresh report on the same file."""
        return Report(self._file, self._lines)

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def error(self, offset: int, key: str | None, message: str, hint: str) -> None:
        self.add(offset, key, Finding("error", message, hint))

    def warning(self, offset: int, key: str | None, message: str, hint: str) -> None:
        self.add(offset, key, Finding("warning", message, hint))

    def add(self, offset: int, key: str | None, finding: Finding) -> None:
        """`offset` is a character offset in the file's text."""
        line, column = self._lines.place(offset)
        self.problems.append(
            Problem(finding.severity, self._file, line, column, key, finding.message, finding.hint)
        )
