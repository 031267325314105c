"""The first question of a plugin, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge import __version__, wire
from bridge.sources.hello import PATH, Greeter
from bridge.sources.push import Sender

KEY = wire.PushKey.derive("the machine's key")
ANYBODY = {
    "product": "MESBridge",
    "version": __version__,
    "bridge_id": "bridge-1",
    "bridge_name": "Hall 3",
    "pairing": False,
    "known": False,
}


class Bridge:
    def __init__(self) -> None:
        self.pairing = False
        known = {KEY.key_id: Sender("m", KEY)}
        app = web.Application()
        Greeter("bridge-1", "Hall 3", known.get, lambda: self.pairing).add_routes(app)
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))

    async def ask(self, headers: dict[str, str] | None = None, body: bytes = b"{}") -> tuple[int, Any, Any]:
        answer = await self.client.post(PATH, data=body, headers=headers)
        return answer.status, await answer.json(), answer.headers


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    made = Bridge()
    async with made.client:
        yield made


def signed(key: wire.PushKey = KEY, body: bytes = b"{}", **earlier: float) -> dict[str, str]:
    return wire.sign(key, "msg_1", wire.utc_now() - timedelta(**earlier), body)


async def test_anybody_is_told_who_is_there(bridge: Bridge) -> None:
    assert (await bridge.ask())[:2] == (200, ANYBODY)
    bridge.pairing = True
    assert (await bridge.ask(body=b" {}\n"))[1]["pairing"]


async def test_a_plugin_whose_key_is_not_known_is_told_so(bridge: Bridge) -> None:
    status, said, headers = await bridge.ask(signed(wire.PushKey.derive("another key")))
    assert (status, said) == (200, ANYBODY)
    assert wire.SIGNATURE_HEADER not in headers


async def test_a_known_plugin_gets_a_signed_answer(bridge: Bridge) -> None:
    status, said, headers = await bridge.ask(signed())
    assert (status, said) == (200, ANYBODY | {"known": True})
    wire.verify_reply(KEY, "msg_1", headers, json.dumps(said).encode())


async def test_a_known_plugin_with_a_wrong_clock_learns_the_right_time(bridge: Bridge) -> None:
    status, said, headers = await bridge.ask(signed(hours=1))
    assert (status, said["error"]) == (401, "clock")
    told = wire.verify_reply(KEY, "msg_1", headers, json.dumps(said).encode())
    assert abs(told - wire.utc_now()) < timedelta(seconds=60)


async def test_who_only_claims_a_key_gets_no_signature(bridge: Bridge) -> None:
    status, said, headers = await bridge.ask(signed(wire.PushKey(KEY.key_id, b"guessed")))
    assert (status, said["error"]) == (401, "forged")
    assert wire.SIGNATURE_HEADER not in headers
    status, said, headers = await bridge.ask({wire.KEY_ID_HEADER: KEY.key_id})
    assert (status, said["error"]) == (401, "missing")
    assert wire.SIGNATURE_HEADER not in headers


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a": 1}', b"\xff", wire.encode_reply(wire.Reply(7, True))])
async def test_a_push_that_somebody_sends_here_gets_no_answer_that_could_pass_for_its_own(
    bridge: Bridge, body: bytes
) -> None:
    status, said, headers = await bridge.ask(signed(body=body), body)
    assert (status, said["error"]) == (422, "malformed")
    assert wire.SIGNATURE_HEADER not in headers
