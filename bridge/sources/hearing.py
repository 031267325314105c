"""How machines are heard: their plugins' pushes, what is asked of an OctoPrint without one, and the silence of both.

In flow pushes, and machines with url and key; out flow events in the log. This is where the sources are tied together:
a verified OctoPrint is followed from outside until its plugin is heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from bridge.log import Log
from bridge.machine import Machine
from bridge.sources.presence import Presence
from bridge.sources.pull import PullSource
from bridge.sources.push import PushReceiver
from bridge.sources.verification import Verification


class Hearing:
    """The sources of events into `store`. `machine` gives what the log says of one; `silent_after` is in seconds."""

    def __init__(self, store: Log, machine: Callable[[str], Machine], silent_after: float) -> None:
        self.presence = Presence(store, silent_after, time.monotonic)
        self.pull = PullSource(store, machine, self._answers, silent_after, time.monotonic)
        self.verification = Verification(self.pull.follow)
        self.receiver = PushReceiver(store, self._pushes, lambda name: machine(name).pulled_until is None)

    def count_silence_from(self, seconds: float) -> None:
        """From now on a machine counts as silent after so many."""
        self.presence.silent_after = self.pull.silent_after = seconds

    def running(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What has to run for it, by name."""
        yield "presence", self.presence.watch()
        yield "verification", self.verification.run()
        yield "pull", self.pull.run()

    async def _pushes(self, machine: str) -> None:
        self.verification.heard(machine)  # before anybody can replace the key that signed
        if await self.pull.plugin_heard(machine):
            self.receiver.want_snapshot(machine)
        await self.presence.heard(machine, "the plugin delivers")

    async def _answers(self, machine: str) -> None:
        await self.presence.heard(machine, "OctoPrint answers")
