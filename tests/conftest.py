"""How the tests are shared out among workers: what uses the same OctoPrint or the same module stays together."""

from __future__ import annotations

import pytest

from bridge.demo.octoprint import TREE

END_TO_END = TREE / "tests" / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Real processes mostly wait: they begin first, and the short tests fill the gaps.
    items.sort(key=lambda item: not item.path.is_relative_to(END_TO_END))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    """The module, and of a module that goes through the OctoPrint versions one of them."""
    versions = [value for value in _parameters(item) if (TREE / ".octoprint" / value).is_dir()]
    return " ".join([item.path.name, *versions])


def _parameters(item: pytest.Item) -> list[str]:
    if not item.path.is_relative_to(END_TO_END) or not hasattr(item, "callspec"):
        return []
    return [
        value for value in item.callspec.params.values() if isinstance(value, str) and value[:1].isdigit()
    ]
