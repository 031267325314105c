"""The tab's commands that concern the bridge, and what a pairing leaves behind in settings and keys."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge import handshake, wire
from octoprint_mesbridge import pairing, probe
from octoprint_mesbridge.access import Access
from octoprint_mesbridge.connection import Connection
from octoprint_mesbridge.keys import KeyStore
from octoprint_mesbridge.notice import NoticeError
from octoprint_mesbridge.pairing import Timing

from .receiver import Receiver, fingerprint, make_certificate
from .test_access import Users
from .test_sender import eventually

OWN = "http://192.168.1.41:5000"


class Settings:
    """The part of OctoPrint's plugin settings that is used."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"bridge_url": "", "bridge_certificate": None}
        self.saved: dict[str, Any] = {}

    def get(self, path: list[str]) -> Any:
        return self.values[path[0]]

    def set(self, path: list[str], value: Any) -> None:
        self.values[path[0]] = value

    def save(self, trigger_event: bool = False) -> None:
        self.saved = dict(self.values)


class Plugin:
    """A connection, with keys in `folder`, and a bridge."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.bridge = Receiver(certificate)
        self.settings = Settings()
        self.users = Users()
        logger = logging.getLogger("mesbridge.test")
        self.access = Access(KeyStore(folder / "key.json"), self.users, logger, self.change)
        self.access.guard_attached()
        self.changes = 0
        self.told = 0
        self.connection = Connection(
            self.settings,
            self.access,
            logger,
            lambda: {"uuid": "5d0e", "name": "P", "octoprint_version": "1", "plugin_version": "0.0.test"},
            lambda: None,
            self.change,
            self.tell,
        )
        self.connection._pairing._timing = Timing(poll=0.02, connect=0.5, read=0.5)

    def change(self) -> None:
        self.changes += 1

    def tell(self) -> None:
        self.told += 1

    def state(self) -> str:
        return (self.connection.status()["pairing"] or {}).get("state", "")

    def pair(self, end: str = pairing.DONE) -> None:
        self.bridge.received.accept_at_once = True
        self.connection.request({"bridge_url": self.bridge.url, "octoprint_url": OWN})
        eventually(lambda: self.state() == pairing.COMPARING)
        self.connection.confirm({"code": self.bridge.code()})
        eventually(lambda: self.state() == end)

    def is_valid(self, api_key: str) -> bool:
        return self.access.find(api_key) is not None

    def given(self) -> str:
        """The key that the bridge got last."""
        return [one.api_key for one in self.bridge.received.pairings.values() if one.api_key][-1]

    def end(self) -> None:
        self.connection.stop(5.0)
        self.access.close()
        self.bridge.stop()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    plugin = Plugin(tmp_path)
    yield plugin
    plugin.end()


def test_a_pairing_leaves_a_key_an_address_and_no_pin_over_http(plugin: Plugin) -> None:
    plugin.pair()
    assert plugin.is_valid(plugin.given())
    assert plugin.settings.saved == {"bridge_url": plugin.bridge.url, "bridge_certificate": None}
    assert plugin.connection.status()["pinned"] is None
    assert plugin.changes >= 2
    assert plugin.told >= 3


@pytest.mark.parametrize("change", ["rotate", "revoke"])
def test_that_a_pairing_is_done_is_told_only_while_its_key_is_in_use(plugin: Plugin, change: str) -> None:
    plugin.pair()
    assert plugin.state() == pairing.DONE
    if change == "rotate":
        plugin.access.rotate(timedelta(hours=1))
    else:
        plugin.access.revoke()
    assert plugin.state() == ""


def test_a_pairing_over_https_pins_the_certificate_for_that_address_only(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    plugin = Plugin(tmp_path, certificate)
    try:
        plugin.pair()
        url = plugin.bridge.url
        assert plugin.settings.saved["bridge_certificate"] == {
            "origin": url,
            "sha256": fingerprint(certificate),
        }
        assert plugin.connection.status()["pinned"]["sha256"] == fingerprint(certificate)
        assert plugin.connection.certificate(url + "/") == fingerprint(certificate)
        assert plugin.connection.certificate(url.replace("https", "http")) is None
        assert plugin.connection.certificate(url.replace("127.0.0.1", "127.0.0.2")) is None
        assert plugin.connection.certificate("nonsense") is None
        assert plugin.connection.test({})["test"]["ok"]
        assert not plugin.connection.test({"bridge_url": url.replace("127.0.0.1", "localhost")})["test"]["ok"]
    finally:
        plugin.end()


@pytest.mark.parametrize("pinned", [None, "text", 5, [], {}, {"origin": 1}, {"sha256": "0" * 64}])
def test_a_setting_that_is_no_pin_pins_nothing(plugin: Plugin, pinned: Any) -> None:
    plugin.settings.values.update(bridge_url="https://bridge", bridge_certificate=pinned)
    assert plugin.connection.certificate("https://bridge") is None
    assert plugin.connection.status()["pinned"] is None


def test_pairing_again_keeps_the_key_before_for_a_while(plugin: Plugin) -> None:
    before = plugin.access.generate()
    plugin.pair()
    assert plugin.is_valid(plugin.given())
    assert plugin.is_valid(before)
    newest, previous = plugin.access.push_keys()
    assert newest[0] == wire.PushKey.derive(plugin.given())
    assert previous[1] is not None


def test_a_key_that_the_bridge_could_not_take_is_withdrawn_and_the_one_before_stays_for_good(
    plugin: Plugin,
) -> None:
    before = plugin.access.generate(job_control=True)
    plugin.bridge.received.taken = handshake.State(handshake.FAILED, "disk full")
    plugin.pair(end=pairing.FAILED)
    assert plugin.is_valid(before)
    assert not plugin.is_valid(plugin.given())
    ((key, ends),) = plugin.access.push_keys()
    assert (key, ends) == (wire.PushKey.derive(before), None)
    assert plugin.access.record is not None
    assert plugin.access.record.job_control
    assert sorted(plugin.users.users) == ["admin", plugin.access.record.user]
    assert plugin.settings.saved == {}


def test_without_a_key_before_none_is_left_when_the_bridge_could_not_take_it(plugin: Plugin) -> None:
    plugin.bridge.received.taken = handshake.State(handshake.FAILED, "disk full")
    plugin.pair(end=pairing.FAILED)
    assert plugin.access.record is None
    assert sorted(plugin.users.users) == ["admin"]
    assert "withdrawn" in str(plugin.connection.status()["pairing"]["message"])


@pytest.mark.parametrize("end", [pairing.DONE, pairing.FAILED])
def test_a_bridge_that_still_has_the_key_before_the_last_is_not_cut_off_by_a_pairing_that_fails(
    plugin: Plugin, end: str
) -> None:
    old = plugin.access.generate()
    current = plugin.access.rotate(timedelta(hours=24))
    if end == pairing.FAILED:
        plugin.bridge.received.taken = handshake.State(handshake.FAILED, "disk full")
    plugin.pair(end)
    fails = end == pairing.FAILED
    assert [plugin.is_valid(key) for key in (old, current, plugin.given())] == [fails, True, not fails]


def test_a_key_that_a_crash_left_on_its_way_is_in_use_as_soon_as_the_bridge_knows_it(
    plugin: Plugin, tmp_path: Path
) -> None:
    old = plugin.access.generate()
    plugin.access.rotate(timedelta(hours=24))
    made = plugin.connection.make_key()
    again = Plugin(tmp_path)
    again.users = plugin.users
    try:
        assert [again.is_valid(key) for key in (old, made)] == [True, True]
        signing = [key for key, _ in again.connection.push_keys()]
        assert (signing[0], signing[-1]) == (wire.PushKey.derive(made), wire.PushKey.derive(old))
        again.access.take_up(signing[-1].key_id)
        assert again.changes == 0
        again.access.take_up(signing[0].key_id)
        assert again.changes == 1
        assert again.access.record is not None
        assert again.access.record.key_id == signing[0].key_id
        assert not again.is_valid(old)
    finally:
        again.end()


def test_a_withdrawn_key_is_gone_after_a_restart_too(plugin: Plugin, tmp_path: Path) -> None:
    before = plugin.access.generate()
    plugin.bridge.received.taken = handshake.State(handshake.FAILED, "disk full")
    plugin.pair(end=pairing.FAILED)
    again = Access(KeyStore(tmp_path / "key.json"), plugin.users, logging.getLogger("mesbridge.test"))
    again.guard_attached()
    assert again.find(before) is not None
    assert again.find(plugin.given()) is None


def test_a_key_made_by_somebody_else_meanwhile_is_not_withdrawn(plugin: Plugin) -> None:
    made = plugin.connection.make_key()
    newer = plugin.access.generate()
    plugin.connection.withdraw_key()
    assert plugin.is_valid(newer)
    assert not plugin.is_valid(made)


def test_an_octoprint_that_is_not_set_up_makes_no_key_and_says_so(plugin: Plugin) -> None:
    plugin.users.customized = False
    plugin.pair(end=pairing.FAILED)
    assert "not set up yet" in str(plugin.connection.status()["pairing"]["message"])
    assert sorted(plugin.users.users) == ["admin"]


def test_nothing_can_be_confirmed_that_is_not_shown(plugin: Plugin) -> None:
    with pytest.raises(NoticeError, match="request pairing again"):
        plugin.connection.confirm({})
    plugin.connection.request({"bridge_url": plugin.bridge.url, "octoprint_url": ""})
    eventually(lambda: plugin.state() == pairing.COMPARING)
    for said in ({"code": "000-00x"}, {"code": ""}, {}):
        with pytest.raises(NoticeError, match="no such code"):
            plugin.connection.confirm(said)
    plugin.connection.cancel({})
    assert plugin.state() == pairing.CANCELLED
    plugin.connection.cancel({})
    assert plugin.connection.status()["pairing"] is None


@pytest.mark.parametrize("given", [{}, {"bridge_url": 5}, {"bridge_url": "bridge"}, {"bridge_url": None}])
def test_a_request_without_an_address_is_refused_in_words(plugin: Plugin, given: dict[str, Any]) -> None:
    with pytest.raises(NoticeError, match="is no address"):
        plugin.connection.request(given)


def test_the_test_is_of_the_address_typed_or_else_of_the_one_set(plugin: Plugin) -> None:
    plugin.bridge.accept(plugin.access.generate())
    assert plugin.connection.test({"bridge_url": plugin.bridge.url})["test"]["ok"]
    assert not plugin.connection.test({})["test"]["ok"]
    plugin.settings.values["bridge_url"] = plugin.bridge.url
    assert plugin.connection.test({})["test"]["ok"]


def test_without_discovery_there_is_a_note_in_place_of_bridges(plugin: Plugin) -> None:
    found = plugin.connection.find({})
    assert found["bridges"] == []
    assert "discovery plugin" in str(found["note"])


def test_of_two_tests_at_a_time_the_second_is_refused_in_words(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(base: str, *_: Any) -> Any:
        begun.set()
        go_on.wait(60.0)
        return probe.Findings(base, status=404)

    monkeypatch.setattr(probe, "examine", slow)
    data = {"bridge_url": plugin.bridge.url}
    first = threading.Thread(target=plugin.connection.test, args=(data,))
    first.start()
    assert begun.wait(30.0)
    with pytest.raises(NoticeError, match="tested already"):
        plugin.connection.test(data)
    go_on.set()
    first.join(30.0)
    assert "steps" in plugin.connection.test(data)["test"]


def test_of_two_searches_at_a_time_the_second_is_refused_in_words(plugin: Plugin) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> list[Any]:
        begun.set()
        go_on.wait(60.0)
        return []

    plugin.connection._browse = lambda: slow
    first = threading.Thread(target=plugin.connection.find, args=({},))
    first.start()
    assert begun.wait(30.0)
    with pytest.raises(NoticeError, match="looked for already"):
        plugin.connection.find({})
    go_on.set()
    first.join(30.0)
    assert plugin.connection.find({})["bridges"] == []


@pytest.mark.parametrize("had_key", [False, True])
def test_while_a_key_is_on_its_way_pushes_are_not_signed_with_it(plugin: Plugin, had_key: bool) -> None:
    before = {plugin.access.generate()} if had_key else set()
    plugin.bridge.received.lose = lambda path: "request" if path.endswith("key") else ""
    plugin.bridge.received.accept_at_once = True
    plugin.connection.request({"bridge_url": plugin.bridge.url, "octoprint_url": OWN})
    eventually(lambda: plugin.state() == pairing.COMPARING)
    plugin.connection.confirm({"code": plugin.bridge.code()})
    eventually(lambda: plugin.connection.is_handing_over)
    signing = {key.key_id for key, _ in plugin.connection.push_keys()}
    assert signing == {wire.PushKey.derive(key).key_id for key in before}
    assert plugin.connection.paired_at is None

    plugin.bridge.received.lose = lambda path: ""
    eventually(lambda: plugin.state() == pairing.DONE)
    assert not plugin.connection.is_handing_over
    assert plugin.connection.push_keys()[0][0] == wire.PushKey.derive(plugin.given())
    assert plugin.connection.paired_at is not None
    assert time.monotonic() - plugin.connection.paired_at < 10.0


def test_a_key_of_which_nobody_knows_whether_it_arrived_signs_pushes(plugin: Plugin) -> None:
    plugin.bridge.received.lose = lambda path: "answer" if path.endswith("key") else ""
    plugin.bridge.received.expires_in = 0.5
    plugin.pair(end=pairing.EXPIRED)
    eventually(lambda: not plugin.connection.is_handing_over)
    assert [key for key, _ in plugin.connection.push_keys()] == [wire.PushKey.derive(plugin.given())]


def test_a_key_that_is_revoked_on_its_way_is_not_said_to_be_handed_over(plugin: Plugin) -> None:
    plugin.connection.make_key()
    assert plugin.connection.is_handing_over
    plugin.access.revoke()
    assert not plugin.connection.is_handing_over
