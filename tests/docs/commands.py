"""What becomes of each command of the documents when a test runs it, and what cannot be run and why.

A case is chosen by the first pattern that matches the whole command. Most are run as they stand, in the plant of
``plant.py``; those with placeholders (ID, NAME, FILE) first need something that these stand for.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bridge import handshake
from tests.docs.markdown import TREE
from tests.docs.plant import PASSWORD, SECONDS, Plant
from tests.e2e.bridge_process import Plugin
from tests.e2e.test_pairing import Asking

UNIT = TREE / "extras" / "mesbridge.service"

Run = Callable[[Plant, str], None]


class Case(NamedTuple):
    """`run` tries the command; without one it is not run, for the `reason`."""

    pattern: str
    run: Run | None
    reason: str = ""


def runs(status: int | None = 0, says: str = "", given: str = "") -> Run:
    """It ends with this status, and its output has what the pattern `says`."""

    def run(plant: Plant, command: str) -> None:
        said = plant.run(command, status=status, given=given)
        assert re.search(says, said), f"{command}\n{said}"

    return run


def comes_to(says: str) -> Run:
    """Run until it says so: something else is on its way meanwhile."""

    def run(plant: Plant, command: str) -> None:
        plant.until(command, says)

    return run


def replaced(pattern: str, text: str, then: Run) -> Run:
    """Run with something else in place of a placeholder."""
    return lambda plant, command: then(plant, re.sub(pattern, text, command))


def keeps_on(says: str) -> Run:
    """It goes on; started here if it is not already, as long as the plant lasts."""

    def run(plant: Plant, command: str) -> None:
        plant.started(command, says)

    return run


def _installs(plant: Plant, command: str) -> None:
    """What pip is told to install is this tree with an extra that there is; the tree is installed where tests run."""
    found = re.search(r"pip install (?:--upgrade )?'?(?P<what>[^'\s\[]+)\[bridge\]'?$", plant.here(command))
    assert found, command
    assert Path(found["what"]) == TREE
    assert re.search(r"^bridge = \[", (TREE / "pyproject.toml").read_text(encoding="utf-8"), re.M)


def _venv(plant: Plant, command: str) -> None:
    plant.run(f"{command} --without-pip")
    assert (plant.folder / "opt" / "bin" / "python3").exists()


def _asking(plant: Plant) -> Asking:
    plant.run("mesbridge pair open --settings settings.toml")
    plant.asked += 1
    return Asking(
        f"http://127.0.0.1:{plant.push_port}",
        key=f"{plant.asked}" * 43,
        url=f"http://127.0.0.1:{plant.asked}",
    )


def _accepts_pairing(plant: Plant, command: str) -> None:
    """A plugin asks, its person confirms there, and it delivers."""
    asking = _asking(plant)

    def plugin() -> None:
        deadline = time.monotonic() + SECONDS
        while asking.state().state != handshake.ACCEPTED and time.monotonic() < deadline:
            time.sleep(0.1)
        asking.hand_over()
        Plugin(f"http://127.0.0.1:{plant.push_port}/push", asking.key, "sign-of-life").push()

    person = threading.Thread(target=plugin)
    person.start()
    said = plant.run(command.replace(" ID", f" {asking.id}").replace("--mes N", "--mes 1"))
    person.join(SECONDS)
    assert "its plugin delivers" in said, said


def _refuses_pairing(plant: Plant, command: str) -> None:
    asking = _asking(plant)
    assert "Refused" in plant.run(command.replace(" ID", f" {asking.id}"))


def _refused_client(plant: Plant) -> str:
    """A client that the bridge refuses; the ID of its certificate."""
    _make_certificate(plant)
    plant.run(LOOK, status=None)
    said = plant.until("mesbridge trust list --settings settings.toml", "Refused until")
    found = re.search(r"newest first:\n\s+(\w+)", said)
    assert found, said
    return found[1]


def _make_certificate(plant: Plant) -> None:
    plant.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=client -keyout client.pem -out client.der"
        ' -outform der -addext "subjectAltName=URI:urn:example.org:FreeOpcUa:opcua-asyncio,DNS:$(hostname)"'
    )


LOOK = (
    "uals --url opc.tcp://192.168.1.5:4840 --security Basic256Sha256,SignAndEncrypt,client.der,client.pem"
    " --user observer --password ... --path 0:Objects,4:Machines"
)


def _trusts(plant: Plant, command: str) -> None:
    assert "Accepted" in plant.run(command.replace(" ID", f" {_refused_client(plant)}"))


def _trusts_no_longer(plant: Plant, command: str) -> None:
    one = _refused_client(plant)
    plant.run(f"mesbridge trust accept {one} --settings settings.toml")
    assert "Removed" in plant.run(command.replace(" ID", f" {one}"))


def _looks(plant: Plant, command: str) -> None:
    """Refused at first; after `trust accept` it shows the machine of README."""
    plant.run("mesbridge user add observer --settings settings.toml", given=PASSWORD)
    one = _refused_client(plant)
    assert "Left printer" not in plant.run(command, status=None)
    plant.run(f"mesbridge trust accept {one} --settings settings.toml")
    plant.until(command, "octoprint-")


def _user_certificate(plant: Plant, command: str) -> None:
    _make_certificate(plant)
    assert "certificate" in plant.run(command.replace(" FILE", " client.der").replace(" NAME", " reader"))


def _removes_user(plant: Plant, command: str) -> None:
    plant.run("mesbridge user add leaver --settings settings.toml", given=PASSWORD)
    assert "leaver" in plant.run(command.replace(" NAME", " leaver"))


def _asks_online(plant: Plant, command: str) -> None:
    """The MES of the plant answers; README's OctoPrint is not there, which is said with what to do."""
    said = plant.run(command, status=1)
    assert "cannot be reached" in said
    assert "Asked: 1 OctoPrint, 1 MES" in said


