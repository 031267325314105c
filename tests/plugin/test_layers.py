"""DisplayLayerProgress's layers, counted from 1."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoprint_mesbridge.layers import Layers

from .test_spools import ANYTHING


def shown(*payloads: tuple[Any, Any]) -> tuple[int | None, int | None]:
    layers = Layers()
    for current, total in payloads:
        layers.note({"currentLayer": current, "totalLayer": total})
    return layers.current, layers.total


def test_numbers_that_begin_with_1_are_told_as_they_are() -> None:
    assert shown(("1", "120")) == (1, 120)
    assert shown(("1", "120"), ("2", "120")) == (2, 120)


def test_numbers_that_begin_with_0_are_counted_from_there_to_the_end() -> None:
    assert shown(("0", "119")) == (1, 120)
    assert shown(("0", "119"), ("119", "119")) == (120, 120)


def test_objects_that_are_printed_one_after_the_other_begin_anew() -> None:
    assert shown(("0", "9"), ("9", "9"), ("0", "9")) == (1, 10)


@pytest.mark.parametrize("nothing", ["-", "", None, "x", -1, True, 1.5, "9" * 40, "\u00b2", [], {}])
def test_what_is_no_number_is_unknown(nothing: Any) -> None:
    assert shown((nothing, nothing)) == (None, None)
    assert shown(("3", nothing)) == (3, None)


def test_a_total_below_the_layer_is_none() -> None:
    assert shown(("7", "5")) == (7, None)


@given(st.lists(st.tuples(ANYTHING, ANYTHING), min_size=1))
def test_whatever_the_other_plugin_says_the_layer_is_within_the_total(
    payloads: list[tuple[Any, Any]],
) -> None:
    current, total = shown(*payloads)
    assert total is None or (current is not None and 0 <= current <= total)
