"""A machine that was paired goes into config.json, its key into a secret file; all else there stays as it is.

In: the path of config.json, and what the machine is. Out: the changed files, and where the entry stands; or an
error, and then both files are as they were, or as somebody else has changed them meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bridge.aggregator.config import Config, load
from bridge.aggregator.credential import Secret
from bridge.aggregator.entry import OUR_TYPE, MachineEntry
from bridge.aggregator.fields import same_place
from bridge.aggregator.insert import NotEditable, Value, add_entry, set_value
from bridge.aggregator.jsonc import Array, Node, Scalar, parse
from bridge.aggregator.layout import find_entries
from bridge.aggregator.problem import ConfigUnreadable
from bridge.aggregator.text import NotText, decode

SECRETS_FOLDER: Final = "secrets"
_BY_HAND: Final = "generate a key in OctoPrint and add the entry that the plugin shows by hand"
_MOST_FILES_OF_A_NAME: Final = 1000
_NOT_REPLACEABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
TEMPORARY_SUFFIX: Final = ".mesbridge"
_HALF_WRITTEN: Final = re.compile(r"\..+\.[a-z0-9_]{8}\.mesbridge")


class EditError(Exception):
    """The machine could not be written down; the text says why, what to do, and if something could not be undone."""


@dataclass(frozen=True, slots=True)
class Written:
    """The entry's number (from 0) and line (from 1). `replaced`: it was there before, and has a new key now.

    `secret_file` is None when the key stands in config.json itself (`api_key`). `left` is the secret file that the
    entry named before, if it was left alone because another entry names it, too.
    """

    index: int
    line: int
    replaced: bool
    secret_file: Path | None
    left: Path | None = None

    @property
    def private(self) -> bool:
        """Whether the secret file's mode is one for its owner only: not every disk and system can keep such a mode."""
        return self.secret_file is not None and not self.secret_file.stat().st_mode & 0o077


def put(
    path: Path,
    *,
    url: str,
    name: str | None,
    mes_ids: tuple[int, ...],
    key: Secret,
    use: Callable[[Written], None] = lambda written: None,
) -> Written:
    """Write the machine with this `url` into config.json at `path`, or give its entry the new `key`.

    An entry that is there keeps its name and its MES instances. `use` is called with what was written; whatever it
    raises undoes the change. One call at a time. Raises `EditError`, and what `use` raises.
    """
    try:
        with contextlib.ExitStack() as undo:
            written = _Edit(path, key, undo).put(url, name, mes_ids)
            use(written)
            undo.pop_all()
            return written
    except (ConfigUnreadable, NotEditable) as error:
        raise EditError(f"{path} cannot be changed: {error}") from None
    except OSError as error:
        where = error.filename or path
        raise EditError(
            f"{where} cannot be written: {error.strerror}; put that right and pair again, or {_BY_HAND}"
        ) from None


def tidy(config: Config) -> None:
    """Remove what an edit that was killed has left half written beside config.json and its secret files."""
    path = config.path
    named = [one.credential.path for one in config.machines if one.credential.path]
    folders = {Path(os.path.realpath(one)).parent for one in [path, *named]}
    for folder in {path.absolute().parent / SECRETS_FOLDER, *folders}:
        with contextlib.suppress(OSError):
            for one in folder.iterdir():
                if _HALF_WRITTEN.fullmatch(one.name):
                    one.unlink()


def unnamed_secrets(path: Path) -> list[Path]:
    """The secret files named as pairings name them that no entry names; none while config.json cannot be read."""
    folder, named = path.absolute().parent, set()
    try:
        texts = texts_of_entries(decode(path.read_bytes())[0])
    except (OSError, NotText):
        return []
    for text in chain.from_iterable(texts):
        with contextlib.suppress(ValueError):
            named.add(os.path.realpath(folder / text))
    made = sorted((folder / SECRETS_FOLDER).glob("octoprint-*.txt"))
    return [one for one in made if os.path.realpath(one) not in named]


def secret_names(name: str | None, url: str) -> Iterator[str]:
    """The names that the secret file of a machine may have, the best one first."""
    stem = _file_name(name) or _file_name(urlsplit(url).hostname) or "machine"
    yield f"octoprint-{stem}.txt"
    yield from (f"octoprint-{stem}-{number}.txt" for number in range(2, _MOST_FILES_OF_A_NAME))


