"""The key: where it comes from, and that it stays hidden."""

from __future__ import annotations

import base64
import codecs
import copy
import hashlib
import os
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.aggregator.credential import Resolved, Secret, readable_path, resolve_api_key, resolve_path_or_key

KEY = "A0A00B123E454H122BD513FE58B5E9BC"


def secret_file(folder: Path, content: bytes = KEY.encode(), name: str = "secret.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def revealed(resolved: Resolved) -> str | None:
    key = resolved.credential.key
    return None if key is None else key.reveal()


def only_message(resolved: Resolved, severity: str = "error") -> str:
    [finding] = resolved.findings
    assert finding.severity == severity
    assert KEY not in finding.message + finding.hint
    return f"{finding.message} | {finding.hint}"


def test_an_existing_file_wins_even_when_its_name_looks_like_a_key(tmp_path: Path) -> None:
    path = secret_file(tmp_path, b"from-the-file-0123456789", name=KEY)
    resolved = resolve_path_or_key(KEY, tmp_path)
    assert resolved.credential.source == "file"
    assert resolved.credential.path == path
    assert revealed(resolved) == "from-the-file-0123456789"


def test_a_relative_path_starts_in_the_folder_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file(tmp_path / "config" / "keys", name="one.txt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert revealed(resolve_path_or_key("./keys/one.txt", tmp_path / "config")) == KEY
    assert revealed(resolve_path_or_key("../config/keys/one.txt", tmp_path / "elsewhere")) == KEY


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    assert revealed(resolve_path_or_key(str(path), Path("/nowhere"))) == KEY


def test_anything_that_is_neither_file_nor_path_is_the_key(tmp_path: Path) -> None:
    resolved = resolve_path_or_key(KEY, tmp_path)
    assert (resolved.credential.source, resolved.credential.path, revealed(resolved)) == ("inline", None, KEY)
    assert resolved.findings == ()


@pytest.mark.parametrize("value", ["secret.txt", "keys/prusa-mk4.key", "./secret", "../keys/ender3.txt"])
def test_a_path_without_its_file_is_an_error_that_names_it_and_never_a_key(
    value: str, tmp_path: Path
) -> None:
    resolved = resolve_path_or_key(value, tmp_path)
    assert resolved.credential.source == "file"
    assert resolved.credential.key is None
    assert resolved.credential.path == tmp_path / value
    assert f"no file {tmp_path / value}" in only_message(resolved)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("~/secret.txt", "home folder"),
        ("$HOME/secret.txt", "variables"),
        ("%USERPROFILE%\\secret.txt", "variables"),
        ("keys\new.txt", "control character"),
        ("/keys\0/x.txt", "control character"),
    ],
)
def test_usual_mistakes_in_paths_get_their_own_remedy(value: str, says: str, tmp_path: Path) -> None:
    assert says in only_message(resolve_path_or_key(value, tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="on Windows these are good paths")
@pytest.mark.parametrize(
    ("value", "says"), [("keys\\secret.txt", "separated by /"), ("C:\\keys\\secret.txt", "Windows computer")]
)
def test_windows_paths_on_another_system_are_explained(value: str, says: str, tmp_path: Path) -> None:
    assert says in only_message(resolve_path_or_key(value, tmp_path))


def test_a_folder_is_not_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    assert "is a folder" in only_message(resolve_path_or_key("keys", tmp_path))


def test_a_value_too_long_for_a_file_name_is_a_key(tmp_path: Path) -> None:
    assert revealed(resolve_path_or_key("k" * 1000, tmp_path)) == "k" * 1000


def test_a_short_word_is_taken_as_the_key_with_a_warning(tmp_path: Path) -> None:
    resolved = resolve_path_or_key("secretfile", tmp_path)
    assert resolved.credential.source == "inline"
    message = only_message(resolved, "warning")
    assert "no file of this name" in message
    assert "secretfile" not in message


@pytest.mark.parametrize(
    "content",
    [
        KEY.encode() + b"\n",
        KEY.encode() + b"\r\n\r\n",
        codecs.BOM_UTF8 + b" \t" + KEY.encode() + b"  \r\n",
        codecs.BOM_UTF16_LE + KEY.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + (KEY + "\r\n").encode("utf-16-be"),
    ],
)
def test_byte_order_marks_line_ends_and_blanks_around_the_key_are_dropped(
    content: bytes, tmp_path: Path
) -> None:
    secret_file(tmp_path, content)
    resolved = resolve_path_or_key("secret.txt", tmp_path)
    assert revealed(resolved) == KEY
    assert resolved.findings == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (f"{KEY}\n{KEY}\n".encode(), "has 2 lines"),
        (KEY.encode() * 1000, "larger than"),
        (f'"{KEY}"'.encode(), "quotes"),
        (f'{{"key": "{KEY}"}}'.encode(), "quotes"),
        (KEY.encode() + b"\x01", "no key has"),
        (KEY.encode() + "ü".encode(), "no key has"),
        (KEY.encode() + b"\xff", "not valid UTF-8"),
        (KEY.encode() + b"\0", "zero bytes"),
    ],
)
def test_a_secret_file_that_holds_no_single_key_is_an_error_naming_it(
    content: bytes, says: str, tmp_path: Path
) -> None:
    path = secret_file(tmp_path, content)
    resolved = resolve_path_or_key("secret.txt", tmp_path)
    message = only_message(resolved)
    assert says in message
    assert str(path) in message
    assert resolved.credential.key is None


