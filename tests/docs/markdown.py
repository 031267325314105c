"""The documents as text: paths in; code, commands, links and anchors out. Nothing here runs anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).parents[2]
DOCUMENTS = (TREE / "README.md", *sorted((TREE / "docs").glob("*.md")))
"""What users read."""
EVERY_DOCUMENT = (*DOCUMENTS, TREE / "CHANGELOG.md", *sorted((TREE / "docs" / "decisions").glob("*.md")))

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>[\w+-]*)$")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"#{1,6} (?P<text>.+)$")
_SOURCE = re.compile(r"(?:src|srcset|href)=\"(?P<target>[^\"]+)\"")


class Block(NamedTuple):
    """Code between fences; `line` is that of its first fence, counted from 1."""

    language: str
    text: str
    document: Path
    line: int

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.document.relative_to(TREE)}:{self.line}"


def parts(document: Path) -> tuple[list[Block], list[tuple[int, str]]]:
    """The blocks of code, and the lines of prose with their numbers."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    opened: tuple[int, re.Match[str]] | None = None
    inside: list[str] = []
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, inside = (number, fence), []
        elif opened is None:
            prose.append((number, line))
        elif fence and not fence["language"]:
            first, start = opened
            text = "\n".join(one.removeprefix(start["indent"]) for one in inside)
            blocks.append(Block(start["language"], text + "\n", document, first))
            opened = None
        else:
            inside.append(line)
    assert opened is None, f"{document}: the fence of line {opened and opened[0]} is not closed"
    return blocks, prose


def inline_code(document: Path) -> Iterator[Block]:
    """What stands between backticks in the prose; a line break in it counts as a blank."""
    _, prose = parts(document)
    for number, line in prose:
        for found in _INLINE.finditer(line):
            yield Block("", found[1], document, number)


def commands_of(block: Block) -> Iterator[str]:
    """The commands of a shell block: comments dropped, continued lines joined."""
    text = re.sub(r"\s*\\\n\s*", " ", block.text)
    for line in text.splitlines():
        command = re.sub(r"(?:^|\s+)# .*$", "", line).strip()
        if command:
            yield command


class Link(NamedTuple):
    """A link or image, as written."""

    target: str
    document: Path
    line: int


def links(document: Path) -> Iterator[Link]:
    """Links and images of the prose, those in HTML too."""
    _, prose = parts(document)
    for number, line in prose:
        bare = _INLINE.sub("``", line)
        for found in (*_LINK.finditer(bare), *_SOURCE.finditer(bare)):
            yield Link(found["target"], document, number)


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for _, line in parts(document)[1]:
        if heading := _HEADING.match(line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"]).strip().lower()
            anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return found
