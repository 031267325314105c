"""A webhook gets CloudEvents whose signatures an independent library accepts, each once and in order."""

from __future__ import annotations

import base64
import json
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook, WebhookVerificationError

from bridge import wire
from bridge.mes.adapters.cloudevents import CloudEvents
from bridge.mes.client import Answer, Kind, Message, SecretError, Verdict
from bridge.settings import MesSettings
from tests.bridge.events import Story
from tests.bridge.mes.chain import REGISTRATION, make_sink, wait_until
from tests.bridge.mes.contract import validator

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
NOW = datetime.now(UTC)
STATUS = Message(Kind.STATUS, "m", "m:i:7:0", '{"status": "Idle", "since": null, "stack_light": "white"}')


def adapter() -> CloudEvents:
    return CloudEvents(MesSettings(id=1, url="http://mes", adapter="cloudevents", token_env="T"), "b-1")


class Receiver:
    """A webhook that believes nothing without a signature; `spoil` may give another status code, or None for no
    answer at all."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.events: dict[str, Any] = {}
        self.attempts: list[str] = []
        self.refused = 0
        self.spoil: Callable[[str], int | None] = lambda webhook_id: 204

    def take(self, headers: dict[str, str], body: bytes) -> int | None:
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.refused += 1
            return 401
        event = from_http_event(HTTPMessage(headers=headers, body=body))
        self.attempts.append(event.get_id())
        code = self.spoil(event.get_id())
        if code is None or code < 300:
            self.events.setdefault(event.get_id(), event)
        return code

    def types(self) -> list[str]:
        return [event.get_type() for event in self.events.values() if ".bridge." not in event.get_type()]


@contextmanager
def receiving(secret: str = SECRET) -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            if code is None:
                self.close_connection = True
                return
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_address[1]}/hooks/printers"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def telling(folder: Path, url: str, secret: str = SECRET) -> Iterator[Any]:
    """A sink that tells the webhook of one print, start to end."""
    (folder / "secret").write_text(secret)
    settings = MesSettings(id=1, url=url, adapter="cloudevents", token_file=folder / "secret", timeout=5.0)
    sink, story = make_sink(folder, settings), Story()
    sink.register("m", (1,), REGISTRATION, story.machine)
    sink.start()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.tell(wire.PROGRESS, print_time=1.0, print_time_left=700.0)
    story.states("printing", "paused", "printing")
    story.tell(wire.JOB_ENDED)
    story.states("operational")
    for transition in story.transitions:
        sink.handle(transition)
    try:
        yield sink
    finally:
        (delivery,) = sink._deliveries.values()
        delivery.stop(5)
        sink._items.put(None)
        sink._writer.join()


EVENTS = [
    f"mesbridge.machine.{one}.v1"
    for one in ("job_started", "job_estimate_changed", "job_paused", "job_resumed", "job_finished")
]


def events_in(receiver: Receiver) -> list[str]:
    return [one for one in receiver.types() if ".job_" in one]


def idle(receiver: Receiver) -> bool:
    statuses = [
        event.get_data() for event in receiver.events.values() if event.get_type().endswith("status.v1")
    ]
    return bool(statuses) and statuses[-1]["status"] == "Idle" and events_in(receiver) == EVENTS


def test_a_print_arrives_as_events_whose_data_is_what_the_contract_says(tmp_path: Path) -> None:
    with receiving() as (receiver, url):
        with telling(tmp_path, url):
            wait_until(lambda: idle(receiver))
        assert receiver.refused == 0
        assert receiver.types()[0] == "mesbridge.machine.registered.v1"
        schemas = {
            "registered": "Registration",
            "status": "Status",
            "heartbeat": "Heartbeat",
            "signed_off": "SignOff",
        }
        for event in receiver.events.values():
            name = event.get_type().split(".")[2]
            validator(schemas.get(name, "Event")).validate(event.get_data())
            assert event.get_source() == "urn:mesbridge:bridge-1"
            assert event.get_subject() == ("m" if ".machine." in event.get_type() else None)
        started = next(event for event in receiver.events.values() if "job_started" in event.get_type())
        assert started.get_time() == datetime.fromisoformat(started.get_data()["job"]["started"])
        assert list(receiver.events.values())[-1].get_type() == "mesbridge.bridge.signed_off.v1"


@pytest.mark.parametrize("fault", [None, 500, 502, 503, 429, 408])
def test_a_receiver_that_fails_hears_the_same_again_under_the_same_id(
    tmp_path: Path, fault: int | None
) -> None:
    count = iter(range(10_000))
    with receiving() as (receiver, url):
        receiver.spoil = lambda webhook_id: fault if next(count) % 3 < 2 else 204
        with telling(tmp_path, url):
            wait_until(lambda: idle(receiver))
        assert len(receiver.attempts) > len(receiver.events)


@pytest.mark.parametrize("code", [404, 410, 302])
def test_a_webhook_that_is_gone_is_said_and_everything_kept(tmp_path: Path, code: int) -> None:
    with receiving() as (receiver, url), telling(tmp_path, url) as sink:
        receiver.spoil = lambda webhook_id: code
        wait_until(lambda: f"HTTP {code}" in str(sink.states()[0].trouble))
        receiver.spoil = lambda webhook_id: 204
        wait_until(lambda: idle(receiver))
        assert sink.states()[0].refused == 0


def test_a_secret_is_replaced_without_a_message_being_lost(tmp_path: Path) -> None:
    with receiving(OTHER) as (receiver, url), telling(tmp_path, url) as sink:
        wait_until(lambda: "HTTP 401" in str(sink.states()[0].trouble))
        (tmp_path / "secret").write_text(f"{SECRET}\n{OTHER}\n")  # both, while the receiver changes over
        wait_until(lambda: idle(receiver))


def test_the_signature_is_that_of_the_attempt_and_the_rest_stays_the_same() -> None:
    first = adapter().request(STATUS, SECRET, NOW)
    again = adapter().request(STATUS, SECRET, NOW + timedelta(seconds=30))
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert first.headers["webhook-signature"] != again.headers["webhook-signature"]
    assert json.loads(first.body)["id"] == STATUS.key
    assert "time" not in json.loads(first.body)  # nobody knows since when
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(first.body, dict(first.headers))


def test_the_check_in_the_document_accepts_what_is_genuine_and_nothing_else() -> None:
    document = (Path(__file__).parents[4] / "docs" / "mes-webhook.md").read_text(encoding="utf-8")
    code = textwrap.dedent("   " + document.partition("```python\n   ")[2].partition("```")[0])
    names: dict[str, Any] = {}
    exec(code, names)
    is_genuine = names["is_genuine"]
    sent = adapter().request(STATUS, f"{OTHER} {SECRET}", datetime.now(UTC))
    assert is_genuine(SECRET, sent.headers, sent.body)
    assert is_genuine(OTHER, sent.headers, sent.body)
    assert not is_genuine(SECRET, sent.headers, sent.body + b" ")
    assert not is_genuine("whsec_" + base64.b64encode(b"x" * 32).decode(), sent.headers, sent.body)
    old = adapter().request(STATUS, SECRET, datetime.now(UTC) - timedelta(minutes=10))
    assert not is_genuine(SECRET, old.headers, old.body)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("whsec_%%%", "no base64"),
        ("a3" * 24, "does not begin with whsec_"),
        ("whsec_" + base64.b64encode(b"short").decode(), "holds 5 bytes"),
        ("whsec_" + base64.b64encode(b"l" * 65).decode(), "holds 65 bytes"),
        (f"{SECRET} {SECRET} {SECRET}", "more than 2 secrets"),
    ],
)
def test_what_is_no_secret_is_refused_without_showing_it(secret: str, words: str) -> None:
    with pytest.raises(SecretError, match=words) as caught:
        adapter().request(STATUS, secret, NOW)
    assert secret not in str(caught.value)


def test_a_bad_secret_names_section_and_key(tmp_path: Path) -> None:
    with receiving() as (_, url), telling(tmp_path, url, "no-secret") as sink:
        wait_until(lambda: "[[mes]] id = 1: token_file:" in str(sink.states()[0].trouble))


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (200, Verdict.DONE),
        (202, Verdict.DONE),
        (400, Verdict.REFUSED),
        (410, Verdict.FOREIGN),
        (504, Verdict.AWAY),
    ],
)
def test_what_an_answer_means(code: int, verdict: Verdict) -> None:
    answer = Answer(code, {"content-type": "text/html"}, b"thanks")
    assert adapter().outcome(STATUS, answer).verdict is verdict
