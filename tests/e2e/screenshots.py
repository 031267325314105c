"""The pictures of the settings tab in the docs: ``python -m tests.e2e.screenshots [language ...]``; with ``status``
instead of a language those of the status page.

Taken of a real OctoPrint, with answers of the plugin that show an ordinary day: always the same ones, at a time that
stands still. Writes ``docs/images/settings-<language>-<theme>.png``.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.demo.octoprint import TREE, OctoPrint
from tests.e2e import settings_tab, status_pictures
from tests.e2e.browser import chromium
from tests.e2e.octoprint_server import running, versions

IMAGES = TREE / "docs" / "images"
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
THEMES = {"light": None, "dark": settings_tab.DARK}
REGIONS = {"en": "en-GB", "de": "de-DE", "fr": "fr-FR"}
MARGIN = 14
IDENTITY = {
    "manufacturer": "Prusa Research",
    "serial_number": "CZPX2118X004XC12345",
    "year_of_construction": "2021",
    "location": "Hall 2, row 3",
}


def take(browser: Any, octoprint: OctoPrint, language: str, theme: str, path: Path) -> None:
    """One picture of the whole tab."""
    context = browser.new_context(
        viewport={"width": 1100, "height": 2600}, locale=REGIONS[language], timezone_id="Europe/Berlin"
    )
    page = context.new_page()
    page.clock.set_fixed_time(NOW)
    settings_tab.Answers(page, settings_tab.connected())
    settings_tab.log_in(page, octoprint.url, octoprint.password)
    settings_tab.go_to(page, octoprint.url, language)
    if THEMES[theme]:
        page.add_style_tag(content=THEMES[theme])
    settings_tab.open_tab(page)
    page.fill("#settings_mesbridge_octoprint", "http://192.168.1.41:5000")
    page.wait_for_function("document.querySelector('#settings_mesbridge_summary.alert-success')")
    page.evaluate("document.activeElement.blur(); PNotify.removeAll && PNotify.removeAll()")
    page.wait_for_timeout(500)
    box = page.locator(settings_tab.TAB).bounding_box()
    page.screenshot(
        path=path,
        clip={
            "x": box["x"] - MARGIN,
            "y": box["y"] - MARGIN,
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + MARGIN,
        },
    )
    context.close()


def main(languages: list[str]) -> None:
    if languages == ["status"]:
        status_pictures.main()
        return
    settings_tab.now = lambda: NOW
    with tempfile.TemporaryDirectory() as folder, running(versions()[-1], Path(folder)) as octoprint:
        octoprint.configure_plugin("http://192.168.1.5:8484", identity=IDENTITY)
        with chromium() as browser:
            for language in languages or ["en", "de"]:
                for theme in THEMES:
                    path = IMAGES / f"settings-{language}-{theme}.png"
                    take(browser, octoprint, language, theme, path)
                    print(path.relative_to(TREE))


if __name__ == "__main__":
    main(sys.argv[1:])
