"""A bridge reduced to its talk with plugins, for tests: checks as the real one does, keeps all in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge import handshake, wire

PAIR = "/pair"
HELLO = "/hello"


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
    version: str = "0.0.test"
    hello: tuple[int, bytes] | None = None
    pairing_open: bool = True
    pairings: dict[str, Paired] = field(default_factory=dict)
    expires_in: float = 60.0
    accept_at_once: bool = False
    taken: handshake.State = field(default_factory=lambda: handshake.State(handshake.SERVED, "machine 7"))
    lose: Callable[[str], str] = lambda path: ""
    paths: list[str] = field(default_factory=list)

    def take(self, batch: wire.Batch) -> wire.Reply:
        self.batches.append(batch)
        held = self.held.get(batch.instance, 0)
        if self.held and batch.rewindable(held):
            return wire.Reply(held, False)
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


@dataclass
class Paired:
    """One request for pairing at the bridge."""

    half: handshake.Half
    introduction: handshake.Introduction
    answer: handshake.Answer
    state: handshake.State
    session: handshake.Session | None = None
    api_key: str | None = None


def make_certificate(folder: Path, name: str = "bridge") -> Path:
    """A PEM file with a fresh private key and its self-made certificate for localhost and 127.0.0.1."""
    pytest.importorskip("cryptography")
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def fingerprint(certificate: Path) -> str:
    """SHA-256 (hex) of the certificate in a PEM file."""
    pem = certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERT") :])
    return hashlib.sha256(der).hexdigest()


class _Server(ThreadingHTTPServer):
    """One whose end also ends the connections that clients keep open, and what is being answered on them."""

    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._answering: list[threading.Thread] = []
        self._ended = False
        self.connections = 0
        self.tls: ssl.SSLContext | None = None

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.add(request)
        answering = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._answering.append(answering)
        answering.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            secured = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            with secured:
                self._open.add(secured)
                if not self._ended:
                    secured.do_handshake()
                    super().finish_request(secured, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._ended = True
        self.end_connections()
        for answering in self._answering:
            answering.join(5.0)

    def end_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Receiver:
    """Listens on a port of the loopback interface between `start` and `stop`; the port stays the same."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.received = Received()
        self.certificate = certificate
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._port}"

    def accept_pairing(self, state: str = handshake.ACCEPTED, message: str = "") -> None:
        """Say at the bridge how the newest request goes on."""
        list(self.received.pairings.values())[-1].state = handshake.State(state, message)

    def code(self) -> str:
        """What the bridge shows of the newest request."""
        session = list(self.received.pairings.values())[-1].session
        return session.code if session else ""

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
        if self.certificate:
            self._server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._server.tls.load_cert_chain(self.certificate)
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
        received.paths.append(self.path)
        lost = received.lose(self.path)
        if lost:
            if lost == "answer":
                self._reply = lambda *_: None  # type: ignore[method-assign]
                self._route(received, body)
            self.close_connection = True
            return
        self._route(received, body)

    def _route(self, received: Received, body: bytes) -> None:
        if self.path.startswith(PAIR):
            self._pair(received, body)
        elif self.path == HELLO:
            self._hello(received, body)
        else:
            self._push(received, body)

    def _hello(self, received: Received, body: bytes) -> None:
        if received.hello:
            self._reply(*received.hello, {})
            return
        key = received.keys.get(self.headers.get(wire.KEY_ID_HEADER, ""))
        now = wire.utc_now() + received.clock
        said = {
            "product": "MESBridge",
            "version": received.version,
            "bridge_id": "b1",
            "bridge_name": "Hall 3",
            "pairing": received.pairing_open,
            "known": key is not None,
        }
        if key is None:
            self._reply(200, json.dumps(said).encode(), {})
            return
        status = 200
        try:
            wire.verify(key, self.headers, body, now)
        except wire.SignatureError as error:
            status, said = 401, {"error": error.reason}
        answer = json.dumps(said).encode()
        signed = wire.sign_reply(key, self.headers[wire.ID_HEADER], now, answer)
        self._reply(status, answer, signed if status == 200 or said["error"] == "clock" else {})

    def _pair(self, received: Received, body: bytes) -> None:
        _, _, identity, what = (self.path + "//").split("/")[:4]
        if not identity:
            if received.pairing_open:
                self._reply(200, handshake.encode(_introduced(received, body)), {})
            else:
                self._refuse(403, "closed")
            return
        one = received.pairings.get(identity)
        if one is None:
            self._refuse(404, "unknown")
            return
        if what == "reveal" and one.session is None:
            reveal = handshake.decode_reveal(body)
            if handshake.commitment(reveal) != one.introduction.commitment:
                self._refuse(422, "malformed")
                return
            one.session = one.half.session(reveal.public, one.introduction, one.answer, reveal)
        try:
            wire.verify(one.session.signing_key, self.headers, body, wire.utc_now())
        except (AttributeError, wire.SignatureError):
            self._refuse(401, "forged")
            return
        if what == "cancel" and handshake.decode_state(body).state == handshake.CANCELLED:
            one.state = handshake.State(handshake.CANCELLED, "cancelled in OctoPrint")
        if what == "key" and one.state.state == handshake.ACCEPTED:
            one.api_key = one.session.open(handshake.decode_sealed(body))
            one.state = received.taken
            if one.state.state == handshake.SERVED:
                key = wire.PushKey.derive(one.api_key)
                received.keys[key.key_id] = key
        answer = handshake.encode(one.state)
        message_id = self.headers[wire.ID_HEADER]
        headers = wire.sign_reply(one.session.signing_key, message_id, wire.utc_now(), answer)
        self._reply(200, answer, headers)

    def _refuse(self, status: int, error: str) -> None:
        self._reply(status, json.dumps({"error": error, "message": "as the test wants it"}).encode(), {})

    def _push(self, received: Received, body: bytes) -> None:
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
        if behaviour == "0.2" and _is_beyond_0_2(body):
            received.refused.append("malformed")
            answer = b'{"error": "malformed", "message": "events[1].kind: unknown"}'
            self._reply(422, answer, wire.sign_reply(key, message_id, now, answer))
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


def _is_beyond_0_2(body: bytes) -> bool:
    """Whether a bridge of that version refuses this: it knows neither these kinds nor these fields."""
    events = json.loads(body)["events"]
    progress = [event["data"] for event in events if event["kind"] == wire.PROGRESS]
    progress += [event["data"].get("progress") or {} for event in events if event["kind"] == wire.SNAPSHOT]
    new = any(event["kind"] in ("files", "feedstock") for event in events)
    return new or any("layer" in data or "layers" in data for data in progress)


def _introduced(received: Received, body: bytes) -> handshake.Answer:
    introduction = handshake.decode_introduction(body)
    half = handshake.Half()
    identity = handshake.new_pairing_id()
    answer = handshake.Answer(identity, half.public, half.nonce, "b1", "Hall 3", received.expires_in)
    state = handshake.ACCEPTED if received.accept_at_once else handshake.WAITING
    received.pairings[identity] = Paired(half, introduction, answer, handshake.State(state))
    return answer