class _Edit:
    """One change; what undoes each of its steps is put onto `undo`."""

    def __init__(self, path: Path, key: Secret, undo: contextlib.ExitStack) -> None:
        self._path = path
        self._key = key
        self._undo = undo
        self._folder = path.absolute().parent
        self._before = load(path)
        tidy(self._before)
        self._file = path.resolve()
        self._bytes = self._file.read_bytes()
        self._written = self._bytes
        self._text, self._codec, self._mark = decode(self._bytes)
        self._left: Path | None = None

    def put(self, url: str, name: str | None, mes_ids: tuple[int, ...]) -> Written:
        known = _entry_of(self._before, url)
        if known is None:
            index = len(self._before.machines)
            secret_file: Path | None = self._new_machine(index, url, name, mes_ids)
        else:
            index, secret_file = known.index, self._new_key_of(known, name, url)
        line = self._check(index)
        return Written(index, line, known is not None, secret_file, self._left)

    def _new_machine(self, index: int, url: str, name: str | None, mes_ids: tuple[int, ...]) -> Path:
        secret_file = self._new_secret(index, name, url)
        entry: dict[str, Value] = {"type": OUR_TYPE, "url": url}
        if name:
            entry["custom_name"] = name
        entry |= {"authentication_file_path": self._relative(secret_file), "mes_id": mes_ids}
        self._replace(add_entry(self._text, entry))
        return secret_file

    # ----------------------------------------------------------------- the key

    def _new_key_of(self, entry: MachineEntry, name: str | None, url: str) -> Path | None:
        """Gives `entry` the new key where it has its key now, as far as that is safe."""
        credential = entry.credential
        if credential.source == "api_key":
            self._replace(set_value(self._text, entry.index, "api_key", self._key.reveal()))
            return None
        file = credential.path
        if credential.source == "file" and credential.key is not None and file is not None:
            if self._named_by_others(file, entry.index):
                self._left = file
            elif self._rewrite(file.resolve()):
                return file
        created = self._new_secret(entry.index, entry.custom_name or name, url)
        self._replace(set_value(self._text, entry.index, "authentication_file_path", self._relative(created)))
        return created

    def _named_by_others(self, file: Path, index: int) -> bool:
        """Whether any text of another entry, of whatever machine type, is the name of `file`."""
        return any(
            same_file(self._folder / text, file)
            for number, texts in enumerate(texts_of_entries(self._text))
            for text in texts
            if number != index
        )

    def _rewrite(self, file: Path) -> bool:
        """Whether the secret file could be replaced; it keeps its owner, and is closed to all others."""
        before, mode = file.read_bytes(), stat.S_IMODE(file.stat().st_mode)
        try:
            swap(file, self._secret(), 0o600)
        except OSError:
            return False
        self._undo_unless_changed(file, self._secret(), lambda: swap(file, before, mode))
        return True

    def _new_secret(self, index: int, name: str | None, url: str) -> Path:
        """A new secret file for the entry `index`, readable by its owner only.

        None that is there is touched, and none made that another entry is waiting for.
        """
        self._check_writable()
        folder = self._folder / SECRETS_FOLDER
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self._undo.callback(_quietly, folder.rmdir)
        for secret_name in secret_names(name, url):
            path = folder / secret_name
            if self._named_by_others(path, index):
                continue
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            self._undo.callback(_quietly, path.unlink)
            with os.fdopen(handle, "wb") as file:
                file.write(self._secret())
                file.flush()
                os.fsync(file.fileno())
            settle(folder)
            return path
        raise EditError(
            f"{folder} is full of secret files named like {secret_name}; remove those no longer used"
        )

    def _undo_unless_changed(self, file: Path, written: bytes, put_back: Callable[[], None]) -> None:
        """Have `put_back` undo what was `written` into `file`, if it still says that then."""

        def undo(kind: object, error: BaseException | None, trace: object) -> None:
            if file.read_bytes() == written:
                put_back()
                return
            raise EditError(
                f"{error} ({file} is left as somebody else has changed it meanwhile: see whether it still holds"
                " what was to be written for this machine, and take that out)"
            ) from None

        self._undo.push(undo)

    def _secret(self) -> bytes:
        return self._key.reveal().encode() + b"\n"

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()

    # ----------------------------------------------------------------- config.json

    def _check_writable(self) -> None:
        if not os.access(self._file, os.W_OK):
            raise EditError(
                f"{self._file} may not be written by the bridge's user; allow that and pair again, or {_BY_HAND}"
            )

    def _replace(self, text: str) -> None:
        self._check_writable()
        if self._file.read_bytes() != self._bytes:
            raise EditError(f"{self._file} was changed by somebody else at this moment; pair again")
        self._written = self._mark + text.encode(self._codec)
        _overwrite(self._file, self._written)
        self._undo_unless_changed(self._file, self._written, lambda: _overwrite(self._file, self._bytes))

    def _check(self, index: int) -> int:
        """The line of the entry number `index`, which is served now; all others must be as they were."""
        if self._file.read_bytes() != self._written:
            raise EditError(f"{self._file} was changed by somebody else at this moment; pair again")
        after = load(self._path)
        others = [one for one in after.machines if one.index != index]
        were = [one for one in self._before.machines if one.index != index]
        # One that was refused for having the same key may be served from now on.
        lost = any(was.served and not now.served for was, now in zip(were, others, strict=False))
        if lost or [_essence(one) for one in others] != [_essence(one) for one in were]:
            raise EditError(
                f"the change of {self._path} would have changed other machines, too; add it by hand"
            )
        entry = after.machines[index]
        if not entry.served or entry.credential.key != self._key:
            said = next(
                (str(one) for one in entry.problems if one.severity == "error"), "its key is not read"
            )
            raise EditError(f"the machine could not be served with this entry, so it was not written: {said}")
        return entry.line


