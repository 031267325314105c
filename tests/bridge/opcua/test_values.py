"""Values become the bytes of a Variant of their variable's type, or are refused."""

import struct

import pytest
from asyncua import ua
from asyncua.ua import ua_binary
from hypothesis import given
from hypothesis import strategies as st

from bridge.opcua.values import ValueType, encoder

Type = ua.VariantType
INTEGERS = [
    Type.SByte,
    Type.Byte,
    Type.Int16,
    Type.UInt16,
    Type.Int32,
    Type.UInt32,
    Type.Int64,
    Type.UInt64,
]
REFUSALS = (TypeError, OverflowError, struct.error, ua.UaError)


def held_by(built_in: ua.VariantType, rank: int = -1) -> ValueType:
    return ValueType(ua.NodeId(built_in.value), rank, built_in)


@given(
    st.sampled_from([*INTEGERS, Type.Boolean, Type.Float, Type.Double]),
    st.sampled_from([-3, -2, -1]),
    st.one_of(st.booleans(), st.integers(-(2**64), 2**64), st.floats(allow_nan=False)),
)
def test_a_number_has_the_bytes_of_its_variant_or_both_are_refused(
    built_in: ua.VariantType, rank: int, value: bool | int | float
) -> None:
    held = held_by(built_in, rank)
    try:
        wanted = ua_binary.variant_to_binary(ua.Variant(value, built_in))
    except REFUSALS:
        with pytest.raises(REFUSALS):
            encoder(held)(value)
    else:
        assert encoder(held)(value) == wanted


@pytest.mark.parametrize(("built_in", "value"), [(Type.Byte, 256), (Type.Float, 1e300), (Type.Double, "hot")])
def test_what_does_not_fit_is_refused(built_in: ua.VariantType, value: object) -> None:
    with pytest.raises(REFUSALS):
        encoder(held_by(built_in))(value)


def test_a_number_where_an_array_belongs_is_refused() -> None:
    with pytest.raises(TypeError, match="a single value where an array belongs"):
        encoder(held_by(Type.Double, 1))(1.0)
