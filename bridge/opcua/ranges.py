"""Numeric ranges (Part 4, 7.27): which part of an array, a text or a byte string a client wants.

In: the text of an IndexRange and a value. Out: the part of the value, of the same type.
"""

import re
from typing import Any, NamedTuple

from asyncua import ua

_BOUND = re.compile(r"[0-9]{1,10}", re.ASCII)
_LARGEST = 2**32 - 1
_TEXT = {ua.VariantType.String, ua.VariantType.ByteString}


class Bounds(NamedTuple):
    """First and last index of one dimension, both included."""

    first: int
    last: int

    def of(self, sequence: Any) -> Any:
        """The part of the sequence; shorter when the sequence ends before."""
        return sequence[self.first : self.last + 1]


def parse(text: str) -> list[Bounds]:
    """The bounds of each dimension of a range such as ``2``, ``0:3`` or ``1:2,0``.

    UaStatusCodeError BadIndexRangeInvalid for any other text.
    """
    return [_bounds(part) for part in text.split(",")]


def _bounds(text: str) -> Bounds:
    parts = text.split(":")
    if len(parts) > 2 or not all(_BOUND.fullmatch(part) for part in parts):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadIndexRangeInvalid)
    first, last = int(parts[0]), int(parts[-1])
    if last > _LARGEST or (len(parts) == 2 and first >= last):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadIndexRangeInvalid)
    return Bounds(first, last)


def part_of(value: ua.Variant, text: str) -> ua.Variant:
    """The part of a value that a range names.

    UaStatusCodeError BadIndexRangeInvalid for a text that is no range, BadIndexRangeNoData when the value has
    nothing there: other dimensions, no elements within, or neither an array nor a text.
    """
    dimensions = parse(text)
    is_text = value.VariantType in _TEXT
    if value.is_array:
        rank = len(value.Dimensions or (0,))
        fits = len(dimensions) == rank or (is_text and len(dimensions) == rank + 1)
    else:
        rank = 0
        fits = is_text and len(dimensions) == 1
    part = _part(value.Value, dimensions, rank) if fits else None
    if not part:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadIndexRangeNoData)
    return ua.Variant(part, value.VariantType, _shape(part, rank), is_array=value.is_array)


def _part(value: Any, dimensions: list[Bounds], rank: int) -> Any:
    """None or empty where nothing is; elements of an array of texts that are too short become empty."""
    if not dimensions or value is None:
        return value
    if rank == 0:
        return dimensions[0].of(value)
    inner = [_part(item, dimensions[1:], rank - 1) for item in dimensions[0].of(value)]
    return inner if len(dimensions) == 1 or any(inner) else None


def _shape(part: Any, rank: int) -> list[int] | None:
    if rank < 2:
        return None
    lengths = []
    for _ in range(rank):
        lengths.append(len(part))
        part = part[0]
    return lengths
