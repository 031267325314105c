from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from bridge import https
from bridge.https import HttpsError, load
from bridge.settings import PushSettings

SETTINGS = PushSettings(https=True)


def split(folder: Path) -> PushSettings:
    """The bridge's own certificate as two files of an administrator."""
    load(SETTINGS, folder)
    text = (folder / https.OWN).read_text()
    key, begin, rest = text.partition("-----BEGIN CERTIFICATE-----")
    (folder / "cert.pem").write_text(begin + rest)
    (folder / "key.pem").write_text(key)
    (folder / "key.pem").chmod(0o600)
    return replace(SETTINGS, certificate_file=folder / "cert.pem", private_key_file=folder / "key.pem")


def handshake(found: https.Https) -> bytes:
    """What a client that asks nothing sees: the certificate's DER."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with found.context.wrap_socket(connection, server_side=True):
                pass

        serving = threading.Thread(target=serve)
        serving.start()
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(listening.getsockname(), timeout=30) as plain,
            client.wrap_socket(plain) as secured,
        ):
            seen = secured.getpeercert(binary_form=True)
        serving.join(30)
    assert seen is not None
    return seen


def test_the_fingerprint_is_that_of_what_clients_see(tmp_path: Path) -> None:
    found = load(SETTINGS, tmp_path)
    assert hashlib.sha256(handshake(found)).hexdigest() == found.fingerprint


def test_a_certificate_made_here_stays_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    first = load(SETTINGS, tmp_path)
    assert load(replace(SETTINGS, host="10.0.0.1"), tmp_path).fingerprint == first.fingerprint
    assert (tmp_path / https.OWN).stat().st_mode & 0o777 == 0o600


def test_a_certificate_made_here_names_the_host_and_lasts(tmp_path: Path) -> None:
    load(replace(SETTINGS, host="192.0.2.7"), tmp_path)
    certificate = x509.load_pem_x509_certificate((tmp_path / https.OWN).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "192.0.2.7" in [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]
    assert socket.gethostname() in names.get_values_for_type(x509.DNSName)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=19 * 365)


def test_an_administrators_files_are_used(tmp_path: Path) -> None:
    settings = split(tmp_path)
    assert (
        hashlib.sha256(handshake(load(settings, tmp_path))).hexdigest()
        == load(SETTINGS, tmp_path).fingerprint
    )


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    settings = split(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    stray = split(other).private_key_file
    with pytest.raises(HttpsError, match=r"other/key\.pem: is not the key of the certificate in .*cert\.pem"):
        load(replace(settings, private_key_file=stray), tmp_path)


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    settings = split(tmp_path)
    with pytest.raises(HttpsError, match=r"gone\.pem: cannot be read: No such file.*push\.certificate_file"):
        load(replace(settings, certificate_file=tmp_path / "gone.pem"), tmp_path)
    with pytest.raises(HttpsError, match=r"gone\.pem: cannot be read: No such file.*push\.private_key_file"):
        load(replace(settings, private_key_file=tmp_path / "gone.pem"), tmp_path)


def test_what_is_no_pem_is_named(tmp_path: Path) -> None:
    settings = split(tmp_path)
    (tmp_path / "odd").write_text("something else")
    with pytest.raises(HttpsError, match="odd: holds no certificate in PEM"):
        load(replace(settings, certificate_file=tmp_path / "odd"), tmp_path)
    with pytest.raises(HttpsError, match="odd: holds no private key in PEM"):
        load(replace(settings, private_key_file=tmp_path / "odd"), tmp_path)


def test_a_key_with_a_password_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    settings = split(tmp_path)
    assert settings.private_key_file is not None
    key = serialization.load_pem_private_key(settings.private_key_file.read_bytes(), None)
    settings.private_key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(HttpsError, match="or one that needs a password"):
        load(settings, tmp_path)


def test_a_damaged_certificate_of_our_own_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / https.OWN).write_text("half")
    with pytest.raises(HttpsError, match=r"https\.pem: holds no certificate.*backup.*paired again"):
        load(SETTINGS, tmp_path)
    assert (tmp_path / https.OWN).read_text() == "half"


def test_a_certificate_near_its_end_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "_VALIDITY", timedelta(days=30))
    first = load(SETTINGS, tmp_path)
    with capture_logs() as said:
        assert load(SETTINGS, tmp_path).fingerprint == first.fingerprint
    assert [one["event"] for one in said] == ["the https certificate expires soon"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    settings = split(tmp_path)
    assert settings.private_key_file is not None
    settings.private_key_file.chmod(0o644)
    with capture_logs() as said:
        load(settings, tmp_path)
    assert "chmod 600" in said[-1]["event"]
