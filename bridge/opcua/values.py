"""Variants of a data type: which built-in type carries it, and a value that says nothing."""

import dataclasses
import functools
import struct
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.ua import ua_binary

from .space import LazyAddressSpace, supertypes
from .times import EPOCH

Type = ua.VariantType

_LARGEST_BUILT_IN = 25  # Part 6, table 1: DiagnosticInfo
_ABSTRACT = {Type.Variant, Type.DataValue}
_ENUMERATION = ua.NodeId(ua.ObjectIds.Enumeration)

_NEUTRAL: dict[ua.VariantType, Any] = {
    Type.Boolean: False,
    Type.Float: 0.0,
    Type.Double: 0.0,
    Type.String: "",
    Type.DateTime: EPOCH,
    Type.Guid: uuid.UUID(int=0),
    Type.ByteString: b"",
    Type.NodeId: ua.NodeId(),
    Type.StatusCode: ua.StatusCode(),
    Type.QualifiedName: ua.QualifiedName("", 0),
    Type.LocalizedText: ua.LocalizedText(""),
    **dict.fromkeys(
        (Type.SByte, Type.Byte, Type.Int16, Type.UInt16, Type.Int32, Type.UInt32, Type.Int64, Type.UInt64), 0
    ),
}

_NUMBERS: dict[
    ua.VariantType, tuple[type, str]
] = {  # by built-in type: Python's type, and how `struct` names it
    Type.Boolean: (bool, "?"),
    Type.SByte: (int, "b"),
    Type.Byte: (int, "B"),
    Type.Int16: (int, "h"),
    Type.UInt16: (int, "H"),
    Type.Int32: (int, "i"),
    Type.UInt32: (int, "I"),
    Type.Int64: (int, "q"),
    Type.UInt64: (int, "Q"),
    Type.Float: (float, "f"),
    Type.Double: (float, "d"),
}


class ValueType(NamedTuple):
    """What a variable may hold: a data type, its value rank, and the built-in type if only one can carry it."""

    data_type: ua.NodeId
    value_rank: int  # -1 scalar, 1 array, -2 either
    built_in: ua.VariantType | None

    def variant(self, value: Any) -> ua.Variant:
        """The value as a Variant of this type; a Variant stays as it is. TypeError when it does not fit."""
        if not isinstance(value, ua.Variant):
            if self.built_in is None:
                value = ua.Variant(value)
            else:
                value = ua.Variant(value, self.built_in, is_array=isinstance(value, list))
        if value.VariantType is Type.Null or value.Value is None:
            return value
        if self.built_in is not None and value.VariantType is not self.built_in:
            raise TypeError(f"a value of type {value.VariantType.name} where {self.built_in.name} belongs")
        if self.value_rank == -1 and value.is_array:
            raise TypeError("an array where a single value belongs")
        if self.value_rank >= 1 and not value.is_array:
            raise TypeError("a single value where an array belongs")
        return value

    def neutral(self) -> ua.Variant:
        """Empty text, no time, zero, an empty array; Null where the type is abstract."""
        if self.built_in is None:
            return ua.Variant()
        if self.value_rank >= 1:
            return ua.Variant([], self.built_in, is_array=True)
        if self.built_in is Type.ExtensionObject:
            return ua.Variant(_neutral_structure(self.data_type), Type.ExtensionObject)
        return ua.Variant(_NEUTRAL[self.built_in], self.built_in)


@functools.cache
def encoder(held: ValueType) -> Callable[[Any], bytes]:
    """What encodes a value, or a Variant, as a Variant of this type (Part 6, 5.2.2.16).

    It raises TypeError, OverflowError, struct.error or UaError for a value that does not fit.
    """

    def encode(value: Any) -> bytes:
        encoded: bytes = ua_binary.variant_to_binary(held.variant(value))
        return encoded

    if held.built_in is None or held.built_in not in _NUMBERS or held.value_rank >= 0:
        return encode
    python_type, form = _NUMBERS[held.built_in]
    pack, built_in = struct.Struct(f"<B{form}").pack, held.built_in.value

    def encode_number(value: Any) -> bytes:
        if type(value) is ua.Variant and value.VariantType is held.built_in and not value.is_array:
            value = value.Value
        return pack(built_in, value) if type(value) is python_type else encode(value)

    return encode_number


def value_type(space: LazyAddressSpace, data_type: ua.NodeId, value_rank: int) -> ValueType:
    """The ValueType of a variable with these attributes."""
    built_in = None
    for ancestor in supertypes(space, data_type):
        if ancestor == _ENUMERATION:
            built_in = Type.Int32
            break
        if ancestor.NamespaceIndex == 0 and ancestor.Identifier <= _LARGEST_BUILT_IN:
            candidate = Type(ancestor.Identifier)
            built_in = None if candidate in _ABSTRACT else candidate
            break
    return ValueType(data_type, value_rank, built_in)


def _neutral_structure(data_type: ua.NodeId) -> Any:
    cls = ua.extension_objects_by_datatype.get(data_type)
    if cls is None:
        return None
    structure = cls()
    for field in dataclasses.fields(structure):  # asyncua takes the present as the default of a time
        if isinstance(getattr(structure, field.name), datetime):
            setattr(structure, field.name, EPOCH)
    return structure
