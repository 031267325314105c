"""The plugin's page in OctoPrint's first-run wizard, and its check in OctoPrint's health check."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.octoprint import OctoPrint, free_port
from tests.e2e.browser import chromium
from tests.e2e.octoprint_server import environment, versions
from tests.e2e.settings_tab import Answers, connected, go_to, log_in

pytestmark = pytest.mark.e2e

PAGE = "#wizard_plugin_mesbridge"


@pytest.fixture(params=versions() or ["1.11.8"])
def octoprint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OctoPrint]:
    """An OctoPrint into which the plugin has just been installed, with its health check switched on."""
    octoprint = OctoPrint(environment(request.param), tmp_path / "base", free_port())
    try:
        octoprint.start()
        octoprint.wait_operational()
        octoprint.stop()
        path = octoprint.base_folder / "config.yaml"
        change_configuration(path, request.param)
        octoprint.start()
        octoprint.wait_operational()
        yield octoprint
    finally:
        octoprint.stop()


def change_configuration(path: Path, version: str) -> None:
    """OctoPrint has rewritten its configuration as YAML, for which it brings the reader."""
    script = (
        "import sys, yaml; p = sys.argv[1]; c = yaml.safe_load(open(p));"
        "c['server']['seenWizards'].pop('mesbridge');"
        "c['plugins']['_disabled'].remove('health_check');"
        "yaml.safe_dump(c, open(p, 'w'))"
    )
    subprocess.run([environment(version).python, "-c", script, path], check=True)


@pytest.fixture
def page(octoprint: OctoPrint) -> Iterator[Any]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Could not bind" in line.text else None)
        log_in(page, octoprint.url, octoprint.password)
        yield page
        assert faults == []


def test_that_the_wizard_tells_what_is_sent_and_makes_no_key(octoprint: OctoPrint, page: Any) -> None:
    go_to(page, octoprint.url)
    page.wait_for_selector(PAGE, state="visible")
    assert "nothing is sent at all" in page.inner_text(PAGE)
    field = page.get_by_label("Address of the bridge").locator("visible=true")
    field.fill("http://127.0.0.1:90000")
    page.locator("#wizard_dialog .button-finish").click()
    page.wait_for_timeout(1500)
    assert page.locator(PAGE).get_by_text("This is no address").is_visible()
    assert page.evaluate("document.activeElement.id") == "wizard_mesbridge_url"
    leave = (
        f"OctoPrint.coreui.viewmodels.mESBridgeViewModel.onBeforeWizardTabChange('next', '{PAGE[1:]}_link')"
    )
    assert page.locator(f"{PAGE}_link").is_visible()
    assert page.evaluate(leave) is False
    assert octoprint.plugin_status()["idle"] == "The bridge's address is not set"
    field.fill("127.0.0.1:9")
    page.locator("#wizard_dialog .button-finish").click()
    page.wait_for_selector("#wizard_dialog", state="hidden")
    status = octoprint.plugin_status()
    assert status["key"] is None
    assert status["idle"] == "No key has been generated"

    go_to(page, octoprint.url)
    saved = "OctoPrint.coreui.viewmodels.settingsViewModel.settings.plugins.mesbridge.bridge_url()"
    assert page.evaluate(saved) == "http://127.0.0.1:9"
    page.wait_for_timeout(1500)
    assert page.is_hidden("#wizard_dialog")

    answers = Answers(page, connected(connected=False, error="refused <img src=x onerror='window.pwned=1'>"))
    result = {"result": "warning", "context": {"reason": "unreachable", "message": "refused"}, "hash": "1"}
    page.route(
        "**/plugin/health_check*",
        lambda route: route.fulfill(body=json.dumps({"health": {"mesbridge": result}})),
    )
    go_to(page, octoprint.url)
    page.wait_for_function("OctoPrint.coreui.viewmodels.healthCheckViewModel.checkResults().length === 1")
    page.evaluate("OctoPrint.coreui.viewmodels.healthCheckViewModel.showHealthCheckDialog()")
    page.locator("#plugin_health_check_dialog").get_by_text("Events do not reach the MES bridge").wait_for()
    assert page.evaluate("window.pwned") is None
    assert answers.gets > 0


def test_that_the_health_check_knows_of_the_plugin(octoprint: OctoPrint) -> None:
    answer = octoprint._get("/api/plugin/health_check").json()
    assert answer["health"]["mesbridge"]["result"] == "ok"
