"""The key of a machine: from the entry itself, or from the secret file it names.

In: the value of `api_key` or `authentication_file_path`, and the folder of config.json. Out: a `Credential`, whose key
is a `Secret`, and the findings about it.

Path or key (Aggregator 1.4+ allows both in `authentication_file_path`, and does not publish how it tells them apart).
Our rule, in this order, on the value without surrounding blanks:

1. It names an existing file, seen from the folder of config.json: the key is the content of that file.
2. It names something else that exists, such as a folder: an error.
3. It has a path separator (`/` or `\\`) or a file extension (a dot followed by 1 to 10 letters or digits at its end):
   it is a path, and the missing file is an error. It is never silently used as a key.
4. Anything else is the key itself.

A key never appears in a message. A value under 3 may still be a key that happens to contain `/`, `\\` or `.`, so its
path is only shown when it plainly reads as one (`readable_path`): either a folder named in it exists, or it is
made of ordinary words. Otherwise the message names the folder that was searched, and not the value.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, NoReturn, final

from bridge.aggregator.problem import Finding
from bridge.aggregator.text import NotText, decode

MAX_SECRET_FILE_BYTES: Final = 4096
SHORTEST_LIKELY_KEY: Final = 16
"""OctoPrint makes keys of 32 hexadecimal digits, since 1.11 of 43 characters."""

Source = Literal["inline", "file", "api_key"]


@final
class Secret:
    """A key that can't be shown by accident: every way of printing it gives `***`; only `reveal()` gives the key."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(*(each._value.encode("utf-8", "surrogatepass") for each in (self, other)))

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere; pass on reveal() where the key itself is needed")


@dataclass(frozen=True, slots=True)
class Credential:
    """Where the key comes from by the rule above, and the key unless it is unusable.

    `path` is the resolved secret file, as far as it may be shown; `source` is None when there is no value to go by.
    """

    source: Source | None = None
    path: Path | None = None
    key: Secret | None = None


class Resolved(NamedTuple):
    """`is_key` tells that the value itself was taken as the key, usable or not."""

    credential: Credential
    findings: tuple[Finding, ...] = ()
    is_key: bool = False


_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")
_SEPARATOR = re.compile(r"[/\\]")
_WORD = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)[0-9]{0,4}|[0-9]{1,4}")
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[/\\]?")
_LONGEST_ODD_WORD: Final = 6
_SHORTEST_FOLDER: Final = 3


def resolve_api_key(value: str) -> Resolved:
    """Aggregator 1.1: the value is the key, whatever it looks like."""
    key = value.strip()
    findings = _key_findings(key, "the key")
    if _looks_like_a_path(key):
        message = "the value of api_key looks like a path, but here stands the key itself (Aggregator 1.1)"
        hint = "write the key, or name its file in authentication_file_path (Aggregator 1.2 and later)"
        findings += (Finding("warning", message, hint),)
    return Resolved(_credential("api_key", None, key, findings), findings, is_key=True)


def resolve_path_or_key(value: str, folder: Path) -> Resolved:
    """Aggregator 1.2 and later: applies the rule above. Reads the secret file, if it is one."""
    value = value.strip()
    path = folder / value
    try:
        mode = path.stat().st_mode
    except PermissionError:
        shown = _shown_path(value, folder)
        what = "the secret file" if shown is None else f"the secret file {shown}"
        return _failed(shown, f"{what} can't be looked up", "let the user of the bridge enter its folder")
    except (OSError, ValueError):  # missing, too long for a file name, or not expressible as one
        pass
    else:
        if stat.S_ISREG(mode):
            return read_secret_file(path)
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        return _failed(path, f"{path} is {kind}, not a secret file", "name the file that holds the key")
    if _looks_like_a_path(value):
        return _missing_file(value, folder)
    findings = _key_findings(value, "the key")
    if len(value) < SHORTEST_LIKELY_KEY:
        findings += (
            Finding(
                "warning",
                f"there is no file of this name in {folder}, so the value is taken as the key itself, "
                "but it is shorter than the keys OctoPrint makes",
                "if it names a file, create that file or correct the name; otherwise copy the whole key",
            ),
        )
    return Resolved(_credential("inline", None, value, findings), findings, is_key=True)


def _looks_like_a_path(value: str) -> bool:
    return bool(_SEPARATOR.search(value) or _EXTENSION.search(value))


