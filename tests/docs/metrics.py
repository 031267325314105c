"""docs/metrics.md, from the metrics that the bridge has."""

from __future__ import annotations

from pathlib import Path

from bridge.web import catalogue

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
_BEGIN = "<!-- made by `make docs` from bridge/web/catalogue.py -->"
_END = "<!-- end of what is made -->"


def document() -> str:
    """The document with its table made anew."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    _, found, after = rest.partition(_END)
    assert found, f"{DOCUMENT} lost the marks between which the table is made"
    return "\n".join((before + _BEGIN, *catalogue.table(), _END + after))