def without_sudo(then: Run) -> Run:
    """Run as whoever runs the tests: files get no other owner."""

    def run(plant: Plant, command: str) -> None:
        then(plant, re.sub(r"sudo (-u \w+ )?| -[og] mesbridge", " ", command).strip())

    return run


def _copies(plant: Plant, command: str) -> None:
    """What is copied is there with its mode; the last word is where."""
    (plant.folder / "mes.token").write_text("token")
    plant.run(command)
    *_, last, where = command.split()
    target = Path(plant.here(where))
    assert target.is_dir()
    assert last.startswith("0") or (target / Path(last).name).exists()


def _fits_the_unit(_: Plant, command: str) -> None:
    """The user that is made is that of the unit, and lives in its state folder."""
    found = re.search(r"--home-dir /var/lib/(\w+) .*nologin (\w+)$", command)
    assert found
    unit = UNIT.read_text(encoding="utf-8")
    assert f"\nStateDirectory={found[1]}\n" in unit
    assert f"\nUser={found[2]}\n" in unit


def _systemd(_: Plant, command: str) -> None:
    """The unit is in extras, and can do what it is asked for; systemd itself is not asked."""
    words = command.removeprefix("sudo ").split()
    assert words[0] in ("systemctl", "journalctl")
    if "daemon-reload" not in words:
        assert UNIT.stem in words
    if "reload" in words:
        assert "\nExecReload=" in UNIT.read_text(encoding="utf-8")
    if "enable" in words:
        assert "\nWantedBy=multi-user.target" in UNIT.read_text(encoding="utf-8")


def _completes(plant: Plant, command: str) -> None:
    """The script is printed, or is where the shell looks for it."""
    command = command.replace("bash|zsh|fish", "bash")
    _, to_file, name = command.partition(" > ~/")
    target = plant.folder / "home" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    said = plant.run(command)
    assert "mesbridge" in (target.read_text() if to_file else said)


def _restores(plant: Plant, command: str) -> None:
    """Refused while the bridge runs; elsewhere the state folder is there again, with the machine under its id."""
    file = command.split()[2]
    if not (plant.folder / file).exists():
        plant.run(f"mesbridge backup {file} --with-config config.json --settings settings.toml")
    assert "another mesbridge uses this state folder" in plant.run(command, status=1)
    plant.asked += 1
    elsewhere = plant.folder / f"elsewhere-{plant.asked}"
    elsewhere.mkdir()
    state = elsewhere / "state"
    text = plant.settings.read_text()
    (elsewhere / "settings.toml").write_text(f'[bridge]\nstate_folder = "{state}"\n{text}')
    (elsewhere / file).symlink_to(plant.folder / file)
    plant.run(f"cd {elsewhere} && {command}")
    assert (state / "machines.json").read_bytes() == (plant.state / "machines.json").read_bytes()
    if "--config-folder config" in command:
        assert (elsewhere / "config" / "config.json").exists()


