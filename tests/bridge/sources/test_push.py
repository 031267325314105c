from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from bridge import wire
from bridge.log.sqlite import SqliteLog
from bridge.sources import push
from bridge.sources.push import PushReceiver, Sender
from tests.bridge.events import DATA

KEY = wire.PushKey.derive("the machine's key")
Push = Callable[..., Awaitable[ClientResponse]]


class Bridge:
    """A receiver with one machine on a real socket and a real log."""

    def __init__(self, store: SqliteLog) -> None:
        self.store = store
        self.heard: list[str] = []
        self.receiver = PushReceiver(store, self._hear)
        self.receiver.believe(Sender("m", KEY))
        self.client: TestClient = TestClient(TestServer(self.receiver.application()))

    async def _hear(self, machine: str) -> None:
        self.heard.append(machine)

    async def post(self, body: bytes, headers: dict[str, str]) -> ClientResponse:
        return await self.client.post(wire.PATH, data=body, headers=headers)

    async def push(self, batch: wire.Batch) -> wire.Reply:
        body, message_id = wire.encode_batch(batch), wire.new_message_id()
        answer = await self.post(body, wire.sign(KEY, message_id, wire.utc_now(), body))
        content = await answer.read()
        assert answer.status == 200, content
        wire.verify_reply(KEY, message_id, answer.headers, content)
        return wire.decode_reply(content)


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    store = SqliteLog(tmp_path / "log.sqlite", lambda records: None)
    made = Bridge(store)
    async with made.client:
        yield made
    await store.close()


def batch(*kinds: str, after: int = 0, instance: str = "i") -> wire.Batch:
    now = wire.utc_now()
    events = tuple(wire.Event(n, now, kind, DATA[kind]) for n, kind in enumerate(kinds, after + 1))
    return wire.Batch(instance, after, after + len(kinds), events, now)


async def test_a_push_is_in_the_log_when_it_is_acknowledged(bridge: Bridge) -> None:
    reply = await bridge.push(batch(wire.SNAPSHOT, wire.HEATERS))
    assert reply == wire.Reply(2, snapshot=False)
    assert [(r.machine, r.kind) for r in bridge.store.read(0)] == [("m", wire.SNAPSHOT), ("m", wire.HEATERS)]
    assert bridge.heard == ["m"]


async def test_a_batch_that_comes_again_is_acknowledged_and_kept_once(bridge: Bridge) -> None:
    one = batch(wire.SNAPSHOT, wire.HEATERS)
    await bridge.push(one)
    assert (await bridge.push(one)).ack == 2
    assert len(list(bridge.store.read(0))) == 2


async def test_a_snapshot_is_asked_for_until_it_comes(bridge: Bridge) -> None:
    assert (await bridge.push(batch(wire.HEATERS))).snapshot
    assert (await bridge.push(batch(after=1))).snapshot
    assert not (await bridge.push(batch(wire.SNAPSHOT, after=1))).snapshot
    assert not (await bridge.push(batch(wire.HEATERS, after=2))).snapshot


async def test_a_gap_is_counted_and_healed_by_a_snapshot(bridge: Bridge) -> None:
    await bridge.push(batch(wire.SNAPSHOT))
    assert (await bridge.push(batch(wire.HEATERS, after=7))).snapshot
    assert bridge.receiver.counts.gaps == 1
    assert not (await bridge.push(batch(wire.SNAPSHOT, after=8))).snapshot


async def test_what_the_plugin_still_has_of_a_gap_is_asked_for_before_anything_else_is_taken(
    bridge: Bridge,
) -> None:
    await bridge.push(batch(wire.SNAPSHOT))
    later = replace(batch(wire.HEATERS, after=7), kept_from=5)
    reply = await bridge.push(later)
    assert (reply.ack, reply.snapshot) == (1, False)
    reply = await bridge.push(replace(batch(wire.HEATERS, after=4), kept_from=5))
    assert (reply.ack, reply.snapshot) == (5, True)
    assert bridge.receiver.counts.gaps == 1


async def test_a_new_instance_without_a_snapshot_is_asked_for_one(bridge: Bridge) -> None:
    await bridge.push(batch(wire.SNAPSHOT))
    assert (await bridge.push(batch(wire.HEATERS, instance="next"))).snapshot


async def refused(answer: ClientResponse, status: int, reason: str) -> None:
    assert answer.status == status
    assert (await answer.json())["error"] == reason


