"""What the type of a finite state machine says of its transitions (OPC 10000-16, 4.4)."""

from collections.abc import Iterator
from typing import NamedTuple

from asyncua import ua

from .declarations import HAS_COMPONENT, HAS_PROPERTY
from .space import LazyAddressSpace, supertypes

FROM_STATE = ua.NodeId(ua.ObjectIds.FromState)
TO_STATE = ua.NodeId(ua.ObjectIds.ToState)


class StateTransition(NamedTuple):
    """A transition from one state to another, as LastTransition shows it."""

    node_id: ua.NodeId
    text: ua.LocalizedText
    number: int


def transitions(
    space: LazyAddressSpace, machine_type: ua.NodeId
) -> dict[tuple[ua.NodeId, ua.NodeId], StateTransition]:
    """The transitions that a type of state machines declares or inherits, by the states that they lead from and to."""
    found: dict[tuple[ua.NodeId, ua.NodeId], StateTransition] = {}
    for declaring in supertypes(space, machine_type):
        for node_id in _targets(space, declaring, HAS_COMPONENT):
            for source in _targets(space, node_id, FROM_STATE):
                for target in _targets(space, node_id, TO_STATE):
                    text = space.value(node_id, ua.AttributeIds.DisplayName)
                    number = next(
                        (
                            space.value(one, ua.AttributeIds.Value)
                            for one in _targets(space, node_id, HAS_PROPERTY)
                            if space.value(one, ua.AttributeIds.BrowseName).Name == "TransitionNumber"
                        ),
                        0,
                    )
                    found.setdefault((source, target), StateTransition(node_id, text, number))
    return found


def _targets(space: LazyAddressSpace, node_id: ua.NodeId, reference_type: ua.NodeId) -> Iterator[ua.NodeId]:
    for reference in space.node(node_id).references:
        if reference.IsForward and reference.ReferenceTypeId == reference_type and reference.NodeId in space:
            yield reference.NodeId
