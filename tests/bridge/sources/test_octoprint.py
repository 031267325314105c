from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.sources import octoprint
from bridge.sources.interview import interview
from bridge.sources.octoprint import KeyRefused, OctoPrintError, Unreachable, Verified, verify

GOOD = "the-right-key"


class FakeOctoPrint:
    """Answers as OctoPrint does to a key with STATUS, to one without, and to a wrong one."""

    def __init__(self) -> None:
        self.printer_status = 200
        self.permissions = {GOOD}
        self.users = {GOOD: "mesbridge", "no-status": "somebody"}
        self.server_version, self.state = "1.11.8", "Operational"
        app = web.Application()
        app.router.add_get("/api/version", self.version)
        app.router.add_get("/api/printer", self.printer)
        app.router.add_get("/api/job", self.job)
        app.router.add_get("/api/currentuser", self.user)
        self.server = TestServer(app)

    def _guard(self, request: web.Request) -> None:
        if request.headers.get("X-Api-Key") not in self.permissions:
            raise web.HTTPForbidden

    async def version(self, request: web.Request) -> web.Response:
        self._guard(request)
        return web.json_response({"server": self.server_version})

    async def printer(self, request: web.Request) -> web.Response:
        self._guard(request)
        return web.json_response({}, status=self.printer_status)

    async def job(self, request: web.Request) -> web.Response:
        self._guard(request)
        return web.json_response({"state": self.state})

    async def user(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"name": self.users.get(request.headers.get("X-Api-Key", "")), "permissions": ["STATUS"]}
        )


async def ask(url: str, key: str = GOOD) -> Verified:
    async with aiohttp.ClientSession() as http:
        return await verify(http, url, key)


@pytest.mark.parametrize("printer_status", [200, 409])
async def test_a_good_key_is_verified_with_or_without_a_printer(printer_status: int) -> None:
    fake = FakeOctoPrint()
    fake.printer_status = printer_status
    async with fake.server as server:
        assert await ask(str(server.make_url("/"))) == Verified("1.11.8", "Operational")


HOSTILE = "1\x1b]0;owned\x07\x1b[2J\n" + "x" * 1_000_000
HARMLESS = "1?]0;owned??[2J?" + "x" * 47 + "…"


async def test_what_an_octoprint_says_of_itself_is_one_short_line_without_control_characters() -> None:
    fake = FakeOctoPrint()
    fake.server_version = fake.state = HOSTILE
    fake.users["no-status"] = HOSTILE
    async with fake.server as server:
        url = str(server.make_url("/"))
        assert await ask(url) == Verified(HARMLESS, HARMLESS)
        with pytest.raises(KeyRefused) as refused:
            await ask(url, "no-status")
        assert f"its user '{HARMLESS}' lacks" in str(refused.value)
        fake.users[GOOD] = HOSTILE
        async with aiohttp.ClientSession() as http:
            found = await interview(http, url, GOOD)
        assert (found.user, found.version, found.state) == (HARMLESS, HARMLESS, HARMLESS)


async def test_a_wrong_key_and_one_without_status_are_told_apart() -> None:
    async with FakeOctoPrint().server as server:
        url = str(server.make_url("/"))
        with pytest.raises(KeyRefused, match="does not know the key") as wrong:
            await ask(url, "secret-wrong-key")
        assert "secret-wrong-key" not in str(wrong.value)
        with pytest.raises(KeyRefused, match="'somebody' lacks the STATUS"):
            await ask(url, "no-status")


async def test_a_key_is_not_carried_along_a_redirect() -> None:
    carried = []

    async def elsewhere(request: web.Request) -> web.Response:
        carried.append(request.headers.get("X-Api-Key"))
        return web.json_response({"server": "1"})

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_get("/elsewhere", elsewhere)
    app.router.add_get("/api/version", redirect)
    async with TestServer(app) as server:
        with pytest.raises(Unreachable, match="redirects to /elsewhere"):
            await ask(str(server.make_url("/")))
    assert carried == []


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[1]", b"{}", b"\xff" * 10, b"[" * 100_000])
async def test_something_else_that_answers_is_no_octoprint(body: bytes) -> None:
    async def version(request: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/api/version", version)
    async with TestServer(app) as server:
        with pytest.raises(Unreachable, match="not as an OctoPrint"):
            await ask(str(server.make_url("/")))


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64 + ".local"])
async def test_a_name_that_no_name_service_knows_how_to_look_up_cannot_be_reached(host: str) -> None:
    with pytest.raises(Unreachable, match="check that OctoPrint runs and that url is right"):
        await ask(f"http://{host}:5000")


async def test_an_octoprint_that_is_off_cannot_be_reached() -> None:
    async with FakeOctoPrint().server as server:
        url = str(server.make_url("/"))
    with pytest.raises(OctoPrintError, match=r"cannot be reached.*check that OctoPrint runs"):
        await ask(url)


async def test_an_octoprint_that_hangs_is_said_not_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octoprint, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(Unreachable, match="does not answer in time"):
            await ask(url)
