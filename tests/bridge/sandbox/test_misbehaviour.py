"""The sandbox misbehaves as long as it was told to, and only then."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.sandbox import Sandbox
from bridge.sandbox.misbehaviour import KINDS
from tests.bridge.mes.chain import REGISTRATION, machines_of, running_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path / "mes") as sandbox:
        yield sandbox


def misbehave(sandbox: Sandbox, **form: Any) -> requests.Response:
    headers = {"Authorization": f"Token {sandbox.token}"}
    return requests.post(
        f"{sandbox.url}/misbehave", data=form, headers=headers, timeout=5, allow_redirects=False
    )


def register(sandbox: Sandbox, machine: str = "m") -> requests.Response:
    return requests.put(
        f"{sandbox.mes_url}/services/sandbox/machines/{machine}",
        data=REGISTRATION.body("bridge-1"),
        headers={"Authorization": f"Token {sandbox.token}", "Idempotency-Key": f"k-{machine}"},
        timeout=5,
    )


def current(sandbox: Sandbox) -> Any:
    return requests.get(f"{sandbox.url}/state.json", timeout=5).json()["misbehaviour"]


@pytest.mark.parametrize(
    ("kind", "code", "headers"),
    [
        ("429", 429, {"Retry-After": "7"}),
        ("500", 500, {}),
        ("503", 503, {"Retry-After": "7"}),
        ("422", 422, {}),
    ],
)
def test_it_answers_with_the_code_and_does_nothing(
    sandbox: Sandbox, kind: str, code: int, headers: dict[str, str]
) -> None:
    assert misbehave(sandbox, kind=kind, times="2", seconds="7").status_code == 303
    assert current(sandbox) == {
        "kind": kind, "does": KINDS[kind], "machine": None, "times": 2, "lasts": None, "seconds": 7.0,
    }  # fmt: skip
    for _ in range(2):
        answer = register(sandbox)
        assert answer.status_code == code
        assert headers.items() <= answer.headers.items()
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == code
    assert machines_of(sandbox) == []
    assert current(sandbox) is None
    assert register(sandbox).status_code == 200


@pytest.mark.parametrize(("kind", "done"), [("drop-answer", True), ("drop-request", False)])
def test_an_answer_is_lost_after_the_work_and_a_request_before(
    sandbox: Sandbox, kind: str, done: bool
) -> None:
    misbehave(sandbox, kind=kind, times="1")
    with pytest.raises(requests.ConnectionError):
        register(sandbox)
    assert bool(machines_of(sandbox)) is done


def test_it_answers_late(sandbox: Sandbox) -> None:
    misbehave(sandbox, kind="delay", times="1", seconds="0.5")
    begun = time.monotonic()
    assert register(sandbox).status_code == 200
    assert time.monotonic() - begun >= 0.5


def test_it_answers_what_is_not_the_contract(sandbox: Sandbox) -> None:
    misbehave(sandbox, kind="wrong-schema", times="1")
    assert isinstance(register(sandbox).json(), list)
    misbehave(sandbox, kind="login-page", times="1")
    assert register(sandbox).headers["Content-Type"].startswith("text/html")
    assert machines_of(sandbox) == []


def test_only_the_machine_that_was_named_suffers(sandbox: Sandbox) -> None:
    misbehave(sandbox, kind="500", times="5", machine="other machine")
    assert register(sandbox).status_code == 200
    assert register(sandbox, "other%20machine").status_code == 500
    assert current(sandbox)["times"] == 4


def test_it_ends_after_its_time_or_when_it_is_told_to(sandbox: Sandbox) -> None:
    misbehave(sandbox, kind="500", lasts="0.3")
    assert register(sandbox).status_code == 500
    time.sleep(0.4)
    assert register(sandbox).status_code == 200
    misbehave(sandbox, kind="500", lasts="100")
    assert 90 < current(sandbox)["lasts"] <= 100
    misbehave(sandbox, kind="none")
    assert current(sandbox) is None


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ({"kind": "rude", "times": "1"}, "kind"),
        ({"kind": "500"}, "times, lasts"),
        ({"kind": "500", "times": "0"}, "times"),
        ({"kind": "500", "times": "often"}, "times"),
        ({"kind": "500", "lasts": "nan"}, "lasts"),
        ({"kind": "delay", "times": "1", "seconds": "-1"}, "seconds"),
    ],
)
def test_what_it_does_not_understand_is_refused_with_the_name(
    sandbox: Sandbox, form: dict[str, str], named: str
) -> None:
    answer = misbehave(sandbox, **form)
    assert answer.status_code == 422
    assert json.loads(answer.text)["detail"].startswith(named)
    assert current(sandbox) is None


def test_nobody_without_the_token_or_the_page_makes_it_misbehave(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.url}/misbehave", data={"kind": "500", "times": "1"}, timeout=5)
    assert answer.status_code == 403
    assert current(sandbox) is None
