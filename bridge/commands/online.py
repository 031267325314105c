"""`mesbridge check --online`: each OctoPrint and each MES is asked, all at once, without changing anything there.

In: the config and the settings. Out: what each of them said, as lines for people and as JSON. A key that came by
pairing never travels over plain http, so such an OctoPrint is not asked; that is said.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import aiohttp

from bridge import identity, wire
from bridge.aggregator import Config, MachineEntry
from bridge.aggregator.edit import SECRETS_FOLDER
from bridge.aggregator.problem import Finding
from bridge.mes.interview import MesInterview
from bridge.mes.interview import interview as interview_mes
from bridge.settings import MesSettings, Settings
from bridge.sources.interview import NEEDED, Interview, interview
from bridge.sources.verification import Candidate

_AT_ONCE: Final = 20
_TOTAL_S: Final = 180.0
_MADE_BY_PAIRING: Final = re.compile(r"octoprint-.+\.txt")
_PAIRED: Final = (
    "its key came by pairing and is not sent over plain http; `mesbridge pair list` and the log of the running bridge"
    " say whether its plugin delivers"
)
_MAYBE_PAIRED: Final = (
    "its key may have come by pairing, and then it is not sent over plain http; give --settings with the file that the"
    " bridge has"
)
_LATE: Final = Finding(
    "error",
    f"no time was left to ask it: all together may take {_TOTAL_S:.0f} s",
    "check again; if many others do not answer, correct those first",
)


@dataclass(slots=True)
class Asked:
    """What was asked: OctoPrints by the number of their entries (from 0), why others were not, and the MES."""

    octoprints: dict[int, Interview] = field(default_factory=dict)
    not_asked: dict[int, str] = field(default_factory=dict)
    mes: list[MesInterview] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everybody who was asked answered as they should."""
        return not any(finding.severity == "error" for finding in self.findings())

    def findings(self) -> Iterator[Finding]:
        """What is wrong with all of them."""
        for octoprint in self.octoprints.values():
            yield from octoprint.findings
        for mes in self.mes:
            yield from mes.findings


def ask(config: Config, settings: Settings, *, given: bool, progress: TextIO | None) -> Asked:
    """Ask everybody, in three minutes at most; `given`: the settings are the user's, not defaults.

    Raises `IdentityError` when it cannot be told which keys came by pairing.
    """
    asked = Asked()
    folder = settings.bridge.state_folder
    paired = identity.paired(folder)
    known = given or (folder / "machines.json").exists()
    entries = []
    for entry in config.machines:
        if not entry.served or entry.url is None or entry.credential.key is None:
            continue
        key_id = wire.PushKey.derive(entry.credential.key.reveal()).key_id
        if Candidate("", entry.url, entry.credential.key, key_id in paired).by_plugin:
            asked.not_asked[entry.index] = _PAIRED
        elif not known and _may_be_paired(entry):
            asked.not_asked[entry.index] = _MAYBE_PAIRED
        else:
            entries.append(entry)
    asyncio.run(_ask_all(asked, entries, settings.mes, _Progress(len(entries) + len(settings.mes), progress)))
    return asked


def _may_be_paired(entry: MachineEntry) -> bool:
    """Where no bridge has left word: a secret file of a name that pairing gives."""
    file = entry.credential.path
    named = file is not None and file.parent.name == SECRETS_FOLDER and _MADE_BY_PAIRING.fullmatch(file.name)
    return bool(named) and urlsplit(entry.url or "").scheme != "https"


async def _ask_all(
    asked: Asked, entries: list[MachineEntry], sections: tuple[MesSettings, ...], progress: _Progress
) -> None:
    turns = asyncio.Semaphore(_AT_ONCE)
    mes = {one.id: MesInterview(one.id, one.url, findings=[_LATE]) for one in sections}
    for entry in entries:
        asked.octoprints[entry.index] = Interview(findings=[_LATE])

    async def one_octoprint(entry: MachineEntry) -> None:
        if entry.url is not None and entry.credential.key is not None:
            async with turns:
                key = entry.credential.key.reveal()
                asked.octoprints[entry.index] = await interview(http, entry.url, key)
            progress.step()

    async def one_mes(section: MesSettings) -> None:
        mes[section.id] = await asyncio.to_thread(interview_mes, section)
        progress.step()

    try:
        # No cookie of one answer may go along with the next request.
        async with (
            asyncio.timeout(_TOTAL_S),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
            asyncio.TaskGroup() as group,
        ):
            for section in sections:
                group.create_task(one_mes(section))
            for entry in entries:
                group.create_task(one_octoprint(entry))
    except TimeoutError:
        pass  # those not done say so
    finally:
        progress.end()
        asked.mes = list(mes.values())


