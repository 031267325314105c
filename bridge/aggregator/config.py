"""The Aggregator's config.json, as the bridge sees it.

In: a path. Out: a `Config`: all machine entries with what is wrong with each, and what is wrong with the file. The
file is only ever read. One bad machine never stops the others: what can be told is told, for each.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bridge.aggregator import fields, jsonc
from bridge.aggregator.entry import MachineEntry, read_entry
from bridge.aggregator.jsonc import Document, Node, Object
from bridge.aggregator.layout import KNOWN_KEYS, find_entries
from bridge.aggregator.problem import ConfigUnreadable, Finding, Problem, Report
from bridge.aggregator.text import NotText, decode

MAX_FILE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """`problems` are those of the file as a whole; each machine has its own."""

    path: Path
    machines: tuple[MachineEntry, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every OCTOPRINT entry can be served, and nothing else is wrong with the file."""
        own = (problem for machine in self.machines for problem in machine.problems)
        return not any(problem.severity == "error" for problem in (*self.problems, *own))


@dataclass(slots=True)
class _Draft:
    """An entry while the file is still being looked at."""

    entry: MachineEntry
    node: Node
    report: Report

    def offset(self, key: str) -> int:
        return self.node.index[key].value.start if isinstance(self.node, Object) else self.node.start


def load(path: Path) -> Config:
    """Reads and checks config.json and the secret files it names. Raises ConfigUnreadable."""
    text, codec = _read(path)
    document = jsonc.parse(text)
    report = Report(path, document.lines)
    if codec != "utf-8":
        message = "the file is UTF-16 text; other readers of this file may refuse it"
        report.warning(0, None, message, "save it as UTF-8")
    if document.root is None:
        raise _unreadable(report, document)
    layout = find_entries(document.root)
    if not layout.entries and any(
        fault.severity == "error" and fault.key is None for fault in document.faults
    ):
        raise _unreadable(report, document)
    for finding in layout.findings:
        report.add(layout.offset, None, finding)
    folder = path.absolute().parent
    drafts = []
    for index, node in enumerate(layout.entries):
        own = report.scratch()
        drafts.append(
            _Draft(read_entry(index, node, folder, own, document.lines.place(node.start)), node, own)
        )
    _share_out(document, drafts, report)
    _compare(drafts)
    if any(draft.entry.credential.source in ("inline", "api_key") for draft in drafts) and _open_to_others(
        path
    ):
        message = f"the file holds keys and is open to other users of this computer: chmod 600 {path}"
        report.warning(layout.offset, None, message, "or move the keys into secret files of their own")
    if drafts and all(draft.entry.left_to_aggregator for draft in drafts):
        hint = (
            'the bridge serves entries with "type": "OCTOPRINT"; pairing writes one: `mesbridge pair open`, while the'
            " bridge runs"
        )
        report.warning(layout.offset, None, "the file holds no OCTOPRINT machine", hint)
    return Config(path, tuple(_finished(draft) for draft in drafts), tuple(report.problems))


