"""Many simulated OctoPrints at one port, each at a path of its own, as behind a reverse proxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from tests.simulated.octoprint import SimulatedOctoPrint


class Plant:
    """Simulated OctoPrints by number, all at one port."""

    def __init__(self, octoprints: Sequence[SimulatedOctoPrint]) -> None:
        self.octoprints = octoprints
        self.url = ""

    def url_of(self, number: int) -> str:
        """The address of one, for config.json."""
        return f"{self.url}/p/{number}"

    @contextlib.asynccontextmanager
    async def served(self, port: int = 0) -> AsyncIterator[Plant]:
        """Serve them on the loopback interface, on a free port when it is 0."""
        app = web.Application()
        app.router.add_route("*", r"/p/{number:\d+}{path:/.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            for octoprint in self.octoprints:
                await octoprint.stop()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        if number >= len(self.octoprints):
            return web.Response(status=404)
        return await self.octoprints[number].answer(request, request.match_info["path"])