def _entry_of(config: Config, url: str) -> MachineEntry | None:
    """The entry that `url` belongs to: the first, as that is the one served."""
    try:
        place = same_place(url)
    except ValueError:
        raise EditError(f"{url!r} is no address of an OctoPrint; pair again with another one") from None
    for entry in config.machines:
        if entry.left_to_aggregator or entry.url is None:
            continue
        with contextlib.suppress(ValueError):
            if same_place(entry.url) == place:
                return entry
    return None


def _essence(entry: MachineEntry) -> tuple[object, ...]:
    """What an entry means, wherever it stands."""
    return (
        entry.type,
        entry.config_version,
        entry.custom_name,
        entry.url,
        entry.credential,
        entry.mes_id,
        entry.umati_server_port,
    )


def texts_of_entries(text: str) -> list[list[str]]:
    """All texts that each machine entry holds, without blanks around them."""
    root = parse(text).root
    return [] if root is None else [list(_texts(node)) for node in find_entries(root).entries]


def _texts(node: Node) -> Iterator[str]:
    if isinstance(node, Scalar):
        if isinstance(node.value, str) and node.value.strip():
            yield node.value.strip()
        return
    for one in node.items if isinstance(node, Array) else [member.value for member in node.members]:
        yield from _texts(one)


def same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or has a name that no file can have
        pass
    except ValueError:
        return False
    return os.path.realpath(one) == os.path.realpath(other)


def _file_name(text: str | None) -> str:
    return re.sub(r"[^a-z0-9]+", "-", (text or "").lower()).strip("-")[:40].strip("-")


def _quietly(remove: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        remove()


def _overwrite(file: Path, content: bytes) -> None:
    """Replace the file's content, in one step where that can be done; its mode and owner stay.

    Where it cannot (a single file mounted into a container, a folder or an owner that is not the bridge's), the
    file is written in place, from its beginning, and never emptied first.
    """
    try:
        swap(file, content)
    except OSError as error:
        if error.errno not in _NOT_REPLACEABLE:
            raise
        with file.open("r+b", buffering=0) as there:
            before = there.read()
            try:
                _write_over(there, content)
            except OSError:
                with contextlib.suppress(OSError):
                    _write_over(there, before)
                raise


def _write_over(there: io.FileIO, content: bytes) -> None:
    there.seek(0)
    left = memoryview(content)
    while left:
        left = left[there.write(left) :]
    there.truncate()
    os.fsync(there.fileno())


def swap(file: Path, content: bytes, mode: int | None = None) -> None:
    """Replace the file in one step; its owner stays, and its mode unless another one is given."""
    before = file.stat()
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=TEMPORARY_SUFFIX)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(content)
            new.flush()
            if sys.platform != "win32":
                keep_owner(new.fileno(), before)
                os.fchmod(new.fileno(), stat.S_IMODE(before.st_mode) if mode is None else mode)
            os.fsync(new.fileno())
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    settle(file.parent)


def keep_owner(file: int, before: os.stat_result) -> None:
    """Give the open `file` the owner of the one that it replaces, where files have owners."""
    if sys.platform == "win32":
        return
    mine = os.fstat(file)
    if (mine.st_uid, mine.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(file, before.st_uid, before.st_gid)


def settle(folder: Path) -> None:
    """Have the disk hold which files are in `folder`, where that can be asked for."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