def _is_a_target(_: Plant, command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (TREE / "Makefile").read_text(encoding="utf-8"), re.M), target


CASES = (
    # Installing.
    Case(r"(sudo )?python3 -m venv \S+", without_sudo(_venv)),
    Case(r"(sudo )?\S*pip install (--upgrade )?'\S+\[bridge\]'", _installs),
    Case(r"sudo useradd .*", _fits_the_unit),
    Case(r"sudo install .*", without_sudo(_copies)),
    Case(r"(sudo )?(systemctl|journalctl) .*", _systemd),
    Case(r"export PATH=\S+", runs()),
    Case(
        r"mesbridge check config\.json( --settings settings\.toml)?", runs(says="1 of 1 OctoPrint machines")
    ),
    Case(r"mesbridge check config\.json --online --settings settings\.toml", _asks_online),
    Case(r"mesbridge run config\.json --settings settings\.toml", keeps_on("MESBridge serves")),
    Case(r"mesbridge user add NAME --certificate FILE.*", _user_certificate),
    Case(r"mesbridge user add .*", replaced(" NAME", " somebody", runs(says="Stored", given=PASSWORD))),
    Case(r"mesbridge user set-role NAME observer.*", replaced(" NAME", " somebody", runs(says="observer"))),
    Case(r"mesbridge user remove NAME.*", _removes_user),
    Case(r"mesbridge user list.*", runs()),
    Case(r"mesbridge convert config\.json --to 1\.4 --output \S+", runs(says="written, for Aggregator 1.4")),
    Case(
        r"mesbridge convert CONFIG --to 1\.1\|.*",
        replaced(r"CONFIG --to \S+", "config.json --to 1.2", runs(says='"authentication_file_path"')),
    ),
    # Clients.
    Case(r"mesbridge trust list.*", runs(says="rust")),
    Case(r"mesbridge trust accept ID.*", _trusts),
    Case(r"mesbridge trust remove ID.*", _trusts_no_longer),
    Case(r"openssl req .*", runs()),
    Case(r"uals .*", _looks),
    # Pairing.
    Case(r"(sudo -u mesbridge \S+/)?mesbridge pair open.*", without_sudo(runs(says="Pairing is open"))),
    Case(r"mesbridge pair (list|close).*", runs()),
    Case(r"mesbridge pair accept ID.*", _accepts_pairing),
    Case(r"mesbridge pair refuse ID.*", _refuses_pairing),
    # The MES.
    Case(r"mesbridge sandbox.*", keeps_on("[[mes]]")),
    Case(r"mesbridge mes status.*", comes_to(r"\bactive\b")),
    Case(r"mesbridge mes retry.*", replaced("--machine NAME", "--machine 'Left printer'", runs())),
    Case(r"curl .*/misbehave", runs()),
    Case(r'echo "whsec_.*', runs()),
    Case(r"chmod 600 \S+", runs()),
    # Running it.
    Case(r"mesbridge watch.*", runs(says=r"machines:[\s\S]*Left printer")),
    Case(r"mesbridge reload.*", runs(says="Nothing has changed|in force|machine")),
    Case(r"mesbridge completion [\w|]+( > \S+)?", _completes),
    Case(r"mesbridge backup \S+\.tar\.gz.*", runs(says="It holds private keys")),
    Case(r"mesbridge restore \S+\.tar\.gz.*", _restores),
    Case(r"curl -fsS http://127.0.0.1:8486/\w+", runs(says="alive|ready|mesbridge_machines [1-9]")),
    # What goes on for too long, or is itself a test.
    Case(r"make \w[\w-]*.*", _is_a_target),
    Case(
        r"(\.venv/bin/)?mesbridge demo.*",
        None,
        "installs an OctoPrint; run by tests/e2e/test_chain.py and, with --check, by the demo's own tests",
    ),
    Case(
        r"(MESBRIDGE_\w+=1 )?(\.venv/bin/)?python -m (pytest|benchmarks) .*",
        None,
        "for developers; takes minutes",
    ),
)


def case_of(command: str) -> Case | None:
    """The case that is responsible for a command."""
    return next((case for case in CASES if re.fullmatch(case.pattern, command)), None)
