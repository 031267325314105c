"""The port for browsers and monitors. In: an HTTP application made of the routes that others add. Out: it, served."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from bridge.settings import WebSettings
from bridge.sources import door

_LARGEST_BODY = 16 * 1024


class WebServer:
    """Serves what the `parts` add to its application; each is a function that takes that and adds its routes."""

    def __init__(
        self,
        settings: WebSettings,
        parts: tuple[Callable[[web.Application], None], ...],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._ssl_context = ssl_context
        self._parts = parts

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[str, int]]:
        """As long as the context lasts; gives host and port. Raises `OSError`."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        for add_routes in self._parts:
            add_routes(application)
        async with door.serve(
            application, self._settings.host, self._settings.port, self._ssl_context
        ) as where:
            yield where