async def test_a_forged_push_is_refused_and_leaves_nothing(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    headers = wire.sign(KEY, "msg_1", wire.utc_now(), body)
    await refused(await bridge.post(body.replace(b"operational", b"printing"), headers), 401, "forged")
    await refused(await bridge.post(body, {}), 401, "unknown_key")
    other = wire.PushKey("x" * 24, KEY.secret)
    await refused(
        await bridge.post(body, wire.sign(other, "msg_2", wire.utc_now(), body)), 401, "unknown_key"
    )
    del headers[wire.SIGNATURE_HEADER]
    await refused(await bridge.post(body, headers), 401, "missing")
    assert list(bridge.store.read(0)) == []
    assert bridge.heard == []


async def test_a_replayed_push_is_refused(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    headers = wire.sign(KEY, "msg_1", wire.utc_now(), body)
    assert (await bridge.post(body, headers)).status == 200
    await refused(await bridge.post(body, headers), 401, "replayed")
    assert bridge.heard == ["m"]


async def test_a_push_from_a_wrong_clock_is_refused_and_told_the_right_time(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    answer = await bridge.post(body, wire.sign(KEY, "msg_1", wire.utc_now() - timedelta(hours=1), body))
    await refused(answer, 401, "clock")
    told = wire.verify_reply(KEY, "msg_1", answer.headers, await answer.read())
    assert abs(told - wire.utc_now()) < timedelta(seconds=60)


async def test_what_cannot_be_read_is_refused_with_its_place(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT)).replace(b'"snapshot"', b'"explosion"')
    answer = await bridge.post(body, wire.sign(KEY, "msg_1", wire.utc_now(), body))
    await refused(answer, 422, "malformed")
    assert "events[0].kind" in (await answer.json())["message"]


async def test_too_large_a_push_is_refused(bridge: Bridge) -> None:
    known = {wire.KEY_ID_HEADER: KEY.key_id}
    await refused(await bridge.post(b"x" * (wire.MAX_BODY_BYTES + 1), known), 413, "too_large")


async def test_nothing_is_read_of_a_push_whose_key_nobody_has(bridge: Bridge) -> None:
    async def never_ends() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with asyncio.timeout(30):
        await refused(await bridge.client.post(wire.PATH, data=never_ends()), 401, "unknown_key")


async def test_a_store_that_fails_is_not_acknowledged(bridge: Bridge) -> None:
    await bridge.store.close()
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    await refused(await bridge.post(body, wire.sign(KEY, "msg_1", wire.utc_now(), body)), 503, "store")


async def test_a_refusal_is_logged_once_for_each_key_and_not_hidden_by_another(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    with capture_logs() as logged:
        for key in ("one", "two", "two"):
            headers = wire.sign(wire.PushKey.derive(key), wire.new_message_id(), wire.utc_now(), body)
            await refused(await bridge.post(body, headers), 401, "unknown_key")
        await refused(await bridge.post(body, {}), 401, "unknown_key")
    expected = [wire.PushKey.derive("one").key_id, wire.PushKey.derive("two").key_id, "none"]
    assert [line["key_id"] for line in logged if line["event"] == "push refused"] == expected


async def test_a_refusal_that_lasts_is_logged_again(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logged:
        await bridge.post(b"", {})
        monkeypatch.setattr(push, "_TELL_AGAIN_S", -1.0)
        await bridge.post(b"", {})
    assert len([line for line in logged if line["event"] == "push refused"]) == 2


async def test_a_header_beyond_ascii_is_refused_in_words(bridge: Bridge) -> None:
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    headers = wire.sign(KEY, "msg_1", wire.utc_now(), body) | {"Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    assert bridge.client.host is not None
    assert bridge.client.port is not None
    reader, writer = await asyncio.open_connection(bridge.client.host, bridge.client.port)
    writer.write(
        b"POST /push HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        + head.replace(b"msg_1", b"msg_\xff")
        + b"\r\n"
        + body
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"missing"' in answer


async def test_a_push_that_is_replayed_to_a_restarted_bridge_adds_nothing(bridge: Bridge) -> None:
    """The ids of pushes are not kept over a restart; the log is what holds each event once."""
    body = wire.encode_batch(batch(wire.SNAPSHOT, wire.HEATERS))
    headers = wire.sign(KEY, "msg_1", wire.utc_now(), body)
    assert (await bridge.post(body, headers)).status == 200
    restarted = Bridge(bridge.store)
    async with restarted.client:
        answer = await restarted.post(body, headers)
        assert wire.decode_reply(await answer.read()).ack == 2
    assert len(list(bridge.store.read(0))) == 2


async def test_a_push_whose_key_is_replaced_while_its_body_is_on_the_way_is_not_believed(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, replaced = wire.encode_batch(batch(wire.SNAPSHOT)), wire.PushKey.derive("the next key")
    asked, look = asyncio.Event(), bridge.receiver.sender

    def noted(key_id: str) -> Sender | None:
        asked.set()
        return look(key_id)

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:10]
        await asked.wait()
        bridge.receiver.believe(Sender("m", replaced))
        yield body[10:]

    monkeypatch.setattr(bridge.receiver, "sender", noted)
    headers = wire.sign(KEY, wire.new_message_id(), wire.utc_now(), body)
    answer = await bridge.client.post(wire.PATH, data=slowly(), headers=headers)
    assert (answer.status, (await answer.json())["error"]) == (401, "unknown_key")
    assert (bridge.heard, list(bridge.store.read(0))) == ([], [])


async def test_a_push_whose_machine_is_removed_while_it_waits_is_not_taken(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what was asked of OctoPrint so far to be in the log."""

    async def removed(machine: str) -> None:
        bridge.receiver.forget(machine)

    monkeypatch.setattr(bridge.receiver, "_heard", removed)
    body = wire.encode_batch(batch(wire.SNAPSHOT))
    answer = await bridge.post(body, wire.sign(KEY, wire.new_message_id(), wire.utc_now(), body))
    await refused(answer, 401, "unknown_key")
    assert list(bridge.store.read(0)) == []
