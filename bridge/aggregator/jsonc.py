"""JSON with comments, read with positions.

In: text. Out: a `Document`: a tree in which every value and every key knows where it stands, and the list of all
faults found on the way. Grammar: RFC 8259, plus `//` and `/* */` comments; a trailing comma is a warning. Reading
goes on after a fault as far as that makes sense, so that a person sees all of them at once.

No fault ever quotes the text: any part of a broken file may be a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bridge.aggregator.problem import Severity
from bridge.aggregator.text import Lines

MAX_DEPTH: Final = 64
MAX_FAULTS: Final = 100


@dataclass(slots=True)
class Scalar:
    """A string, number, true, false or null. `text[start:end]` is its source."""

    value: str | int | float | bool | None = field(repr=False)
    start: int
    end: int


@dataclass(slots=True)
class Array:
    items: list[Node] = field(repr=False)
    start: int
    end: int


@dataclass(slots=True)
class Member:
    """One `"key": value` of an object. `text[start:end]` is the key's source, with its quotes."""

    key: str = field(repr=False)
    start: int
    end: int
    value: Node = field(repr=False)


@dataclass(slots=True)
class Object:
    """`members` in the order of the file, with duplicates; `index` finds the last of each name, as json does."""

    members: list[Member] = field(repr=False)
    index: dict[str, Member] = field(repr=False)
    start: int
    end: int


Node = Scalar | Array | Object


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at an offset. `key` is the name of a duplicate key; it comes from the file, so show it only if known."""

    severity: Severity
    offset: int
    message: str
    hint: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """`root` is None when there is no value at all."""

    text: str = field(repr=False)
    root: Node | None
    faults: tuple[Fault, ...]
    lines: Lines = field(repr=False)


def plain(node: Node) -> object:
    """The value as `json.loads` would give it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Array):
        return [plain(item) for item in node.items]
    return {key: plain(member.value) for key, member in node.index.items()}


def parse(text: str) -> Document:
    """Never raises: whatever is wrong stands in `faults`, at most MAX_FAULTS of them, in the order of the file."""
    reader = _Reader(text)
    root = reader.root()
    faults = sorted(reader.faults, key=lambda fault: fault.offset)
    return Document(text, root, tuple(faults), reader.lines)


