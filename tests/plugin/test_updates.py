"""Where updates come from."""

from __future__ import annotations

from email.message import Message

import pytest

from octoprint_mesbridge import updates


def metadata(*urls: str) -> Message:
    made = Message()
    made["Version"] = "1.2.3"
    for url in urls:
        made["Project-URL"] = url
    return made


def test_releases_of_the_repository_that_the_distribution_names_are_checked() -> None:
    named = metadata(
        "Documentation, https://docs.example/", "Repository, https://github.com/some-one/Mes.Bridge"
    )
    assert updates.checks(named) == {
        "mesbridge": {
            "displayName": "MESBridge",
            "displayVersion": "1.2.3",
            "type": "github_release",
            "user": "some-one",
            "repo": "Mes.Bridge",
            "current": "1.2.3",
            "pip": "https://github.com/some-one/Mes.Bridge/archive/{target_version}.zip",
        }
    }


@pytest.mark.parametrize("address", ["https://github.com/a/b.git", "https://github.com/a/b/"])
def test_other_spellings_of_the_same_address_are_understood(address: str) -> None:
    check = updates.checks(metadata(f"repository, {address}"))["mesbridge"]
    assert (check["user"], check["repo"]) == ("a", "b")


@pytest.mark.parametrize(
    "urls",
    [
        [],
        ["Homepage, https://github.com/a/b"],
        ["Repository, http://github.com/a/b"],
        ["Repository, https://github.com.example/a/b"],
        ["Repository, https://github.com/a"],
        ["Repository, https://github.com/a/b/tree/main"],
        ["Repository, https://github.com/a/b?x={evil}"],
        ["Repository"],
    ],
)
def test_without_a_repository_that_can_be_trusted_nothing_is_checked(urls: list[str]) -> None:
    assert updates.checks(metadata(*urls)) == {}


def test_a_plugin_that_is_not_installed_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "DISTRIBUTION", "no-such-distribution")
    assert updates.check_config() == {}
