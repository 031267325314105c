"""`mesbridge watch`: every machine of the running bridge in a terminal, what needs attention first, until Ctrl-C.

In flow what ``watch`` of `bridge.control` answers; out flow lines. On something that is no terminal, once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bridge import control, settings
from bridge.hints import with_settings
from bridge.settings import SettingsError
from bridge.tables import cell

_PERIOD_S = 2.0
_RESET, _FAINT, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_RED, _YELLOW, _GREEN = "\x1b[31m", "\x1b[33m", "\x1b[32m"
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TO_LINE_END, _TO_SCREEN_END = "\x1b[K", "\x1b[J"
CONDITIONS: Final = {
    "error": ("Error", _RED),
    "lost": ("Out of reach", _RED),
    "paused": ("Paused", _YELLOW),
    "printing": ("Printing", _GREEN),
    "ready": ("Ready", ""),
    "off": ("Not connected", _FAINT),
    "unknown": ("Never heard", _FAINT),
}
_SHORT: Final = {"tool0": "T", "bed": "B", "chamber": "C"}


@dataclass(slots=True)
class View:
    """What the bridge has told so far."""

    mark: str | None = None
    now: str = ""
    fleet: Mapping[str, Any] = field(default_factory=dict)
    order: Sequence[str] = ()
    machines: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, news: Mapping[str, Any]) -> None:
        """Add what has changed; see `bridge.web.board.Board.since`."""
        self.mark, self.now = news["mark"], news["now"]
        self.machines |= {one["id"]: one for one in news["machines"]}
        self.fleet = news["fleet"] or self.fleet
        if news["order"] is not None:
            self.order = news["order"]
            self.machines = {one: self.machines[one] for one in self.order if one in self.machines}

    @property
    def sorted(self) -> list[Mapping[str, Any]]:
        """The machines, what needs attention first."""
        return sorted(self.machines.values(), key=lambda one: (-one["attention"], one["name"], one["id"]))


def run(options: argparse.Namespace) -> int:
    """Show the machines. 0 when ended by a person, 1 when there is no bridge, 2 when the settings cannot be used."""
    try:
        folder = settings.load(options.settings).bridge.state_folder
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    view = View()
    terminal = sys.stdout.isatty()
    try:
        view.take(control.ask(folder, "watch"))
    except control.ControlError as error:
        print(with_settings(f"mesbridge: {error}", options.settings), file=sys.stderr)
        return 1
    if options.once or not terminal:
        width = shutil.get_terminal_size().columns if terminal else None
        print("\n".join(frame(view, width, None, colour=terminal and "NO_COLOR" not in os.environ)))
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        _follow(view, folder)
    return 0


def _follow(view: View, folder: Any) -> None:
    if os.name == "nt":
        os.system("")  # noqa: S605, S607 (has the console of Windows understand what moves the cursor)
    trouble = ""
    sys.stdout.write(_BEGIN)
    try:
        while True:
            width, height = shutil.get_terminal_size()
            lines = frame(view, width, height - 1, colour="NO_COLOR" not in os.environ, trouble=trouble)
            sys.stdout.write("\x1b[H" + "".join(f"{line}{_TO_LINE_END}\n" for line in lines) + _TO_SCREEN_END)
            sys.stdout.flush()
            time.sleep(_PERIOD_S)
            try:
                view.take(control.ask(folder, "watch", since=view.mark))
                trouble = ""
            except control.ControlError as error:
                trouble = f"Not live, as of {clock(view.now)}: {error}"
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()


def frame(view: View, width: int | None, height: int | None, *, colour: bool, trouble: str = "") -> list[str]:
    """The screen, at most `width` columns and `height` lines; what does not fit is counted."""
    head = list(_head(view, trouble))
    machines = view.sorted
    room = len(machines) if height is None else max(0, height - len(head) - 1)
    shown = machines if len(machines) <= room else machines[: max(0, room - 1)]
    rows = [_row(one, view.now) for one in shown]
    titles = ("", "MACHINE", "STATE", "SINCE", "JOB", "DONE", "UNTIL", "HEATERS", "SOURCE", "MES", "")
    widths = [max(len(row[n]) for row in (titles, *rows)) for n in range(len(titles))]
    lines = [_cut(text, width, style, colour) for text, style in head]
    lines.append(_cut(_joined(titles, widths), width, _FAINT, colour))
    for one, row in zip(shown, rows, strict=True):
        style = CONDITIONS.get(one["condition"], ("", ""))[1]
        lines.append(
            _cut(_joined(row, widths), width, _BOLD + _RED if one["attention"] >= 3 else style, colour)
        )
    if len(shown) < len(machines):
        lines.append(
            _cut(f"   and {len(machines) - len(shown)} more: make the window higher", width, _FAINT, colour)
        )
    return lines if height is None else lines[:height]


def _head(view: View, trouble: str) -> Iterator[tuple[str, str]]:
    fleet = view.fleet
    counts = {kind: 0 for kind in CONDITIONS}
    for one in view.machines.values():
        counts[one["condition"]] = counts.get(one["condition"], 0) + 1
    told = ", ".join(
        f"{counts[kind]} {words.lower()}" for kind, (words, _) in CONDITIONS.items() if counts[kind]
    )
    need = sum(one["attention"] > 0 for one in view.machines.values())
    yield (f"MESBridge {cell(fleet.get('bridge', ''))}  {clock(view.now)}", _BOLD)
    if trouble:
        yield cell(trouble, 400), _RED
    yield (
        f"{len(view.machines)} machines: {told or 'none'}" + (f"; {need} need attention" if need else ""),
        "",
    )
    opcua = fleet.get("opcua") or {}
    if opcua:
        yield f"OPC UA {cell(opcua['endpoint'], 100)}, {opcua['sessions']} clients", _FAINT
    for mes in fleet.get("mes", ()):
        name = "MES" if mes["mes"] is None else f"MES {mes['mes']}"
        if mes["trouble"]:
            yield f"{name} cannot be told: {cell(mes['trouble'], 200)}", _RED
        else:
            yield f"{name} is told, {mes['waiting']} waiting, {mes['refused']} refused", _FAINT
    yield "", ""


def _row(one: Mapping[str, Any], now: str) -> tuple[str, ...]:
    job = one["job"] or {}
    active = bool(job) and job["result"] is None
    file = f"{job['file']}{'' if active else ' ' + job['result']}" if job else ""
    return (
        {3: "!!", 2: "!", 1: "·"}.get(one["attention"], ""),
        cell(one["name"], 24),
        CONDITIONS.get(one["condition"], (cell(one["condition"]), ""))[0],
        _ago(one["since"], now),
        cell(file, 30),
        f"{job['completion']:3d} %" if active and job["completion"] is not None else "",
        clock(job["ends"], seconds=False) if active and job["ends"] else "",
        " ".join(_heater(name, *values) for name, values in list(one["heaters"].items())[:3]),
        one["source"] or "-",
        " ".join(f"{mes}:{health}" for mes, health in one["mes"].items()),
        cell(one["why"] or "", 80),
    )


def _heater(name: str, actual: int | None, target: int | None) -> str:
    short = cell(_SHORT.get(name, name), 6)
    return f"{short}{'-' if actual is None else actual}" + (f"/{target}" if target else "")


def _ago(since: str | None, now: str) -> str:
    if since is None:
        return ""
    seconds = max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds())
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 2880 else f"{minutes // 1440} d"


def clock(text: str, *, seconds: bool = True) -> str:
    """A time of the bridge as this computer's people read it."""
    moment = datetime.fromisoformat(text).astimezone()
    return f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}"


def _joined(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True) if width).rstrip()


def _cut(line: str, width: int | None, style: str, colour: bool) -> str:
    if width is not None and len(line) > width:
        line = line[: max(0, width - 1)] + "…"
    return f"{style}{line}{_RESET}" if colour and style and line else line
