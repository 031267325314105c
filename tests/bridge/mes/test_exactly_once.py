"""Whatever order crashes, replays, lost requests and lost answers come in, each MES ends up knowing the same."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bridge import wire
from bridge.machine import Machine, Transition
from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Message, Outcome, Verdict
from bridge.mes.delivery import Delivery
from bridge.mes.outbox import Outbox, Registered
from bridge.mes.store import Store
from bridge.sandbox.app import BASE_PATH, create_app
from bridge.sandbox.store import Answer
from bridge.sandbox.store import Store as MesStore
from bridge.settings import MesSettings
from tests.bridge.events import DATA, START, Story
from tests.bridge.mes.chain import REGISTRATION

MES_IDS = (1, 2)
NAMES = ("m", "n")
MES = {
    one: MesSettings(
        id=one, url="http://mes", service_id="sandbox", token_env="UNUSED", heartbeat=5, lease=10**4
    )
    for one in MES_IDS
}
DISTURBANCES = ("lost request", "lost answer", "stumble", "wait", "token", "crash")
REFUSED = "refused"
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a flush to the disk costs nothing; what is tested here is not the disk."""


class Crash(Exception):
    """The MES is gone in the middle of a transaction."""


class CrashingStore(MesStore):
    """A MES's memory; the next write can be cut off before it is committed."""

    crash_next = False

    def once(
        self, key: str, request: str, digest: str, work: Callable[[sqlite3.Connection], Answer]
    ) -> Answer:
        def cut_off(connection: sqlite3.Connection) -> Answer:
            work(connection)
            raise Crash

        crash, self.crash_next = self.crash_next, False
        return super().once(key, request, digest, cut_off if crash else work)


class InProcess:
    """A `Client` that asks the MES in `folder` directly, and fails as `faults` says, one request after the other."""

    def __init__(self, mes: int, folder: Path) -> None:
        self.path = folder / f"mes-{mes}.sqlite"
        self.adapter = Contract(MES[mes], "bridge-1")
        self.faults: list[str | None] = []
        self._start()

    def _start(self) -> None:
        self.store = CrashingStore(self.path, now=lambda: START)
        app = create_app(self.store, "t", "sandbox")
        app.testing = True  # so that a crash comes through
        self.http = app.test_client()

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
        if fault == REFUSED:
            return Outcome(Verdict.REFUSED, "HTTP 422")
        self.store.crash_next = fault == "crash"
        request = self.adapter.request(message, "t", wire.utc_now())
        try:
            answer = self.http.open(
                f"{BASE_PATH}/{request.path}",
                method=request.method,
                data=request.body,
                headers=dict(request.headers),
            )
        except Crash:
            self.store.close()
            self._start()
            return Outcome(Verdict.AWAY, "the connection ended without an answer")
        if fault == "lost answer":
            return Outcome(Verdict.AWAY, "no answer in time")
        assert answer.status_code < 300, answer.get_data(as_text=True)
        return Outcome(Verdict.DONE, answer=json.loads(answer.get_data() or "{}"))

    def close(self) -> None:
        """Nothing is open."""


def life(name: str) -> Story:
    """Two jobs with all that can be told of them."""
    story = Story(name=name)
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(wire.JOB_STARTED)
    story.states("printing", "paused", "printing")
    story.tell(wire.PROGRESS, print_time_left=2000.0)
    story.tell(wire.FILAMENT_CHANGE)
    story.link("lost")
    story.link("up")
    story.tell(wire.JOB_ENDED)
    story.states("operational")
    story.tell(wire.JOB_STARTED, run="run-2")
    story.tell(wire.PROGRESS, **{**DATA[wire.PROGRESS], "run": "run-2", "print_time_left": 4000.0})
    story.tell(wire.ERROR)
    story.states("error", "disconnected")
    return story


def one_log() -> list[Transition]:
    """The lives of both machines as one log: what happens to them takes turns."""
    turns = zip(*(life(name).transitions for name in NAMES), strict=True)
    both = [transition for turn in turns for transition in turn]
    return [
        replace(transition, record=replace(transition.record, position=position))
        for position, transition in enumerate(both, 1)
    ]


LOG = one_log()


class Bridge:
    """The MES side of a bridge whose time and threads the test moves; a crash leaves `folder` and `clients`."""

    def __init__(
        self, folder: Path, clients: dict[int, InProcess], names: dict[str, str], back: int = 0
    ) -> None:
        self.now = 0.0
        self.names = names
        self.store = Store(folder / "bridge.sqlite")
        self.outbox = Outbox(self.store, dict.fromkeys(MES_IDS, 60.0))
        self.deliveries = {
            mes: Delivery(MES[mes], self.store, "bridge-1", clients[mes], clock=lambda: self.now)
            for mes in MES_IDS
        }
        # As the service does at its start: with the machines as they were where the replay begins.
        self.seen = self.store.cursor
        start = max(0, self.seen - back)
        registered = [self._registered(name, start) for name in NAMES]
        self.outbox.take([*registered, *LOG[start : self.seen]])

    def _registered(self, name: str, at: int) -> Registered:
        body = replace(REGISTRATION, name=self.names[name]).body("bridge-1")
        for delivery in self.deliveries.values():
            delivery.register(name, body)
        known = [transition.after for transition in LOG[:at] if transition.record.machine == name]
        return Registered(name, MES_IDS, known[-1] if known else Machine())

    def hand_over(self, amount: int) -> None:
        self.outbox.take(LOG[self.seen : self.seen + amount])
        self.seen = min(len(LOG), self.seen + amount)

    def register(self, name: str) -> None:
        self.outbox.take([self._registered(name, self.seen)])

    def withdraw(self, name: str) -> None:
        self.outbox.take([Registered(name, (), Machine())])

    def step(self, mes: int) -> bool:
        """Whether there was more to do at once."""
        pause = self.deliveries[mes].step()
        self.now += pause
        return pause == 0