_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
      (?P<string> "[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*" )
    | (?P<punctuation> [{}\[\]:,] )
    | (?P<number> -?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? (?![\w.+-]) )
    | (?P<literal> (?:true|false|null)(?!\w) )
    | (?P<comment> //[^\r\n]* | /\*(?s:.)*?\*/ )
    | (?P<end> \Z )
    # From here on all is faulty, and recognised only to say what is meant.
    | (?P<control> "[^"\\\r\n]*(?:\\.[^"\\\r\n]*)*" )
    | (?P<open> "[^\r\n]* )
    | (?P<single> '[^'\r\n]*' )
    | (?P<curly> [“”„‟«»][^“”„‟«»"\r\n]*[“”„‟«»] )
    | (?P<hash> \#[^\r\n]* )
    | (?P<unclosed> /\*(?s:.)* )
    | (?P<blank> (?:[^\S\ \t\r\n]|[\u200b-\u200d\u2060\ufeff])+ )
    | (?P<word> [A-Za-z][A-Za-z0-9+.-]*://[^\s,\]}"]* | (?:[^\s{}\[\]:,"'/#]|/(?![/*]))+ | (?s:.) )
    )""",
    re.VERBOSE,
)

# What each faulty way of writing a text or a comment is told.
_MISWRITTEN: Final = {
    "control": (
        "a control character (such as a tab) stands inside this text",
        "write it as an escape, a tab as \\t",
    ),
    "open": ("this text is not closed on its line", "add the missing quotation mark"),
    "single": ("this text stands in single quotes", 'JSON needs double quotes: "..."'),
    "curly": ("this text stands in typographic quotes", 'replace them by straight double quotes: "..."'),
    "hash": ("`#` does not begin a comment here", "begin comments with //"),
    "unclosed": ("this comment is not closed", "end it with */"),
    "blank": (
        "an invisible character stands here that is no space (often copied from a web page)",
        "retype the line",
    ),
    "word": (
        "this is neither a number, true, false, null nor a text in quotes",
        'put texts in double quotes: "..."',
    ),
}
_TEXTS: Final = frozenset({"string", "control", "open", "single", "curly", "word"})
_SKIPPED: Final = frozenset({"hash", "unclosed", "blank"})
_LITERALS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ESCAPED: Final = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_CLOSER: Final = {"{": "}", "[": "]"}


class _Token(NamedTuple):
    kind: str
    """A group of _TOKEN; for punctuation the character itself."""
    start: int
    end: int


def _tokens(text: str) -> Iterator[_Token]:
    """All tokens but good comments; the last one is `end`."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "end"
        if kind == "comment":
            continue
        start, end = match.span(kind)
        yield _Token(text[start] if kind == "punctuation" else kind, start, end)
        if kind == "end":
            return


class _TooManyFaults(Exception):
    """Reading stops: the file is not what it should be."""


class _Reader:
    """Recursive descent over the tokens. `opened` holds the brackets still open, from the outside in."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = Lines(text)
        self.faults: list[Fault] = []
        self.tokens = list(_tokens(text))
        self.position = 0
        self.opened: list[_Token] = []
        self.faulty_line = 0

    # -- faults

    def fault(self, offset: int, message: str, hint: str) -> None:
        """Notes an error; what follows on the same line, up to the next good member, follows from it."""
        line = self.lines.line(offset)
        if line == self.faulty_line:
            return
        self.faulty_line = line
        self._note(Fault("error", offset, message, hint))

    def _note(self, fault: Fault) -> None:
        self.faults.append(fault)
        if len(self.faults) >= MAX_FAULTS:
            raise _TooManyFaults

    def line_of(self, token: _Token) -> int:
        return self.lines.line(token.start)

    # -- tokens

    def peek(self) -> _Token:
        """The next token; wrong comments and blanks are noted and passed over."""
        token = self.tokens[self.position]
        while token.kind in _SKIPPED:
            self.fault(token.start, *_MISWRITTEN[token.kind])
            self.position += 1
            token = self.tokens[self.position]
        return token

    def step(self) -> None:
        self.position += 1

    # -- values

    def root(self) -> Node | None:
        roots: list[Node] = []
        try:
            self._roots(roots)
        except _TooManyFaults:
            last = self.faults[-1]
            self.faults[-1] = Fault(
                "error",
                last.offset,
                f"more than {MAX_FAULTS} faults; reading stopped here",
                "is this the right file?",
            )
        if len(roots) > 1:
            return Array(roots, roots[0].start, roots[-1].end)
        return roots[0] if roots else None

    def _roots(self, roots: list[Node]) -> None:
        told = False
        while (token := self.peek()).kind != "end":
            if roots and not told:
                told = True
                self.fault(
                    token.start,
                    "there is more text after the end of the JSON value",
                    "several machines belong in one pair of square brackets: [ {...}, {...} ]",
                )
            if token.kind in (",", ":", "}", "]"):
                if not roots:
                    self.fault(token.start, "the file does not begin with a value", "begin it with { or [")
                self.step()
                continue
            node = self.value()
            # Loose words are noise; only what has structure is worth checking further.
            if not roots or isinstance(node, Object | Array):
                roots.append(node)

    def value(self) -> Node:
        """Reads the value that begins at the next token, which is none of `, : } ]` and not the end."""
        token = self.peek()
        kind = token.kind
        if kind == "{" or kind == "[":
            if len(self.opened) >= MAX_DEPTH:
                return self._too_deep(token)
            self.step()
            self.opened.append(token)
            node = self._object(token) if kind == "{" else self._array(token)
            self.opened.pop()
            return node
        self.step()
        if kind == "number":
            return Scalar(self._number(token), token.start, token.end)
        if kind == "literal":
            return Scalar(_LITERALS[self.text[token.start : token.end]], token.start, token.end)
        return Scalar(self._string(token), token.start, token.end)

    def _too_deep(self, token: _Token) -> Scalar:
        self.fault(
            token.start, f"brackets are nested more than {MAX_DEPTH} deep", "simplify this part of the file"
        )
        depth = 0
        while (here := self.peek()).kind != "end":
            self.step()
            if here.kind in ("{", "["):
                depth += 1
            elif here.kind in ("}", "]"):
                depth -= 1
            if depth == 0:
                break
        return Scalar(None, token.start, self.tokens[self.position - 1].end)

    def _object(self, opening: _Token) -> Object:
        node = Object([], {}, opening.start, opening.end)
        after_comma: _Token | None = None
        need_comma = False
        while True:
            token = self.peek()
            kind = token.kind
            if kind == "}":
                if after_comma is not None and not need_comma:
                    self._trailing_comma(after_comma)
                break
            if kind == ",":
                if not need_comma:
                    self.fault(token.start, "there is a comma too many", "remove it")
                after_comma, need_comma = token, False
                self.step()
                continue
            if kind == "end" or self._closes_outer(token):
                self._not_closed(opening, token)
                node.end = self.tokens[self.position - 1].end
                return node
            if kind == "{" and self._in_array() and not need_comma and node.members:
                # `{ ... , {`: a forgotten brace ends the entry; the next one is whole.
                self._not_closed(opening, token)
                node.end = self.tokens[self.position - 1].end
                self.position -= 1
                return node
            if kind in ("{", "[", ":", "]"):
                self.fault(
                    token.start, 'a key in double quotes is expected here: "key": value', "check this line"
                )
                if kind in ("{", "["):
                    self.value()
                else:
                    self.step()
                need_comma = kind in ("{", "[")
                continue
            if need_comma:
                before = self.tokens[self.position - 1].end
                self.fault(before, "a comma is missing after this value", "add it")
            self._member(node, token)
            need_comma = True
        self.step()
        node.end = token.end
        return node

    def _member(self, node: Object, token: _Token) -> None:
        """Reads `key : value`; a member whose value can't be told is left out."""
        before = len(self.faults)
        self.step()
        if token.kind in _TEXTS:
            key = self._string(token)
        else:
            key = self.text[token.start : token.end]
            self.fault(
                token.start, "this key does not stand in quotes", 'write keys in double quotes: "key": value'
            )
        following = self.peek()
        if following.kind == ":":
            self.step()
        elif self.line_of(following) != self.line_of(token) or following.kind in (",", "}", "]", "end"):
            self.fault(
                token.start, "this key has no value", 'write "key": value, and check the quotation marks'
            )
            return
        else:
            self.fault(
                token.end,
                "a colon is missing after this key",
                'write "key": value, check the quotation marks',
            )
        if self.peek().kind in (",", "}", "]", ":", "end"):
            self.fault(token.start, "this key has no value", 'write "key": value')
            return
        member = Member(key, token.start, token.end, self.value())
        earlier = node.index.get(key)
        if earlier is not None:
            line = self.lines.line(earlier.start)
            self._note(
                Fault(
                    "error",
                    token.start,
                    f"this key stands twice in one object, first on line {line}",
                    "remove one of them",
                    key,
                )
            )
        node.members.append(member)
        node.index[key] = member
        if len(self.faults) == before:
            self.faulty_line = 0

    def _array(self, opening: _Token) -> Array:
        node = Array([], opening.start, opening.end)
        after_comma: _Token | None = None
        need_comma = False
        while True:
            token = self.peek()
            kind = token.kind
            if kind == "]":
                if after_comma is not None and not need_comma:
                    self._trailing_comma(after_comma)
                break
            if kind == ",":
                if not need_comma:
                    self.fault(token.start, "there is a comma too many", "remove it")
                after_comma, need_comma = token, False
                self.step()
                continue
            if kind == "end" or self._closes_outer(token):
                self._not_closed(opening, token)
                node.end = self.tokens[self.position - 1].end
                return node
            if kind in (":", "}"):
                self.fault(token.start, f"`{kind}` has no place here", "check the brackets around this line")
                self.step()
                continue
            if need_comma:
                before = self.tokens[self.position - 1].end
                self.fault(before, "a comma is missing after this value", "add it")
            faults = len(self.faults)
            node.items.append(self.value())
            need_comma = True
            if len(self.faults) == faults:
                self.faulty_line = 0
        self.step()
        node.end = token.end
        return node

    # -- recovery

    def _in_array(self) -> bool:
        return len(self.opened) > 1 and self.opened[-2].kind == "["

    def _closes_outer(self, token: _Token) -> bool:
        """Whether a bracket that does not fit the innermost open one closes one further out."""
        if token.kind not in ("}", "]") or _CLOSER[self.opened[-1].kind] == token.kind:
            return False
        return any(_CLOSER[opened.kind] == token.kind for opened in self.opened[:-1])

    def _not_closed(self, opening: _Token, token: _Token) -> None:
        """Noted at the opening bracket, so that it counts for the machine in which it stands."""
        line = self.lines.line(token.start)
        if line == self.faulty_line:
            return
        self.faulty_line = line
        hint = f"add the missing `{_CLOSER[opening.kind]}`"
        if token.kind == "end" and self._has_comment(self._line_start(token.start), token.start):
            hint += "; the // comment takes the whole rest of its line, brackets included"
        message = f"this `{opening.kind}` is not closed, as noticed on line {line}"
        self._note(Fault("error", opening.start, message, hint))

    def _has_comment(self, start: int, end: int) -> bool:
        return any(match.lastgroup == "comment" for match in _TOKEN.finditer(self.text, start, end))

    def _line_start(self, offset: int) -> int:
        """Offset of the first character of the line in which `offset` lies."""
        return offset - self.lines.place(offset)[1] + 1

    def _trailing_comma(self, comma: _Token) -> None:
        self._note(
            Fault(
                "warning",
                comma.start,
                "there is a comma after the last value",
                "remove it: other readers of this file may refuse it",
            )
        )

    # -- scalars

    def _number(self, token: _Token) -> int | float:
        source = self.text[token.start : token.end]
        try:
            return int(source)
        except ValueError:
            pass
        if not source.lstrip("-").isdigit():
            return float(source)
        self.fault(token.start, "this number is far too long", "shorten it")
        return 0

    def _string(self, token: _Token) -> str:
        """The text meant; quotes, if any, are removed and escapes resolved."""
        kind = token.kind
        if kind == "string":
            content = self.text[token.start + 1 : token.end - 1]
            return self._unescape(content, token.start + 1) if "\\" in content else content
        self.fault(token.start, *_MISWRITTEN[kind])
        if kind == "word":
            return self.text[token.start : token.end]
        if kind == "open":
            return self.text[token.start + 1 : token.end].rstrip(" \t,")
        return self.text[token.start + 1 : token.end - 1]

    def _unescape(self, content: str, offset: int) -> str:
        def replace(match: re.Match[str]) -> str:
            escape = match[1]
            if escape[0] == "u" and len(escape) == 5:
                return chr(int(escape[1:], 16))
            known = _ESCAPED.get(escape)
            if known is None:
                self.fault(
                    offset + match.start(),
                    "this backslash begins no valid escape",
                    "write each backslash twice (C:\\\\folder\\\\file), or use / in paths",
                )
                return match[0]
            return known

        text = _ESCAPE.sub(replace, content)
        return _SURROGATES.sub(_join_surrogates, text)


def _join_surrogates(match: re.Match[str]) -> str:
    high, low = match[0][0], match[0][1]
    return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(low) - 0xDC00))
