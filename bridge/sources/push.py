"""What plugins deliver over HTTP: signed batches in, events in the log and signed acknowledgements out.

Nothing of a request is believed before its signature is checked, and nothing is acknowledged before the log
holds it.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from bridge import wire
from bridge.log import OWN, Appended, Log, LogError
from bridge.machine.transition import HANDOVER

log = structlog.get_logger(__name__)

_TELL_AGAIN_S = 600.0
_SNAPSHOTS_NOT_TAKEN = 3
"""So many that a machine did not take while it stood as it was last seen from outside mean that its clock is wrong."""

_MOST_TOLD = 1000
_KEY_ID = re.compile(r"[0-9a-f]{24}")

_UNKNOWN_KEY = (
    "no machine of this bridge has the key that signed this push; put the key that the plugin made last into the"
    " machine's entry of config.json, or pair the plugin again"
)


@dataclass(frozen=True, slots=True)
class Sender:
    """A machine that may push, and the key it signs with."""

    machine: str
    key: wire.PushKey


@dataclass(slots=True)
class Counts:
    """How many of what since start."""

    batches: int = 0
    events: int = 0
    gaps: int = 0
    snapshot_requests: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class PushReceiver:
    """Takes pushes into `store` from those who were said to be believed.

    `heard(machine)` is awaited for each push that can be believed, before its events are appended. After its
    own start the bridge asks every machine once for a snapshot, so that whatever was missed is healed. `takes` says
    whether the machine takes what its plugin tells, and not only what was seen from outside later than that.
    """

    def __init__(
        self,
        store: Log,
        heard: Callable[[str], Awaitable[None]],
        takes: Callable[[str], bool] = lambda machine: True,
    ) -> None:
        self._store = store
        self._takes = takes
        self._senders: dict[str, Sender] = {}
        self._key_ids: dict[str, str] = {}
        self._heard = heard
        self._seen = _SeenIds()
        self._without_snapshot: set[str] = set()
        self._not_taken: dict[str, int] = {}
        self._told: dict[tuple[str, str], float] = {}
        self.counts = Counts()

    def believe(self, sender: Sender) -> None:
        """Take pushes that `sender` signs from now on, and none that its machine signs with an earlier key."""
        self.forget(sender.machine)
        self._senders[sender.key.key_id] = sender
        self._key_ids[sender.machine] = sender.key.key_id
        self._without_snapshot.add(sender.machine)

    def forget(self, machine: str) -> None:
        """Take no pushes of `machine` any more."""
        key_id = self._key_ids.pop(machine, "")
        known = self._senders.get(key_id)
        if known is not None and known.machine == machine:
            del self._senders[key_id]
        self._without_snapshot.discard(machine)

    def want_snapshot(self, machine: str) -> None:
        """Ask its plugin for a snapshot at the next push."""
        self._without_snapshot.add(machine)

    def sender(self, key_id: str) -> Sender | None:
        """Who signs with this key; None when it is nobody's."""
        return self._senders.get(key_id)

    def application(self) -> web.Application:
        """The HTTP application, to be served by whoever owns the socket."""
        app = web.Application(client_max_size=wire.MAX_BODY_BYTES)
        app.router.add_post(wire.PATH, self._push)
        return app

    async def _push(self, request: web.Request) -> web.Response:
        key_id = request.headers.get(wire.KEY_ID_HEADER, "")
        sender = self.sender(key_id)
        if sender is None:
            return self._refuse(request, None, 401, "unknown_key", _UNKNOWN_KEY)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(
                request, None, 413, "too_large", f"at most {wire.MAX_BODY_BYTES} bytes a push"
            )
        if self.sender(key_id) is not sender:  # replaced while the body was on its way
            return self._refuse(request, None, 401, "unknown_key", _UNKNOWN_KEY)
        try:
            message_id = wire.verify(sender.key, request.headers, body, wire.utc_now())
            self._seen.add(message_id)
            batch = wire.decode_batch(body)
        except wire.SignatureError as error:
            return self._refuse(request, sender, 401, error.reason, str(error))
        except wire.WireError as error:
            return self._refuse(request, sender, 422, "malformed", str(error))
        return await self._take(request, sender, message_id, batch)

    async def _take(
        self, request: web.Request, sender: Sender, message_id: str, batch: wire.Batch
    ) -> web.Response:
        try:
            await self._heard(sender.machine)
            if self.sender(sender.key.key_id) is not sender:  # replaced or removed meanwhile
                return self._refuse(request, None, 401, "unknown_key", _UNKNOWN_KEY)
            appended = await self._store.append(sender.machine, batch)
            taken = self._takes(sender.machine)
            if taken:
                self._not_taken.pop(sender.machine, None)
            else:
                await self._hand_over(sender.machine, appended)
        except LogError as error:
            return self._refuse(request, sender, 503, "store", str(error))
        self._forget_told(lambda who, at: who == sender.machine)
        reply = wire.Reply(appended.through, self._wants_snapshot(sender.machine, batch, appended, taken))
        return _signed(sender.key, message_id, 200, wire.encode_reply(reply))

    async def _hand_over(self, machine: str, appended: Appended) -> None:
        """Have the machine take what its plugin tells, when it did not for so long that a clock must be wrong."""
        told = sum(record.kind == wire.SNAPSHOT for record in appended.records)
        self._not_taken[machine] = self._not_taken.get(machine, 0) + told
        if self._not_taken[machine] < _SNAPSHOTS_NOT_TAKEN:
            return
        log.warning(
            "the plugin is believed although its clock is behind what was seen from outside before: set the clock of"
            " OctoPrint's computer (NTP)",
            machine=machine,
        )
        del self._not_taken[machine]
        now = wire.utc_now()
        event = wire.Event(1, now, HANDOVER, {})
        await self._store.append(machine, wire.Batch(OWN + secrets.token_hex(8), 0, 1, (event,), now))

    def _wants_snapshot(self, machine: str, batch: wire.Batch, appended: Appended, taken: bool) -> bool:
        self.counts.batches += 1
        self.counts.events += len(appended.records)
        if appended.through < batch.after:
            log.warning(
                "events are missing that were here before; the plugin still has them, and sends them again",
                machine=machine,
                missing_after=appended.through,
                instance=batch.instance,
            )
            return False
        if appended.gap:
            self.counts.gaps += 1
            log.warning(
                "events are missing; a snapshot is asked for",
                machine=machine,
                missing_before=batch.after + 1,
                instance=batch.instance,
            )
        if appended.gap or appended.first:
            self._without_snapshot.add(machine)
        if not taken:
            self._without_snapshot.add(machine)
        elif any(record.kind == wire.SNAPSHOT for record in appended.records):
            self._without_snapshot.discard(machine)
        wanted = machine in self._without_snapshot
        self.counts.snapshot_requests += wanted
        return wanted

    def _refuse(
        self, request: web.Request, sender: Sender | None, status: int, reason: str, message: str
    ) -> web.Response:
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1
        self._tell_refused(request, sender, reason, message)
        body = json.dumps({"error": reason, "message": message}).encode()
        message_id = request.headers.get(wire.ID_HEADER, "")
        if sender is None or reason in ("missing", "forged"):
            return web.Response(status=status, body=body, content_type="application/json")
        return _signed(sender.key, message_id, status, body)

    def _tell_refused(self, request: web.Request, sender: Sender | None, reason: str, message: str) -> None:
        """Log a refusal once, and again when it has lasted: a plugin tries for ever."""
        now = time.monotonic()
        self._forget_told(lambda who, at: at < now - _TELL_AGAIN_S)
        key_id = _KEY_ID.fullmatch(request.headers.get(wire.KEY_ID_HEADER, ""))
        if sender is not None:
            who, known = sender.machine, {"machine": sender.machine}
        else:
            shown = key_id[0] if key_id else "none"
            who, known = f"{request.remote} {shown}", {"key_id": shown}
        if (who, reason) not in self._told and len(self._told) < _MOST_TOLD:
            self._told[who, reason] = now
            log.warning("push refused", address=request.remote, reason=reason, detail=message, **known)

    def _forget_told(self, over: Callable[[str, float], bool]) -> None:
        if self._told:
            self._told = {key: at for key, at in self._told.items() if not over(key[0], at)}


class _SeenIds:
    """The ids of the pushes that were believed lately: none is believed twice."""

    def __init__(self) -> None:
        self._current: set[str] = set()
        self._previous: set[str] = set()
        self._turned = wire.utc_now()

    def add(self, message_id: str) -> None:
        # A push is refused by its age after one tolerance on either side of the clock, so that ids
        # older than two of them need not be kept.
        now = wire.utc_now()
        if abs((now - self._turned).total_seconds()) > 2 * wire.TOLERANCE_S:
            self._previous, self._current, self._turned = self._current, set(), now
        if message_id in self._current or message_id in self._previous:
            raise wire.SignatureError("replayed", "this push was already taken once; it is not taken again")
        self._current.add(message_id)


def _signed(key: wire.PushKey, message_id: str, status: int, body: bytes) -> web.Response:
    headers = wire.sign_reply(key, message_id, wire.utc_now(), body)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
