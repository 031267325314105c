"""What systemd is told of the service (sd_notify(3)): that it serves, reloads, stops, and is alive.

In: words, and whether the bridge is well. Out: datagrams to the socket that systemd names in the environment; without
one nothing is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import structlog

log = structlog.get_logger(__name__)


class Notifier:
    """Tells the service manager; a word that cannot be told is no reason not to serve."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        usable = address[:1] in ("/", "@") and sys.platform != "win32"
        self._address = address.replace("@", "\0", 1) if usable else None
        self.watchdog = _seconds(environment) if usable else None
        """Seconds within which a sign of life is expected, if it is."""
        self._failing = False

    def ready(self, status: str) -> None:
        """All listens."""
        self._tell("READY=1", f"STATUS={status}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is taken over, as long as the context lasts."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._tell(f"STATUS={text}")

    async def watch(self, unwell: Callable[[], Awaitable[list[str]]]) -> None:
        """Give signs of life as long as nothing is `unwell`, until cancelled: without them the service is restarted."""
        if self.watchdog is None:
            return
        silent = False
        while True:
            reasons = await unwell()
            if not reasons:
                self._tell("WATCHDOG=1")
            elif not silent:
                log.error("the bridge is not well: no sign of life is given", reasons=reasons)
            silent = bool(reasons)
            await asyncio.sleep(self.watchdog / 3)

    def _tell(self, *lines: str) -> None:
        if self._address is None or sys.platform == "win32":
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)
                one.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._address)
        except OSError as error:
            if not self._failing:
                log.warning(
                    "systemd cannot be told how it stands: see NotifyAccess= and the restrictions of the unit",
                    what=lines[0],
                    error=error.strerror or str(error),
                )
            self._failing = True
        else:
            self._failing = False


def _seconds(environment: Mapping[str, str]) -> float | None:
    """What systemd expects of this process; it names it, since children see the same environment."""
    try:
        meant = int(environment.get("WATCHDOG_PID", os.getpid())) == os.getpid()
        seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return seconds if meant and seconds > 0 else None
