"""Handing a key to a bridge that is honest, closed, slow, away, somebody else, or in somebody's hands."""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import handshake, wire
from octoprint_mesbridge import pairing
from octoprint_mesbridge.notice import Notice, NoticeError
from octoprint_mesbridge.pairing import Pairing, Timing

from .receiver import Receiver, fingerprint, make_certificate
from .test_sender import eventually

FAST = Timing(poll=0.02, connect=0.5, read=0.5)
OWN = "http://192.168.1.41:5000"


class Plugin:
    """What the pairing asks for, and what came of it."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.withdrawn = 0
        self.kept = 0
        self.bridge: tuple[str, str | None] | None = None
        self.changes = 0
        self.name = "Prusa 4"
        self.trouble: Exception | None = None

    def introduction(self) -> dict[str, str]:
        return {
            "uuid": "5d0e",
            "name": self.name,
            "octoprint_version": "1.11.8",
            "plugin_version": "0.2.0",
        }

    def make_key(self) -> str:
        if self.trouble:
            raise self.trouble
        self.made.append(secrets.token_urlsafe(32))
        return self.made[-1]

    def withdraw_key(self) -> None:
        self.withdrawn += 1

    def keep_key(self) -> None:
        self.kept += 1

    def paired(self, url: str, certificate: str | None) -> None:
        self.bridge = (url, certificate)

    def pairing_changed(self) -> None:
        self.changes += 1


class Plant:
    """A plugin that pairs, and a bridge."""

    def __init__(self, certificate: Path | None = None, timing: Timing = FAST) -> None:
        self.bridge = Receiver(certificate)
        self.plugin = Plugin()
        self.pairing = Pairing(self.plugin, logging.getLogger("mesbridge.test"), timing)

    def request(self) -> None:
        self.pairing.request(self.bridge.url, OWN)

    def status(self) -> dict[str, Any]:
        return self.pairing.status() or {}

    def message(self) -> str:
        return str(self.status()["message"])

    def until(self, state: str) -> None:
        try:
            eventually(lambda: self.status()["state"] == state)
        except AssertionError:
            raise AssertionError(f"{self.status()}") from None

    def confirm(self) -> bool:
        """Whatever code is shown."""
        return self.pairing.confirm(self.status().get("code") or "")

    def key_at_bridge(self) -> str | None:
        return next((one.api_key for one in self.bridge.received.pairings.values() if one.api_key), None)

    def end(self) -> None:
        self.pairing.stop(5.0)
        self.bridge.stop()


@pytest.fixture
def plant() -> Iterator[Plant]:
    plant = Plant()
    yield plant
    plant.end()


def test_the_key_is_handed_over_when_the_person_confirmed_and_the_bridge_accepted(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    assert plant.status()["code"] == plant.bridge.code()
    assert plant.status()["bridge_name"] == "Hall 3"
    assert "mesbridge pair list" in plant.message()

    assert plant.pairing.confirm(plant.bridge.code())
    plant.until(pairing.CONFIRMED)
    assert plant.plugin.made == []

    plant.bridge.accept_pairing()
    plant.until(pairing.DONE)
    assert [plant.key_at_bridge()] == plant.plugin.made
    assert plant.plugin.bridge == (plant.bridge.url, None)
    assert plant.plugin.withdrawn == 0
    assert plant.status()["code"] is None
    assert plant.message() == "Paired with the bridge"
    assert plant.plugin.kept == 0

    plant.pairing.cancel()  # puts it away
    assert plant.pairing.status() is None

    (one,) = plant.bridge.received.pairings.values()
    said = one.introduction
    assert (said.uuid, said.name, said.url, said.certificate) == ("5d0e", "Prusa 4", OWN, None)


def test_the_bridges_acceptance_alone_makes_no_key(plant: Plant) -> None:
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    eventually(lambda: "Accepted at the bridge" in plant.message())
    eventually(lambda: len(plant.bridge.received.paths) > 8)
    assert plant.plugin.made == []
    plant.confirm()
    plant.until(pairing.DONE)
    assert [plant.key_at_bridge()] == plant.plugin.made


def test_a_code_that_is_no_longer_shown_cannot_be_confirmed(plant: Plant) -> None:
    assert not plant.confirm()
    plant.request()
    plant.until(pairing.COMPARING)
    for code in ("000-00x", ""):
        assert not plant.pairing.confirm(code)
    assert plant.status()["state"] == pairing.COMPARING


@pytest.mark.parametrize(
    ("state", "end", "words"),
    [
        (handshake.REFUSED, pairing.REFUSED, "This OctoPrint was refused at the bridge"),
        (
            handshake.EXPIRED,
            pairing.EXPIRED,
            "The codes were not compared and accepted in time: request pairing again",
        ),
        (handshake.CANCELLED, pairing.CANCELLED, "Pairing was cancelled"),
        (handshake.FAILED, pairing.FAILED, "The bridge could not take this OctoPrint: not ours"),
    ],
)
def test_a_bridge_that_says_no_ends_it_without_a_key_in_the_plugins_own_words(
    plant: Plant, state: str, end: str, words: str
) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.bridge.accept_pairing(state, "not\u202eours".replace("\u202e", " "))
    plant.until(end)
    assert plant.message() == words
    assert plant.plugin.made == []
    assert plant.plugin.bridge is None


def test_a_bridge_that_could_not_take_the_key_has_it_withdrawn(plant: Plant) -> None:
    plant.bridge.received.taken = handshake.State(handshake.FAILED, "config.json is read-only")
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.bridge.accept_pairing()
    plant.until(pairing.FAILED)
    assert "config.json is read-only. The key made for it was withdrawn" in plant.message()
    assert plant.plugin.withdrawn == 1
    assert plant.plugin.bridge is None


def test_a_bridge_that_says_it_has_a_key_it_was_never_given_is_not_believed(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.bridge.accept_pairing(handshake.SERVED)
    plant.until(pairing.FAILED)
    assert "never given" in plant.message()
    assert plant.plugin.bridge is None


def test_a_bridge_that_is_not_open_for_pairing_says_how_to_open_it(plant: Plant) -> None:
    plant.bridge.received.pairing_open = False
    plant.request()
    plant.until(pairing.FAILED)
    assert "mesbridge pair open" in plant.message()


@pytest.mark.parametrize(
    ("status", "error", "path", "words"),
    [
        (429, "too_many", "", "has too many pairing requests"),
        (403, "certificate", "", "something stands between them"),
        (403, "plain", "", "was asked over plain http here"),
        (404, "unknown", "", "as new as this plugin"),
        (404, "unknown", "/foo", "usually ends after the port, as http://127.0.0.1:"),
        (418, "teapot", "", "does not take the request: as the test wants it"),
    ],
)
def test_a_request_that_is_not_taken_is_said_in_the_plugins_own_words(
    plant: Plant, status: int, error: str, path: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugin.receiver._Handler._route", lambda self, *_: self._refuse(status, error))
    plant.pairing.request(plant.bridge.url + path, OWN)
    plant.until(pairing.FAILED)
    assert words in plant.message()
    assert ("as the test wants it" in plant.message()) is (error == "teapot")


def test_a_bridge_that_is_not_there_is_said_in_words(plant: Plant) -> None:
    plant.bridge.stop()
    plant.request()
    plant.until(pairing.FAILED)
    assert "nothing listens on that port" in plant.message()


def test_what_is_no_address_is_refused_at_once(plant: Plant) -> None:
    with pytest.raises(NoticeError, match="no address"):
        plant.pairing.request("bridge", OWN)
    with pytest.raises(NoticeError, match="no address"):
        plant.pairing.request(plant.bridge.url, "octopi.local")
    assert plant.pairing.status() is None


def test_a_bridge_that_was_restarted_has_forgotten_the_request(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.bridge.received.pairings.clear()
    plant.until(pairing.EXPIRED)
    assert "request pairing again" in plant.message()


def test_a_bridge_that_is_away_for_a_while_is_asked_again(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.bridge.stop()
    eventually(lambda: "nothing listens" in plant.message())
    assert plant.status()["state"] == pairing.CONFIRMED
    plant.bridge.start()
    eventually(lambda: "Waiting until" in plant.message())
    plant.bridge.accept_pairing()
    plant.until(pairing.DONE)


def test_a_request_that_nobody_answers_expires(plant: Plant) -> None:
    plant.bridge.received.expires_in = 0.3
    plant.request()
    plant.until(pairing.COMPARING)
    assert plant.status()["expires"]
    plant.until(pairing.EXPIRED)
    assert "in time" in plant.message()


def test_when_it_is_unknown_whether_the_bridge_took_the_key_it_stays_and_that_is_said(plant: Plant) -> None:
    plant.bridge.received.lose = lambda path: "answer" if path.endswith("key") else ""
    plant.bridge.received.expires_in = 1.0
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.bridge.accept_pairing()
    plant.until(pairing.EXPIRED)
    assert "not known whether the bridge took the key" in plant.message()
    assert plant.plugin.withdrawn == 0
    assert plant.plugin.kept == 1
    assert len(plant.plugin.made) == 1


def test_a_new_request_takes_the_place_of_the_one_before(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    first = plant.status()["code"]
    plant.request()
    eventually(lambda: plant.status()["code"] not in (None, first))
    assert len(plant.bridge.received.pairings) == 2
    plant.confirm()
    plant.bridge.accept_pairing()
    plant.until(pairing.DONE)
    assert len(plant.plugin.made) == 1


def test_a_cancelled_pairing_makes_no_key_and_can_be_put_away(plant: Plant) -> None:
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.pairing.cancel()
    assert plant.status()["state"] == pairing.CANCELLED
    assert not plant.confirm()
    plant.pairing.stop(5.0)
    assert plant.plugin.made == []
    plant.pairing.cancel()
    assert plant.pairing.status() is None


def state_at_bridge(plant: Plant) -> str:
    return list(plant.bridge.received.pairings.values())[-1].state.state


def test_the_bridge_is_told_that_a_pairing_was_cancelled(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.pairing.cancel()
    eventually(lambda: state_at_bridge(plant) == handshake.CANCELLED)
    assert plant.message() == "Pairing was cancelled"


def test_the_bridge_is_told_when_no_key_can_be_made_for_it(plant: Plant) -> None:
    plant.plugin.trouble = NoticeError(Notice("OctoPrint is not set up yet"))
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    eventually(lambda: state_at_bridge(plant) == handshake.CANCELLED)


def test_a_pairing_is_cancelled_at_once_although_the_bridge_is_slow_to_answer(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    attempt = plant.pairing._attempt
    assert attempt is not None
    attempt._timing = Timing(poll=0.02, connect=0.5, read=60.0)
    asked = threading.Event()

    def slow(path: str) -> str:
        if path.endswith("state"):
            asked.set()
            time.sleep(20.0)
        return ""

    plant.bridge.received.lose = slow
    assert asked.wait(30.0)
    begun = time.monotonic()
    plant.pairing.cancel()
    attempt.join(15.0)
    assert time.monotonic() - begun < 10.0
    plant.bridge.received.lose = lambda path: ""


def test_a_pairing_cancelled_while_the_key_is_made_gives_it_to_nobody(plant: Plant) -> None:
    made = plant.plugin.make_key

    def cancelled_meanwhile() -> str:
        plant.pairing.cancel()
        return made()

    plant.plugin.make_key = cancelled_meanwhile  # type: ignore[method-assign]
    plant.request()
    plant.until(pairing.COMPARING)
    plant.bridge.accept_pairing()
    assert plant.pairing.confirm(plant.bridge.code())
    plant.until(pairing.CANCELLED)
    eventually(lambda: plant.plugin.withdrawn == 1)
    assert plant.key_at_bridge() is None


def test_a_pairing_cancelled_while_the_key_travels_has_it_withdrawn(plant: Plant) -> None:
    plant.bridge.received.lose = lambda path: "request" if path.endswith("key") else ""
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    eventually(lambda: plant.plugin.made)
    plant.pairing.cancel()
    plant.pairing.stop(5.0)
    assert plant.plugin.withdrawn == 1
    assert "Pairing was cancelled while the key was on its way" in plant.message()
    assert "pair again" in plant.message()
    assert plant.key_at_bridge() is None


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_key_that_travels_while_octoprint_ends_is_left_to_the_bridge_which_may_have_it(
    plant: Plant, lost: str
) -> None:
    plant.bridge.received.lose = lambda path: lost if path.endswith("key") else ""
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    eventually(lambda: plant.plugin.made and (lost == "request" or plant.key_at_bridge()))
    plant.pairing.stop(5.0)
    assert plant.plugin.withdrawn == 0
    assert plant.plugin.kept == 1
    (asked,) = plant.bridge.received.pairings.values()
    assert asked.state.state != handshake.CANCELLED
    if lost == "answer":
        assert [plant.key_at_bridge()] == plant.plugin.made


def test_what_happens_after_a_cancellation_does_not_change_what_is_told(plant: Plant) -> None:
    plant.request()
    plant.until(pairing.COMPARING)
    plant.bridge.received.lose = lambda path: "answer"
    plant.pairing.cancel()
    plant.bridge.received.pairings.clear()
    plant.pairing.stop(5.0)
    assert plant.status()["state"] == pairing.CANCELLED
    assert plant.message() == "Pairing was cancelled"


def test_settings_that_cannot_be_saved_end_it_and_leave_the_key_to_the_bridge(plant: Plant) -> None:
    def full(url: str, certificate: str | None) -> None:
        raise OSError("No space left on device")

    plant.plugin.paired = full  # type: ignore[method-assign]
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.until(pairing.FAILED)
    assert "No space left" in plant.message()
    assert plant.plugin.withdrawn == 0
    plant.pairing.cancel()
    assert plant.pairing.status() is None


def test_a_key_that_cannot_be_made_is_said(plant: Plant) -> None:
    plant.plugin.trouble = NoticeError(Notice("OctoPrint is not set up yet"))
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.until(pairing.FAILED)
    assert plant.message() == "OctoPrint is not set up yet"
    assert plant.plugin.withdrawn == 0


def test_a_name_with_characters_that_no_screen_shows_is_cleaned(plant: Plant) -> None:
    plant.plugin.name = "Mini\u00a0\u202e\n" + "x" * 300
    plant.request()
    plant.until(pairing.COMPARING)
    (one,) = plant.bridge.received.pairings.values()
    assert one.introduction.name == "Mini   " + "x" * 121


def test_the_key_is_in_no_log_and_in_no_status(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    plant.bridge.received.accept_at_once = True
    plant.request()
    plant.until(pairing.COMPARING)
    plant.confirm()
    plant.until(pairing.DONE)
    (key,) = plant.plugin.made
    assert key not in caplog.text
    assert key not in repr(plant.status())
    assert key not in repr(vars(plant.pairing._attempt))


# --------------------------------------------------------------------------- somebody in between


def test_somebody_who_answers_in_place_of_the_bridge_shows_another_code_and_gets_no_key(plant: Plant) -> None:
    honest = plant.bridge
    rogue = Receiver()
    rogue.received.accept_at_once = True
    try:
        plant.pairing.request(rogue.url, OWN)
        plant.until(pairing.COMPARING)
        shown = plant.status()["code"]

        as_plugin = Plant()  # he pairs with the honest bridge in the plugin's name
        as_plugin.bridge.stop()
        as_plugin.pairing.request(honest.url, OWN)
        as_plugin.until(pairing.COMPARING)
        assert honest.code() != shown  # what the person sees, and why he does not confirm

        eventually(lambda: len(rogue.received.paths) > 8)
        assert plant.plugin.made == []
        as_plugin.end()
    finally:
        rogue.stop()


def test_somebody_who_changes_what_is_said_only_ends_the_pairing(plant: Plant) -> None:
    """He swaps the bridge's number: the two no longer share a secret, and the signatures do not fit."""
    introduce = handshake.encode

    def swapped(message: Any) -> bytes:
        body = introduce(message)
        if isinstance(message, handshake.Answer):
            return json.dumps({**json.loads(body), "public": handshake.Half().public}).encode()
        return body

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "encode", swapped)
        plant.request()
        plant.until(pairing.FAILED)
    assert "does not share this pairing's secret" in plant.message()
    assert plant.status()["code"] is None