def _open_to_others(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def _read(path: Path) -> tuple[str, str]:
    """Returns the text and its codec."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _no_file(path, "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise _no_file(path, "this is a folder", "name the config.json in it") from None
    except PermissionError:
        raise _no_file(path, "this file may not be read", "let the user of the bridge read it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no valid file name"
        raise _no_file(path, f"this file can't be read: {reason}", "check the path") from None
    if len(data) > MAX_FILE_BYTES:
        message = f"this file is larger than {MAX_FILE_BYTES // 1024**2} MiB"
        raise _no_file(path, message, "check that this is a config.json")
    try:
        text, codec, _ = decode(data)
    except NotText as problem:
        raise ConfigUnreadable(
            Problem("error", path, problem.line, problem.column, None, problem.message, problem.hint)
        ) from None
    if not text.strip():
        raise _no_file(path, "this file is empty", "check that this is a config.json")
    return text, codec


def _no_file(path: Path, message: str, hint: str) -> ConfigUnreadable:
    return ConfigUnreadable(Problem("error", path, None, None, None, message, hint))


def _unreadable(report: Report, document: Document) -> ConfigUnreadable:
    faults = report.scratch()
    for fault in sorted(document.faults, key=lambda fault: fault.severity == "warning"):
        faults.add(fault.offset, None, Finding(fault.severity, fault.message, fault.hint))
    if not faults.problems:
        faults.error(0, None, "the file holds no JSON, only comments", "check that this is a config.json")
    return ConfigUnreadable(*faults.problems)


def _share_out(document: Document, drafts: list[_Draft], report: Report) -> None:
    """Gives each fault of the JSON to the entry in which it stands, else to the file."""
    starts = [draft.node.start for draft in drafts]
    for fault in document.faults:
        at = bisect_right(starts, fault.offset) - 1
        draft = drafts[at] if at >= 0 and fault.offset < drafts[at].node.end else None
        key = fault.key if fault.key in KNOWN_KEYS else None
        severity = fault.severity
        if fault.key is not None and draft is not None and draft.entry.left_to_aggregator:
            severity = "warning"
        target = report if draft is None else draft.report
        target.add(fault.offset, key, Finding(severity, fault.message, fault.hint))


def _compare(drafts: list[_Draft]) -> None:
    """What only shows when the entries are seen together: one port, url, key or name used twice."""
    ours = [draft for draft in drafts if not draft.entry.left_to_aggregator]
    for group in _alike(drafts, lambda draft: draft.entry.umati_server_port):
        for draft in group:
            if draft.entry.left_to_aggregator:
                continue
            others = [other for other in group if other is not draft]
            draft.report.add(
                draft.offset("umati_server_port"),
                "umati_server_port",
                Finding(
                    "warning",
                    f"umati_server_port {draft.entry.umati_server_port} is also used by {_lines(others)}",
                    "give each machine a port of its own: otherwise those of this bridge are shown together, and what"
                    " the Aggregator serves there keeps the bridge away",
                ),
            )
    _refuse_repeated(draft for draft in ours if not draft.report.failed)
    for group in _alike(ours, lambda draft: draft.entry.custom_name):
        for draft in group[1:]:
            message = (
                f"this name is already used by {_lines(group[:1])}; people can't tell the machines apart"
            )
            draft.report.warning(draft.offset("custom_name"), "custom_name", message, "choose another name")


def _refuse_repeated(drafts: Iterable[_Draft]) -> None:
    """One OctoPrint is one machine: of entries with the same url or the same key only the first is served."""
    first: dict[tuple[str, str], _Draft] = {}
    for draft in drafts:
        key, url = draft.entry.credential.key, draft.entry.url
        if key is None or url is None:
            continue
        name = "api_key" if draft.entry.credential.source == "api_key" else "authentication_file_path"
        marks = {"url": ("url", fields.same_place(url)), name: ("key", key.reveal())}
        repeated = [(at, *mark) for at, mark in marks.items() if mark in first]
        for at, what, value in repeated:
            draft.report.error(
                draft.offset(at),
                at,
                f"this {what} is already used by {_lines([first[what, value]])}: only that one is served",
                "put the numbers of both into the mes_id of that one and remove this one, or give each OctoPrint"
                f" a {what} of its own",
            )
        if not repeated:
            first.update(dict.fromkeys(marks.values(), draft))


def _alike(drafts: list[_Draft], mark: Callable[[_Draft], Hashable]) -> list[list[_Draft]]:
    """Groups of two and more with the same mark; None is no mark."""
    groups: dict[Hashable, list[_Draft]] = {}
    for draft in drafts:
        if (value := mark(draft)) is not None:
            groups.setdefault(value, []).append(draft)
    return [group for group in groups.values() if len(group) > 1]


def _lines(drafts: list[_Draft]) -> str:
    shown = ", ".join(str(draft.entry.line) for draft in drafts[:3])
    more = " and others" if len(drafts) > 3 else ""
    return f"the entr{'y' if len(drafts) == 1 else 'ies'} on line {shown}{more}"


def _finished(draft: _Draft) -> MachineEntry:
    problems = sorted(draft.report.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
    served = not draft.entry.left_to_aggregator and not draft.report.failed
    return replace(draft.entry, served=served, problems=tuple(problems))
