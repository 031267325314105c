"""Whether the bridge is well, for whoever watches over it: ``/healthz``."""

from __future__ import annotations

from aiohttp import web


class Health:
    """Answers as long as the event loop turns."""

    def add_routes(self, application: web.Application) -> None:
        """Have `application` answer."""
        application.router.add_get("/healthz", self._alive)

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})
