"""What real OctoPrints answer to the bridge's keys: a right one, a wrong one, and one without STATUS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from bridge.demo.octoprint import ADMIN, OctoPrint
from bridge.sources.octoprint import KeyRefused, Verified, verify
from tests.e2e.octoprint_server import Visitor, running

pytestmark = pytest.mark.e2e

VERSIONS = ("1.11.8", "2.0.0rc7")


@pytest.fixture(scope="module", params=VERSIONS)
def octoprint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OctoPrint]:
    base: Path = tmp_path_factory.mktemp("octoprint")
    with running(request.param, base) as one:
        yield one


def ask(octoprint: OctoPrint, key: str) -> Verified:
    async def asked() -> Verified:
        async with aiohttp.ClientSession() as http:
            return await verify(http, octoprint.url, key)

    return asyncio.run(asked())


def test_the_plugins_key_is_enough(octoprint: OctoPrint) -> None:
    found = ask(octoprint, octoprint.generate_key())
    assert found.version in VERSIONS
    assert found.state == "Operational"


def test_a_wrong_key_is_named_as_unknown(octoprint: OctoPrint) -> None:
    with pytest.raises(KeyRefused, match="does not know the key"):
        ask(octoprint, "0" * 43)


def test_a_key_without_status_is_told_apart(octoprint: OctoPrint) -> None:
    admin = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)
    user = {"name": "guest", "password": "a-long-password", "active": True, "permissions": [], "groups": []}
    assert admin.post("/api/access/users", user).ok
    key = admin.post("/api/access/users/guest/apikey", {}).json()["apikey"]
    with pytest.raises(KeyRefused, match="'guest' lacks the STATUS permission"):
        ask(octoprint, key)
