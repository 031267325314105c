"""Machines taken in while the bridge runs: what `mesbridge pair` asks for, and keys that plugins handed over.

In flow the commands of the bridge's person and the keys that plugins hand over; out flow config.json, the secret
file, and the machine served.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from bridge import identity, wire
from bridge.aggregator import edit, load
from bridge.control import Command, Refused
from bridge.identity import IdentityError
from bridge.settings import Settings
from bridge.site import Served, Site, assign
from bridge.sources.pairing import Accepted, AdoptionError, PairingDesk, PairingRefused, Request
from bridge.sources.verification import Verification

log = structlog.get_logger(__name__)


class Adoption:
    """Writes an accepted machine into config.json at `path`, reads that again, and serves it on `site`."""

    def __init__(self, path: Path, settings: Settings, folder: Path, site: Site) -> None:
        self.path = path.absolute()
        self.settings = settings
        """Those in force."""
        self.lock = asyncio.Lock()
        """Held by whoever reads config.json and serves what it says."""
        self._folder = folder
        self._site = site
        self.written: dict[str, tuple[str, dict[str, Any]]] = {}
        """By request: the machine, and what was written, as it is shown."""

    async def adopt(self, accepted: Accepted) -> str:
        """Take the machine in; returns what to tell the people. Raises `AdoptionError`."""
        mes_ids = accepted.mes_ids
        if mes_ids is None:
            raise AdoptionError("the bridge's person did not say in which MES the machine is to be shown")
        async with self.lock:
            written, one = await asyncio.to_thread(self._write, accepted, mes_ids, list(self._site))
            return self._serve(accepted, written, one)

    def _serve(self, accepted: Accepted, written: edit.Written, one: Served) -> str:
        self.written[accepted.id] = (one.machine, _shown(written))
        try:
            self._site.serve(one)
        except Exception:  # the files are right, and the plugin must keep its key: the next start serves it
            log.exception("machine written down, but not served: restart the bridge", machine=one.machine)
            return f"this machine is written down as {one.machine}; the bridge serves it when it is restarted"
        log.info(
            "machine taken in",
            machine=one.machine,
            url=one.url,
            entry=one.index,
            secret_file=str(written.secret_file or self.path),
            replaced=written.replaced,
        )
        return f"this machine is served as {one.machine}"

    def _write(
        self, accepted: Accepted, mes_ids: tuple[int, ...], served: Sequence[Served]
    ) -> tuple[edit.Written, Served]:
        """What was written, and the machine as it is to be served. Raises `AdoptionError`; then nothing was changed."""
        key_id = wire.PushKey.derive(accepted.key.reveal()).key_id
        found: list[Served] = []

        def use(written: edit.Written) -> None:
            entries = assign(load(self.path), self.settings, self._folder)
            found.append(_entry(entries, written, served, self.path))

        try:
            identity.remember_paired(self._folder, key_id)
            written = edit.put(
                self.path, url=accepted.url, name=accepted.name, mes_ids=mes_ids, key=accepted.key, use=use
            )
        except edit.EditError as error:
            raise AdoptionError(str(error)) from None
        except IdentityError as error:
            raise AdoptionError(f"the machine was not written down: {error}; then pair again") from None
        return written, found[0]

    def known(self, url: str) -> Served | None:
        """The machine that is served under `url` already: its key is what an acceptance replaces."""
        return next((one for one in self._site if identity.place(one.url) == identity.place(url)), None)

    def check_elsewhere(self, request: Request) -> None:
        """That this OctoPrint, by its uuid, is not served under another address. Raises `Refused`.

        The uuid is what the plugin says of itself, so that only a person can tell what it means.
        """
        there = next(
            (one for one in self._site if self._site.printer_uuid(one.machine) == request.uuid), None
        )
        if there is None or not request.url or self.known(request.url) is not None:
            return
        name = f"{there.name!r}, " if there.name else ""
        raise Refused(
            f"this OctoPrint says that it is one that is served already: {name}machine {there.machine}, at {there.url}."
            f" If it is, give that one the new key with --url {shlex.quote(there.url)}; if it has moved, correct its"
            f" url in {self.path} first. If it is another one (a copy of its installation), take"
            f" it in with --url {shlex.quote(request.url)}"
        )

    def mes_ids(self, url: str) -> tuple[int, ...]:
        """Where the machine at `url` is shown unless a person says otherwise. Raises `Refused`."""
        known = self.known(url)
        if known is not None:
            return known.mes_ids
        ids = tuple(one.id for one in self.settings.mes)
        if len(ids) != 1:
            there = f"the settings know {', '.join(map(str, ids))}" if ids else "the settings name none"
            raise Refused(
                f"in which MES instances is the machine to be shown? {there}; say it with --mes N, where N is the"
                " id of a section [[mes]] (or will be)"
            )
        return ids


def commands(desk: PairingDesk, adoption: Adoption, verification: Verification) -> dict[str, Command]:
    """What `mesbridge pair` may ask of the running bridge, by the path of `bridge.control`."""

    def shown(request: Request) -> dict[str, Any]:
        machine, written = adoption.written.get(request.id, (None, None))
        outcome = verification.outcomes.get(machine) if machine else None
        known = None if machine else adoption.known(request.url)
        return {
            **asdict(request),
            "replaces_key_of": known and {"machine": known.machine, "name": known.name},
            "since": wire.format_time(request.since),
            "expires": wire.format_time(request.expires),
            "config": str(adoption.path),
            "machine": machine,
            "written": written,
            "by_plugin": machine in verification.by_plugin,
            "verified": outcome and asdict(outcome),
        }

    def state() -> dict[str, Any]:
        until = desk.open_until
        return {
            "open_until": until and wire.format_time(until),
            "requests": [shown(request) for request in desk.requests()],
        }

    def open_(values: Mapping[str, Any]) -> dict[str, Any]:
        desk.open(_value(values, "minutes", (int, float)))
        return state()

    def close(values: Mapping[str, Any]) -> dict[str, Any]:
        desk.close()
        return state()

    def accept(values: Mapping[str, Any]) -> dict[str, Any]:
        text, mes_ids = (str, type(None)), _value(values, "mes_ids", (list,))
        if not all(type(one) is int and one >= 0 for one in mes_ids):
            raise Refused("mes_ids: whole numbers are expected")
        request_id, url, name = (
            _value(values, "id", (str,)),
            _value(values, "url", text),
            _value(values, "name", text),
        )
        asked = next((one for one in desk.requests() if one.id == request_id), None)
        if asked is not None and url is None:
            adoption.check_elsewhere(asked)
        chosen = tuple(mes_ids) or adoption.mes_ids(url or (asked.url if asked else ""))
        return {**shown(desk.accept(request_id, url, chosen, name)), "mes_ids": chosen}

    def refuse(values: Mapping[str, Any]) -> dict[str, Any]:
        return shown(desk.refuse(_value(values, "id", (str,))))

    def told(command: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Command:
        def run(values: Mapping[str, Any]) -> dict[str, Any]:
            try:
                return command(values)
            except PairingRefused as refused:
                raise Refused(str(refused)) from None

        return run

    return {
        "pair/open": told(open_),
        "pair/close": told(close),
        "pair/list": lambda values: state(),
        "pair/accept": told(accept),
        "pair/refuse": told(refuse),
    }


def _entry(entries: Sequence[Served], written: edit.Written, served: Sequence[Served], path: Path) -> Served:
    """The one that was written, as the file at `path` has it now. Raises `AdoptionError`."""
    found = next((one for one in entries if one.index == written.index), None)
    if found is None:
        # `edit.put` has made sure that the entry is served.
        raise AdoptionError(f"{path} was changed by somebody else at this moment; pair again")
    other = next((one for one in served if one.push_key.key_id == found.push_key.key_id), None)
    if other is not None and other.machine != found.machine:
        raise AdoptionError(
            f"the machine was not written down, as machine {other.machine} has the same key: generate a new one in"
            " OctoPrint, and pair again"
        )
    return found


def _shown(written: edit.Written) -> dict[str, Any]:
    try:
        private = written.private
    except OSError:
        private = False
    return {
        "line": written.line,
        "replaced": written.replaced,
        "secret_file": written.secret_file and str(written.secret_file),
        "private": private,
        "left": written.left and str(written.left),
    }


def _value(values: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    if not isinstance(values.get(name), kinds) or isinstance(values.get(name), bool):
        raise Refused(
            f"{name}: another value is expected; use the mesbridge of the same version as the bridge"
        )
    return values[name]
