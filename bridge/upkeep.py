"""What has to be done now and then for the stores: checkpoints, and forgetting what nobody needs any more.

In: the machines, the log and the MES part. Out: a checkpoint, and smaller files.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import structlog

from bridge import wire
from bridge.fleet import Fleet
from bridge.log import Log, LogError
from bridge.mes import MesError, MesSink
from bridge.settings import BridgeSettings

log = structlog.get_logger(__name__)

_CHECKPOINT_EVERY_S = 30.0
_TRIM_EVERY_S = 300.0


class Upkeep:
    """`settings` says, each time, how much is to be kept."""

    def __init__(
        self, fleet: Fleet, store: Log, mes: MesSink, settings: Callable[[], BridgeSettings]
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._mes = mes
        self._settings = settings
        self._troubles: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        next_trim = time.monotonic()
        while True:
            await asyncio.sleep(_CHECKPOINT_EVERY_S)
            await self.checkpoint()
            if time.monotonic() >= next_trim:
                next_trim += _TRIM_EVERY_S
                await self._trim()

    async def checkpoint(self) -> None:
        """Save where the machines stand."""
        with self._telling("checkpoints fail: the next start takes longer"):
            await self._fleet.checkpoint(self._store, self._mes.drain)

    async def _trim(self) -> None:
        keep = self._settings()
        before = wire.utc_now() - timedelta(days=keep.keep_days)
        with self._telling("old events are not forgotten: the log grows"):
            await self._fleet.trim(self._store, before, keep.log_size * 2**20)
            await asyncio.to_thread(self._mes.tidy)

    @contextlib.contextmanager
    def _telling(self, trouble: str) -> Iterator[None]:
        """Say when a trouble with the stores begins, and when it is over; it is tried again by itself."""
        try:
            yield
        except (LogError, MesError) as error:
            if trouble not in self._troubles:
                log.error(
                    "the stores of the bridge cannot be looked after",
                    detail=trouble,
                    error=str(error),
                    hint="see that the disk is not full, and that the bridge's user may write there",
                )
            self._troubles.add(trouble)
        else:
            if trouble in self._troubles:
                self._troubles.discard(trouble)
                log.info("the stores of the bridge can be looked after again", was=trouble)
