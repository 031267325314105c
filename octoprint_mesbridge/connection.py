"""The commands of the tab that concern the bridge: test it, find it, pair with it; and which certificate it has.

In flow the commands and what is set; out flow their answers, and after a pairing the new settings and a new key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bridge import wire

from . import probe
from .access import Access
from .discovery import Browse, find_bridges
from .line import BadAddress, base_url, origin
from .notice import N_, Notice, NoticeError
from .pairing import DONE, Pairing

URL, CERTIFICATE = "bridge_url", "bridge_certificate"
"""Settings. The second is ``{"origin": "https://host:port", "sha256": hex}``, and holds for that origin only."""


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
        self._travelling: str | None = None
        self.paired_at: float | None = None
        self._testing = threading.Lock()
        self._finding = threading.Lock()
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

    def push_keys(self) -> list[tuple[wire.PushKey, datetime | None]]:
        """`Access.push_keys` without the one that is on its way to a bridge, which cannot know it yet."""
        return [one for one in self._access.push_keys() if one[0].key_id != self._travelling]

    @property
    def is_handing_over(self) -> bool:
        """Whether a key is on its way to a bridge."""
        return any(key.key_id == self._travelling for key, _ in self._access.push_keys())

    def status(self) -> dict[str, Any]:
        address = str(self._settings.get([URL]) or "")
        certificate = self.certificate(address)
        return {
            "pinned": certificate and {"origin": origin(base_url(address)), "sha256": certificate},
            "pairing": self._pairing_status(),
        }

    def _pairing_status(self) -> dict[str, Any] | None:
        """A pairing that is done is forgotten with its key."""
        status = self._pairing.status()
        record = self._access.record
        is_over = status and status["state"] == DONE and (record is None or record.key_id != self._made)
        return None if is_over else status

    # ~~ commands: each gets a JSON object, and returns what its answer has beside the status

    def find(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        busy = N_("Bridges are being looked for already: wait until that has ended")
        with _one_at_a_time(self._finding, busy):
            return find_bridges(self._browse())

    def test(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        address = _text(data, "bridge_url") or str(self._settings.get([URL]) or "")
        keys = [key for key, _ in self._access.push_keys()]
        version = self._introduction()["plugin_version"]
        busy = N_("A connection is being tested already: wait until that has ended")
        with _one_at_a_time(self._testing, busy):
            report = probe.test_connection(address, keys, self.certificate(address), version)
        return {"test": report.record()}

    def request(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        self._pairing.request(_text(data, "bridge_url"), _text(data, "octoprint_url"))
        return {}

    def confirm(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._pairing.confirm(_text(data, "code")):
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
            api_key = self._access.offer()
            self._made = self._travelling = wire.PushKey.derive(api_key).key_id
            return api_key
        finally:
            self._on_change()

    def withdraw_key(self) -> None:
        try:
            if self._made is not None:
                self._access.withdraw(self._made)
        finally:
            self.keep_key()

    def keep_key(self) -> None:
        self._travelling = None
        self._on_change()

    def paired(self, url: str, certificate: str | None) -> None:
        self._travelling, self.paired_at = None, time.monotonic()
        pinned = {"origin": origin(url), "sha256": certificate} if certificate else None
        try:
            self._access.take_up(self._made or "")
            self._settings.set([CERTIFICATE], pinned)
            self._settings.set([URL], url)
            self._settings.save(trigger_event=True)
        finally:
            self._on_change()

    def pairing_changed(self) -> None:
        self._tell()


@contextmanager
def _one_at_a_time(lock: threading.Lock, busy: str) -> Iterator[None]:
    """Raises `NoticeError` with the words `busy` when another thread is in there."""
    if not lock.acquire(blocking=False):
        raise NoticeError(Notice(busy))
    try:
        yield
    finally:
        lock.release()


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
