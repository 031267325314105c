"""What the documents point to is there: files, headings, pictures; and the index names every document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import EVERY_DOCUMENT, TREE, anchors, links


def missing(document: Path) -> list[str]:
    """The links of `document` that lead nowhere. Addresses in the web are not asked."""
    problems = []
    for link in links(document):
        if link.target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.target.partition("#")
        target = (document.parent / name).resolve() if name else document
        place = f"{document.name}:{link.line}: {link.target}"
        if not target.exists():
            problems.append(f"{place}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            problems.append(f"{place}: there is no such heading")
    return problems


@pytest.mark.parametrize("document", EVERY_DOCUMENT, ids=lambda path: str(path.relative_to(TREE)))
def test_links_lead_somewhere(document: Path) -> None:
    assert not missing(document)


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `code` heading\n\n# Twice\n\n# Twice\n")
    document = tmp_path / "document.md"
    document.write_text(
        "[a](other.md#one-code-heading) [b](other.md#twice-1) `[c](code.md)`\n"
        '![d](gone.png)\n[e](other.md#gone) <img src="lost.svg">\n'
    )
    assert missing(document) == [
        "document.md:2: gone.png: there is no such file",
        "document.md:3: other.md#gone: there is no such heading",
        "document.md:3: lost.svg: there is no such file",
    ]


def test_the_index_names_every_document_once() -> None:
    index = TREE / "docs" / "README.md"
    named = [link.target for link in links(index) if "#" not in link.target]
    there = [
        path.relative_to(index.parent).as_posix()
        for path in (*index.parent.glob("*.*"), *(index.parent / "decisions").glob("*.md"))
        if path != index
    ]
    assert sorted(named) == sorted([*there, "../README.md", "../CHANGELOG.md"])


def test_every_benchmark_and_every_target_of_make_is_told() -> None:
    text = (TREE / "docs" / "performance.md").read_text(encoding="utf-8")
    names = re.findall(
        r'^    "(\w+)":', (TREE / "benchmarks" / "__main__.py").read_text(encoding="utf-8"), re.M
    )
    assert names
    assert ", ".join(f"`{name}`" for name in names) in text
    targets = re.search(r"^\.PHONY: (.*)$", (TREE / "Makefile").read_text(encoding="utf-8"), re.M)
    assert targets
    developers = (TREE / "docs" / "development.md").read_text(encoding="utf-8")
    assert not [target for target in targets[1].split() if f"`make {target}`" not in developers]
