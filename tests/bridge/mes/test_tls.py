"""A MES is trusted by the authority that the settings name, and what is wrong is said with what to do."""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from bridge.mes.client import Verdict
from bridge.mes.store import MesError
from tests.bridge.mes.authority import Authority
from tests.bridge.mes.peers import Peer, listening, sent, server_context, settings_of

DAY = timedelta(days=1)


@pytest.fixture
def plant(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def said(folder: Path, peer: Peer, **changes: Any) -> str:
    """Why the MES cannot be told."""
    outcome = sent(settings_of(folder, peer.url, **changes))
    assert outcome.verdict is Verdict.AWAY
    assert peer.seen == []
    return outcome.reason


def test_a_mes_with_a_certificate_of_the_plant_is_told(tmp_path: Path, plant: Authority) -> None:
    with listening(server_context(plant.certificate("mes"))) as peer:
        assert sent(settings_of(tmp_path, peer.url, ca_file=plant.file)).verdict is Verdict.DONE
    assert peer.seen[0][1]["authorization"] == "Token correct-horse"


def test_the_ca_file_counts_before_the_environment(
    tmp_path: Path, plant: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path, "Other CA").file))
    with listening(server_context(plant.certificate("mes"))) as peer:
        assert sent(settings_of(tmp_path, peer.url, ca_file=plant.file)).verdict is Verdict.DONE


def test_without_a_ca_file_the_environment_names_the_authorities(
    tmp_path: Path, plant: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(plant.file))
    with listening(server_context(plant.certificate("mes"))) as peer:
        assert sent(settings_of(tmp_path, peer.url)).verdict is Verdict.DONE


def test_an_unknown_authority_is_answered_with_the_key_to_add(tmp_path: Path, plant: Authority) -> None:
    with listening(server_context(plant.certificate("mes"))) as peer:
        assert re.search("put the certificate of its authority .* ca_file of .*id = 3", said(tmp_path, peer))


