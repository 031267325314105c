"""Who may see the status page: real HTTP against the port that is served."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from bridge.opcua import Users
from bridge.settings import WebSettings
from bridge.sources import door
from bridge.web.guard import Guard
from bridge.web.sessions import FILE, LASTS_S, Sessions

NAME, PASSWORD = "anna", "correct horse battery staple"
PAGE = {"Accept": "text/html,application/xhtml+xml"}


@asynccontextmanager
async def served(folder: Path, user: bool = True, **settings: object) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a guarded port that has ``/``, ``/overview.json``, ``/healthz`` and a file."""
    if user and not (folder / "users.json").exists():
        Users(folder / "users.json").add(NAME, PASSWORD)
    chosen = WebSettings(port=0, **settings)  # type: ignore[arg-type]

    def add(application: web.Application) -> None:
        async def ok(_: web.Request) -> web.Response:
            return web.Response(text="seen")

        for path in ("/", "/overview.json", "/healthz", "/static/page.css", "/metrics"):
            application.router.add_get(path, ok)

    guard = Guard(chosen, folder, "Hall <3>")
    application = web.Application()
    guard.add_routes(application)
    add(application)
    async with door.serve(application, chosen.host, 0) as (_, port):
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as client:
            yield client


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def log_in(
    client: aiohttp.ClientSession, name: str = NAME, password: str = PASSWORD
) -> aiohttp.ClientResponse:
    page = await (await client.get("/login")).text()
    form = re.search(r'name="form" value="([0-9a-f]+)"', page)
    assert form is not None
    data = {"form": form[1], "name": name, "password": password, "to": ""}
    return await client.post("/login", data=data, allow_redirects=False)


