"""The scripts for shells, tried in real ones."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import needs

SHELLS = ["bash", "zsh", "fish"]
_PROMPT = "<ready>"


def script(shell: str) -> str:
    command = [sys.executable, "-m", "bridge.cli", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def typed(shell: str, folder: Path, line: str) -> str:
    """What the completion makes of `line` and a Tab in an interactive shell, on its terminal."""
    needs.shell(shell)
    (folder / "script").write_text(script(shell))
    (folder / "_mesbridge").write_text(script(shell) if shell == "zsh" else "")
    if shell == "fish":  # it says so itself
        command = ["fish", "--no-config", "-c", f"source script; complete -C '{line}'"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout
    setup = {
        "bash": f"bind 'set enable-bracketed-paste off'; source ./script; PS1='{_PROMPT[0]}''{_PROMPT[1:]}'",
        "zsh": "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; unset zle_bracketed_paste;"
        f" PS1='{_PROMPT[0]}''{_PROMPT[1:]}'",
    }[shell]
    command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "dumb", "COLUMNS": "200"}
        os.execvp(command[0], command)
    try:
        os.write(terminal, setup.encode() + b"\n")
        read_until(terminal, _PROMPT)
        os.write(terminal, line.encode() + b"\t")
        # Whatever the Tab printed, the word that follows it comes after that.
        os.write(terminal, b"\x05 #end\n")
        return read_until(terminal, "#end")
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def read_until(terminal: int, mark: str) -> str:
    seen, end = b"", time.monotonic() + 60
    while mark.encode() not in seen:
        assert time.monotonic() < end, seen.decode(errors="replace")
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096)
    return seen.decode(errors="replace")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("mesbridge sand", "sandbox"),
        ("mesbridge check con", "config-of-plant.json"),
        ("mesbridge check config-of-plant.json --settings set", "settings-of-plant.toml"),
        ("mesbridge run config-of-plant.json --sett", "--settings"),
        ("mesbridge convert config-of-plant.json --in-p", "--in-place"),
        ("mesbridge user set-role me ope", "operator"),
        ("mesbridge pair acc", "accept"),
        ("mesbridge completion fi", "fish"),
        ("mesbridge sandbox --folder fol", "folder-of-plant"),
    ],
)
def test_a_tab_completes(shell: str, line: str, completed: str, tmp_path: Path) -> None:
    (tmp_path / "config-of-plant.json").write_text("[]")
    (tmp_path / "settings-of-plant.toml").write_text("")
    (tmp_path / "folder-of-plant").mkdir()
    assert completed in typed(shell, tmp_path, line)


def test_a_name_with_a_blank_is_one_word_in_bash(tmp_path: Path) -> None:
    (tmp_path / "one file.json").write_text("[]")
    assert "one\\ file.json" in typed("bash", tmp_path, "mesbridge check one")


def test_another_shell_is_refused() -> None:
    command = [sys.executable, "-m", "bridge.cli", "completion", "csh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "bash" in done.stderr


def test_the_command_line_starts_without_it() -> None:
    code = "import sys; sys.argv = ['mesbridge', '--help']; import bridge.cli\ntry:\n    bridge.cli.main()\n"
    code += "except SystemExit:\n    print(sorted({'shtab', 'asyncio', 'aiohttp', 'ssl'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("\n[]\n")
