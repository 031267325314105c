"""A `Client` over HTTP: messages in, requests of an adapter out, and what the answers mean back.

Imported when there is a MES to speak to: it takes 6 MB.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests

from bridge import wire
from bridge.mes.client import Adapter, Answer, Message, Outcome, SecretError, Verdict
from bridge.mes.credentials import read_token, token_place
from bridge.mes.reloaded import Reloaded
from bridge.mes.session import proxy_of, session_of
from bridge.mes.store import MesError
from bridge.mes.time_limit import time_limit
from bridge.mes.tls import explained, tls_files
from bridge.settings import MesSettings

_MOST_BYTES_READ = 65536


class HttpClient:
    """`Client` over HTTP, with one kept connection. For one thread.

    Token, certificates and proxy credentials are used as their files are at the moment.
    """

    def __init__(self, settings: MesSettings, adapter: Adapter) -> None:
        self._settings = settings
        self._adapter = adapter
        self._url = settings.url.rstrip("/")
        self._open: requests.Session | None = None
        self._token = Reloaded([settings.token_file], lambda: read_token(settings))
        self._session = Reloaded([*tls_files(settings), settings.proxy_credentials_file], self._new_session)

    def send(self, message: Message, timeout: float | None = None) -> Outcome:
        """See `Client.send`."""
        seconds = min(timeout or self._settings.timeout, self._settings.timeout)
        with time_limit(seconds):
            token = self._token.get()
            outcome = self._attempt(message, token, seconds)
            if outcome.verdict is Verdict.UNAUTHORISED:
                self._token.forget()
                if (newer := self._token.get()) != token:  # replaced just now
                    outcome = self._attempt(message, newer, seconds)
        return outcome

    def close(self) -> None:
        """See `Client.close`."""
        self._session.forget()
        if self._open is not None:
            self._open.close()
            self._open = None

    def _new_session(self) -> requests.Session:
        self.close()
        self._open = session_of(self._settings)
        return self._open

    def _attempt(self, message: Message, token: str, seconds: float) -> Outcome:
        session = self._session.get()
        try:
            request = self._adapter.request(message, token, wire.utc_now())
        except SecretError as error:
            self._token.forget()
            raise MesError(f"{token_place(self._settings)} {error}") from None
        try:
            with session.request(
                request.method,
                f"{self._url}/{request.path}" if request.path else self._settings.url,
                data=request.body,
                headers=request.headers,
                timeout=(min(self._settings.connect_timeout, seconds), seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                answer = _answer(response)
        except (requests.exceptions.InvalidHeader, UnicodeError):
            raise MesError(self._bad_header()) from None
        except (requests.RequestException, OSError) as error:
            return Outcome(Verdict.AWAY, self._words(error, session))
        except ValueError:  # of http.client; its text shows the header, token included
            raise MesError(self._bad_header()) from None
        return self._adapter.outcome(message, answer)

    def _bad_header(self) -> str:
        where = f"[[mes]] id = {self._settings.id}: auth_header and auth_scheme"
        return f"{where} make no header that HTTP can carry; use plain letters"

    def _words(self, error: Exception, session: requests.Session) -> str:
        """A short reason; the exception's own text repeats the whole path and internals."""
        chain = list(_causes(error))
        for one in chain:
            if isinstance(one, ssl.SSLError):
                return explained(one, self._settings, urlsplit(self._url).hostname or "")
        if isinstance(error, requests.ConnectTimeout):
            return f"cannot be reached: no connection within {self._settings.connect_timeout:g} s"
        if any(isinstance(one, TimeoutError) for one in chain) or isinstance(error, requests.Timeout):
            return f"no whole answer within {self._settings.timeout:g} s"
        cause = chain[-1]
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        if isinstance(error, requests.exceptions.ProxyError):
            proxy = proxy_of(session, self._url)
            return (
                f"the proxy {proxy} does not let the bridge through: {text}; check proxy and"
                f" proxy_credentials_file of [[mes]] id = {self._settings.id}, or HTTPS_PROXY in the environment"
            )
        return f"cannot be reached: {text}"


def _answer(response: requests.Response) -> Answer:
    content = b""
    for part in response.iter_content(8192):
        content += part
        if len(content) > _MOST_BYTES_READ:
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, content)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.__cause__ or error.__context__
        # urllib3 hands some on as an argument alone.
        error = inner or next((one for one in error.args if isinstance(one, BaseException)), None)
