"""The contract over HTTP: one request in, what the answer means out.

Imported when there is a MES to speak to: it takes 6 MB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import requests

from bridge import __version__
from bridge.mes.client import Outcome, Verdict
from bridge.mes.store import MesError
from bridge.settings import MesSettings

_MOST_BYTES_READ = 65536
_LONGEST_RETRY_AFTER_S = 3600.0


def read_token(settings: MesSettings) -> str:
    """The API token, without the blanks, line ends and byte order mark that files have around it.

    Raises `MesError`, naming section and key, when there is none.
    """
    if settings.token_env is not None:
        where = f"[[mes]] id = {settings.id}: token_env: the environment variable {settings.token_env}"
        token = os.environ.get(settings.token_env, "").strip()
        advice = "set it to the API token for the bridge, and start the bridge again"
    else:
        where = f"[[mes]] id = {settings.id}: token_file: {settings.token_file}"
        advice = "put the API token into that file, alone"
        try:
            token = settings.token_file.read_text(encoding="utf-8-sig").strip() if settings.token_file else ""
        except OSError as error:
            raise MesError(f"{where} cannot be read: {error.strerror}; {advice}") from None
        except UnicodeDecodeError:
            raise MesError(f"{where} is not UTF-8 text; {advice}") from None
    if not token:
        raise MesError(f"{where} is empty; {advice}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise MesError(f"{where} holds more than one word; {advice}")
    return token


class HttpClient:
    """`Client` over HTTP, with one kept connection. For one thread."""

    def __init__(self, settings: MesSettings) -> None:
        self._settings = settings
        self._base = f"{settings.url.rstrip('/')}/services/{quote(settings.service_id, safe='')}/"
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"MESBridge/{__version__}"
        self._token: str | None = None

    def send(self, method: str, path: str, key: str, body: str, timeout: float | None = None) -> Outcome:
        """See `Client.send`."""
        if self._token is None:
            self._token = read_token(self._settings)
        try:
            # `auth` and not a header, because requests would put credentials of ~/.netrc over a header.
            with self._session.request(
                method,
                self._base + path,
                data=body.encode("utf-8"),
                headers={"Content-Type": "application/json", "Idempotency-Key": key},
                auth=self._authorise,
                timeout=min(timeout or self._settings.timeout, self._settings.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                outcome = _outcome(response, _content(response))
        except (requests.RequestException, OSError) as error:
            return Outcome(Verdict.AWAY, _words(error))
        except ValueError:  # of http.client; its text shows the header, token included
            where = f"[[mes]] id = {self._settings.id}: auth_header and auth_scheme"
            raise MesError(f"{where} make no header that HTTP can carry; use plain letters") from None
        if outcome.verdict is Verdict.UNAUTHORISED:
            self._token = None  # read again before the next attempt: it may have been replaced
        return outcome

    def close(self) -> None:
        """See `Client.close`."""
        self._session.close()

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        scheme = self._settings.auth_scheme
        request.headers[self._settings.auth_header] = (
            f"{scheme} {self._token}" if scheme else str(self._token)
        )
        return request


def _content(response: requests.Response) -> bytes:
    content = b""
    for part in response.iter_content(8192):
        content += part
        if len(content) > _MOST_BYTES_READ:
            break
    return content


def _outcome(response: requests.Response, content: bytes) -> Outcome:
    code = response.status_code
    if code < 400:
        return _success(response, content)
    reason = f"HTTP {code}{_problem(response, content)}"
    if code in (401, 403):
        return Outcome(Verdict.UNAUTHORISED, reason)
    if code in (429, 503):
        return Outcome(Verdict.AWAY, reason, _retry_after(response.headers.get("Retry-After")))
    if code >= 500 or code in (408, 425):
        return Outcome(Verdict.FAILED, reason)
    return Outcome(Verdict.UNKNOWN if code == 404 else Verdict.REFUSED, reason)


def _success(response: requests.Response, content: bytes) -> Outcome:
    code = response.status_code
    if not 200 <= code < 300:
        target = response.headers.get("Location", "elsewhere")
        return Outcome(Verdict.FOREIGN, f"HTTP {code} leads to {target[:200]}; the token is not sent there")
    if not content.strip():
        return Outcome(Verdict.DONE)
    answer = _json(response, content)
    if answer is None:
        return Outcome(
            Verdict.FOREIGN, f"HTTP {code} with something other than JSON, as a proxy or login page does"
        )
    return Outcome(Verdict.DONE, answer=answer)


def _json(response: requests.Response, content: bytes) -> Mapping[str, Any] | None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _problem(response: requests.Response, content: bytes) -> str:
    """What an RFC 9457 problem document says, as far as it is one."""
    answer = _json(response, content) or {}
    said = [str(answer[name])[:300] for name in ("title", "detail") if answer.get(name)]
    return "".join(f": {text}" for text in said)


def _retry_after(text: str | None) -> float | None:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def _words(error: Exception) -> str:
    """A short reason; the exception's own text repeats the whole path and internals."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {error}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return f"cannot be reached: {text}"
