"""The HTTP connection to the bridge, kept open between pushes.

In flow a URL and a body; out flows the answer as it is. The standard library's client does all that is needed
for a third of the CPU that `requests` takes for a push, which counts while a print runs. It knows neither
proxies nor redirects, and that is meant: the bridge stands in the plant.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit


class Unreachable(Exception):
    """No answer was received; the text says why."""


@dataclass(frozen=True)
class Answer:
    """`headers` compares names without case; `body` is None when it was longer than allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class Line:
    """One connection, made when it is needed. For one thread."""

    def __init__(self) -> None:
        self._origin = ""
        self._connection: http.client.HTTPConnection | None = None

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], connect: float, read: float, most: int
    ) -> Answer:
        """The answer to `body`; `connect` and `read` in seconds, `most` in bytes. Raises `Unreachable`."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin != self._origin:
            self.close()
        try:
            if self._connection is not None:
                try:
                    return self._exchange(self._connection, parts.path, body, headers, most)
                except (ConnectionError, ssl.SSLError):
                    self.close()  # ended by the bridge while it was idle
            self._connection, self._origin = _connection(parts, connect), origin
            self._connection.connect()
            self._connection.sock.settimeout(read)
            return self._exchange(self._connection, parts.path, body, headers, most)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(_in_short(error)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        most: int,
    ) -> Answer:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read(most + 1)
        too_long = len(answer) > most
        if too_long or response.will_close:
            self.close()
        return Answer(response.status, response.headers, None if too_long else answer)


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(
            host, parts.port, timeout=timeout, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def _in_short(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return "its name is not known in this network"
    if isinstance(error, socket.timeout):  # before Python 3.10 this is no TimeoutError
        return "no answer within the time allowed"
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__)[:200]
