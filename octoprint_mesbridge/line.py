"""The HTTP connection to the bridge, kept open between requests.

In flow a URL and a body; out flows the answer as it is. The standard library's client does all that is needed
for a third of the CPU that `requests` takes for a push, which counts while a print runs. It knows neither
proxies nor redirects, and that is meant: the bridge stands in the plant.

Over https the bridge is known either by a certificate that this system trusts, or by the one seen at pairing,
which is pinned; in both cases not a byte of a request leaves before that is checked.

Whatever listens there, a request ends in the time it was given: that is for the whole of it, not for each read.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .notice import N_, Notice, NoticeError

NAME = "name"
PORT = "port"
SPEECH = "speech"
ANSWER = "answer"
STAGES = (NAME, PORT, SPEECH, ANSWER)
"""How far a request may come: the name is looked up, the port opens, both sides speak the same, an answer."""

PORT_OF_BRIDGE = 8484
"""Where a bridge listens unless it is told otherwise."""

_GREETING_S = 2.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of an answer that is no TLS; the second since its version 3.4."""


class BadAddress(NoticeError, ValueError):
    """What was entered is no address of a bridge."""


class Unreachable(NoticeError):
    """No answer was received; `stage` is where it ended."""

    def __init__(self, stage: str, notice: Notice) -> None:
        super().__init__(notice)
        self.stage = stage


class NotTrusted(Unreachable):
    """This system does not know who signed the bridge's certificate, and nothing is pinned."""


@dataclass(frozen=True)
class Answer:
    """`headers` compares names without case; `body` is None when it was longer than allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


def base_url(address: str) -> str:
    """The bridge's `address` (``http://host:port``) without what surrounds it. Raises `BadAddress`."""
    text = address.strip()
    if "@" in text:  # before anything that would show a password
        raise BadAddress(Notice(N_("the bridge's address must not contain a user name or password")))
    if not _is_sound(text):
        raise BadAddress(_no_address(text))
    parts = urlsplit(text)
    if parts.query or parts.fragment:
        raise BadAddress(
            Notice(
                N_("the bridge's address must end after its port or path: %(text)s"),
                {"text": repr(text[:200])},
            )
        )
    return text.rstrip("/")


def _is_sound(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return False
    return parts.path.isascii() and not re.search(r"[\s\x00-\x1f\x7f]", text)


def _no_address(text: str) -> Notice:
    meant = f"http://{text}"
    if "//" not in text and _is_sound(meant):
        if urlsplit(meant).port is None and ":" not in text and "/" not in text:
            meant += f":{PORT_OF_BRIDGE}"
        template = N_(
            "%(text)s is no address, because it does not begin with http:// or https://: try %(meant)s"
        )
        return Notice(template, {"text": repr(text[:200]), "meant": meant[:200]})
    template = N_("%(text)s is no address; one such as http://bridge.local:8484 is expected")
    return Notice(template, {"text": repr(text[:200])})


def address_without_path(url: str) -> str | None:
    """What a person may have meant by a sound `url` with a path; None when it has none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.path.strip("/") else None


def origin(url: str) -> str:
    """``scheme://host:port`` of a sound `url`, always with the port, and in lower case."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


class Line:
    """One connection, made when it is needed. For one thread, except `abandon`.

    `pin`: SHA-256 (hex) of the DER certificate that an https bridge must show; None: one the system trusts.
    """

    def __init__(self, pin: str | None = None) -> None:
        self._pin = pin
        self._place = ""
        self._connection: http.client.HTTPConnection | None = None
        self._timed: _Timed | None = None
        self._abandoned = False

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], connect: float, read: float, most: int
    ) -> Answer:
        """The answer to `body`, of at most `most` bytes. Raises `Unreachable`.

        Within `connect` seconds each the port opens and TLS begins; within `read` the request has gone out and
        the answer is there. A connection that ended while it was kept is made anew, with the same times.
        """
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        if place != self._place:
            self.close()
        if self._connection is not None:
            try:
                return self._exchange(self._connection, parts.path, body, headers, read, most)
            except (ConnectionError, ssl.SSLError):
                self.close()  # ended by the bridge while it was idle
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise _no_answer(parts, error) from error
        self._end_if_abandoned(parts)
        connection = _open(parts, connect, self._pin)
        self._timed = connection.sock = _Timed(connection.sock)
        self._connection, self._place = connection, place
        self._end_if_abandoned(parts)
        try:
            return self._exchange(self._connection, parts.path, body, headers, read, most)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self._end_if_abandoned(parts)
            raise _no_answer(parts, error) from error

    def abandon(self) -> None:
        """End the request under way, and refuse all later ones. For any thread."""
        self._abandoned = True
        timed = self._timed  # the connection forgets it as soon as an answer says that it is the last one
        if timed is not None:
            timed.abandon()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _end_if_abandoned(self, parts: SplitResult) -> None:
        if self._abandoned:
            self.close()
            raise _unreachable(parts, ANSWER, Notice(N_("the request was given up")))

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        read: float,
        most: int,
    ) -> Answer:
        if connection.sock is not None:  # else `request` says so
            connection.sock.deadline = time.monotonic() + read
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read(most + 1)
        if self._abandoned:  # an answer that was cut short by that reads as a short one
            raise ConnectionAbortedError
        too_long = len(answer) > most
        if too_long or response.will_close:
            self.close()
        return Answer(response.status, response.headers, None if too_long else answer)


