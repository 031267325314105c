"""The application certificate (Part 6, 6.2.2): made at the first start, then read, and renewed before its end.

In: a folder, the application's name and URI, host names. Out: the certificate and its key. The files are
certificate.der, which clients may have to be given, and private_key.pem, which nobody may have (mode 0600).

Clients trust exactly this certificate, so that it is replaced only when they would soon refuse it: a self-signed one
that ends is renewed with the same key, which makes it a change of one file that a crash cannot tear, and the old one is
kept beside it. One that somebody else issued is left alone and warned of; one that cannot be used is refused.
"""

import ipaddress
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.files import write_private

from .errors import CertificateError
from .validation import is_self_signed

log = structlog.get_logger(__name__)

WILDCARDS = {"", "0.0.0.0", "::"}  # noqa: S104 (compared, not bound)
KEY_BITS = 2048
VALIDITY = timedelta(days=3650)
RENEW_BEFORE_END = timedelta(days=60)
_LONGEST_NAME = 64  # X.520's upper bound of a common name


class Identity(NamedTuple):
    """The application certificate, its key, and the application URI that it says."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    application_uri: str


def host_names(host: str) -> list[str]:
    """Names and addresses by which clients may reach a server that listens on `host`."""
    names = [] if host in WILDCARDS else [host]
    return list(dict.fromkeys([*names, socket.gethostname(), "localhost", "127.0.0.1"]))


def load_or_create(
    folder: Path, application_name: str, application_uri: str | None, hosts: Sequence[str]
) -> Identity:
    """The identity in this folder; made when there is none, and with a new certificate when the old one ends soon.

    Without an `application_uri` the one in the certificate stands, and a new certificate gets one of the host's
    and the application's name. CertificateError when a file is missing or unreadable, the two do not belong
    together, the URI is another one, or a certificate of somebody else has expired. Hosts that it does not name are
    only logged.
    """
    certificate_path, key_path = folder / "certificate.der", folder / "private_key.pem"
    if certificate_path.exists() or key_path.exists():
        identity = _load(certificate_path, key_path, application_uri)
        if _ends_soon(identity.certificate) and is_self_signed(identity.certificate):
            identity = _renewed(certificate_path, identity, application_name, hosts)
        _warn(certificate_path, identity.certificate, hosts)
        return identity
    uri = application_uri or quote(f"urn:{socket.gethostname()}:{application_name}".replace(" ", "-"), ":")
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    certificate = _self_signed(key, application_name, uri, hosts)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(key_path, pem)
        write_private(certificate_path, certificate.public_bytes(serialization.Encoding.DER))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return Identity(certificate, key, uri)


def _renewed(path: Path, old: Identity, application_name: str, hosts: Sequence[str]) -> Identity:
    """The identity with a new certificate for the same key, application and, where they are known, hosts."""
    certificate = _self_signed(old.key, application_name, old.application_uri, hosts)
    kept = path.with_name(f"{path.stem}-{datetime.now(UTC):%Y-%m-%d}{path.suffix}")
    try:
        write_private(kept, old.certificate.public_bytes(serialization.Encoding.DER))
        write_private(path, certificate.public_bytes(serialization.Encoding.DER))
    except OSError as error:
        raise _cannot_write(path.parent, error) from error
    log.warning(
        "the OPC UA certificate was renewed since it ends: let clients trust the new one",
        path=str(path),
        old=str(kept),
        ended=f"{old.certificate.not_valid_after_utc:%Y-%m-%d}",
        expires=f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    )
    return Identity(certificate, old.key, old.application_uri)


def _ends_soon(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) < RENEW_BEFORE_END


def _cannot_write(folder: Path, error: OSError) -> CertificateError:
    return CertificateError(
        f"cannot write the application certificate to {folder}: {error.strerror}; "
        "make the folder writable for this user or choose another one"
    )


def _load(certificate_path: Path, key_path: Path, application_uri: str | None) -> Identity:
    remedy = f"put the right file back, or delete {certificate_path.name} and {key_path.name} to get new ones"
    try:
        certificate = x509.load_der_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"{error.filename} cannot be read: {error.strerror}; {remedy}") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"{certificate_path.parent} holds a certificate or key that is damaged; {remedy}"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(f"{key_path} is not the key of {certificate_path.name}; {remedy}")
    if certificate.not_valid_after_utc < datetime.now(UTC) and not is_self_signed(certificate):
        raise CertificateError(
            f"{certificate_path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {remedy}"
        )
    names = _names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not uris or (application_uri is not None and application_uri not in uris):
        raise CertificateError(
            f"{certificate_path} is for {', '.join(uris) or 'no application URI'}, not for {application_uri}; {remedy}"
        )
    return Identity(certificate, key, application_uri or uris[0])


def _warn(path: Path, certificate: x509.Certificate, hosts: Sequence[str]) -> None:
    """Say what clients will mind, as long as there is time to do something about it."""
    now = datetime.now(UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        log.warning(
            "the OPC UA certificate is not valid yet: check this computer's clock",
            path=str(path),
            valid_from=f"{first:%Y-%m-%d}",
        )
    if _ends_soon(certificate):
        log.warning(
            "the OPC UA certificate expires soon: have its issuer renew it, or delete it and its key before the next"
            " start to get new ones; then let clients trust the new one",
            path=str(path),
            expires=f"{last:%Y-%m-%d}",
        )
    named = set(_names(certificate))
    missing = [host for host in hosts if general_name(host) not in named]
    if missing:
        log.warning(
            "the OPC UA certificate does not name this host as it is called now, which strict clients refuse:"
            " delete it and its key before the next start to get new ones",
            path=str(path),
            missing=missing,
        )


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _self_signed(
    key: rsa.RSAPrivateKey, application_name: str, uri: str, hosts: Sequence[str]
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, application_name[:_LONGEST_NAME])])
    now = datetime.now(UTC)
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clients' clocks may be behind
        .not_valid_after(now + VALIDITY)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *map(general_name, hosts)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=True,  # self-signed: some stacks refuse it without
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )


def general_name(name: str) -> x509.GeneralName:
    """A host name or IP address as a subject alternative name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name if name.isascii() else name.encode("idna").decode())
