"""The document, the bridge's messages and the sandbox's checks say the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from bridge import wire
from bridge.mes.messages import estimate_changed, estimate_of, events_of, status_of
from bridge.sandbox import bodies
from tests.bridge.events import Story
from tests.bridge.mes.chain import REGISTRATION
from tests.bridge.mes.contract import DOCUMENT, validator

TIME = "2026-11-23T08:00:00.000000Z"
JOB = {"id": "run-1", "file": "benchy.gcode", "started": TIME, "estimated_duration": 600.0}
EVENT = {"severity": "info", "time": TIME, "job": JOB}
VALID: list[tuple[str, Callable[[Any], Any], dict[str, Any]]] = [
    ("Registration", bodies.registration, json.loads(REGISTRATION.body("bridge-1"))),
    ("Status", bodies.status, {"status": "Idle", "since": TIME, "stack_light": "white"}),
    ("Event", bodies.event, {"type": "job_started", **EVENT}),
    (
        "Event",
        bodies.event,
        {"type": "job_finished", **EVENT, "result": "failed", "reason": "why", "print_time": 5.0},
    ),
    ("Event", bodies.event, {"type": "error", **EVENT, "text": "thermal runaway"}),
    ("Heartbeat", bodies.heartbeat, {"bridge": "bridge-1", "lease": 30.0}),
    ("SignOff", bodies.sign_off, {"bridge": "bridge-1"}),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**10),
    st.floats(0, 1e12),
    st.text(max_size=5),
    st.sampled_from(
        [
            "Idle",
            "red",
            "job_finished",
            "job_paused",
            "warning",
            "completed",
            "x" * 600,
            "x" * 5000,
            TIME,
            TIME[:-1],
            "2026-13-01T00:00:00.000000Z",
            "2026-11-23T08:00:00+01:00",
            0,
            1,
            86400,
            86401,
        ]
    ),
    st.just({}),
    st.just([]),
    st.just(JOB),
)
REMOVED = object()


def story_of_everything() -> Story:
    story = Story()
    story.link("up")
    for kind in wire.PAYLOADS:
        story.tell(kind)
    story.tell(wire.JOB_STARTED, run="run-2", estimated_print_time=None)
    story.tell(wire.PROGRESS, run="run-2", print_time=1e9, print_time_left=1e9)
    story.states("paused", "error")
    story.tell(wire.SNAPSHOT)
    story.link("lost")
    return story


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def test_every_message_that_the_bridge_makes_is_what_the_document_says() -> None:
    story = story_of_everything()
    events = [event for transition in story.transitions for event in events_of(transition)]
    events += [estimate_changed(one) for one in story.transitions if estimate_of(one.after)]
    assert {event.body["type"] for event in events} == {*bodies.JOB_EVENTS, *bodies.TEXT_EVENTS}
    for event in events:
        validator("Event").validate(event.body)
    for transition in story.transitions:
        validator("Status").validate(status_of(transition.after).body())
    validator("Registration").validate(json.loads(REGISTRATION.body("bridge-1")))


def test_a_name_beyond_all_measure_keeps_no_machine_out() -> None:
    long = replace(REGISTRATION, name="x" * 5000, identification={"location": "y" * 5000, "year": 2024})
    validator("Registration").validate(json.loads(long.body("bridge-1")))


@pytest.mark.parametrize(("schema", "check", "body"), VALID)
def test_the_sandbox_takes_what_the_document_allows(schema: str, check: Any, body: Any) -> None:
    validator(schema).validate(body)
    check(body)
    check({**body, "later": "members are ignored"})


@given(st.data())
def test_the_sandbox_refuses_exactly_what_the_document_refuses(data: st.DataObject) -> None:
    schema, check, valid = data.draw(st.sampled_from(VALID))
    body = copy.deepcopy(valid)
    for _ in range(data.draw(st.integers(1, 2))):
        place: Any = body
        name = data.draw(st.sampled_from(sorted(place)))
        while isinstance(place[name], dict) and place[name] and data.draw(st.booleans()):
            place = place[name]
            name = data.draw(st.sampled_from(sorted(place)))
        value = data.draw(st.one_of(st.just(REMOVED), ODD))
        if value is REMOVED:
            del place[name]
        else:
            place[name] = copy.deepcopy(value)
        if not body:
            break
    allowed = validator(schema).is_valid(body)
    try:
        check(body)
    except bodies.BodyError:
        assert not allowed, body
    else:
        assert allowed, (body, list(validator(schema).iter_errors(body)))


def examples() -> list[tuple[str, Any]]:
    """Each request body that the document shows, with the name of its schema."""
    found = []
    for path in DOCUMENT["paths"].values():
        for operation in (path[method] for method in ("put", "post") if method in path):
            content = operation["requestBody"]["content"]["application/json"]
            shown = [one["value"] for one in content.get("examples", {}).values()]
            name = content["schema"]["$ref"].rpartition("/")[2]
            found += [
                (name, body) for body in (*shown, *([content["example"]] if "example" in content else []))
            ]
    return found


@pytest.mark.parametrize(("schema", "body"), examples())
def test_what_the_document_shows_is_what_it_says(schema: str, body: Any) -> None:
    validator(schema).validate(body)


def test_every_operation_shows_an_example() -> None:
    assert {schema for schema, _ in examples()} == {"Registration", "Status", "Event", "Heartbeat", "SignOff"}
