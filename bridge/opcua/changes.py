"""A change of a value, encoded once for all who hear of it.

In: an encoded Variant, a status code and times; or a DataValue. Out: the bytes of a DataValue (Part 6, 5.2.2.17).
"""

from __future__ import annotations

import struct

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

from .times import ticks_now, to_ticks

BAD = 0x80000000  # the severity bits of a status code (Part 4, 7.39)
OVERFLOW = 0x480  # info type DataValue, and its Overflow bit (Part 4, 7.39.1)
SOURCE, SERVER, BOTH, NEITHER = range(4)  # TimestampsToReturn (Part 4, 7.40)
_VALUE_MASK, _STATUS_MASK, _SOURCE_MASK, _SERVER_MASK = 1, 2, 4, 8
_TIMES = struct.Struct("<qq").pack
_USUAL = bytes((_VALUE_MASK | _SOURCE_MASK | _SERVER_MASK,))  # a good value with both times
_TIME = struct.Struct("<q").pack
_STATUS = struct.Struct("<I").pack
_NO_TIME = 0


class Change:
    """What an attribute has become. `variant` is encoded, and empty if there is none; times are ticks, 0 for none."""

    __slots__ = ("_both", "server", "source", "status", "variant")

    def __init__(self, variant: bytes, status: int, source: int, server: int | None = None) -> None:
        self.variant = b"" if status & BAD else variant
        self.status = status
        self.source = source
        self.server = ticks_now() if server is None else server
        self._both: bytes | None = None

    @classmethod
    def of(cls, value: ua.DataValue) -> Change:
        """The same as a DataValue says."""
        variant = b"" if value.Value is None else ua_binary.variant_to_binary(value.Value)
        status = 0 if value.StatusCode is None else value.StatusCode.value
        source = _NO_TIME if value.SourceTimestamp is None else to_ticks(value.SourceTimestamp)
        return cls(variant, status, source)

    @property
    def decoded(self) -> ua.Variant:
        """The value; Null if there is none."""
        return ua_binary.variant_from_binary(Buffer(self.variant)) if self.variant else ua.Variant()

    def encoded(self, timestamps: int = BOTH, info: int = 0) -> bytes:
        """A DataValue with these timestamps, and the info bits added to its status."""
        if timestamps == BOTH and not info:
            both = self._both
            if both is None:
                both = self._both = self._encode(BOTH, 0)
            return both
        return self._encode(timestamps, info)

    def _encode(self, timestamps: int, info: int) -> bytes:
        if self.variant and not self.status and self.source and timestamps == BOTH and not info:
            return _USUAL + self.variant + _TIMES(self.source, self.server)
        mask, parts = 0, [self.variant]
        if self.variant:
            mask |= _VALUE_MASK
        status = self.status | info
        if status:
            mask |= _STATUS_MASK
            parts.append(_STATUS(status))
        source = timestamps in (SOURCE, BOTH) and self.source != _NO_TIME
        server = timestamps in (SERVER, BOTH)
        if source and server:
            mask |= _SOURCE_MASK | _SERVER_MASK
            parts.append(_TIMES(self.source, self.server))
        elif source:
            mask |= _SOURCE_MASK
            parts.append(_TIME(self.source))
        elif server:
            mask |= _SERVER_MASK
            parts.append(_TIME(self.server))
        return bytes((mask,)) + b"".join(parts)
