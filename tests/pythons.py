"""The plugin's own tests in every Python that OctoPrint may run in, as far as this machine has them.

An interpreter is found as ``pythonX.Y`` on the path or below pyenv's folder; each gets an environment in
``.pythons`` with the newest stable OctoPrint, in which the plugin is imported and its tests run. Run it as
``make test-pythons``; names of versions as arguments restrict it to them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
FOLDER = TREE / ".pythons"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
NEEDED = (
    "octoprint==1.11.8",
    "pytest>=8",
    "pytest-asyncio>=0.24",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "babel>=2.12",
    "cryptography",
)
IMPORT = "import octoprint_mesbridge.plugin, sys; print('the plugin is imported in Python', sys.version.split()[0])"


def interpreter(version: str) -> str | None:
    """The path of a working Python `version`; None when there is none."""
    for path in _candidates(version):
        told = subprocess.run([path, "-c", "import sys, venv; print(sys.version)"], capture_output=True)
        if told.returncode == 0 and told.stdout.decode().startswith(version + "."):
            return path
    return None


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


def tested(version: str, python: str) -> bool:
    """Whether plugin and tests run in `version`; what they say goes to the console."""
    folder = FOLDER / version
    inside = folder / "bin" / "python"
    ready = folder / ".ready"
    wanted = " ".join(NEEDED)
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([python, "-m", "venv", folder], check=True)
        subprocess.run([inside, "-m", "pip", "install", "--quiet", *NEEDED], check=True)
        ready.write_text(wanted)
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/plugin"]
    return all(subprocess.run([inside, *ask], cwd=TREE).returncode == 0 for ask in (["-c", IMPORT], tests))


def main(versions: list[str]) -> int:
    results = {}
    for version in versions:
        python = interpreter(version)
        print(f"--- Python {version}: {python or 'not found'}", flush=True)
        results[version] = (
            "not found" if python is None else "passed" if tested(version, python) else "FAILED"
        )
    print("\n".join(f"Python {version}: {result}" for version, result in results.items()))
    return 1 if "FAILED" in results.values() or "passed" not in results.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(VERSIONS)))
