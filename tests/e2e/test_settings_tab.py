"""The plugin's settings tab as an administrator meets it, in a real browser on real OctoPrints."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from bridge.aggregator import load
from bridge.demo.octoprint import ADMIN, OctoPrint
from tests.e2e import settings_tab
from tests.e2e.bridge_process import BridgeProcess
from tests.e2e.browser import chromium
from tests.e2e.octoprint_server import Visitor, running, versions
from tests.e2e.settings_tab import DARK, TAB, Answers, ago, blank, connected, go_to, key, log_in, open_tab
from tests.e2e.test_pairing_plugin import pair
from tests.plugin.receiver import Receiver

pytestmark = pytest.mark.e2e

HOSTILE = "\"'><img src=x onerror='window.pwned=1'><script>window.pwned=1</script>{{7*7}}"
VIEWPORT = {"width": 1280, "height": 1000}
KEY = "mRk3Zq0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def octoprint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OctoPrint]:
    with running(request.param, tmp_path_factory.mktemp("octoprint")) as octoprint:
        yield octoprint


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Profile:
    """A browser's profile in which an administrator has typed the password recently, as commands demand."""

    def __init__(self, browser: Any, octoprint: OctoPrint) -> None:
        self.context = browser.new_context(viewport=VIEWPORT)
        self.context.set_default_timeout(60_000)
        self._octoprint = octoprint
        self._logged_in = float("-inf")
        self._kept: Page | None = None

    def new_page(self) -> Page:
        page = self.context.new_page()
        if time.monotonic() - self._logged_in > 120:
            self.context.clear_cookies()
            log_in(page, self._octoprint.url, self._octoprint.password)
            self._logged_in = time.monotonic()
        return Page(page)

    def kept_page(self) -> Page:
        """The page of the test before, as it was when it was loaded: a load costs seconds."""
        if self._kept is None or time.monotonic() - self._logged_in > 120:
            self.give_up_kept_page()
            self._kept = self.new_page()
            go_to(self._kept.page, self._octoprint.url)
        page = self._kept.page
        page.unroute_all()
        page.set_viewport_size(VIEWPORT)
        page.evaluate(CLEAR_AWAY)
        page.wait_for_selector("#settings_dialog", state="hidden")
        page.wait_for_selector(".modal-backdrop", state="detached")
        return self._kept

    def give_up_kept_page(self) -> None:
        if self._kept is not None:
            self._kept.page.close()
            self._kept = None


class Page:
    """A page in which nothing may go wrong."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console", lambda line: self.faults.append(line.text) if "Could not bind" in line.text else None
        )


CLEAR_AWAY = """() => {
    const view = OctoPrint.coreui.viewmodels.mESBridgeViewModel;
    $(".modal").modal("hide");
    PNotify.removeAll();
    localStorage.clear();
    if (!view.atFirst)
        view.atFirst = Object.values(view)
            .filter((part) => ko.isWriteableObservable(part) && !ko.isComputed(part))
            .map((part) => [part, part()]);
    for (const [part, value] of view.atFirst) part(value);
    view.known(false); // what it is told first is what counts
}"""


@pytest.fixture(scope="module")
def profile(browser: Any, octoprint: OctoPrint) -> Iterator[Profile]:
    profile = Profile(browser, octoprint)
    yield profile
    profile.context.close()


@pytest.fixture
def page(profile: Profile, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A new page; for a test that takes `opened` one in which OctoPrint is loaded."""
    keeps = "opened" in request.fixturenames
    page = profile.kept_page() if keeps else profile.new_page()
    failed = request.session.testsfailed
    yield page.page
    if not keeps:
        page.page.close()
    elif page.faults or request.session.testsfailed > failed:
        profile.give_up_kept_page()
    assert page.faults == []


@pytest.fixture
def opened(page: Any) -> Any:
    """Opens the tab over made up answers of the plugin: `opened(status)` returns them."""

    def open_over(status: dict[str, Any], **commands: Any) -> Answers:
        answers = Answers(page, status)
        answers.commands = commands
        open_tab(page)
        page.wait_for_function(f"!document.querySelector('{TAB}').innerText.includes('Asking OctoPrint')")
        return answers

    return open_over


def summary(page: Any) -> str:
    return str(page.inner_text("#settings_mesbridge_summary"))


def wait_for_text(page: Any, text: str) -> None:
    """Wait until the tab says `text`."""
    page.locator(TAB).get_by_text(text).first.wait_for(state="visible", timeout=30_000)


def fact(page: Any, label: str) -> str:
    return str(page.inner_text(f"{TAB} tr:has(th:text-is('{label}')) td"))


# --------------------------------------------------------------------------- with the plugin itself


