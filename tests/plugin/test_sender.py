"""Pushing to a bridge that is there, away, deceived or deceiving."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.notice import Notice
from octoprint_mesbridge.outbox import Occurrence, Outbox
from octoprint_mesbridge.sender import Sender, Signer, Target, Timing, push_url

from .receiver import Receiver

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
KEY = "a-key-of-any-length"
FAST = Timing(heartbeat=0.05, first_retry=0.02, longest_retry=0.1, connect=0.5, read=0.3)


class Plant:
    """An outbox, its sender and a bridge."""

    def __init__(self, folder: Path) -> None:
        self.bridge = Receiver()
        self.key = self.bridge.accept(KEY)
        self.outbox = Outbox(folder / "outbox.db")
        self.sender = Sender(
            self.outbox, logging.getLogger("mesbridge.test"), self.snapshot, FAST, self.change
        )
        self.count = 0
        self.changes: list[bool] = []

    def connect(self) -> None:
        self.sender.aim(Target(push_url(self.bridge.url), (Signer(self.key),)))
        self.sender.start()

    def change(self) -> None:
        self.changes.append(self.sender.status()["connected"])

    def happen(self, times: int = 1) -> None:
        for _ in range(times):
            self.count += 1
            self.outbox.append([Occurrence(NOON, wire.ERROR, {"text": str(self.count)})])
        self.sender.wake()

    def snapshot(self) -> None:
        data = {
            "reason": "requested",
            "state": "operational",
            "heaters": {},
            "printer": {
                "uuid": "u",
                "octoprint_version": "1",
                "plugin_version": "1",
                "profile": {"extruders": 1, "heated_bed": True, "heated_chamber": False},
                "identity": {},
            },
        }
        self.outbox.append([Occurrence(NOON, wire.SNAPSHOT, data)])
        self.sender.wake()

    def arrived(self) -> list[str]:
        return [event.data["text"] for event in self.bridge.events([wire.ERROR])]

    def error(self) -> str:
        return str(self.sender.status()["error"] or "")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.sender.stop(2.0)
    plant.bridge.stop()
    plant.outbox.close()


def eventually(holds: Callable[[], Any], timeout: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return value


def test_events_arrive_in_order_and_are_forgotten_when_acknowledged(plant: Plant) -> None:
    plant.happen(3)
    plant.connect()
    plant.happen(700)
    eventually(lambda: len(plant.arrived()) == 703)
    assert plant.arrived() == [str(n) for n in range(1, 704)]
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    assert plant.sender.status()["connected"]
    assert plant.bridge.received.gaps == []


def test_a_bridge_that_went_back_to_an_older_state_is_told_again_what_it_lost(plant: Plant) -> None:
    plant.happen(3)
    plant.connect()
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    received = plant.bridge.received
    received.held = dict.fromkeys(received.held, 1)
    del received.events[1:]
    eventually(lambda: plant.arrived() == ["1", "2", "3"])
    plant.happen()
    eventually(lambda: plant.arrived() == ["1", "2", "3", "4"])
    assert received.gaps == []


def test_an_idle_plugin_gives_a_sign_of_life(plant: Plant) -> None:
    plant.connect()
    eventually(lambda: len(plant.bridge.received.batches) >= 3)
    assert all(batch.events == () for batch in plant.bridge.received.batches)


def test_a_wish_for_a_snapshot_is_met_once(plant: Plant) -> None:
    plant.bridge.received.want_snapshot = True
    plant.connect()
    eventually(lambda: plant.bridge.events([wire.SNAPSHOT]))
    seen = len(plant.bridge.received.batches)
    eventually(lambda: len(plant.bridge.received.batches) > seen + 2)
    assert len(plant.bridge.events([wire.SNAPSHOT])) == 1


def test_while_the_bridge_is_away_events_wait_and_it_is_said_once(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plant.bridge.stop()
    plant.connect()
    plant.happen(5)
    eventually(plant.error)
    assert "cannot be reached" in plant.error()
    assert plant.sender.status()["waiting"] == 5
    time.sleep(0.3)
    plant.bridge.start()
    eventually(lambda: len(plant.arrived()) == 5)
    eventually(lambda: "Connected to the bridge" in caplog.text)
    assert caplog.text.count("cannot be reached") == 1
    assert caplog.text.count("Connected to the bridge") == 1
    assert plant.error() == ""
    assert "cannot be reached" in str(plant.sender.status()["last_error"])
    assert wire.parse_time(plant.sender.status()["last_error_at"]) <= wire.utc_now()


def test_whether_an_aim_is_new_is_said(plant: Plant) -> None:
    target = Target(push_url(plant.bridge.url), (Signer(plant.key),))
    assert plant.sender.aim(target)
    assert not plant.sender.aim(target)
    assert plant.sender.aim(None, Notice("Switched off"))
    assert not plant.sender.aim(None, Notice("Switched off"))
    assert plant.sender.aim(None, Notice("No key"))


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("forged", "without the bridge's signature"),
        ("portal", "check the address"),
        ("redirect", "HTTP 302"),
        ("silent", "does not answer in the time allowed"),
        ("503", "HTTP 503"),
        ("413", "same MESBridge version"),
        ("422", "same MESBridge version"),
    ],
)
def test_what_is_no_acknowledgement_is_not_taken_for_one_and_said_in_words(
    plant: Plant, behaviour: str, words: str
) -> None:
    plant.bridge.received.behaviour = behaviour
    plant.happen(2)
    plant.connect()
    eventually(plant.error)
    assert words in plant.error()
    assert plant.sender.status()["waiting"] == 2
    assert not plant.sender.status()["connected"]

    plant.bridge.received.behaviour = "ok"
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    assert plant.arrived() == ["1", "2"]
    assert plant.error() == ""


FILES = {"files": [{"path": "a.gcode"}]}
LAYER = {"run": "1", "completion": 5.0, "layer": 3, "layers": 9}


def tell_news(plant: Plant) -> None:
    """Of each kind that a bridge of 0.2 does not know, between two that it does."""
    plant.happen()
    plant.outbox.append(
        [
            Occurrence(NOON, wire.FILES, FILES),
            Occurrence(NOON, wire.PROGRESS, LAYER),
            Occurrence(NOON, wire.FEEDSTOCK, {"tools": {}}),
        ]
    )
    plant.happen()


def test_an_older_bridge_gets_all_but_what_it_does_not_understand(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant.bridge.received.behaviour = "0.2"
    tell_news(plant)
    plant.connect()
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    assert plant.arrived() == ["1", "2"]
    (progress,) = plant.bridge.events([wire.PROGRESS])
    assert progress.data["completion"] == 5.0
    assert progress.data["layer"] is None
    assert plant.bridge.events([wire.FILES, wire.FEEDSTOCK]) == []
    assert plant.error() == ""
    tell_news(plant)
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    assert plant.bridge.received.refused == ["malformed"], "it is spared what it refused once"
    assert sum("is older than this plugin" in record.getMessage() for record in caplog.records) == 1


def test_an_older_bridge_that_is_upgraded_is_told_the_rest_by_a_snapshot(plant: Plant) -> None:
    plant.bridge.received.behaviour = "0.2"
    tell_news(plant)
    plant.connect()
    eventually(lambda: plant.sender.status()["waiting"] == 0)
    plant.bridge.received.behaviour = "503"
    eventually(plant.error)
    plant.bridge.received.behaviour = "ok"
    eventually(lambda: plant.bridge.events([wire.SNAPSHOT]))
    tell_news(plant)
    eventually(lambda: plant.bridge.events([wire.FILES]))
    eventually(lambda: plant.bridge.events([wire.PROGRESS])[-1].data["layer"] == 3)


def test_a_key_that_the_bridge_does_not_know_is_said_in_words(plant: Plant) -> None:
    plant.bridge.accept("another key")
    plant.happen()
    plant.connect()
    eventually(plant.error)
    assert "does not know this key" in plant.error()
    plant.bridge.accept(KEY)
    eventually(lambda: plant.arrived() == ["1"])


def test_who_the_bridge_is_is_asked_once_for_a_connection(plant: Plant) -> None:
    plant.connect()
    known = eventually(lambda: plant.sender.status()["bridge"])
    assert known == {"id": "b1", "name": "Hall 3", "version": "0.0.test"}
    plant.happen()
    eventually(lambda: plant.arrived())
    assert plant.bridge.received.paths.count("/hello") == 1
    plant.sender.aim(None)
    assert plant.sender.status()["bridge"] is None


def test_a_bridge_that_says_nothing_of_itself_is_pushed_to_all_the_same(plant: Plant) -> None:
    plant.bridge.received.hello = (404, b"")
    plant.happen()
    plant.connect()
    eventually(lambda: plant.arrived() == ["1"])
    assert plant.sender.status()["bridge"] is None


def two_signers(plant: Plant, seconds: float = 3600) -> Target:
    ends = wire.utc_now() + timedelta(seconds=seconds)
    newest = Signer(wire.PushKey.derive("the new key"))
    return Target(push_url(plant.bridge.url), (newest, Signer(plant.key, ends)))


def test_a_bridge_that_knows_only_the_key_before_is_pushed_to_with_that(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plant.sender.aim(two_signers(plant))
    plant.sender.start()
    for number in range(5):
        plant.happen()
        eventually(lambda number=number: len(plant.arrived()) == number + 1)
    assert plant.bridge.received.refused == ["unknown_key"]  # and not again with each push
    assert plant.sender.status()["previous_key_in_use"]
    assert plant.error() == ""
    assert caplog.text.count("does not know the newest one yet") == 1
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_the_newest_key_is_used_again_as_soon_as_the_one_before_is_refused(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plant.sender.aim(two_signers(plant))
    plant.sender.start()
    plant.happen()
    eventually(lambda: plant.arrived() == ["1"])
    plant.bridge.accept("the new key")
    plant.happen()
    eventually(lambda: plant.arrived() == ["1", "2"])
    eventually(lambda: not plant.sender.status()["previous_key_in_use"])
    eventually(lambda: "knows the newest key now" in caplog.text)
    assert plant.error() == ""


def test_a_bridge_that_knows_both_keys_is_asked_about_the_newest_again(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.sender.aim(two_signers(plant))
    plant.sender.start()
    eventually(lambda: plant.sender.status()["previous_key_in_use"])
    newest = wire.PushKey.derive("the new key")
    plant.bridge.received.keys[newest.key_id] = newest
    time.sleep(0.2)
    assert plant.sender.status()["previous_key_in_use"]
    monkeypatch.setattr("octoprint_mesbridge.sender._AGAIN_S", 0.01)
    eventually(lambda: not plant.sender.status()["previous_key_in_use"])


def test_being_aimed_anew_tries_the_newest_key_at_once(plant: Plant) -> None:
    target = two_signers(plant)
    plant.sender.aim(target)
    plant.sender.start()
    eventually(lambda: plant.sender.status()["previous_key_in_use"])
    newest = wire.PushKey.derive("the new key")
    plant.bridge.received.keys[newest.key_id] = newest
    plant.sender.aim(target)
    eventually(lambda: not plant.sender.status()["previous_key_in_use"])


def test_a_previous_key_whose_time_is_over_signs_nothing(plant: Plant) -> None:
    plant.sender.aim(two_signers(plant, seconds=-1))
    plant.happen()
    plant.sender.start()
    eventually(plant.error)
    assert "does not know this key" in plant.error()
    assert plant.arrived() == []


def test_two_unknown_keys_are_not_tried_hotly(plant: Plant) -> None:
    target = two_signers(plant)
    plant.bridge.accept("a third key")
    plant.sender.timing = Timing(heartbeat=60, first_retry=0.01)
    plant.sender.aim(target)
    plant.happen()
    plant.sender.start()
    eventually(plant.error)
    time.sleep(0.3)
    assert plant.bridge.received.refused == ["unknown_key"] * 2


def test_a_bridge_that_says_nothing_is_said_to_be_waited_for_before_the_time_is_over(plant: Plant) -> None:
    plant.sender.timing = Timing(read=30.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        plant.sender.aim(Target(push_url(place), (Signer(plant.key),)))
        plant.sender.start()
        eventually(lambda: f"No answer from the bridge at {place} yet" in plant.error(), timeout=20.0)
        eventually(lambda: "does not answer in the time allowed" in plant.error())


@pytest.mark.parametrize("hours", [5, -5])
def test_a_wrong_clock_is_overcome_with_the_bridges_own_and_said(
    plant: Plant, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    plant.bridge.received.clock = timedelta(hours=hours)
    plant.happen()
    plant.connect()
    eventually(lambda: plant.arrived() == ["1"])
    assert plant.bridge.received.refused == ["clock"]
    assert "The bridge's clock is " + ("+" if hours > 0 else "-") in caplog.text
    assert "NTP" in caplog.text
    assert abs(plant.sender.status()["clock_offset"] - hours * 3600) < 5
    assert eventually(lambda: plant.sender.status()["bridge"])["name"] == "Hall 3"


def test_a_forged_wish_for_another_clock_is_not_granted(plant: Plant) -> None:
    plant.bridge.received.behaviour = "forged"
    plant.connect()
    eventually(plant.error)
    assert plant.sender.status()["clock_offset"] is None


def test_the_clock_of_a_bridge_is_not_known_before_it_was_heard(plant: Plant) -> None:
    assert plant.sender.status()["clock_offset"] is None
    plant.connect()
    eventually(lambda: plant.sender.status()["connected"])
    assert plant.sender.status()["clock_offset"] == 0
    plant.sender.aim(None)
    assert plant.sender.status()["clock_offset"] is None


def test_without_a_target_nothing_is_sent_and_the_reason_is_shown(plant: Plant) -> None:
    plant.sender.aim(None, Notice("No key has been generated"))
    plant.sender.start()
    plant.happen()
    time.sleep(0.2)
    assert plant.bridge.received.batches == []
    assert str(plant.sender.status()["idle"]) == "No key has been generated"


def test_a_new_address_takes_effect_at_once_even_while_waiting_to_try_again(plant: Plant) -> None:
    plant.sender.timing = Timing(first_retry=60, longest_retry=60)
    plant.sender.aim(Target("http://127.0.0.1:9/push", (Signer(plant.key),)))
    plant.happen()
    plant.sender.start()
    eventually(plant.error)
    plant.sender.aim(Target(push_url(plant.bridge.url), (Signer(plant.key),)))
    eventually(lambda: plant.arrived() == ["1"])


def paired_just_now(plant: Plant, *keys: wire.PushKey) -> Target:
    ends = wire.utc_now() + timedelta(hours=1)
    signers = tuple(Signer(key, ends if number else None) for number, key in enumerate(keys))
    return Target(push_url(plant.bridge.url), signers, paired=time.monotonic())


def test_a_bridge_that_took_the_key_just_now_has_a_moment_to_serve_it(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant.sender.timing = Timing(heartbeat=60)
    newest = wire.PushKey.derive("the new key")
    plant.bridge.received.keys = {}
    plant.happen()
    plant.sender.aim(paired_just_now(plant, newest))
    plant.sender.start()
    eventually(lambda: len(plant.bridge.received.refused) == 2)
    assert plant.error() == ""
    plant.bridge.received.keys = {newest.key_id: newest}
    eventually(lambda: plant.arrived() == ["1"], timeout=30.0)
    assert "does not know this key" not in caplog.text


def test_a_bridge_that_forgets_the_key_it_took_is_said_to_after_that_moment(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoprint_mesbridge.sender._SETTLING_S", 0.5)
    plant.bridge.received.keys = {}
    plant.sender.aim(paired_just_now(plant, plant.key))
    plant.sender.start()
    eventually(lambda: "does not know this key" in plant.error())
    assert len(plant.bridge.received.refused) >= 2


def test_after_a_pairing_an_error_of_before_is_gone_and_it_is_tried_at_once(plant: Plant) -> None:
    plant.sender.timing = Timing(heartbeat=60, first_retry=60, longest_retry=60)
    newest = wire.PushKey.derive("the new key")
    plant.sender.aim(Target(push_url(plant.bridge.url), (Signer(newest),)))
    plant.sender.start()
    eventually(plant.error)
    plant.bridge.received.keys = {newest.key_id: newest}
    plant.sender.aim(paired_just_now(plant, newest))
    assert plant.error() == ""
    eventually(lambda: plant.sender.status()["connected"], timeout=30.0)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what takes calls and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def test_a_new_address_takes_effect_at_once_even_while_an_answer_is_waited_for(
    plant: Plant, silent: str
) -> None:
    plant.sender.timing = Timing(read=60.0)
    plant.sender.aim(Target(push_url(silent), (Signer(plant.key),)))
    plant.happen()
    plant.sender.start()
    eventually(plant.error)  # that an answer is waited for
    plant.sender.aim(Target(push_url(plant.bridge.url), (Signer(plant.key),)))
    eventually(lambda: plant.arrived() == ["1"], timeout=30.0)
    assert plant.error() == ""


def test_the_end_of_octoprint_does_not_wait_for_an_answer(plant: Plant, silent: str) -> None:
    plant.sender.timing = Timing(read=60.0)
    plant.sender.aim(Target(push_url(silent), (Signer(plant.key),)))
    plant.happen()
    plant.sender.start()
    eventually(plant.error)
    begun = time.monotonic()
    plant.sender.stop(0.5)
    eventually(lambda: not plant.sender._thread.is_alive(), timeout=30.0)
    assert time.monotonic() - begun < 5.0


def test_the_end_of_octoprint_sends_what_waits(plant: Plant) -> None:
    plant.sender.timing = Timing(heartbeat=60)
    plant.connect()
    eventually(lambda: plant.sender.status()["connected"])
    plant.happen(3)
    plant.sender.stop(2.0)
    assert plant.arrived() == ["1", "2", "3"]


def test_the_end_of_octoprint_does_not_wait_for_a_bridge_that_is_away(plant: Plant) -> None:
    plant.bridge.stop()
    plant.sender.timing = Timing(first_retry=60, longest_retry=60)
    plant.connect()
    plant.happen()
    eventually(plant.error)
    plant.sender.stop(5.0)
    assert not plant.sender._thread.is_alive()


def test_one_connection_serves_all_pushes_and_is_made_anew_when_the_bridge_ended_it(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant.connect()
    for number in range(1, 4):
        plant.happen()
        eventually(lambda number=number: len(plant.arrived()) == number)
    assert plant.bridge.connections == 1
    plant.bridge.end_connections()
    plant.happen()
    eventually(lambda: len(plant.arrived()) == 4)
    assert plant.bridge.connections == 2
    assert "cannot be reached" not in caplog.text


def test_an_answer_at_great_length_is_not_read_to_its_end(plant: Plant) -> None:
    plant.bridge.received.behaviour = "endless"
    plant.connect()
    eventually(plant.error)
    assert "not the bridge" in plant.error()


def test_a_proxy_of_the_environment_is_not_used(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    plant.happen()
    plant.connect()
    eventually(lambda: plant.arrived() == ["1"])


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://bridge:8484", "http://bridge:8484/push"),
        (" https://bridge/ ", "https://bridge/push"),
        ("http://[::1]:8484", "http://[::1]:8484/push"),
        ("http://gateway/line3", "http://gateway/line3/push"),
    ],
)
def test_an_address_leads_to_the_place_of_pushes(address: str, url: str) -> None:
    assert push_url(address) == url


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bridge:8484",
        "ftp://bridge",
        "http://",
        "http://user:secret@bridge",
        "http://bridge:0",
        "http://bridge:99999",
        "http://bridge?x=1",
        "http://bridge#x",
        "http://bri dge",
        "http://bridge/stra\u00dfe",
        "javascript:alert(1)",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused_in_words_and_without_a_password(address: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        push_url(address)
    assert "secret" not in str(refused.value)


def test_that_a_change_of_the_connection_is_told_once_and_not_at_every_push(plant: Plant) -> None:
    plant.connect()
    eventually(lambda: plant.changes == [True])
    plant.happen(3)
    eventually(lambda: len(plant.arrived()) == 3)
    plant.bridge.stop()
    plant.happen()
    eventually(lambda: plant.changes == [True, False])
    time.sleep(0.3)
    plant.bridge.start()
    eventually(lambda: plant.changes == [True, False, True])