class _Progress:
    """A line on a terminal that counts; nothing where there is no terminal."""

    def __init__(self, total: int, stream: TextIO | None) -> None:
        self._total, self._done = total, 0
        self._stream = stream if stream is not None and stream.isatty() else None
        self._show()

    def step(self) -> None:
        self._done += 1
        self._show()

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self) -> None:
        if self._stream is not None:
            self._stream.write(f"\rasking: {self._done} of {self._total} have answered")
            self._stream.flush()


# --------------------------------------------------------------------------- for people and programs


def machine_lines(asked: Asked, index: int) -> Iterator[str]:
    """What the OctoPrint of the entry `index` said."""
    if (reason := asked.not_asked.get(index)) is not None:
        yield f"not asked: {reason}"
    one = asked.octoprints.get(index)
    if one is None:
        return
    if one.reachable:
        version = f"OctoPrint {one.version}" if one.version else "OctoPrint"
        state = f", state {one.state}" if one.state else ""
        yield f"{version} answers in {one.latency_ms:.0f} ms{state}{_clock(one.clock_difference_s)}"
        if one.key_accepted:
            yield f"key accepted: user {one.user}, with {_rights(one.rights)}"
            push = "the key opens it" if one.push_socket else "the key does not open it"
            yield f"push socket: {push}"
        version = f"version {one.plugin_version}" if one.plugin_version else "its version cannot be seen"
        yield f"plugin MESBridge: {f'there, {version}' if one.plugin_seen else 'not seen'}"
        if one.key_in_clear:
            yield "the key was sent over plain http, as it always is with this url: others on the network can read it"
    yield from _finding_lines(one.findings)


def mes_lines(asked: Asked) -> Iterator[str]:
    """What each MES said."""
    for one in asked.mes:
        if one.reachable:
            yield f"MES {one.id} at {one.url}: answers in {one.latency_ms:.0f} ms{_clock(one.clock_difference_s)}"
            tls = "TLS, its certificate is trusted" if one.url.lower().startswith("https:") else "no TLS"
            token = {True: "token accepted", False: "TOKEN NOT ACCEPTED", None: "token not tried"}
            service = {True: "service known", False: "SERVICE NOT KNOWN", None: "service not tried"}
            yield f"    {tls}; {token[one.token_accepted]}; {service[one.service_known]}"
        else:
            yield f"MES {one.id} at {one.url}: NOT REACHED"
        for line in _finding_lines(one.findings):
            yield f"    {line}"
        yield ""


def machine_json(asked: Asked, index: int) -> dict[str, Any] | None:
    """The same for programs; None for an entry that is not served."""
    if (reason := asked.not_asked.get(index)) is not None:
        return {"asked": False, "reason": reason}
    one = asked.octoprints.get(index)
    return None if one is None else {"asked": True, **_plain(one)}


def mes_json(asked: Asked) -> list[dict[str, Any]]:
    """The same for programs."""
    return [_plain(one) for one in asked.mes]


def _plain(one: Interview | MesInterview) -> dict[str, Any]:
    plain = {
        each.name: getattr(one, each.name) for each in fields(one) if each.name not in ("findings", "rights")
    }
    if isinstance(one, Interview):
        plain["rights"] = list(one.rights)
    return plain | {"problems": [finding._asdict() for finding in one.findings]}


def _finding_lines(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.severity}: {finding.message}"
        yield f"    {finding.hint}"


def _clock(difference_s: float | None) -> str:
    if difference_s is None:
        return ""
    # The header counts whole seconds.
    return f", its clock {difference_s:+.0f} s" if abs(difference_s) > 1 else ", its clock is right"


def _rights(rights: tuple[str, ...]) -> str:
    """The one that is needed, and how many others; all are in the JSON."""
    if not rights:
        return "no permission at all"
    others = [one for one in rights if one != NEEDED]
    first = NEEDED if NEEDED in rights else "no STATUS"
    if not others:
        return first
    shown = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
    return f"{first}, and beyond what is needed {shown}"