@pytest.mark.parametrize("public", ["0", "1", "f" * 768, f"{handshake._PRIME - 1:x}"])
def test_a_number_that_gives_no_secret_is_refused(plant: Plant, public: str) -> None:
    answer = handshake.Answer("00c0ffee", public, "0" * 32, "b", "Hall 3", 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.plugin.receiver._introduced", lambda received, body: answer)
        plant.request()
        plant.until(pairing.FAILED)
    assert "within the group" in plant.message()


def test_an_answer_of_before_is_not_taken_for_one_of_now(plant: Plant) -> None:
    """A signed "accepted" is recorded and given again as the answer to another question: it does not count."""
    kept: list[tuple[bytes, dict[str, str]]] = []
    sign_reply = wire.sign_reply

    def replaying(key: wire.PushKey, message_id: str, moment: Any, body: bytes) -> dict[str, str]:
        headers = sign_reply(key, message_id, moment, body)
        kept.append((body, headers))
        return kept[0][1]

    plant.bridge.received.accept_at_once = True
    plant.bridge.received.expires_in = 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "sign_reply", replaying)
        plant.request()
        plant.until(pairing.COMPARING)
        plant.confirm()
        plant.until(pairing.EXPIRED)
    assert len(kept) > 3
    assert plant.plugin.made == []


