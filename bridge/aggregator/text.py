"""Bytes of a file to text, and offsets in that text to lines and columns.

In: the bytes of config.json or of a secret file. Out: the text and the name of its encoding (so that an editor can
write the file back as it was), or `NotText` with the place and the remedy.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_NEWLINE = re.compile(r"\r\n|\r|\n")


class NotText(ValueError):
    """The bytes are no text in a known encoding. `line` and `column` are None where no place can be named."""

    def __init__(self, message: str, hint: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.line, self.column = message, hint, line, column


class Lines:
    """Finds line and column of a character offset; both count from 1, a tab is one column."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]

    def place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, offset: int) -> int:
        return bisect_right(self._starts, offset)


def decode(data: bytes) -> tuple[str, str, bytes]:
    """Returns (text without byte order mark, codec name, byte order mark). Raises NotText.

    UTF-8 with or without mark, and UTF-16 with or without mark (Windows editors and PowerShell's `>` write it).
    """
    for mark, codec, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            if name == "UTF-32":
                raise NotText("the file is UTF-32 text", "save it as UTF-8")
            return _decode(data[len(mark) :], codec, name), codec, mark
    if data[:1] != b"\0" and data[1:2] == b"\0":
        return _decode(data, "utf-16-le", "UTF-16"), "utf-16-le", b""
    if data[:1] == b"\0" and data[1:2] not in (b"", b"\0"):
        return _decode(data, "utf-16-be", "UTF-16"), "utf-16-be", b""
    return _decode(data, "utf-8", "UTF-8"), "utf-8", b""


def _decode(data: bytes, codec: str, name: str) -> str:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        start = error.start
    else:
        if "\0" not in text:
            return text
        raise NotText(*_binary(), *Lines(text).place(text.index("\0")))
    before = data[:start].decode(codec)
    if "\0" in before:
        raise NotText(*_binary(), *Lines(before).place(before.index("\0")))
    # Raised outside the except clause: the decoder's own error holds the whole file, keys included.
    raise NotText(
        f"this is not valid {name} text",
        "the file was probably saved in another encoding, such as Windows-1252; save it as UTF-8",
        *Lines(before).place(len(before)),
    )


def _binary() -> tuple[str, str]:
    return "the file holds zero bytes: it is not a text file", "check that this is the right file"
