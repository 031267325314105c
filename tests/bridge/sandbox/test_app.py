"""The sandbox MES, asked over its contract without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.app import BASE_PATH, create_app
from bridge.sandbox.store import Store
from tests.bridge.events import START
from tests.bridge.mes.chain import REGISTRATION

SERVICE = f"{BASE_PATH}/services/sandbox"
TIME = "2026-11-23T08:00:00.000000Z"
JOB = {"id": "run-1", "file": "benchy.gcode", "started": TIME, "estimated_duration": 600.0}
STARTED = {"type": "job_started", "severity": "info", "time": TIME, "job": JOB}
RUNNING = {"status": "Running", "since": TIME, "stack_light": "green"}


class Mes:
    """The application with a clock that stands still until it is set."""

    def __init__(self, path: Path, activate: bool = True) -> None:
        self.now: datetime = START
        self.store = Store(path, activate, lambda: self.now)
        self.http = create_app(self.store, "right", "sandbox").test_client()
        self.keys = 0

    def send(
        self, method: str, path: str, body: Any, key: str | None = None, token: str = "Token right"
    ) -> Any:
        self.keys += 1
        headers = {"Authorization": token, "Idempotency-Key": str(self.keys) if key is None else key}
        data = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.http.open(f"{SERVICE}/{path}", method=method, data=data, headers=headers)

    def register(self) -> Any:
        return self.send("PUT", "machines/m", REGISTRATION.body("bridge-1"))

    def beat(self, lease: float = 30) -> Any:
        return self.send("POST", "heartbeat", {"bridge": "bridge-1", "lease": lease})

    def event(self, key: str | None = None, **changes: Any) -> Any:
        return self.send("POST", "machines/m/events", {**STARTED, **changes}, key)

    def machine(self) -> dict[str, Any]:
        (machine,) = self.http.get("/state.json").get_json()["machines"]
        return machine  # type: ignore[no-any-return]


@pytest.fixture
def mes(tmp_path: Path) -> Iterator[Mes]:
    mes = Mes(tmp_path / "mes.sqlite")
    yield mes
    mes.store.close()


@pytest.fixture
def known(mes: Mes) -> Mes:
    mes.register()
    mes.beat()
    return mes


def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(known: Mes) -> None:
    for _ in range(3):
        assert known.event("key-1").status_code == 204
    assert len(known.machine()["events"]) == 1
    assert len(known.machine()["jobs"]) == 1


def test_a_late_repetition_of_a_status_does_not_bring_it_back(known: Mes) -> None:
    idle = {"status": "Idle", "since": TIME, "stack_light": "white"}
    known.send("PUT", "machines/m/status", RUNNING, "key-1")
    known.send("PUT", "machines/m/status", idle, "key-2")
    known.send("PUT", "machines/m/status", RUNNING, "key-1")
    assert known.machine()["status"] == "Idle"


def test_a_key_with_another_body_is_refused(known: Mes) -> None:
    known.event("key-1")
    answer = known.event("key-1", severity="error")
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")


def test_a_refused_body_leaves_its_key_free(known: Mes) -> None:
    assert known.event("key-1", job=None).status_code == 422
    assert known.event("key-1").status_code == 204


@pytest.mark.parametrize(
    "token", ["", "Token wrong", "right", "Bearer right", "Token right ", "Token r\u00efght"]
)
def test_nothing_is_done_without_the_token(token: str, mes: Mes) -> None:
    answer = mes.send("PUT", "machines/m", REGISTRATION.body("bridge-1"), token=token)
    assert answer.status_code == 401
    assert "right" not in answer.get_data(as_text=True)
    assert mes.http.get("/state.json").get_json()["machines"] == []


def test_another_service_is_not_known(mes: Mes) -> None:
    answer = mes.http.put(
        f"{BASE_PATH}/services/other/machines/m",
        data=REGISTRATION.body("bridge-1"),
        headers={"Authorization": "Token right", "Idempotency-Key": "1"},
    )
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("body", ["", "[]", "{", "null", "\xff", "[" * 50000])
def test_a_body_that_is_no_json_object_is_a_problem_and_no_crash(body: str, known: Mes) -> None:
    answer = known.send("POST", "machines/m/events", body.encode("latin-1"))
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")


def test_a_body_beyond_all_measure_is_refused(known: Mes) -> None:
    assert known.send("POST", "machines/m/events", "x" * 70000).status_code == 413


def test_a_write_without_a_key_is_refused(known: Mes) -> None:
    assert known.event("").status_code == 422
    assert known.event("x" * 257).status_code == 422


@pytest.mark.parametrize("path", ["machines/other/status", "machines/other/events"])
def test_what_is_told_of_an_unknown_machine_is_not_taken(path: str, known: Mes) -> None:
    method, body = ("PUT", RUNNING) if path.endswith("status") else ("POST", STARTED)
    assert known.send(method, path, body).status_code == 404


def test_a_heartbeat_of_a_bridge_without_machines_is_not_taken(mes: Mes) -> None:
    assert mes.beat().status_code == 404


def test_a_machine_is_offline_when_the_lease_is_over_and_back_with_the_next_one(known: Mes) -> None:
    known.send("PUT", "machines/m/status", RUNNING)
    known.now += timedelta(seconds=29)
    assert known.machine()["status"] == "Running"
    known.now += timedelta(seconds=1)
    machine = known.machine()
    assert (machine["status"], machine["stack_light"], machine["since"]) == (
        "Offline",
        "off",
        "2026-11-23T08:00:30.000000Z",
    )
    known.beat()
    assert known.machine()["status"] == "Running"


def test_a_sign_off_makes_machines_offline_at_once(known: Mes) -> None:
    known.send("PUT", "machines/m/status", RUNNING)
    known.send("POST", "sign-off", {"bridge": "bridge-1"})
    assert known.machine()["status"] == "Offline"


def test_a_job_is_made_by_whichever_of_its_events_comes_first(known: Mes) -> None:
    known.event(
        type="job_finished", time="2026-11-23T08:10:00.000000Z", result="failed", reason="x", print_time=1
    )
    (job,) = known.machine()["jobs"]
    assert (job["state"], job["started"], job["ended"]) == ("failed", TIME, "2026-11-23T08:10:00.000000Z")


def test_nothing_opens_an_ended_job_again(known: Mes) -> None:
    known.event()
    known.event(type="job_finished", result="completed", reason=None, print_time=None)
    known.event(type="job_paused")
    (job,) = known.machine()["jobs"]
    assert job["state"] == "completed"


def test_registering_again_keeps_activation_jobs_and_status(tmp_path: Path) -> None:
    mes = Mes(tmp_path / "mes.sqlite", activate=False)
    assert mes.register().get_json() == {"machine_id": "m", "activation": "pending"}
    mes.store.activate("m")
    mes.event()
    mes.send("PUT", "machines/m/status", RUNNING)
    mes.beat()
    assert mes.register().get_json()["activation"] == "active"
    assert (mes.machine()["status"], len(mes.machine()["jobs"])) == ("Running", 1)
    mes.store.close()


def test_what_the_mes_knows_outlives_a_restart(tmp_path: Path) -> None:
    mes = Mes(tmp_path / "mes.sqlite")
    mes.register()
    mes.event("key-1")
    mes.store.close()
    again = Mes(tmp_path / "mes.sqlite")
    assert again.event("key-1").status_code == 204
    assert len(again.machine()["events"]) == 1
    again.store.close()


def test_a_form_from_elsewhere_activates_nothing(tmp_path: Path) -> None:
    mes = Mes(tmp_path / "mes.sqlite", activate=False)
    mes.register()
    assert mes.http.post("/activate", data={"machine": "m", "form_secret": "guessed"}).status_code == 403
    assert mes.machine()["activation"] == "pending"
    mes.store.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "127.0.0.1@evil"]
)
def test_a_page_from_elsewhere_cannot_read_by_a_name_that_leads_here(host: str, mes: Mes) -> None:
    assert mes.http.get("/state.json", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8090", "localhost:8090", "[::1]:8090"])
def test_the_names_of_this_computer_are_answered(host: str, mes: Mes) -> None:
    assert mes.http.get("/state.json", headers={"Host": host}).status_code == 200


def test_the_page_allows_nothing_from_elsewhere(mes: Mes) -> None:
    answer = mes.http.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in answer.get_data(as_text=True).replace("http-equiv", "")


PLAN = {"machine": "m", "name": "Bracket", "start": "2026-11-23T08:30:00Z", "end": "2026-11-23T10:00:00.000Z"}
BY_TOKEN = {"Authorization": "Token right"}


def plan(mes: Mes, **changes: str) -> Any:
    return mes.http.post("/schedule", data={**PLAN, **changes}, headers=BY_TOKEN)


def test_a_print_that_fits_is_the_scheduled_job_and_takes_its_own_times_along(mes: Mes) -> None:
    mes.register()
    assert plan(mes).status_code == 303
    (planned,) = mes.machine()["schedule"]
    assert (planned["name"], planned["start"], planned["job"]) == (
        "Bracket",
        "2026-11-23T08:30:00.000000Z",
        None,
    )
    mes.event()
    mes.event(type="job_estimate_changed", job={**JOB, "estimated_duration": 900.0})
    machine = mes.machine()
    (planned,), (job,) = machine["schedule"], machine["jobs"]
    assert (planned["job"], job["scheduled"]) == ("run-1", planned["number"])
    assert (job["started"], job["estimated_duration"], job["ended"]) == (TIME, 900.0, None)


def test_a_print_that_fits_no_plan_is_a_job_of_its_own(mes: Mes) -> None:
    mes.register()
    plan(mes, start="2026-11-23T10:00:01Z", end="2026-11-23T11:00:00Z")
    mes.event()
    machine = mes.machine()
    assert (machine["jobs"][0]["scheduled"], machine["schedule"][0]["job"]) == (None, None)


def test_a_plan_that_is_made_or_taken_away_later_counts_as_if_it_had_always_been_so(mes: Mes) -> None:
    mes.register()
    mes.event()
    plan(mes)
    number = mes.machine()["schedule"][0]["number"]
    assert mes.machine()["jobs"][0]["scheduled"] == number
    assert mes.http.post("/unschedule", data={"number": number}, headers=BY_TOKEN).status_code == 303
    assert (mes.machine()["schedule"], mes.machine()["jobs"][0]["scheduled"]) == ([], None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\u0007b"}, "name"),
        ({"start": "tomorrow"}, "start"),
        ({"end": PLAN["start"]}, "end"),
        ({"end": "2028-01-01T00:00:00Z"}, "end"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_the_name(
    mes: Mes, changes: dict[str, str], named: str
) -> None:
    mes.register()
    answer = plan(mes, **changes)
    assert answer.status_code == 422
    assert answer.get_json()["detail"].startswith(named)
    assert mes.machine()["schedule"] == []


def test_a_plan_for_a_machine_that_is_not_there_is_refused(mes: Mes) -> None:
    assert plan(mes).status_code == 404
    assert mes.http.post("/unschedule", data={"number": "3"}, headers=BY_TOKEN).status_code == 404


def test_nobody_without_the_token_or_the_page_plans(mes: Mes) -> None:
    mes.register()
    assert mes.http.post("/schedule", data=PLAN).status_code == 403
    assert mes.machine()["schedule"] == []


def test_an_estimate_of_an_ended_job_changes_nothing(mes: Mes) -> None:
    mes.register()
    mes.event()
    ended = {"result": "completed", "reason": None, "print_time": 580.0}
    mes.event(type="job_finished", time="2026-11-23T08:10:00.000000Z", **ended)
    mes.event(type="job_estimate_changed", job={**JOB, "estimated_duration": 9000.0})
    (job,) = mes.machine()["jobs"]
    assert (job["state"], job["estimated_duration"]) == ("completed", 600.0)


def test_a_folder_of_the_first_layout_is_taken_over(tmp_path: Path) -> None:
    first = Mes(tmp_path / "mes.sqlite")
    first.register()
    first.store._connection.executescript("DROP TABLE scheduled; PRAGMA user_version = 1;")
    first.store.close()
    mes = Mes(tmp_path / "mes.sqlite")
    assert mes.machine()["schedule"] == []
    mes.store.close()


def changed(mes: Mes, since: str) -> list[str]:
    state = mes.http.get(f"/state.json?since={since}").get_json()
    assert state["order"] == ["m"]
    return [machine["id"] for machine in state["machines"]]


def test_whoever_follows_is_told_of_what_has_changed(mes: Mes) -> None:
    mes.register()
    mes.beat()

    def mark() -> str:
        return str(mes.http.get("/state.json").get_json()["mark"])

    before = mark()
    assert changed(mes, before) == []
    mes.beat()  # a sign of life changes nothing that is shown
    assert changed(mes, before) == []
    for change in (
        lambda: mes.event(),
        lambda: mes.send("PUT", "machines/m/status", RUNNING),
        lambda: plan(mes),
        lambda: mes.http.post("/unschedule", data={"number": "1"}, headers=BY_TOKEN),
        lambda: mes.http.post("/activate", data={"machine": "m"}, headers=BY_TOKEN),
        lambda: mes.register(),
    ):
        before = mark()
        assert change().status_code < 400
        assert changed(mes, before) == ["m"]
    before = mark()
    mes.now += timedelta(seconds=31)  # nobody says so, but the lease is over
    assert changed(mes, before) == ["m"]
    before = mark()
    mes.beat()
    assert changed(mes, before) == ["m"]


@pytest.mark.parametrize("since", ["", "nonsense", "another.7", "another.\u0663"])
def test_a_mark_of_another_run_gets_everything(mes: Mes, since: str) -> None:
    mes.register()
    assert changed(mes, since) == ["m"]


def test_a_sandbox_that_others_can_reach_lets_nobody_write_without_the_token(tmp_path: Path) -> None:
    mes = Mes(tmp_path / "mes.sqlite")
    mes.register()
    http = create_app(mes.store, "right", "sandbox", loopback=False).test_client()
    secret = http.get("/").get_data(as_text=True).partition('data-form-secret="')[2].partition('"')[0]
    assert secret
    assert http.post("/schedule", data={**PLAN, "form_secret": secret}).status_code == 403
    assert http.post("/schedule", data=PLAN, headers=BY_TOKEN).status_code == 303
    mes.store.close()
