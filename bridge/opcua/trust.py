"""The trust list: which client applications may open a secure channel, as files that an administrator can move.

In: a folder, and certificates as clients send them. Out: accepted, or why not; what is refused for lack of trust is
kept in the folder, so that it can be accepted.

The layout is the one that other OPC UA software has too (Part 12, 7.8.2)::

    trusted/certs   applications, and authorities whose applications are trusted
    issuers/certs   authorities that only complete a chain
    trusted/crl     revocation lists of authorities, as in issuers/crl
    rejected/certs  applications that were refused because nobody has accepted them yet: the newest of them
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from bridge.files import write_private

from .errors import TrustError
from .validation import (
    CertificateRefused,
    Stores,
    application_uris,
    certificates_in,
    validate,
    validate_untrusted,
)

log = structlog.get_logger(__name__)

REJECTED_KEPT = 50
LARGEST_FILE = 64 * 1024
SHOWN_DIGITS = 16
"""Of a thumbprint, in lists and log lines: more than anybody could make on purpose."""
SHORTEST_ID = 8
LINES_FOR_AN_ADDRESS = 20  # about refused certificates, until the trust list changes
_REMEMBERED_REFUSALS = 1000
_REMEDY = "if you know this client, move its file from rejected/certs into trusted/certs"
_SUFFIXES = {".der", ".cer", ".crt", ".pem", ".crl"}

Read = TypeVar("Read")
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate in a file of the trust list."""

    path: Path
    certificate: x509.Certificate

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the certificate, hexadecimal: what OPC UA knows a certificate by (Part 6, 6.2.3)."""
        return thumbprint(self.certificate)

    @property
    def name(self) -> str:
        """The common name, as it may be shown."""
        return shown_name(self.certificate)

    @property
    def application_uri(self) -> str:
        """The application's URI, as it may be shown; empty when it has none."""
        return printable(", ".join(application_uris(self.certificate)))


class TrustList:
    """The trust list in `folder`; changes of its files count at once.

    `accept_any` lets every certificate in that is strong and valid. `remedy` is what a log line tells an administrator
    to do to accept a client; ``{id}`` in it stands for the certificate's id.
    """

    def __init__(self, folder: Path, *, accept_any: bool = False, remedy: str = _REMEDY) -> None:
        self.folder = folder
        self.accept_any = accept_any
        self._remedy = remedy
        self._stores = Stores()
        self._signature: Signature | None = None
        self._told: dict[tuple[str, int], None] = {}
        self._lines: dict[str, int] = {}  # in the log, by address

    def check(self, sent: bytes, address: str) -> None:
        """CertificateRefused when what a client at `address` sent may not be used; told in the log once."""
        try:
            certificates = certificates_in(sent)
        except CertificateRefused as refused:
            self._tell((address, refused.status), refused, address)
            raise
        try:
            self.validate(certificates)
        except CertificateRefused as refused:
            certificate = certificates[0]
            kept = refused.status == ua.StatusCodes.BadCertificateUntrusted and self._reject(certificate)
            shown = thumbprint(certificate)[:SHOWN_DIGITS]
            self.tell(
                certificate, refused, address, **{"hint": self._remedy.format(id=shown)} if kept else {}
            )
            raise

    def tell(
        self, certificate: x509.Certificate, refused: CertificateRefused, address: str, **more: str
    ) -> None:
        """Say in the log that a client's certificate is refused; once, and not too often for one address."""
        known = thumbprint(certificate)
        about = {"client": shown_name(certificate), "id": known[:SHOWN_DIGITS], **more}
        self._tell((known, refused.status), refused, address, **about)

    def validate(self, certificates: list[x509.Certificate]) -> None:
        """CertificateRefused when the first of these, followed by issuers, may not be used now."""
        now = datetime.now(UTC)
        if self.accept_any:
            validate_untrusted(certificates[0], now)
        else:
            self.refresh()
            validate(certificates, self._stores, now)

    def refresh(self) -> bool:
        """Read the files again if they changed; whether they did."""
        signature = tuple(self._look())
        if signature == self._signature:
            return False
        self._signature = signature
        self._told.clear()
        self._lines.clear()
        self._stores = Stores(
            trusted=tuple(entry.certificate for entry in self._entries("trusted")),
            issuers=tuple(entry.certificate for entry in self._entries("issuers")),
            crls=tuple(
                crl
                for store in ("trusted", "issuers")
                for _, crl in _read(self.folder / store / "crl", _load_crl)
            ),
        )
        return True

    def trusted(self) -> list[Entry]:
        """The applications and authorities that are trusted."""
        return list(self._entries("trusted"))

    def rejected(self) -> list[Entry]:
        """The applications that wait to be accepted, the newest first."""
        return sorted(
            self._entries("rejected"), key=lambda entry: entry.path.stat().st_mtime_ns, reverse=True
        )

    def accept(self, id: str) -> Entry:
        """Trust a rejected application from now on. TrustError when there is not exactly one with this id."""
        entry = _only(self.rejected(), id, "no rejected certificate", self.folder / "rejected" / "certs")
        target = self._folder("trusted") / entry.path.name
        try:
            write_private(target, entry.certificate.public_bytes(serialization.Encoding.DER))
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(target, error) from error
        return Entry(target, entry.certificate)

    def remove(self, id: str) -> Entry:
        """Trust an application or authority no longer. TrustError when there is not exactly one with this id."""
        entry = _only(self.trusted(), id, "no trusted certificate", self.folder / "trusted" / "certs")
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(entry.path, error) from error
        return entry

    def make_folders(self) -> None:
        """Make the folders into which an administrator may put files. TrustError when they cannot be made."""
        for store in ("trusted", "issuers"):
            self._folder(store)
            self._folder(store, "crl")
        self._folder("rejected")

    def _folder(self, store: str, kind: str = "certs") -> Path:
        folder = self.folder / store / kind
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        return folder

    def _entries(self, store: str) -> Iterator[Entry]:
        for path, certificate in _read(self.folder / store / "certs", _load_certificate):
            yield Entry(path, certificate)

    def _look(self) -> Iterator[tuple[str, int, int, int]]:
        for part in ("trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl"):
            try:
                with os.scandir(self.folder / part) as found:
                    for one in sorted(found, key=lambda one: one.name):
                        status = one.stat()
                        yield f"{part}/{one.name}", status.st_mtime_ns, status.st_ino, status.st_size
            except OSError:
                continue  # no folder is an empty one; a file that went meanwhile is seen the next time

    def _reject(self, certificate: x509.Certificate) -> bool:
        """Keep the certificate to be accepted; whether that was possible."""
        content = certificate.public_bytes(serialization.Encoding.DER)
        if len(content) > LARGEST_FILE:
            return False
        try:
            folder = self._folder("rejected")
            path = folder / _file_name(certificate)
            if not path.exists():
                kept = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime_ns)
                for old in kept[: max(0, len(kept) - REJECTED_KEPT + 1)]:
                    old.unlink(missing_ok=True)
                write_private(path, content)
        except (OSError, TrustError) as error:
            log.error("a rejected OPC UA certificate cannot be kept", reason=str(error))
            return False
        return True

    def _tell(self, key: tuple[str, int], refused: CertificateRefused, address: str, **about: str) -> None:
        lines = self._lines.get(address, 0)
        if key in self._told or lines >= LINES_FOR_AN_ADDRESS:
            return
        self._told[key] = None
        self._lines[address] = lines + 1
        _forget_oldest(self._told)
        _forget_oldest(self._lines)
        what = "of this" if lines + 1 < LINES_FOR_AN_ADDRESS else "from there"
        log.warning(
            "an OPC UA client is refused because of its certificate",
            reason=str(refused),
            address=address,
            more=f"{what} are not logged",
            **about,
        )


