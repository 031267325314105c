"""The certificate with which plugins are heard over https: the one of the settings, or one made at first start.

In: the settings and the state folder. Out: an SSL context, and the fingerprint by which plugins know the bridge
again. A certificate that was made here is never replaced, since plugins trust exactly this one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.files import write_private
from bridge.filewatch import marks
from bridge.opcua import certificates
from bridge.settings import PushSettings

log = structlog.get_logger(__name__)

OWN = "https.pem"
_VALIDITY = timedelta(days=20 * 365)
_WARN_BEFORE_END = timedelta(days=60)


class HttpsError(Exception):
    """https cannot be served; the text names the file, says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Https:
    """`fingerprint`: SHA-256 of the certificate's DER in hexadecimal digits."""

    context: ssl.SSLContext
    fingerprint: str


def load(settings: PushSettings, folder: Path) -> Https:
    """What https needs; without files in the settings, from ``https.pem`` in `folder`, made when there is none.

    Raises `HttpsError`.
    """
    certificate, key = settings.certificate_file, settings.private_key_file
    if certificate is None or key is None:
        certificate = key = folder / OWN
        remedy = (
            "bring it back from a backup, or delete it to get a new one; every plugin that was paired over https"
            " is then to be paired again"
        )
        if not certificate.exists():
            _make(certificate, certificates.host_names(settings.host))
    else:
        remedy = "see push.certificate_file and push.private_key_file in the settings"
    fingerprint = _look_at(certificate, remedy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one too
        raise HttpsError(f"{_explain(certificate, key, error)}; {remedy}") from None
    if os.name == "posix" and key.stat().st_mode & 0o077:
        log.warning("the private key is open to other users of this computer: chmod 600", path=str(key))
    return Https(context, fingerprint)


class Certificates:
    """The files of `https`, and what is served, which is replaced when they are."""

    def __init__(self, settings: PushSettings, folder: Path, https: Https | None) -> None:
        self._settings = settings
        self._folder = folder
        self._https = https
        named = (settings.certificate_file, settings.private_key_file)
        self._named = [one for one in named if one is not None]
        self.files = frozenset(self._named if https is not None else ())
        """Those of the settings; that of the bridge's own is never replaced."""
        self._marks = marks(self.files)

    async def renewed(self) -> str | None:
        """The fingerprint of the certificate that is served, after a look whether there is another; None over http.

        New connections get the new one. One that cannot be used is named in the log, and the old one stays.
        """
        if self._https is None:
            return None
        now = await asyncio.to_thread(marks, self.files)
        if now == self._marks:
            return self._https.fingerprint
        self._marks = now
        try:
            found = await asyncio.to_thread(load, self._settings, self._folder)
            certificate, key = self._named
            self._https.context.load_cert_chain(certificate, key, password=_no_password)
        except (HttpsError, OSError) as error:
            log.error("the new https certificate cannot be used: the old one is served", error=str(error))
            return self._https.fingerprint
        self._https = Https(self._https.context, found.fingerprint)
        log.info(
            "new connections of plugins get the new https certificate", certificate_sha256=found.fingerprint
        )
        return found.fingerprint


def _look_at(path: Path, remedy: str) -> str:
    """The fingerprint of the first certificate in `path`; says what plugins may mind about it."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise HttpsError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    except ValueError:
        raise HttpsError(f"{path}: holds no certificate in PEM; {remedy}") from None
    now, last = datetime.now(UTC), certificate.not_valid_after_utc
    if last - now < _WARN_BEFORE_END:
        log.warning(
            "the https certificate has expired" if last < now else "the https certificate expires soon",
            path=str(path),
            expires=f"{last:%Y-%m-%d}",
            hint="put another one in its place, and pair the plugins again that do not trust its authority",
        )
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _explain(certificate: Path, key: Path, error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"{key}: cannot be read: {error.strerror}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: is not the key of the certificate in {certificate}"
    return f"{key}: holds no private key in PEM, or one that needs a password"


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    return ""


def _make(path: Path, hosts: Sequence[str]) -> None:
    """Key and certificate in one file, so that a crash leaves both or none."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MESBridge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # plugins' clocks may be behind
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName(map(certificates.general_name, hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_private(path, pem + certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise HttpsError(
            f"{path}: the certificate cannot be kept: {error.strerror}; make the folder writable for the bridge's user"
        ) from None
    log.info("a certificate for https was made", path=str(path), for_hosts=list(hosts))