def test_with_a_ca_file_those_of_browsers_count_no_more(
    tmp_path: Path, plant: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("requests.adapters", "bridge.mes.session"):
        monkeypatch.setattr(f"{module}.DEFAULT_CA_BUNDLE_PATH", str(plant.file))
    other = Authority(tmp_path, "Other CA")
    with listening(server_context(plant.certificate("mes"))) as peer:
        assert "ca_file of [[mes]] id = 3" in said(tmp_path, peer, ca_file=other.file)


@pytest.mark.parametrize(("begin", "end"), [(-2 * DAY, -DAY), (DAY, 2 * DAY)])
def test_a_certificate_out_of_its_time_is_said_to_be_so(
    tmp_path: Path, plant: Authority, begin: timedelta, end: timedelta
) -> None:
    certificate = plant.certificate("mes", begin=begin, end=end)
    with listening(server_context(certificate)) as peer:
        words = said(tmp_path, peer, ca_file=plant.file)
    assert re.search("(expired|not yet valid); have the certificate of the MES renewed.*clock", words)


@pytest.mark.parametrize("host", ["mes.plant.example", "127.0.0.2"])
def test_a_certificate_for_another_name_is_said_to_be_so(tmp_path: Path, plant: Authority, host: str) -> None:
    with listening(server_context(plant.certificate("mes", host))) as peer:
        words = said(tmp_path, peer, ca_file=plant.file)
    assert "it is not for 127.0.0.1; give url of [[mes]] id = 3 the name in the certificate" in words


def test_a_mes_without_tls_behind_an_https_url_is_said_to_be_so(tmp_path: Path) -> None:
    with listening() as peer:
        peer.scheme = "https"
        assert "speaks no TLS: check url of [[mes]] id = 3" in said(tmp_path, peer)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mes_knows_the_bridge_by_its_certificate(
    tmp_path: Path, plant: Authority, version: ssl.TLSVersion
) -> None:
    certificate, key = plant.certificate("bridge")
    with listening(server_context(plant.certificate("mes"), plant.file, version)) as peer:
        settings = settings_of(
            tmp_path, peer.url, ca_file=plant.file, client_certificate_file=certificate, client_key_file=key
        )
        assert sent(settings).verdict is Verdict.DONE


def test_certificate_and_key_may_stand_in_one_file(tmp_path: Path, plant: Authority) -> None:
    certificate, key = plant.certificate("bridge")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    with listening(server_context(plant.certificate("mes"), plant.file)) as peer:
        settings = settings_of(tmp_path, peer.url, ca_file=plant.file, client_certificate_file=certificate)
        assert sent(settings).verdict is Verdict.DONE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_client_certificate_is_answered_with_the_key_to_add(
    tmp_path: Path, plant: Authority, version: ssl.TLSVersion
) -> None:
    with listening(server_context(plant.certificate("mes"), plant.file, version)) as peer:
        words = said(tmp_path, peer, ca_file=plant.file)
    assert words == "the MES wants a client certificate: name it as client_certificate_file of [[mes]] id = 3"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fault", ["of another authority", "expired"])
def test_a_client_certificate_that_the_mes_does_not_accept_is_said_to_be_so(
    tmp_path: Path, plant: Authority, version: ssl.TLSVersion, fault: str
) -> None:
    signer = plant if fault == "expired" else Authority(tmp_path, "Other CA")
    certificate, key = signer.certificate("bridge", begin=-2 * DAY, end=-DAY if fault == "expired" else DAY)
    with listening(server_context(plant.certificate("mes"), plant.file, version)) as peer:
        words = said(
            tmp_path, peer, ca_file=plant.file, client_certificate_file=certificate, client_key_file=key
        )
    assert words.startswith("the MES does not accept the client certificate")
    assert "look at client_certificate_file of [[mes]] id = 3" in words


def spoiled_files(folder: Path) -> dict[str, tuple[dict[str, Path], str]]:
    plant = Authority(folder)
    certificate, key = plant.certificate("bridge")
    _, other_key = plant.certificate("other")
    junk, locked, missing = folder / "junk.pem", folder / "locked.key", folder / "missing.pem"
    junk.write_text("no PEM")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    def pair(certificate: Path, key: Path) -> dict[str, Path]:
        return {"client_certificate_file": certificate, "client_key_file": key}

    return {
        "no authorities": ({"ca_file": missing}, f"ca_file: {missing} cannot be read: No such file"),
        "a folder": ({"ca_file": folder}, f"ca_file: {folder} cannot be read: it is a folder"),
        "authorities that are none": ({"ca_file": junk}, f"ca_file: {junk} holds no certificate in PEM"),
        "no certificate": (pair(missing, key), f"client_certificate_file: {missing} cannot be read"),
        "a certificate that is none": (
            pair(junk, key),
            f"client_certificate_file: {junk} holds no certificate",
        ),
        "no key": (pair(certificate, missing), f"client_key_file: {missing} cannot be read"),
        "a key that is none": (pair(certificate, junk), f"client_key_file: {junk} holds no private key"),
        "a key with a password": (
            pair(certificate, locked),
            f"client_key_file: {locked} holds no private key",
        ),
        "another key": (pair(certificate, other_key), f"client_key_file: {other_key} is not the key of"),
        "no key at all": (
            {"client_certificate_file": certificate},
            f"client_certificate_file: {certificate} holds no private key",
        ),
    }


@pytest.mark.parametrize(
    "fault",
    [
        "no authorities",
        "a folder",
        "authorities that are none",
        "no certificate",
        "a certificate that is none",
        "no key",
        "a key that is none",
        "a key with a password",
        "another key",
        "no key at all",
    ],
)
def test_files_that_cannot_be_used_are_named_with_section_and_key(tmp_path: Path, fault: str) -> None:
    changes, words = spoiled_files(tmp_path)[fault]
    with pytest.raises(MesError, match=re.escape(f"[[mes]] id = 3: {words}")):
        sent(settings_of(tmp_path, "https://127.0.0.1:1", **changes))
