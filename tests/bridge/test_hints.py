"""Commands in texts are those that a person can give as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.hints import with_settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`mesbridge pair open` there", "`mesbridge pair open --settings a.toml` there"),
        (
            "`mesbridge pair accept 1` or `mesbridge user add NAME`",
            "`mesbridge pair accept 1 --settings a.toml` or `mesbridge user add NAME --settings a.toml`",
        ),
        ("`mesbridge reload` gives it", "`mesbridge reload --settings a.toml` gives it"),
        ("`mesbridge trust accept 0a1b`", "`mesbridge trust accept 0a1b --settings a.toml`"),
        ("`mesbridge check config.json` has no settings", "`mesbridge check config.json` has no settings"),
        ("mesbridge pair is one of the `commands`", "mesbridge pair is one of the `commands`"),
    ],
)
def test_each_suggested_command_takes_the_settings_that_were_given(text: str, shown: str) -> None:
    assert with_settings(text, Path("a.toml")) == shown


def test_a_file_name_is_quoted_as_a_shell_wants_it() -> None:
    shown = with_settings("`mesbridge pair list`", Path("/etc/hall 3/a.toml"))
    assert shown == "`mesbridge pair list --settings '/etc/hall 3/a.toml'`"


def test_without_settings_a_command_stays_as_it_is() -> None:
    assert with_settings("`mesbridge pair list`", None) == "`mesbridge pair list`"
