"""Users who prove who they are with a certificate's key (Part 4, 7.40.5 and 5.7.3).

In: an X509IdentityToken, the signature that came with it, what had to be signed. Out: the certificate, or the status
code with which it is refused.
"""

from collections.abc import Collection
from datetime import UTC, datetime

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import (
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
)
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .validation import ODD, CertificateRefused, certificates_in, validate_user

Codes = ua.StatusCodes
_PKCS1 = SecurityPolicyBasic256Sha256.AsymmetricSignatureURI  # of Aes128_Sha256_RsaOaep too
_PSS = SecurityPolicyAes256Sha256RsaPss.AsymmetricSignatureURI
ALGORITHMS = (_PKCS1, _PSS)


class ProvenCertificate(bytes):
    """The DER of a certificate whose key signed; asyncua gives the channel's own, which proves no user, as bytes."""


def prove(
    token: ua.X509IdentityToken,
    signature: ua.SignatureData,
    challenge: bytes,
    algorithms: Collection[str] = ALGORITHMS,
) -> ProvenCertificate:
    """The token's certificate, whose key signed the challenge: the server's certificate and its last nonce.

    ServiceError BadIdentityTokenInvalid for a certificate that cannot be used or has ended, BadUserSignatureInvalid
    for a signature that is missing, made by another key or another algorithm, or recorded in another session.
    """
    try:
        certificate = certificates_in(token.CertificateData or b"")[0]
        validate_user(certificate, datetime.now(UTC))
    except (CertificateRefused, *ODD):
        raise ServiceError(Codes.BadIdentityTokenInvalid) from None
    if signature.Algorithm not in algorithms or not _signed(certificate, signature, challenge):
        raise ServiceError(Codes.BadUserSignatureInvalid)
    return ProvenCertificate(certificate.public_bytes(serialization.Encoding.DER))


def _signed(certificate: x509.Certificate, signature: ua.SignatureData, challenge: bytes) -> bool:
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 (validate_user takes no other)
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if signature.Algorithm == _PSS:
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    try:
        key.verify(signature.Signature or b"", challenge, scheme, hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def claimed_user(token: object) -> str:
    """Whom a token names, proven or not: a user name, or the subject of a certificate; empty for neither."""
    if isinstance(token, ua.UserNameIdentityToken):
        return token.UserName or ""
    if isinstance(token, ua.X509IdentityToken):
        try:
            return certificates_in(token.CertificateData or b"")[0].subject.rfc4514_string()
        except (CertificateRefused, *ODD):
            return ""
    return ""
