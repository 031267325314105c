"""What a client wants to hear of a monitored item (Part 4, 7.22): its filter, checked.

In: a filter as decoded, and the address space. Out: a trigger and an absolute deadband, or fields and a where clause.
"""

import logging
import math
from typing import Any

from asyncua import ua

from .limits import Limits
from .monitored import DataItem, EventItem, WhereClause
from .space import LazyAddressSpace

Codes = ua.StatusCodes
Id = ua.AttributeIds
Type = ua.VariantType
_EU_RANGE = ua.QualifiedName("EURange", 0)
_NUMBERS = {
    Type.Null,  # nothing yet
    Type.SByte,
    Type.Byte,
    Type.Int16,
    Type.UInt16,
    Type.Int32,
    Type.UInt32,
    Type.Int64,
    Type.UInt64,
    Type.Float,
    Type.Double,
}


class Filters:
    """Gives items their filters; UaStatusCodeError for one that makes no sense there."""

    def __init__(self, space: LazyAddressSpace, limits: Limits) -> None:
        self._space = space
        self._limits = limits

    def of_events(self, item: EventItem, wanted: Any) -> None:
        """An EventFilter is needed."""
        wanted = _given(wanted)
        if not hasattr(wanted, "SelectClauses"):
            raise refused(Codes.BadFilterNotAllowed if wanted is not None else Codes.BadEventFilterInvalid)
        selected = wanted.SelectClauses or []
        elements = (wanted.WhereClause and wanted.WhereClause.Elements) or ()
        if len(selected) > self._limits.select_clauses or len(elements) > self._limits.where_elements:
            raise refused(Codes.BadMonitoredItemFilterInvalid)
        item.filter(selected, WhereClause(logging.getLogger(__name__), self._space, wanted.WhereClause))

    def of_changes(self, item: DataItem, wanted: Any) -> None:
        """A DataChangeFilter, or none: then each new status and value counts."""
        wanted = _given(wanted)
        if wanted is None:
            item.trigger, item.deadband = ua.DataChangeTrigger.StatusValue, 0.0
            return
        if not hasattr(wanted, "DeadbandType"):
            is_aggregate = hasattr(wanted, "AggregateType")
            raise refused(
                Codes.BadMonitoredItemFilterUnsupported if is_aggregate else Codes.BadFilterNotAllowed
            )
        item.trigger, item.deadband = wanted.Trigger, self._deadband(item, wanted)

    def _deadband(self, item: DataItem, wanted: ua.DataChangeFilter) -> float:
        """In the value's own unit."""
        if wanted.DeadbandType == ua.DeadbandType.None_:
            return 0.0
        present = self._space.read_attribute_value(item.node_id, item.attribute).Value
        if item.attribute != Id.Value or (present is not None and present.VariantType not in _NUMBERS):
            raise refused(Codes.BadFilterNotAllowed)
        width = float(wanted.DeadbandValue)
        if not (width >= 0 and math.isfinite(width)):
            raise refused(Codes.BadDeadbandFilterInvalid)
        if wanted.DeadbandType == ua.DeadbandType.Absolute:
            return width
        eu_range = self._eu_range(item.node_id)
        if wanted.DeadbandType != ua.DeadbandType.Percent or eu_range is None:
            raise refused(Codes.BadMonitoredItemFilterUnsupported)
        if width > 100:
            raise refused(Codes.BadDeadbandFilterInvalid)
        return float(width / 100 * (eu_range.High - eu_range.Low))

    def _eu_range(self, node_id: ua.NodeId) -> ua.Range | None:
        node = self._space.get(node_id)
        for reference in [] if node is None else node.references:  # it may have gone since
            if reference.IsForward and reference.BrowseName == _EU_RANGE:
                found = self._space.value(reference.NodeId, Id.Value)
                return found if isinstance(found, ua.Range) else None
        return None


def _given(wanted: Any) -> Any:
    """A filter, or None: clients may send an extension object with nothing in it."""
    if isinstance(wanted, ua.ExtensionObject):
        if not wanted.Body and wanted.TypeId.is_null():
            return None
        raise refused(Codes.BadMonitoredItemFilterInvalid)
    return wanted


def refused(code: int) -> ua.UaStatusCodeError:
    """The error for a status code."""
    return ua.UaStatusCodeError(code)
