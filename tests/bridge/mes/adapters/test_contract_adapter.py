"""The requests that a MES with MESBridge's own contract gets, and what its answers mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Answer, Kind, Message, SecretError, Verdict
from bridge.settings import MesSettings
from tests.bridge.mes.contract import breaches

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
JSON = {"content-type": "application/json"}


def adapter(**settings: Any) -> Contract:
    values = {"id": 1, "url": "http://mes", "service_id": "s 1", "token_env": "T"}
    return Contract(MesSettings(**{**values, **settings}), "bridge-1")


@pytest.mark.parametrize(
    ("kind", "machine", "method", "path"),
    [
        (Kind.REGISTRATION, "m/1", "PUT", "services/s%201/machines/m%2F1"),
        (Kind.STATUS, "m", "PUT", "services/s%201/machines/m/status"),
        (Kind.EVENT, "m", "POST", "services/s%201/machines/m/events"),
        (Kind.HEARTBEAT, None, "POST", "services/s%201/heartbeat"),
        (Kind.SIGN_OFF, None, "POST", "services/s%201/sign-off"),
    ],
)
def test_each_message_has_its_place(kind: Kind, machine: str | None, method: str, path: str) -> None:
    request = adapter().request(Message(kind, machine, "key-1", '{"ä": 1}'), "tok", NOW)
    assert (request.method, request.path, request.body) == (method, path, '{"ä": 1}'.encode())
    assert request.headers["Idempotency-Key"] == "key-1"
    assert request.headers["Authorization"] == "Token tok"


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"path": "api/{service_id}/printers/"}, "api/s%201/printers/heartbeat"),
        ({"path": "", "service_id": None}, "heartbeat"),
        ({"path": "/v3"}, "v3/heartbeat"),
    ],
)
def test_a_gateway_may_have_other_paths(settings: dict[str, Any], path: str) -> None:
    assert adapter(**settings).request(Message(Kind.HEARTBEAT, None, "k", "{}"), "t", NOW).path == path


@pytest.mark.parametrize(("scheme", "value"), [("Bearer", "Bearer tok"), ("", "tok")])
def test_the_header_and_its_scheme_are_settings(scheme: str, value: str) -> None:
    request = adapter(auth_header="X-Api-Key", auth_scheme=scheme).request(
        Message(Kind.HEARTBEAT, None, "k", "{}"), "tok", NOW
    )
    assert request.headers["X-Api-Key"] == value
    assert "Authorization" not in request.headers


def test_two_words_are_no_token() -> None:
    with pytest.raises(SecretError, match="more than one word"):
        adapter().request(Message(Kind.HEARTBEAT, None, "k", "{}"), "two words", NOW)


@pytest.mark.parametrize(
    ("kind", "answer", "verdict"),
    [
        (Kind.EVENT, Answer(204), Verdict.DONE),
        (Kind.EVENT, Answer(200, JSON, b"{}"), Verdict.DONE),
        (Kind.EVENT, Answer(200, {"content-type": "text/html"}, b"<html>"), Verdict.FOREIGN),
        (Kind.EVENT, Answer(200, JSON, b"[" * 100_000), Verdict.FOREIGN),
        (Kind.EVENT, Answer(307, {"location": "http://elsewhere"}), Verdict.FOREIGN),
        (Kind.EVENT, Answer(404), Verdict.UNKNOWN),
        (Kind.EVENT, Answer(409), Verdict.DONE),
        (Kind.STATUS, Answer(409), Verdict.REFUSED),
        (Kind.EVENT, Answer(500), Verdict.FAILED),
        (Kind.EVENT, Answer(503), Verdict.AWAY),
        (Kind.EVENT, Answer(403), Verdict.UNAUTHORISED),
        (Kind.REGISTRATION, Answer(200, JSON, b'{"activation": "pending"}'), Verdict.DONE),
        (Kind.REGISTRATION, Answer(200, JSON, b'{"activation": "maybe"}'), Verdict.FOREIGN),
        (Kind.REGISTRATION, Answer(204), Verdict.FOREIGN),
        (Kind.REGISTRATION, Answer(404), Verdict.FOREIGN),
    ],
)
def test_what_an_answer_means(kind: Kind, answer: Answer, verdict: Verdict) -> None:
    outcome = adapter().outcome(Message(kind, "m", "k", "{}"), answer)
    assert outcome.verdict is verdict
    assert outcome.reason or verdict is Verdict.DONE


FITTING = ("POST", "/services/s/heartbeat", b'{"bridge": "b", "lease": 30.0}')
HEADERS = {"content-type": "application/json", "authorization": "Token t", "idempotency-key": "k"}


def test_the_check_of_the_other_tests_passes_what_fits_the_contract() -> None:
    method, path, body = FITTING
    assert breaches(method, path, HEADERS, body) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "PUT"}, "no such operation"),
        ({"path": "/services/s/machines/m/heartbeat"}, "no such operation"),
        ({"body": b"{}"}, "'bridge' is a required property"),
        ({"headers": {**HEADERS, "authorization": "t"}}, "no token"),
        ({"headers": {**HEADERS, "content-type": "text/plain"}}, "not said to be JSON"),
        ({"headers": {**HEADERS, "idempotency-key": None}}, "is not of type 'string'"),
    ],
)
def test_the_check_of_the_other_tests_finds_what_does_not(change: dict[str, Any], said: str) -> None:
    method, path, body = FITTING
    request = {"method": method, "path": path, "headers": HEADERS, "body": body, **change}
    assert said in " ".join(breaches(**request))
