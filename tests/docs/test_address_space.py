"""The documentation of the address space is what the server shows."""

from __future__ import annotations

import pytest

from tests.docs.address_space import DOCUMENT, document
from tests.docs.texts import Texts, TextsError


async def test_the_documented_address_space_is_that_of_the_server() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == await document(), "out of date: run `make docs` and commit"


def test_a_node_without_a_text_is_named_with_the_place_where_one_belongs() -> None:
    with pytest.raises(
        TextsError, match=r"mt:Equipment/own:Lamp has no text: .* FED_BY in tests/docs/texts\.py"
    ):
        Texts().of(("mt:Equipment", "own:Lamp"))


def test_a_node_with_two_texts_is_named() -> None:
    with pytest.raises(TextsError, match=r"own:Bed has several texts \(own:Bed, own:\*\)"):
        Texts({"own:Bed": "a", "own:*": "b"}).of(("own:Bed",))


def test_a_text_without_a_node_is_named() -> None:
    texts = Texts({"mt:Production": "a", "mt:Lost": "b"})
    texts.of(("mt:Production",))
    with pytest.raises(TextsError, match="there is no node mt:Lost: take the text out"):
        texts.check_nodes()


def test_an_event_without_a_text_and_a_text_without_an_event_are_named() -> None:
    texts = Texts(events={"JobLost": "never"})
    with pytest.raises(TextsError, match="the event JobStarted has no text"):
        texts.event("JobStarted")
    with pytest.raises(TextsError, match="there is no event JobLost"):
        texts.check_events()
