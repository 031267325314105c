"""Each step of the certificate checks (Part 4, 6.1.3) refuses what it should, and tells strangers nothing."""

from typing import Any

import pytest
from asyncua import ua
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from bridge.opcua.validation import CertificateRefused, Stores, certificates_in, validate, validate_untrusted

from .authority import DAY, NOW, Holder, issue, key, revocations

Codes = ua.StatusCodes
ROOT = issue("root", ca=True, uri=None)
MIDDLE = issue("middle", ca=True, uri=None, issuer=ROOT)
CLIENT = issue("client", issuer=MIDDLE)
CRLS = (revocations(ROOT), revocations(MIDDLE))


def stores(trusted: list[Holder], issuers: tuple[Holder, ...] = (), crls: Any = ()) -> Stores:
    return Stores(
        tuple(one.certificate for one in trusted), tuple(one.certificate for one in issuers), tuple(crls)
    )


def status(client: Holder, held: Stores, *sent: Holder) -> int:
    """The status of the refusal, 0 without one."""
    try:
        validate([one.certificate for one in (client, *sent)], held, NOW)
    except CertificateRefused as refused:
        return refused.status
    return 0


@pytest.mark.parametrize(
    "client",
    [
        issue(),
        issue(bits=4096),
        issue(end=NOW),
        issue(begin=NOW),
        issue(extended=None),
        issue(extended=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),
        issue(algorithm=hashes.SHA512()),
        issue(ca=True),
    ],
)
def test_a_self_signed_certificate_in_the_trust_list_is_accepted(client: Holder) -> None:
    assert status(client, stores([client])) == 0
    assert status(client, stores([])) == Codes.BadCertificateUntrusted
    assert status(client, stores([], (client,))) == Codes.BadCertificateUntrusted


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (issue(end=NOW - DAY, begin=NOW - 2 * DAY), Codes.BadCertificateTimeInvalid),
        (issue(begin=NOW + DAY), Codes.BadCertificateTimeInvalid),
        (issue(uses={"digital_signature": False}), Codes.BadCertificateUseNotAllowed),
        (issue(uses={"data_encipherment": False}), Codes.BadCertificateUseNotAllowed),
        (issue(extended=ExtendedKeyUsageOID.SERVER_AUTH), Codes.BadCertificateUseNotAllowed),
        (issue(bits=1024), Codes.BadCertificatePolicyCheckFailed),
        (issue(algorithm=hashes.SHA224()), Codes.BadCertificatePolicyCheckFailed),
    ],
)
def test_a_bad_certificate_is_refused_though_it_is_trusted(client: Holder, expected: int) -> None:
    assert status(client, stores([client])) == expected
    with pytest.raises(CertificateRefused) as refused:
        validate_untrusted(client.certificate, NOW)
    assert refused.value.status == expected


def test_a_certificate_that_was_changed_is_refused() -> None:
    client = issue()
    forged = Holder(issue("client", issuer=Holder(client.certificate, key("other"))).certificate, client.key)
    assert status(forged, stores([forged])) == Codes.BadCertificateInvalid


@pytest.mark.parametrize("trusted", [[ROOT], [MIDDLE], [CLIENT]])
def test_a_chain_with_one_trusted_certificate_is_accepted(trusted: list[Holder]) -> None:
    assert status(CLIENT, stores(trusted, (ROOT, MIDDLE), CRLS)) == 0
    assert status(CLIENT, stores(trusted, (), CRLS), MIDDLE, ROOT) == 0


def test_a_chain_that_nobody_trusts_or_that_has_a_gap_is_refused() -> None:
    assert status(CLIENT, stores([], (ROOT, MIDDLE), CRLS)) == Codes.BadCertificateUntrusted
    assert status(CLIENT, stores([ROOT], (), CRLS)) == Codes.BadCertificateChainIncomplete
    assert status(CLIENT, stores([CLIENT], (MIDDLE,), CRLS)) == Codes.BadCertificateChainIncomplete