def test_a_sealed_key_that_was_changed_on_the_way_is_not_taken(plant: Plant) -> None:
    encode_sealed = handshake.encode_sealed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "encode_sealed", lambda sealed: encode_sealed("A" + sealed[1:][::-1]))
        plant.bridge.received.accept_at_once = True
        plant.bridge.received.expires_in = 0.6
        plant.request()
        plant.until(pairing.COMPARING)
        plant.confirm()
        plant.until(pairing.EXPIRED)
    assert plant.key_at_bridge() is None
    assert plant.plugin.bridge is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.floats(0, 0.6), early=st.booleans())
def test_whatever_is_lost_on_the_way_both_sides_end_with_the_same_one_key(
    seed: int, loss: float, early: bool
) -> None:
    chance = random.Random(seed)
    plant = Plant(timing=Timing(poll=0.005, connect=0.5, read=0.5))

    def lose(path: str) -> str:
        if path == handshake.PATH or chance.random() >= loss:
            return ""  # a lost first question is asked again by a person
        return chance.choice(["request", "answer"])

    plant.bridge.received.lose = lose
    plant.bridge.received.accept_at_once = early
    try:
        plant.request()
        plant.until(pairing.COMPARING)
        assert plant.plugin.made == []
        plant.pairing.confirm(plant.bridge.code())
        plant.bridge.accept_pairing()
        plant.until(pairing.DONE)
        assert [plant.key_at_bridge()] == plant.plugin.made
        assert plant.plugin.withdrawn == 0
    finally:
        plant.end()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.5),
    order=st.permutations(["confirm", "accept", "cancel", "fail"]),
    acts=st.integers(1, 4),
)
def test_in_whatever_order_people_act_a_key_is_in_use_on_both_sides_or_on_none(
    seed: int, loss: float, order: list[str], acts: int
) -> None:
    chance = random.Random(seed)
    plant = Plant(timing=Timing(poll=0.005, connect=0.5, read=0.5))
    received = plant.bridge.received
    received.expires_in = 1.0

    def lose(path: str) -> str:
        lost = path != handshake.PATH and chance.random() < loss
        return chance.choice(["request", "answer"]) if lost else ""

    def fail() -> None:
        received.taken = handshake.State(handshake.FAILED, "disk full")

    received.lose = lose
    people = {
        "confirm": plant.confirm,
        "accept": plant.bridge.accept_pairing,
        "cancel": plant.pairing.cancel,
        "fail": fail,
    }
    done = order[:acts]
    try:
        plant.request()
        plant.until(pairing.COMPARING)
        attempt = plant.pairing._attempt  # to cancel one that is over puts it away
        assert attempt is not None
        for act in done:
            people[act]()
            time.sleep(chance.random() * 0.03)
        attempt.join(30.0)
        state, message, made = attempt.status()["state"], str(attempt.status()["message"]), plant.plugin.made
        assert state in pairing.ENDS
        if not {"confirm", "accept"} <= set(done):
            assert made == []
        assert len(made) <= 1
        assert plant.key_at_bridge() in (None, *made)
        if state == pairing.DONE:
            assert [plant.key_at_bridge()] == made
            assert plant.plugin.bridge == (plant.bridge.url, None)
            assert plant.plugin.withdrawn == 0
        else:
            assert plant.plugin.bridge is None
            assert plant.plugin.withdrawn == len(made) or "not known whether" in message
    finally:
        plant.end()


