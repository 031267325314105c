"""The trust list's files: what is refused waits to be accepted, within bounds, and nothing needs a restart."""

import os
import stat
from pathlib import Path

import pytest
from asyncua import ua
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from bridge.opcua import TrustError, TrustList, trust
from bridge.opcua.trust import SHOWN_DIGITS, thumbprint
from bridge.opcua.validation import CertificateRefused

from .authority import Holder, issue, revocations

CLIENT = issue()
ADDRESS = "192.0.2.7"


@pytest.fixture
def trust_list(tmp_path: Path) -> TrustList:
    return TrustList(tmp_path / "pki", remedy="trust accept {id}")


def status(trust_list: TrustList, sent: bytes) -> int:
    try:
        trust_list.check(sent, ADDRESS)
    except CertificateRefused as refused:
        return refused.status
    return 0


def id_of(holder: Holder) -> str:
    return thumbprint(holder.certificate)[:SHOWN_DIGITS]


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_stranger_is_refused_kept_and_told_once_with_the_command_that_lets_it_in(
    trust_list: TrustList,
) -> None:
    with capture_logs() as logs:
        assert status(trust_list, CLIENT.der) == status(trust_list, CLIENT.der)
    (told,) = logs
    assert told["hint"] == f"trust accept {id_of(CLIENT)}"
    assert (told["client"], told["address"]) == ("client", ADDRESS)
    (waiting,) = trust_list.rejected()
    assert waiting.certificate == CLIENT.certificate
    assert waiting.path.name == f"{thumbprint(CLIENT.certificate)}_client.der"
    assert stat.S_IMODE(waiting.path.stat().st_mode) == 0o600
    assert trust_list.trusted() == []


def test_one_address_cannot_fill_the_log_with_ever_new_certificates(
    trust_list: TrustList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "LINES_FOR_AN_ADDRESS", 2)
    with capture_logs() as logs:
        for n in range(4):
            status(trust_list, issue("client", uri=f"urn:example:{n}").der)
        with pytest.raises(CertificateRefused):
            trust_list.check(CLIENT.der, "192.0.2.8")
    assert [told["address"] for told in logs] == [ADDRESS, ADDRESS, "192.0.2.8"]
    assert logs[1]["more"] == "from there are not logged"


def test_accepting_and_removing_count_at_once_for_everybody(trust_list: TrustList) -> None:
    command = TrustList(trust_list.folder)
    assert status(trust_list, CLIENT.der) == ua.StatusCodes.BadCertificateUntrusted
    accepted = command.accept(id_of(CLIENT).upper())
    assert accepted.certificate == CLIENT.certificate
    assert command.rejected() == []
    assert status(trust_list, CLIENT.der) == 0
    command.remove(id_of(CLIENT))
    assert status(trust_list, CLIENT.der) == ua.StatusCodes.BadCertificateUntrusted


@pytest.mark.parametrize("encoding", [serialization.Encoding.DER, serialization.Encoding.PEM])
def test_files_that_are_moved_by_hand_count_too(
    trust_list: TrustList, encoding: serialization.Encoding
) -> None:
    status(trust_list, CLIENT.der)
    content = CLIENT.certificate.public_bytes(encoding)
    path = put(trust_list.folder / "trusted/certs", "by hand.CRT", content)
    assert status(trust_list, CLIENT.der) == 0
    path.unlink()
    assert status(trust_list, CLIENT.der) == ua.StatusCodes.BadCertificateUntrusted


@pytest.mark.parametrize("crl", ["trusted/crl", "issuers/crl"])
def test_an_authority_lets_its_clients_in_but_those_that_it_revoked(trust_list: TrustList, crl: str) -> None:
    root = issue("root", ca=True, uri=None)
    good, bad = issue("good", issuer=root), issue("bad", issuer=root)
    put(trust_list.folder / "trusted/certs", "root.der", root.der)
    assert status(trust_list, good.der) == ua.StatusCodes.BadCertificateRevocationUnknown
    content = revocations(root, bad).public_bytes(serialization.Encoding.DER)
    put(trust_list.folder / crl, "root.crl", content)
    assert status(trust_list, good.der) == 0
    assert status(trust_list, bad.der) == ua.StatusCodes.BadCertificateRevoked
    assert trust_list.rejected() == []


