"""What a backup holds, and what is refused when one is brought back."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import sqlite3
import stat
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, identity
from bridge.aggregator import load
from bridge.commands import archive
from bridge.commands.archive import BackupError, Kept
from bridge.commands.backup import digest, make
from bridge.commands.restore import restore
from bridge.log.sqlite import LAYOUT, SqliteLog
from bridge.mes.store import Store
from bridge.state import StateFolder, StateFolderError
from tests.bridge.log.contract import batch


def state_folder(path: Path, events: int = 3, ahead: int = 0) -> Path:
    """A folder as a bridge leaves it; the MES's side is so many positions `ahead` of the log."""
    StateFolder(path).close()

    async def fill() -> None:
        log = SqliteLog(path / "log.sqlite", lambda records: None)
        await log.append("m", batch(*range(1, events + 1)))
        store = Store(path / "mes.sqlite")
        store.follow(log.id, log.end)
        store.write(log.end + ahead, {}, [])
        store.close()
        await log.close()

    asyncio.run(fill())
    identity.bridge_id(path)
    (path / "users.json").write_text("{}")
    (path / "pki" / "trusted").mkdir(parents=True)
    (path / "pki" / "private_key.pem").write_text("key")
    (path / "control.json").write_text("{}")
    (path / ".users.json.x1").write_text("half")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def rewrite(file: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """Write the archive again, with another manifest or other files."""
    with tarfile.open(file) as old:
        files = {one.name: old.extractfile(one).read() for one in old.getmembers()}  # type: ignore[union-attr]
    manifest = json.loads(files.pop(archive.MANIFEST))
    change(manifest, files)
    with tarfile.open(file, "w:gz") as new:
        for name, text in {archive.MANIFEST: json.dumps(manifest).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            new.addfile(member, io.BytesIO(text))


def test_what_was_backed_up_comes_back_and_what_was_there_is_kept(tmp_path: Path) -> None:
    source = state_folder(tmp_path / "a")
    made = make(tmp_path / "b.tar.gz", source, {})
    target = state_folder(tmp_path / "other", events=1)
    before = content(target)
    manifest, aside = restore(tmp_path / "b.tar.gz", target)
    assert manifest == made
    assert aside is not None
    assert content(aside) == before
    assert set(content(target)) == {
        "log.sqlite",
        "mes.sqlite",
        "bridge-id",
        "users.json",
        "pki/private_key.pem",
    }
    assert content(target)["pki/private_key.pem"] == b"key"
    assert not list(tmp_path.glob(".*"))
    if sys.platform != "win32":
        modes = {
            stat.S_IMODE(one.stat().st_mode) & 0o077 for one in (tmp_path / "b.tar.gz", *target.rglob("*"))
        }
        assert modes == {0}


def test_a_database_of_another_part_is_copied_whole_though_it_is_in_use(tmp_path: Path) -> None:
    folder = state_folder(tmp_path / "a")
    with closing(sqlite3.connect(folder / "history.sqlite", isolation_level=None)) as used:
        used.execute("PRAGMA journal_mode = WAL")
        used.execute("CREATE TABLE thing (name TEXT)")
        used.execute("INSERT INTO thing VALUES ('in the WAL')")
        made = make(tmp_path / "b.tar.gz", folder, {})
    assert "state/history.sqlite-wal" not in made.files
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "new" / "history.sqlite")) as copy:
        assert copy.execute("SELECT name FROM thing").fetchall() == [("in the WAL",)]


def test_the_copy_of_what_waits_for_the_mes_is_not_ahead_of_that_of_the_log(tmp_path: Path) -> None:
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a", events=3, ahead=5), {})
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "new" / "mes.sqlite")) as store:
        assert store.execute("SELECT position FROM cursor").fetchone() == (3,)


def test_the_configuration_comes_back_only_to_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {"config.json": tmp_path / "config.json"})
    (tmp_path / "taken").mkdir()
    with pytest.raises(BackupError, match="taken: is there already"):
        restore(tmp_path / "b.tar.gz", tmp_path / "new", tmp_path / "taken")
    assert not (tmp_path / "new").exists()
    manifest, _ = restore(tmp_path / "b.tar.gz", tmp_path / "new", tmp_path / "config")
    assert (tmp_path / "config" / "config.json").read_text() == "[]"
    assert manifest.files["config/config.json"].origin == str(tmp_path / "config.json")


