"""The plugin's settings tab as an administrator meets it, in a real browser on real OctoPrints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge import wire
from bridge.demo.octoprint import ADMIN, OctoPrint
from tests.e2e.browser import chromium
from tests.e2e.octoprint_server import running, versions
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

TAB = "#settings_plugin_mesbridge"


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def octoprint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OctoPrint]:
    with running(request.param, tmp_path_factory.mktemp("octoprint")) as octoprint:
        yield octoprint


@pytest.fixture
def page(octoprint: OctoPrint) -> Iterator[Any]:
    """OctoPrint's page with an administrator logged in; nothing in it may go wrong."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(octoprint.url)
        page.fill("#login-user", ADMIN)
        page.fill("#login-password", octoprint.password)
        page.click("#login-button")
        page.wait_for_selector("#navbar_show_settings")
        page.wait_for_function("!document.querySelector('#page-container-loading:not([style*=none])')")
        yield page
        assert faults == []


def open_tab(page: Any) -> None:
    page.click("#navbar_show_settings")
    page.click("#settings_plugin_mesbridge_link a")
    page.wait_for_selector(TAB, state="visible")


def test_from_an_empty_tab_to_a_connection(octoprint: OctoPrint, page: Any) -> None:
    bridge = Receiver()
    try:
        open_tab(page)
        page.get_by_label("Address of the bridge").fill("bridge:8484")
        assert "such as http://" in page.inner_text(f"{TAB} [role=alert]")
        page.get_by_label("Address of the bridge").fill(bridge.url)
        assert page.inner_text(f"{TAB} [role=alert]").strip() == ""

        page.get_by_role("button", name="Generate a key").click()
        page.wait_for_function("document.activeElement.id === 'settings_mesbridge_key'")
        bridge.accept(page.get_by_label("The new key").input_value())
        page.get_by_label("Serial number").fill("4711")
        page.click("#settings_dialog > .modal-footer .btn-primary")

        snapshot = bridge.wait_for(wire.SNAPSHOT)
        assert snapshot.data["printer"]["identity"] == {"serial_number": "4711"}
        page.wait_for_selector("#settings_dialog", state="hidden")
        open_tab(page)
        page.wait_for_selector(f"{TAB} dd:text-is('Connected')")
        assert page.input_value("#settings_mesbridge_key") == ""

        bridge.stop()
        page.get_by_role("button", name="Revoke the key").click()
        page.get_by_role("link", name="Proceed").click()
        page.wait_for_selector(f"{TAB} dd:text-is('No key has been generated')")
        assert octoprint.plugin_status()["key"] is None
    finally:
        bridge.stop()
