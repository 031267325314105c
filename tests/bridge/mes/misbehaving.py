"""A real sandbox MES behind something that spoils its answers, one request after the other."""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from bridge.sandbox.app import BASE_PATH, create_app
from bridge.sandbox.server import Handler
from bridge.sandbox.store import Store
from bridge.settings import MesSettings
from tests.bridge.mes.contract import breaches

TOKEN = "correct-horse"
DROP = "drop the answer after committing"
Fault = tuple[int, dict[str, str], str] | str | None


class Spoiled:
    """The WSGI application. `faults` is asked for each write: None lets the request through."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: list[tuple[str, str, str]] = []
        self.breaches: list[str] = []
        self.faults: Callable[[str, str, str], Fault] = lambda method, path, key: None

    def _examine(self, environ: dict[str, Any]) -> None:
        """Hold the request against the contract, and leave it as it was."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith(("HTTP_", "CONTENT_"))
        }
        path = environ["PATH_INFO"][environ["PATH_INFO"].index("/services/") :]
        self.breaches += breaches(environ["REQUEST_METHOD"], path, headers, body)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].partition("/services/sandbox/")[2]
        if not path:
            return self.app(environ, start_response)
        request = (environ["REQUEST_METHOD"], path, environ.get("HTTP_IDEMPOTENCY_KEY", ""))
        self.seen.append(request)
        self._examine(environ)
        fault = self.faults(*request)
        if fault is None:
            return self.app(environ, start_response)
        if isinstance(fault, str):
            b"".join(self.app(environ, start_response))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        code, headers, text = fault
        start_response(f"{code} Spoiled", [("Content-Length", str(len(text))), *headers.items()])
        return [text.encode()]


class SpoiledMes:
    """The server around it."""

    def __init__(self, folder: Path, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.store = Store(folder / "mes.sqlite")
        self.spoiled = Spoiled(create_app(self.store, TOKEN, "sandbox"))
        self._server = make_server(
            "127.0.0.1", port, self.spoiled, threaded=True, request_handler=Handler, ssl_context=tls
        )
        self.token_file = folder / "token"
        self.token_file.write_text(f"\ufeff{TOKEN}\r\n", encoding="utf-8")
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.port}{BASE_PATH}"

    def settings(self, **changes: Any) -> MesSettings:
        values = {
            "id": 1,
            "url": self.url,
            "service_id": "sandbox",
            "token_file": self.token_file,
            "timeout": 5.0,
        }
        return MesSettings(**{**values, **changes})

    def machine(self) -> dict[str, Any] | None:
        machines = self.store.state(None)["machines"]
        return machines[0] if machines else None

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        self._server.shutdown()


@contextmanager
def spoiled_mes(folder: Path, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[SpoiledMes]:
    mes = SpoiledMes(folder, port, tls)
    thread = threading.Thread(target=mes.serve)
    thread.start()
    try:
        yield mes
    finally:
        mes.stop()
        thread.join()
        mes._server.server_close()
        mes.store.close()
    assert mes.spoiled.breaches == []
