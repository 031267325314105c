"""Numbers of OctoPrint and of other plugins, whatever they hold, as the wire takes them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from octoprint_mesbridge.records import at_least_zero, number, percent


@pytest.mark.parametrize("value", [None, True, "7", [7], math.nan, math.inf, -1, 10**400, -(10**400)])
def test_what_is_no_number_in_its_range_is_unknown(value: Any) -> None:
    assert at_least_zero(value) is None


def test_numbers_in_their_range_are_taken_as_they_are() -> None:
    assert (at_least_zero(0), at_least_zero(2.5), number(-3, -5, 5)) == (0, 2.5, -3)


@pytest.mark.parametrize(("value", "told"), [(-0.5, 0.0), (104, 100.0), (10**400, 100.0), (math.nan, None)])
def test_a_percentage_is_kept_between_0_and_100(value: float, told: float | None) -> None:
    assert percent(value) == told
