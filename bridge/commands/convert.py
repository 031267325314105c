"""`mesbridge convert`: a config.json rewritten for another version of the Aggregator.

In: the path of a config.json, the version, and where the result goes. Out: the new file and the secret files that it
needs, or the text on standard output; what the version cannot express, as text for people on standard error; and the
exit status: 0 when every OCTOPRINT entry was converted, 1 when some were left as they are or something else in the
file is wrong, 2 when nothing was written. What was there is whole at every moment, whatever fails.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from bridge.aggregator import Config, ConfigUnreadable, MachineEntry, Problem, edit, load
from bridge.aggregator.convert import Conversion, Place, SecretFile, Target, convert
from bridge.aggregator.credential import resolve_path_or_key
from bridge.aggregator.insert import NotEditable
from bridge.aggregator.text import decode
from bridge.commands.check import problem_lines, write

_DONE, _PROBLEMS, _NOTHING_WRITTEN = 0, 1, 2
_NOT_LINKED: Final = "a file of this name came into being at this moment; convert again"


class ConvertError(Exception):
    """Nothing was written; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `output`: None for standard output, or with `in_place` for `config` itself."""

    config: Path
    target: Target
    output: Path | None = None
    in_place: bool = False
    force: bool = False
    inline: bool = False


def run(wish: Wish, stdout: TextIO, stderr: TextIO) -> int:
    """Converts, and tells; returns the exit status."""
    try:
        return _run(wish, stdout, stderr)
    except ConfigUnreadable as error:
        lines = [*problem_lines(error.problems, ""), f"{wish.config} can't be read: nothing was written."]
        write(stderr, lines)
    except NotEditable as error:
        write(stderr, [f"mesbridge: {wish.config} cannot be converted: {error}; nothing was written"])
    except ConvertError as error:
        write(stderr, [f"mesbridge: {error}; nothing was written"])
    except OSError as error:
        where = error.filename or wish.output or wish.config
        reason = error.strerror or error
        write(
            stderr,
            [
                f"mesbridge: {where} cannot be written: {reason}; put that right and convert again; nothing was written"
            ],
        )
    return _NOTHING_WRITTEN


def _run(wish: Wish, stdout: TextIO, stderr: TextIO) -> int:
    goal = _goal(wish)
    data = wish.config.read_bytes() if wish.config.is_file() else b""
    config = load(wish.config)
    if wish.config.read_bytes() != data:
        raise ConvertError(f"{wish.config} was changed at this moment; convert again")
    text, codec, mark = decode(data)
    names = _Names(config, text, goal or wish.config)
    place = Place(names.new_file, names.name_of, names.is_key)
    done = convert(text, config, wish.target, place, inline=wish.inline)
    lines = list(problem_lines((*config.problems, *(p for m in config.machines for p in m.problems)), ""))
    lines += problem_lines((*done.remarks, *names.relative_elsewhere()), "")
    if goal is None:
        _refuse_secrets(done, config)
        write(stderr, lines)
        _print(stdout, done.text, mark + done.text.encode(codec))
    else:
        lines += _Output(config, goal, done, wish).write(mark + done.text.encode(codec), data)
        write(stderr, lines)
    left = any(problem.severity == "error" for problem in done.remarks)
    return _PROBLEMS if left or not config.ok else _DONE


def _print(stdout: TextIO, text: str, content: bytes) -> None:
    """As a file would hold it: whatever the terminal's encoding, and with the line ends that are there."""
    if hasattr(stdout, "buffer"):
        stdout.buffer.write(content)
    else:
        stdout.write(text)


def _goal(wish: Wish) -> Path | None:
    """The file to be written, if any."""
    if wish.in_place:
        return wish.config
    output = wish.output
    if output is None:
        return None
    with contextlib.suppress(OSError):
        if output.samefile(wish.config):
            raise ConvertError(
                f"{output} is the file that is read; to replace it give --in-place, not --output"
            )
    if output.is_dir():
        raise ConvertError(f"{output} is a folder; name the new file in it")
    if not output.absolute().parent.is_dir():
        raise ConvertError(f"{output.absolute().parent} is no folder; make it, or name another file")
    if os.path.lexists(output) and not wish.force:
        raise ConvertError(f"{output} is there already; name another file, or replace it with --force")
    return output


def _refuse_secrets(done: Conversion, config: Config) -> None:
    remedy = "give --output FILE"
    if done.secrets:
        what = _number(len(done.secrets), "key")
        raise ConvertError(
            f"{what} of {config.path} must go into files, which standard output is not; {remedy}"
        )
    if done.revealed:
        what = _number(len(done.revealed), "key")
        raise ConvertError(
            f"{what} would stand in the text, and standard output shows it to others; {remedy}"
        )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


