"""The bridge's side of pairing, over real sockets, with a plugin reduced to what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from bridge import handshake, wire
from bridge.handshake import (
    ACCEPTED,
    CANCELLED,
    EXPIRED,
    FAILED,
    REFUSED,
    SERVED,
    WAITING,
    Introduction,
    State,
)
from bridge.sources import pairing
from bridge.sources.pairing import Accepted, AdoptionError, PairingDesk, PairingRefused, Request

KEY = "A0A00B123E454H122BD513FE58B5E9BC"


class Bridge:
    """A desk on a real socket, with a clock that tests turn, and an adoption that they decide."""

    def __init__(self, certificate: str | None = None) -> None:
        self.now = wire.utc_now()
        self.adopted: list[Accepted] = []
        self.error: Exception | None = None
        self.desk = PairingDesk("bridge-1", "Hall 3", certificate, self._adopt, lambda: self.now)
        app = web.Application(client_max_size=wire.MAX_BODY_BYTES)
        self.desk.add_routes(app)
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))

    async def _adopt(self, accepted: Accepted) -> str:
        if self.error is not None:
            raise self.error
        self.adopted.append(accepted)
        return "served as octoprint-1"

    async def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> ClientResponse:
        return await self.client.post(path, data=body, headers=headers)

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)

    def only(self) -> Request:
        [request] = self.desk.requests()
        return request


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    made = Bridge()
    async with made.client:
        made.desk.open(10)
        yield made


class Plugin:
    """What a plugin does to be paired."""

    def __init__(self, bridge: Bridge, **said: Any) -> None:
        self.bridge = bridge
        self.half = handshake.Half()
        self.reveal = self.half.reveal()
        told = {"uuid": "u-1", "name": "Prusa MK4", "url": "http://192.168.1.41:5000", "https": True} | said
        self.introduction = Introduction(
            commitment=handshake.commitment(self.reveal),
            octoprint_version="1.11.8",
            plugin_version="0.1.0",
            **told,
        )

    async def introduce(self) -> ClientResponse:
        answer = await self.bridge.post(handshake.PATH, handshake.encode(self.introduction))
        if answer.status == 200:
            self.answer = handshake.decode_answer(await answer.read())
            self.session = self.half.session(self.answer.public, self.introduction, self.answer, self.reveal)
        return answer

    async def send(self, what: str, body: bytes, moment: datetime | None = None) -> ClientResponse:
        """Signed, as everything after the introduction is."""
        self.message_id = wire.new_message_id()
        headers = wire.sign(self.session.signing_key, self.message_id, moment or wire.utc_now(), body)
        return await self.bridge.post(f"{handshake.PATH}/{self.answer.id}/{what}", body, headers)

    async def state(self, answer: ClientResponse) -> State:
        body = await answer.read()
        assert answer.status == 200, body
        wire.verify_reply(self.session.signing_key, self.message_id, answer.headers, body)
        return handshake.decode_state(body)

    async def show(self) -> State:
        return await self.state(await self.send("reveal", handshake.encode(self.reveal)))

    async def ask(self) -> State:
        return await self.state(await self.send("state", b"{}"))

    async def hand_over(self, key: str = KEY) -> State:
        return await self.state(await self.send("key", handshake.encode_sealed(self.session.seal(key))))

    async def cancel(self) -> State:
        return await self.state(await self.send("cancel", handshake.encode(State(CANCELLED))))

    async def begin(self) -> Request:
        answer = await self.introduce()
        assert answer.status == 200, await answer.text()
        await self.show()
        return next(one for one in self.bridge.desk.requests() if one.id == self.answer.id)


async def refused(answer: ClientResponse, status: int, error: str) -> str:
    said = await answer.json()
    assert (answer.status, said["error"]) == (status, error), said
    return str(said["message"])


async def test_a_key_is_handed_over_when_both_sides_agree(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    assert request.code == plugin.session.code
    assert (await plugin.ask()).state == WAITING
    bridge.desk.accept(request.id, mes_ids=(1, 2))
    assert (await plugin.ask()).state == ACCEPTED
    assert await plugin.hand_over() == State(SERVED, "served as octoprint-1")
    [accepted] = bridge.adopted
    assert accepted.key.reveal() == KEY
    assert (accepted.name, accepted.url, accepted.mes_ids) == (
        "Prusa MK4",
        "http://192.168.1.41:5000",
        (1, 2),
    )
    assert bridge.only().state == SERVED


async def test_the_key_travels_neither_in_clear_nor_into_a_log(bridge: Bridge) -> None:
    with capture_logs() as logged:
        plugin = Plugin(bridge)
        request = await plugin.begin()
        bridge.desk.accept(request.id)
        sealed = handshake.encode_sealed(plugin.session.seal(KEY))
        await plugin.state(await plugin.send("key", sealed))
    assert bridge.adopted
    assert KEY.encode() not in sealed
    for shown in (logged, bridge.adopted, bridge.desk.requests(), bridge.desk._pairings):
        assert KEY not in repr(shown)
    assert plugin.half.nonce not in repr(bridge.desk._pairings)


# --------------------------------------------------------------------------- open and closed


async def test_a_bridge_takes_no_request_unless_pairing_was_opened() -> None:
    bridge = Bridge()
    async with bridge.client:
        assert "mesbridge pair open" in await refused(await Plugin(bridge).introduce(), 403, "closed")
        assert bridge.desk.requests() == []
        assert bridge.desk.open(5) == bridge.now + timedelta(minutes=5)
        assert (await Plugin(bridge).introduce()).status == 200
        bridge.desk.close()
        await refused(await Plugin(bridge, uuid="u-2").introduce(), 403, "closed")


async def test_pairing_closes_by_itself(bridge: Bridge) -> None:
    bridge.pass_by(minutes=9, seconds=59)
    assert bridge.desk.is_open
    bridge.pass_by(seconds=1)
    assert not bridge.desk.is_open
    await refused(await Plugin(bridge).introduce(), 403, "closed")


async def test_a_request_that_was_made_in_time_goes_on_after_pairing_has_closed(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    bridge.desk.close()
    bridge.desk.accept(request.id)
    assert (await plugin.hand_over()).state == SERVED


@pytest.mark.parametrize("minutes", [0, -1, pairing.LONGEST_OPEN_MINUTES + 1, float("nan"), float("inf")])
async def test_pairing_is_never_open_for_ever(bridge: Bridge, minutes: float) -> None:
    bridge.desk.close()
    with pytest.raises(PairingRefused, match="at most"):
        bridge.desk.open(minutes)
    assert not bridge.desk.is_open


# --------------------------------------------------------------------------- the bridge's person


async def test_what_the_person_says_counts_instead_of_what_the_plugin_says(bridge: Bridge) -> None:
    plugin = Plugin(bridge, url="")
    request = await plugin.begin()
    with pytest.raises(PairingRefused, match="--url"):
        bridge.desk.accept(request.id)
    bridge.desk.accept(request.id, url="https://octopi.local/one/", mes_ids=(7,), name="Left one")
    await plugin.hand_over()
    [accepted] = bridge.adopted
    assert (accepted.url, accepted.name, accepted.mes_ids) == ("https://octopi.local/one/", "Left one", (7,))


@pytest.mark.parametrize(
    "url",
    ["", "octopi.local", "ftp://h", "http://", "http://h:0", "http://u:p@h", "http://h/ x", "http://[::1"],
)
async def test_an_address_that_is_none_is_not_accepted(bridge: Bridge, url: str) -> None:
    request = await Plugin(bridge).begin()
    with pytest.raises(PairingRefused, match="--url"):
        bridge.desk.accept(request.id, url=url)
    assert bridge.only().state == WAITING


async def test_a_request_without_a_code_cannot_be_accepted(bridge: Bridge) -> None:
    await Plugin(bridge).introduce()
    request = bridge.only()
    assert request.code is None
    with pytest.raises(PairingRefused, match="no code"):
        bridge.desk.accept(request.id)


async def test_an_unknown_request_is_told(bridge: Bridge) -> None:
    for ask in (bridge.desk.accept, bridge.desk.refuse):
        with pytest.raises(PairingRefused, match="there is no request 'x y'"):
            ask("x\x1by")


async def test_a_refused_plugin_hears_it_and_its_key_is_not_taken(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    assert bridge.desk.refuse(request.id).state == REFUSED
    assert (await plugin.ask()).state == REFUSED
    assert (await plugin.hand_over()).state == REFUSED
    for ask in (bridge.desk.accept, bridge.desk.refuse):
        with pytest.raises(PairingRefused, match="refused"):
            ask(request.id)
    assert bridge.adopted == []


async def test_a_plugin_that_shows_its_number_too_late_hears_how_it_ended(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    await plugin.introduce()
    bridge.desk.refuse(bridge.only().id)
    assert await plugin.show() == State(REFUSED, "refused at the bridge")
    assert bridge.only().message == "refused at the bridge"


async def test_an_accepted_request_can_still_be_refused_until_the_key_has_come(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    bridge.desk.accept(request.id)
    bridge.desk.refuse(request.id)
    assert (await plugin.hand_over()).state == REFUSED
    assert bridge.adopted == []


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_request_that_is_cancelled_in_octoprint_ends_here_too(bridge: Bridge, accepted: bool) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    if accepted:
        bridge.desk.accept(request.id)
    assert await plugin.cancel() == State(CANCELLED, "cancelled in OctoPrint")
    assert bridge.only().state == CANCELLED
    for ask in (bridge.desk.accept, bridge.desk.refuse):
        with pytest.raises(PairingRefused, match="cancelled"):
            ask(request.id)
    assert (await plugin.hand_over()).state == CANCELLED
    assert bridge.adopted == []


async def test_a_machine_that_was_taken_in_is_not_cancelled_any_more(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    await plugin.hand_over()
    assert (await plugin.cancel()).state == SERVED


async def test_nobody_else_makes_a_cancellation_of_what_the_plugin_says(bridge: Bridge) -> None:
    """The path is not signed: what was said to another one is none here."""
    plugin = Plugin(bridge)
    await plugin.begin()
    await refused(await plugin.send("cancel", b"{}"), 422, "malformed")
    await refused(await plugin.send("cancel", handshake.encode(State(WAITING))), 422, "malformed")
    assert bridge.only().state == WAITING


@pytest.mark.parametrize("said", ["", "OctoPrint", "octoprint "])
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://192.168.1.41:5000", "192.168.1.41:5000"),
        ("https://octopi.local/", "octopi.local"),
        ("http://farm.local/two/", "farm.local/two"),
    ],
)
async def test_a_machine_without_a_name_is_called_as_its_address_is(
    bridge: Bridge, said: str, url: str, name: str
) -> None:
    assert bridge.desk.accept((await Plugin(bridge, name=said, url=url).begin()).id).name == name
    again = (await Plugin(bridge, name=said, uuid="u-2").begin()).id
    assert bridge.desk.accept(again, url=url, name=" ").name == name


async def test_what_a_person_calls_a_machine_counts_whatever_it_is(bridge: Bridge) -> None:
    request = await Plugin(bridge).begin()
    assert bridge.desk.accept(request.id, name="OctoPrint").name == "OctoPrint"


async def test_the_log_names_a_request_as_the_list_does(bridge: Bridge) -> None:
    with capture_logs() as logged:
        request = await Plugin(bridge).begin()
        bridge.desk.accept(request.id)
        bridge.desk.refuse(request.id)
    names = ("request", "name", "url", "address")
    listed = (request.id, request.name, request.url, request.address)
    assert [one["event"].split()[1] for one in logged] == ["requested", "waits", "accepted", "ended"]
    assert [tuple(one[name] for name in names) for one in logged] == [listed] * 4
    assert [one.get("code") for one in logged] == [None, *[request.code] * 3]


# --------------------------------------------------------------------------- time


async def test_a_request_expires_and_is_forgotten_later(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    request = await plugin.begin()
    bridge.desk.open(60)
    bridge.pass_by(minutes=10)
    assert bridge.only().state == EXPIRED
    assert "nobody accepted" in (await plugin.ask()).message
    with pytest.raises(PairingRefused, match="expired"):
        bridge.desk.accept(request.id)
    bridge.pass_by(minutes=10)
    assert bridge.desk.requests() == []
    await refused(await plugin.send("state", b"{}"), 404, "unknown")


async def test_a_key_that_does_not_come_in_time_is_not_taken(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    bridge.pass_by(minutes=10)
    assert await plugin.hand_over() == State(EXPIRED, "the key did not come in time; request pairing again")
    assert bridge.adopted == []


async def test_a_plugin_with_a_wrong_clock_can_be_paired(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    await plugin.introduce()
    answer = await plugin.send(
        "reveal", handshake.encode(plugin.reveal), wire.utc_now() - timedelta(days=400)
    )
    assert (await plugin.state(answer)).state == WAITING


# --------------------------------------------------------------------------- how many


async def test_a_repeated_request_takes_the_place_of_the_one_before(bridge: Bridge) -> None:
    first = Plugin(bridge)
    await first.begin()
    second = Plugin(bridge)
    request = await second.begin()
    assert bridge.only().id == request.id
    assert request.code == second.session.code
    await refused(await first.send("state", b"{}"), 404, "unknown")


async def test_an_accepted_request_is_not_replaced_by_whoever_claims_the_same_uuid(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    await Plugin(bridge).begin()
    assert [one.state for one in bridge.desk.requests()] == [ACCEPTED, WAITING]
    assert (await plugin.hand_over()).state == SERVED


async def test_one_address_may_have_a_few_requests_at_once(bridge: Bridge) -> None:
    plugins = [Plugin(bridge, uuid=f"u-{n}") for n in range(4)]
    for plugin in plugins[:3]:
        assert (await plugin.introduce()).status == 200
    await refused(await plugins[3].introduce(), 429, "too_many")
    assert (await Plugin(bridge, uuid="u-0").introduce()).status == 200  # a repetition takes no more room
    bridge.desk.refuse(bridge.desk.requests()[0].id)
    assert (await plugins[3].introduce()).status == 200


async def test_there_is_an_end_to_the_requests_of_all_addresses(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "MOST_OF_ONE_ADDRESS", 1000)
    for n in range(pairing.MOST_AT_ONCE):
        assert (await Plugin(bridge, uuid=f"u-{n}").introduce()).status == 200
    await refused(await Plugin(bridge, uuid="one more").introduce(), 429, "too_many")
    assert len(bridge.desk.requests()) == pairing.MOST_AT_ONCE


async def test_nobody_may_guess_for_long(bridge: Bridge) -> None:
    """Someone in between learns a request's code from the bridge's answer, and may ask again for another one."""
    for _ in range(pairing.MOST_IN_VAIN):
        assert (await Plugin(bridge).introduce()).status == 200
    assert "closed pairing" in await refused(await Plugin(bridge).introduce(), 429, "too_many")
    await refused(await Plugin(bridge).introduce(), 403, "closed")
    bridge.desk.open(10)
    assert (await Plugin(bridge).introduce()).status == 200


async def test_a_cancelled_request_counts_as_a_guess(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "MOST_IN_VAIN", 2)
    bridge.desk.open(10)
    for _ in range(2):
        plugin = Plugin(bridge)
        await plugin.begin()
        await plugin.cancel()
    await refused(await Plugin(bridge).introduce(), 429, "too_many")


async def test_requests_that_come_to_something_are_no_guesses(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "MOST_IN_VAIN", 2)
    bridge.desk.open(10)
    for n in range(5):
        plugin = Plugin(bridge, uuid=f"u-{n}")
        bridge.desk.accept((await plugin.begin()).id)
        assert (await plugin.hand_over()).state == SERVED
    for n in range(2):
        assert (await Plugin(bridge, uuid=f"v-{n}").introduce()).status == 200
    await refused(await Plugin(bridge).introduce(), 429, "too_many")


async def test_what_has_ended_is_kept_only_for_the_newest(bridge: Bridge) -> None:
    for n in range(pairing.MOST_AT_ONCE + 5):
        await Plugin(bridge, uuid=f"u-{n}").introduce()
        bridge.desk.refuse(bridge.desk.requests()[-1].id)
    assert [one.uuid for one in bridge.desk.requests()] == [f"u-{n}" for n in range(5, 25)]


# --------------------------------------------------------------------------- what cannot be believed


async def test_a_number_that_was_not_promised_is_refused_and_the_promised_one_still_counts(
    bridge: Bridge,
) -> None:
    plugin = Plugin(bridge)
    await plugin.introduce()
    other = handshake.Half()
    await refused(await plugin.send("reveal", handshake.encode(other.reveal())), 401, "forged")
    await refused(
        await plugin.send("reveal", handshake.encode(replace(plugin.reveal, nonce=other.nonce))),
        401,
        "forged",
    )
    assert bridge.only().code is None
    assert (await plugin.show()).state == WAITING
    assert bridge.only().code == plugin.session.code


async def test_whoever_chooses_his_number_after_the_bridges_is_refused(bridge: Bridge) -> None:
    """With another number for each guess he could make the code what he likes."""
    plugin = Plugin(bridge)
    await plugin.introduce()
    plugin.half = handshake.Half()
    plugin.reveal = plugin.half.reveal()
    plugin.session = plugin.half.session(
        plugin.answer.public, plugin.introduction, plugin.answer, plugin.reveal
    )
    await refused(await plugin.send("reveal", handshake.encode(plugin.reveal)), 401, "forged")
    assert bridge.only().code is None


@pytest.mark.parametrize("number", [0, 1, handshake._PRIME - 1, handshake._PRIME])
async def test_a_number_outside_the_group_ends_the_request(bridge: Bridge, number: int) -> None:
    plugin = Plugin(bridge)
    plugin.reveal = handshake.Reveal(f"{number:x}", plugin.half.nonce)
    plugin.introduction = replace(plugin.introduction, commitment=handshake.commitment(plugin.reveal))
    await plugin.introduce()
    await refused(await plugin.send("reveal", handshake.encode(plugin.reveal)), 422, "malformed")
    ended = bridge.only()
    assert (ended.state, ended.code) == (FAILED, None)
    bridge.pass_by(minutes=5)
    with capture_logs() as logged:
        await refused(await plugin.send("reveal", handshake.encode(plugin.reveal)), 422, "malformed")
    assert (bridge.only(), logged) == (ended, [])  # or it would be kept for as long as somebody likes


async def test_changed_on_the_way_the_introduction_leads_to_no_session(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    said = plugin.introduction
    plugin.introduction = replace(said, url="http://192.168.1.66:5000")
    await plugin.introduce()
    plugin.session = plugin.half.session(plugin.answer.public, said, plugin.answer, plugin.reveal)
    await refused(await plugin.send("reveal", handshake.encode(plugin.reveal)), 401, "forged")
    assert bridge.only().code is None


@pytest.mark.parametrize("what", ["reveal", "state", "key", "cancel"])
async def test_what_is_not_signed_or_signed_by_somebody_else_is_refused(bridge: Bridge, what: str) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    body = {
        "reveal": handshake.encode(plugin.reveal),
        "state": b"{}",
        "key": handshake.encode_sealed(plugin.session.seal(KEY)),
        "cancel": handshake.encode(State(CANCELLED)),
    }[what]
    path = f"{handshake.PATH}/{plugin.answer.id}/{what}"
    await refused(await bridge.post(path, body), 401, "missing")
    stranger = wire.PushKey(plugin.session.signing_key.key_id, b"another secret")
    headers = wire.sign(stranger, "msg_1", wire.utc_now(), body)
    await refused(await bridge.post(path, body, headers), 401, "forged")
    headers = wire.sign(plugin.session.signing_key, "msg_2", wire.utc_now(), body + b" ")
    await refused(await bridge.post(path, body, headers), 401, "forged")
    assert bridge.adopted == []
    assert bridge.only().state == ACCEPTED


async def test_a_message_is_taken_once(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    await plugin.begin()
    path = f"{handshake.PATH}/{plugin.answer.id}/state"
    headers = wire.sign(plugin.session.signing_key, "msg_1", wire.utc_now(), b"{}")
    assert (await bridge.post(path, b"{}", headers)).status == 200
    await refused(await bridge.post(path, b"{}", headers), 401, "replayed")
    old = wire.sign(plugin.session.signing_key, "msg_2", wire.utc_now() - timedelta(days=1), b"{}")
    assert (await bridge.post(path, b"{}", old)).status == 200
    await refused(await bridge.post(path, b"{}", old), 401, "replayed")


async def test_one_request_cannot_fill_the_bridges_memory(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(bridge)
    await plugin.begin()
    path = f"{handshake.PATH}/{plugin.answer.id}/state"
    long = wire.sign(plugin.session.signing_key, "msg_" + "1" * 4000, wire.utc_now(), b"{}")
    await refused(await bridge.post(path, b"{}", long), 429, "too_many")

    monkeypatch.setattr(pairing, "MOST_MESSAGES", 3)
    await plugin.ask()
    await plugin.ask()
    await refused(await plugin.send("state", b"{}"), 429, "too_many")


async def test_a_number_shown_again_and_again_is_reckoned_with_once(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(bridge)
    await plugin.introduce()
    reckoned: list[str] = []
    session = handshake.Half.session

    def counted(half: handshake.Half, other: str, *said: Any) -> handshake.Session:
        reckoned.append(other)
        return session(half, other, *said)

    monkeypatch.setattr(handshake.Half, "session", counted)
    path, body = f"{handshake.PATH}/{plugin.answer.id}/reveal", handshake.encode(plugin.reveal)
    for _ in range(3):
        await refused(await bridge.post(path, body), 401, "missing")
    assert (await plugin.show()).state == WAITING
    assert reckoned == [plugin.reveal.public]


async def test_the_same_number_shown_again_is_answered_again(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    await plugin.begin()
    assert (await plugin.show()).state == WAITING


async def test_a_key_before_the_person_has_accepted_is_not_taken(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    await plugin.begin()
    assert (await plugin.hand_over()).state == WAITING
    assert bridge.adopted == []


async def test_a_key_that_comes_twice_is_adopted_once(bridge: Bridge) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    assert (await plugin.hand_over()).state == SERVED
    assert (await plugin.hand_over("B" * 32)).state == SERVED
    assert len(bridge.adopted) == 1


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 257, "k" * 31 + "\n", "k" * 31 + " ", "ä" * 32, "k" * 31 + "\x1b"]
)
async def test_what_is_no_key_is_not_adopted(bridge: Bridge, key: str) -> None:
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    state = await plugin.hand_over(key)
    assert (state.state, bridge.adopted) == (FAILED, [])
    assert "no API key" in state.message


async def test_a_sealed_key_of_another_pairing_is_not_opened(bridge: Bridge) -> None:
    one, other = Plugin(bridge), Plugin(bridge, uuid="u-2")
    bridge.desk.accept((await one.begin()).id)
    await other.begin()
    sealed = handshake.encode_sealed(other.session.seal(KEY))
    assert (await one.state(await one.send("key", sealed))).state == FAILED
    assert bridge.adopted == []


async def test_why_a_machine_could_not_be_adopted_is_told_on_both_sides(bridge: Bridge) -> None:
    bridge.error = AdoptionError("config.json may not be\nwritten; allow that")
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    assert await plugin.hand_over() == State(FAILED, "config.json may not be written; allow that")
    assert bridge.only().message == "config.json may not be written; allow that"


async def test_a_fault_of_the_bridge_while_adopting_leaves_no_request_hanging(bridge: Bridge) -> None:
    bridge.error = RuntimeError("unforeseen")
    plugin = Plugin(bridge)
    bridge.desk.accept((await plugin.begin()).id)
    answer = await plugin.send("key", handshake.encode_sealed(plugin.session.seal(KEY)))
    assert answer.status == 500
    assert (await plugin.ask()).state == FAILED


# --------------------------------------------------------------------------- certificates and odd bodies


@pytest.mark.parametrize("own", [None, "a" * 64])
async def test_a_plugin_that_saw_another_certificate_is_warned(own: str | None) -> None:
    bridge = Bridge(certificate=own)
    async with bridge.client:
        bridge.desk.open(10)
        said = await refused(await Plugin(bridge, certificate="b" * 64).introduce(), 403, "certificate")
        assert "something stands between" in said
        assert bridge.desk.requests() == []
        assert (await Plugin(bridge).introduce()).status == 200  # one that its system trusts is not told


async def test_a_plugin_that_is_relayed_from_plain_http_to_https_is_warned_and_no_relay_can_hide_it() -> None:
    bridge = Bridge(certificate="a" * 64)
    async with bridge.client:
        bridge.desk.open(10)
        said = await refused(await Plugin(bridge, https=False).introduce(), 403, "plain")
        assert "something stands between" in said
        assert bridge.desk.requests() == []
        relayed = Plugin(bridge, https=True)  # as a relay would have to say
        code = (await relayed.begin()).code
        asked = replace(relayed.introduction, https=False)  # as the plugin said
        assert relayed.half.session(relayed.answer.public, asked, relayed.answer, relayed.reveal).code != code


async def test_wrong_certificates_come_to_an_end_too_and_replace_nothing(bridge: Bridge) -> None:
    request = await Plugin(bridge).begin()
    for _ in range(pairing.MOST_IN_VAIN - 1):
        await refused(await Plugin(bridge, certificate="b" * 64).introduce(), 403, "certificate")
    assert bridge.only() == request
    await refused(await Plugin(bridge, certificate="b" * 64).introduce(), 429, "too_many")


async def test_the_right_certificate_is_part_of_the_code() -> None:
    bridge = Bridge(certificate="a" * 64)
    async with bridge.client:
        bridge.desk.open(10)
        plugin = Plugin(bridge, certificate="a" * 64)
        assert (await plugin.begin()).code == plugin.session.code
        unaware = replace(plugin.introduction, certificate=None)
        other = plugin.half.session(plugin.answer.public, unaware, plugin.answer, plugin.reveal)
        assert other.code != plugin.session.code


async def test_what_cannot_be_read_is_refused(bridge: Bridge) -> None:
    await refused(await bridge.post(handshake.PATH, b"nonsense"), 422, "malformed")
    large = b'{"version": 1, "name": "' + b"x" * handshake.MAX_BODY_BYTES
    assert "at most" in await refused(await bridge.post(handshake.PATH, large), 422, "malformed")
    for change in (
        {"name": "a\x1b[2Jb"},
        {"name": "\u202egpj"},
        {"url": "octopi.local"},
        {"commitment": "x"},
    ):
        body = {"version": 1, **asdict(Plugin(bridge).introduction), **change}
        await refused(await bridge.post(handshake.PATH, json.dumps(body).encode()), 422, "malformed")
    assert bridge.desk.requests() == []


async def test_a_body_that_trickles_in_is_not_waited_for(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "_BODY_WITHIN_S", 0.1)

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" "
            await asyncio.sleep(0.05)

    answer = await bridge.client.post(handshake.PATH, data=trickle())
    await refused(answer, 408, "malformed")


async def test_nothing_unprintable_goes_to_a_plugin() -> None:
    bridge = Bridge()
    bridge.desk = PairingDesk("b", "Hall\u00a03 \u202e" + "x" * 200, None, bridge._adopt)
    app = web.Application()
    bridge.desk.add_routes(app)
    bridge.client = TestClient(TestServer(app))
    async with bridge.client:
        bridge.desk.open(1)
        plugin = Plugin(bridge)
        assert (await plugin.introduce()).status == 200
        assert plugin.answer.bridge_name.startswith("Hall 3  xxx")


@pytest.mark.parametrize("path", ["", "/0", "/../x", "/00000000"])
async def test_a_request_that_does_not_exist_is_unknown(bridge: Bridge, path: str) -> None:
    body = handshake.encode(handshake.Half().reveal())
    assert (await bridge.post(f"{handshake.PATH}{path}/reveal", body)).status == 404
