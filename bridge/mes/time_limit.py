"""One limit in time for the whole of a request, however slowly its answer trickles in.

The timeouts of requests count anew with each byte that arrives; these sockets wait for what is left of the whole.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3

_end: ContextVar[float | None] = ContextVar("end", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Within it, sockets of `limit` raise `TimeoutError` after `seconds`, counted over all that they do."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def limit(manager: urllib3.PoolManager) -> None:
    """Let all connections of `manager` keep to `time_limit`; those with TLS need a context of `limited`."""
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


def limited(context: ssl.SSLContext) -> ssl.SSLContext:
    """`context`, whose sockets keep to `time_limit`."""
    context.sslsocket_class = _TlsSocket
    return context


def _wait_no_longer(sock: socket.socket) -> None:
    end = _end.get()
    if end is None:
        return
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the whole request is over")
    sock.settimeout(left)


class _Socket(socket.socket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _wait_no_longer(self)
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        _wait_no_longer(self)
        super().sendall(*args, **kwargs)


class _TlsSocket(ssl.SSLSocket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _wait_no_longer(self)
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        _wait_no_longer(self)
        try:
            super().sendall(*args, **kwargs)
        except ssl.SSLEOFError as error:
            # Then urllib3 still reads what the other side said before it closed: an answer, or the alert by which
            # TLS 1.3 refuses a client after the handshake.
            raise BrokenPipeError(errno.EPIPE, "the other side has closed the connection") from error


def _as_limited(plain: socket.socket) -> socket.socket:
    timeout = plain.gettimeout()
    made = _Socket(plain.family, plain.type, plain.proto, plain.detach())
    made.settimeout(timeout)
    return made


class _HttpConnection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _as_limited(super()._new_conn())


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _as_limited(super()._new_conn())


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
