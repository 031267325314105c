"""The plugin in German and French inside real OctoPrints: page, scripts, and what the plugin itself says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.demo.octoprint import ADMIN
from tests.e2e.octoprint_server import Visitor, running, versions

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=versions() or ["1.11.8"])
def visitor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    with running(request.param, tmp_path_factory.mktemp("octoprint")) as octoprint:
        yield Visitor(octoprint.url).log_in(ADMIN, octoprint.password)


WORDS = [
    # language, in the page, in the scripts, said by the plugin
    (
        "de",
        "Status dieses Druckers an das MES übermitteln",
        "Kopplung anfordern",
        "Die Adresse der Bridge ist nicht eingetragen",
    ),
    (
        "fr",
        "état de cette imprimante au MES",
        "La passerelle est joignable.",
        "adresse de la passerelle",
    ),
    ("en", "Report this printer", "", "The bridge's address is not set"),
]


@pytest.mark.parametrize(("language", "page", "script", "told"), WORDS)
def test_the_plugin_speaks_the_language_that_is_asked_for(
    visitor: Visitor, language: str, page: str, script: str, told: str
) -> None:
    assert page in visitor.get(f"/?l10n={language}").text
    assert script in visitor.get(f"/i18n/{language}/messages.js").text.encode().decode("unicode_escape")
    answer = visitor.session.get(
        visitor.url + "/api/plugin/mesbridge", headers={"X-Locale": language}, timeout=30
    )
    assert told in answer.json()["idle"]
