"""The port for browsers and monitors, with all that is served there: page, health and metrics, and who may see them.

In: the parts of the bridge. Out: the port, served. Without it the machines are served all the same.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
from aiohttp import web

from bridge.settings import WebSettings
from bridge.sources import door
from bridge.web.guard import Guard
from bridge.web.health import Health
from bridge.web.metrics import Metrics, Parts
from bridge.web.page import StatusPage

log = structlog.get_logger(__name__)

_LARGEST_BODY = 16 * 1024


class Front:
    """`folder` is where users and sessions are kept, `name` what the bridge is called."""

    def __init__(
        self,
        settings: WebSettings,
        folder: Path,
        name: str,
        health: Health,
        page: StatusPage,
        measured: Parts,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._ssl_context = ssl_context
        self._guard = Guard(settings, folder, name)
        metrics = Metrics(measured, self._guard.lets_see, settings.metrics_token_file)
        self._parts: tuple[Callable[[web.Application], None], ...] = (
            self._guard.add_routes,
            health.add_routes,
            metrics.add_routes,
            page.add_routes,
        )

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[str, int]]:
        """As long as the context lasts; gives host and port. Raises `OSError`."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        for add_routes in self._parts:
            add_routes(application)
        host, port = self._settings.host, self._settings.port
        async with door.serve(application, host, port, self._ssl_context) as (host, port):
            scheme = "https" if self._ssl_context else "http"
            log.info("status page", url=f"{scheme}://{host}:{port}/")
            self._guard.warn()
            yield host, port