def test_from_an_empty_tab_to_a_connection(octoprint: OctoPrint, page: Any) -> None:
    bridge = Receiver()
    try:
        go_to(page, octoprint.url)
        open_tab(page)
        wait_for_text(page, "Not set up yet")
        page.get_by_label("Address of the bridge").fill("http://bridge:84840")
        assert "such as http://" in page.inner_text("#settings_mesbridge_url_error")
        page.get_by_label("Address of the bridge").fill(bridge.url.replace("http://", ""))
        assert page.inner_text("#settings_mesbridge_url_error").strip() == ""
        page.get_by_label("Address of the bridge").press("Tab")
        assert page.input_value("#settings_mesbridge_url") == bridge.url

        page.get_by_role("button", name="Generate a key").click()
        page.wait_for_function("document.activeElement.id === 'settings_mesbridge_key'")
        api_key = page.get_by_label("The new key").input_value()
        bridge.accept(api_key)
        page.get_by_label("Serial number").fill("4711")
        page.click("#settings_dialog > .modal-footer .btn-primary")

        snapshot = bridge.wait_for(wire.SNAPSHOT)
        assert snapshot.data["printer"]["identity"] == {"serial_number": "4711"}
        page.wait_for_selector("#settings_dialog", state="hidden")
        open_tab(page)
        wait_for_text(page, "Connected to")
        assert page.input_value("#settings_mesbridge_key") == ""
        assert api_key not in page.content()
        assert fact(page, "Events waiting").strip() == "0"
        assert "Generic RepRap Printer" in str(
            page.get_by_role("textbox", name="Model").get_attribute("placeholder")
        )

        page.get_by_role("button", name="Replace the key").click()
        page.select_option("#settings_mesbridge_overlap", "1")
        page.get_by_role("button", name="Make the new key").click()
        page.wait_for_function("document.activeElement.id === 'settings_mesbridge_key'")
        wait_for_text(page, "The one before, ")
        assert page.get_by_label("The new key").input_value() != api_key
        page.get_by_role("button", name="End the old key now").click()
        page.get_by_role("link", name="Proceed").click()
        page.locator(TAB).get_by_text("The one before, ").wait_for(state="hidden")
        assert octoprint.plugin_status()["key"]["previous"] is None

        bridge.stop()
        page.get_by_role("button", name="Revoke the key").click()
        page.get_by_role("link", name="Proceed").click()
        wait_for_text(page, "The bridge has no key of this printer yet")
        assert octoprint.plugin_status()["key"] is None
    finally:
        bridge.stop()
        octoprint.configure_plugin("")


def test_pairing_with_a_real_bridge(octoprint: OctoPrint, page: Any, tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, [], "anonymous = true\n")
    (tmp_path / "config.json").chmod(0o600)
    bridge.start()
    try:
        pair(bridge, "open", "--minutes", "5")
        go_to(page, octoprint.url)
        open_tab(page)
        page.get_by_label("Address of the bridge").fill(f"http://127.0.0.1:{bridge.push_port}/")
        page.get_by_role("button", name="Test connection").click()
        page.wait_for_selector(f"{TAB} .mesbridge-steps li")
        page.get_by_role("button", name="Request pairing").click()
        code = page.locator(".mesbridge-code").inner_text()
        (line,) = [line for line in pair(bridge, "list").splitlines() if code in line]
        (request,) = re.findall(r"\b[0-9a-f]{8}\b", line)
        page.get_by_role("button", name="The bridge shows the same code").click()
        wait_for_text(page, "Confirmed here")
        pair(bridge, "accept", request, "--mes", "1")
        wait_for_text(page, "Paired: the bridge serves this printer")
        wait_for_text(page, "Connected to")
        assert not page.locator("#settings_dialog_update_detected").is_visible()
        url = page.get_by_label("Address of the bridge").input_value()
        assert url.rstrip("/") == f"http://127.0.0.1:{bridge.push_port}"
        assert json.loads((tmp_path / "config.json").read_text())
    finally:
        bridge.stop()
        octoprint.plugin_command("revoke_key")
        octoprint.configure_plugin("")


# --------------------------------------------------------------------------- what it says


def test_that_a_fresh_plugin_says_what_to_do_first(page: Any, opened: Any) -> None:
    opened(blank())
    assert "Not set up yet" in summary(page)
    assert "alert-info" in page.get_attribute("#settings_mesbridge_summary", "class")
    page.wait_for_selector("#navbar_plugin_mesbridge", state="hidden")


def test_that_an_ordinary_day_needs_no_attention(page: Any, opened: Any) -> None:
    opened(connected(key=key(last_used=None, last_address=None)))
    assert "Connected to Hall 2" in summary(page)
    assert "alert-success" in page.get_attribute("#settings_mesbridge_summary", "class")
    assert "Print started" in fact(page, "Last acknowledged event")
    assert fact(page, "Lost").strip() == "none"
    assert "not needed so far" in fact(page, "Key")
    assert "never" not in fact(page, "Key")


def test_that_what_was_lost_is_not_called_arrived(page: Any, opened: Any) -> None:
    opened(connected(dropped={"heaters": 2}, left_out={"a sample": 1, "PrintStarted": 1}))
    assert "What waited has arrived." in summary(page)
    assert "Temperatures: 2" in fact(page, "Lost")
    assert "Other: 2" in fact(page, "Left out")
    page.wait_for_selector("#navbar_plugin_mesbridge", state="hidden")  # for it is looked at


def test_that_the_last_error_stays_to_be_seen(page: Any, opened: Any) -> None:
    opened(connected(last_error="The bridge at http://192.168.1.5:8484 was away", last_error_at=ago(3600)))
    assert "Connected to Hall 2" in summary(page)
    assert "was away" in fact(page, "Last error")
    assert "last seen" in fact(page, "Last error")


def test_that_a_disk_that_refuses_says_what_to_check(page: Any, opened: Any) -> None:
    refusal = "attempt to write a readonly database"
    opened(connected(storage={"full": False, "error": refusal}))
    assert "Check the disk of this OctoPrint" in summary(page)
    assert refusal in summary(page)


def test_that_a_bridge_that_is_away_is_told_with_its_error_and_what_waits(page: Any, opened: Any) -> None:
    error = "The bridge at http://192.168.1.5:8484 cannot be reached: connection refused"
    opened(connected(connected=False, error=error, waiting=14, oldest_waiting=ago(7300)))
    assert error in summary(page)
    assert "14" in fact(page, "Events waiting")
    assert "2 hours ago" in fact(page, "Events waiting")


def test_that_a_bridge_without_the_new_key_is_told_of_before_the_old_one_ends(page: Any, opened: Any) -> None:
    previous = {"prefix": "x9Gk22", "valid_until": ago(-7200), "last_used": None, "last_address": None}
    opened(connected(previous_key_in_use=True, key=key(previous=previous)))
    assert "the bridge still has the key before" in summary(page)


