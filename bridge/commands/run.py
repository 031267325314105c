"""`mesbridge run`: reads both files, says what is wrong with them, and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog

from bridge import instances, logs, settings
from bridge.aggregator import Config, ConfigUnreadable, load
from bridge.https import HttpsError
from bridge.identity import IdentityError
from bridge.log import LogError
from bridge.mes import MesError
from bridge.opcua import OpcUaError
from bridge.reload import tell
from bridge.service import Service, ServiceError
from bridge.state import StateFolderError

log = structlog.get_logger(__name__)

_CANNOT_START = (ServiceError, StateFolderError, LogError, IdentityError, MesError, OpcUaError, HttpsError)


def run(config_path: Path, settings_path: Path | None) -> int:
    """Serve. 0 after a clean stop, 1 when the service cannot start, 2 when a file cannot be used."""
    try:
        chosen = settings.load(settings_path)
        config = load(config_path)
    except (settings.SettingsError, ConfigUnreadable) as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    logs.configure(
        chosen.bridge.log_level, chosen.bridge.log_format, settings_path and settings_path.absolute()
    )
    _tell_problems(instances.examined(config, chosen.mes, settings_path and settings_path.absolute()))
    try:
        asyncio.run(_serve(Service(config, chosen, settings_path)))
    except _CANNOT_START as error:
        log.error("MESBridge cannot start", detail=str(error))
        return 1
    return 0


def _tell_problems(config: Config) -> None:
    """One bad entry never stops the others, but each is named."""
    for problem in config.problems:
        tell(problem)
    for entry in config.machines:
        for problem in entry.problems:
            tell(problem, entry=entry.index)


async def _serve(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # asyncio has no signal handlers there; the handler runs in the main thread, between two callbacks.
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        terminal = sys.stdin is not None and sys.stdin.isatty()
        # The end of the terminal in which it was started gives the same signal, and is the end of the bridge.
        loop.add_signal_handler(
            signal.SIGHUP, lambda: stop.set() if terminal and not os.isatty(0) else service.reload()
        )
    await service.run(stop)