# --------------------------------------------------------------------------- https


def test_a_certificate_that_the_system_does_not_trust_is_pinned_and_part_of_the_code(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    plant = Plant(certificate)
    try:
        plant.request()
        plant.until(pairing.COMPARING)
        assert plant.status()["code"] == plant.bridge.code()
        (one,) = plant.bridge.received.pairings.values()
        assert one.introduction.certificate == fingerprint(certificate)
        plant.confirm()
        plant.bridge.accept_pairing()
        plant.until(pairing.DONE)
        assert plant.plugin.bridge == (plant.bridge.url, fingerprint(certificate))
    finally:
        plant.end()


def test_a_certificate_that_the_system_trusts_is_not_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plant = Plant(certificate)
    plant.bridge.received.accept_at_once = True
    try:
        plant.request()
        plant.until(pairing.COMPARING)
        (one,) = plant.bridge.received.pairings.values()
        assert one.introduction.certificate is None
        plant.confirm()
        plant.until(pairing.DONE)
        assert plant.plugin.bridge == (plant.bridge.url, None)
    finally:
        plant.end()


def test_another_certificate_in_the_middle_of_a_pairing_is_sent_nothing(tmp_path: Path) -> None:
    plant = Plant(make_certificate(tmp_path))
    try:
        plant.request()
        plant.until(pairing.COMPARING)
        plant.bridge.stop()
        plant.bridge.certificate = make_certificate(tmp_path, "other")
        plant.bridge.received.paths.clear()
        plant.bridge.start()
        eventually(lambda: "not the one seen at pairing" in plant.message())
        assert plant.bridge.received.paths == []
        assert plant.plugin.made == []
    finally:
        plant.end()