def test_a_file_that_cannot_be_used_is_named_and_disturbs_no_other(trust_list: TrustList) -> None:
    put(trust_list.folder / "trusted/certs", "broken.der", b"nonsense")
    put(trust_list.folder / "trusted/certs", "client.der", CLIENT.der)
    put(trust_list.folder / "trusted/crl", "broken.crl", b"nonsense")
    with capture_logs() as logs:
        assert status(trust_list, CLIENT.der) == 0
    assert sorted(Path(entry["path"]).name for entry in logs) == ["broken.crl", "broken.der"]


def test_of_many_strangers_the_newest_are_kept(
    trust_list: TrustList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "REJECTED_KEPT", 3)
    strangers = [issue("client", uri=f"urn:example:{n}") for n in range(5)]
    for age, stranger in zip(range(5, 0, -1), strangers, strict=True):
        status(trust_list, stranger.der)
        newest = next(one for one in trust_list.rejected() if one.certificate == stranger.certificate)
        os.utime(newest.path, (1e9 - age, 1e9 - age))
    kept = [one.certificate for one in trust_list.rejected()]
    assert kept == [one.certificate for one in reversed(strangers[2:])]


def test_a_name_cannot_leave_the_folder_or_write_into_the_log(trust_list: TrustList) -> None:
    stranger = issue("../../\x1b[2J\nevil /" + "x" * 30)
    with capture_logs() as logs:
        status(trust_list, stranger.der)
    (waiting,) = trust_list.rejected()
    assert waiting.path.parent == trust_list.folder / "rejected/certs"
    assert waiting.path.name == f"{thumbprint(stranger.certificate)}_2J-evil-{'x' * 23}.der"
    assert "\x1b" not in logs[0]["client"] + waiting.name
    assert "\n" not in logs[0]["client"] + waiting.name


def test_what_is_no_certificate_or_may_not_be_used_anyway_is_not_kept(trust_list: TrustList) -> None:
    weak = issue("weak", bits=1024)
    assert status(trust_list, b"nonsense") == ua.StatusCodes.BadCertificateInvalid
    assert status(trust_list, weak.der) == ua.StatusCodes.BadCertificatePolicyCheckFailed
    assert trust_list.rejected() == []


def test_an_id_has_to_be_long_and_of_one_certificate(trust_list: TrustList) -> None:
    status(trust_list, CLIENT.der)
    with pytest.raises(TrustError, match="too short: give at least 8"):
        trust_list.accept(id_of(CLIENT)[:7])
    with pytest.raises(
        TrustError, match=f"no rejected certificate with the id 00000000; there are {id_of(CLIENT)}"
    ):
        trust_list.accept("0" * 8)
    with pytest.raises(TrustError, match="no trusted certificate .* there are none"):
        trust_list.remove(id_of(CLIENT))
    put(trust_list.folder / "rejected/certs", "copy.der", CLIENT.der)
    with pytest.raises(TrustError, match="more than one certificate"):
        trust_list.accept(id_of(CLIENT))


def test_where_any_client_is_accepted_it_still_has_to_be_strong(tmp_path: Path) -> None:
    anyone = TrustList(tmp_path / "pki", accept_any=True)
    assert status(anyone, CLIENT.der) == 0
    assert status(anyone, issue("weak", bits=1024).der) == ua.StatusCodes.BadCertificatePolicyCheckFailed
    assert not (tmp_path / "pki").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    with pytest.raises(TrustError, match="cannot be changed.*make the folder writable"):
        TrustList(tmp_path / "pki").make_folders()
