"""The plugin's settings tab in a browser: logging in, opening it, and answers of the plugin made up for a test."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bridge
from bridge.demo.octoprint import ADMIN

TAB = "#settings_plugin_mesbridge"

DARK = """
body, .modal, .modal-body, .modal-footer, .modal-header, .accordion, .accordion-inner, .tab-content, #tabs,
.well, .popover { background: #1d2126 !important; color: #cfd3d7 !important; }
h1, h2, h3, h4, legend, label, .nav-header { color: #e4e7ea !important; text-shadow: none !important; }
.muted, .help-block, .help-inline { color: #939ba3 !important; }
a { color: #5fb2e8 !important; }
.nav-list > li > a { color: #cfd3d7 !important; text-shadow: none !important; }
.nav-list > .active > a { background: #2f6f9f !important; color: #fff !important; }
.nav-tabs { border-color: #3a4149 !important; }
.nav-tabs > .active > a { background: #1d2126 !important; color: #e4e7ea !important;
border-color: #3a4149 #3a4149 #1d2126 !important; }
.navbar-inner { background: #15181c !important; border-color: #15181c !important; }
.navbar .nav > li > a, .navbar .brand { color: #cfd3d7 !important; text-shadow: none !important; }
input, select, textarea { background: #14171a !important; color: #dfe3e6 !important;
border-color: #3a4149 !important; }
.btn { background: #333a42 none !important; color: #e4e7ea !important; text-shadow: none !important;
border-color: #454d56 !important; box-shadow: none !important; }
.btn-primary { background: #27608c none !important; }
.btn-danger { background: #9c3531 none !important; }
.table th, .table td, .modal-header, .modal-footer { border-color: #33393f !important; box-shadow: none !important; }
code, pre { background: #14171a !important; color: #e8837e !important; border-color: #33393f !important; }
.alert { background: #453c1d !important; color: #eadfae !important; border-color: #6b5d2c !important;
text-shadow: none !important; }
.alert-info { background: #17374a !important; color: #b9dcef !important; border-color: #265873 !important; }
.alert-success { background: #1f3f27 !important; color: #bfe3c4 !important; border-color: #35663f !important; }
.alert-error { background: #4a2220 !important; color: #efc4c1 !important; border-color: #753633 !important; }
"""
"""What the usual dark themes for OctoPrint do to Bootstrap's parts; nothing of it is for the plugin's own."""


def log_in(page: Any, url: str, password: str) -> None:
    page.goto(f"{url}/login/")
    page.fill("#login-user", ADMIN)
    page.fill("#login-password", password)
    page.click("#login-button")
    page.wait_for_selector("#navbar_show_settings")


def go_to(page: Any, url: str, language: str = "en") -> None:
    """OctoPrint's page for somebody who is logged in; waits until it can be used."""
    page.goto(f"{url}/?l10n={language}")
    page.wait_for_selector("#navbar_show_settings")
    page.wait_for_function("!document.querySelector('#page-container-loading:not([style*=none])')")


def open_tab(page: Any) -> None:
    page.evaluate("OctoPrint.coreui.viewmodels.settingsViewModel.show('settings_plugin_mesbridge')")
    page.wait_for_selector(TAB, state="visible")


def now() -> datetime:
    return datetime.now(UTC)


def ago(seconds: float) -> str:
    return (now() - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def blank() -> dict[str, Any]:
    """The status of a plugin that nobody has set up."""
    return {
        "trouble": None,
        "key": None,
        "previous_key_in_use": False,
        "connected": False,
        "idle": "The bridge's address is not set",
        "error": None,
        "last_error": None,
        "last_error_at": None,
        "acknowledged": None,
        "acknowledged_event": None,
        "waiting": 0,
        "oldest_waiting": None,
        "clock_offset": None,
        "instance": "1f0c",
        "dropped": {},
        "superseded": {},
        "left_out": {},
        "bridge": None,
        "pinned": None,
        "identity_suggestions": {
            "manufacturer": None,
            "model": "Prusa i3 MK3S",
            "product_code": "Prusa i3 MK3S",
            "serial_number": "5d0e1a52-7c1b-4d7e-9a43-2f1b7c3d9e10",
            "year_of_construction": None,
            "location": None,
            "asset_id": None,
        },
        "pairing": None,
        "storage": {"full": False, "error": None},
    }


def key(**changes: Any) -> dict[str, Any]:
    return {
        "prefix": "mRk3",
        "created": ago(9 * 86400),
        "last_used": ago(50),
        "last_address": "192.168.1.5",
        "user": "mesbridge-key-4f1c09ab",
        "job_control": False,
        "previous": None,
        **changes,
    }


def connected(**changes: Any) -> dict[str, Any]:
    """The status of a plugin on an ordinary day."""
    return {
        **blank(),
        "idle": None,
        "connected": True,
        "key": key(),
        "acknowledged": ago(3),
        "clock_offset": 0.0,
        "acknowledged_event": {"seq": 118, "kind": "job_started", "time": ago(420)},
        "bridge": {"id": "b7e1", "name": "Hall 2", "version": bridge.__version__},
        "superseded": {"progress": 212, "heaters": 74},
        **changes,
    }


class Answers:
    """Stands in for the plugin's API in one page: `status` is what GET tells, `commands` what each POST does."""

    def __init__(self, page: Any, status: dict[str, Any]) -> None:
        self.status = copy.deepcopy(status)
        self.commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.asked: list[dict[str, Any]] = []
        self.gets = 0
        page.route("**/api/plugin/mesbridge*", self._answer)

    def _answer(self, route: Any) -> None:
        if route.request.method == "GET":
            self.gets += 1
            route.fulfill(json=self.status)
            return
        asked = json.loads(route.request.post_data)
        self.asked.append(asked)
        extra = self.commands.get(asked["command"], lambda _: {})(asked)
        if "http_error" in extra:
            route.fulfill(status=extra["http_error"], json={"error": extra["message"]})
        else:
            route.fulfill(json={**self.status, **extra})