async def test_this_computer_sees_the_page_without_a_login(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        answer = await client.get("/")
        assert (answer.status, await answer.text()) == (200, "seen")
        assert (await client.get("/login", allow_redirects=False)).headers["Location"] == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8486", "127.0.0.1.evil.example", "[::2]", "@x", "[", ""]
)
async def test_a_name_that_is_not_of_this_computer_is_refused(tmp_path: Path, host: str) -> None:
    async with served(tmp_path) as client:
        for path in ("/", "/overview.json", "/static/page.css"):
            assert (await client.get(path, headers={"Host": host})).status in (400, 421), path


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:8486", "[::1]:8486"])
async def test_names_of_this_computer_are_not(tmp_path: Path, host: str) -> None:
    async with served(tmp_path) as client:
        assert (await client.get("/", headers={"Host": host})).status == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/login", "/overview.json"])
@pytest.mark.parametrize("login", [False, True])
async def test_each_answer_has_the_headers_that_keep_strangers_out(
    tmp_path: Path, path: str, login: bool
) -> None:
    async with served(tmp_path, login=login) as client:
        headers = (await client.get(path, allow_redirects=False)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


async def test_with_login_nothing_is_told_before_it(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        page = await client.get("/", headers=PAGE, allow_redirects=False)
        assert (page.status, page.headers["Location"]) == (303, "/login")
        assert (await client.get("/overview.json")).status == 401
        assert (await client.get("/metrics")).status == 401
        assert (await client.get("/nothing")).status == 401
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/static/page.css")).status == 200


async def test_a_user_logs_in_and_out(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        answer = await log_in(client)
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = next(one for one in answer.headers.getall("Set-Cookie") if one.startswith("mesbridge="))
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie  # over http a browser would never send it
        assert (await client.get("/overview.json")).status == 200
        await client.post("/logout")
        assert (await client.get("/overview.json")).status == 401


async def test_over_https_the_cookie_never_travels_in_clear(tmp_path: Path) -> None:
    guard = Guard(WebSettings(https=True, login=True), tmp_path, "x")
    answer = web.Response()
    guard._set(answer, guard._cookie, "t", 60)
    assert answer.cookies["__Host-mesbridge"]["secure"]


async def test_a_wrong_password_is_refused_and_the_next_try_waits(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        with capture_logs() as logs:
            begun = asyncio.get_running_loop().time()
            for password in ("wrong-1", "wrong-2"):
                answer = await log_in(client, password=password)
                assert answer.status == 401
                assert "Name or password is wrong" in await answer.text()
            assert asyncio.get_running_loop().time() - begun >= 1.0
        assert (await client.get("/overview.json")).status == 401
        (line,) = [one for one in logs if "refused" in one["event"]]
        assert line["event"].startswith("status page login refused")
        assert "wrong-1" not in str(logs)
        assert (await log_in(client)).status == 303


async def test_behind_too_many_wrong_passwords_one_is_told_at_once_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, login=True) as client:
        monkeypatch.setattr("bridge.opcua.logins.PAUSE", 3600.0)
        assert (await client.get("/", headers=basic(NAME, "wrong"))).status == 401
        guesses = [
            asyncio.create_task(client.get("/metrics", headers=basic(NAME, f"guess-{n}"))) for n in range(12)
        ]
        refused, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        while len(refused) < 7:
            more, _ = await asyncio.wait(
                [one for one in guesses if one not in refused],
                return_when=asyncio.FIRST_COMPLETED,
                timeout=30,
            )
            assert more
            refused |= more
        for one in refused:
            answer = one.result()
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        form = await log_in(client)
        assert (form.status, form.headers["Retry-After"]) == (429, "5")
        assert "try again in a moment" in await form.text()
        health = await client.get("/healthz", headers=basic(NAME, "guess"))
        assert health.status == 200  # for anybody, and so for who is nobody
        for one in guesses:
            one.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)


async def test_a_login_form_that_the_page_did_not_make_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        data = {"form": "0" * 64, "name": NAME, "password": PASSWORD}
        assert (await client.post("/login", data=data)).status == 403
        page = await (await client.get("/login")).text()
        form = re.search(r'name="form" value="([0-9a-f]+)"', page)
        assert form is not None
        client.cookie_jar.clear()  # of another browser
        assert (await client.post("/login", data={**data, "form": form[1]})).status == 403
        assert (await client.get("/overview.json")).status == 401


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_a_form_of_another_page_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async with served(tmp_path, login=True) as client:
        await log_in(client)
        assert (await client.post("/logout", headers=headers)).status == 403
        assert (await client.get("/overview.json")).status == 200


async def test_a_login_survives_a_restart_and_ends_with_the_password(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        await log_in(client)
        cookie = next(one.value for one in client.cookie_jar if one.key == "mesbridge")
    async with served(tmp_path, login=True) as client:
        assert (await client.get("/overview.json", cookies={"mesbridge": cookie})).status == 200
        assert cookie not in (tmp_path / FILE).read_text()
        Users(tmp_path / "users.json").add(NAME, "another long password")
        assert (await client.get("/overview.json", cookies={"mesbridge": cookie})).status == 401


async def test_a_removed_user_is_out_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        await log_in(client)
        Users(tmp_path / "users.json").remove(NAME)
        assert (await client.get("/overview.json")).status == 401


async def test_without_a_user_the_door_is_shut_and_says_what_to_do(tmp_path: Path) -> None:
    async with served(tmp_path, user=False, login=True) as client:
        page = await (await client.get("/login")).text()
        assert "mesbridge user add NAME" in page
        assert (await client.get("/overview.json")).status == 401
        assert (await log_in(client)).status == 401


async def test_monitors_use_basic_authentication(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        answer = await client.get("/metrics")
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert (await client.get("/metrics", headers=basic(NAME, PASSWORD))).status == 200
        assert (await client.get("/metrics", headers=basic(NAME, "wrong"))).status == 401
        assert (await client.get("/metrics", headers={"Authorization": "Basic ###"})).status == 401


async def test_where_to_go_after_the_login_is_never_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path, login=True) as client:
        for to, expected in (
            ("/machine/m-1", "/machine/m-1"),
            ("//evil.example/machine/x", ""),
            ("https://evil", ""),
        ):
            page = await (await client.get("/login", params={"to": to})).text()
            assert f'name="to" value="{expected}"' in page
        assert "Hall &lt;3&gt;" in page


async def test_a_damaged_sessions_file_logs_everybody_out_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"x": 1}')
    async with served(tmp_path, login=True) as client:
        assert (await client.get("/overview.json")).status == 401
        assert (await log_in(client)).status == 303


def test_a_session_ends_after_a_week(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.add(NAME, PASSWORD)
    sessions = Sessions(tmp_path, users)
    token = sessions.begin(NAME, 1000.0)
    assert sessions.user(token, 1000.0 + LASTS_S - 1) == NAME
    assert sessions.user(token, 1000.0 + LASTS_S) is None
    assert sessions.user("another", 1000.0) is None
    assert sessions.user(None, 1000.0) is None
