"""`mesbridge trust`: which OPC UA clients may connect. It moves files of the trust list; a bridge that runs sees it."""

from __future__ import annotations

import sys
from pathlib import Path

from bridge import settings
from bridge.opcua import TrustError, TrustList
from bridge.opcua.trust import SHOWN_DIGITS, Entry
from bridge.state import PKI


def run(action: str, id: str | None, settings_path: Path | None) -> int:
    """List, accept or remove. 0 when done, 1 when refused, 2 when the settings cannot be used."""
    try:
        chosen = settings.load(settings_path)
    except settings.SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    trust = TrustList(chosen.bridge.state_folder / PKI)
    try:
        if action == "list":
            _list(trust, accept_any=chosen.opcua.trust == "any")
        elif action == "accept":
            print(f"Accepted: {_line(trust.accept(id or ''))}")
        else:
            print(f"Removed: {_line(trust.remove(id or ''))}")
    except PermissionError as error:
        print(
            f"mesbridge: {error.filename}: may not be used by this user; give the command as the user under whom the"
            " bridge runs",
            file=sys.stderr,
        )
        return 1
    except (TrustError, OSError) as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 1
    return 0


def _list(trust: TrustList, accept_any: bool) -> None:
    trusted, rejected = trust.trusted(), trust.rejected()
    if accept_any:
        print('Any client is accepted, since the settings say opcua.trust = "any".')
    print("Trusted:" if trusted else f"No client is trusted yet ({trust.folder}).")
    for entry in trusted:
        print(f"  {_line(entry)}")
    if rejected:
        print("Refused until they are accepted, the newest first:")
        for entry in rejected:
            print(f"  {_line(entry)}")


def _line(entry: Entry) -> str:
    end = f"{entry.certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"{entry.thumbprint[:SHOWN_DIGITS]}  {entry.name}  {entry.application_uri}  valid until {end}"
