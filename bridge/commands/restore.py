"""`mesbridge restore`: a backup becomes the state folder; the one before is kept beside it.

In: a file that `mesbridge backup` wrote; it is checked as what a stranger sent. Out: a state folder, which
takes its place when all of it is on the disk. A restore that is ended half-way leaves the old folder; or, in the
instant between two renamings, none: the bridge does not start then, and says so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from bridge import settings
from bridge.commands import archive
from bridge.commands.archive import (
    CONFIG,
    DISPENSABLE,
    LARGEST_MANIFEST,
    MANIFEST,
    STATE,
    BackupError,
    Manifest,
)
from bridge.commands.backup import BRIDGE_ID, LOG, MES, database, warn
from bridge.log.sqlite import LAYOUT as LOG_LAYOUT
from bridge.mes.store import LAYOUT as MES_LAYOUT
from bridge.settings import SettingsError
from bridge.state import RESTORING, StateFolder, StateFolderError

_NEWEST = {LOG: LOG_LAYOUT, MES: MES_LAYOUT}
_CHUNK = 2**20


def run(options: argparse.Namespace) -> int:
    """Bring a backup back. 0 when done, 1 when it was not, 2 when the settings cannot be used."""
    try:
        folder = settings.load(options.settings).bridge.state_folder
    except SettingsError as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 2
    try:
        manifest, aside = restore(options.file, folder, options.config_folder)
    except (BackupError, StateFolderError) as error:
        print(f"mesbridge: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: is now as it was at {manifest.created} (MESBridge {manifest.version}).")
    if aside is not None:
        print(f"What was there before is kept in {aside}: remove it when all is well.")
    kept = [name for name in manifest.files if name.startswith(CONFIG)]
    if kept and options.config_folder is None:
        print(f"The configuration is in it, too ({len(kept)} files): --config-folder FOLDER takes it out.")
    for name in kept if options.config_folder is not None else ():
        print(f"{options.config_folder / name.removeprefix(CONFIG)}: was {manifest.files[name].origin}")
    return 0


def restore(
    file: Path, folder: Path, config_folder: Path | None = None, tell: Callable[[str], None] = warn
) -> tuple[Manifest, Path | None]:
    """Make what is in `file` the state `folder`; returns what the archive says of itself, and where the folder is kept
    that was there before, if any. Files of the configuration go to `config_folder`, which must not exist.
    What is left out, since it is damaged and no machine depends on it, is told to `tell`.

    Raises `BackupError`, and `StateFolderError` when a bridge runs there; then the folder is as it was.
    """
    folder = folder.resolve()  # a link to it stays one
    if config_folder is not None and config_folder.exists():
        raise BackupError(
            f"{config_folder}: is there already; name a folder that is not, and move the files yourself"
        )
    with contextlib.ExitStack() as stack:
        held = None
        if folder.exists():
            held = StateFolder(folder)
            stack.callback(held.close)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=RESTORING.format(name=folder.name)))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            manifest = _unpack(file, work)
            state = work / STATE
            _examine(file, state, manifest, tell)
            _own(work, folder if folder.exists() else folder.parent)
            with contextlib.ExitStack() as undo:  # no keys are left in a place of which nobody was told
                if config_folder is not None and (work / CONFIG).is_dir():
                    config_folder.mkdir(mode=0o700, parents=True)
                    undo.callback(shutil.rmtree, config_folder, ignore_errors=True)
                    shutil.copytree(work / CONFIG, config_folder, dirs_exist_ok=True)
                    _own(config_folder, work)
                aside = _swap(state, folder, held)
                undo.pop_all()
            return manifest, aside
        except OSError as error:
            where = error.filename or folder
            raise BackupError(
                f"{where}: {error.strerror or error}; the state folder is as it was. Give the command as a user who may"
                f" write to {folder.parent}, and see that the disk has room"
            ) from None


def _unpack(file: Path, work: Path) -> Manifest:
    """All files of the archive in `work`, each as the manifest says that it is."""
    try:
        with tarfile.open(file, "r:gz") as members:
            first = members.next()
            if first is None or first.name != MANIFEST or not first.isreg() or first.size > LARGEST_MANIFEST:
                raise BackupError(f"{file}: is no backup of MESBridge, or is damaged; use another one")
            manifest = _manifest(file, _content(members, first).read())
            missing = dict(manifest.files)
            while (member := members.next()) is not None:
                kept = missing.pop(member.name, None)
                if kept is None or not member.isreg() or member.size != kept.size:
                    raise BackupError(f"{file}: {member.name!r} is not what its manifest says; do not use it")
                if _write(_content(members, member), work / member.name) != kept.sha256:
                    raise BackupError(f"{file}: {member.name} is damaged; use another backup")
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.filename not in (None, str(file), file):
            raise  # of the place where it is written to
        text = getattr(error, "strerror", None) or str(error)
        raise BackupError(f"{file}: cannot be read as a backup: {text}; use another one") from None
    if missing:
        raise BackupError(
            f"{file}: {len(missing)} files are missing, such as {min(missing)}; use another backup"
        )
    return manifest


def _manifest(file: Path, text: bytes) -> Manifest:
    try:
        return archive.load(text)
    except BackupError as error:
        raise BackupError(f"{file}: {error}") from None


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = members.extractfile(member)
    assert content is not None  # noqa: S101 (mypy: a regular file has one)
    return content


def _write(content: IO[bytes], path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = hashlib.sha256()
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        while chunk := content.read(_CHUNK):
            found.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return found.hexdigest()


def _examine(file: Path, state: Path, manifest: Manifest, tell: Callable[[str], None]) -> None:
    """Whether this version can go on with what was in the archive."""
    for name in (LOG, BRIDGE_ID):
        if not (state / name).is_file():
            raise BackupError(f"{file}: has no {name}; use another backup")
    for path in sorted(state.glob("*.sqlite")):
        name = path.name
        found, sound = database(path)
        newest = _NEWEST.get(name, found)
        if found > newest:
            raise BackupError(
                f"{file}: {name} was written by a newer version of MESBridge (layout {found}, this one has"
                f" {newest}); install version {manifest.version} first"
            )
        if not sound and name in DISPENSABLE:
            path.unlink()
            tell(f"{file}: {name} is damaged, and is not brought back; no machine depends on it")
        elif not sound:
            raise BackupError(f"{file}: {name} is damaged; use another backup")


def _own(work: Path, like: Path) -> None:
    """Whoever gives the command as root must not lock the bridge's user out."""
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = like.stat()
        for path in (work, *work.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)


def _swap(state: Path, folder: Path, held: StateFolder | None) -> Path | None:
    aside = None
    if folder.exists():
        aside = folder.with_name(f"{folder.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        if sys.platform == "win32" and held is not None:
            held.close()  # a folder with open files has to stay where it is
        folder.rename(aside)
    try:
        state.rename(folder)
    except OSError:
        if aside is not None:
            aside.rename(folder)
        raise
    _settle(folder.parent)
    return aside


def _settle(folder: Path) -> None:
    """Bring names of a folder to the disk, where that is possible."""
    if sys.platform != "win32":
        with contextlib.suppress(
            OSError
        ):  # the names are changed already, whether or not that is on the disk
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
