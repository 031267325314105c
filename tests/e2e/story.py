"""What a bridge hears of an OctoPrint, told in short, so that a test can say it as a story."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge import wire
from bridge.demo.octoprint import OctoPrint
from tests.plugin.receiver import Receiver

SAMPLES = wire.COALESCED

_SHOWN = {
    wire.STATE: ("state", "error"),
    wire.SNAPSHOT: ("reason", "state"),
    wire.JOB_STARTED: ("file", "origin"),
    wire.JOB_ENDED: ("result", "reason"),
    wire.ERROR: ("text",),
}


def told(event: wire.Event) -> tuple[str, ...]:
    """The kind of `event` and what tells most of its data."""
    values = (event.data[field] for field in _SHOWN.get(event.kind, ()))
    return (event.kind, *(value for value in values if value is not None))


@dataclass
class Stream:
    """One OctoPrint, and what a bridge received from it."""

    octoprint: OctoPrint
    bridge: Receiver

    def story(self, first: int = 0) -> list[tuple[str, ...]]:
        """What was told since the event with index `first`, without the samples."""
        return [told(event) for event in self.bridge.events()[first:] if event.kind not in SAMPLES]

    @contextmanager
    def expects(
        self, *story: tuple[str, ...], or_again: str | None = None, timeout: float = 30.0
    ) -> Iterator[None]:
        """What happens within the block is told like this, and nothing else for a moment longer.

        An event of the kind `or_again` may come twice, if it tells the same.
        """
        first = len(self.bridge.events())
        yield
        deadline = time.monotonic() + timeout
        while len(self.story(first)) < len(story) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.7)
        heard = self.story(first)
        if len(heard) > len(story) and heard[-1] == heard[-2] and heard[-1][0] == or_again:
            heard.pop()
        assert heard == list(story), heard
