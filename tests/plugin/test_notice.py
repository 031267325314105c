"""What a person is told, in his language."""

from __future__ import annotations

import pytest

from octoprint_mesbridge.notice import N_, Notice, NoticeError

GERMAN = {
    "No answer from %(url)s: %(reason)s": "Keine Antwort von %(url)s: %(reason)s",
    "refused": "abgelehnt",
    "100 %% of %(count)d": "100 %% von %(count)d",
}


def german(template: str) -> str:
    return GERMAN.get(template, template)


def test_a_notice_is_english_in_logs_and_localised_for_a_person_with_what_is_in_it() -> None:
    notice = Notice(
        N_("No answer from %(url)s: %(reason)s"), {"url": "http://b/%s", "reason": Notice(N_("refused"))}
    )
    assert str(notice) == "No answer from http://b/%s: refused"
    assert notice.localised(german) == "Keine Antwort von http://b/%s: abgelehnt"


def test_a_per_cent_sign_is_written_twice_whether_or_not_there_are_values() -> None:
    assert str(Notice("100 %%")) == "100 %"
    assert Notice("100 %% of %(count)d", {"count": 3}).localised(german) == "100 % von 3"


@pytest.mark.parametrize("broken", ["Zu %(wenig)s", "Zu %(url", "%(url)d"])
def test_a_translation_with_other_places_is_not_used(broken: str) -> None:
    assert Notice("At %(url)s", {"url": "here"}).localised(lambda _: broken) == "At here"


def test_an_error_carries_its_notice() -> None:
    assert str(NoticeError(Notice("At %(url)s", {"url": "here"}))) == "At here"
