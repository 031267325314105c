"""What types of state machines say of their transitions."""

from __future__ import annotations


def test_transitions_are_found_by_the_states_they_lead_from_and_to(make_server) -> None:
    server = make_server()
    known = server.transitions(server.node_id("mach", 1002))
    assert len(known) == 16
    executing, not_executing = server.node_id("mach", 5006), server.node_id("mach", 5007)
    found = known[executing, not_executing]
    assert (found.node_id, found.text.Text) == (server.node_id("mach", 5022), "FromExecutingToNotExecuting")
    assert found.number > 0


def test_a_subtype_has_the_transitions_between_its_own_states_too(make_server) -> None:
    server = make_server()
    known = server.transitions(server.node_id("mt", 1003))
    none, setup = server.node_id("mt", 5059), server.node_id("mt", 5061)
    assert known[none, setup].node_id == server.node_id("mt", 5049)
    assert (server.node_id("mach", 5024), server.node_id("mach", 5027)) in known
