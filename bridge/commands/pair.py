"""`mesbridge pair`: what the bridge's person does to take in an OctoPrint whose plugin asks to be paired."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from bridge import control, settings
from bridge.hints import with_settings
from bridge.settings import Settings, SettingsError
from bridge.tables import cell, lines

_ASK_EVERY_S = 0.5
_VERIFIED_WITHIN_S = 20.0
_INTERRUPTED = 130

Request = Mapping[str, Any]
Ask = Callable[..., dict[str, Any]]
Say = Callable[..., None]


def run(options: argparse.Namespace) -> int:
    """Carry out one action. 0 when done, 1 when refused or not possible, 2 when the settings cannot be used."""
    try:
        chosen = settings.load(options.settings)
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2

    def ask(command: str, **values: Any) -> dict[str, Any]:
        return control.ask(chosen.bridge.state_folder, command, **values)

    def say(text: str, file: TextIO | None = None) -> None:
        print(with_settings(text, options.settings), file=file)

    actions: dict[str, Callable[[], int]] = {
        "open": lambda: _open(ask, say, options.minutes),
        "close": lambda: _close(ask),
        "list": lambda: _list(ask, say),
        "accept": lambda: _accept(ask, say, options, chosen),
        "refuse": lambda: _refuse(ask, options.id),
    }
    try:
        return actions[options.action]()
    except control.ControlError as error:
        say(f"mesbridge: {error}", file=sys.stderr)
        return 1


def _open(ask: Ask, say: Say, minutes: float) -> int:
    until = ask("pair/open", minutes=minutes)["open_until"]
    say(f"Pairing is open until {_clock(until)}. Request pairing in the plugin's settings tab in OctoPrint,")
    say("then: `mesbridge pair list`")
    return 0


def _close(ask: Ask) -> int:
    ask("pair/close")
    print("Pairing is closed; requests that are there already can still be accepted or refused.")
    return 0


def _list(ask: Ask, say: Say) -> int:
    found = ask("pair/list")
    until = found["open_until"]
    say(
        f"Pairing is open until {_clock(until)}."
        if until
        else "Pairing is closed; to open it: `mesbridge pair open`"
    )
    if found["requests"]:
        print()
        for line in table(found["requests"]):
            say(line)
    else:
        print("There are no requests.")
    return 0


def _refuse(ask: Ask, request_id: str) -> int:
    request = ask("pair/refuse", id=request_id)
    print(f"Refused: {cell(request['name'])}, {cell(request['url'])}")
    return 0


def _accept(ask: Ask, say: Say, options: argparse.Namespace, chosen: Settings) -> int:
    request: Request = ask(
        "pair/accept", id=options.id, url=options.url, name=options.name, mes_ids=options.mes or []
    )
    print(f"Code  {request['code']}    It must be the same in OctoPrint: else interrupt this, and")
    say(f"                 `mesbridge pair refuse {request['id']}`")
    mes_ids, known = request["mes_ids"], request["replaces_key_of"]
    if known:
        name = f"{known['name']!r}, " if known["name"] else ""
        print(f"{request['url']} is in {request['config']} already:")
        print(f"  {name}machine {known['machine']}, mes_id {mes_ids}")
        print(
            "It gets the new key, its name and its MES stay as they are. Interrupt this if it is not the same printer."
        )
    else:
        print(f"To be written into {request['config']}:")
        print(f"  custom_name {request['name']!r}, url {request['url']}, mes_id {mes_ids}")
    unknown = sorted(set(mes_ids) - {one.id for one in chosen.mes})
    if unknown:
        print(
            f"  (the settings have no section [[mes]] with id {unknown[0]}: nothing is told there until they do)"
        )
    try:
        request = _ended(ask, request)
        if request["state"] != "served":
            say(f"Not paired: {request['message']}", file=sys.stderr)
            return 1
        _tell_written(request)
        return _tell_verified(ask, request)
    except KeyboardInterrupt:
        if request["state"] == "accepted":
            say(
                "\nNobody waits any more, but the request stays accepted: the machine is served as soon as the codes"
                f" are confirmed in OctoPrint. To prevent that: `mesbridge pair refuse {request['id']}`"
            )
        return _INTERRUPTED


def _ended(ask: Ask, request: Request) -> Request:
    """The request when nothing more will come of it. Raises `ControlError`, also when it is not there any more."""
    latest = _clock(request["expires"])
    print(
        f"Waiting until the codes are confirmed in OctoPrint, till {latest} at the latest", end="", flush=True
    )
    try:
        while request["state"] == "accepted":
            time.sleep(_ASK_EVERY_S)
            print("." if sys.stdout.isatty() else "", end="", flush=True)
            request = _again(ask, request)
    finally:
        print()
    return request


def _again(ask: Ask, request: Request) -> Request:
    for one in ask("pair/list")["requests"]:
        if one["id"] == request["id"]:
            return {**request, **one}
    raise control.ControlError(
        f"the bridge does not know request {request['id']} any more: it was started anew meanwhile, or the request"
        " was made again; look at `mesbridge pair list`"
    )


def _tell_written(request: Request) -> None:
    written = request["written"]
    where = f"{request['config']}:{written['line']}"
    if written["replaced"]:
        print(f"{where}: the entry was there, and has the new key; its name and its MES are as they were")
    else:
        print(f"{where}: the entry is written")
    if written["secret_file"]:
        open_ = "and is open to others: let only the bridge's user read it"
        print(
            f"{written['secret_file']}: holds the key, {'for its owner only' if written['private'] else open_}"
        )
    if written["left"]:
        print(f"{written['left']}: is left as it is, because another entry names it, too")
    print(f"The bridge says: {request['message']}.")


def _tell_verified(ask: Ask, request: Request) -> int:
    """0, too, when OctoPrint cannot be reached from here: pushes may come nevertheless."""
    by_plugin = request["by_plugin"]
    print("Waiting for its plugin" if by_plugin else "Asking OctoPrint with the key", end="", flush=True)
    deadline = time.monotonic() + _VERIFIED_WITHIN_S
    while request["verified"] is None and time.monotonic() < deadline:
        time.sleep(_ASK_EVERY_S)
        print("." if sys.stdout.isatty() else "", end="", flush=True)
        try:
            request = _again(ask, request)
        except control.ControlError:
            print(
                ": the bridge has ended or was started anew; the machine stays written down, and the log says more"
            )
            return 0
    verified = request["verified"]
    if verified is None and by_plugin:
        print(": nothing yet; the bridge goes on waiting, and its log says when the plugin delivers")
    elif verified is None:
        print(": no answer yet; the bridge goes on asking, and its log says what comes of it")
    elif verified["ok"]:
        print(f": {verified['detail']}")
    else:
        print(f": it does not work. {verified['detail']}")
        print("The plugin's pushes are taken all the same.")
    return 0


def table(requests: Sequence[Request]) -> Iterator[str]:
    """The lines of `pair list`."""
    yield from lines(
        ("ID", "CODE", "NAME", "URL", "FROM", "SINCE", "STATE"),
        [
            (
                one["id"],
                one["code"] or "-",
                cell(one["name"]) or "-",
                cell(one["url"]) or "-",
                one["address"],
                _clock(one["since"]),
                one["state"],
            )
            for one in requests
        ],
    )
    for one in requests:
        if one["message"]:
            yield f"{one['id']}: {one['message']}"


def _clock(time_text: str) -> str:
    """A time of the bridge as this computer's people read it."""
    return f"{datetime.fromisoformat(time_text).astimezone():%H:%M:%S}"
