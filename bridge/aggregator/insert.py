"""Changes to the text of a config.json that leave every other character as it is.

In: the text and what is to be added or replaced. Out: the new text, or `NotEditable`. What is added looks like
what stands beside it: its indentation, its spaces, its line ends. Nothing here reads or writes a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from bridge.aggregator import jsonc
from bridge.aggregator.jsonc import Array, Document, Member, Node, Object
from bridge.aggregator.layout import find_entries

Value = str | int | Sequence[int]


class NotEditable(ValueError):
    """Where to put something cannot be told; the text says why, and what to do."""


class Insertion(NamedTuple):
    """`text` is to stand before the character at `offset`."""

    offset: int
    text: str


class _Style(NamedTuple):
    """The white space in an array or object: before its first part, before each other one, and before its end."""

    first: str
    next: str
    end: str
    colon: str = ": "


_NEWLINE = re.compile(r"\r\n|\r|\n")
_BETWEEN = re.compile(r"[ \t\r\n]+|(?P<comma>,)|(?P<comment>//[^\r\n]*|/\*(?s:.)*?\*/)")
_COLON = re.compile(r"[ \t]*:[ \t]*")
_BLANKS: Final = " \t\r\n"
_ON_ONE_LINE: Final = _Style("", " ", "")


def add_entry(text: str, entry: Mapping[str, Value]) -> str:
    """`text` with `entry` as its last machine. Raises `NotEditable`."""
    return _applied(text, insertions(text, entry))


def insertions(text: str, entry: Mapping[str, Value]) -> list[Insertion]:
    """What `add_entry` puts where, in the order of the file."""
    document = _sound(text)
    root = document.root
    if isinstance(root, Object) and find_entries(root).entries == [root]:
        return _wrapped(text, root, entry)
    array = _machines(root)
    if not array.items:
        return _into_empty(text, array, root, entry)
    return _appended(text, array, _rendered_like(text, array, entry), _style(text, array).next)


def set_value(text: str, index: int, key: str, value: str) -> str:
    """`text` with another `value`, or a first one, for `key` of the entry `index`. Raises `NotEditable`."""
    root = _sound(text).root
    entry = None if root is None else find_entries(root).entries[index]
    if not isinstance(entry, Object):
        raise NotEditable(f"entry [{index}] is no object; run `mesbridge check`")
    member = entry.index.get(key)
    if member is not None:
        return text[: member.value.start] + _json(value) + text[member.value.end :]
    if not entry.members:
        raise NotEditable(f"entry [{index}] is empty; run `mesbridge check`")
    style = _style(text, entry)
    return _applied(text, _appended(text, entry, _json(key) + style.colon + _json(value), style.next))


def _applied(text: str, changes: list[Insertion]) -> str:
    parts, done = [], 0
    for offset, added in changes:
        parts += [text[done:offset], added]
        done = offset
    return "".join([*parts, text[done:]])


# --------------------------------------------------------------------------- where


def _sound(text: str) -> Document:
    document = jsonc.parse(text)
    for fault in document.faults:
        if fault.severity == "error" and fault.key is None:
            raise NotEditable(f"line {document.lines.line(fault.offset)}: {fault.message}; {fault.hint}")
    return document


def _machines(root: Node | None) -> Array:
    """The array in which the machines stand."""
    if root is None:
        raise NotEditable("the file holds no JSON; begin it with []")
    layout = find_entries(root)
    for finding in layout.findings:
        if finding.severity == "error":
            raise NotEditable(f"{finding.message}; {finding.hint}")
    arrays = [root] if isinstance(root, Array) else []
    if isinstance(root, Object):
        arrays = [member.value for member in root.members if isinstance(member.value, Array)]
        if layout.entries:
            arrays = [array for array in arrays if array.items is layout.entries]
    if len(arrays) != 1:
        raise NotEditable("several arrays could hold the machines; leave only one of the empty ones")
    return arrays[0]


# --------------------------------------------------------------------------- what


def _wrapped(text: str, root: Object, entry: Mapping[str, Value]) -> list[Insertion]:
    """Makes an array of a file that is one entry."""
    style = _style(text, root)
    spread = bool(_NEWLINE.search(text, root.start, root.end))
    gap = _newline(text) + _indent(text, root.start) if spread else ""
    added = "," + (gap or style.next) + _rendered(entry, style, _array_style(text, root))
    return [Insertion(root.start, "[" + gap), Insertion(root.end, added + gap + "]")]


def _into_empty(text: str, array: Array, root: Node | None, entry: Mapping[str, Value]) -> list[Insertion]:
    newline, outer = _newline(text), _indent(text, array.start)
    outermost = "" if root is None else _indent(text, root.start)
    deeper = outer.removeprefix(outermost) if outer.startswith(outermost) else ""
    unit = deeper or "  "
    gap = newline + outer + unit
    end = _content_end(text, array.start + 1, array.end - 1)
    closing = "" if _NEWLINE.search(text, end, array.end) else newline + outer
    style = _Style(gap + unit, gap + unit, gap)
    return [Insertion(end, gap + _rendered(entry, style, _ON_ONE_LINE) + closing)]


def _appended(text: str, node: Array | Object, source: str, gap: str) -> list[Insertion]:
    """Puts `source` behind the last part of `node`, and behind the comments there."""
    last, closing = _spans(node)[-1][1], node.end - 1
    found = list(_BETWEEN.finditer(text, last, closing))
    end = _content_end(text, last, closing)
    if any(one["comment"] and one["comment"].startswith("//") and one.end() == end for one in found):
        gap = gap.lstrip(" \t")
        if not _NEWLINE.match(gap):
            gap = _newline(text) + _indent(text, last) + gap
    comma = "" if any(one["comma"] for one in found) else ","
    return [Insertion(last, comma), Insertion(end, gap + source)]


def _content_end(text: str, start: int, end: int) -> int:
    """Where the white space before `end` begins."""
    return start + len(text[start:end].rstrip(_BLANKS))


def _rendered_like(text: str, array: Array, entry: Mapping[str, Value]) -> str:
    for item in reversed(array.items):
        if isinstance(item, Object) and item.members:
            return _rendered(entry, _style(text, item), _array_style(text, item))
    return _rendered(entry, _ON_ONE_LINE, _ON_ONE_LINE)


def _rendered(entry: Mapping[str, Value], style: _Style, inner: _Style) -> str:
    members = [_json(key) + style.colon + _shown(value, inner) for key, value in entry.items()]
    return "{" + style.first + ("," + style.next).join(members) + style.end + "}"


def _shown(value: Value, style: _Style) -> str:
    if isinstance(value, str | int):
        return _json(value)
    return "[" + style.first + ("," + style.next).join(_json(item) for item in value) + style.end + "]"


def _json(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)


# --------------------------------------------------------------------------- how it looks


def _style(text: str, node: Array | Object) -> _Style:
    """How the parts of `node`, which has some, are set."""
    spans = _spans(node)
    first = _blanks_before(text, spans[0][0], node.start + 1)
    end = _blanks_before(text, node.end - 1, node.start + 1)
    colon = _colon(text, node.members) if isinstance(node, Object) else ": "
    if len(spans) > 1:
        following = _blanks_before(text, spans[-1][0], spans[-2][1])
    elif _NEWLINE.search(first):
        following = first
    else:
        following = " "
    return _Style(first, following, end, colon)


def _array_style(text: str, entry: Object) -> _Style:
    """How the arrays of an entry are set."""
    for member in entry.members:
        if isinstance(member.value, Array) and member.value.items:
            return _style(text, member.value)
    return _ON_ONE_LINE


def _colon(text: str, members: list[Member]) -> str:
    used = {text[member.end : member.value.start] for member in members}
    colon = used.pop()
    return ": " if used or not _COLON.fullmatch(colon) else colon


def _spans(node: Array | Object) -> list[tuple[int, int]]:
    if isinstance(node, Array):
        return [(item.start, item.end) for item in node.items]
    return [(member.start, member.value.end) for member in node.members]


def _blanks_before(text: str, offset: int, limit: int) -> str:
    return text[_content_end(text, limit, offset) : offset]


def _indent(text: str, offset: int) -> str:
    """The white space with which the line of `offset` begins."""
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    line = text[start:offset]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _newline(text: str) -> str:
    found = _NEWLINE.search(text)
    return found[0] if found else "\n"
