"""Whatever a MES and the network do: nothing is lost, nothing doubled, and the order is kept."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import wire
from bridge.machine import Transition
from bridge.mes import MesSink
from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Kind, Message
from bridge.mes.credentials import read_token
from bridge.mes.http import HttpClient
from bridge.mes.store import MesError
from bridge.settings import MesSettings
from tests.bridge.events import Story
from tests.bridge.mes.chain import REGISTRATION, events_of, make_sink, wait_until
from tests.bridge.mes.misbehaving import DROP, TOKEN, Fault, SpoiledMes, spoiled_mes

EXPECTED = ["job_started", "job_paused", "job_resumed", "job_finished"] * 3


def three_prints() -> list[Transition]:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    for number in range(3):
        run = f"run-{number}"
        story.tell(wire.JOB_STARTED, run=run)
        story.states("printing", "paused", "printing")
        story.tell(wire.JOB_ENDED, run=run)
        story.states("operational")
    return story.transitions


@contextmanager
def reporting(folder: Path, *instances: MesSettings) -> Iterator[MesSink]:
    """A sink that was handed three prints."""
    sink = make_sink(folder, *instances)
    transitions = three_prints()
    sink.register("m", tuple(one.id for one in instances), REGISTRATION, transitions[0].before)
    sink.start()
    for transition in transitions:
        sink.handle(transition)
    try:
        yield sink
    finally:
        for delivery in sink._deliveries.values():
            delivery.stop(5)
        sink._items.put(None)
        sink._writer.join()


def arrived(mes: SpoiledMes) -> dict[str, Any] | None:
    """The machine, once it is where the prints left it."""
    machine = mes.machine()
    done = machine is not None and len(machine["events"]) >= len(EXPECTED) and machine["status"] == "Idle"
    return machine if done else None


def check_all_arrived(mes: SpoiledMes) -> None:
    machine = wait_until(lambda: arrived(mes))
    assert events_of(machine) == EXPECTED
    assert [job["state"] for job in machine["jobs"]] == ["completed"] * 3


PROBLEM = {"Content-Type": "application/problem+json"}
FAULTS: dict[str, Fault] = {
    "stumbles": (500, {}, ""),
    "is busy": (503, {}, ""),
    "asks for patience": (429, {"Retry-After": "0"}, ""),
    "does not answer": DROP,
    "is hidden by a login page": (200, {"Content-Type": "text/html"}, "<html>log in</html>"),
    "leads elsewhere": (302, {"Location": "http://127.0.0.1:1/"}, ""),
    "refuses the token": (401, PROBLEM, '{"title": "no"}'),
    "times out": (408, {}, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_everything_arrives_once_and_in_order_from_a_mes_that_often(fault: str, tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes:
        count = itertools.count()
        mes.spoiled.faults = lambda *_: FAULTS[fault] if next(count) % 3 < 2 else None
        with reporting(tmp_path, mes.settings()):
            check_all_arrived(mes)
    assert mes.spoiled.seen[0][:2] == ("PUT", "machines/m")


def test_a_mes_that_starts_late_hears_everything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (tmp_path / "token").write_text("correct-horse")
    url = f"http://127.0.0.1:{port}/api/v2.0/service-panel"
    settings = MesSettings(id=1, url=url, service_id="sandbox", token_file=tmp_path / "token")
    with capture_logs() as logs, reporting(tmp_path, settings) as sink:
        wait_until(lambda: sink.states()[0].trouble)
        assert "Connection refused" in str(sink.states()[0].trouble)
        wait_until(lambda: sink.states()[0].waiting >= len(EXPECTED))
        with spoiled_mes(tmp_path / "mes", port) as mes:
            check_all_arrived(mes)
            wait_until(lambda: sink.states()[0].waiting == 0)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "the MES cannot be told anything; messages are kept until it can"
    ]
    assert sum(line["event"] == "the MES can be told again" for line in logs) == 1


def test_the_pause_that_a_mes_asks_for_is_kept(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = lambda *_: (429, {"Retry-After": "3600"}, "")
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: sink.states()[0].trouble)
            (delivery,) = sink._deliveries.values()
            assert delivery.step() > 3500
            assert len(mes.spoiled.seen) == 1


def test_a_refused_message_is_set_aside_with_its_reason_and_the_rest_arrives(tmp_path: Path) -> None:
    def refuse_pauses(method: str, path: str, key: str) -> Fault:
        paused = path.endswith("/events") and key == "m:i:5:0"
        return (422, PROBLEM, '{"title": "no pauses", "detail": "please"}') if paused else None

    with spoiled_mes(tmp_path / "mes") as mes, capture_logs() as logs:
        mes.spoiled.faults = refuse_pauses
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: (m := mes.machine()) and len(m["events"]) == len(EXPECTED) - 1)
            wait_until(lambda: sink.states()[0].waiting == 0)
            (refused,) = sink.refusals(1, 10)
            assert (refused.machine, refused.key) == ("m", "m:i:5:0")
            assert refused.reason == "HTTP 422: no pauses: please"
    (line,) = [line for line in logs if "set aside" in line["event"]]
    assert (line["machine"], line["reason"]) == ("m", "HTTP 422: no pauses: please")


def test_a_message_that_a_mes_stumbles_over_holds_back_only_its_own_machine(tmp_path: Path) -> None:
    def stumble(method: str, path: str, key: str) -> Fault:
        return (500, {}, "") if path == "machines/m/events" else None

    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = stumble
        with reporting(tmp_path, mes.settings()) as sink:
            other = Story(name="n")
            sink.register("n", (1,), REGISTRATION, other.machine)
            for transition in three_prints():
                record = transition.record
                renamed = type(record)(
                    100 + record.position, "n", "i", record.seq, record.time, record.kind, record.data
                )
                sink.handle(Transition(renamed, transition.before, transition.after, transition.changes))
            wait_until(lambda: [len(m["events"]) for m in mes.store.state(None)["machines"]] == [0, 12])
            mes.spoiled.faults = lambda *_: None
            wait_until(lambda: [len(m["events"]) for m in mes.store.state(None)["machines"]] == [12, 12])


def test_a_mes_that_lost_its_data_is_told_of_the_machine_and_its_status_again(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes, reporting(tmp_path, mes.settings(heartbeat=1.0)):
        check_all_arrived(mes)
        with mes.store._transaction() as connection:
            for table in ("machine", "job", "event", "answered", "bridge"):
                connection.execute(f"DELETE FROM {table}")
        machine = wait_until(lambda: (m := mes.machine()) and m["status"] == "Idle" and m)
        assert machine["events"] == []


def test_a_wrong_token_is_named_once_and_its_replacement_used_without_a_restart(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes, capture_logs() as logs:
        wrong = tmp_path / "other"
        wrong.write_text("a-wrong-one")
        with reporting(tmp_path, mes.settings(token_file=wrong)) as sink:
            wait_until(lambda: len(mes.spoiled.seen) > 3)
            assert mes.machine() is None
            assert "HTTP 401" in str(sink.states()[0].trouble)
            wrong.write_text("correct-horse\n")
            check_all_arrived(mes)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["mes"] == 1
    assert "token_file" in line["remedy"]
    assert "a-wrong-one" not in str(logs)


def test_a_missing_token_stops_only_its_own_mes(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes, capture_logs() as logs:
        late = tmp_path / "late"
        with reporting(tmp_path, mes.settings(), mes.settings(id=2, token_file=late)) as sink:
            check_all_arrived(mes)
            wait_until(lambda: sink.states()[1].trouble)
            assert sink.states()[1].waiting > 0
            late.write_text("correct-horse")
            wait_until(lambda: sink.states()[1].waiting == 0)
        assert events_of(mes.machine() or {}) == EXPECTED  # by its keys the second one told nothing new
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert f"[[mes]] id = 2: token_file: {late} cannot be read" in line["reason"]


@pytest.mark.parametrize("content", ["tok-1", "tok-1\n", "\ufefftok-1\r\n", "  tok-1 \t\n\n"])
def test_a_token_is_read_without_what_editors_put_around_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8", newline="")
    settings = MesSettings(id=1, url="http://mes", service_id="s", token_file=tmp_path / "token")
    assert read_token(settings) == "tok-1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\n", "is empty"),
        ("two words", "more than one word"),
        ("w\u00f6rds", "signs that no header can carry"),
    ],
)
def test_what_is_no_token_is_refused_naming_section_and_key(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    settings = MesSettings(id=7, url="http://mes", service_id="s", token_file=tmp_path / "token")
    client = HttpClient(settings, Contract(settings, "bridge-1"))
    with pytest.raises(MesError, match=rf"\[\[mes\]\] id = 7: token_file: .*{said}") as caught:
        client.send(Message(Kind.HEARTBEAT, None, "k", "{}"))
    assert "two words" not in str(caught.value)


def test_a_token_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MesSettings(id=7, url="http://mes", service_id="s", token_env="MESBRIDGE_TEST_TOKEN")
    with pytest.raises(MesError, match="environment variable MESBRIDGE_TEST_TOKEN is empty"):
        read_token(settings)
    monkeypatch.setenv("MESBRIDGE_TEST_TOKEN", "tok-1")
    assert read_token(settings) == "tok-1"


def test_a_mes_that_knows_no_heartbeat_is_told_everything_and_not_flooded(tmp_path: Path) -> None:
    def no_heartbeat(method: str, path: str, key: str) -> Fault:
        return (404, PROBLEM, "{}") if path == "heartbeat" else None

    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = no_heartbeat
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: (m := mes.machine()) and len(m["events"]) == len(EXPECTED))
            wait_until(lambda: sink.states()[0].waiting == 0)
            wait_until(lambda: sum(path == "heartbeat" for _, path, _ in mes.spoiled.seen) > 3)
        registrations = [path for method, path, _ in mes.spoiled.seen if path == "machines/m"]
        assert len(registrations) == 2  # at the start, and after the first 404


def test_an_unforeseen_failure_is_shown_once_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"is": True}
    send = HttpClient.send

    def sometimes(self: HttpClient, *request: Any) -> Any:
        if broken["is"] and self._settings.id == 2:
            raise RuntimeError("a test says so")
        return send(self, *request)

    monkeypatch.setattr(HttpClient, "send", sometimes)
    with (
        spoiled_mes(tmp_path / "mes") as mes,
        spoiled_mes(tmp_path / "mes2") as other,
        capture_logs() as logs,
        reporting(tmp_path, mes.settings(), other.settings(id=2)) as sink,
    ):
        check_all_arrived(mes)
        wait_until(lambda: "a test says so" in str(sink.states()[1].trouble))
        broken["is"] = False
        check_all_arrived(other)
    assert sum(bool(line.get("exc_info")) for line in logs) == 1


def test_a_header_that_http_cannot_carry_is_named_without_the_token(tmp_path: Path) -> None:
    with (
        spoiled_mes(tmp_path / "mes") as mes,
        capture_logs() as logs,
        reporting(tmp_path, mes.settings(auth_scheme="To\nken")) as sink,
    ):
        wait_until(lambda: "auth_scheme" in str(sink.states()[0].trouble))
    assert TOKEN not in str(logs)


def test_stopping_with_much_to_deliver_leaves_time_to_sign_off(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = lambda *_: time.sleep(0.1)
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: mes.machine())
            (delivery,) = sink._deliveries.values()
            assert delivery.stop(1.0)
        assert mes.spoiled.seen[-1][1] == "sign-off"
        assert sink.states()[0].waiting > 0


def test_a_retry_while_later_messages_are_being_sent_loses_nothing(tmp_path: Path) -> None:
    with spoiled_mes(tmp_path / "mes") as mes:
        retried: list[int] = []
        seen = itertools.count()

        def refuse_the_first_event_and_retry_during_the_second(method: str, path: str, key: str) -> Fault:
            if not path.endswith("/events"):
                return None
            number = next(seen)
            if number == 1:
                retried.append(sink.retry(1))
            return (422, {}, "no") if number == 0 else None

        with reporting(tmp_path, mes.settings()) as sink:
            mes.spoiled.faults = refuse_the_first_event_and_retry_during_the_second
            wait_until(lambda: (m := mes.machine()) and len(m["events"]) == len(EXPECTED))
            wait_until(lambda: sink.states()[0].waiting == 0)
            assert sink.refusals(1, 10) == []
        assert retried == [1]


def test_a_mes_that_knows_no_status_is_asked_twice_and_then_the_status_is_set_aside(tmp_path: Path) -> None:
    def no_status(method: str, path: str, key: str) -> Fault:
        return (404, PROBLEM, "{}") if path.endswith("/status") else None

    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = no_status
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: sink.states()[0].waiting == 0 and sink.states()[0].refused)
        statuses = [path for _, path, _ in mes.spoiled.seen if path.endswith("/status")]
        assert len(statuses) <= 4
        assert events_of(mes.machine() or {}) == EXPECTED


def test_words_of_a_mes_that_nobody_can_keep_or_show_hold_nobody_up(tmp_path: Path) -> None:
    problem = '{"title": "\\ud800", "detail": "a\\u001b[31mb"}'

    with spoiled_mes(tmp_path / "mes") as mes:
        mes.spoiled.faults = lambda method, path, key: (422, PROBLEM, problem) if key == "m:i:5:0" else None
        with reporting(tmp_path, mes.settings()) as sink:
            wait_until(lambda: sink.states()[0].waiting == 0 and sink.states()[0].refused)
            (refused,) = sink.refusals(1, 10)
    assert refused.reason == "HTTP 422:  : a [31mb"
