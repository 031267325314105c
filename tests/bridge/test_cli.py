from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization

from bridge import __version__, cli
from bridge.opcua import Users

from .opcua.authority import issue


def mesbridge(
    *arguments: str | Path, given: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge.cli", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, timeout=60)


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mesbridge {__version__}\n"


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "status"), [('[{"type": "OCTOPRINT"}]', 1), ("[]", 0), ("nonsense", 2)])
def test_check_tells_by_its_exit_status_and_in_json(tmp_path: Path, text: str, status: int) -> None:
    (tmp_path / "config.json").write_text(text)
    ran = mesbridge("check", "config.json", "--json", folder=tmp_path)
    assert json.loads(ran.stdout)["ok"] is (status == 0)
    assert ran.returncode == status
    assert "Traceback" not in ran.stderr


def test_a_user_is_added_changed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[bridge]\nstate_folder = "state"\n')
    options = ("--settings", "settings.toml")
    for password in ("first password", "second password"):
        ran = mesbridge("user", "add", "observer", *options, given=password + "\n", folder=tmp_path)
        assert ran.returncode == 0
        assert password not in ran.stdout + ran.stderr
    path = tmp_path / "state" / "users.json"
    assert not Users(path).verify("observer", "first password")
    assert Users(path).verify("observer", "second password")
    assert path.stat().st_mode & 0o077 == 0
    assert mesbridge("user", "remove", "observer", *options, folder=tmp_path).returncode == 0
    again = mesbridge("user", "remove", "observer", *options, folder=tmp_path)
    assert (again.returncode, "no user 'observer'" in again.stderr) == (1, True)


def test_a_user_has_a_role_that_can_be_changed_and_listed(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[bridge]\nstate_folder = "state"\n')
    options = ("--settings", "settings.toml")

    def done(*arguments: str) -> str:
        ran = mesbridge("user", *arguments, *options, given="a long password\n", folder=tmp_path)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "observer" in done("add", "ann")
    assert "operator" in done("add", "olga", "--role", "operator")
    assert done("list").split() == ["observer", "ann", "operator", "olga"]
    done("add", "olga")  # another password keeps the role
    done("set-role", "ann", "operator")
    assert done("list").split() == ["operator", "ann", "operator", "olga"]
    missing = mesbridge("user", "set-role", "bob", "operator", *options, folder=tmp_path)
    assert (missing.returncode, "no user 'bob'; there are ann, olga" in missing.stderr) == (1, True)


def test_a_user_logs_in_with_a_certificate_instead_of_a_password(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[bridge]\nstate_folder = "state"\n')
    carla = issue("carla")
    (tmp_path / "carla.pem").write_bytes(carla.certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "nothing.pem").write_text("nothing")
    options = ("--settings", "settings.toml")

    def ran(*arguments: str) -> tuple[int, str]:
        done = mesbridge("user", *arguments, *options, folder=tmp_path)
        return done.returncode, done.stdout + done.stderr

    assert ran("add", "carla", "--certificate", "carla.pem", "--role", "operator")[0] == 0
    assert Users(tmp_path / "state" / "users.json").holder(carla.der) == "carla"
    thumbprint = carla.certificate.fingerprint(hashes.SHA1()).hex()[:16]
    end = f"{carla.certificate.not_valid_after_utc:%Y-%m-%d}"
    assert ran("list") == (0, f"operator  carla  certificate {thumbprint} until {end}\n")
    for arguments, advice in (
        (
            ("other", "--certificate", "carla.pem"),
            "user 'carla' has this certificate: remove that user, or make",
        ),
        (
            ("other", "--certificate", "missing.pem"),
            "missing.pem: cannot be read: No such file or directory; give",
        ),
        (
            ("other", "--certificate", "nothing.pem"),
            "nothing.pem: holds no X.509 certificate; give one in DER or PEM",
        ),
    ):
        code, said = ran("add", *arguments)
        assert (code, advice in said) == (1, True), said


def test_trust_is_listed_and_what_is_not_there_cannot_be_accepted_or_removed(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[bridge]\nstate_folder = "state"\n[opcua]\ntrust = "any"\n')
    options = ("--settings", "settings.toml")
    listed = mesbridge("trust", "list", *options, folder=tmp_path)
    assert listed.returncode == 0
    assert "Any client is accepted" in listed.stdout
    assert "No client is trusted yet" in listed.stdout
    for action in ("accept", "remove"):
        ran = mesbridge("trust", action, "0123456789", *options, folder=tmp_path)
        assert (ran.returncode, "there are none" in ran.stderr) == (1, True)


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[bridge]\nstate_folder = "state"\n')
    ran = mesbridge("user", "add", "x", "--settings", "settings.toml", given="short\n", folder=tmp_path)
    assert (ran.returncode, "at least 8" in ran.stderr) == (1, True)
    assert not (tmp_path / "state" / "users.json").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "-inf", "soon", "1e999"])
def test_pairing_is_not_opened_for_what_is_no_time(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["pair", "open", f"--minutes={minutes}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{minutes!r} is no time: a number of minutes above 0 is expected" in said
