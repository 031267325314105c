"""The sandbox MES as a process: folder and address in, a small web server out."""

from __future__ import annotations

import secrets
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from bridge.files import write_private
from bridge.sandbox.app import BASE_PATH, create_app
from bridge.sandbox.store import SandboxError, Store
from bridge.settings import is_loopback

SERVICE_ID = "sandbox"


class Sandbox:
    """A sandbox MES that listens once it is made. `port` 0 takes a free one. Raises `SandboxError`."""

    def __init__(
        self,
        host: str,
        port: int,
        folder: Path,
        token: str | None = None,
        service_id: str = SERVICE_ID,
        activate: bool = True,
    ) -> None:
        self.service_id = service_id
        self.token_file = folder / "token"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.token = _token(self.token_file, token)
        except (OSError, UnicodeDecodeError) as error:
            raise SandboxError(f"{folder}: cannot be used: {error}; choose another --folder") from None
        self._store = Store(folder / "mes.sqlite", activate)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=64)
        except OSError as error:
            self._store.close()
            raise SandboxError(
                f"nothing can be served on {host}:{port}: {error.strerror or error};"
                " stop what uses the port, or choose another --port"
            ) from None
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        app = create_app(self._store, self.token, service_id, is_loopback(host))
        self._server = make_server(
            host, port, app, threaded=True, request_handler=Handler, fd=self._socket.fileno()
        )

    @property
    def mes_url(self) -> str:
        """What stands as `url` in a ``[[mes]]`` section."""
        return self.url + BASE_PATH

    def serve(self) -> None:
        """Answer until `stop`; then let go of everything."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of address and folder."""
        self._server.server_close()
        self._socket.close()
        self._store.close()

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._server.shutdown()


class Handler(WSGIRequestHandler):
    """Does not write a line for each request, and does not wait for ever for one."""

    timeout = 75

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not logged: the page shows what came of them."""

    def setup(self) -> None:
        """Answers are short and must not wait for one another (Nagle's algorithm)."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def run(
    host: str,
    port: int,
    folder: Path,
    token: str | None = None,
    service_id: str = SERVICE_ID,
    activate: bool = True,
) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit code of ``mesbridge sandbox``."""
    try:
        sandbox = Sandbox(host, port, folder, token, service_id, activate)
    except SandboxError as error:
        print(f"mesbridge sandbox: {error}", file=sys.stderr)
        return 1

    def end(*_: Any) -> None:
        # `stop` waits for `serve`, which runs in the thread that this handler interrupts.
        threading.Thread(target=sandbox.stop, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if not is_loopback(host):
        print("Anyone who reaches this address can read the page; writing needs the token.")
    print(
        f"Sandbox MES: {sandbox.url}\n"
        "For the settings of the bridge:\n\n"
        f'[[mes]]\nid = 1\nurl = "{sandbox.mes_url}"\nservice_id = "{service_id}"\n'
        f"token_file = '{sandbox.token_file.absolute()}'\n",
        flush=True,
    )
    sandbox.serve()
    return 0


def _token(path: Path, given: str | None) -> str:
    """The given token, the one in the file, or a new one; it stands in the file afterwards."""
    if given is None and path.exists():
        given = path.read_text(encoding="utf-8-sig").strip()
    token = given or secrets.token_urlsafe(24)
    write_private(path, token.encode() + b"\n")
    return token
