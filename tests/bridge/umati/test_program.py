from __future__ import annotations

from itertools import pairwise, product

import pytest
from asyncua import ua

from bridge.opcua.typetable import TypeTable
from bridge.umati.program import LEGAL, ProgramState, way
from bridge.umati.states import ItemState, Mode

S = ProgramState


@pytest.mark.parametrize(("previous", "following"), list(product(ProgramState, ProgramState)))
def test_every_state_is_reached_by_legal_steps(previous: ProgramState, following: ProgramState) -> None:
    path = (previous, *way(previous, following))
    assert path[-1] is following
    assert all(after in LEGAL[before] for before, after in pairwise(path))


def test_a_jump_goes_through_the_states_between() -> None:
    assert way(S.ENDED, S.RUNNING) == (S.INITIALIZING, S.RUNNING)
    assert way(S.INTERRUPTED, S.ENDED) == (S.RUNNING, S.ENDED)
    assert way(S.INITIALIZING, S.ENDED) == (S.RUNNING, S.ENDED)
    assert way(S.RUNNING, S.RUNNING) == ()


def test_states_and_transitions_are_those_of_the_compiled_types() -> None:
    table = TypeTable()

    def references(node_id: ua.NodeId, kind: int) -> list[ua.ReferenceDescription]:
        index = table.index(node_id)
        assert index is not None
        found = table.make(index).references
        return [r for r in found if r.IsForward and r.ReferenceTypeId == ua.NodeId(kind)]

    def place(prefix: str, number: int) -> ua.NodeId:
        return ua.NodeId(number, table.prefixes[prefix])

    types = {ItemState: ("mach", 1002), Mode: ("mt", 1003), ProgramState: ("mt", 15)}
    for kind, machine_type in types.items():
        declared = {r.NodeId: r for r in references(place(*machine_type), ua.ObjectIds.HasComponent)}
        for member in kind:
            state = member.value
            node_id = place(state.prefix, state.identifier)
            assert declared[node_id].BrowseName.Name == state.text
            (number,) = references(node_id, ua.ObjectIds.HasProperty)
            index = table.index(number.NodeId)
            assert index is not None
            value = table.make(index).attributes[ua.AttributeIds.Value].value
            assert value is not None
            assert value.Value is not None
            assert value.Value.Value == state.number
    by_id = {place(s.value.prefix, s.value.identifier): s for s in ProgramState}
    transitions = [
        (references(r.NodeId, ua.ObjectIds.FromState)[0], references(r.NodeId, ua.ObjectIds.ToState)[0])
        for r in references(place("mt", 15), ua.ObjectIds.HasComponent)
        if r.TypeDefinition == ua.NodeId(ua.ObjectIds.TransitionType)
    ]
    ways = {(by_id[start.NodeId], by_id[end.NodeId]) for start, end in transitions}
    assert ways - {(S.RUNNING, S.RUNNING)} == {(a, b) for a, following in LEGAL.items() for b in following}
