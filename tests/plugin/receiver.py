"""A bridge reduced to the taking of pushes, for tests: checks as the real one does, keeps events in memory."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bridge import wire


@dataclass
class Received:
    """What has arrived, and how the next pushes are answered."""

    keys: dict[str, wire.PushKey] = field(default_factory=dict)
    batches: list[wire.Batch] = field(default_factory=list)
    events: list[tuple[str, wire.Event]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    behaviour: str = "ok"
    want_snapshot: bool = False
    clock: timedelta = timedelta(0)

    def take(self, batch: wire.Batch) -> wire.Reply:
        self.batches.append(batch)
        held = self.held.get(batch.instance, 0)
        if batch.after > held:
            self.gaps.append(batch.instance)
            self.want_snapshot = True
        for event in batch.events:
            if event.seq > held:
                self.events.append((batch.instance, event))
                if event.kind == wire.SNAPSHOT:
                    self.want_snapshot = False
        self.held[batch.instance] = max(held, batch.through)
        return wire.Reply(self.held[batch.instance], self.want_snapshot)


class _Server(ThreadingHTTPServer):
    """One whose end also ends the connections that clients keep open."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.end_connections()

    def end_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Receiver:
    """Listens on a port of the loopback interface between `start` and `stop`; the port stays the same."""

    def __init__(self) -> None:
        self.received = Received()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def accept(self, api_key: str) -> wire.PushKey:
        key = wire.PushKey.derive(api_key)
        self.received.keys = {key.key_id: key}
        return key

    def start(self) -> None:
        received = self.received

        class Handler(_Handler):
            def do_POST(self) -> None:
                self.answer(received)

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.end()
            self._server = None

    @property
    def connections(self) -> int:
        """How many have been made since `start`."""
        return self._server.connections if self._server else 0

    def end_connections(self) -> None:
        """End those that are open, as a bridge does with idle ones."""
        if self._server:
            self._server.end_connections()

    def events(self, kinds: Iterable[str] | None = None) -> list[wire.Event]:
        """What has arrived, in the order of arrival."""
        wanted = None if kinds is None else set(kinds)
        return [event for _, event in list(self.received.events) if wanted is None or event.kind in wanted]

    def wait_for(self, kind: str, count: int = 1, timeout: float = 30.0, **data: Any) -> wire.Event:
        """The `count`-th event of `kind` whose data contain `data`, once it is there."""
        deadline = time.monotonic() + timeout
        while True:
            found = [e for e in self.events([kind]) if all(e.data[k] == v for k, v in data.items())]
            if len(found) >= count:
                return found[count - 1]
            if time.monotonic() > deadline:
                kinds = [(e.kind, e.data.get("state") or e.data.get("result")) for e in self.events()]
                raise AssertionError(f"no {count}. {kind} {data} within {timeout} s; there are {kinds}")
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, received: Received) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = received.keys.get(self.headers.get(wire.KEY_ID_HEADER, ""))
        message_id = self.headers.get(wire.ID_HEADER, "")
        behaviour = received.behaviour
        if behaviour == "silent":
            time.sleep(1.0)
            self.close_connection = True
            return
        if behaviour == "redirect":
            self._reply(302, b"", {"Location": "http://127.0.0.1:9/login"})
            return
        if behaviour == "portal":
            self._reply(200, b"<html>Welcome to the guest network</html>", {})
            return
        if behaviour == "endless":
            self._reply(200, b"x" * 200_000, {})
            return
        if key is None:
            received.refused.append("unknown_key")
            self._reply(401, b'{"error": "unknown_key"}', {})
            return
        now = wire.utc_now() + received.clock
        if behaviour.isdecimal():
            answer = json.dumps({"error": "as the test wants it"}).encode()
            self._reply(int(behaviour), answer, wire.sign_reply(key, message_id, now, answer))
            return
        try:
            wire.verify(key, self.headers, body, now)
        except wire.SignatureError as error:
            received.refused.append(error.reason)
            answer = json.dumps({"error": error.reason}).encode()
            self._reply(401, answer, wire.sign_reply(key, message_id, now, answer))
            return
        answer = wire.encode_reply(received.take(wire.decode_batch(body)))
        if behaviour == "forged":
            key = wire.PushKey.derive("somebody else's key")
        self._reply(200, answer, wire.sign_reply(key, message_id, now, answer))

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
