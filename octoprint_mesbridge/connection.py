"""The commands of the tab that concern the bridge: test it, find it, pair with it; and which certificate it has.

In flow the commands and what is set; out flow their answers, and after a pairing the new settings and a new key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from bridge import wire

from . import probe
from .access import Access
from .discovery import Browse, find_bridges
from .line import BadAddress, base_url, origin
from .notice import N_, Notice, NoticeError
from .pairing import Pairing

URL, CERTIFICATE = "bridge_url", "bridge_certificate"
"""Settings. The second is ``{"origin": "https://host:port", "sha256": hex}``, and holds for that origin only."""

OVERLAP = timedelta(hours=1)
"""So long the key before stays valid when pairing makes a new one: whoever uses it learns of the new one."""


class Connection:
    """`introduction()` says who this OctoPrint is, `browse()` gives OctoPrint's ``zeroconf_browse`` or None,

    `on_change()` is called when settings or keys changed, `tell()` when there is something new to be seen.
    """

    def __init__(
        self,
        settings: Any,
        access: Access,
        logger: Any,
        introduction: Callable[[], Mapping[str, str]],
        browse: Callable[[], Browse | None],
        on_change: Callable[[], None],
        tell: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._access = access
        self._introduction = introduction
        self._browse = browse
        self._on_change = on_change
        self._tell = tell
        self._made: str | None = None
        self._pairing = Pairing(self, logger)

    def stop(self, timeout: float) -> None:
        self._pairing.stop(timeout)

    def certificate(self, address: str) -> str | None:
        """What is pinned for the bridge at `address` (SHA-256, hex)."""
        pinned = self._settings.get([CERTIFICATE])
        try:
            if isinstance(pinned, dict) and pinned.get("origin") == origin(base_url(address)):
                return str(pinned.get("sha256"))
        except BadAddress:
            pass
        return None

    def status(self) -> dict[str, Any]:
        address = str(self._settings.get([URL]) or "")
        certificate = self.certificate(address)
        return {
            "pinned": certificate and {"origin": origin(base_url(address)), "sha256": certificate},
            "pairing": self._pairing.status(),
        }

    # ~~ commands: each gets a JSON object, and returns what its answer has beside the status

    def find(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return find_bridges(self._browse())

    def test(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        address = _text(data, "bridge_url") or str(self._settings.get([URL]) or "")
        keys = [key for key, _ in self._access.push_keys()]
        version = self._introduction()["plugin_version"]
        return {"test": probe.test_connection(address, keys, self.certificate(address), version).record()}

    def request(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        self._pairing.request(_text(data, "bridge_url"), _text(data, "octoprint_url"))
        return {}

    def confirm(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._pairing.confirm(_text(data, "code") or None):
            raise NoticeError(
                Notice(N_("There is no such code to confirm (any more): request pairing again"))
            )
        return {}

    def cancel(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        self._pairing.cancel()
        return {}

    # ~~ `pairing.Owner`

    def introduction(self) -> Mapping[str, str]:
        return self._introduction()

    def make_key(self) -> str:
        try:
            has_key = self._access.record is not None
            api_key = self._access.rotate(OVERLAP) if has_key else self._access.generate()
            self._made = wire.PushKey.derive(api_key).key_id
            return api_key
        finally:
            self._on_change()

    def withdraw_key(self) -> None:
        try:
            if self._made is not None:
                self._access.withdraw(self._made)
        finally:
            self._on_change()

    def paired(self, url: str, certificate: str | None) -> None:
        pinned = {"origin": origin(url), "sha256": certificate} if certificate else None
        self._settings.set([CERTIFICATE], pinned)
        self._settings.set([URL], url)
        self._settings.save(trigger_event=True)
        self._on_change()

    def pairing_changed(self) -> None:
        self._tell()


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
