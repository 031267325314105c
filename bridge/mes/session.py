"""The connection to a MES: its address, proxy and certificates in, a session of requests out."""

from __future__ import annotations

import os
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from bridge import __version__
from bridge.mes.credentials import read_proxy_authorization
from bridge.mes.store import MesError
from bridge.mes.time_limit import limit, limited
from bridge.mes.tls import context_of
from bridge.settings import MesSettings


def session_of(settings: MesSettings) -> requests.Session:
    """One kept connection to the MES. Raises `MesError`, naming section and key."""
    context = None
    if settings.url.lower().startswith("https:"):
        context = limited(context_of(settings, _bundle()))
    session = requests.Session()
    # Else ~/.netrc would go over the token, and REQUESTS_CA_BUNDLE over ca_file.
    session.trust_env = False
    session.proxies = _proxies(settings)
    session.headers["User-Agent"] = f"MESBridge/{__version__}"
    session.headers["Accept-Encoding"] = "identity"
    transport = _Transport(context, read_proxy_authorization(settings))
    session.mount("http://", transport)
    session.mount("https://", transport)
    return session


def proxy_of(session: requests.Session, url: str) -> str | None:
    """Host and port of the proxy on the way to `url`, without anything secret, if there is one."""
    proxy = select_proxy(url, session.proxies)
    return parse_url(proxy).netloc if proxy else None


class _Transport(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext | None, proxy_authorization: str | None) -> None:
        self._context = context
        self._proxy_authorization = proxy_authorization
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        limit(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        limit(manager)
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        if self._proxy_authorization is not None:
            return {"Proxy-Authorization": self._proxy_authorization}
        return super().proxy_headers(proxy)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Whom to trust stands in the context; requests would add the authorities of browsers to it."""
        conn.cert_reqs = "CERT_REQUIRED"


def _bundle() -> str:
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH


def _proxies(settings: MesSettings) -> dict[str, str]:
    if settings.proxy is not None:
        return {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
    proxies: dict[str, str] = get_environ_proxies(settings.url)
    try:
        parse_url(select_proxy(settings.url, proxies) or "")
    except LocationParseError:  # its text shows the password
        raise MesError(
            f"[[mes]] id = {settings.id}: the proxy in the environment (HTTP_PROXY, HTTPS_PROXY) is no URL;"
            " correct it, or give proxy in the settings"
        ) from None
    return proxies