def _forget_oldest(remembered: dict[Any, Any]) -> None:
    if len(remembered) > _REMEMBERED_REFUSALS:
        del remembered[next(iter(remembered))]


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 (what the standard names it by)


def shown_name(certificate: x509.Certificate) -> str:
    """The common name, as it may stand in a log: whoever asks chose it."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return printable(str(names[0].value)) if names else ""


def printable(text: str) -> str:
    """As it may stand in a log."""
    return "".join(c if c.isprintable() else "?" for c in text[:128])


def _file_name(certificate: x509.Certificate) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", shown_name(certificate)[:40]).strip("-")
    return f"{thumbprint(certificate)}{'_' if cleaned else ''}{cleaned}.der"


def _read(folder: Path, load: Callable[[bytes], Read]) -> Iterator[tuple[Path, Read]]:
    """What the files in `folder` hold; one that cannot be used is told and left out."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning(
            "a folder of the OPC UA trust list cannot be read", path=str(folder), reason=error.strerror
        )
        return
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        try:
            if path.stat().st_size > LARGEST_FILE * 16:
                raise ValueError("it is too large")
            yield path, load(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            log.warning("a file of the OPC UA trust list cannot be used", path=str(path), reason=str(error))


def _load_certificate(content: bytes) -> x509.Certificate:
    if content.startswith(b"-----"):
        return x509.load_pem_x509_certificate(content)
    return x509.load_der_x509_certificate(content)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, DER or PEM. TrustError when there is none."""
    try:
        return _load_certificate(path.read_bytes())
    except OSError as error:
        raise TrustError(
            f"{path}: cannot be read: {error.strerror}; give the file of a certificate"
        ) from None
    except ValueError:
        raise TrustError(
            f"{path}: holds no X.509 certificate; give one in DER or PEM, without its key"
        ) from None


def _load_crl(content: bytes) -> x509.CertificateRevocationList:
    return (
        x509.load_pem_x509_crl(content) if content.startswith(b"-----") else x509.load_der_x509_crl(content)
    )


def _only(entries: list[Entry], id: str, none: str, where: Path) -> Entry:
    wanted = id.lower()
    found = [entry for entry in entries if entry.thumbprint.startswith(wanted)]
    if len(wanted) < SHORTEST_ID:
        raise TrustError(f"{id!r} is too short: give at least {SHORTEST_ID} digits of the id")
    if len(found) != 1:
        fault = none if not found else "more than one certificate"
        raise TrustError(
            f"{where}: there is {fault} with the id {id}; there are"
            f" {', '.join(entry.thumbprint[:SHOWN_DIGITS] for entry in entries) or 'none'}"
        )
    return found[0]


def _cannot_write(path: Path, error: OSError) -> TrustError:
    return TrustError(f"{path}: cannot be changed: {error.strerror}; make the folder writable for this user")
