"""What the troubleshooting says that people see is what the code says."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.docs.markdown import TREE, parts

DOCUMENT = TREE / "docs" / "troubleshooting.md"
SOURCES = ("bridge", "octoprint_mesbridge")
_CODE = re.compile(r"`([^`]+)`")


@functools.cache
def texts() -> str:
    """Every text of the code and all of the pages, a line each, with `…` for what is filled in."""
    found: list[str] = []
    for folder in SOURCES:
        for path in (TREE / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            comments = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
            found += [
                _filled(node)
                for node in ast.walk(tree)
                if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in comments
            ]
        for pattern in ("*.js", "*.html", "*.jinja2"):
            found += [path.read_text(encoding="utf-8") for path in (TREE / folder).rglob(pattern)]
    return "\n".join(text.replace("\n", " ") for text in found)


def _filled(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_filled(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return re.sub(r"%(\(\w+\))?[sdrg]", "…", node.value) if isinstance(node.value, str) else ""
    return "…"


def is_said(quoted: str) -> bool:
    """Whether some text of the code has these words; `…` stands for anything."""
    return re.search("[^\n]*".join(re.escape(piece) for piece in quoted.split("…")), texts()) is not None


def symptoms() -> list[str]:
    """What is quoted in the first column of the tables."""
    rows = [line for _, line in parts(DOCUMENT)[1] if line.startswith("| ")]
    return [quoted for row in rows for quoted in _CODE.findall(row.split(" | ")[0])]


@pytest.mark.parametrize("quoted", symptoms())
def test_what_people_see_is_what_the_code_says(quoted: str) -> None:
    assert is_said(quoted)


def test_other_words_are_noticed() -> None:
    assert is_said("machine … reachable")
    assert not is_said("machine is … unreachable")


def test_every_row_says_why_and_what_to_do() -> None:
    for number, line in parts(DOCUMENT)[1]:
        if line.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", line)) == 5, f"line {number}"
