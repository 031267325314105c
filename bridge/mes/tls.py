"""TLS with a MES: files that the settings name in, a context out, and failures in words that say what to do."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from bridge.mes.store import MesError
from bridge.settings import MesSettings


def tls_files(settings: MesSettings) -> tuple[Path | None, ...]:
    """The files that `context_of` reads."""
    return settings.ca_file, settings.client_certificate_file, settings.client_key_file


def context_of(settings: MesSettings, default_bundle: str | None = None) -> ssl.SSLContext:
    """Trusts ca_file, else `default_bundle`, else what the computer trusts, and shows the client certificate, if any.

    Raises `MesError`, naming section, key and file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, settings, default_bundle)
    certificate, key = settings.client_certificate_file, settings.client_key_file
    if certificate is not None:
        _check_readable(settings, "client_certificate_file", certificate)
        if key is not None:
            _check_readable(settings, "client_key_file", key)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            raise MesError(_bad_pair(settings, certificate, key, error)) from None
    return context


def explained(error: ssl.SSLError, settings: MesSettings, host: str) -> str:
    """Why no connection with TLS to `host` came about, and what to do."""
    section = f"[[mes]] id = {settings.id}"
    if isinstance(error, ssl.SSLCertVerificationError):
        name, advice = error.verify_message, "have a look at the certificate of the MES"
        if error.verify_code in _CLOCK:
            advice = "have the certificate of the MES renewed, and look at this computer's clock"
        elif error.verify_code in _UNKNOWN_AUTHORITY:
            advice = (
                f"put the certificate of its authority into a PEM file, and name it as ca_file of {section}"
            )
        elif error.verify_code in _OTHER_NAME:
            name = f"it is not for {host}"
            advice = f"give url of {section} the name in the certificate, or have one made for {host}"
        return f"the certificate of the MES is not accepted: {name}; {advice}"
    reason = error.reason or ""
    if "CERTIFICATE_REQUIRED" in reason or (
        "HANDSHAKE_FAILURE" in reason and settings.client_certificate_file is None
    ):
        return f"the MES wants a client certificate: name it as client_certificate_file of {section}"
    if "ALERT" in reason and any(part in reason for part in _ABOUT_CERTIFICATES):
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return (
            f"the MES does not accept the client certificate ({said}):"
            f" look at client_certificate_file of {section}, and whether the MES knows its authority"
        )
    if isinstance(error, ssl.SSLEOFError) and settings.client_certificate_file is None:
        return f"the MES hangs up; if it wants a client certificate, name it as client_certificate_file of {section}"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"what answers there speaks no TLS: check url of {section}, whether it is http and which port"
    return f"TLS failed: {reason.replace('_', ' ').lower() or error}"


_CLOCK = (9, 10)
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)
"""X509_V_ERR_... of OpenSSL's x509_vfy.h."""
_ABOUT_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")


def _trust(context: ssl.SSLContext, settings: MesSettings, default_bundle: str | None) -> None:
    if settings.ca_file is not None:
        _check_readable(settings, "ca_file", settings.ca_file)
        try:
            context.load_verify_locations(settings.ca_file)
        except ssl.SSLError:
            where = _place(settings, "ca_file", settings.ca_file)
            raise MesError(
                f"{where} holds no certificate in PEM; put those of the authorities there"
            ) from None
    elif default_bundle is None:
        context.load_default_certs()
    elif Path(default_bundle).is_dir():
        context.load_verify_locations(capath=default_bundle)
    else:
        try:
            context.load_verify_locations(default_bundle)
        except OSError:  # ssl.SSLError is one too
            raise MesError(
                f"[[mes]] id = {settings.id}: no authority is known: {default_bundle} cannot be used; correct"
                " REQUESTS_CA_BUNDLE in the environment, or name a ca_file"
            ) from None


def _place(settings: MesSettings, key: str, file: Path) -> str:
    return f"[[mes]] id = {settings.id}: {key}: {file}"


def _check_readable(settings: MesSettings, key: str, file: Path) -> None:
    """Because OpenSSL does not say which of two files it cannot read."""
    try:
        os.close(os.open(file, os.O_RDONLY))
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
    except OSError as error:
        where = _place(settings, key, file)
        raise MesError(
            f"{where} cannot be read: {error.strerror}; correct {key}, or bring the file back"
        ) from None


def _bad_pair(settings: MesSettings, certificate: Path, key: Path | None, error: ssl.SSLError) -> str:
    if not _holds_certificate(certificate):
        where = _place(settings, "client_certificate_file", certificate)
        return f"{where} holds no certificate in PEM; put the bridge's certificate there"
    where = _place(settings, "client_key_file" if key else "client_certificate_file", key or certificate)
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{where} is not the key of the certificate in {certificate}; put the two that belong together there"
    return (
        f"{where} holds no private key in PEM, or one with a password; put the key there, without a password"
    )


def _holds_certificate(file: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError:
        return False
    return True


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    return ""
