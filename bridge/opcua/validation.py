"""Whether a client's application certificate may open a secure channel (Part 4, 6.1.3), without a clock or a file.

In: the certificate with the issuers sent along, what is trusted, the time. Out: nothing, or why it is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from asyncua import ua
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

Codes = ua.StatusCodes
Extension = TypeVar("Extension", bound=x509.ExtensionType)

KEY_BITS = (2048, 4096)
"""Of all three policies (Part 7: Basic256Sha256, Aes128-Sha256-RsaOaep, Aes256-Sha256-RsaPss)."""
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LONGEST_CHAIN = 5
ODD = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises, sooner or later, for certificates that it cannot make sense of."""
_CLIENT_USES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_TELLABLE = {
    Codes.BadCertificateTimeInvalid,
    Codes.BadCertificateIssuerTimeInvalid,
    Codes.BadCertificateUriInvalid,
    Codes.BadCertificateUseNotAllowed,
    Codes.BadCertificateIssuerUseNotAllowed,
    Codes.BadCertificateRevocationUnknown,
    Codes.BadCertificateIssuerRevocationUnknown,
}


class CertificateRefused(Exception):
    """A certificate that may not be used: `status` says which step failed, the text why, for an administrator."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def told(self) -> int:
        """The status for the client: before it is known as trusted it learns no more than that it was refused."""
        return self.status if self.status in _TELLABLE else Codes.BadSecurityChecksFailed


@dataclass(frozen=True, slots=True)
class Stores:
    """What an administrator has put into the trust list (Part 12, 7.8.2.1)."""

    trusted: tuple[x509.Certificate, ...] = ()
    issuers: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


def certificates_in(data: bytes) -> list[x509.Certificate]:
    """The certificate in a message's security header, and those of its issuers behind it (Part 6, 6.2.6).

    CertificateRefused when it is none.
    """
    try:
        found = [x509.load_der_x509_certificate(one) for one in _sequences(data)]
    except (IndexError, *ODD) as error:
        raise CertificateRefused(Codes.BadCertificateInvalid, f"it cannot be read: {error}") from None
    if not found:
        raise CertificateRefused(Codes.BadCertificateInvalid, "there is none")
    return found[: _LONGEST_CHAIN + 1]


def _sequences(data: bytes) -> Iterator[bytes]:
    """The DER values that stand one after the other (X.690, 8.1.3)."""
    while data:
        length, begin = data[1], 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[2:begin], "big")
        yield data[: begin + length]
        data = data[begin + length :]


def validate(sent: Sequence[x509.Certificate], stores: Stores, now: datetime) -> None:
    """Check the first of the certificates sent; CertificateRefused with the first step that fails."""
    path = _path(sent, stores)
    for certificate in path:
        _check_strength(certificate)
    if not any(certificate in stores.trusted for certificate in path):
        raise CertificateRefused(Codes.BadCertificateUntrusted, "it is not trusted")
    _check_times(path, now)
    _check_uses(path)
    _check_revocation(path, stores, now)


def validate_untrusted(certificate: x509.Certificate, now: datetime) -> None:
    """Check what can be checked of a certificate where any is accepted."""
    _check_strength(certificate)
    _check_times([certificate], now)
    _check_uses([certificate])


def validate_user(certificate: x509.Certificate, now: datetime) -> None:
    """Check what a user's certificate must be, whoever issued it; CertificateRefused with the first step that fails."""
    _check_strength(certificate)
    _check_times([certificate], now)
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise CertificateRefused(Codes.BadCertificateUseNotAllowed, "its key usage lacks digitalSignature")


def application_uris(certificate: x509.Certificate) -> list[str]:
    """The application URIs that a certificate names (Part 6, 6.2.2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it was issued with its own key."""
    return certificate.issuer == certificate.subject and _issued(certificate, certificate)


