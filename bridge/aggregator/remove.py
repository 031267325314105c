"""Members taken out of an object of a config.json, so that every comment and all else stays as it is.

In: the text, the object and the members to take out. Out: the places to change. Nothing here reads or writes a file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from bridge.aggregator.jsonc import Member, Object

_PART = re.compile(r"//[^\r\n]*|/\*(?s:.)*?\*/|(?P<sign>[:,])")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_BLANKS: Final = " \t"


class Change(NamedTuple):
    """`text[start:end]` is to become `text`."""

    start: int
    end: int
    text: str = ""


def applied(text: str, changes: Iterable[Change]) -> str:
    """`text` with all `changes`; of those that overlap only those that take away."""
    parts, done = [], 0
    for start, end, added in sorted(changes):
        parts += [text[done:start], added]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def removals(text: str, entry: Object, removed: Collection[Member]) -> Iterator[Change]:
    """What takes the members `removed` out of `entry`, with the commas that they need; one at least must remain."""
    members = entry.members
    commas = [_sign(text, one.value.end, following.start) for one, following in itertools.pairwise(members)]
    commas.append(_sign(text, members[-1].value.end, entry.end - 1))
    kept = [at for at, one in enumerate(members) if one not in removed]
    last = kept[-1]
    for at, one in enumerate(members):
        comma = commas[at]
        if one in removed:
            yield from _one(text, one, comma, at_end=at > last)
        elif at == last and at < len(members) - 1 and commas[-1] is None and comma is not None:
            yield Change(comma, comma + 1)


def _one(text: str, member: Member, comma: int | None, *, at_end: bool) -> Iterator[Change]:
    colon = _sign(text, member.end, member.value.start)
    spans = [(member.start, member.end), (member.value.start, member.value.end)]
    spans += [(sign, sign + 1) for sign in (colon, comma) if sign is not None]
    start, end = min(spans)[0], max(end for _, end in spans)
    between = text[start:end]
    for left, right in sorted(spans, reverse=True):
        between = between[: left - start] + between[right - start :]
    if between.strip():  # comments, which stay where they are
        yield from (Change(*span) for span in spans)
        return
    yield Change(*_with_blanks(text, start, end, at_end=at_end))


def _with_blanks(text: str, start: int, end: int, *, at_end: bool) -> tuple[int, int]:
    """Widens `text[start:end]` so that what goes leaves no empty line, and no two gaps in a row."""
    before = start - len(text[:start]) + len(text[:start].rstrip(_BLANKS))
    after = len(text) - len(text[end:].lstrip(_BLANKS))
    first = before == 0 or text[before - 1] in "\r\n"
    newline = _NEWLINE.match(text, after)
    if first and newline:
        return before, newline.end()
    if at_end and not first:
        return before, end
    return start, end if newline else after


def _sign(text: str, start: int, end: int) -> int | None:
    """Where the comma or colon stands between two parts, outside of comments."""
    return next((one.start() for one in _PART.finditer(text, start, end) if one["sign"]), None)
