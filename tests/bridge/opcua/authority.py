"""Certificates of every kind, good and bad, and revocation lists. Keys are made once a process: they take long."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
URI = "urn:example:client"
USES = {
    "digital_signature": True,
    "content_commitment": True,
    "key_encipherment": True,
    "data_encipherment": True,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


@lru_cache
def key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key called `name`."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(frozen=True)
class Holder:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Files as clients want them: certificate and key."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, private = folder / "certificate.der", folder / "private_key.pem"
        certificate.write_bytes(self.der)
        private.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private


def issue(
    name: str = "client",
    *,
    issuer: Holder | None = None,
    uri: str | None = URI,
    begin: datetime = NOW - DAY,
    end: datetime = NOW + 365 * DAY,
    ca: bool = False,
    path_length: int | None = None,
    bits: int = 2048,
    uses: dict[str, bool] | None = None,
    extended: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
    algorithm: Any = None,
) -> Holder:
    """A certificate, self-signed without an issuer."""
    own = key(name, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                **{**USES, **({"key_cert_sign": True, "crl_sign": True} if ca else {}), **(uses or {})}
            ),
            critical=True,
        )
    )
    if uri:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]),
            False,
        )
    if extended and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([extended]), False)
    return Holder(builder.sign((issuer.key if issuer else own), algorithm or hashes.SHA256()), own)


def revocations(
    issuer: Holder, *revoked: Holder, until: datetime = NOW + DAY, signed_by: Holder | None = None
) -> x509.CertificateRevocationList:
    """The revocation list of an issuer."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - 2 * DAY)
        .next_update(until)
    )
    for one in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(one.certificate.serial_number)
            .revocation_date(NOW - DAY)
            .build()
        )
    return builder.sign((signed_by or issuer).key, hashes.SHA256())
