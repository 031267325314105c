"""The view service set (Part 4, 5.9): Browse in portions, BrowseNext, TranslateBrowsePathsToNodeIds.

In: the address space, and requests as decoded. Out: references, and for each session the continuation points of
what it did not get yet.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import ViewService

from .limits import Limits
from .ports import SCOPE
from .space import LazyAddressSpace

_WHOLE_PATH = ua.Index(2**32 - 1)
_REFERENCE_TYPE = ua.NodeClass.ReferenceType
Mask = ua.BrowseResultMask
Codes = ua.StatusCodes


@dataclass(slots=True)
class Remainder:
    """What is still to be told of one node: references, how many at once at most, and which of their fields."""

    references: Sequence[ua.ReferenceDescription]
    portion: int
    mask: int


class ContinuationPoints:
    """The continuation points of one session; how many there may be is limited."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[bytes, Remainder] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def full(self) -> bool:
        """Whether no other can be held."""
        return len(self._held) >= self._limit

    def hold(self, remainder: Remainder) -> bytes:
        """A new continuation point: random, so that nobody comes upon another's."""
        point = secrets.token_bytes(16)
        self._held[point] = remainder
        return point

    def take(self, point: bytes | None) -> Remainder | None:
        """What was held there; it is held no longer."""
        return None if point is None else self._held.pop(point, None)

    def clear(self) -> None:
        """Hold nothing any more."""
        self._held.clear()


