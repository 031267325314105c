"""The plugin's message catalogues: extracted, updated, compiled, and put where OctoPrint reads them.

In flow the plugin's sources; out flow ``messages.pot`` and ``<locale>/LC_MESSAGES/messages.po`` and ``.mo``
in this folder, and a copy of the latter two inside the plugin, which is all that OctoPrint looks at (the
``.mo`` for Python and templates, the ``.po`` for JavaScript). The same sources give the same files: neither
dates nor line numbers are written.

Run it as ``make translations``: translate in the ``.po`` files of this folder, then run it again.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

FOLDER = Path(__file__).resolve().parent
PLUGIN = FOLDER.parent / "octoprint_mesbridge"
BUNDLED = PLUGIN / "translations"
LOCALES = ("de", "fr")

_METHODS = [("**.py", "python"), ("**.js", "javascript"), ("**.jinja2", "jinja2.ext.babel_extract")]
_OPTIONS = {"**.jinja2": {"silent": "false"}}
_KEYWORDS = {"_": None, "gettext": None, "lazy_gettext": None, "N_": None, "ngettext": (1, 2)}
_VOLATILE = re.compile(
    rb'"(Project-Id-Version|Report-Msgid-Bugs-To|POT-Creation-Date|PO-Revision-Date|Last-Translator'
    rb'|Language-Team|Generated-By): [^"]*"\n'
)
_NO_DATE = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?[-+#0]*\d*(?:\.\d+)?[a-zA-Z]")
_HEADER = """# {language} MESBridge.
# This file is distributed under the same license as MESBridge (AGPL-3.0-or-later)."""


def extract() -> Catalog:
    """What the sources of the plugin want translated."""
    template = Catalog(project="OctoPrint-MESBridge", header_comment=_HEADER.format(language="Template for"))
    template.fuzzy = False
    found = extract_from_dir(PLUGIN, _METHODS, _OPTIONS, keywords=_KEYWORDS)
    for file, _line, text, comments, _context in sorted(found, key=lambda one: (one[0], one[1])):
        place = Path(PLUGIN.name, file).as_posix()
        template.add(text, None, [(place, 0)], auto_comments=comments)
    return template


def read(locale: str) -> Catalog:
    """The catalogue of `locale` as translators left it; empty when it is new."""
    path = po_file(FOLDER, locale)
    if not path.exists():
        comment = _HEADER.format(language=locale + " translations for")
        return Catalog(locale=locale, project="OctoPrint-MESBridge", header_comment=comment, fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, locale=locale)


def po_file(folder: Path, locale: str) -> Path:
    return folder / locale / "LC_MESSAGES" / "messages.po"


def texts(message: Message) -> list[tuple[str, str]]:
    """(English, translation) of each form of `message`."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string or ""))]
    # Every language of ours has the plural for "many", so its places are the ones that count.
    return [(message.id[-1], form) for form in message.string]


def problems(catalogue: Catalog) -> list[str]:
    """What keeps `catalogue` from being complete, one line each."""
    found = []
    for message in catalogue:
        if not message.id:
            continue
        for english, translated in texts(message):
            if not translated:
                found.append(f"not translated: {english}")
            elif message.fuzzy:
                found.append(f"fuzzy: {english}")
            elif placeholders(english) != placeholders(translated):
                found.append(f"other placeholders: {english} -> {translated}")
    return found


def placeholders(text: str) -> list[str]:
    """The ``%(name)s`` in `text`, in alphabetical order; ``%%`` is none."""
    return sorted(match.group() for match in _PLACEHOLDER.finditer(text.replace("%%", "")))


def po_bytes(catalogue: Catalog) -> bytes:
    """A ``.po`` or ``.pot`` file that depends on nothing but the language and the messages."""
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=110, include_lineno=False, ignore_obsolete=True)
    return _VOLATILE.sub(b"", buffer.getvalue())


def mo_bytes(po: bytes, locale: str) -> bytes:
    """The ``.mo`` file of a ``.po`` file; what is not translated stays English."""
    buffer = io.BytesIO()
    catalogue = read_po(io.BytesIO(po), locale=locale)
    catalogue.creation_date = catalogue.revision_date = _NO_DATE
    write_mo(buffer, catalogue)
    return buffer.getvalue()


def main() -> int:
    """Bring all files up to date; returns 1 while something is not translated."""
    template = extract()
    (FOLDER / "messages.pot").write_bytes(po_bytes(template))
    incomplete = False
    for locale in LOCALES:
        catalogue = read(locale)
        # A translation of a similar text is worse than none: nobody would notice it.
        catalogue.update(template, no_fuzzy_matching=True)
        path = po_file(FOLDER, locale)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(po_bytes(catalogue))
        path.with_suffix(".mo").write_bytes(mo_bytes(path.read_bytes(), locale))
        shutil.copytree(path.parent, po_file(BUNDLED, locale).parent, dirs_exist_ok=True)
        found = problems(catalogue)
        print(f"{locale}: {len(catalogue)} texts, {len(found)} to do in {path.relative_to(FOLDER.parent)}")
        for problem in found:
            print(f"  {problem}")
        incomplete = incomplete or bool(found)
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
