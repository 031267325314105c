"""What a person is told, kept as data until it is known in which language.

Texts arise in threads that serve nobody's request, where no language is known; the API says them in the
language of whoever asks. `N_` marks a template for extraction; logs use the English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


def N_(template: str) -> str:
    """Mark `template` as one to be translated."""
    return template


@dataclass(frozen=True)
class Notice:
    """An English `template` with ``%(name)s`` places, and what stands in them: texts, numbers or notices."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template % self.values

    def localised(self, gettext: Callable[[str], str]) -> str:
        """The text in the language of `gettext`; in English where a translation has other places."""
        values = {
            name: value.localised(gettext) if isinstance(value, Notice) else value
            for name, value in self.values.items()
        }
        try:
            return gettext(self.template) % values
        except (KeyError, TypeError, ValueError):
            return self.template % values


class NoticeError(Exception):
    """An error with words for a person."""

    def __init__(self, notice: Notice) -> None:
        super().__init__(str(notice))
        self.notice = notice
