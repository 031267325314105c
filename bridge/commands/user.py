"""`mesbridge user`: who may log in to the OPC UA server, with a certificate or a password.

A password is asked for, or read from standard input.
"""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path

from bridge import settings
from bridge.opcua import Role, TrustError, Users, UsersError
from bridge.opcua.trust import SHOWN_DIGITS, read_certificate, thumbprint

_SHORTEST_PASSWORD = 8


def run(
    action: str, name: str, role: str | None, settings_path: Path | None, certificate: Path | None = None
) -> int:
    """Do `action` with the user `name`. 0 when done, 1 when refused, 2 when the settings cannot be used."""
    try:
        folder = settings.load(settings_path).bridge.state_folder
    except settings.SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    path = folder / "users.json"
    try:
        users = Users(path)
        if action == "list":
            for one in users.names():
                print(f"{users.role(one)}  {one}{_shown(users, one)}")
            return 0
        if action == "remove":
            users.remove(name)
        elif action == "set-role":
            users.set_role(name, Role(role or ""))
        elif certificate is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            users.add_certificate(name, read_certificate(certificate), Role(role) if role else None)
        else:
            password = _password()
            if len(password) < _SHORTEST_PASSWORD:
                print(
                    f"mesbridge: a password of at least {_SHORTEST_PASSWORD} characters is needed",
                    file=sys.stderr,
                )
                return 1
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            users.add(name, password, Role(role) if role else None)
    except (UsersError, TrustError, OSError) as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 1
    if action == "remove":
        print(f"Removed the user {name} from {path}")
    else:
        print(f"Stored the user {name} in {path}: {users.role(name)}{_shown(users, name)}")
    return 0


def _shown(users: Users, name: str) -> str:
    """What is to be said of the user's certificate, if it has one."""
    certificate = users.certificate(name)
    if certificate is None:
        return ""
    end = certificate.not_valid_after_utc
    ended = "ended on" if end < datetime.now(UTC) else "until"
    return f"  certificate {thumbprint(certificate)[:SHOWN_DIGITS]} {ended} {end:%Y-%m-%d}"


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Again: "):
        print("mesbridge: the two passwords differ", file=sys.stderr)
        return ""
    return first
