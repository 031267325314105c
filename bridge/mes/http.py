"""A `Client` over HTTP: messages in, requests of an adapter out, and what the answers mean back.

Imported when there is a MES to speak to: it takes 6 MB.
"""

from __future__ import annotations

import os

import requests

from bridge import __version__, wire
from bridge.mes.client import Adapter, Answer, Message, Outcome, SecretError, Verdict
from bridge.mes.store import MesError
from bridge.settings import MesSettings

_MOST_BYTES_READ = 65536


def read_token(settings: MesSettings) -> str:
    """The API token or secret, without the blanks, line ends and byte order mark that files have around it.

    Raises `MesError`, naming section and key, when there is none.
    """
    where = _token_place(settings)
    if settings.token_env is not None:
        token = os.environ.get(settings.token_env, "").strip()
        advice = "set it to the API token for the bridge, and start the bridge again"
    else:
        advice = "put the API token into that file, alone"
        try:
            token = settings.token_file.read_text(encoding="utf-8-sig").strip() if settings.token_file else ""
        except OSError as error:
            raise MesError(f"{where} cannot be read: {error.strerror}; {advice}") from None
        except UnicodeDecodeError:
            raise MesError(f"{where} is not UTF-8 text; {advice}") from None
    if not token:
        raise MesError(f"{where} is empty; {advice}")
    if not token.isascii() or not all(word.isprintable() for word in token.split()):
        raise MesError(f"{where} holds signs that no header can carry; {advice}")
    return token


class HttpClient:
    """`Client` over HTTP, with one kept connection. For one thread."""

    def __init__(self, settings: MesSettings, adapter: Adapter) -> None:
        self._settings = settings
        self._adapter = adapter
        self._url = settings.url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"MESBridge/{__version__}"
        self._token: str | None = None

    def send(self, message: Message, timeout: float | None = None) -> Outcome:
        """See `Client.send`."""
        if self._token is None:
            self._token = read_token(self._settings)
        try:
            request = self._adapter.request(message, self._token, wire.utc_now())
        except SecretError as error:
            self._token = None
            raise MesError(f"{_token_place(self._settings)} {error}") from None
        try:
            with self._session.request(
                request.method,
                f"{self._url}/{request.path}" if request.path else self._settings.url,
                data=request.body,
                headers=request.headers,
                auth=_as_it_is,
                timeout=min(timeout or self._settings.timeout, self._settings.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                answer = _answer(response)
        except (requests.exceptions.InvalidHeader, UnicodeError):
            raise MesError(self._bad_header()) from None
        except (requests.RequestException, OSError) as error:
            return Outcome(Verdict.AWAY, _words(error))
        except ValueError:  # of http.client; its text shows the header, token included
            raise MesError(self._bad_header()) from None
        outcome = self._adapter.outcome(message, answer)
        if outcome.verdict is Verdict.UNAUTHORISED:
            self._token = None  # read again before the next attempt: it may have been replaced
        return outcome

    def close(self) -> None:
        """See `Client.close`."""
        self._session.close()

    def _bad_header(self) -> str:
        where = f"[[mes]] id = {self._settings.id}: auth_header and auth_scheme"
        return f"{where} make no header that HTTP can carry; use plain letters"


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Given as `auth`, because requests would else put credentials of ~/.netrc over the header."""
    return request


def _token_place(settings: MesSettings) -> str:
    if settings.token_env is not None:
        return f"[[mes]] id = {settings.id}: token_env: the environment variable {settings.token_env}"
    return f"[[mes]] id = {settings.id}: token_file: {settings.token_file}"


def _answer(response: requests.Response) -> Answer:
    content = b""
    for part in response.iter_content(8192):
        content += part
        if len(content) > _MOST_BYTES_READ:
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, content)


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