def test_what_the_configuration_names_is_found_from_where_it_comes_back(tmp_path: Path) -> None:
    plant, elsewhere = tmp_path / "plant", tmp_path / "elsewhere"
    (plant / "keys").mkdir(parents=True)
    elsewhere.mkdir()
    state_folder(plant / "state")
    for secret in (plant / "keys" / "left.txt", plant / "mes.token", elsewhere / "right.txt"):
        secret.write_text(f"{secret.stem:0<32}")
        secret.chmod(0o600)
    entry = {"type": "OCTOPRINT", "mes_id": [1]}
    entries = [
        {**entry, "url": "http://left", "authentication_file_path": "keys/left.txt"},
        {**entry, "url": "http://right", "authentication_file_path": str(elsewhere / "right.txt")},
    ]
    (plant / "config.json").write_text(json.dumps(entries))
    mes = '[[mes]]\nid = 1\nurl = "https://mes.example"\nservice_id = "s"\ntoken_file = "mes.token"\n'
    (plant / "settings.toml").write_text(f'[bridge]\nstate_folder = "state"\n{mes}')
    file, new = tmp_path / "b.tar.gz", tmp_path / "new"
    chosen = ["--settings", str(plant / "settings.toml")]
    assert cli.main(["backup", str(file), "--with-config", str(plant / "config.json"), *chosen]) == 0
    restore(file, new / "state", new / "config")
    left, right = load(new / "config" / "config.json").machines
    assert left.credential.key is not None
    assert left.credential.key.reveal() == f"{'left':0<32}"
    assert (new / "config" / "mes.token").read_text() == f"{'mes':0<32}"
    [kept] = (new / "config" / "files").iterdir()
    assert kept.read_text() == f"{'right':0<32}"
    assert right.url == "http://right"


def test_a_restore_that_fails_leaves_no_configuration_and_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("[]")
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {"config.json": tmp_path / "config.json"})

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(tmp_path / "a"))

    with monkeypatch.context() as mounted:
        mounted.setattr("bridge.commands.restore._swap", busy)
        with pytest.raises(BackupError, match="the state folder is as it was"):
            restore(tmp_path / "b.tar.gz", tmp_path / "a", tmp_path / "taken" / "out")
    assert not (tmp_path / "taken" / "out").exists()
    restore(tmp_path / "b.tar.gz", tmp_path / "a", tmp_path / "taken" / "out")
    assert (tmp_path / "taken" / "out" / "config.json").read_text() == "[]"
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "taken" / "out").stat().st_mode) == 0o700


