"""What of Windows can be seen elsewhere: every module is loaded without what only POSIX has, and uses none of it.

``mypy --platform win32`` in ``make lint`` looks at each use; this looks at what happens when modules are loaded, and at
the files of the state folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AS_ON_WINDOWS = """
import asyncio, ssl, subprocess, tempfile, shutil, logging, importlib, os, pkgutil, signal, socket, sys, types
import aiohttp, aiohttp.web, asyncua, asyncua.crypto.uacrypto, cryptography.x509, flask, requests, structlog
import werkzeug.serving, zeroconf, zeroconf.asyncio
from pathlib import Path

sys.platform = "win32"
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"):
    sys.modules[name] = None
for module, names in {
    os: ("geteuid", "getuid", "getgid", "chown", "fchown", "fchmod", "mkfifo", "O_NOFOLLOW", "O_CLOEXEC", "getloadavg"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM"),
    socket: ("SO_REUSEPORT", "SOCK_CLOEXEC"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
signal.SIGBREAK = signal.SIGTERM
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2
msvcrt.locked = []
msvcrt.locking = lambda descriptor, mode, count: msvcrt.locked.append((mode, count))
sys.modules["msvcrt"] = msvcrt
"""
IMPORT_ALL = """
import bridge
for found in pkgutil.walk_packages(bridge.__path__, "bridge."):
    importlib.import_module(found.name)
    print(found.name)
"""
USE = """
from bridge.state import StateFolder
from bridge.files import write_private
from bridge.notify import Notifier
from bridge.web import process
folder = StateFolder(Path(sys.argv[1]) / "state")
assert msvcrt.locked == [(2, 1)]
assert not folder.open_to_others
write_private(folder.path / "a", b"x")
folder.close()
Notifier({"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "1000000"}).ready("serves")
assert {metric.name for metric, _ in process.figures()} == {"process_cpu_seconds", "process_start_time_seconds"}
async def life():
    from bridge.log.sqlite import SqliteLog
    from bridge.mes.store import Store
    from bridge import identity
    log = SqliteLog(folder.path / "log.sqlite", lambda records: None)
    Store(folder.path / "mes.sqlite").close()
    identity.bridge_id(folder.path)
    await log.close()
asyncio.run(life())
from bridge.commands.backup import make
from bridge.commands.restore import restore
make(Path(sys.argv[1]) / "b.tar.gz", folder.path, {})
_, aside = restore(Path(sys.argv[1]) / "b.tar.gz", folder.path)
assert aside.exists() and folder.path.exists()
"""


def run(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS + program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(sys.platform == "win32", reason="there it is so anyway")
def test_every_module_can_be_loaded_without_what_windows_lacks() -> None:
    loaded = run(IMPORT_ALL)
    assert {"bridge.commands.run", "bridge.service", "bridge.state", "bridge.commands.restore"} <= set(loaded)
    assert len(loaded) > 150


@pytest.mark.skipif(sys.platform == "win32", reason="there it is so anyway")
def test_a_state_folder_is_made_backed_up_and_brought_back_without_it(tmp_path: Path) -> None:
    run(USE, str(tmp_path))
