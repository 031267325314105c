"""The bridge's side of pairing, over real sockets, with a plugin reduced to what it says."""

from __future__ import annotations

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
from bridge.handshake import ACCEPTED, EXPIRED, FAILED, REFUSED, SERVED, WAITING, Introduction, State
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
        told = {"uuid": "u-1", "name": "Prusa MK4", "url": "http://192.168.1.41:5000"} | said
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
    assert (accepted.name, accepted.url, accepted.mes_ids) == ("Prusa MK4", "http://192.168.1.41:5000", (1, 2))
    assert bridge.only().state == SERVED
