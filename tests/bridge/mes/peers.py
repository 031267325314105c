"""What may stand on the way to a MES: a server that counts connections, with TLS or without, and a proxy."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from bridge.mes.adapters.contract import Contract
from bridge.mes.client import Kind, Message, Outcome
from bridge.mes.http import HttpClient
from bridge.settings import MesSettings

HEARTBEAT = Message(Kind.HEARTBEAT, None, "key-1", '{"bridge": "b", "lease": 30.0}')
TOKEN = "correct-horse"


@dataclass
class Peer:
    """A server that answers as `answer` writes it. `seen` are path and headers (names in lower case)."""

    port: int
    scheme: str
    answer: Callable[[BinaryIO], Any]
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


def no_content(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def server_context(
    certificate: tuple[Path, Path], clients: Path | None = None, newest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """TLS of a MES, which wants a certificate that the authority in `clients` signed, if that is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if newest is not None:
        context.maximum_version = newest
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def listening(
    tls: ssl.SSLContext | None = None, answer: Callable[[BinaryIO], Any] = no_content
) -> Iterator[Peer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            if tls is not None:
                self.request = tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            peer.connections += 1
            super().setup()

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            peer.seen.append((self.path, headers))
            peer.answer(self.wfile)
            self.wfile.flush()

        do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with _serving(Handler) as port:
        peer = Peer(port, "https" if tls else "http", answer)
        yield peer


@dataclass
class Proxy:
    """An HTTP proxy; `asked` are the request lines, and `wants` is what it knows people by."""

    port: int
    wants: str | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def proxying() -> Iterator[Proxy]:
    """Tunnels with CONNECT, and passes on what is asked for in absolute form (RFC 9112, section 3.2)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def refused(self) -> bool:
            proxy.asked.append(self.requestline)
            if proxy.wants is None:
                return False
            known = "Basic " + base64.b64encode(proxy.wants.encode()).decode()
            if self.headers["Proxy-Authorization"] == known:
                return False
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True

        def do_CONNECT(self) -> None:
            if self.refused():
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as other:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pump, args=(other, self.connection))
                back.start()
                _pump(self.connection, other)
                back.join()
            self.close_connection = True

        def do_POST(self) -> None:
            if self.refused():
                return
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept = {n: v for n, v in self.headers.items() if not n.lower().startswith("proxy-")}
            head = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
            with socket.create_connection((url.hostname, url.port)) as other:
                other.sendall(f"POST {url.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
                self.wfile.write(other.recv(65536))

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with _serving(Handler) as port:
        proxy = Proxy(port)
        yield proxy


def settings_of(folder: Path, url: str, **changes: Any) -> MesSettings:
    """Settings for the MES at `url`, whose token stands in `folder`."""
    token = folder / "token"
    if not token.exists():
        token.write_text(TOKEN)
    values = {"id": 3, "url": url, "service_id": "s", "token_file": token, "timeout": 5.0}
    return MesSettings(**{**values, **changes})


@contextmanager
def client_of(settings: MesSettings) -> Iterator[HttpClient]:
    """A client that speaks the contract."""
    with contextlib.closing(HttpClient(settings, Contract(settings, "b"))) as client:
        yield client


def sent(settings: MesSettings) -> Outcome:
    """What comes of one heartbeat over a new connection."""
    with client_of(settings) as client:
        return client.send(HEARTBEAT)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
