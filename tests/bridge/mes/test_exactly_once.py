"""Whatever order crashes, replays, lost requests and lost answers come in, the MES ends up knowing the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import wire
from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Message, Outcome, Verdict
from bridge.mes.delivery import Delivery
from bridge.mes.sink import Outbox, _Registered
from bridge.mes.store import Store
from bridge.sandbox.app import BASE_PATH, create_app
from bridge.sandbox.store import Store as MesStore
from bridge.settings import MesSettings
from tests.bridge.events import START, Story
from tests.bridge.mes.chain import REGISTRATION

MES = MesSettings(id=1, url="http://mes", service_id="sandbox", token_env="UNUSED", heartbeat=5, lease=10**4)
FAULTS = ("lost request", "lost answer", "stumble", "wait", "token")


class InProcess:
    """A `Client` that asks the sandbox directly, and fails as `faults` says."""

    def __init__(self, store: MesStore, faults: list[str | None]) -> None:
        self.http = create_app(store, "t", "sandbox").test_client()
        self.adapter = Contract(MES, "bridge-1")
        self.faults = faults

    def send(self, message: Message, timeout: float | None = None) -> Outcome:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lost request":
            return Outcome(Verdict.AWAY, "gone")
        if fault == "stumble":
            return Outcome(Verdict.FAILED, "HTTP 500")
        if fault == "wait":
            return Outcome(Verdict.AWAY, "HTTP 429", 3.0)
        if fault == "token":
            return Outcome(Verdict.UNAUTHORISED, "HTTP 401")
        request = self.adapter.request(message, "t", wire.utc_now())
        answer = self.http.open(
            f"{BASE_PATH}/{request.path}", method=request.method, data=request.body, headers=request.headers
        )
        if fault == "lost answer":
            return Outcome(Verdict.AWAY, "no answer in time")
        assert answer.status_code < 300, answer.get_data(as_text=True)
        return Outcome(Verdict.DONE, answer=json.loads(answer.get_data() or "{}"))

    def close(self) -> None:
        """Nothing is open."""


class Bridge:
    """The MES side of a bridge whose time and threads the test moves."""

    def __init__(self, folder: Path, mes: MesStore, faults: list[str | None]) -> None:
        self.now = 0.0
        self.store = Store(folder / "bridge.sqlite")
        self.outbox = Outbox(self.store, {1: 60.0})
        self.delivery = Delivery(MES, self.store, "bridge-1", InProcess(mes, faults), clock=lambda: self.now)

    def register(self, story: Story, at: int) -> None:
        """As the service does at its start: with the machine as it was where the replay begins."""
        machine = story.transitions[at].before if at < len(story.transitions) else story.machine
        self.delivery.register("m", REGISTRATION.body("bridge-1"))
        replayed = story.transitions[at : max(at, self.store.cursor)]
        self.outbox.take([_Registered("m", (1,), "", machine), *replayed])

    def step(self) -> None:
        self.now += self.delivery.step()


def life() -> Story:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.states("printing", "paused", "printing")
    story.link("lost")
    story.link("up")
    story.tell(wire.JOB_ENDED)
    story.states("operational")
    story.tell(wire.JOB_STARTED, run="run-2")
    story.tell(wire.ERROR)
    story.states("error", "disconnected")
    return story


def outcome(mes: MesStore) -> dict[str, Any]:
    """What the MES knows in the end, but for when it heard of it."""
    (machine,) = mes.state(None)["machines"]
    events = [{k: v for k, v in event.items() if k != "received"} for event in machine["events"]]
    return {**{k: machine[k] for k in ("status", "since", "stack_light", "jobs")}, "events": events}


def play(actions: list[tuple[str, int]], faults: list[str | None]) -> dict[str, Any]:
    story = life()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mes = MesStore(folder / "mes.sqlite", now=lambda: START)
        bridge = Bridge(folder, mes, faults)
        bridge.register(story, 0)
        seen = 0
        for action, amount in [*actions, ("hand over", 1000)]:
            if action == "hand over":
                bridge.outbox.take(story.transitions[seen : seen + amount])
                seen = min(len(story.transitions), seen + amount)
            elif action == "deliver":
                for _ in range(amount):
                    bridge.step()
            else:  # a crash, then a replay from a checkpoint at or before the durable cursor
                bridge.store.close()
                bridge = Bridge(folder, mes, faults)
                seen = bridge.store.cursor
                bridge.register(story, max(0, seen - amount))
        for _ in range(200):
            bridge.step()
        assert bridge.store.counts(1) == (0, 0)
        found = outcome(mes)
        bridge.store.close()
        mes.close()
    return found


ACTIONS = st.tuples(st.sampled_from(["hand over", "deliver", "crash"]), st.integers(1, 6))
EXPECTED = play([], [])


def test_an_undisturbed_life_is_what_it_was() -> None:
    assert [job["state"] for job in EXPECTED["jobs"]] == ["running", "completed"]
    assert EXPECTED["status"] == "Stopped"
    assert [event["type"] for event in reversed(EXPECTED["events"])] == [
        "job_started",
        "job_paused",
        "job_resumed",
        "job_finished",
        "job_started",
        "error",
    ]


@settings(deadline=None, max_examples=30)
@given(st.lists(ACTIONS, max_size=12), st.lists(st.sampled_from([None, *FAULTS]), max_size=25))
def test_any_interleaving_leads_to_the_same(actions: list[tuple[str, int]], faults: list[str | None]) -> None:
    found = play(actions, list(faults))
    assert found == EXPECTED
