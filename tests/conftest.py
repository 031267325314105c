"""How the tests are shared out among workers: what uses the same OctoPrint or the same module stays together."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TREE = Path(__file__).resolve().parents[1]
END_TO_END = TREE / "tests" / "e2e"
VERSIONS = frozenset(path.name for path in (TREE / ".octoprint").glob("*"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else what the tests start would ignore it, too


class BySite(LoadScopeScheduling):
    """One worker runs a module in order, or, of a module that goes through the OctoPrint versions, one of them."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        return " ".join([module, *VERSIONS.intersection(re.split(r"[\[\]-]", test))])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> BySite:
    return BySite(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Real processes mostly wait: they begin first, and the short tests fill the gaps. Long modules before short ones,
    # or the last of them would keep one worker busy while the others have ended.
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (not item.path.is_relative_to(END_TO_END), -tests[item.path]))
