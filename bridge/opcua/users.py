"""Who may open a session: names with a role and a salted scrypt hash or a certificate, in a file for its owner alone.

In: a file, and names with passwords, or certificates. Out: yes or no, in a time that does not tell whether the name
exists; and roles. An entry has the five fields of a hash, or `certificate`, the base64 of a DER; and may have a role.
"""

import base64
import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bridge.files import write_private

from .errors import UsersError
from .validation import CertificateRefused, validate_user

# 16 MiB and some 40 ms a hash (RFC 7914, section 2; parameters after OWASP's password storage cheat sheet)
_COST, _BLOCK_SIZE, _PARALLEL = 2**14, 8, 5
_SALT_BYTES = 16
_HASH_BYTES = 32
_FIELDS = {"n", "r", "p", "salt", "hash"}
_LARGEST_COST = 2**17


class Role(StrEnum):
    """What a user may do; named after two of the standard's well-known roles (Part 3, 4.9.2)."""

    OBSERVER = "observer"
    """Browses, reads, subscribes."""
    OPERATOR = "operator"
    """Calls the methods of machines too."""


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r + 2**20, dklen=_HASH_BYTES
    )


def _entry(salt: bytes, made: bytes) -> dict[str, Any]:
    return {
        "n": _COST,
        "r": _BLOCK_SIZE,
        "p": _PARALLEL,
        "salt": base64.b64encode(salt).decode(),
        "hash": base64.b64encode(made).decode(),
    }