def test_that_an_address_that_is_none_is_said_before_the_key_is_missed(
    octoprint: OctoPrint, page: Any
) -> None:
    octoprint.configure_plugin("127.0.0.1:8584")
    try:
        go_to(page, octoprint.url)
        open_tab(page)
        wait_for_text(page, "The address of the bridge is wrong")
        assert "try http://127.0.0.1:8584" in summary(page)
    finally:
        octoprint.configure_plugin("")


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("127.0.0.1:8584", "http://127.0.0.1:8584"),
        (" bridge.local ", "http://bridge.local"),
        ("[fe80::1]:8484", "http://[fe80::1]:8484"),
        ("https://bridge", "https://bridge"),
    ],
)
def test_that_an_address_is_completed_when_its_field_is_left(
    page: Any, opened: Any, typed: str, becomes: str
) -> None:
    opened(blank())
    for label in ("Address of the bridge", "Address of this OctoPrint"):
        field = page.get_by_label(label)
        field.fill(typed)
        field.press("Tab")
        assert field.input_value() == becomes
        assert field.get_attribute("aria-invalid") == "false"


@pytest.mark.parametrize(
    "typed",
    ["http://", "http://:8484", "bridge:0", "bridge:84840", "mailto:x", "two words", "bridge/?a", "u@b"],
)
def test_that_what_is_no_address_stays_as_typed_and_is_marked(page: Any, opened: Any, typed: str) -> None:
    opened(blank())
    for label in ("Address of the bridge", "Address of this OctoPrint"):
        field = page.get_by_label(label)
        field.fill(typed)
        field.press("Tab")
        assert field.input_value() == typed
        assert field.get_attribute("aria-invalid") == "true"
    assert page.get_by_role("button", name="Test connection").is_disabled()


def test_that_a_full_disk_comes_before_everything_else(page: Any, opened: Any) -> None:
    opened(connected(storage={"full": True, "error": "database or disk is full"}))
    assert "The disk is full" in summary(page)


# --------------------------------------------------------------------------- finding and testing a bridge


STEPS = [{"text": "It answers", "ok": True}, {"text": "x" * 200, "ok": False}]
BRIDGES = [
    {"name": "Hall 2", "url": "http://192.168.1.5:8484", "version": "0.1.0", "https": False},
    {"name": HOSTILE, "url": "https://10.0.0.9:8484", "version": HOSTILE, "https": True},
]


def test_that_a_bridge_that_was_found_can_be_chosen_with_the_keyboard(page: Any, opened: Any) -> None:
    opened(blank(), find_bridges=lambda _: {"bridges": BRIDGES, "note": None})
    page.get_by_role("button", name="Find bridges").press("Enter")
    wait_for_text(page, "2 bridges found")
    page.get_by_role("button", name="Use Hall 2").press("Enter")
    assert page.evaluate("document.activeElement.id") == "settings_mesbridge_url"
    assert page.input_value("#settings_mesbridge_url") == "http://192.168.1.5:8484"


def test_that_finding_none_says_what_to_do(page: Any, opened: Any) -> None:
    note = "OctoPrint's discovery plugin is switched off: type the address in"
    opened(blank(), find_bridges=lambda _: {"bridges": [], "note": note})
    page.get_by_role("button", name="Find bridges").click()
    wait_for_text(page, note)


