"""A numeric range names a part of an array, a text or a byte string, and nothing else."""

import pytest
from asyncua import ua

from bridge.opcua.ranges import part_of

Type = ua.VariantType
Codes = ua.StatusCodes

NUMBERS = ua.Variant([10, 11, 12, 13], Type.Int32)
TEXT = ua.Variant("filament", Type.String)
TEXTS = ua.Variant(["red", "green", "blue"], Type.String)
BYTES = ua.Variant(b"\x00\x01\x02", Type.ByteString)
MATRIX = ua.Variant([[1, 2, 3], [4, 5, 6]], Type.Int32)


@pytest.mark.parametrize(
    ("value", "text", "part"),
    [
        (NUMBERS, "0", [10]),
        (NUMBERS, "1:2", [11, 12]),
        (NUMBERS, "3:9", [13]),
        (TEXT, "0:2", "fil"),
        (TEXT, "7", "t"),
        (BYTES, "1:5", b"\x01\x02"),
        (TEXTS, "1:2", ["green", "blue"]),
        (TEXTS, "0:1,1:2", ["ed", "re"]),
        (MATRIX, "0:1,1:2", [[2, 3], [5, 6]]),
        (MATRIX, "1,0", [[4]]),
        (ua.Variant([0, 0], Type.Int32), "0", [0]),
        (ua.Variant([[0, 0]], Type.Int32), "0,1", [[0]]),
    ],
)
def test_a_part_has_the_type_of_the_whole(value: ua.Variant, text: str, part: object) -> None:
    found = part_of(value, text)
    assert (found.Value, found.VariantType, found.is_array) == (part, value.VariantType, value.is_array)


def test_a_part_of_a_matrix_tells_its_dimensions() -> None:
    assert part_of(MATRIX, "0:1,2").Dimensions == [2, 1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "1:",
        ":1",
        "2:1",
        "2:2",
        "-1",
        "a",
        "0:1:2",
        " 1",
        "1 ",
        "1,",
        ",1",
        "0x1",
        "٣",
        "4294967296",
        "1e2",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        part_of(NUMBERS, text)
    assert refused.value.code == Codes.BadIndexRangeInvalid


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NUMBERS, "4"),
        (NUMBERS, "0,0"),
        (TEXT, "8:9"),
        (TEXT, "0,0"),
        (TEXTS, "0:2,9"),
        (MATRIX, "0"),
        (MATRIX, "0,3"),
        (MATRIX, "2,0"),
        (ua.Variant(1.5, Type.Double), "0"),
        (ua.Variant([], Type.Int32, is_array=True), "0"),
        (ua.Variant(None, Type.String), "0"),
        (ua.Variant(), "0"),
    ],
)
def test_where_nothing_is_there_is_no_data(value: ua.Variant, text: str) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        part_of(value, text)
    assert refused.value.code == Codes.BadIndexRangeNoData
