from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from tests.bridge import events

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, 19, 17, 13, 250000, UTC)
KEY = wire.PushKey.derive("an API key of any length and alphabet: ü")


def test_it_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, bridge.wire; "
        "print([n for n, m in sys.modules.items() if 'site-packages' in (getattr(m, '__file__', '') or '')])"
    )
    found = subprocess.check_output([sys.executable, "-S", "-c", code], text=True, cwd=ROOT)
    assert found.strip() == "[]"


def test_times_keep_their_microseconds_and_become_utc() -> None:
    assert wire.format_time(NOW) == "2026-11-23T19:17:13.250000Z"
    assert wire.parse_time("2026-11-23T21:17:13.25+02:00") == NOW
    with pytest.raises(ValueError, match="offset"):
        wire.parse_time("2026-11-23T19:17:13")


@pytest.mark.parametrize("kind", sorted(wire.PAYLOADS))
def test_an_event_of_every_kind_travels(kind: str) -> None:
    event = wire.Event(1, NOW, kind, events.DATA[kind])
    batch = wire.Batch("i", 0, 1, (event,), NOW)
    assert wire.decode_batch(wire.encode_batch(batch)) == batch


def message(**changes: Any) -> bytes:
    good = {
        "version": 1,
        "instance": "i",
        "after": 0,
        "through": 2,
        "sent": "2026-11-23T19:17:13Z",
        "events": [],
    }
    return json.dumps(good | changes).encode()


def event(**changes: Any) -> Mapping[str, Any]:
    return {"seq": 1, "time": "2026-11-23T19:17:13Z", "kind": "error", "data": {"text": "hot"}} | changes


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"[" * 100_000, "JSON"),
        (message(version=2), "version"),
        (message(instance=""), "instance"),
        (message(instance="ä"), "instance"),
        (message(instance="a:b"), "instance"),
        (message(instance="a b"), "instance"),
        (message(instance="a\n"), "instance"),
        (message(instance="a" * 65), "instance"),
        (message(instance=1), "instance"),
        (message(through=-1), "through"),
        (message(after=3), "range"),
        (message(sent="yesterday"), "sent"),
        (message(events=[event()] * 501), "500"),
        (message(events=[event(), event()]), "rise"),
        (message(events=[event(seq=3)]), "rise"),
        (message(events=[event(kind="explode")]), "upgrade the bridge"),
        (message(events=[event(data={"text": 1})]), "events[0].data.text"),
        (message(events=[event(data={"text": "x", "more": 1})]), "events[0].data.more"),
        (message(events=[event(data={"text": "x" * 3000})]), "2048"),
        (message(events=[event(kind="progress", data={"completion": 101})]), "between 0 and 100"),
        (message(events=[event(kind="progress", data={"completion": True})]), "number"),
        (message(events=[event(kind="state", data={"state": "dancing"})]), "one of"),
        (message(events=[event(kind="job_started", data={})]), "run"),
    ],
)
def test_what_is_not_described_is_refused_with_its_place(body: bytes, complaint: str) -> None:
    with pytest.raises(wire.WireError) as refused:
        wire.decode_batch(body)
    assert complaint in str(refused.value)


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    body = message(events=[event(kind="progress", data={"print_time": 1})]).replace(
        b'"print_time": 1', b'"print_time": NaN'
    )
    with pytest.raises(wire.WireError, match="print_time"):
        wire.decode_batch(body)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["version", "events", "instance", "after", "data", "kind"]), inner
            )
        ),
    ).map(lambda v: json.dumps(v).encode())
)
def test_nothing_that_arrives_raises_anything_else(body: bytes) -> None:
    for decode in (wire.decode_batch, wire.decode_reply):
        with contextlib.suppress(wire.WireError):
            decode(body)


@pytest.mark.parametrize(
    "odd",
    [
        {"time": "0001-01-01T00:00:00Z"},
        {"time": "9999-12-31T23:59:59-10:00"},
        {
            "kind": "job_started",
            "data": {**events.DATA["job_started"], "filament": {"t": {"length": 10**400}}},
        },
    ],
)
def test_years_and_numbers_beyond_measure_break_nothing(odd: Mapping[str, Any]) -> None:
    try:
        batch = wire.decode_batch(message(events=[event(**odd)]))
    except wire.WireError:
        return
    assert wire.decode_batch(wire.encode_batch(batch)) == batch


def test_a_signed_push_is_believed() -> None:
    headers = wire.sign(KEY, "msg_1", NOW, b"body")
    assert wire.verify(KEY, headers, b"body", NOW + timedelta(seconds=200)) == "msg_1"


def test_the_api_key_is_in_nothing_that_travels() -> None:
    text = repr(KEY) + repr(wire.sign(KEY, "msg_1", NOW, b"body"))
    assert "API key" not in text
    assert KEY.secret.hex() not in text


@pytest.mark.parametrize("name", [wire.ID_HEADER, wire.TIMESTAMP_HEADER, wire.SIGNATURE_HEADER])
@pytest.mark.parametrize("value", ["", "1", "v1,AAAA", "99999999999999999", "٣", "\udcff", None])
def test_a_changed_header_is_refused(name: str, value: str | None) -> None:
    headers: dict[str, str] = wire.sign(KEY, "msg_1", NOW, b"body")
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(wire.SignatureError):
        wire.verify(KEY, headers, b"body", NOW)


def test_another_body_or_key_is_forged_and_an_old_one_is_refused_by_the_clock() -> None:
    headers = wire.sign(KEY, "msg_1", NOW, b"body")
    other = wire.PushKey.derive("another key")
    for key, body, now, reason in [
        (KEY, b"bodY", NOW, "forged"),
        (other, b"body", NOW, "forged"),
        (KEY, b"body", NOW + timedelta(seconds=302), "clock"),
        (KEY, b"body", NOW - timedelta(seconds=302), "clock"),
    ]:
        with pytest.raises(wire.SignatureError) as refused:
            wire.verify(key, headers, body, now)
        assert refused.value.reason == reason


def test_a_reply_answers_one_push_and_tells_the_bridges_clock() -> None:
    headers = wire.sign_reply(KEY, "msg_1", NOW, b"reply")
    assert wire.verify_reply(KEY, "msg_1", headers, b"reply") == NOW.replace(microsecond=0)
    with pytest.raises(wire.SignatureError):
        wire.verify_reply(KEY, "msg_2", headers, b"reply")
    with pytest.raises(wire.SignatureError):
        wire.verify_reply(KEY, "msg_1", wire.sign(KEY, "msg_1", NOW, b"reply"), b"reply")
    with pytest.raises(wire.SignatureError):
        wire.verify_reply(KEY, "msg_1", headers, b"another")
    with pytest.raises(wire.SignatureError):
        wire.verify_reply(KEY, "msg_1", {}, b"reply")


def test_a_reply_travels() -> None:
    assert wire.decode_reply(wire.encode_reply(wire.Reply(7, True))) == wire.Reply(7, True)
    with pytest.raises(wire.WireError):
        wire.decode_reply(b'{"ack": true, "snapshot": false}')