def test_that_a_test_tells_each_step_and_what_to_do(page: Any, opened: Any) -> None:
    steps = [{"text": "Port 8484 answers", "ok": True}, {"text": "A bridge answers", "ok": False}]
    test = {"ok": False, "steps": steps, "advice": "Something else answers at this port."}
    answers = opened(blank(), test_connection=lambda _: {"test": test})
    page.get_by_label("Address of the bridge").fill("http://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "Something else answers")
    assert answers.asked == [{"command": "test_connection", "bridge_url": "http://bridge.local:8484"}]
    told = page.locator(".mesbridge-steps li").all_inner_texts()
    assert [" ".join(line.split()) for line in told] == [
        "Passed: Port 8484 answers",
        "Failed: A bridge answers",
    ]
    assert "alert-error" in page.get_attribute(f"{TAB} .mesbridge-test", "class")
    assert page.locator(f"{TAB} .alert-error .mesbridge-steps").count() == 0
    assert page.locator(".mesbridge-steps li").first.locator(".text-success").count() == 1


def test_that_a_bridge_to_pair_with_is_no_error(page: Any, opened: Any) -> None:
    steps = [{"text": "A bridge answers", "ok": True}, {"text": "This printer has no key yet", "ok": False}]
    advice = "Run `mesbridge pair open` at the bridge"
    test = {"ok": False, "verdict": "to_pair", "steps": steps, "advice": advice}
    opened(blank(), test_connection=lambda _: {"test": test})
    page.get_by_label("Address of the bridge").fill("http://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "Now pair with the bridge.")
    box = page.locator(f"{TAB} .mesbridge-test")
    assert "alert-info" in box.get_attribute("class")
    assert box.locator("code").inner_text() == "mesbridge pair open"
    assert "`" not in box.inner_text()
    assert " ".join(page.locator(".mesbridge-steps li").last.inner_text().split()).startswith("To do: ")
    assert page.locator(f"{TAB} .mesbridge-steps .text-error").count() == 0


@pytest.mark.parametrize("what", ["address", "rotation", "end of the overlap", "revocation", "pairing"])
def test_that_the_result_of_a_test_goes_with_what_was_tested(page: Any, opened: Any, what: str) -> None:
    previous = {"prefix": "x9Gk22", "valid_until": ago(-7200), "last_used": None, "last_address": None}
    test = {"ok": True, "verdict": "usable", "steps": [{"text": "It answers", "ok": True}], "advice": ""}
    answers = opened(connected(key=key(previous=previous)), test_connection=lambda _: {"test": test})
    page.get_by_label("Address of the bridge").fill("http://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "The bridge can be reached.")
    page.wait_for_timeout(4000)  # the status is fetched meanwhile
    assert page.locator(".mesbridge-steps li").count() == 1
    if what == "address":
        page.get_by_label("Address of the bridge").fill("http://bridge.local:8485")
    else:
        changes: dict[str, Any] = {
            "rotation": {"key": key(user="another", previous=previous)},
            "end of the overlap": {"key": key()},
            "revocation": {"key": None},
            "pairing": {"pairing": pairing("requesting")},
        }
        answers.status.update(changes[what])
    page.locator(".mesbridge-steps").wait_for(state="detached")


def test_that_an_answer_about_another_address_is_not_shown(page: Any, opened: Any) -> None:
    field = page.get_by_label("Address of the bridge")
    test = {"ok": True, "steps": [{"text": "It answers", "ok": True}], "advice": ""}

    def slow(_: dict[str, Any]) -> dict[str, Any]:
        field.fill("http://bridge.local:8485")
        return {"test": test}

    opened(blank(), test_connection=slow)
    field.fill("http://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    page.locator(TAB).get_by_text("Testing ...").wait_for(state="detached")
    assert page.locator(".mesbridge-steps").count() == 0


def test_that_http_is_said_not_to_be_encrypted_and_a_certificate_belongs_to_its_address(
    page: Any, opened: Any
) -> None:
    opened(connected(pinned={"origin": "https://192.168.1.5:443", "sha256": "a1" * 32}))
    unencrypted = page.locator(f"{TAB} :text('signed, but not encrypted')")
    certificate = page.locator(f"{TAB} :text('refused until you pair again')")
    for address, shown in (
        ("http://192.168.1.5", (True, False)),
        ("https://192.168.1.5/", (False, True)),
        ("https://192.168.1.6/", (False, False)),
        ("", (False, False)),
    ):
        page.get_by_label("Address of the bridge").fill(address)
        assert (unencrypted.is_visible(), certificate.is_visible()) == shown, address


def test_that_clocks_are_in_step_only_when_that_is_known(page: Any, opened: Any) -> None:
    answers = opened(blank())
    assert fact(page, "Clocks").strip() == "not known yet"
    answers.status.update(connected())
    wait_for_text(page, "in step")


# --------------------------------------------------------------------------- pairing


def pairing(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "state": state,
        "code": "481-207" if state in ("comparing", "confirmed") else None,
        "bridge_url": "http://192.168.1.5:8484",
        "bridge_name": "Hall 2",
        "message": None,
        "expires": ago(-540),
        **changes,
    }


def test_pairing_from_the_request_to_the_end(page: Any, opened: Any) -> None:
    answers = opened(blank())

    def becomes(**status: Any) -> Any:
        def change(_: dict[str, Any]) -> dict[str, Any]:
            answers.status.update(status)
            return {}

        return change

    answers.commands["request_pairing"] = becomes(pairing=pairing("comparing"))
    answers.commands["confirm_pairing"] = becomes(pairing=pairing("confirmed"))
    answers.commands["cancel_pairing"] = becomes(pairing=None)
    page.get_by_label("Address of the bridge").fill("http://192.168.1.5:8484/")
    page.get_by_label("Address of this OctoPrint").fill("http://192.168.1.41:5000")
    page.get_by_role("button", name="Request pairing").click()
    wait_for_text(page, "481-207")
    assert page.evaluate("document.activeElement.id") == "settings_mesbridge_pairing"
    page.get_by_role("button", name="The bridge shows the same code").click()
    wait_for_text(page, "Confirmed here")
    answers.status.update(connected(pairing=pairing("done")))
    wait_for_text(page, "Paired: the bridge serves this printer")
    assert page.is_hidden("text=481-207")
    page.wait_for_function(
        "document.querySelector('#settings_mesbridge_url').value === 'http://192.168.1.5:8484'"
    )
    assert page.is_hidden("#settings_dialog_update_detected")
    page.locator("#settings_mesbridge_pairing").get_by_role("button", name="Done").click()
    page.wait_for_selector("#settings_mesbridge_pairing", state="detached")
    assert answers.asked == [
        {
            "command": "request_pairing",
            "bridge_url": "http://192.168.1.5:8484/",
            "octoprint_url": "http://192.168.1.41:5000",
        },
        {"command": "confirm_pairing", "code": "481-207"},
        {"command": "cancel_pairing"},
    ]


def test_that_what_is_confirmed_is_the_code_that_was_compared(
    page: Any, opened: Any, profile: Profile
) -> None:
    answers = opened({**blank(), "pairing": pairing("comparing")})
    page.evaluate(
        """OctoPrint.coreui.viewmodels.loginStateViewModel.reauthenticateIfNecessary =
        (callback) => { window.passwordTyped = callback; }"""
    )
    page.get_by_role("button", name="The bridge shows the same code").click()
    answers.status["pairing"] = pairing("comparing", code="999-999")
    wait_for_text(page, "999-999")
    page.evaluate("passwordTyped()")
    page.wait_for_timeout(300)
    assert answers.asked == [{"command": "confirm_pairing", "code": "481-207"}]
    profile.give_up_kept_page()


@pytest.mark.parametrize(
    "change",
    [
        {"connected": False, "error": "refused"},
        {"connected": False, "idle": "No key", "key": None},
        {"trouble": "x"},
    ],
)
def test_that_a_pairing_that_is_done_is_not_shown_beside_what_is_wrong(
    page: Any, opened: Any, change: dict[str, Any]
) -> None:
    answers = opened(connected(pairing=pairing("done")))
    assert "There is nothing more to do." in page.inner_text("#settings_mesbridge_pairing")
    answers.status.update(change)
    page.wait_for_selector("#settings_mesbridge_pairing", state="detached")
    assert page.get_by_role("button", name="Request pairing").is_visible()


@pytest.mark.parametrize("state", ["refused", "expired", "failed", "cancelled"])
def test_that_after_a_pairing_that_came_to_nothing_another_can_be_requested(
    page: Any, opened: Any, state: str
) -> None:
    opened({**blank(), "pairing": pairing(state, message="The bridge at Hall 2 said no.")})
    assert "The bridge at Hall 2 said no." in page.inner_text("#settings_mesbridge_pairing")
    assert page.locator("#settings_mesbridge_pairing").get_by_role("button", name="Close").is_visible()
    page.get_by_label("Address of the bridge").fill("http://192.168.1.5:8484")
    assert page.get_by_role("button", name="Request pairing").is_enabled()


def test_that_a_loopback_address_of_this_octoprint_is_warned_of(page: Any, opened: Any) -> None:
    opened(blank())
    field = page.get_by_label("Address of this OctoPrint")
    assert field.input_value().startswith("http://127.0.0.1:")
    warning = page.locator("text=A bridge on another computer finds itself at this address")
    assert warning.is_visible()
    for reachable in ("http://192.168.1.41:5000", "https://print.example/octoprint", "http://[fe80::1]:5000"):
        field.fill(reachable)
        assert warning.is_hidden(), reachable
    for loop in ("http://localhost:5000", "http://[::1]:5000", "http://127.3.2.1"):
        field.fill(loop)
        assert warning.is_visible(), loop


# --------------------------------------------------------------------------- key and entry


def test_that_job_control_is_off_unless_it_is_ticked(page: Any, opened: Any) -> None:
    answers = opened(blank())
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_timeout(200)
    page.get_by_label("Allow job control with this key").check()
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_timeout(200)
    assert [asked["job_control"] for asked in answers.asked] == [False, True]


def test_that_the_password_is_asked_for_before_a_key_is_made(
    page: Any, opened: Any, profile: Profile
) -> None:
    answers = opened(blank())
    page.evaluate("OctoPrint.coreui.viewmodels.loginStateViewModel.credentialsSeen(undefined)")
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_selector("#reauthenticate_dialog", state="visible")
    assert answers.asked == []
    profile.give_up_kept_page()  # in which the password would be asked for again and again


@pytest.fixture
def with_key(opened: Any, page: Any) -> Answers:
    """The tab just after a key was generated."""
    answers: Answers = opened(blank())

    def generate(_: dict[str, Any]) -> dict[str, Any]:
        answers.status["key"] = key(last_used=None, last_address=None)
        return {"api_key": KEY}

    answers.commands["generate_key"] = generate
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_selector("#settings_mesbridge_entry")
    return answers


def download(page: Any, button: str) -> tuple[str, str]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


@pytest.mark.usefixtures("with_key")
def test_that_the_bridge_serves_what_is_downloaded(page: Any, tmp_path: Path) -> None:
    name = 'Prusa "07" in Halle 2 \\ ß [1,\n2]'.replace("\n", " ")
    page.get_by_label("Address of this OctoPrint").fill("http://192.168.1.41:5000/")
    page.get_by_label("Name in the MES").fill(name)
    page.get_by_label("MES instances").fill("1, 3")
    for version, wanted in (("1.4 and later", "1.4+"), ("1.2 and 1.3", "1.2-1.3"), ("Aggregator 1.1", "1.1")):
        page.get_by_role("tab", name=version).click()
        if wanted != "1.4+":
            page.get_by_label("umati server port").fill("4841")
        _, entry = download(page, "Download the entry")
        assert page.input_value("#settings_mesbridge_entry").strip() == entry.strip()
        (tmp_path / "config.json").write_text(entry, encoding="utf-8")
        if wanted != "1.1":
            secret_name, secret = download(page, "Download secret-")
            (tmp_path / secret_name).write_text(secret)
            assert json.loads(entry)["custom_name"] == name
            assert json.loads(entry)["authentication_file_path"] == secret_name
        config = load(tmp_path / "config.json")
        (machine,) = config.machines
        assert machine.served, config
        assert machine.url == "http://192.168.1.41:5000"
        assert machine.mes_id == (1, 3)
        assert machine.config_version == wanted
        assert machine.credential is not None
        assert machine.credential.key is not None
        assert machine.credential.key.reveal() == KEY


@pytest.mark.usefixtures("with_key")
def test_that_the_files_of_two_printers_without_a_name_do_not_collide(page: Any) -> None:
    page.get_by_label("Name in the MES").fill("")
    names = set()
    for address in ("http://192.168.1.41:5000", "http://192.168.1.42:5000", "http://192.168.1.42:5001"):
        page.get_by_label("Address of this OctoPrint").fill(address)
        names.add(download(page, "Download the entry")[0])
        names.add(download(page, "Download secret-")[0])
    assert len(names) == 6
    assert "secret-192-168-1-42-5001.txt" in names


@pytest.mark.usefixtures("with_key")
def test_that_a_wrong_mes_id_gives_no_entry(page: Any) -> None:
    page.get_by_label("MES instances").fill("one")
    wait_for_text(page, "Enter the numbers of the MES instances")
    assert page.locator("#settings_mesbridge_entry").count() == 0


@pytest.mark.usefixtures("with_key")
def test_that_key_and_entry_can_be_copied(page: Any, profile: Profile, octoprint: OctoPrint) -> None:
    profile.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=octoprint.url)
    page.locator("#settings_mesbridge_newkey").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == KEY
    page.get_by_role("button", name="Copy the entry").click()
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["type"] == "OCTOPRINT"


@pytest.mark.usefixtures("with_key")
def test_that_the_versions_are_changed_with_the_arrow_keys(page: Any) -> None:
    page.get_by_role("tab", name="1.4 and later").press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert "1.2 and 1.3" in page.evaluate("document.activeElement.innerText")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert json.loads(page.input_value("#settings_mesbridge_entry"))["api_key"] == KEY


@pytest.mark.usefixtures("with_key")
def test_that_the_key_is_gone_when_the_dialog_is_closed(page: Any) -> None:
    page.click("[data-test-id=settings-close-button]")
    page.wait_for_selector("#settings_dialog", state="hidden")
    assert page.evaluate(f"!document.documentElement.innerHTML.includes('{KEY}')")
    assert page.input_value("#settings_mesbridge_key") == ""
    assert KEY not in page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")


def test_that_a_key_that_was_replaced_meanwhile_is_shown_no_longer(page: Any, with_key: Answers) -> None:
    assert page.input_value("#settings_mesbridge_key") == KEY
    with_key.status["key"] = key(user="mesbridge-key-another1")
    page.locator("#settings_mesbridge_newkey").wait_for(state="hidden")
    assert page.input_value("#settings_mesbridge_key") == ""


def test_that_pairing_says_what_the_new_key_may_do(page: Any, opened: Any) -> None:
    controls = page.locator(f"{TAB} :text('The new one controls jobs, too')")
    answers = opened(connected(key=key(job_control=True)))
    assert controls.is_visible()
    answers.status["key"] = key()
    controls.wait_for(state="hidden")
    answers.status["key"] = None
    wait_for_text(page, "Pairing makes a key that reads the printer's status and nothing else.")


def test_that_a_key_is_replaced_with_the_overlap_that_was_chosen(page: Any, opened: Any) -> None:
    answers = opened(connected(key=key(job_control=True)), rotate_key=lambda _: {"api_key": KEY})
    page.get_by_role("button", name="Replace the key").press("Enter")
    assert page.evaluate("document.activeElement.id") == "settings_mesbridge_overlap"
    page.select_option("#settings_mesbridge_overlap", "168")
    assert page.get_by_label("Allow job control with this key").is_checked()
    page.get_by_role("button", name="Make the new key").click()
    page.wait_for_function("document.activeElement.id === 'settings_mesbridge_key'")
    assert answers.asked == [{"command": "rotate_key", "job_control": True, "overlap_hours": 168}]
    told = page.inner_text("#settings_mesbridge_newkey")
    assert "the file that this machine's entry in the bridge's config.json names" in told
    assert ".txt" not in told
    assert page.is_hidden("#settings_mesbridge_byhand")
    name, content = download(page, "Download the content of that file")
    assert (name, content) == ("new-key.txt", KEY + "\n")


def test_that_revoking_says_what_stays_at_the_bridge(page: Any, opened: Any) -> None:
    answers = opened(connected())
    page.get_by_role("button", name="Revoke the key").click()
    page.locator(".modal:visible :text('config.json stays')").wait_for()
    page.locator(".modal:visible .modal-footer a:text-is('Cancel')").last.click()
    assert answers.asked == []


def test_that_an_old_key_can_be_ended_before_its_time(page: Any, opened: Any) -> None:
    previous = {"prefix": "x9Gk22", "valid_until": ago(-7200), "last_used": None, "last_address": None}
    answers = opened(connected(key=key(previous=previous)))

    def end(_: dict[str, Any]) -> dict[str, Any]:
        answers.status["key"]["previous"] = None
        return {}

    answers.commands["end_overlap"] = end
    button = page.get_by_role("button", name="End the old key now")
    button.click()
    page.get_by_role("link", name="Proceed").click()
    button.wait_for(state="hidden")
    assert answers.asked == [{"command": "end_overlap"}]


def test_that_a_refused_command_says_why(page: Any, opened: Any) -> None:
    refusal = {"http_error": 409, "message": f"OctoPrint is not set up yet {HOSTILE}"}
    opened(blank(), generate_key=lambda _: refusal)
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_selector(".ui-pnotify :text('OctoPrint is not set up yet')")
    assert page.evaluate("window.pwned") is None


def test_that_an_octoprint_that_is_gone_is_told_in_words(page: Any, opened: Any) -> None:
    opened(blank())
    page.unroute_all()
    page.route("**/api/plugin/mesbridge*", lambda route: route.abort())
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_selector(".ui-pnotify :text('OctoPrint does not answer.')")
    wait_for_text(page, "The state cannot be read")


def test_that_a_command_that_is_not_permitted_says_so(page: Any, opened: Any) -> None:
    opened(blank(), generate_key=lambda _: {"http_error": 403, "message": "Forbidden"})
    page.get_by_role("button", name="Generate a key").click()
    page.wait_for_selector(".ui-pnotify :text('OctoPrint refused this')")


# --------------------------------------------------------------------------- the navigation bar


MARK = "#navbar_plugin_mesbridge"


def test_that_the_mark_shows_trouble_and_opens_the_tab(octoprint: OctoPrint, page: Any) -> None:
    Answers(page, {**blank(), "trouble": "The data folder cannot be used"})
    go_to(page, octoprint.url)
    page.wait_for_selector(MARK, state="visible")
    assert page.get_attribute(f"{MARK} a", "aria-label") == "The MES connection has a problem"
    page.click(f"{MARK} a")
    page.wait_for_selector(TAB, state="visible")


def test_that_lost_events_are_marked_until_the_tab_was_looked_at(octoprint: OctoPrint, page: Any) -> None:
    Answers(page, connected(instance="lossy", dropped={"job_started": 2}))
    go_to(page, octoprint.url)
    page.wait_for_selector(MARK, state="visible")
    page.click(f"{MARK} a")
    page.wait_for_selector(MARK, state="hidden")
    assert "Print started: 2" in fact(page, "Lost")


def test_that_an_error_is_marked_only_when_it_lasts(octoprint: OctoPrint, page: Any) -> None:
    answers = Answers(page, connected(connected=False, error="connection refused"))
    page.add_init_script("setTimeout(() => { if (window.MESBridge) MESBridge.PATIENCE_MS = 2500; }, 0)")
    page.add_init_script(
        "document.addEventListener('DOMContentLoaded', () => $(() => { MESBridge.PATIENCE_MS = 2500; }))"
    )
    go_to(page, octoprint.url)
    assert page.is_hidden(MARK)
    page.wait_for_selector(MARK, state="visible", timeout=30_000)
    assert answers.gets <= 6
    answers.status.update(connected())
    page.evaluate(
        "OctoPrint.coreui.viewmodels.mESBridgeViewModel.onDataUpdaterPluginMessage('mesbridge', {changed: true})"
    )
    page.wait_for_selector(MARK, state="hidden")


def test_that_a_closed_tab_does_not_poll(octoprint: OctoPrint, page: Any) -> None:
    answers = Answers(page, connected())
    go_to(page, octoprint.url)
    page.wait_for_timeout(1500)
    before = answers.gets
    page.wait_for_timeout(5000)
    assert answers.gets == before


# --------------------------------------------------------------------------- people with fewer permissions


@pytest.fixture
def watcher(browser: Any, octoprint: OctoPrint) -> Iterator[Any]:
    """A page of somebody who may see the state of the connection, and no settings."""
    user = {"name": "watcher", "password": "watcher", "active": True, "groups": ["users"]}
    user["permissions"] = ["PLUGIN_MESBRIDGE_STATUS"]
    administrator = Visitor(octoprint.url).log_in(ADMIN, octoprint.password)
    administrator.post("/api/access/users", user)  # there already in the next test
    context = browser.new_context(viewport=VIEWPORT)
    context.set_default_timeout(60_000)
    watched = Page(context.new_page())
    page = watched.page
    page.goto(f"{octoprint.url}/login/")
    page.fill("#login-user", "watcher")
    page.fill("#login-password", "watcher")
    page.click("#login-button")
    page.wait_for_selector("#navbar_login")
    yield page
    context.close()
    assert watched.faults == []


def test_that_who_may_not_open_the_settings_is_told_by_the_mark(octoprint: OctoPrint, watcher: Any) -> None:
    trouble = f"The data folder cannot be used {HOSTILE}: run `df`"
    Answers(watcher, {**blank(), "trouble": trouble})
    watcher.goto(octoprint.url)
    watcher.wait_for_selector(MARK, state="visible")
    watcher.click(f"{MARK} a")
    note = watcher.locator(".ui-pnotify", has_text="The MES connection has a problem")
    note.wait_for()
    assert "The data folder cannot be used" in note.inner_text()
    assert note.locator("code").inner_text() == "df"
    assert "An administrator finds more" in note.inner_text()
    assert watcher.is_hidden("#settings_dialog")
    assert watcher.evaluate("window.pwned") is None


def test_that_lost_events_are_marked_for_a_watcher_until_read(octoprint: OctoPrint, watcher: Any) -> None:
    Answers(watcher, connected(instance="lossy", dropped={"heaters": 2}))
    watcher.goto(octoprint.url)
    watcher.wait_for_selector(MARK, state="visible")
    watcher.click(f"{MARK} a")
    watcher.locator(".ui-pnotify", has_text="Temperatures: 2").wait_for()
    watcher.wait_for_selector(MARK, state="hidden")


def test_that_a_watcher_on_an_ordinary_day_sees_nothing(octoprint: OctoPrint, watcher: Any) -> None:
    """With the plugin's own answers."""
    with watcher.expect_response("**/api/plugin/mesbridge*") as asked:
        watcher.goto(octoprint.url)
    assert asked.value.status == 200
    watcher.wait_for_timeout(1000)
    assert watcher.is_hidden(MARK)


def test_that_permissions_are_explained_in_german(octoprint: OctoPrint, page: Any) -> None:
    go_to(page, octoprint.url, "de")
    page.evaluate("OctoPrint.coreui.viewmodels.settingsViewModel.show('settings_accesscontrol')")
    page.evaluate("OctoPrint.coreui.viewmodels.accessViewModel.users.showAddUserDialog()")
    page.click("#settings_accesscontrol_users_add_permissions_link a")
    rows = page.locator(".settings_accesscontrol_permissions_list_name:visible", has_text="MESBridge: ")
    rows.first.wait_for()
    told = rows.all_inner_texts()
    assert len(told) == 4
    assert all("Erlaubt, " in text for text in told), told
    assert any("zu beliebigen Adressen" in text for text in told), told


# --------------------------------------------------------------------------- hostile texts, people, widths, themes


def hostile_status() -> dict[str, Any]:
    return connected(
        connected=False,
        error=HOSTILE,
        bridge={"id": HOSTILE, "name": HOSTILE, "version": HOSTILE},
        pinned={"origin": "https://bridge.local:8484", "sha256": HOSTILE},
        acknowledged_event={"seq": 1, "kind": HOSTILE, "time": ago(3)},
        dropped={HOSTILE: 3},
        key=key(prefix=HOSTILE, last_address=HOSTILE),
        identity_suggestions={"model": HOSTILE, "manufacturer": HOSTILE},
        pairing=pairing("comparing", bridge_name=HOSTILE, message=HOSTILE, code=HOSTILE),
    )


def test_that_texts_of_others_stay_texts(page: Any, opened: Any) -> None:
    test = {"ok": False, "steps": [{"text": HOSTILE, "ok": False}], "advice": HOSTILE}
    opened(
        hostile_status(),
        find_bridges=lambda _: {"bridges": BRIDGES, "note": None},
        test_connection=lambda _: {"test": test},
    )
    page.get_by_label("Address of the bridge").fill("https://bridge.local:8484")
    page.get_by_role("button", name="Find bridges").click()
    wait_for_text(page, "2 bridges found")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "The bridge cannot be used like this.")
    wait_for_text(page, "refused until you pair again")
    page.get_by_role("button", name="Show the entry").click()
    page.get_by_label("Name in the MES").fill(HOSTILE)
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    assert page.locator(f"{TAB} img, {TAB} script").count() == 0
    assert HOSTILE in summary(page)
    rendered = page.evaluate(
        "m => OctoPrint.coreui.viewmodels.mESBridgeViewModel.getAdditionalHealthCheckHandlers()"
        ".mesbridge('warning', {reason: 'unreachable', message: m}).html",
        HOSTILE,
    )
    assert "<img" not in rendered
    assert "&lt;img" in rendered


ACCESSIBLE = """(root) => {
    const faults = [];
    const seen = new Set();
    for (const element of document.querySelectorAll("[id]")) {
        if (seen.has(element.id) && /mesbridge/.test(element.id)) faults.push("twice: " + element.id);
        seen.add(element.id);
    }
    const scope = document.querySelector(root);
    for (const field of scope.querySelectorAll("input, select, textarea")) {
        if (!field.labels.length && !field.getAttribute("aria-label")) faults.push("no label: " + field.id);
    }
    for (const control of scope.querySelectorAll("button, a[href]")) {
        if (!(control.innerText.trim() || control.getAttribute("aria-label")) && control.offsetParent)
            faults.push("no name: " + control.outerHTML);
    }
    for (const attribute of ["aria-describedby", "aria-controls", "aria-labelledby", "for"])
        for (const element of scope.querySelectorAll(`[${attribute}]`))
            for (const id of element.getAttribute(attribute).split(/\\s+/))
                if (!document.getElementById(id)) faults.push(`${attribute} of nothing: ${id}`);
    for (const element of scope.querySelectorAll("[tabindex]"))
        if (Number(element.getAttribute("tabindex")) > 0) faults.push("tabindex: " + element.outerHTML);
    return faults;
}"""


@pytest.mark.usefixtures("with_key")
def test_that_fields_have_labels_and_ids_are_unique(page: Any) -> None:
    page.get_by_role("button", name="Replace the key").click()
    assert page.evaluate(ACCESSIBLE, TAB) == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_that_nothing_sticks_out(page: Any, opened: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    opened(
        connected(
            pairing=pairing("comparing"),
            error="http://" + "x" * 200,
            pinned={"origin": "https://bridge.local:8484", "sha256": "a1" * 32},
        ),
        find_bridges=lambda _: {"bridges": [{**BRIDGES[0], "name": "H" * 128}], "note": None},
        test_connection=lambda _: {"test": {"ok": False, "steps": STEPS, "advice": f"`{'x' * 200}`"}},
    )
    page.get_by_label("Address of the bridge").fill("https://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "The bridge cannot be used like this.")
    page.get_by_role("button", name="Find bridges").click()
    wait_for_text(page, "One bridge found")
    page.get_by_role("button", name="Show the entry").click()
    outside = page.evaluate(
        """(root) => {
            const scope = document.querySelector(root), right = scope.getBoundingClientRect().right + 1;
            return [...scope.querySelectorAll("*")]
                .filter((e) => e.offsetParent && !e.matches(".mesbridge-hidden, option"))
                .filter((e) => e.getBoundingClientRect().right > right)
                .map((e) => e.outerHTML.slice(0, 120));
        }""",
        TAB,
    )
    assert outside == []


CONTRAST = """(root) => {
    const parse = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const luminance = ([r, g, b]) => {
        const f = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
    };
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0.5) return c;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const e = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !e.offsetParent || e.closest("[disabled]")) continue;
        const a = luminance(parse(getComputedStyle(e).color)), b = luminance(ground(e));
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(1)} ${e.outerHTML.slice(0, 100)}`);
    }
    return faint;
}"""


def test_that_everything_can_be_read_in_a_dark_theme(page: Any, opened: Any) -> None:
    opened(
        connected(
            connected=False,
            error="refused",
            pairing=pairing("comparing"),
            pinned={"origin": "https://bridge.local:8484", "sha256": "a1" * 32},
        ),
        find_bridges=lambda _: {"bridges": BRIDGES, "note": None},
        test_connection=lambda _: {"test": {"ok": False, "steps": STEPS, "advice": "Run `it`"}},
    )
    style = page.add_style_tag(content=DARK)
    page.get_by_label("Address of the bridge").fill("https://bridge.local:8484")
    page.get_by_role("button", name="Test connection").click()
    wait_for_text(page, "The bridge cannot be used like this.")
    page.get_by_role("button", name="Find bridges").click()
    wait_for_text(page, "2 bridges found")
    page.get_by_role("button", name="Show the entry").click()
    assert page.evaluate(CONTRAST, TAB) == []
    style.evaluate("style => style.remove()")


def test_that_made_up_answers_have_the_shape_of_real_ones(octoprint: OctoPrint) -> None:
    real = octoprint.plugin_status()
    made_up = settings_tab.blank()
    assert set(made_up) == set(real)
    assert set(made_up["identity_suggestions"]) == set(real["identity_suggestions"])
