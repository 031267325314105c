"""OctoPrint's push socket: logged in with an API key, subscribed to what is wanted, and read message by message."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

from bridge.sources.octoprint import KeyRefused, SocketRefused, Unreachable, ask

_PATH = "/sockjs/websocket"
_OPEN_WITHIN_S = 10.0
_PING_EVERY_S = 10.0
_LARGEST_MESSAGE = 8 << 20
_EVERY = 4
"""Of OctoPrint's half seconds, so often it tells state, progress and temperatures. Events come at once."""


class Lost(Exception):
    """The socket ended; it is opened again."""


class PushSocket:
    """One open socket; see `opened`."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection

    async def messages(self, within: float) -> Sequence[tuple[str, Any]]:
        """The next message's parts by name, such as ``current``; nothing when none came `within` these seconds.

        Raises `Lost`.
        """
        try:
            message = await self._connection.receive(timeout=within)
        except TimeoutError:
            return ()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Lost(f"closed by OctoPrint or the network ({message.type.name.lower()})")
        try:
            said = json.loads(message.data)
        except (ValueError, RecursionError):
            return ()
        return tuple(said.items()) if isinstance(said, Mapping) else ()

    async def log_in(self, auth: str) -> None:
        """Say who one is: what `login` returned. Raises `Lost`."""
        try:
            await self._connection.send_json({"auth": auth})
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"closed by OctoPrint or the network ({error})") from None


@contextlib.asynccontextmanager
async def opened(
    http: aiohttp.ClientSession, base: str, auth: str, events: Sequence[str]
) -> AsyncIterator[PushSocket]:
    """The socket of the OctoPrint at `base`, subscribed to its state and to `events`, and then logged in, so that it
    begins with one ``history``.

    Raises `SocketRefused`, `Lost`.
    """
    scheme, _, place = base.partition("://")
    address = f"{'wss' if scheme.lower() == 'https' else 'ws'}://{place}{_PATH}"
    try:
        connection = await http.ws_connect(
            address,
            heartbeat=_PING_EVERY_S,
            max_msg_size=_LARGEST_MESSAGE,
            timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
        )
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
        raise SocketRefused(
            f"the push socket of {base} cannot be opened ({error}); a reverse proxy before OctoPrint has to let"
            f" websockets through to {_PATH}"
        ) from None
    try:
        socket = PushSocket(connection)
        try:
            await connection.send_json({"throttle": _EVERY})
            wanted = {
                "state": {"logs": False, "messages": False},
                "events": list(events),
                "plugins": False,
            }
            await connection.send_json({"subscribe": wanted})
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"closed by OctoPrint or the network ({error})") from None
        await socket.log_in(auth)
        yield socket
    finally:
        with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError, OSError):
            await connection.close()


async def login(http: aiohttp.ClientSession, base: str, api_key: str) -> str:
    """What the socket wants as ``auth``: a session of the user to whom the key belongs.

    Raises `Unreachable`, `KeyRefused`, and `SocketRefused` when there is no such session.
    """
    status, user = await ask(http, "POST", base, "/api/login", api_key, {"passive": True})
    name, session = user.get("name"), user.get("session")
    if status in (400, 401, 403):  # 400: without a valid key OctoPrint misses what a browser would send
        raise KeyRefused(f"{base} does not accept the key of this machine any more; put in another one")
    if status != 200:
        raise Unreachable(f"{base}/api/login answers {status}; look into OctoPrint's log (octoprint.log)")
    if not isinstance(name, str) or not isinstance(session, str) or not name or ":" in name:
        raise SocketRefused(f"{base} gives no session for the key of this machine, so it has no push socket")
    return f"{name}:{session}"