class _Timed:
    """A socket, as `http.client` uses it, whose reads and writes all end at one `deadline` (monotonic)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline = 0.0

    def hurry(self) -> None:
        """Let the next read or write last until the deadline at most. Raises `socket.timeout` after it."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self._sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.hurry()
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self, self._sock.makefile(mode, buffering=0)))

    def abandon(self) -> None:
        """Wake a thread that waits here. Without TLS's own farewell, after which it would go on in the clear."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _Timed, raw: Any) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._timed.hurry()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def certificate_to_pin(url: str, connect: float) -> str | None:
    """SHA-256 (hex) of the certificate at `url` if only pinning can make it trusted. Raises `Unreachable`."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    try:
        _open(parts, connect, None).close()
        return None
    except NotTrusted:
        connection = _connect(parts, connect)
        try:
            connection.sock = _secured(parts, connection.sock, _unchecked())
            return _fingerprint(connection.sock)
        finally:
            connection.close()


def _open(parts: SplitResult, timeout: float, pin: str | None) -> http.client.HTTPConnection:
    connection = _connect(parts, timeout)
    if parts.scheme == "https":
        try:
            context = _unchecked() if pin else ssl.create_default_context()
            connection.sock = _secured(parts, connection.sock, context)
            if pin and _fingerprint(connection.sock) != pin:
                raise Unreachable(
                    SPEECH,
                    Notice(
                        N_(
                            "The certificate of the bridge at %(place)s is not the one seen at pairing: if it was"
                            " renewed on purpose, pair again; else somebody else answers there"
                        ),
                        _place(parts),
                    ),
                )
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    secure = parts.scheme == "https"
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or (443 if secure else 80), timeout
    )
    connection.auto_open = 0  # it would connect again by itself, without TLS
    if secure:
        connection.default_port = 443  # what may be left out of the Host header
    try:
        connection.connect()
    except socket.gaierror as error:
        raise _unreachable(
            parts,
            NAME,
            Notice(N_("its name is not known in this network; check it, or enter the bridge's IP address")),
        ) from error
    except (OSError, UnicodeError) as error:
        raise _unreachable(parts, PORT, _closed(error)) from error
    return connection


def _closed(error: Exception) -> Notice:
    if isinstance(error, socket.timeout):  # before Python 3.10 this is no TimeoutError
        return Notice(N_("nothing answers there; check the address, and that no firewall is in between"))
    if isinstance(error, ConnectionRefusedError):
        return Notice(N_("nothing listens on that port; check the port, and that the bridge runs"))
    return Notice(N_("%(reason)s; check the address and the network"), {"reason": _in_short(error)})


def _secured(parts: SplitResult, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=parts.hostname)
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(
            SPEECH,
            Notice(
                N_(
                    "The certificate of the bridge at %(place)s is not trusted by this system (%(reason)s):"
                    " pair with the bridge, which pins its certificate"
                ),
                {**_place(parts), "reason": error.verify_message},
            ),
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            raise Unreachable(
                SPEECH,
                Notice(
                    N_("%(place)s speaks plain http: enter the address with http:// instead of https://"),
                    _place(parts),
                ),
            ) from error
        reason = Notice(
            N_("no encrypted connection came about (%(reason)s); check that the bridge speaks https there"),
            {"reason": _in_short(error)},
        )
        raise _unreachable(parts, SPEECH, reason) from error


def _no_answer(parts: SplitResult, error: Exception) -> Unreachable:
    if isinstance(error, socket.timeout):
        return _unreachable(
            parts,
            ANSWER,
            Notice(N_("it does not answer in the time allowed; check that the bridge is what listens there")),
        )
    if parts.scheme == "http" and isinstance(error, ConnectionError) and _speaks_tls(parts):
        return Unreachable(
            SPEECH,
            Notice(
                N_("%(place)s speaks https: enter the address with https:// instead of http://"),
                _place(parts),
            ),
        )
    if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
        return _unreachable(
            parts,
            SPEECH,
            Notice(N_("what listens there does not speak HTTP; check the port")),
        )
    return _unreachable(
        parts,
        ANSWER,
        Notice(
            N_("the connection ended without an answer (%(reason)s); check the port"),
            {"reason": _in_short(error)},
        ),
    )


def _speaks_tls(parts: SplitResult) -> bool:
    try:
        connection = _connect(parts, _GREETING_S)
        with contextlib.closing(connection):
            connection.sock = _unchecked().wrap_socket(connection.sock, server_hostname=parts.hostname)
            return True
    except (OSError, ValueError, Unreachable):
        return False


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _fingerprint(sock: ssl.SSLSocket) -> str:
    return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def _unreachable(parts: SplitResult, stage: str, reason: Notice) -> Unreachable:
    template = N_("The bridge at %(place)s cannot be reached: %(reason)s")
    return Unreachable(stage, Notice(template, {**_place(parts), "reason": reason}))


def _place(parts: SplitResult) -> dict[str, str]:
    return {"place": f"{parts.scheme}://{parts.netloc}"}


def _in_short(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__)[:200]
