"""The documentation of the address space is what the server shows."""

from __future__ import annotations

import pytest

from tests.docs.address_space import DOCUMENT, document
from tests.docs.texts import Texts, TextsError


async def test_the_documented_address_space_is_that_of_the_server() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == await document(), "out of date: run `make docs` and commit"


EQUIPMENT = ("mt:Equipment",)
LAMP = ("mt:Equipment", "own:Lamp")


@pytest.mark.parametrize(
    ("fed_by", "nodes", "problem"),
    [
        (
            {"mt:Equipment": "a"},
            [EQUIPMENT, LAMP],
            "nodes without a text: add .* FED_BY .*\n  mt:Equipment/own:Lamp$",
        ),
        ({"mt:*": "a", "mt:Equipment": "b"}, [EQUIPMENT], "nodes with several texts: .*\n  mt:Equipment$"),
        ({"mt:*": "a", "mt:*/own:*": "b"}, [EQUIPMENT], r"texts without a node: .*\n  mt:\*/own:\*$"),
        ({"mt:*": "a"}, [EQUIPMENT], "umati's clients miss.*\n  di:Identification/di:Model\n"),
    ],
)
def test_every_node_has_one_text_and_every_text_a_node(
    fed_by: dict[str, str], nodes: list[tuple[str, ...]], problem: str
) -> None:
    with pytest.raises(TextsError, match=problem):
        Texts(fed_by).check_nodes(nodes)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["JobStarted", "JobLost"], "events without a text: .*\n  JobLost$"),
        ([], "texts without an event: .*\n  JobStarted$"),
    ],
)
def test_every_event_has_a_text_and_every_text_an_event(names: list[str], problem: str) -> None:
    with pytest.raises(TextsError, match=problem):
        Texts(events={"JobStarted": "a job begins"}).check_events(names)
