"""What the sandbox does wrong on command, so that people see how a bridge and a network take it.

In: requests of the contract. Out: the sandbox's answer, or what stands here instead, as often or as long as was
asked for.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

KINDS = {
    "delay": "answers late",
    "429": "asks for patience (429)",
    "500": "stumbles (500)",
    "503": "is not available (503)",
    "422": "refuses (422)",
    "drop-request": "loses requests",
    "drop-answer": "loses answers after it has done the work",
    "wrong-schema": "answers JSON that is not the contract",
    "login-page": "answers with a web page, as a proxy does",
}
MOST_TIMES = 100_000
MOST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What is done wrong: one of `KINDS`, so many `times` or for `lasts` seconds, for one machine or for all requests.
    `seconds` is the delay, and what Retry-After says."""

    kind: str
    times: int | None = None
    lasts: float | None = None
    machine: str | None = None
    seconds: float = 5.0


class Misbehaving:
    """The WSGI application around the sandbox's own. `base` is the path below which the contract is spoken."""

    def __init__(self, app: Any, base: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._base = base + "/"
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Misbehaviour | None = None
        self._until: float | None = None

    def begin(self, misbehaviour: Misbehaviour | None) -> None:
        """Misbehave like this from now on; None ends it."""
        with self._lock:
            self._current = misbehaviour
            lasts = misbehaviour.lasts if misbehaviour else None
            self._until = None if lasts is None else self._clock() + lasts

    def current(self) -> dict[str, Any] | None:
        """What is done wrong now, and how often or how long still; None when nothing is."""
        with self._lock:
            one = self._in_force()
            if one is None:
                return None
            left = None if self._until is None else round(self._until - self._clock(), 1)
            return {
                "kind": one.kind,
                "does": KINDS[one.kind],
                "machine": one.machine,
                "times": one.times,
                "lasts": left,
                "seconds": one.seconds,
            }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        one = self._take(_machine_in(path)) if path.startswith(self._base) else None
        if one is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        if one.kind == "delay":
            time.sleep(one.seconds)
            answer = self._app(environ, start_response)
            return answer
        if one.kind in ("drop-answer", "drop-request"):
            if one.kind == "drop-answer":
                b"".join(self._app(environ, lambda *_: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        code, headers, text = _ANSWERS[one.kind](one)
        start_response(code, [("Content-Length", str(len(text))), *headers.items()])
        return [text]

    def _in_force(self) -> Misbehaviour | None:
        over = self._until is not None and self._clock() >= self._until
        if over or (self._current is not None and self._current.times == 0):
            self._current = self._until = None
        return self._current

    def _take(self, machine: str | None) -> Misbehaviour | None:
        with self._lock:
            one = self._in_force()
            if one is None or one.machine not in (None, machine):
                return None
            if one.times is not None:
                self._current = replace(one, times=one.times - 1)
            return one


def _machine_in(path: str) -> str | None:
    machine = path.partition("/machines/")[2].partition("/")[0]
    return unquote(machine) or None


def _problem(code: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str], bytes]:
    number, _, title = code.partition(" ")
    problem = {
        "type": "about:blank",
        "title": title,
        "status": int(number),
        "detail": "misbehaves on command",
    }
    return code, {"Content-Type": "application/problem+json", **headers}, json.dumps(problem).encode()


def _page(_: Misbehaviour) -> tuple[str, dict[str, str], bytes]:
    return "200 OK", {"Content-Type": "text/html"}, b"<!doctype html><title>Log in</title>"


def _wrong_schema(_: Misbehaviour) -> tuple[str, dict[str, str], bytes]:
    return "200 OK", {"Content-Type": "application/json"}, b'["not", "the", "contract"]'


_ANSWERS: Mapping[str, Callable[[Misbehaviour], tuple[str, dict[str, str], bytes]]] = {
    "429": lambda one: _problem("429 Too Many Requests", {"Retry-After": str(round(one.seconds))}),
    "500": lambda one: _problem("500 Internal Server Error", {}),
    "503": lambda one: _problem("503 Service Unavailable", {"Retry-After": str(round(one.seconds))}),
    "422": lambda one: _problem("422 Unprocessable Content", {}),
    "wrong-schema": _wrong_schema,
    "login-page": _page,
}
