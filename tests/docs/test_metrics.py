"""docs/metrics.md names every metric that there is, as it is."""

from __future__ import annotations

from tests.docs import metrics


def test_the_document_is_what_make_docs_would_write() -> None:
    assert metrics.DOCUMENT.read_text(encoding="utf-8") == metrics.document()
