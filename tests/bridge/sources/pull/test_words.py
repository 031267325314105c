from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sources.pull.words import state_id
from octoprint_mesbridge.observer import STATES

ALL = (
    "operational",
    "printing",
    "cancelling",
    "pausing",
    "resuming",
    "finishing",
    "closedOrError",
    "error",
    "paused",
    "ready",
    "sdReady",
)


def flags(*true: str) -> dict[str, bool]:
    return {name: name in true for name in ALL}


@pytest.mark.parametrize(
    ("text", "true", "name"),
    [
        ("Operational", ("operational", "ready"), "OPERATIONAL"),
        ("Printing", ("operational", "printing"), "PRINTING"),
        ("Printing from SD", ("operational", "printing"), "PRINTING"),
        ("Starting", ("operational", "printing"), "STARTING"),
        ("Starting print from SD", ("operational", "printing"), "STARTING"),
        ("Pausing", ("operational", "printing", "pausing"), "PAUSING"),
        ("Paused", ("operational", "paused"), "PAUSED"),
        ("Resuming", ("operational", "printing", "resuming"), "RESUMING"),
        ("Cancelling", ("operational", "printing", "cancelling"), "CANCELLING"),
        ("Finishing", ("operational", "printing", "finishing"), "FINISHING"),
        ("Transferring file to SD", ("operational",), "TRANSFERRING_FILE"),
        ("Sending file to SD", ("operational",), "TRANSFERRING_FILE"),
        ("Error: Thermal Runaway", ("closedOrError", "error"), "ERROR"),
        ("Connecting", (), "CONNECTING"),
        ("Detecting serial connection", (), "CONNECTING"),
        ("Opening serial connection", (), "CONNECTING"),
    ],
)
def test_text_and_flags_of_octoprint_as_its_events_name_them(
    text: str, true: tuple[str, ...], name: str
) -> None:
    assert state_id(text, flags(*true)) == name
    assert state_id(text) == name


@pytest.mark.parametrize("text", ["Offline", "Offline after error", "Closed"])
def test_a_printer_that_is_not_there(text: str) -> None:
    assert STATES[state_id(text, flags("closedOrError"))] == "disconnected"
    assert STATES[state_id(text)] == "disconnected"


@given(
    st.one_of(st.none(), st.integers(), st.text(max_size=20)),
    st.one_of(
        st.none(),
        st.text(max_size=3),
        st.dictionaries(st.sampled_from(ALL), st.one_of(st.booleans(), st.none())),
    ),
)
def test_whatever_is_said_there_is_a_state_of_that_name(text: Any, said: Any) -> None:
    assert state_id(text, said) in STATES