class _Names:
    """How secret files are named in the new file, which stands at `goal`."""

    def __init__(self, config: Config, text: str, goal: Path) -> None:
        self._config = config
        self._folder = goal.absolute().parent
        self._moved = not self._folder.samefile(config.path.absolute().parent)
        named = [one for texts in edit.texts_of_entries(text) for one in texts]
        self._named = {os.path.realpath(self._folder / one) for one in named if "\0" not in one}

    def new_file(self, entry: MachineEntry) -> str:
        for name in edit.secret_names(entry.custom_name, entry.url or ""):
            path = self._folder / edit.SECRETS_FOLDER / name
            if not os.path.lexists(path) and os.path.realpath(path) not in self._named:
                self._named.add(os.path.realpath(path))
                return f"{edit.SECRETS_FOLDER}/{name}"
        raise ConvertError(f"{self._folder / edit.SECRETS_FOLDER} is full; remove the files no longer used")

    def name_of(self, path: Path, written: str) -> str:
        if not self._moved or Path(written.strip()).is_absolute():
            return written
        with contextlib.suppress(ValueError):
            return path.resolve().relative_to(self._folder.resolve()).as_posix()
        return str(path.resolve())

    def is_key(self, value: str) -> bool:
        return resolve_path_or_key(value, self._folder).is_key

    def relative_elsewhere(self) -> list[Problem]:
        """Remarks on entries of other types, whose files may be sought in another folder now."""
        if not self._moved:
            return []
        return [
            Problem(
                "warning",
                self._config.path,
                entry.line,
                entry.column,
                None,
                "this entry stays as it is, but the new file stands in another folder",
                "if it names a file, name it so that it is found from there",
            )
            for entry in self._config.machines
            if not entry.served
        ]


class _Output:
    """One file to be written, with its secret files: all of them, or none."""

    def __init__(self, config: Config, goal: Path, done: Conversion, wish: Wish) -> None:
        self._config, self._goal, self._done, self._wish = config, goal, done, wish
        self._file = goal.resolve()
        self._folder = goal.absolute().parent

    def write(self, content: bytes, source: bytes) -> list[str]:
        """Writes `content`; `source` is what the config.json must still hold. Returns what was done."""
        lines: list[str] = []
        with contextlib.ExitStack() as undo:
            for secret in self._done.secrets:
                path = self._write_secret(secret, undo)
                lines.append(f"{path}: written, the key of {self._shown(secret.index)}")
            temporary, mode = self._write_beside(self._file.parent, content, undo)
            if self._file.parent == self._folder.resolve():
                self._compare(load(temporary))
            else:  # through a link: relative paths count from where the link stands
                with contextlib.ExitStack() as gone:
                    self._compare(load(self._write_beside(self._folder, content, gone)[0]))
            if self._config.path.read_bytes() != source:
                raise ConvertError(f"{self._config.path} was changed at this moment; convert again")
            self._put(temporary)
            undo.pop_all()
        edit.settle(self._file.parent)
        private = " (mode 0600: it holds keys)" if mode == 0o600 and self._holds_keys() else ""
        lines.append(f"{self._goal}: written, for Aggregator {self._wish.target}{private}")
        lines += [
            f"{self._config.machines[index].credential.path}: its key stands in {self._goal} now; remove this file when"
            " nothing uses it any more"
            for index in self._done.revealed
        ]
        return lines

    def _write_secret(self, secret: SecretFile, undo: contextlib.ExitStack) -> Path:
        path = self._folder / secret.name
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
            undo.callback(_quietly_remove_folder, path.parent)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConvertError(f"{path}: {_NOT_LINKED}") from None
        undo.callback(path.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as file:
            file.write(secret.key.reveal().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        edit.settle(path.parent)
        return path

    def _write_beside(self, folder: Path, content: bytes, undo: contextlib.ExitStack) -> tuple[Path, int]:
        """The new content in a file of its own, with the mode that it shall have in the end; and that mode."""
        like = self._file if self._file.exists() else self._config.path
        before = like.stat()
        mode = 0o600 if self._holds_keys() else stat.S_IMODE(before.st_mode)
        handle, name = tempfile.mkstemp(
            dir=folder, prefix=f".{self._file.name}.", suffix=edit.TEMPORARY_SUFFIX
        )
        undo.callback(Path(name).unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if sys.platform != "win32":
                if self._file.exists():
                    edit.keep_owner(file.fileno(), before)
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        return Path(name), mode

    def _put(self, temporary: Path) -> None:
        if self._wish.in_place or self._wish.force:
            temporary.replace(self._file)
            return
        try:
            os.link(temporary, self._file)
        except FileExistsError:
            raise ConvertError(f"{self._goal}: {_NOT_LINKED}") from None
        except OSError:  # not every disk knows links
            if os.path.lexists(self._file):
                raise ConvertError(f"{self._goal}: {_NOT_LINKED}") from None
            temporary.replace(self._file)
            return
        with contextlib.suppress(OSError):
            temporary.unlink()

    def _compare(self, after: Config) -> None:
        """The new file must hold the same machines."""
        for was, now in zip(self._config.machines, after.machines, strict=True):
            if was.served and _machine(was, self._wish.target) != _machine(now, self._wish.target):
                raise ConvertError(
                    f"the entry on line {was.line} would be read differently in the new file; rewrite it by hand,"
                    " and please report this"
                )

    def _holds_keys(self) -> bool:
        """Whether keys stand in the new file: those of our entries, or of one that was left as it is."""
        if self._wish.target == "1.1":
            return True
        in_files = {secret.index for secret in self._done.secrets}
        return any(
            entry.credential.source in ("inline", "api_key") and entry.index not in in_files
            for entry in self._config.machines
        )

    def _shown(self, index: int) -> str:
        entry = self._config.machines[index]
        return f"[{index}] {entry.custom_name or entry.url}"


def _machine(entry: MachineEntry, target: Target) -> tuple[object, ...]:
    name = None if target == "1.1" else entry.custom_name
    return entry.served, entry.url, entry.credential.key, name, entry.mes_id


def _quietly_remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
