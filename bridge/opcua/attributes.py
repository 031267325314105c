"""The attribute service set (Part 4, 5.11): Read with all its parameters, and Write for the server alone.

In: the address space, and requests as decoded. Out: data values as the client asked for them.
"""

from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeService
from asyncua.ua.ua_binary import variant_to_binary

from .limits import Limits
from .ranges import part_of
from .space import LazyAddressSpace

_BOTH = ua.TimestampsToReturn.Both
_SERVER_TIME = {ua.TimestampsToReturn.Server, _BOTH}
_SOURCE_TIME = {ua.TimestampsToReturn.Source, _BOTH}
_BINARY = "Default Binary"
Codes = ua.StatusCodes


class LazyAttributeService(AttributeService):
    """Reading for all; writing for the server alone, since no value here is a client's to set."""

    def __init__(self, aspace: LazyAddressSpace, limits: Limits) -> None:
        super().__init__(aspace)
        self._limits = limits

    def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """The values, or why there are none (Part 4, 5.11.2). Values are never older than the request.

        ServiceError BadMaxAgeInvalid, BadTimestampsToReturnInvalid, BadResponseTooLarge.
        """
        if not params.MaxAge >= 0:  # NaN is refused too
            raise ServiceError(Codes.BadMaxAgeInvalid)
        if params.TimestampsToReturn is ua.TimestampsToReturn.Invalid:
            raise ServiceError(Codes.BadTimestampsToReturnInvalid)
        now = datetime.now(UTC) if params.TimestampsToReturn in _SERVER_TIME else None
        with_source = params.TimestampsToReturn in _SOURCE_TIME
        room = self._limits.message_size
        weights: dict[int, int] = {}
        results = []
        for item in params.NodesToRead:
            value = self._read(item)
            room -= _weight(value.Value, weights)
            if room < 0:
                raise ServiceError(Codes.BadResponseTooLarge)
            source = (
                value.SourceTimestamp if with_source and item.AttributeId == ua.AttributeIds.Value else None
            )
            results.append(
                ua.DataValue(
                    Value=value.Value,
                    StatusCode=value.StatusCode,
                    SourceTimestamp=source,
                    ServerTimestamp=now,
                )
            )
        return results

    def _read(self, item: ua.ReadValueId) -> ua.DataValue:
        value = self._aspace.read_attribute_value(item.NodeId, item.AttributeId)
        if value.Value is None or (value.StatusCode is not None and value.StatusCode.is_bad()):
            return value
        if item.DataEncoding.Name:
            refusal = _encoding_refusal(item, value.Value)
            if refusal:
                return ua.DataValue(StatusCode=ua.StatusCode(refusal))
        if item.IndexRange:
            try:
                part = part_of(value.Value, item.IndexRange)
            except ua.UaStatusCodeError as error:
                return ua.DataValue(StatusCode=ua.StatusCode(error.code))
            value = ua.DataValue(part, value.StatusCode, value.SourceTimestamp)
        return value

    async def write(
        self,
        params: ua.WriteParameters,
        user: User = User(role=UserRole.Admin),  # noqa: B008 (asyncua's own signature)
    ) -> list[ua.StatusCode]:
        """As asyncua's for the server itself; BadNotWritable for clients."""
        if user.role is UserRole.Admin:
            written: list[ua.StatusCode] = await super().write(params, user)
            return written
        unknown, refused = Codes.BadNodeIdUnknown, Codes.BadNotWritable
        return [
            ua.StatusCode(refused if item.NodeId in self._aspace else unknown) for item in params.NodesToWrite
        ]


def _encoding_refusal(item: ua.ReadValueId, value: ua.Variant) -> int:
    """Why a value cannot be had in an encoding that the client names, or Good (0); structures alone have any."""
    is_structure = value.VariantType is ua.VariantType.ExtensionObject
    if item.AttributeId != ua.AttributeIds.Value or not is_structure:
        return int(Codes.BadDataEncodingInvalid)
    is_binary = item.DataEncoding.NamespaceIndex == 0 and item.DataEncoding.Name == _BINARY
    return 0 if is_binary else int(Codes.BadDataEncodingUnsupported)


def _weight(variant: ua.Variant | None, known: dict[int, int]) -> int:
    """Bytes that a value takes in an answer, of single numbers and structures none; `known` by identity."""
    value: Any = None if variant is None else variant.Value
    if isinstance(value, (str, bytes)):
        return len(value)
    if not isinstance(value, list):
        return 0
    weight = known.get(id(variant))
    if weight is None:
        weight = known[id(variant)] = len(variant_to_binary(variant))
    return weight
