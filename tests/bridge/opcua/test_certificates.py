"""The application certificate is made once, says the right things, and is refused when it does not fit."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from bridge.opcua import CertificateError, certificates
from bridge.opcua.certificates import host_names, load_or_create

from . import authority

URI = "urn:example:server"


def made(folder: Path) -> certificates.Identity:
    return load_or_create(folder, "Example", URI, ["printer-host", "192.0.2.1"])


def test_a_new_certificate_names_the_application_and_its_hosts(tmp_path: Path) -> None:
    certificate = made(tmp_path / "pki").certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    assert names.get_values_for_type(x509.DNSName) == ["printer-host"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.content_commitment
    assert usage.key_encipherment
    assert usage.data_encipherment
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert certificate.public_key().key_size == 2048
    assert certificate.not_valid_before_utc < datetime.now(UTC) < certificate.not_valid_after_utc


def test_the_key_is_private_and_both_are_kept(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    assert first.certificate == second.certificate
    assert stat.S_IMODE((tmp_path / "private_key.pem").stat().st_mode) == 0o600
    assert load_or_create(tmp_path, "Example", None, []).application_uri == URI


def test_without_a_uri_a_new_certificate_gets_one(tmp_path: Path) -> None:
    uri = load_or_create(tmp_path, "My Server", None, []).application_uri
    assert uri.startswith("urn:")
    assert uri.endswith(":My-Server")


def break_key(folder: Path) -> None:
    (folder / "private_key.pem").write_text("-----BEGIN")


def swap_key(folder: Path) -> None:
    load_or_create(folder / "other", "Other", URI, [])
    (folder / "other" / "private_key.pem").replace(folder / "private_key.pem")


def lose_key(folder: Path) -> None:
    (folder / "private_key.pem").unlink()


def let_expire(folder: Path) -> None:
    """Somebody else issued the certificate, and it has ended."""
    issued(folder, ends_in=timedelta(days=-1))


def issued(folder: Path, ends_in: timedelta) -> None:
    ca = authority.issue("plant", ca=True, uri=None)
    now = datetime.now(UTC)
    begin = now - timedelta(days=100)
    authority.issue("server", issuer=ca, uri=URI, begin=begin, end=now + ends_in).write(folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_key, "damaged"),
        (swap_key, r"private_key\.pem is not the key of certificate\.der"),
        (lose_key, r"private_key\.pem cannot be read"),
        (let_expire, "expired on"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_a_remedy(tmp_path: Path, harm, message: str) -> None:
    made(tmp_path)
    harm(tmp_path)
    with pytest.raises(CertificateError, match=message) as refused:
        made(tmp_path)
    assert "delete certificate.der and private_key.pem to get new ones" in str(refused.value)


def test_a_certificate_of_another_application_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(CertificateError, match="is for urn:example:server, not for urn:other"):
        load_or_create(tmp_path, "Example", "urn:other", [])


def test_host_names_cover_loopback_but_no_wildcard() -> None:
    assert "0.0.0.0" not in host_names("0.0.0.0")
    assert host_names("192.0.2.7")[0] == "192.0.2.7"
    assert {"localhost", "127.0.0.1"} <= set(host_names("192.0.2.7"))


def test_a_name_beyond_ascii_gives_a_certificate_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "drucker-süd")
    identity = load_or_create(tmp_path, "Süd Werk", None, host_names("0.0.0.0"))
    assert identity.application_uri == "urn:drucker-s%C3%BCd:S%C3%BCd-Werk"
    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "xn--drucker-sd-ieb" in names.get_values_for_type(x509.DNSName)


def test_another_host_name_keeps_certificate_and_uri_and_is_warned_of(tmp_path: Path) -> None:
    first = load_or_create(tmp_path, "Example", None, ["old-host", "127.0.0.1"])
    with capture_logs() as logs:
        same = load_or_create(tmp_path, "Example", None, ["127.0.0.1"])
        assert logs == []
        again = load_or_create(tmp_path, "Example", None, ["new-host", "127.0.0.1"])
    assert first.certificate == same.certificate == again.certificate
    assert again.application_uri == first.application_uri
    assert [entry["missing"] for entry in logs] == [["new-host"]]


@pytest.mark.parametrize(("days", "warnings"), [(30, ["expires soon"]), (61, [])])
def test_a_certificate_of_somebody_else_is_kept_and_its_end_told_in_time(
    tmp_path: Path, days: int, warnings: list[str]
) -> None:
    issued(tmp_path, ends_in=timedelta(days=days))
    before = (tmp_path / "certificate.der").read_bytes()
    with capture_logs() as logs:
        load_or_create(tmp_path, "Example", URI, ["localhost"])
    assert (tmp_path / "certificate.der").read_bytes() == before
    assert len(logs) == len(warnings)
    for entry, text in zip(logs, warnings, strict=True):
        assert text in entry["event"]


@pytest.mark.parametrize("left", [timedelta(days=30), timedelta(hours=-1)])
def test_an_own_certificate_is_renewed_before_and_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: timedelta
) -> None:
    with monkeypatch.context() as short:
        short.setattr(certificates, "VALIDITY", left)
        old = load_or_create(tmp_path, "Example", URI, ["old-host"])
    with capture_logs() as logs:
        new = load_or_create(tmp_path, "Example", None, ["new-host", "192.0.2.1"])
        again = load_or_create(tmp_path, "Example", None, ["new-host", "192.0.2.1"])
    assert new.certificate == again.certificate != old.certificate
    assert new.application_uri == URI
    assert new.key.private_numbers() == old.key.private_numbers()
    names = new.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["new-host"]
    assert new.certificate.not_valid_after_utc > datetime.now(UTC) + certificates.RENEW_BEFORE_END
    (kept,) = tmp_path.glob("certificate-????-??-??.der")
    assert x509.load_der_x509_certificate(kept.read_bytes()) == old.certificate
    (told,) = logs
    assert "let clients trust the new one" in told["event"]
    assert told["old"] == str(kept)


def test_an_own_certificate_that_lasts_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "VALIDITY", timedelta(days=61))
    first = made(tmp_path)
    with capture_logs() as logs:
        assert made(tmp_path).certificate == first.certificate
    assert logs == []


def test_the_key_is_never_readable_by_others_not_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", watch)
    before = os.umask(0)
    try:
        made(tmp_path / "pki")
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CertificateError, match="cannot write the application certificate to .*make the folder"
    ):
        made(tmp_path / "file" / "pki")
