"""The reader: values, positions, and what it says of broken files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.aggregator import jsonc
from bridge.aggregator.jsonc import Array, Node, Object, plain

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


def value_of(text: str) -> object:
    document = jsonc.parse(text)
    assert document.faults == ()
    assert document.root is not None
    return plain(document.root)


def faults(text: str) -> list[tuple[int, int, str]]:
    document = jsonc.parse(text)
    return [(*document.lines.place(fault.offset), fault.message) for fault in document.faults]


@settings(deadline=None)
@given(json_values, st.sampled_from([None, 0, 2]), st.booleans())
def test_what_json_loads_accepts_is_read_to_the_same_value(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert value_of(text) == json.loads(text)


@settings(deadline=None)
@given(st.text(alphabet="{}[]:,\"\\/*# \n\tabtrue0129.-eE'“", max_size=60))
def test_any_text_is_read_without_a_crash_and_good_json_without_a_fault(text: str) -> None:
    document = jsonc.parse(text)
    try:
        expected = json.loads(text)
    except ValueError:
        assert document.faults or "//" in text or "/*" in text or document.root is None
        return
    assert document.root is not None
    assert plain(document.root) == expected
    assert all(fault.key is not None for fault in document.faults)  # json lets duplicate keys pass


@settings(deadline=None)
@given(st.text(max_size=200))
def test_arbitrary_text_never_crashes_the_reader(text: str) -> None:
    assert len(jsonc.parse(text).faults) <= jsonc.MAX_FAULTS


@settings(deadline=None)
@given(json_values)
def test_the_span_of_every_value_and_key_is_its_own_source(value: Any) -> None:
    text = "// first\n" + json.dumps(value, indent=1) + "\n/* last */"
    document = jsonc.parse(text)

    def visit(node: Node) -> None:
        assert json.loads(text[node.start : node.end]) == plain(node)
        if isinstance(node, Array):
            for item in node.items:
                visit(item)
        elif isinstance(node, Object):
            for member in node.members:
                assert json.loads(text[member.start : member.end]) == member.key
                visit(member.value)

    assert document.root is not None
    visit(document.root)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_and_columns_count_from_one_with_every_kind_of_line_end(newline: str) -> None:
    document = jsonc.parse(newline.join(["{", '  "ä": 1, /* x */ "b": [', "    true]}"]))
    assert isinstance(document.root, Object)
    member = document.root.index["b"]
    assert document.lines.place(document.root.index["ä"].start) == (2, 3)
    assert document.lines.place(member.start) == (2, 19)
    assert isinstance(member.value, Array)
    assert document.lines.place(member.value.items[0].start) == (3, 5)


def test_comments_are_passed_over_but_not_inside_texts() -> None:
    assert value_of('{"a": "http://x/*y*/", // "b": 2\n /* 3\n4 */ "c": 5}') == {"a": "http://x/*y*/", "c": 5}


def test_a_trailing_comma_is_a_warning() -> None:
    document = jsonc.parse('{"a": [1,],}')
    assert [fault.severity for fault in document.faults] == ["warning", "warning"]
    assert document.root is not None
    assert plain(document.root) == {"a": [1]}


def test_a_duplicate_key_is_an_error_and_the_last_value_is_taken() -> None:
    document = jsonc.parse('{"a": 1,\n "a": 2}')
    assert faults('{"a": 1,\n "a": 2}') == [(2, 2, "this key stands twice in one object, first on line 1")]
    assert document.root is not None
    assert plain(document.root) == {"a": 2}


@pytest.mark.parametrize(
    ("text", "place", "says", "value"),
    [
        ('{"a": 1\n "b": 2}', (1, 8), "comma is missing", {"a": 1, "b": 2}),
        ("[1\n2]", (1, 3), "comma is missing", [1, 2]),
        ('{"a": 1,,\n"b": 2}', (1, 9), "comma too many", {"a": 1, "b": 2}),
        ('{"a" 1,\n"b": 2}', (1, 5), "colon is missing", {"a": 1, "b": 2}),
        ('{"a": ,\n"b": 2}', (1, 2), "no value", {"b": 2}),
        ('{"a",\n"b": 2}', (1, 2), "no value", {"b": 2}),
        ('{"a": "x,\n"b": 2}', (1, 7), "not closed on its line", {"a": "x", "b": 2}),
        ('{"a: "x",\n"b": 2}', (1, 7), "colon is missing", None),
        ("{'a': 1}", (1, 2), "single quotes", {"a": 1}),
        ("{“a”: 1}", (1, 2), "typographic quotes", {"a": 1}),
        ("{a: 1}", (1, 2), "in quotes", {"a": 1}),
        ('{"a": http://h:1/x,\n"b": 2}', (1, 7), "in quotes", {"a": "http://h:1/x", "b": 2}),
        ('{"a": True}', (1, 7), "in quotes", {"a": "True"}),
        ('{"a": NaN}', (1, 7), "in quotes", {"a": "NaN"}),
        ('{"a": 01}', (1, 7), "in quotes", {"a": "01"}),
        ('{"a": 1} # end', (1, 10), "does not begin a comment", {"a": 1}),
        ('{"a": 1 /* end', (1, 9), "comment is not closed", {"a": 1}),
        ('{\u00a0"a": 1}', (1, 2), "invisible character", {"a": 1}),
        ('{"a": "x\ty"}', (1, 7), "control character", {"a": "x\ty"}),
        (r'{"a": "C:\secret"}', (1, 10), "backslash", {"a": r"C:\secret"}),
        ('[{"a": 1,\n{"b": 2}]', (1, 2), "`{` is not closed", [{"a": 1}, {"b": 2}]),
        ('{"a": [1, 2}', (1, 7), "`[` is not closed", {"a": [1, 2]}),
        ('[{"a": 1\n', (1, 2), "`{` is not closed", [{"a": 1}]),
        ("[1}, 2]", (1, 3), "`}` has no place here", [1, 2]),
        ('{"a": 1},\n{"b": 2}', (1, 9), "more text after the end", [{"a": 1}, {"b": 2}]),
        ("9" * 5000, (1, 1), "far too long", 0),
    ],
)
def test_each_fault_is_told_once_at_its_place_and_reading_goes_on(
    text: str, place: tuple[int, int], says: str, value: object
) -> None:
    document = jsonc.parse(text)
    [(line, column, message)] = faults(text)
    assert (line, column) == place
    assert says in message
    if value is not None:
        assert document.root is not None
        assert plain(document.root) == value


def test_all_faults_of_a_file_are_told() -> None:
    text = '[\n{"a": 1 "b": 2},\n{"a": x},\n{"a": "y\n}\n{"a" 1}\n]'
    assert [line for line, _, _ in faults(text)] == [2, 3, 4, 5, 6]


def test_a_comment_that_swallows_the_end_of_a_one_line_file_is_pointed_out() -> None:
    [fault] = jsonc.parse('{"a": 1, // note "b": 2 }').faults
    assert "comment takes the whole rest of its line" in fault.hint


def test_nesting_is_bounded() -> None:
    fine = "[" * jsonc.MAX_DEPTH + "]" * jsonc.MAX_DEPTH
    assert faults(fine) == []
    assert "nested" in faults("[" + fine + ", 1]")[0][2]
    assert jsonc.parse("[" * 100_000).faults


def test_reading_stops_after_many_faults() -> None:
    found = faults("[" + "x,\n" * 1000)
    assert len(found) == jsonc.MAX_FAULTS
    assert "reading stopped" in found[-1][2]


def test_neither_faults_nor_reprs_quote_the_file() -> None:
    document = jsonc.parse('{"SeCrEt": "SeCrEt", SeCrEt: SeCrEt "SeCrEt" \'SeCrEt\', "SeCrEt')
    assert document.faults
    assert "SeCrEt" not in repr(document)