class LazyViewService(ViewService):
    """Browse and TranslateBrowsePaths with the subtypes of each reference type looked up once.

    A reference to an instance leads somewhere only on the port that the instance is on.
    """

    def __init__(self, aspace: LazyAddressSpace, limits: Limits) -> None:
        super().__init__(aspace)
        self._shows = aspace.shows
        self._limits = limits
        self._subtypes: dict[ua.NodeId, frozenset[ua.NodeId]] = {}
        self._examined = 0  # references, for the present request

    def browse(
        self, params: ua.BrowseParameters, points: ContinuationPoints | None = None
    ) -> list[ua.BrowseResult]:
        """The references of each node; those beyond the portion asked for behind a continuation point.

        Without `points` (the server itself browses) all are given. ServiceError BadViewIdUnknown: there are no views;
        BadTooManyOperations: more references would have to be looked through than is allowed.
        """
        if not params.View.ViewId.is_null():
            raise ServiceError(Codes.BadViewIdUnknown)
        self._examined = 0
        if points is None:
            return [self._browse(description) for description in params.NodesToBrowse]
        portion = params.RequestedMaxReferencesPerNode or self._limits.references_per_response
        room = self._limits.references_per_response
        results = []
        for description in params.NodesToBrowse:
            result = self._browse(description)
            if result.StatusCode.is_good():
                remainder = Remainder(result.References, portion, description.ResultMask)
                room -= _answer(result, remainder, room, points)
            results.append(result)
        return results

    def browse_next(
        self, params: ua.BrowseNextParameters, points: ContinuationPoints
    ) -> list[ua.BrowseResult]:
        """The next portions, or nothing when the points are only to be released (Part 4, 5.9.3)."""
        room = self._limits.references_per_response
        results = []
        for point in params.ContinuationPoints:
            result = ua.BrowseResult()
            remainder = points.take(point)
            if remainder is None:
                result.StatusCode = ua.StatusCode(Codes.BadContinuationPointInvalid)
            elif not params.ReleaseContinuationPoints:
                room -= _answer(result, remainder, room, points)
            results.append(result)
        return results

    def _browse(self, desc: ua.BrowseDescription) -> ua.BrowseResult:
        result = ua.BrowseResult()
        node = self._aspace.get(desc.NodeId)
        if node is None:
            result.StatusCode = ua.StatusCode(Codes.BadNodeIdUnknown)
        elif desc.BrowseDirection is ua.BrowseDirection.Invalid:
            result.StatusCode = ua.StatusCode(Codes.BadBrowseDirectionInvalid)
        elif not desc.ReferenceTypeId.is_null() and not self._is_reference_type(desc.ReferenceTypeId):
            result.StatusCode = ua.StatusCode(Codes.BadReferenceTypeIdInvalid)
        else:
            result.References = [
                reference for reference in self._examine(node) if self._is_suitable_ref(desc, reference)
            ]
        return result

    def _examine(self, node: Any) -> list[ua.ReferenceDescription]:
        references: list[ua.ReferenceDescription] = node.references
        self._examined += len(references)
        if self._examined > self._limits.references_examined:
            raise ServiceError(Codes.BadTooManyOperations)
        if SCOPE.get() is None:
            return references
        return [reference for reference in references if self._shows(reference.NodeId)]

    def _is_reference_type(self, node_id: ua.NodeId) -> bool:
        node_class = self._aspace.read_attribute_value(node_id, ua.AttributeIds.NodeClass).Value
        return node_class is not None and node_class.Value == _REFERENCE_TYPE

    def _get_sub_ref(self, ref: ua.NodeId) -> frozenset[ua.NodeId]:
        subtypes = self._subtypes.get(ref)
        if subtypes is None:
            if not self._is_reference_type(ref):  # clients may name anything
                return frozenset()
            subtypes = self._subtypes[ref] = frozenset(super()._get_sub_ref(ref))
        return subtypes

    def translate_browsepaths_to_nodeids(self, browsepaths: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        """The nodes at the end of each path. ServiceError BadTooManyOperations as for `browse`."""
        self._examined = 0
        return [self._translate_browsepath_to_nodeid(path) for path in browsepaths]

    def _translate_browsepath_to_nodeid(self, path: ua.BrowsePath) -> ua.BrowsePathResult:
        result = ua.BrowsePathResult()
        elements = path.RelativePath.Elements
        if path.StartingNode not in self._aspace:
            result.StatusCode = ua.StatusCode(Codes.BadNodeIdUnknown)
        elif not elements:
            result.StatusCode = ua.StatusCode(Codes.BadNothingToDo)
        elif not all(element.TargetName.Name for element in elements):
            result.StatusCode = ua.StatusCode(Codes.BadBrowseNameInvalid)
        else:
            found = self._navigate(path.StartingNode, elements)
            result.Targets = [ua.BrowsePathTarget(node_id, _WHOLE_PATH) for node_id in found]
            if not found:
                result.StatusCode = ua.StatusCode(Codes.BadNoMatch)
        return result

    def _find_elements_in_node(self, el: ua.RelativePathElement, nodeid: ua.NodeId) -> list[ua.NodeId]:
        """Each node once: else a path to and fro between two nodes would grow without end."""
        node = self._aspace.get(nodeid)
        if node is None:
            return []
        found = (
            reference.NodeId
            for reference in self._examine(node)
            if reference.BrowseName == el.TargetName
            and reference.IsForward != el.IsInverse
            and self._suitable_reftype(el.ReferenceTypeId, reference.ReferenceTypeId, el.IncludeSubtypes)
        )
        return list(dict.fromkeys(found))


def _answer(result: ua.BrowseResult, remainder: Remainder, room: int, points: ContinuationPoints) -> int:
    """Put the next portion into the result and hold what is left; how many references that were."""
    references = remainder.references
    portion = min(remainder.portion, room)
    if len(references) <= portion:
        result.References = _masked(references, remainder.mask)
    elif points.full:
        result.References = []
        result.StatusCode = ua.StatusCode(Codes.BadNoContinuationPoints)
    else:
        result.References = _masked(references[:portion], remainder.mask)
        remainder.references = references[portion:]
        result.ContinuationPoint = points.hold(remainder)
    return len(result.References)


def _masked(references: Sequence[ua.ReferenceDescription], mask: int) -> list[ua.ReferenceDescription]:
    """The references with only the fields that the result mask names (Part 4, 5.9.2)."""
    if mask & Mask.All == Mask.All:
        return list(references)
    return [_with_fields(reference, mask) for reference in references]


def _with_fields(reference: ua.ReferenceDescription, mask: int) -> ua.ReferenceDescription:
    shown = ua.ReferenceDescription(IsForward=False, NodeId=reference.NodeId)
    if mask & Mask.ReferenceTypeId:
        shown.ReferenceTypeId = reference.ReferenceTypeId
    if mask & Mask.IsForward:
        shown.IsForward = reference.IsForward
    if mask & Mask.NodeClass:
        shown.NodeClass = reference.NodeClass
    if mask & Mask.BrowseName:
        shown.BrowseName = reference.BrowseName
    if mask & Mask.DisplayName:
        shown.DisplayName = reference.DisplayName
    if mask & Mask.TypeDefinition:
        shown.TypeDefinition = reference.TypeDefinition
    return shown