def read_secret_file(path: Path) -> Resolved:
    """The content of the file without byte order mark, line ends and surrounding blanks is the key."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        hint = (
            "let the user of the bridge read it" if isinstance(error, PermissionError) else "check the file"
        )
        return _failed(path, f"the secret file {path} can't be read: {error.strerror}", hint)
    if len(data) > MAX_SECRET_FILE_BYTES:
        message = f"the secret file {path} is larger than {MAX_SECRET_FILE_BYTES} bytes: this is no key"
        return _failed(path, message, "the file must hold the key and nothing else")
    try:
        text = decode(data)[0]
    except NotText as problem:
        return _failed(path, f"the secret file {path}: {problem.message}", problem.hint)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        what = f"has {len(lines)} lines" if lines else "is empty"
        return _failed(
            path,
            f"the secret file {path} {what}",
            "it must hold the key on one line, and nothing else",
        )
    findings = _key_findings(lines[0], f"the content of the secret file {path}")
    if os.name == "posix" and mode & 0o077:
        findings += (
            Finding(
                "warning",
                f"the secret file {path} is open to other users of this computer (mode {stat.S_IMODE(mode):04o})",
                f"chmod 600 {path}",
            ),
        )
    return Resolved(_credential("file", path, lines[0], findings), findings)


def _credential(source: Source, path: Path | None, key: str, findings: tuple[Finding, ...]) -> Credential:
    if any(finding.severity == "error" for finding in findings):
        return Credential(source, path, None)
    return Credential(source, path, Secret(key))


def _key_findings(key: str, what: str) -> tuple[Finding, ...]:
    """What speaks against `key` being one. OctoPrint takes it from an HTTP header: printable ASCII."""
    if not key:
        return (Finding("error", f"{what} is empty", "copy the key from OctoPrint's settings"),)
    if not (key.isascii() and key.isprintable()):
        message = f"{what} contains a character that no key has (a control character, or one outside ASCII)"
        return (Finding("error", message, "copy the key again, as plain text"),)
    if any(character in key for character in "\"'{}<>"):
        message = f"{what} contains quotes or brackets"
        return (Finding("error", message, "give the key alone, as OctoPrint shows it"),)
    if " " in key:
        message = f"{what} contains a blank, which keys made by OctoPrint never do"
        return (Finding("warning", message, "give the key alone, as OctoPrint shows it"),)
    return ()


def readable_path(value: str, folder: Path) -> bool:
    """Whether a value with a separator or an extension plainly reads as a path, so that it can be shown.

    True when the first folder it names exists, or when it is made of ordinary words: letters of one case or
    capitalised, up to four digits after them, more letters than digits; one odd word of up to six characters
    may be among them.
    """
    if not value.isprintable():
        return False
    parts = [part for part in re.split(r"[/\\]", value) if part not in ("", ".", "..")]
    if len(parts) > 1 and len(parts[0]) >= _SHORTEST_FOLDER:
        start = Path(folder.anchor) if value.startswith("/") else folder
        if (start / parts[0]).is_dir():
            return True
    words = [word for word in re.split(r"[/\\\-_. ~:]", value) if word]
    odd = [word for word in words if not _WORD.fullmatch(word)]
    digits = sum(character.isdigit() for character in value)
    letters = sum(character.isalpha() for character in value)
    return letters > digits and (not odd or (len(odd) == 1 and len(odd[0]) <= _LONGEST_ODD_WORD))


def _shown_path(value: str, folder: Path) -> Path | None:
    return folder / value if readable_path(value, folder) else None


def _failed(path: Path | None, message: str, hint: str) -> Resolved:
    return Resolved(Credential("file", path, None), (Finding("error", message, hint),))


def _missing_file(value: str, folder: Path) -> Resolved:
    why = "a path separator" if _SEPARATOR.search(value) else "a file extension"
    hint = f"create the file, or correct the path; relative paths start in {folder}"
    if value.startswith("~"):
        hint = "`~` is not replaced by your home folder: write the full path"
    elif "$" in value or "%" in value:
        hint = "variables such as $HOME or %USERPROFILE% are not replaced: write the full path"
    elif not value.isprintable():
        hint = (
            "the value has a control character; in JSON write each backslash twice (\\\\), or use / in paths"
        )
    elif os.name == "posix" and _WINDOWS_DRIVE.match(value):
        hint = "this is a path of a Windows computer: copy the file to this one and name it here"
    elif os.name == "posix" and "\\" in value:
        hint = "folders are separated by / on this system, not by \\"
    path = _shown_path(value, folder)
    if path is None:
        message = (
            f"this value has {why}, so it is taken as a path, but seen from {folder} there is no such file "
            "(the value is not shown: it might be a key)"
        )
        return _failed(None, message, hint + "; a key that looks like a path must be put into a secret file")
    return _failed(path, f"there is no file {path} (a value with {why} is taken as a path)", hint)
