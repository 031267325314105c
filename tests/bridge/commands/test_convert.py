"""`mesbridge convert` with real files: what is written, with which mode, and that nothing is lost."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.aggregator import edit, load
from bridge.commands import convert
from bridge.commands.convert import Wish

KEY = "A0A00B123E454H122BD513FE58B5E9BC"


def entry(**own: Any) -> dict[str, Any]:
    return {"type": "OCTOPRINT", "url": "http://h", "mes_id": [1]} | own


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file of 1.4 with a key in it, readable by all."""
    return write(tmp_path / "config.json", [entry(authentication_file_path=KEY, custom_name="MK4")])


def write(path: Path, content: object) -> Path:
    path.write_text("// mine\n" + json.dumps(content))
    path.chmod(0o644)
    return path


def secret(folder: Path, name: str = "s.txt") -> Path:
    file = folder / name
    file.touch(mode=0o600)
    file.write_text(KEY + "\n")
    return file


def run(*args: Any, **wishes: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status = convert.run(Wish(*args, **wishes), stdout, stderr)
    return status, stdout.getvalue(), stderr.getvalue()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_each_key_gets_a_file_that_only_its_owner_reads(config: Path) -> None:
    before, output = config.read_bytes(), config.with_name("new.json")
    status, stdout, stderr = run(config, "1.2", output)
    file = config.parent / "secrets" / "octoprint-mk4.txt"
    assert (status, stdout) == (0, "")
    assert f"{file}: written, the key of [0] MK4" in stderr
    assert (file.read_text(), mode(file), mode(file.parent)) == (KEY + "\n", 0o600, 0o700)
    assert KEY not in output.read_text() + stderr
    assert (mode(output), config.read_bytes()) == (0o644, before)
    assert load(output).machines[0].credential.path == file


def test_no_secret_file_is_written_over(config: Path) -> None:
    secrets = config.parent / "secrets"
    secrets.mkdir()
    (secrets / "octoprint-mk4.txt").write_text("of somebody else")
    assert run(config, "1.2", config.with_name("new.json"))[0] == 0
    assert (secrets / "octoprint-mk4.txt").read_text() == "of somebody else"
    assert (secrets / "octoprint-mk4-2.txt").read_text() == KEY + "\n"


def test_a_file_with_keys_is_for_its_owner_only_and_that_is_said(tmp_path: Path) -> None:
    file = secret(tmp_path)
    config = write(tmp_path / "config.json", [entry(authentication_file_path="s.txt")])
    output = tmp_path / "new.json"
    status, _, stderr = run(config, "1.1", output)
    assert (status, mode(output)) == (0, 0o600)
    assert f"{output}: written, for Aggregator 1.1 (mode 0600: it holds keys)" in stderr
    assert f"{file}: its key stands in {output} now" in stderr
    assert json.loads(output.read_text().removeprefix("// mine\n"))[0]["api_key"] == KEY
    assert KEY not in stderr


def test_without_an_output_the_text_comes_on_standard_output(tmp_path: Path) -> None:
    secret(tmp_path)
    entries = [entry(authentication_file_path="s.txt", umati_server_port=4841)]
    config = write(tmp_path / "config.json", entries)
    status, stdout, stderr = run(config, "1.4")
    assert status == 0
    assert stdout == '// mine\n[{"type": "OCTOPRINT", "url": "http://h", "mes_id": [1], ' + (
        '"authentication_file_path": "s.txt"}]'
    )
    assert (
        f"{config}:2:95: warning: Aggregator 1.4 knows no umati_server_port: port 4841 is left out" in stderr
    )


def test_no_key_comes_on_standard_output_that_did_not_stand_in_the_file(tmp_path: Path) -> None:
    secret(tmp_path)
    config = write(tmp_path / "config.json", [entry(authentication_file_path="s.txt")])
    status, stdout, stderr = run(config, "1.1")
    assert (status, stdout) == (2, "")
    assert "1 key would stand in the text" in stderr
    assert "--output FILE" in stderr


def test_what_needs_secret_files_needs_an_output(config: Path) -> None:
    before = tree(config.parent)
    status, stdout, stderr = run(config, "1.2")
    assert (status, stdout, tree(config.parent)) == (2, "", before)
    assert "1 key of" in stderr
    assert "--output FILE" in stderr


def test_a_file_that_is_there_is_replaced_by_force_alone(config: Path) -> None:
    output = config.with_name("new.json")
    output.write_text("precious")
    status, _, stderr = run(config, "1.2", output)
    assert (status, output.read_text()) == (2, "precious")
    assert "--force" in stderr
    assert not (config.parent / "secrets").exists()
    assert run(config, "1.2", output, force=True)[0] == 0
    assert load(output).ok


@pytest.mark.parametrize("way", ["itself", "link", "hard link"])
def test_the_file_itself_is_replaced_in_place_alone(way: str, config: Path) -> None:
    output, before = config, config.read_bytes()
    if way != "itself":
        output = config.with_name("other.json")
        (os.symlink if way == "link" else os.link)(config, output)
    status, _, stderr = run(config, "1.2", output, force=True)
    assert (status, config.read_bytes()) == (2, before)
    assert "--in-place" in stderr
    assert run(config, "1.2", in_place=True)[0] == 0
    assert load(config).machines[0].credential.source == "file"
    assert KEY.encode() not in config.read_bytes()


def test_in_place_works_through_a_link_whose_folder_holds_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = write(
        tmp_path / "real" / "c.json", [entry(authentication_file_path="s.txt", umati_server_port=4841)]
    )
    secret(tmp_path)
    link = tmp_path / "config.json"
    link.symlink_to(real)
    assert run(link, "1.4", in_place=True)[0] == 0
    assert link.is_symlink()
    assert "umati_server_port" not in real.read_text()
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["c.json", "config.json", "real", "s.txt"]


def test_a_file_elsewhere_names_the_same_secret_files(tmp_path: Path) -> None:
    file = secret(tmp_path)
    entries = [
        entry(authentication_file_path="s.txt"),
        {"type": "CARBON3D", "url": "x", "authentication_file_path": "c.txt"},
    ]
    config = write(tmp_path / "config.json", entries)
    (tmp_path / "new").mkdir()
    status, _, stderr = run(config, "1.4", tmp_path / "new" / "config.json")
    assert status == 0
    first = load(tmp_path / "new" / "config.json").machines[0]
    assert first.credential.path == file
    assert "this entry stays as it is, but the new file stands in another folder" in stderr


@pytest.mark.parametrize("step", ["settle", "load", "put"])
def test_a_failure_leaves_everything_as_it_was(
    step: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    before = tree(config.parent)
    owner: Any = {"settle": edit, "load": convert, "put": convert._Output}[step]
    with monkeypatch.context() as patch:
        if step == "load":
            loads = iter([load, full])
            patch.setattr(owner, "load", lambda path: next(loads)(path))
        else:
            patch.setattr(owner, "settle" if step == "settle" else "_put", full)
        status, _, stderr = run(config, "1.2", in_place=True)
    assert (status, tree(config.parent)) == (2, before)
    assert "No space left on device" in stderr
    assert "nothing was written" in stderr
    assert run(config, "1.2", in_place=True)[0] == 0


def test_a_full_disk_leaves_everything_as_it_was(config: Path) -> None:
    """With a limit on the size of files, which the kernel enforces as a full disk."""
    config.write_text(config.read_text() + "\n" * 10_000)
    before = tree(config.parent)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from bridge.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    args = [sys.executable, "-B", "-c", code, "convert", str(config), "--to", "1.2", "--in-place"]
    done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert tree(config.parent) == before


KILLED_AT = """
import os, signal, sys
left = int(sys.argv.pop(1))
def counted(real):
    def call(*args, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call
for name in ("open", "fsync", "replace", "link", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
from bridge.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        folder.mkdir()
        path = write(
            folder / "config.json", [entry(authentication_file_path=KEY), entry(url="http://i", api_key="k")]
        )
        before = path.read_bytes()
        args = [
            sys.executable,
            "-c",
            KILLED_AT,
            str(kills),
            "convert",
            str(path),
            "--to",
            "1.2",
            "--in-place",
        ]
        done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60)
        keys = [one.credential.key for one in load(path).machines]
        assert [key and key.reveal() for key in keys] == [KEY, "k"]
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert path.read_bytes() == before or KEY.encode() not in path.read_bytes()
        assert run(path, "1.2", in_place=True)[0] == 0  # nothing that is left stands in the way
        kills += 1
    assert kills > 5


def test_another_change_at_the_same_moment_wins(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = convert._Output._compare

    def changed(self: Any, after: Any) -> None:
        compare(self, after)
        config.write_text("[]")

    monkeypatch.setattr(convert._Output, "_compare", changed)
    status, _, stderr = run(config, "1.2", in_place=True)
    assert (status, tree(config.parent)) == (2, {"config.json": b"[]"})
    assert "was changed at this moment" in stderr


def test_an_entry_that_cannot_be_read_stays_and_the_exit_status_tells(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", [entry(api_key=KEY), {"type": "OCTOPRINT", "url": "http://g"}])
    output = tmp_path / "new.json"
    status, _, stderr = run(config, "1.4", output)
    assert status == 1
    assert "mes_id is missing" in stderr
    assert "this entry has an error, and stays as it is" in stderr
    assert '{"type": "OCTOPRINT", "url": "http://g"}' in output.read_text()
    assert [one.served for one in load(output).machines] == [True, False]


@pytest.mark.parametrize("content", ["[{]", "", "nothing"])
def test_no_json_is_no_config(content: str, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    status, stdout, stderr = run(config, "1.4", tmp_path / "new.json")
    assert (status, stdout) == (2, "")
    assert "nothing was written" in stderr
    assert list(tree(tmp_path)) == ["config.json"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    status, _, stderr = run(tmp_path / "no.json", "1.4", tmp_path / "new.json")
    assert status == 2
    assert f"{tmp_path / 'no.json'}: error: there is no such file" in stderr


@pytest.mark.parametrize(("name", "reason"), [("folder", "is a folder"), ("no/new.json", "is no folder")])
def test_an_output_that_cannot_be_is_refused(name: str, reason: str, config: Path) -> None:
    (config.parent / "folder").mkdir()
    status, _, stderr = run(config, "1.4", config.parent / name, force=True)
    assert status == 2
    assert reason in stderr


def test_the_encoding_stays(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(b"\xff\xfe" + json.dumps([entry(api_key=KEY, x="ä")]).encode("utf-16-le"))
    output = tmp_path / "new.json"
    assert run(config, "1.4", output)[0] == 0
    assert output.read_bytes()[:2] == b"\xff\xfe"
    assert json.loads(output.read_bytes().decode("utf-16"))[0]["x"] == "ä"


def test_the_command_line_knows_1_3_too(config: Path) -> None:
    args = [sys.executable, "-m", "bridge.cli", "convert", str(config), "--to", "1.3", "--in-place"]
    done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert load(config).machines[0].credential.source == "file"