def test_a_blank_inside_the_key_is_a_warning(tmp_path: Path) -> None:
    secret_file(tmp_path, f"key: {KEY}".encode())
    assert "blank" in only_message(resolve_path_or_key("secret.txt", tmp_path), "warning")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_file_open_to_others_is_a_warning_with_the_remedy(mode: int, tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    path.chmod(mode)
    resolved = resolve_path_or_key("secret.txt", tmp_path)
    assert f"chmod 600 {path}" in only_message(resolved, "warning")
    assert revealed(resolved) == KEY


def test_a_secret_file_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in only_message(resolve_path_or_key("secret.txt", tmp_path))


def test_a_folder_that_may_not_be_entered_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    assert "can't be looked up" in only_message(resolve_path_or_key("keys/secret.txt", tmp_path))


def test_an_api_key_is_the_key_whatever_it_looks_like() -> None:
    resolved = resolve_api_key(" abc/def.txt ")
    assert (resolved.credential.source, revealed(resolved)) == ("api_key", "abc/def.txt")


@pytest.mark.parametrize("key", ['"quoted"', "with\ttab", "mit-ü"])
def test_a_key_that_can_not_be_one_is_an_error(key: str) -> None:
    resolved = resolve_api_key(key)
    assert resolved.credential.key is None
    assert key not in only_message(resolved)


random_keys = st.integers().map(lambda seed: hashlib.sha256(str(seed).encode()).digest())


@settings(deadline=None)
@given(random_keys, st.sampled_from(["base64", "dotted", "leading", "windows", "hex.hex"]))
def test_a_random_key_that_looks_like_a_path_is_never_shown(raw: bytes, shape: str) -> None:
    text = base64.b64encode(raw).decode()
    key = {
        "base64": text[:20] + "/" + text[20:],
        "dotted": f"{text[:12]}.{text[12:30]}.{text[30:]}",
        "leading": "/" + text,
        "windows": text[:9] + "\\" + text[9:],
        "hex.hex": f"{raw.hex()[:32]}.{raw.hex()[32:38]}",
    }[shape]
    resolved = resolve_path_or_key(key, Path("/tmp"))
    assert resolved.credential.key is None or resolved.is_key
    shown = repr(resolved)
    assert not any(key[at : at + 6] in shown for at in range(len(key) - 5))


@pytest.mark.parametrize(
    "value", ["secret.txt", "/etc/x/A0A00B123E454H122BD513FE58B5E9BC", "keys/mk3s.txt", "~/key"]
)
def test_plain_paths_may_be_shown(value: str) -> None:
    assert readable_path(value, Path("/tmp"))


def test_a_secret_can_not_be_shown_or_written_by_accident() -> None:
    secret = Secret(KEY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr([secret]),
        repr({1: secret}),
    ]
    assert not any(KEY[:4] in text for text in shown)
    assert copy.deepcopy(secret) is secret
    assert copy.copy(secret) is secret
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError) as caught:
        pickle.dumps(secret)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_secrets_compare_by_their_key() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret(KEY + "0")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
    assert Secret(KEY).reveal() == KEY