def test_somebody_of_the_same_name_is_no_issuer() -> None:
    pretended = Holder(issue("middle", ca=True, uri=None).certificate, key("other"))
    client = issue("client", issuer=pretended)
    assert status(client, stores([ROOT], (MIDDLE,), CRLS)) == Codes.BadCertificateChainIncomplete


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        (issue("issuer", issuer=ROOT), Codes.BadCertificateIssuerUseNotAllowed),
        (
            issue("issuer", issuer=ROOT, ca=True, uses={"key_cert_sign": False}),
            Codes.BadCertificateIssuerUseNotAllowed,
        ),
        (
            issue("issuer", issuer=ROOT, ca=True, end=NOW - DAY, begin=NOW - 2 * DAY),
            Codes.BadCertificateIssuerTimeInvalid,
        ),
        (issue("issuer", issuer=ROOT, ca=True, bits=1024), Codes.BadCertificatePolicyCheckFailed),
    ],
)
def test_an_issuer_has_to_be_one(issuer: Holder, expected: int) -> None:
    client = issue("client", issuer=issuer)
    assert status(client, stores([ROOT], (issuer,), [revocations(ROOT), revocations(issuer)])) == expected


def test_a_chain_may_not_be_longer_than_its_issuers_allow() -> None:
    root = issue("root", ca=True, uri=None, path_length=0)
    middle = issue("middle", ca=True, uri=None, issuer=root)
    client = issue("client", issuer=middle)
    crls = [revocations(root), revocations(middle)]
    assert status(client, stores([root], (middle,), crls)) == Codes.BadCertificateIssuerUseNotAllowed
    assert status(issue("client", issuer=root), stores([root], (), crls)) == 0


@pytest.mark.parametrize(
    ("crls", "expected"),
    [
        ([revocations(ROOT), revocations(MIDDLE, CLIENT)], Codes.BadCertificateRevoked),
        ([revocations(ROOT, MIDDLE), revocations(MIDDLE)], Codes.BadCertificateIssuerRevoked),
        ([revocations(ROOT)], Codes.BadCertificateRevocationUnknown),
        ([revocations(MIDDLE)], Codes.BadCertificateIssuerRevocationUnknown),
        ([revocations(ROOT), revocations(MIDDLE, until=NOW - DAY)], Codes.BadCertificateRevocationUnknown),
        ([revocations(ROOT), revocations(MIDDLE, signed_by=ROOT)], Codes.BadCertificateRevocationUnknown),
        ([revocations(ROOT), revocations(MIDDLE, ROOT)], 0),
    ],
)
def test_revocation_is_looked_up_in_lists_that_are_the_issuers_and_of_today(crls: Any, expected: int) -> None:
    assert status(CLIENT, stores([ROOT], (MIDDLE,), crls)) == expected


def test_what_a_client_sends_is_read_with_its_issuers() -> None:
    assert certificates_in(CLIENT.der) == [CLIENT.certificate]
    sent = certificates_in(CLIENT.der + MIDDLE.der + ROOT.der)
    assert sent == [CLIENT.certificate, MIDDLE.certificate, ROOT.certificate]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x84",
        b"\x30\x89" + b"\xff" * 9,
        b"x" * 5000,
        CLIENT.der[:-1],
        CLIENT.der + b"\x30\x82",
    ],
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(CertificateRefused) as refused:
        certificates_in(data)
    assert refused.value.status == Codes.BadCertificateInvalid


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (Codes.BadCertificateUntrusted, Codes.BadSecurityChecksFailed),
        (Codes.BadCertificateRevoked, Codes.BadSecurityChecksFailed),
        (Codes.BadCertificateInvalid, Codes.BadSecurityChecksFailed),
        (Codes.BadCertificateTimeInvalid, Codes.BadCertificateTimeInvalid),
        (Codes.BadCertificateUriInvalid, Codes.BadCertificateUriInvalid),
    ],
)
def test_only_who_is_trusted_learns_what_is_wrong(status: int, told: int) -> None:
    assert CertificateRefused(status, "").told == told
