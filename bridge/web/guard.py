"""Who may see the status page. In flow requests; out flow those that may be answered, and headers on every answer.

On loopback the page is open to this computer, but not to web pages from elsewhere that a browser here is tricked into
asking with (DNS rebinding): the Host must be a name of this computer. Elsewhere, and where `login` is set, a
session is needed or, for monitors, HTTP Basic authentication. Everything but login and logout only reads.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import re
import secrets
import string
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from bridge.opcua import Users, UsersError
from bridge.opcua.logins import Logins, TooManyTries
from bridge.settings import WebSettings, is_loopback
from bridge.web.sessions import LASTS_S, Sessions

log = structlog.get_logger(__name__)

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all a browser does not say that a form comes from here
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_ANYBODY = frozenset({"/healthz", "/readyz", "/login"})
_FILES = ("/static/", "/common/")
_FORM_COOKIE = "mesbridge_form"
_LOGIN_PAGE = string.Template((Path(__file__).parent / "static" / "login.html").read_text(encoding="utf-8"))
_WAYS_ON = re.compile(r"/machine/[A-Za-z0-9_.~%-]{1,200}")
_LONGEST = 200
_TOO_MANY = "Too many logins are tried from your address. Please try again in a moment."
_LATER: Final = {"Retry-After": str(TooManyTries.retry_after)}


class Guard:
    """Checks each request. `folder` is where users and sessions are kept, `name` what the bridge is called."""

    def __init__(self, settings: WebSettings, folder: Path, name: str) -> None:
        self._settings = settings
        self._name = name
        self._users = Users(folder / "users.json")
        self._logins = Logins(self._users, anonymous=False, door="status page")
        self._sessions = Sessions(folder, self._users)
        self._form_secret = secrets.token_bytes()
        self._for_anybody = _FOR_ANYBODY | ({"/metrics"} if settings.metrics_token_file else set())
        self._cookie = "__Host-mesbridge" if settings.https else "mesbridge"

    @property
    def asks(self) -> bool:
        """Whether one has to log in."""
        return self._settings.asks_login

    def lets_see(self, request: web.Request) -> bool:
        """Whether whoever asks may see what is not for anybody; of requests that came through the guard."""
        return not self.asks or request.get("user") is not None

    def warn(self) -> None:
        """Say in the log when nobody can log in."""
        try:
            nobody = self._nobody_can_enter
        except UsersError as error:
            log.error("nobody can log in to the status page", reason=str(error))
            return
        if nobody:
            log.warning(
                "nobody can log in to the status page, since there is no user: add one with `mesbridge user add NAME`;"
                " no restart is needed"
            )

    @property
    def _nobody_can_enter(self) -> bool:
        return self.asks and not self._users.names()

    def add_routes(self, application: web.Application) -> None:
        """Have `application` guarded, and offer the login there."""
        application.middlewares.append(self._middleware)
        application.on_response_prepare.append(_protect)
        application.on_cleanup.append(self._close)
        application.router.add_get("/login", self._show_login)
        application.router.add_post("/login", self._log_in)
        application.router.add_post("/logout", self._log_out)

    async def _close(self, _: web.Application) -> None:
        self._logins.close()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._settings.only_here and not _is_local(request.host):
            raise web.HTTPMisdirectedRequest(
                text="This page only answers to 127.0.0.1 and localhost. A proxy has to ask with one of these as Host."
            )
        if request.method == hdrs.METH_POST and not self._is_own(request):
            raise web.HTTPForbidden(text="This comes from another page.")
        open_to_all = request.path in self._for_anybody or request.path.startswith(_FILES)
        try:
            user = await self._user(request) if self.asks else None
        except TooManyTries:
            if not open_to_all:
                raise web.HTTPTooManyRequests(text=_TOO_MANY, headers=_LATER) from None
            user = None
        if self.asks and user is None and not open_to_all:
            if "text/html" in request.headers.get("Accept", ""):
                raise web.HTTPSeeOther("/login" + (f"?to={request.path}" if _way_on(request.path) else ""))
            raise web.HTTPUnauthorized(text="Log in first.", headers=_challenge(request))
        request["user"] = user
        return await handler(request)

    async def _user(self, request: web.Request) -> str | None:
        name = self._sessions.user(request.cookies.get(self._cookie), time.time())
        if name is not None or "Authorization" not in request.headers:
            return name
        given, password = _basic(request.headers["Authorization"])
        if not given or len(given) > _LONGEST:
            return None
        return given if await self._logins.admit(request.remote or "", given, password) else None

    def _is_own(self, request: web.Request) -> bool:
        """Whether a form was sent by a page of ours: browsers say where from."""
        origin = request.headers.get("Origin")
        if origin is not None:
            return urlsplit(origin).netloc.lower() == request.host.lower()
        return request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"

    # ------------------------------------------------------------------ login

    async def _show_login(self, request: web.Request) -> web.Response:
        if not self.asks or request["user"] is not None:
            raise web.HTTPSeeOther("/")
        return self._login_page(request, "")

    async def _log_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        known = request.cookies.get(_FORM_COOKIE, "")
        if not known or not hmac.compare_digest(
            str(form.get("form", "")).encode(), self._proof(known).encode()
        ):
            return self._login_page(request, "This form was too old. Please try again.", 403)
        try:
            right = len(name) <= _LONGEST and await self._logins.admit(request.remote or "", name, password)
        except TooManyTries:
            answer = self._login_page(request, _TOO_MANY, 429)
            answer.headers.update(_LATER)
            return answer
        if not right:
            return self._login_page(request, "Name or password is wrong.", 401)
        try:
            token = self._sessions.begin(name, time.time())
        except UsersError:
            return self._login_page(request, "Nobody can log in now; the log of the bridge says more.", 503)
        answer = web.Response(status=303, headers={"Location": _way_on(str(form.get("to", ""))) or "/"})
        self._set(answer, self._cookie, token, LASTS_S)
        answer.del_cookie(_FORM_COOKIE, path="/")
        return answer

    async def _log_out(self, request: web.Request) -> web.Response:
        self._sessions.end(request.cookies.get(self._cookie))
        answer = web.Response(status=303, headers={"Location": "/login"})
        self._set(answer, self._cookie, "", 0)
        return answer

    def _login_page(self, request: web.Request, problem: str, status: int = 200) -> web.Response:
        made = secrets.token_urlsafe(24)
        try:
            nobody = self._nobody_can_enter
        except UsersError:
            problem = "Nobody can log in now; the log of the bridge says more."
            nobody = False
        if nobody:
            problem = "There is no user yet. On the computer of the bridge: mesbridge user add NAME"
        text = _LOGIN_PAGE.substitute(
            bridge=html.escape(self._name),
            problem=html.escape(problem),
            form=self._proof(made),
            to=html.escape(_way_on(request.query.get("to", "")) or ""),
        )
        answer = web.Response(text=text, content_type="text/html", status=status)
        self._set(answer, _FORM_COOKIE, made, 3600)
        return answer

    def _proof(self, cookie: str) -> str:
        return hmac.new(self._form_secret, cookie.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _set(self, answer: web.Response, name: str, value: str, lasts: int) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=lasts,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._settings.https,
        )


async def _protect(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _challenge(request: web.Request) -> dict[str, str]:
    """For monitors; a browser's page is not to ask in a window of its own."""
    browser = "Sec-Fetch-Mode" in request.headers
    return {} if browser else {"WWW-Authenticate": 'Basic realm="MESBridge", charset="UTF-8"'}


def _basic(header: str) -> tuple[str, str]:
    """Name and password of HTTP Basic authentication (RFC 7617); without a name when there are none."""
    scheme, _, packed = header.partition(" ")
    try:
        name, _, password = base64.b64decode(packed, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return (name, password) if scheme.lower() == "basic" else ("", "")


def _way_on(path: str) -> str | None:
    return path if _WAYS_ON.fullmatch(path) else None


def _is_local(host: str) -> bool:
    """Whether a Host header names this computer and nothing else."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