def _path(sent: Sequence[x509.Certificate], stores: Stores) -> list[x509.Certificate]:
    """From the certificate to a self-signed one."""
    known = (*sent[1:], *stores.trusted, *stores.issuers)
    path = [sent[0]]
    while path[-1].issuer != path[-1].subject:
        last = path[-1]
        issuer = next((one for one in known if one.subject == last.issuer and _issued(last, one)), None)
        if issuer is None or len(path) > _LONGEST_CHAIN:
            raise CertificateRefused(
                Codes.BadCertificateChainIncomplete,
                "an issuer's certificate is missing: put it into issuers/certs, and its revocation list into"
                " issuers/crl",
            )
        path.append(issuer)
    if not _issued(path[-1], path[-1]):
        raise CertificateRefused(Codes.BadCertificateInvalid, "its signature is wrong")
    return path


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_strength(certificate: x509.Certificate) -> None:
    low, high = KEY_BITS
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or not low <= key.key_size <= high:
        raise CertificateRefused(
            Codes.BadCertificatePolicyCheckFailed, f"it needs an RSA key of {low} to {high} bits"
        )
    if not isinstance(certificate.signature_hash_algorithm, _HASHES):
        raise CertificateRefused(
            Codes.BadCertificatePolicyCheckFailed, "it needs a signature with SHA-256 or longer"
        )


def _check_times(path: Sequence[x509.Certificate], now: datetime) -> None:
    for certificate, status in _leaf_then_issuers(
        path, Codes.BadCertificateTimeInvalid, Codes.BadCertificateIssuerTimeInvalid
    ):
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= now <= last:
            whose = "it" if certificate is path[0] else "an issuer's certificate"
            raise CertificateRefused(status, f"{whose} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}")


def _check_uses(path: Sequence[x509.Certificate]) -> None:
    """An extension that is missing limits nothing (RFC 5280, 4.2.1.3 and 4.2.1.12)."""
    usage = _extension(path[0], x509.KeyUsage)
    extended = _extension(path[0], x509.ExtendedKeyUsage)
    if usage is not None and not (usage.digital_signature and usage.data_encipherment):
        raise CertificateRefused(
            Codes.BadCertificateUseNotAllowed, "its key usage lacks digitalSignature or dataEncipherment"
        )
    if extended is not None and not _CLIENT_USES & set(extended):
        raise CertificateRefused(Codes.BadCertificateUseNotAllowed, "its extended key usage lacks clientAuth")
    for below, issuer in enumerate(path[1:]):
        constraints = _extension(issuer, x509.BasicConstraints)
        usage = _extension(issuer, x509.KeyUsage)
        too_deep = constraints is not None and (
            constraints.path_length is not None and constraints.path_length < below
        )
        if (
            constraints is None
            or not constraints.ca
            or too_deep
            or (usage is not None and not usage.key_cert_sign)
        ):
            raise CertificateRefused(
                Codes.BadCertificateIssuerUseNotAllowed, "its issuer may not issue certificates"
            )


def _check_revocation(path: Sequence[x509.Certificate], stores: Stores, now: datetime) -> None:
    for index, (certificate, issuer) in enumerate(pairwise(path)):
        leaf = index == 0
        lists = [
            crl
            for crl in stores.crls
            if crl.issuer == issuer.subject
            and (crl.next_update_utc is None or now <= crl.next_update_utc)
            and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # RSA: _check_strength
        ]
        if not lists:
            raise CertificateRefused(
                Codes.BadCertificateRevocationUnknown
                if leaf
                else Codes.BadCertificateIssuerRevocationUnknown,
                f"a present revocation list of {issuer.subject.rfc4514_string()} is missing: put it into trusted/crl"
                " or issuers/crl",
            )
        if any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in lists):
            raise CertificateRefused(
                Codes.BadCertificateRevoked if leaf else Codes.BadCertificateIssuerRevoked,
                "it is revoked" if leaf else "an issuer's certificate is revoked",
            )


def _leaf_then_issuers(
    path: Sequence[x509.Certificate], leaf: int, issuer: int
) -> Iterator[tuple[x509.Certificate, int]]:
    for index, certificate in enumerate(path):
        yield certificate, issuer if index else leaf


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise CertificateRefused(Codes.BadCertificateInvalid, f"it cannot be read: {error}") from None
