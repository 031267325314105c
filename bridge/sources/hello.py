"""What a plugin may ask before anything else: who is there, and whether it is known here.

In comes an empty object, signed if the plugin has a key; out goes what anybody may know of this bridge, signed
if the plugin is known, so that it can tell the bridge from something that only looks like one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from aiohttp import web

from bridge import __version__, wire
from bridge.sources.push import Sender

PATH = "/hello"
_QUESTION = b"{}"
_LONGEST = 64


class Greeter:
    """`sender(key_id)` says who signs with a key; `pairing_open()` whether a plugin may ask to be paired now."""

    def __init__(
        self,
        bridge_id: str,
        bridge_name: str,
        sender: Callable[[str], Sender | None],
        pairing_open: Callable[[], bool],
    ) -> None:
        self._bridge_id = bridge_id
        self.bridge_name = bridge_name
        self._sender = sender
        self._pairing_open = pairing_open

    def add_routes(self, app: web.Application) -> None:
        """Have `app` answer plugins."""
        app.router.add_post(PATH, self._hello)

    async def _hello(self, request: web.Request) -> web.Response:
        short = (request.content_length or _LONGEST + 1) <= _LONGEST
        body = await request.read() if short else b""
        if body.strip() != _QUESTION:
            # Unsigned, or a push sent here by someone in between would get an answer that passes for its own.
            return _answer(422, {"error": "malformed", "message": "body: {} is expected"})
        sender = self._sender(request.headers.get(wire.KEY_ID_HEADER, ""))
        said = {
            "product": "MESBridge",
            "version": __version__,
            "bridge_id": self._bridge_id,
            "bridge_name": self.bridge_name,
            "pairing": self._pairing_open(),
            "known": sender is not None,
        }
        if sender is None:
            return _answer(200, said)
        try:
            wire.verify(sender.key, request.headers, body, wire.utc_now())
        except wire.SignatureError as error:
            refusal = {"error": error.reason, "message": str(error)}
            return _answer(401, refusal, request, sender if error.reason == "clock" else None)
        return _answer(200, said, request, sender)


def _answer(
    status: int, said: Mapping[str, object], request: web.Request | None = None, sender: Sender | None = None
) -> web.Response:
    body, headers = json.dumps(said).encode(), {}
    if request is not None and sender is not None:
        headers = wire.sign_reply(sender.key, request.headers[wire.ID_HEADER], wire.utc_now(), body)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
