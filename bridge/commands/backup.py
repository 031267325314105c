"""`mesbridge backup`: the state folder in one file, while the bridge runs or not.

In: the state folder and, where asked for, the configuration. Out: a tar.gz that only its owner can read, as
`bridge.commands.archive` has it. SQLite copies the databases, each as it was at one moment: first the log, then what
waits for the MES, so that the second is never behind the first; what it is ahead is put right in the copy.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import os
import re
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from bridge import __version__, settings, wire
from bridge.aggregator import ConfigUnreadable
from bridge.aggregator import load as load_config
from bridge.commands.archive import (
    CONFIG,
    DISPENSABLE,
    MANIFEST,
    NOT_KEPT,
    STATE,
    BackupError,
    Kept,
    Manifest,
)
from bridge.commands.archive import load as load_manifest
from bridge.hints import with_settings
from bridge.settings import Settings, SettingsError

LOG, MES, BRIDGE_ID = "log.sqlite", "mes.sqlite", "bridge-id"
_OF_SQLITE = ("", "-wal", "-shm", "-journal")


def run(options: argparse.Namespace) -> int:
    """Make a backup. 0 when done, 1 when that is not possible, 2 when a file of the configuration cannot be used."""
    try:
        chosen = settings.load(options.settings)
        configuration = (
            dict(_configuration(options.with_config, options.settings, chosen)) if options.with_config else {}
        )
    except (SettingsError, ConfigUnreadable) as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    try:
        manifest = make(options.file, chosen.bridge.state_folder, configuration, warn)
    except BackupError as error:
        print(with_settings(f"mesbridge: {error}", options.settings), file=sys.stderr)
        return 1
    size = sum(one.size for one in manifest.files.values())
    print(f"{options.file}: {len(manifest.files)} files, {size / 2**20:.1f} MB before compression.")
    print("It holds private keys: keep it as safe as the state folder itself.")
    if not configuration:
        print(
            "Not in it: config.json, the settings and the files that they name (--with-config CONFIG adds them)."
        )
    print("To bring it back: `mesbridge restore FILE`, with the bridge stopped.")
    return 0


_SIMPLE_PLACE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


def warn(text: str) -> None:
    """Say what is not as it should be, and keeps nothing from going on."""
    print(f"mesbridge: {text}", file=sys.stderr)


def make(
    file: Path, folder: Path, configuration: dict[str, Path], tell: Callable[[str], None] = warn
) -> Manifest:
    """Write the state `folder`, and `configuration` by name in the archive, to `file`, which must not exist.

    What is left out, since it is damaged and no machine depends on it, is told to `tell`.
    Raises `BackupError`; then there is no such file.
    """
    if not (folder / LOG).is_file():
        raise BackupError(
            f"{folder}: there is no log.sqlite, so no bridge has run with this state folder: give --settings the same"
            " file as there"
        )
    try:
        with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=f".{file.name}.") as work:
            sources = {STATE + name: path for name, path in _state(folder, Path(work), tell)}
            sources |= {CONFIG + name: path for name, path in configuration.items()}
            manifest = Manifest(
                __version__,
                wire.format_time(wire.utc_now()),
                (folder / BRIDGE_ID).read_text(encoding="ascii").strip(),
                {name: _layout(sources[STATE + name]) for name in (LOG, MES) if STATE + name in sources},
                {
                    name: Kept(
                        path.stat().st_size,
                        digest(path),
                        str(path.absolute()) if name.startswith(CONFIG) else None,
                    )
                    for name, path in sources.items()
                },
            )
            load_manifest(manifest.dump())  # what nobody could bring back is no backup
            _write(file, manifest, sources)
            return manifest
    except FileExistsError:
        raise BackupError(f"{file}: is there already; give another name, or move it away") from None
    except sqlite3.Error as error:
        raise BackupError(
            f"{folder}: a database cannot be copied: {error}; look at the bridge's log"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or file
        text = getattr(error, "strerror", None) or str(error)
        raise BackupError(
            f"{where}: {text}; give the command as the user under whom the bridge runs, and a place with enough room"
        ) from None


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def database(path: Path) -> tuple[int, bool]:
    """The layout of a SQLite file that nobody uses, and whether it is sound."""
    try:
        with closing(sqlite3.connect(path)) as one:
            layout = int(one.execute("PRAGMA user_version").fetchone()[0])
            return layout, one.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.Error:
        return 1, False


def _state(folder: Path, work: Path, tell: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    """The files of the state folder, by name; of the databases copies in `work`, since they may change."""
    others = (path.name for path in sorted(folder.glob("*.sqlite")))
    databases = tuple(name for name in dict.fromkeys((LOG, MES, *others)) if (folder / name).is_file())
    for name in databases:
        if name not in DISPENSABLE:
            _copy(folder / name, work / name)
        elif (reason := _unusable(folder / name, work / name)) is not None:
            tell(f"{folder / name}: is not in the backup: {reason}; no machine depends on it")
            continue
        yield name, work / name
    if (work / MES).exists():
        _agree(work / LOG, work / MES)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        of_database = any(name == f"{one}{end}" for one in databases for end in _OF_SQLITE)
        passing = any(part.startswith(".") for part in name.split("/"))  # left by a write that was killed
        set_aside = name.startswith(tuple(f"{one}." for one in DISPENSABLE))
        if path.is_file() and name not in NOT_KEPT and not (of_database or passing or set_aside):
            copy = work / "files" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(
                FileNotFoundError
            ):  # it was taken away meanwhile, such as a refused certificate
                copy.write_bytes(path.read_bytes())
                yield name, copy


def _unusable(source: Path, target: Path) -> str | None:
    """Copy the database; returns why not, if so."""
    try:
        _copy(source, target)
    except sqlite3.Error as error:
        return str(error)
    return None if database(target)[1] else "it is damaged"


def _copy(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)  # in one step, which nobody waits for: readers of a WAL do not hold back who writes
        other.execute("PRAGMA journal_mode = DELETE")  # else there would be more files than one


def _agree(log: Path, mes: Path) -> None:
    """What happened between the two copies is not in that of the log: there its positions are given out once more."""
    with closing(sqlite3.connect(log)) as one:
        row = one.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
    with closing(sqlite3.connect(mes)) as other, other:
        other.execute("UPDATE cursor SET position = min(position, ?)", (row[0] if row else 0,))


def _layout(path: Path) -> int:
    with closing(sqlite3.connect(path)) as one:
        return int(one.execute("PRAGMA user_version").fetchone()[0])


def _write(file: Path, manifest: Manifest, sources: dict[str, Path]) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(file, flags, 0o600), "wb") as out:
        try:
            with tarfile.open(
                fileobj=out, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT
            ) as archive:
                text = manifest.dump()
                archive.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
                for name, path in sources.items():
                    with path.open("rb") as content:
                        archive.addfile(_member(name, manifest.files[name].size), content)
            out.flush()
            os.fsync(out.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.unlink()
            raise


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _configuration(config: Path, path: Path | None, chosen: Settings) -> Iterator[tuple[str, Path]]:
    """The files of the configuration by name in the archive: config.json, the settings, and what both name.

    What lies below the folder of either, and so may be named from there, keeps its place.
    """
    yield "config.json", config
    if path is not None:
        yield "settings.toml", path
    folders = [one.resolve().parent for one in (config, path) if one is not None]
    named = [one.credential.path for one in load_config(config).machines if one.credential.source == "file"]
    files = dict.fromkeys(
        one.resolve() for one in [*named, *_paths(chosen)] if one is not None and one.is_file()
    )
    taken = {"config.json", "settings.toml"}
    for number, one in enumerate(files, 1):
        place = next(
            (one.relative_to(folder).as_posix() for folder in folders if one.is_relative_to(folder)), ""
        )
        if not _SIMPLE_PLACE.fullmatch(place) or place in taken:
            place = f"files/{number}-{re.sub(r'[^A-Za-z0-9._-]', '_', one.name)}"
        taken.add(place)
        yield place, one


def _paths(section: object) -> Iterator[Path]:
    for value in (getattr(section, field.name) for field in dataclasses.fields(section)):  # type: ignore[arg-type]
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path):
                yield one
            elif dataclasses.is_dataclass(one):
                yield from _paths(one)