class Users:
    """The users file; read again whenever it changed, so that a user can be added while a server runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users: dict[str, dict[str, Any]] = {}
        self._read_at: tuple[int, int] | None = None
        self._decoy = _entry(secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_HASH_BYTES))
        self._session_key = secrets.token_bytes()
        # By name a keyed digest of the password that was right, and the hash that it was right for.
        self._verified: dict[str, tuple[bytes, str]] = {}

    def names(self) -> list[str]:
        """All user names."""
        self._refresh()
        return sorted(self._users)

    def role(self, name: str) -> Role | None:
        """The user's role; None when there is no such user."""
        self._refresh()
        entry = self._users.get(name)
        return None if entry is None else Role(entry.get("role", Role.OBSERVER))

    def credential(self, name: str) -> str | None:
        """What is another one as soon as the user has another password; None when there is no such user."""
        self._refresh()
        entry = self._users.get(name)
        if entry is None or "certificate" not in entry:
            return None if entry is None else str(entry["hash"])
        try:
            validate_user(_certificate(entry), datetime.now(UTC))
        except CertificateRefused:
            return None  # it has ended, and so do its sessions (Part 4, 7.40.5)
        return str(entry["certificate"])

    def certificate(self, name: str) -> x509.Certificate | None:
        """The certificate that the user logs in with; None for one with a password, and when there is no such user."""
        self._refresh()
        entry = self._users.get(name)
        return None if entry is None or "certificate" not in entry else _certificate(entry)

    def holder(self, certificate: bytes) -> str | None:
        """The user whose certificate this is, a DER, byte for byte; None when it is nobody's."""
        self._refresh()
        wanted = base64.b64encode(certificate).decode()
        return next((name for name, one in self._users.items() if one.get("certificate") == wanted), None)

    def add_certificate(self, name: str, certificate: x509.Certificate, role: Role | None = None) -> None:
        """Add a user who logs in with this certificate, or let one do so from now on instead of as before.

        The role is as for `add`. UsersError for a certificate that could not be used, or is another user's.
        """
        if not name:
            raise UsersError("a user needs a name")
        try:
            validate_user(certificate, datetime.now(UTC))
        except CertificateRefused as refused:
            raise UsersError(f"the certificate cannot be used: {refused}; make another one") from None
        content = certificate.public_bytes(serialization.Encoding.DER)
        holder = self.holder(content)
        if holder is not None and holder != name:
            raise UsersError(
                f"{self.path}: user {holder!r} has this certificate: remove that user, or make another one"
            )
        role = role or self.role(name) or Role.OBSERVER
        self._users[name] = {"role": str(role), "certificate": base64.b64encode(content).decode()}
        self._write()

    def add(self, name: str, password: str, role: Role | None = None) -> None:
        """Add a user, or give one another password. Without a `role` it keeps its own; a new one is an observer."""
        if not name or not password:
            raise UsersError("a user needs a name and a password that is not empty")
        self._refresh()
        role = role or self.role(name) or Role.OBSERVER
        salt = secrets.token_bytes(_SALT_BYTES)
        entry = _entry(salt, _scrypt(password, salt, _COST, _BLOCK_SIZE, _PARALLEL))
        self._users[name] = {"role": str(role), **entry}
        self._write()

    def set_role(self, name: str, role: Role) -> None:
        """Give a user another role; UsersError when there is none of that name."""
        self._users[name] = {**self._known(name), "role": str(role)}
        self._write()

    def remove(self, name: str) -> None:
        """Remove a user; UsersError when there is none of that name."""
        self._known(name)
        del self._users[name]
        self._write()

    def _known(self, name: str) -> dict[str, Any]:
        self._refresh()
        if name not in self._users:
            raise UsersError(
                f"{self.path}: there is no user {name!r}; there are {', '.join(self.names()) or 'none'}"
            )
        return self._users[name]

    def verify(self, name: str, password: str) -> bool:
        """Whether this is the user's password; costs a hash, except for one that was right before."""
        if self.remembers(name, password):
            return True
        entry = self._users.get(name)
        checked = self._decoy if entry is None or "hash" not in entry else entry
        made = _scrypt(password, base64.b64decode(checked["salt"]), checked["n"], checked["r"], checked["p"])
        right = hmac.compare_digest(made, base64.b64decode(checked["hash"]))
        if entry is None or checked is not entry or not right:
            return False
        self._verified[name] = self._digest(password), entry["hash"]
        return True

    def remembers(self, name: str, password: str) -> bool:
        """Whether `verify` found this to be the user's password, and it still is."""
        self._refresh()
        entry = self._users.get(name)
        digest, verified_hash = self._verified.get(name, (b"", ""))
        if entry is None or entry.get("hash") != verified_hash:
            return False
        return hmac.compare_digest(self._digest(password), digest)

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._session_key, password.encode(), "sha256")

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._users, self._read_at = {}, None
            return
        except OSError as error:
            raise UsersError(f"{self.path} cannot be read: {error.strerror}") from error
        if (status.st_mtime_ns, status.st_ino) != self._read_at:
            self._users = self._read()
            self._read_at = status.st_mtime_ns, status.st_ino

    def _read(self) -> dict[str, dict[str, Any]]:
        remedy = "correct it, or delete the file and add the users again"
        try:
            text = self.path.read_text(encoding="utf-8")
            held = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsersError(f"{self.path}, line {error.lineno}: {error.msg}; {remedy}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise UsersError(f"{self.path} cannot be read: {error}; {remedy}") from error
        users = held.get("users") if isinstance(held, dict) else None
        if not isinstance(users, dict):
            raise UsersError(f'{self.path}, line 1: an object with "users" belongs here; {remedy}')
        for name, entry in users.items():
            fault = _fault(entry)
            if fault:
                line = text[: max(text.find(json.dumps(name, ensure_ascii=False)), 0)].count("\n") + 1
                raise UsersError(f"{self.path}, line {line}: user {name!r} {fault}; {remedy}")
        return users

    def _write(self) -> None:
        text = json.dumps({"users": self._users}, indent=2, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.path, text.encode())
        except OSError as error:
            raise UsersError(f"{self.path} cannot be written: {error.strerror}") from error
        self._read_at = None


def _certificate(entry: dict[str, Any]) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(entry["certificate"], validate=True))


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, dict) or entry.keys() - {"role"} not in (_FIELDS, {"certificate"}):
        return f"needs exactly {', '.join(sorted(_FIELDS))}, or a certificate, and may have a role"
    if entry.get("role", Role.OBSERVER) not in list(Role):
        return f"has a role that is none of {', '.join(Role)}"
    if "certificate" in entry:
        try:
            _certificate(entry)
        except (ValueError, TypeError):
            return "has a certificate that is not the base64 of a DER"
        return None
    n, r, p = entry["n"], entry["r"], entry["p"]
    if not all(type(number) is int and number > 0 for number in (n, r, p)):
        return "has an n, r or p that is not a positive number"
    if n < 2 or n & (n - 1) or n * r * p > _LARGEST_COST * _BLOCK_SIZE * _PARALLEL:
        return "has costs that are not usable"
    try:
        salt = base64.b64decode(entry["salt"], validate=True)
        made = base64.b64decode(entry["hash"], validate=True)
    except (ValueError, TypeError):
        return "has a salt or hash that is not base64"
    return None if salt and len(made) == _HASH_BYTES else "has a salt or hash of the wrong length"
