"""Bridges that announce themselves in the network (mDNS), found through OctoPrint's own discovery plugin.

In flow what anybody in the network may have announced; out flows what may be shown, and chosen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .hello import cleaned
from .notice import N_, Notice

SERVICE = "_mesbridge._tcp"
MOST = 50
_BROWSE_S = 3

Browse = Callable[..., Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Bridge:
    """One that announced itself; none of it is proved."""

    name: str
    url: str
    version: str
    https: bool


def find_bridges(browse: Browse | None) -> dict[str, Any]:
    """``bridges``, by name, and ``note``, a notice or None; `browse` is OctoPrint's ``zeroconf_browse``."""
    if browse is None:
        note = N_(
            "Bridges cannot be looked for, because OctoPrint's discovery plugin is switched off or missing: type the"
            " bridge's address in"
        )
        return {"bridges": [], "note": Notice(note)}
    found = sound(browse(SERVICE, block=True, browse_timeout=_BROWSE_S, resolve_timeout=_BROWSE_S))
    note = N_(
        "No bridge announces itself in this network: check that it runs and that its settings do not switch"
        " announcing off, or type its address in"
    )
    return {"bridges": [asdict(bridge) for bridge in found], "note": None if found else Notice(note)}


def sound(results: Iterable[Mapping[str, Any]]) -> list[Bridge]:
    """Those of `results` that could be a bridge, each once, in the order of their names, `MOST` at most."""
    found: dict[str, Bridge] = {}
    for result in list(results):
        bridge = _bridge(result)
        if bridge is not None and len(found) < MOST:
            found[bridge.url] = bridge
    return sorted(found.values(), key=lambda bridge: (bridge.name.casefold(), bridge.url))


def _bridge(result: Mapping[str, Any]) -> Bridge | None:
    try:
        host = ipaddress.ip_address(str(result.get("host")))
        port = result.get("port", result.get("post"))  # its documentation says the second
        if host.is_unspecified or host.is_multicast or not isinstance(port, int) or not 0 < port < 65536:
            return None
        described = result.get("txt_record") or {}
        https = _text(described.get(b"https")) == "1"
        place = f"[{host}]" if host.version == 6 else str(host)
        return Bridge(
            name=cleaned(result.get("name"), 128) or place,
            url=f"{'https' if https else 'http'}://{place}:{port}",
            version=cleaned(_text(described.get(b"version")), 32),
            https=https,
        )
    except (ValueError, AttributeError):
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
