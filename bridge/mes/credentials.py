"""The secrets that stand in files or the environment, never in the settings: read, cleaned and checked."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from bridge.mes.store import MesError
from bridge.settings import MesSettings


def token_place(settings: MesSettings) -> str:
    """Where the API token or secret comes from, in words for people."""
    if settings.token_env is not None:
        return f"[[mes]] id = {settings.id}: token_env: the environment variable {settings.token_env}"
    return f"[[mes]] id = {settings.id}: token_file: {settings.token_file}"


def read_token(settings: MesSettings) -> str:
    """The API token or secret, without the blanks, line ends and byte order mark that files have around it.

    Raises `MesError`, naming section and key, when there is none.
    """
    where = token_place(settings)
    if settings.token_env is not None:
        token = os.environ.get(settings.token_env, "").strip()
        advice = "set it to the API token for the bridge, and start the bridge again"
    else:
        advice = "put the API token into that file, alone"
        token = _text(settings.token_file, where, advice) if settings.token_file else ""
    if not token:
        raise MesError(f"{where} is empty; {advice}")
    if not token.isascii() or not all(word.isprintable() for word in token.split()):
        raise MesError(f"{where} holds signs that no header can carry; {advice}")
    return token


def read_proxy_authorization(settings: MesSettings) -> str | None:
    """The header by which the proxy knows the bridge (RFC 7617), or None when the settings name no file for it.

    Raises `MesError`, naming section and key.
    """
    file = settings.proxy_credentials_file
    if file is None:
        return None
    where = f"[[mes]] id = {settings.id}: proxy_credentials_file: {file}"
    advice = "put user:password into that file, alone"
    credentials = _text(file, where, advice)
    if ":" not in credentials or not credentials.isprintable():
        raise MesError(f"{where} does not hold user:password in one line; {advice}")
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _text(file: Path, where: str, advice: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise MesError(f"{where} cannot be read: {error.strerror}; {advice}") from None
    except UnicodeDecodeError:
        raise MesError(f"{where} is not UTF-8 text; {advice}") from None
