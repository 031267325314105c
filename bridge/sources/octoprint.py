"""An OctoPrint asked by REST with its API key: who answers, which version, and whether the key is enough."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from bridge.tables import cell

_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_LARGEST_ANSWER = 1 << 20
_LONGEST_SHOWN = 64
_LONGEST_ADDRESS = 256
PUBLIC_FILE = "/robots.txt"
"""A file for everybody: OctoPrint says the time (``Date``) with those alone, not with answers of its API."""


class OctoPrintError(Exception):
    """An OctoPrint that cannot be used now; the text says why, and what to do."""


class Unreachable(OctoPrintError):
    """Nobody answers, or not as an OctoPrint does. It may pass by itself."""


class SocketRefused(OctoPrintError):
    """OctoPrint answers, but its push socket cannot be used with this key, or through what stands before it."""


class KeyRefused(OctoPrintError):
    """OctoPrint answers but the key is not enough. Somebody has to act."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What an OctoPrint said of itself, fit to be shown. `state` is its own text, such as ``Operational``."""

    version: str
    state: str


async def verify(http: aiohttp.ClientSession, url: str, api_key: str) -> Verified:
    """Ask the OctoPrint at `url` for what the bridge needs. Raises `Unreachable` or `KeyRefused`."""
    base = url.rstrip("/")
    status, version = await _get(http, base, "/api/version", api_key)
    if status in (401, 403):
        raise await _explain_refusal(http, base, api_key)
    if status != 200 or not isinstance(version.get("server"), str):
        raise Unreachable(
            f"{base} answers {status}, but not as an OctoPrint does; check url in config.json"
            " (scheme, port, and the path when OctoPrint is behind a reverse proxy)"
        )
    for path in ("/api/printer", "/api/job"):
        status, answer = await _get(http, base, path, api_key)
        if status in (401, 403):
            raise await _explain_refusal(http, base, api_key)
        if status not in (200, 409):  # 409: no printer is connected, a normal answer
            raise Unreachable(f"{base}{path} answers {status}; look into OctoPrint's log (octoprint.log)")
    return Verified(shown(version["server"]), shown(str(answer.get("state", "unknown"))))


def shown(text: str) -> str:
    """What an OctoPrint says, whoever answers for it, as it may stand in a line of the log or of a terminal."""
    return cell(text, _LONGEST_SHOWN)


async def _explain_refusal(http: aiohttp.ClientSession, base: str, api_key: str) -> KeyRefused:
    status, user = await _get(http, base, "/api/currentuser", api_key)
    if status == 200 and user.get("name"):
        return KeyRefused(
            f"the key of this machine is valid at {base}, but its user {shown(str(user['name']))!r} lacks the STATUS"
            " permission; grant it in OctoPrint's settings under Access Control, or use the plugin's key"
        )
    return KeyRefused(
        f"{base} does not know the key of this machine; generate one in the plugin's settings tab and put it"
        " where the machine's entry of config.json says"
    )


async def _get(
    http: aiohttp.ClientSession, base: str, path: str, api_key: str
) -> tuple[int, Mapping[str, Any]]:
    return await ask(http, "GET", base, path, api_key)


async def ask(
    http: aiohttp.ClientSession,
    method: str,
    base: str,
    path: str,
    api_key: str,
    body: Mapping[str, Any] | None = None,
    largest: int = _LARGEST_ANSWER,
) -> tuple[int, Mapping[str, Any]]:
    """Status and JSON object of one answer; an empty object where there is none, or more than `largest` bytes.

    Raises `Unreachable`.
    """
    answer = await request(http, method, base, path, api_key, body, largest)
    return answer.status, answer.content


@dataclass(frozen=True, slots=True)
class Answer:
    """`content` is the JSON object of an answer; an empty one where there is none."""

    status: int
    headers: Mapping[str, str]
    content: Mapping[str, Any]


async def request(
    http: aiohttp.ClientSession,
    method: str,
    base: str,
    path: str,
    api_key: str | None,
    body: Mapping[str, Any] | None = None,
    largest: int = _LARGEST_ANSWER,
) -> Answer:
    """As `ask`, with the headers too; without a key as any visitor would. Raises `Unreachable`."""
    try:
        # The key must not follow a redirect to somewhere else.
        async with http.request(
            method,
            base + path,
            headers={} if api_key is None else {"X-Api-Key": api_key},
            json=body,
            timeout=_TIMEOUT,
            allow_redirects=False,
        ) as response:
            if 300 <= response.status < 400:
                target = cell(response.headers.get("Location", "elsewhere"), _LONGEST_ADDRESS)
                raise Unreachable(f"{base} redirects to {target}; put the final address into config.json")
            content = _json_object(await _read(response.content, largest))
            return Answer(response.status, response.headers, content)
    except TimeoutError:  # an OSError, too
        raise Unreachable(f"{base} does not answer in time; check that OctoPrint runs") from None
    except aiohttp.ClientSSLError as error:
        raise Unreachable(
            f"{base}: its TLS certificate is not trusted ({error}); use a trusted one"
        ) from None
    except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last of a name that is none
        raise Unreachable(
            f"{base} cannot be reached ({error}); check that OctoPrint runs and that url is right"
        ) from None


def clock_difference_s(date: str | None, before: datetime, after: datetime) -> float | None:
    """How much the clock that made the header `date` (RFC 9110, whole seconds) is ahead, between these two of ours."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
        theirs = theirs.replace(tzinfo=theirs.tzinfo or UTC)
        ours = before + (after - before) / 2
        return (theirs - ours).total_seconds() + 0.5
    except (ValueError, OverflowError):
        return None


async def _read(content: aiohttp.StreamReader, largest: int) -> bytes:
    """All of a body, or nothing of one that is too long."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > largest:
            return b""
    return b"".join(parts)


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
