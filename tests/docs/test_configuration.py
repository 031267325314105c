"""The reference of the settings and of config.json is what the code says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bridge.settings import Settings
from tests.docs import configuration
from tests.docs.configuration import DOCUMENT, SampleError, document, explained


def test_the_reference_is_that_of_the_code() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "out of date: run `make docs` and commit"


def test_every_section_of_the_settings_has_a_heading() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for section in dataclasses.fields(Settings):
        assert f"### `[{section.name}]`" in text or f"### `[[{section.name}]]`" in text


SAMPLE = """\
# about the file
[bridge]
# What it is,
# in two lines.
first = "a # b"   # behind it
                  # and further
# On a line of its own.
# second = 2

# [[bridge.part]]   # for each part
# third = true
"""


def test_sentences_are_taken_from_beside_before_and_after_a_key() -> None:
    sections = explained(SAMPLE)
    assert sections["bridge"].text == "What it is, in two lines."
    assert sections["bridge"].keys == {"first": "behind it and further", "second": "On a line of its own."}
    assert sections["bridge.part"].text == "for each part"
    assert sections["bridge.part"].keys == {"third": ""}


def test_a_key_that_the_sample_does_not_explain_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text("[bridge]\nstate_folder = 'x' # where\nlog_level = 1\n")
    monkeypatch.setattr(configuration, "SAMPLE", sample)
    with pytest.raises(SampleError, match=r"sample.toml: \[bridge\] log_level is not explained"):
        document()
