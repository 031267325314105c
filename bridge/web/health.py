"""Whether the bridge is well, for whoever watches over it.

In: what each part says of itself. Out: ``/healthz`` (it lives: the event loop turns and the log's writer answers; if
not, a restart may help) and ``/readyz`` (it serves). Both answer 200, or 503 with the reasons, and are open to all:
they tell nothing of machines. While the bridge starts or stops nothing else is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.log import LogError

OPEN = ("/healthz", "/readyz")
ANSWER_WITHIN_S = 5.0
"""Seconds that the log's writer has for an answer: a slow disk is no reason for a restart, one that hangs is."""

Check = Callable[[], str | None]
"""What stands in the way of serving, in words, or None."""


class Health:
    """`answer` returns once the log's writer has; the `checks` are by the name of the part."""

    def __init__(
        self, answer: Callable[[], Awaitable[object]], checks: Mapping[str, Check] | None = None
    ) -> None:
        self._answer = answer
        self._checks = checks or {}
        self.phase = "starting"
        """Or serving, or stopping."""

    def add_routes(self, application: web.Application) -> None:
        """Have `application` answer, and nothing else of it before the bridge serves."""
        application.middlewares.insert(0, self._wait)
        application.router.add_get("/healthz", self._alive)
        application.router.add_get("/readyz", self._ready)

    async def unwell(self) -> list[str]:
        """Why the bridge may need a restart; empty when it is well."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._answer()
        except TimeoutError:
            return [f"log: its writer has not answered for {ANSWER_WITHIN_S:g} s"]
        except LogError as error:
            # Nothing is written for an answer: the file itself cannot be used, or is closed since the bridge stops.
            return [] if self.phase == "stopping" else [f"log: {error}"]
        return []

    async def missing(self) -> list[str]:
        """Why the bridge does not serve; empty when it does."""
        if self.phase != "serving":
            return [f"the bridge is {self.phase}"]
        said = ((name, check()) for name, check in self._checks.items())
        return await self.unwell() + [f"{name}: {reason}" for name, reason in said if reason is not None]

    async def _alive(self, _: web.Request) -> web.Response:
        return _answered("alive", await self.unwell())

    async def _ready(self, _: web.Request) -> web.Response:
        return _answered("ready", await self.missing())

    @web.middleware
    async def _wait(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.phase == "serving" or request.path in OPEN:
            return await handler(request)
        return web.Response(status=503, headers={"Retry-After": "2"}, text=f"MESBridge is {self.phase}\n")


def _answered(what: str, reasons: list[str]) -> web.Response:
    body = {what: not reasons, "reasons": reasons}
    return web.json_response(body, status=503 if reasons else 200, headers={"Cache-Control": "no-store"})