class Life(RuleBasedStateMachine):
    """What happens to two machines is told to two MES instances, and everything goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.clients = {mes: InProcess(mes, Path(self.folder.name)) for mes in MES_IDS}
        self.names = {name: f"Printer {name}" for name in NAMES}
        self.refused = False

    @initialize()
    def begin(self) -> None:
        self.bridge = Bridge(Path(self.folder.name), self.clients, self.names)

    @rule(amount=st.integers(1, 12))
    def something_happens(self, amount: int) -> None:
        self.bridge.hand_over(amount)

    @rule(
        mes=st.sampled_from(MES_IDS),
        faults=st.lists(st.none() | st.sampled_from(DISTURBANCES), min_size=1, max_size=6),
    )
    def it_is_delivered(self, mes: int, faults: list[str | None]) -> None:
        self.clients[mes].faults = faults
        for _ in faults:
            self.bridge.step(mes)
        self.clients[mes].faults = []

    @rule(mes=st.sampled_from(MES_IDS), before=st.integers(0, 5))
    def the_mes_refuses_one(self, mes: int, before: int) -> None:
        self.clients[mes].faults = [None] * before + [REFUSED]
        self.bridge.step(mes)
        self.clients[mes].faults = []
        self.refused = True

    @rule(mes=st.sampled_from(MES_IDS), name=st.none() | st.sampled_from(NAMES))
    def a_person_has_it_sent_once_more(self, mes: int, name: str | None) -> None:
        self.bridge.deliveries[mes].retry(name)

    @rule(back=st.integers(0, 12))
    def the_bridge_crashes(self, back: int) -> None:
        """And begins again at a checkpoint at or before what is durable."""
        self.bridge.store.close()
        self.bridge = Bridge(Path(self.folder.name), self.clients, self.names, back)

    @rule(name=st.sampled_from(NAMES))
    def a_machine_gets_another_name(self, name: str) -> None:
        self.names[name] += "!"
        self.bridge.register(name)

    @rule(name=st.sampled_from(NAMES), steps=st.integers(0, 3))
    def a_machine_is_taken_out_and_put_back(self, name: str, steps: int) -> None:
        self.bridge.withdraw(name)
        for mes in MES_IDS:
            for _ in range(steps):
                self.bridge.step(mes)
        self.bridge.register(name)

    def teardown(self) -> None:
        try:
            if hasattr(self, "bridge"):
                self.check()
        finally:
            self.bridge.store.close()
            for client in self.clients.values():
                client.store.close()
            self.folder.cleanup()

    def check(self) -> None:
        self.bridge.hand_over(len(LOG))
        for mes in MES_IDS:
            self.deliver_all(mes)
            self.bridge.deliveries[mes].retry()
            self.deliver_all(mes)
            found = outcome(self.clients[mes].store, self.refused)
            assert {machine["id"]: machine.pop("name") for machine in found} == self.names
            assert found == EXPECTED[self.refused]

    def deliver_all(self, mes: int) -> None:
        for _ in range(300):
            if not self.bridge.step(mes) and not self.bridge.store.counts(mes)[0]:
                return
        raise AssertionError("something waits for ever")


def outcome(mes: MesStore, late: bool) -> list[dict[str, Any]]:
    """What the MES knows in the end, but for when it heard of it; what came `late` came out of order."""
    machines = mes.state(None)["machines"]
    for machine in machines:
        events = [{k: v for k, v in event.items() if k != "received"} for event in machine["events"]]
        machine["events"] = sorted(events, key=lambda event: event["key"]) if late else events
        if late:  # an estimate that is heard of after the end changes nothing
            machine["jobs"] = [
                {k: v for k, v in job.items() if k != "estimated_duration"} for job in machine["jobs"]
            ]
    told = ("id", "name", "status", "since", "stack_light", "jobs", "events")
    return sorted(({k: machine[k] for k in told} for machine in machines), key=lambda machine: machine["id"])


def outcome_of_an_undisturbed_life(late: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        clients = {mes: InProcess(mes, Path(name)) for mes in MES_IDS}
        bridge = Bridge(Path(name), clients, dict.fromkeys(NAMES, ""))
        bridge.hand_over(len(LOG))
        for mes in MES_IDS:
            for _ in range(50):
                bridge.step(mes)
        found = [outcome(client.store, late) for client in clients.values()]
        bridge.store.close()
        for client in clients.values():
            client.store.close()
    assert found[0] == found[1]
    return [{k: v for k, v in machine.items() if k != "name"} for machine in found[0]]


EXPECTED = {late: outcome_of_an_undisturbed_life(late) for late in (False, True)}


def test_an_undisturbed_life_is_what_it_was() -> None:
    for machine in EXPECTED[False]:
        assert [job["state"] for job in machine["jobs"]] == ["running", "completed"]
        assert machine["status"] == "Stopped"
        assert [event["type"] for event in reversed(machine["events"])] == [
            "job_started",
            "job_paused",
            "job_resumed",
            "job_estimate_changed",
            "warning",
            "job_finished",
            "job_started",
            "job_estimate_changed",
            "error",
        ]


class TestAnyInterleavingLeadsToTheSame(Life.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(
        deadline=None, max_examples=40, stateful_step_count=15, suppress_health_check=list(HealthCheck)
    )
