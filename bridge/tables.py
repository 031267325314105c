"""Tables and texts for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_LONGEST_CELL = 40


def cell(text: str, longest: int = _LONGEST_CELL) -> str:
    """`text` on one line, without what moves a terminal's cursor, cut where it is too long."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """`rows` below `heads`, in columns as wide as they need."""
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    for row in (heads, *rows):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
