"""The bridge told to the network by mDNS (RFC 6762, RFC 6763), so that a plugin's settings tab can find it.

In: the bridge's name and where plugins are heard. Out: a service ``_mesbridge._tcp.local.`` as long as the bridge
runs. It is a convenience: whatever goes wrong here is logged, and the bridge goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bridge.opcua.certificates import WILDCARDS
from bridge.settings import Settings

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

log = structlog.get_logger(__name__)

SERVICE = "_mesbridge._tcp.local."
_LONGEST_LABEL = 63  # bytes, RFC 1035
_END_WITHIN_S = 2.0
_LOOK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is told: `host` and `port` are those of the push port."""

    name: str
    bridge_id: str
    version: str
    host: str
    port: int
    https: bool


class Announcing:
    """Announces what `of` makes of the settings, and anew when that has become another."""

    def __init__(self, of: Callable[[Settings], Announcement]) -> None:
        self._of = of
        self._what: Announcement | None = None
        self._task: asyncio.Task[None] | None = None

    def tell(self, settings: Settings) -> None:
        """Announce the bridge as the `settings` say, or not at all."""
        what = self._of(settings) if settings.push.announce else None
        if what == self._what:
            return
        self._what, before = what, self._task
        self._task = asyncio.create_task(self._instead_of(before, what), name="mdns")

    async def end(self) -> None:
        """Take back what was announced."""
        await _ended(self._task)

    async def _instead_of(self, before: asyncio.Task[None] | None, what: Announcement | None) -> None:
        await _ended(before)
        if what is not None:
            await announce(what)


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def announce(what: Announcement) -> None:
    """Until cancelled, whatever this computer's addresses become. A bridge on loopback is not announced."""
    failed = ""
    while True:
        try:
            addresses = await asyncio.to_thread(_addresses, what.host)
            if addresses:
                await _tell(what, addresses)
            elif what.host not in WILDCARDS:
                log.debug("not announced: only this computer can reach the bridge", host=what.host)
                return
            failed = ""
        except Exception as error:  # noqa: BLE001 (a convenience must not stop the bridge)
            if failed != (failed := str(error) or type(error).__name__):
                log.warning(
                    "the bridge cannot be announced by mDNS: enter its address in the plugin's settings tab, or set"
                    " push.announce = false",
                    error=failed,
                )
        await asyncio.sleep(_LOOK_EVERY_S)


async def _tell(what: Announcement, addresses: list[str]) -> None:
    """As long as these are the addresses."""
    # Only now, and beside the loop: it takes as long as a tenth of the start.
    module = await asyncio.to_thread(__import__, "zeroconf.asyncio")
    zeroconf = module.asyncio.AsyncZeroconf(interfaces=[a for a in addresses if ":" not in a] or addresses)
    try:
        info = await asyncio.to_thread(_info, what, addresses)
        await (await zeroconf.async_register_service(info, allow_name_change=True))
        log.info("announced by mDNS", name=info.name, addresses=addresses)
        while await asyncio.to_thread(_addresses, what.host) == addresses:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_WITHIN_S):
                await zeroconf.async_unregister_all_services()
                await zeroconf.async_close()


def _info(what: Announcement, addresses: list[str]) -> ServiceInfo:
    from zeroconf import ServiceInfo

    return ServiceInfo(
        SERVICE,
        f"{_label(what.name, what.bridge_id)}.{SERVICE}",
        port=what.port,
        properties={"version": what.version, "id": what.bridge_id, "https": "1" if what.https else "0"},
        server=f"{what.bridge_id}.local.",
        parsed_addresses=addresses,
    )


def _label(name: str, bridge_id: str) -> str:
    """`name` as one label of a domain name, where a dot would end it; two bridges of one name stay apart."""
    text, mark = name.replace(".", " ").strip() or "MESBridge", f" ({bridge_id[-4:]})"
    while len((text + mark).encode()) > _LONGEST_LABEL:
        text = text[:-1]
    return text + mark


def _addresses(host: str) -> list[str]:
    """The addresses under which others reach `host`; none for loopback. May ask the resolver."""
    if host in WILDCARDS:
        import ifaddr

        found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)]
    else:
        known = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        found = [str(one[4][0]) for one in known]
    parsed = {address: ipaddress.ip_address(address) for address in dict.fromkeys(found)}
    return [text for text, address in parsed.items() if not (address.is_loopback or address.is_link_local)]
