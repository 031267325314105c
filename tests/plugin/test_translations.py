"""The catalogues: complete, made from today's sources, and the same where OctoPrint reads them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("babel")

from babel.messages.catalog import Catalog
from babel.messages.jslexer import Token, tokenize
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from translations import catalogues
from translations.catalogues import BUNDLED, FOLDER, LOCALES, PLUGIN, po_file

STALE = "run `make translations`, and translate what it lists"


@pytest.mark.parametrize("locale", LOCALES)
def test_a_catalogue_has_exactly_what_the_sources_say(locale: str) -> None:
    assert _ids(catalogues.read(locale)) == _ids(catalogues.extract()), STALE


def test_the_template_has_exactly_what_the_sources_say() -> None:
    with (FOLDER / "messages.pot").open("rb") as file:
        assert _ids(read_po(file)) == _ids(catalogues.extract()), STALE


@pytest.mark.parametrize("locale", LOCALES)
def test_everything_is_translated_with_the_same_placeholders(locale: str) -> None:
    assert catalogues.problems(catalogues.read(locale)) == [], STALE


@pytest.mark.parametrize("locale", LOCALES)
def test_the_compiled_catalogue_is_made_from_the_readable_one(locale: str) -> None:
    readable = catalogues.read(locale)
    with po_file(FOLDER, locale).with_suffix(".mo").open("rb") as file:
        compiled = read_mo(file)
    assert {m.id: m.string for m in compiled if m.id} == {m.id: m.string for m in readable if m.id}, STALE


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", ["messages.po", "messages.mo"])
def test_octoprint_reads_the_same_catalogue(locale: str, name: str) -> None:
    working, bundled = (po_file(folder, locale).with_name(name) for folder in (FOLDER, BUNDLED))
    assert working.read_bytes() == bundled.read_bytes(), STALE


def test_a_missing_fuzzy_or_differently_filled_translation_is_a_problem() -> None:
    catalogue = Catalog(locale="de")
    catalogue.add("one %(a)s", "eins %(b)s")
    catalogue.add("two")
    catalogue.add("three", "drei", flags=["fuzzy"])
    catalogue.add(("%(n)d four", "%(n)d fours"), ("%(n)d vier", ""))
    catalogue.add("five %(a)s, 5 %% of %(b)d", "%(b)d: 5 %% von %(a)s")
    assert [problem.partition(":")[0] for problem in catalogues.problems(catalogue)] == [
        "other placeholders",
        "not translated",
        "fuzzy",
        "not translated",
    ]


def test_french_has_its_spaces() -> None:
    """No-break before what needs a space before it, as French typography has it."""
    plain = re.compile(r"\w [:;?!»%]|« ", re.ASCII)
    bare = re.compile(r"[^\W\d_][;?!](?=\s|$)|[^\W\d_]:(?=\s)")
    for message in catalogues.read("fr"):
        for _, text in catalogues.texts(message) if message.id else ():
            said = re.sub(r"https?://\S+|%\(\w+\)[sd]", "x", text)
            assert not plain.search(said), text
            assert not bare.search(said), text


# --------------------------------------------------------------------------- nothing passes by


def _templates() -> list[Path]:
    return sorted(PLUGIN.rglob("*.jinja2"))


class _Texts(HTMLParser):
    """The words that a page would show: text other than code, and the attributes that are read out or shown."""

    SHOWN = ("title", "placeholder", "alt", "aria-label", "value")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_code = False

    def handle_data(self, data: str) -> None:
        if not self._in_code:
            self.found.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_code = self._in_code and tag != "code"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_code = self._in_code or tag == "code"
        for name, value in attrs:
            if name in self.SHOWN:
                self.found.append(value or "")
            elif name == "data-bind":
                self.found += re.findall(r"""(?:text|html|title)\s*:\s*(['"].*?['"])""", value or "")


def literal_texts(template: str) -> list[str]:
    """What `template` says by itself, without Jinja. Addresses and names that are the same everywhere are none."""
    page = _Texts()
    page.feed(re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", template, flags=re.DOTALL))
    texts = (re.sub(r"https?://\S+|MESBridge|OctoPrint", "", text).strip() for text in page.found)
    return [text for text in texts if re.search(r"[A-Za-z]{2}", text)]


@pytest.mark.parametrize("template", _templates(), ids=lambda path: path.name)
def test_a_template_says_nothing_that_cannot_be_translated(template: Path) -> None:
    assert literal_texts(template.read_text(encoding="utf-8")) == []


def test_a_literal_text_in_a_template_is_found() -> None:
    assert literal_texts(
        "<p title=\"Tip\">{{ _('Said') }} Not said <b data-bind=\"text: 'On'\"></b></p>"
    ) == [
        "Tip",
        "Not said",
        "'On'",
    ]


def literal_sentences(script: str) -> Iterator[str]:
    """String literals of `script` that look like sentences, and `gettext` of what is no literal."""
    tokens = [token for token in tokenize(script) if token.type not in ("linecomment", "multilinecomment")]
    for index, token in enumerate(tokens):
        before = [one.value for one in tokens[max(0, index - 2) : index]]
        if token.type in ("string", "template_string"):
            if not _translated(tokens, index) and re.match(r"['\"`][A-Z].*[a-z]+ [a-z]", token.value):
                yield token.value
        elif before == ["gettext", "("]:
            yield f"gettext({token.value}"


def _translated(tokens: list[Token], index: int) -> bool:
    """Whether the string at `index` is an argument of gettext or ngettext."""
    while index > 0 and tokens[index - 1].value == "," and tokens[index - 2].type == "string":
        index -= 2
    while index > 1 and tokens[index - 1].value == "+" and tokens[index - 2].type == "string":
        index -= 2
    return [token.value for token in tokens[max(0, index - 2) : index]] in (
        ["gettext", "("],
        ["ngettext", "("],
    )


@pytest.mark.parametrize("script", sorted(PLUGIN.rglob("*.js")), ids=lambda path: path.name)
def test_a_script_says_nothing_that_cannot_be_translated(script: Path) -> None:
    assert list(literal_sentences(script.read_text(encoding="utf-8"))) == []


def test_a_literal_sentence_in_a_script_is_found() -> None:
    script = (
        """say("Not said yet"); say(gettext("Said so")); gettext(what); ngettext("One day", "Some days", 2)"""
    )
    assert list(literal_sentences(script)) == ['"Not said yet"', "gettext(what"]


def untranslatable(source: str) -> list[str]:
    """What Python code tells a person without its being marked for translation; a 400 is told to programs."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("Notice", "gettext", "lazy_gettext", "N_"):
            told = node.args[:1]
            plain = (ast.JoinedStr,) if name != "Notice" else (ast.JoinedStr, ast.Constant)
        elif name == "abort" and ast.unparse(node.args[0]) != "400":
            told = [keyword.value for keyword in node.keywords if keyword.arg == "description"]
            plain = (ast.JoinedStr, ast.Constant)
        else:
            continue
        found += [ast.unparse(value) for value in told if isinstance(value, plain)]
    return found


@pytest.mark.parametrize("source", sorted(PLUGIN.rglob("*.py")), ids=lambda path: path.name)
def test_python_says_nothing_that_cannot_be_translated(source: Path) -> None:
    assert untranslatable(source.read_text(encoding="utf-8")) == []


def test_a_literal_text_in_python_is_found() -> None:
    source = (
        "abort(403, description='No'); abort(403, description=gettext('No')); Notice('x'); Notice(N_('x'))"
    )
    assert untranslatable(source + "; gettext(f'{x}')") == ["'No'", "'x'", "f'{x}'"]


def _ids(catalogue: Catalog) -> set[str | tuple[str, ...]]:
    return {message.id if isinstance(message.id, str) else tuple(message.id) for message in catalogue} - {""}
