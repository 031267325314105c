"""When a MES instance is told what: registrations first, then waiting messages, a sign of life in between.

In flow the messages that wait in the store, out flow requests. One thread for each MES instance, so that a slow
one never delays another. Messages of one machine go in order; one that the MES stumbles over holds back only
its own machine. Whatever was sent without an answer is sent again under the same idempotency key.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

import structlog

from bridge.mes.client import Client, Kind, Message, Outcome, Verdict
from bridge.mes.states import DeliveryLoad, DeliveryState, MachineState
from bridge.mes.store import STATUS, MesError, Store, Waiting
from bridge.mes.trouble import Pace, Troubles
from bridge.settings import MesSettings

log = structlog.get_logger(__name__)

_BATCH = 100
_SHARE_FOR_DELIVERY = 0.6
_AS_LONG_AS_IT_TAKES_S = 3600.0


@dataclass(slots=True)
class _Registration:
    """What a machine is to be registered as, and what came of it."""

    body: str
    key: str
    activation: str | None = None

    @property
    def done(self) -> bool:
        return self.activation is not None


class Delivery:
    """Tells one MES instance. `start` runs it in a thread of its own; `step` is what that thread repeats."""

    def __init__(
        self,
        settings: MesSettings,
        store: Store,
        bridge_id: str,
        client: Client | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mes = settings.id
        self._settings = settings
        self._store = store
        self._bridge = bridge_id
        self._client = client or _http_client(settings, bridge_id)
        self._pace = pace or Pace()
        self._clock = clock
        self._log = structlog.get_logger(__name__, mes=settings.id, url=settings.url)
        self._changed = threading.Condition()
        self._awake = False
        self._stop_at: float | None = None
        self._deliver_until: float | None = None
        self._registrations: dict[str, _Registration] = {}
        self._leaving: set[str] = set()
        self._signs_off = True
        self._after: Delivery | None = None
        self._elsewhere = False
        self._troubles = Troubles(settings.id, self._pace, clock, self._log)
        self._next_beat = 0.0
        self._beats_failed = 0
        self._unknown_before = False
        self._forgotten: set[tuple[str, str]] = set()
        self._outcomes = dict.fromkeys(Verdict, 0)
        self._thread = threading.Thread(target=self._run, name=f"mes-{settings.id}", daemon=True)

    @property
    def settings(self) -> MesSettings:
        """Those with which it was made."""
        return self._settings

    def start(self, after: Delivery | None = None, *, elsewhere: bool = False) -> None:
        """Begin to deliver; if there is one before it in its place, when that has ended. That one may have told a MES
        `elsewhere`: this one then hears of each machine's status, though that is not new."""
        self._after = after
        self._elsewhere = elsewhere
        self._thread.start()

    def take_over(self, before: Delivery) -> None:
        """Register what `before` was to register; before `start`."""
        with before._changed:
            known = {machine: one.body for machine, one in before._registrations.items()}
            self._leaving = set(before._leaving)
        self._registrations = {
            machine: _Registration(body, _fresh(machine, "registration")) for machine, body in known.items()
        }

    def retire(self, within: float, *, deliver: bool = True, sign_off: bool = True) -> None:
        """End within so many seconds, as soon as no request is on its way; does not wait for it.

        Before that, `deliver` what can be delivered, and `sign_off`, so that the MES shows the machines Offline.
        """
        with self._changed:
            # The rest is for the sign-off: without it the MES shows the machines until the lease ends.
            share = _SHARE_FOR_DELIVERY if deliver else 0.0
            self._signs_off = sign_off
            self._deliver_until = self._clock() + within * share
            self._stop_at = self._clock() + within
        self.wake()

    def wait(self, within: float) -> bool:
        """Wait for the end of one that was told to end; says after `within` seconds whether it has ended."""
        if self._thread.is_alive():
            self._thread.join(within)
        return not self._thread.is_alive()

    def stop(self, within: float) -> bool:
        """Deliver what can be delivered, sign off and end; blocks, and says after `within` seconds whether it
        has ended."""
        self.retire(within)
        return self.wait(within)

    def wake(self) -> None:
        """There is something new to deliver."""
        with self._changed:
            self._awake = True
            self._changed.notify()

    def register(self, machine: str, body: str) -> None:
        """Let the MES know `machine` as `body` says, before anything else of it."""
        with self._changed:
            known = self._registrations.get(machine)
            if known is None or known.body != body:
                self._registrations[machine] = _Registration(body, _fresh(machine, "registration"))
            self._leaving.discard(machine)
        self.wake()

    def unregister(self, machine: str) -> None:
        """Do not let the MES know `machine` anew once it has what waits of it."""
        with self._changed:
            if machine in self._registrations:
                self._leaving.add(machine)
        self.wake()

    def state(self) -> DeliveryState:
        """How it stands. Raises `MesError`."""
        waiting, told = self._store.waiting_of(self.mes), self._store.told(self.mes)
        refused = self._store.refused_of(self.mes)
        trouble, held = self._troubles.whole, dict(self._troubles.held)
        with self._changed:
            activation = {m: r.activation for m, r in self._registrations.items()}
        machines = {
            one: MachineState(
                activation.get(one),
                told.get(one),
                waiting.get(one, 0),
                refused.get(one, 0),
                held[one].reason if one in held else None,
            )
            for one in sorted({*activation, *waiting, *refused})
        }
        return DeliveryState(
            self.mes,
            self._settings.url,
            trouble.reason if trouble else None,
            trouble.began(self._clock()) if trouble else None,
            sum(waiting.values()),
            sum(refused.values()),
            machines,
        )

    def load(self) -> DeliveryLoad:
        """In figures. Raises `MesError`."""
        waiting, refused = self._store.counts(self.mes)
        trouble, since = self._troubles.whole, []
        if waiting:
            event = self._store.waits_since(self.mes)
            since += [event] if event is not None else []
            if trouble is not None:
                since.append(trouble.began(self._clock()))
        with self._changed:
            registered = sum(r.done for r in self._registrations.values())
        return DeliveryLoad(
            self.mes,
            waiting,
            min(since, default=None),
            refused,
            trouble is None,
            registered,
            {verdict.value: count for verdict, count in self._outcomes.items()},
        )

    def retry(self, machine: str | None = None) -> int:
        """Send once more what the MES refused, all or what is of one machine; returns how many messages that are.
        Raises `MesError`."""
        count = self._store.retry(self.mes, machine)
        self.wake()
        return count

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.wait(_AS_LONG_AS_IT_TAKES_S)
                self._after = None
            while self._stop_at is None:
                self._wait(self.step())
            self._finish(self._stop_at)
        finally:
            self._client.close()

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if not self._awake and seconds > 0:
                self._changed.wait(seconds)
            self._awake = False

    def _finish(self, deadline: float) -> None:
        if not self._signs_off:
            return
        while self._troubles.whole is None and not self._late() and self._registered_machines():
            if self.step() > 0:
                break
        if self._troubles.whole is None and self._clock() < deadline and self._registered_machines():
            body = json.dumps({"bridge": self._bridge})
            outcome = self._send(Message(Kind.SIGN_OFF, None, _fresh(self._bridge, "sign-off"), body))
            if outcome.verdict is not Verdict.DONE:
                self._log.warning("could not sign off: the MES shows the machines until the lease ends")

    def _late(self) -> bool:
        return self._deliver_until is not None and self._clock() >= self._deliver_until

    def step(self) -> float:
        """Do what is due; returns the seconds until there is something to do without being woken."""
        now = self._clock()
        if self._troubles.whole is not None and now < self._troubles.whole.until:
            return self._troubles.whole.until - now
        try:
            if self._elsewhere:
                self._tell_all_again()
            if self._register_all() and self._beat_when_due():
                if self._deliver_batch():
                    return 0.0
                self._let_go()
        except MesError as error:  # the store fails
            self._troubles.stumble(Outcome(Verdict.AWAY, str(error)))
        except Exception as error:  # noqa: BLE001 (shown below)
            # A fault of ours: this MES waits and is tried again, and nobody else is held up.
            reason = f"unexpected failure: {error!r}"
            if self._troubles.whole is None or self._troubles.whole.reason != reason:
                self._log.exception("telling the MES failed in a way that nobody foresaw; please report it")
            self._troubles.stumble(Outcome(Verdict.AWAY, reason, self._pace.slow))
        return max(0.0, self._next_due(now) - self._clock())

    def _next_due(self, begun: float) -> float:
        """When there is something to do after a step; what was due when it had `begun` was tried in it."""
        if self._troubles.whole is not None and self._troubles.whole.until > begun:
            return self._troubles.whole.until
        due = [held.until for held in self._troubles.held.values() if held.until > begun]
        if self._registered_machines():
            due.append(self._next_beat)
        with self._changed:
            if any(not r.done and m not in self._troubles.held for m, r in self._registrations.items()):
                due.append(begun)
        return min(due, default=begun + self._pace.longest)

    def _registered_machines(self) -> bool:
        with self._changed:
            return any(r.done for r in self._registrations.values())

    def _register_all(self) -> bool:
        """Register whatever is new or changed; False when the MES cannot be told anything now."""
        holding = self._troubles.holding()
        with self._changed:
            todo = [
                (m, replace(r)) for m, r in self._registrations.items() if not r.done and m not in holding
            ]
        for machine, wanted in todo:
            outcome = self._send(Message(Kind.REGISTRATION, machine, wanted.key, wanted.body))
            activation = (outcome.answer or {}).get("activation")
            if not self._troubles.judge(machine, outcome):
                if self._troubles.whole is not None:
                    return False
                continue
            with self._changed:
                current = self._registrations.get(machine)
                if current is not None and current.key == wanted.key:
                    current.activation = str(activation)
            if activation == "refused":
                self._log.warning("the MES refuses the machine; have it activated there", machine=machine)
            if self._late() or not self._beat_when_due():
                return False
        return True

    def _beat_when_due(self) -> bool:
        if self._clock() < self._next_beat or not self._registered_machines():
            return True
        body = json.dumps({"bridge": self._bridge, "lease": self._settings.lease})
        outcome = self._send(Message(Kind.HEARTBEAT, None, _fresh(self._bridge, "heartbeat"), body))
        self._next_beat = self._clock() + self._settings.heartbeat
        if outcome.verdict is Verdict.DONE:
            self._troubles.recover()
            if self._beats_failed:
                self._log.info("the MES takes signs of life again")
            self._beats_failed = 0
            self._unknown_before = False
            return True
        unknown = outcome.verdict is Verdict.UNKNOWN
        if outcome.verdict in (Verdict.FAILED, Verdict.REFUSED) or (unknown and self._unknown_before):
            # Only the heartbeat fails, or is unknown to this MES although machines were just registered: what is
            # to be told must not wait for it.
            if not self._beats_failed:
                self._log.error("the MES does not take signs of life", reason=outcome.reason)
            self._beats_failed += 1
            self._next_beat = self._clock() + min(
                self._settings.heartbeat, self._pace.pause(self._beats_failed)
            )
            return True
        self._next_beat = 0.0
        if not unknown:
            self._troubles.stumble(outcome)
            return False
        self._unknown_before = True
        self._log.info("the MES does not know the bridge any more; all machines are registered again")
        with self._changed:
            machines = [machine for machine in self._registrations if machine not in self._leaving]
        for machine in machines:
            self._register_again(machine)
        return False

    def _deliver_batch(self) -> bool:
        """Deliver a batch; True when there may be more to do at once."""
        with self._changed:
            held = self._troubles.holding() | {m for m, r in self._registrations.items() if not r.done}
        batch = self._store.waiting(self.mes, _BATCH, held)
        done: list[Waiting] = []
        try:
            for message in batch:
                if message.machine in held:
                    continue
                verdict = self._deliver(message)
                if verdict is Verdict.DONE:
                    done.append(message)
                elif verdict is not Verdict.REFUSED:
                    held.add(message.machine)
                    if self._troubles.whole is not None:
                        return False
                if self._late() or not self._beat_when_due():
                    return False
        finally:
            if done:
                self._store.delivered(self.mes, done)
        return bool(batch)

    def _tell_all_again(self) -> None:
        with self._changed:
            machines = list(self._registrations)
        for machine in machines:
            self._store.tell_again(machine, self.mes, _fresh(machine, "status"))
        self._elsewhere = False

    def _let_go(self) -> None:
        """Forget the machines that have left and of which nothing waits: else a MES that loses its data would get
        them back."""
        if not self._leaving:
            return
        waiting = self._store.waiting_of(self.mes)
        with self._changed:
            gone = {machine for machine in self._leaving if machine not in waiting}
            self._leaving -= gone
            for machine in gone:
                self._registrations.pop(machine, None)
                self._troubles.held.pop(machine, None)

    def _deliver(self, message: Waiting) -> Verdict:
        """What became of the message: done, refused and set aside, or else to be sent again."""
        outcome = self._send(Message(Kind(message.kind), message.machine, message.key, message.body))
        what = (message.machine, message.kind)  # not the message: a status that is told again has another key
        if outcome.verdict is Verdict.UNKNOWN and message.kind == STATUS and self._has_left(message.machine):
            self._troubles.judge(message.machine, Outcome(Verdict.DONE))
            return Verdict.DONE  # a MES that does not know it shows nothing of it
        if outcome.verdict is Verdict.UNKNOWN and what not in self._forgotten:
            self._forgotten.add(what)
            if self._register_again(message.machine):
                return Verdict.UNKNOWN
        if outcome.verdict in (Verdict.REFUSED, Verdict.UNKNOWN):
            self._troubles.held.pop(message.machine, None)
            self._troubles.recover()
            given_up = self._store.refuse(message, outcome.reason)
            self._log.error(
                "the MES refused a message; it is set aside, and kept",
                machine=message.machine,
                key=message.key,
                reason=outcome.reason,
            )
            if given_up:
                self._log.error(
                    "too many messages are refused: the oldest of them are given up", given_up=given_up
                )
            return Verdict.REFUSED
        if outcome.verdict is Verdict.DONE:
            self._forgotten.discard(what)
        if outcome.verdict is Verdict.DONE and outcome.reason:
            self._log.warning(
                "the MES had a message already, in other words: it counts as told",
                machine=message.machine,
                key=message.key,
                reason=outcome.reason,
            )
        self._troubles.judge(message.machine, outcome)
        return outcome.verdict

    def _has_left(self, machine: str) -> bool:
        with self._changed:
            return machine not in self._registrations or machine in self._leaving

    def _register_again(self, machine: str) -> bool:
        """A MES that forgot the machine learns of it, and of its status, anew."""
        with self._changed:
            known = self._registrations.get(machine)
            if known is None:
                return False
            self._registrations[machine] = _Registration(known.body, _fresh(machine, "registration"))
        self._store.tell_again(machine, self.mes, _fresh(machine, "status"))
        return True

    def _send(self, message: Message) -> Outcome:
        timeout = None if self._stop_at is None else max(0.1, self._stop_at - self._clock())
        try:
            outcome = self._client.send(message, timeout)
        except MesError as error:  # there is no token
            outcome = Outcome(Verdict.AWAY, str(error))
        self._outcomes[outcome.verdict] += 1
        return outcome


def _fresh(name: str, what: str) -> str:
    """A key for a request that says how something is, and may rightly be sent again later."""
    return f"{name}:{what}:{uuid4().hex}"


def _http_client(settings: MesSettings, bridge_id: str) -> Client:
    from bridge.mes.adapters import adapter_for
    from bridge.mes.http import HttpClient

    return HttpClient(settings, adapter_for(settings, bridge_id))
