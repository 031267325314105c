"""Bytes to text."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.aggregator.text import NotText, decode


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_utf8_and_utf16_are_read_with_and_without_a_byte_order_mark(mark: bytes, codec: str) -> None:
    assert decode(mark + "{ö}".encode(codec)) == ("{ö}", codec, mark)


def test_bytes_of_another_encoding_are_refused_with_their_place() -> None:
    with pytest.raises(NotText, match="not valid UTF-8") as caught:
        decode(b'{\r\n  "custom_name": "M\xfcller"}')
    assert (caught.value.line, caught.value.column) == (2, 20)
    assert "Windows-1252" in caught.value.hint


@pytest.mark.parametrize("data", [b"abc\0def", codecs.BOM_UTF32_LE + b"a\0\0\0", b"\0\0\0\0", b"ab\0\xff"])
def test_binary_files_and_utf32_are_refused(data: bytes) -> None:
    with pytest.raises(NotText):
        decode(data)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        text, codec, mark = decode(data)
    except NotText:
        return
    assert mark + text.encode(codec) == data