def history(size: int = 2000) -> bytes:
    """A file whose head is a database's, and of which a page is not."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE thing (name TEXT)")
        made.executemany("INSERT INTO thing VALUES (?)", [(f"number {n}",) for n in range(size)])
        made.commit()
        whole = made.serialize()
    return whole[:4096] + b"\xff" * 4096 + whole[8192:]


@pytest.mark.parametrize("found", [b"no database" * 500, history()], ids=["at all", "in a page"])
def test_a_damaged_history_is_left_out_of_a_backup_and_said(
    tmp_path: Path, found: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = state_folder(tmp_path / "a")
    (folder / "history.sqlite").write_bytes(found)
    (folder / "history.sqlite-wal").write_bytes(b"")
    (folder / "history.sqlite.damaged").write_bytes(b"set aside earlier")
    made = make(tmp_path / "b.tar.gz", folder, {})
    said = capsys.readouterr().err
    assert f"{folder / 'history.sqlite'}: is not in the backup" in said
    assert "no machine depends on it" in said
    assert not [name for name in made.files if "history" in name]
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    assert (tmp_path / "new" / "log.sqlite").is_file()
    assert capsys.readouterr().err == ""


def test_a_damaged_history_in_a_backup_keeps_nothing_else_from_coming_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})

    def add(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files["state/history.sqlite"] = found = history()
        sha256 = hashlib.sha256(found).hexdigest()
        manifest["files"]["state/history.sqlite"] = {"size": len(found), "sha256": sha256, "origin": None}

    rewrite(tmp_path / "b.tar.gz", add)
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    assert "history.sqlite is damaged, and is not brought back" in capsys.readouterr().err
    assert (tmp_path / "new" / "log.sqlite").is_file()
    assert not (tmp_path / "new" / "history.sqlite").exists()


def test_a_folder_without_a_log_and_a_file_that_is_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BackupError, match=r"no log\.sqlite"):
        make(tmp_path / "b.tar.gz", tmp_path / "a", {})
    (tmp_path / "b.tar.gz").write_text("mine")
    with pytest.raises(BackupError, match="is there already"):
        make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})
    assert (tmp_path / "b.tar.gz").read_text() == "mine"


def escaping(name: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files[name] = files.pop("state/users.json")
        manifest["files"][name] = manifest["files"].pop("state/users.json")

    return change


def altered(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["state/users.json"] = b"[]"


def longer(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["state/users.json"] += b"more"


def missing(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["state/users.json"]


def unnamed(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["state/extra"] = b"x"


def without_log(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["state/log.sqlite"], manifest["files"]["state/log.sqlite"]


def of_the_future(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["format"] = 2


def bad_size(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    manifest["files"]["state/users.json"]["size"] = "2"


def newer_layout(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    log = bytearray(files["state/log.sqlite"])
    log[60:64] = (99).to_bytes(4, "big")  # user_version in the header of an SQLite file
    replaced(manifest, files, bytes(log))


def damaged(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    log = bytearray(files["state/log.sqlite"])
    log[4096:8192] = b"\xff" * 4096
    replaced(manifest, files, bytes(log))


def replaced(manifest: dict[str, Any], files: dict[str, bytes], log: bytes) -> None:
    files["state/log.sqlite"] = log
    manifest["files"]["state/log.sqlite"]["sha256"] = hashlib.sha256(log).hexdigest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (escaping("state/../../evil"), "a name that no backup has"),
        (escaping("/etc/evil"), "a name that no backup has"),
        (escaping("state/a\\b"), "a name that no backup has"),
        (escaping("state/./a"), "a name that no backup has"),
        (escaping("state/lock"), "a name that no backup has"),
        (altered, "users.json is damaged|is not what its manifest says"),
        (longer, "is not what its manifest says"),
        (missing, "files are missing"),
        (unnamed, "is not what its manifest says"),
        (without_log, r"has no log\.sqlite"),
        (of_the_future, "written by another version"),
        (bad_size, "is no backup"),
        (newer_layout, r"layout 99, this one has \d+"),
        (damaged, r"log\.sqlite is damaged"),
    ],
)
def test_what_is_not_whole_or_not_ours_changes_nothing(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], said: str
) -> None:
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})
    rewrite(tmp_path / "b.tar.gz", change)
    folder = state_folder(tmp_path / "there", events=1)
    before = content(folder)
    with pytest.raises(BackupError, match=said):
        restore(tmp_path / "b.tar.gz", folder)
    assert content(folder) == before
    assert {one.name for one in tmp_path.iterdir()} == {"a", "b.tar.gz", "there"}


@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.9])
def test_a_file_that_was_cut_changes_nothing(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "b.tar.gz"
    make(file, state_folder(tmp_path / "a"), {})
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(BackupError, match="cannot be read as a backup|is no backup|files are missing"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    made = make(file, state_folder(tmp_path / "a"), {})
    link = Kept(0, "0" * 64)
    with tarfile.open(file, "w:gz") as new:
        text = replace(made, files={**made.files, "state/link": link}).dump()
        first = tarfile.TarInfo(archive.MANIFEST)
        first.size = len(text)
        new.addfile(first, io.BytesIO(text))
        member = tarfile.TarInfo("state/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        new.addfile(member)
    with pytest.raises(BackupError, match="is not what its manifest says"):
        restore(file, tmp_path / "new")


def test_a_bridge_that_runs_is_in_the_way(tmp_path: Path) -> None:
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})
    held = StateFolder(tmp_path / "a")
    with pytest.raises(StateFolderError, match="another mesbridge uses"):
        restore(tmp_path / "b.tar.gz", tmp_path / "a")
    held.close()


def test_a_restore_that_was_killed_between_its_renamings_is_not_taken_for_a_new_bridge(
    tmp_path: Path,
) -> None:
    (tmp_path / ".state.restoring-x1").mkdir()
    with pytest.raises(StateFolderError, match="a restore was ended half-way"):
        StateFolder(tmp_path / "state")
    assert not (tmp_path / "state").exists()
    make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})
    restore(tmp_path / "b.tar.gz", tmp_path / "state")
    StateFolder(tmp_path / "state").close()


def test_digests_are_those_of_the_files(tmp_path: Path) -> None:
    made = make(tmp_path / "b.tar.gz", state_folder(tmp_path / "a"), {})
    assert made.files["state/users.json"] == Kept(2, digest(tmp_path / "a" / "users.json"))
    assert made.layouts == {"log.sqlite": LAYOUT, "mes.sqlite": 2}
