"""The bridge's key and the user it stands for."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.access import ALLOWED, PERMISSIONS, Access, KeyStore, NotSetUp


class User:
    def __init__(self, name: str, **rights: Any) -> None:
        self.name = name
        self.rights = rights
        self.is_active = rights.get("active", True)

    def get_id(self) -> str:
        return self.name


class Users:
    """The part of OctoPrint's user manager that is used, with the order of the calls that matter."""

    def __init__(self) -> None:
        self.users = {"admin": User("admin")}
        self.sessions = [User("admin")]
        self.calls: list[str] = []
        self.customized = True

    def has_been_customized(self) -> bool:
        return self.customized

    def add_user(self, name: str, password: str, active: bool, permissions: Any, groups: Any) -> None:
        self.users[name] = User(
            name, password=password, active=active, permissions=permissions, groups=groups
        )
        self.sessions.append(self.users[name])

    def find_user(self, userid: str) -> Any:
        return self.users.get(userid)

    def get_all_users(self) -> list[User]:
        return list(self.users.values())

    def find_sessions_for(self, matcher: Any) -> list[User]:
        return [user for user in self.sessions if matcher(user)]

    def logout_user(self, user: User) -> None:
        self.calls.append(f"logout {user.name}")
        self.sessions.remove(user)

    def remove_user(self, name: str) -> None:
        self.calls.append(f"remove {name}")
        del self.users[name]


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.json"


def make(path: Path, users: Users) -> Access:
    access = Access(KeyStore(path), users, logging.getLogger("test"))
    access.guard_attached()
    return access


@pytest.fixture
def access(path: Path, users: Users) -> Access:
    return make(path, users)


def test_a_key_stands_for_an_active_user_who_may_read_the_status_and_nothing_else(
    access: Access, users: Users
) -> None:
    user = access.validate(access.generate())
    assert user.rights["permissions"] == list(PERMISSIONS) == ["STATUS"]
    assert user.rights["groups"] == []
    assert user.rights["active"] is True
    assert len(user.rights["password"]) >= 32
    assert ":" not in user.name


def test_no_key_is_accepted_before_the_guard_is_in_place(path: Path, users: Users) -> None:
    access = Access(KeyStore(path), users, logging.getLogger("test"))
    api_key = access.generate()
    assert access.validate(api_key) is None
    access.guard_attached()
    assert access.validate(api_key) is not None


@pytest.mark.parametrize("wrong", ["", "x" * 43, None, 5, "\udc80", b"key"])
def test_anything_else_is_no_key_and_raises_nothing(access: Access, wrong: Any) -> None:
    access.generate()
    assert access.validate(wrong) is None


def test_the_validator_never_raises_and_never_logs_the_key(
    access: Access, users: Users, caplog: pytest.LogCaptureFixture
) -> None:
    api_key = access.generate()

    def broken(userid: str) -> None:
        raise RuntimeError(f"no user for {api_key}")

    users.find_user = broken  # type: ignore[method-assign,assignment]
    with caplog.at_level(logging.DEBUG):
        assert access.validate(api_key) is None
    assert "RuntimeError" in caplog.text
    assert api_key not in caplog.text


def test_the_file_is_private_and_does_not_hold_the_key(access: Access, path: Path) -> None:
    api_key = access.generate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert api_key not in text
    assert api_key[:4] == json.loads(text)["prefix"]
    assert access.record is not None
    assert access.record.push_key == wire.PushKey.derive(api_key)
    assert access.record.secret not in repr(access.record)


def test_a_user_whom_an_administrator_deactivated_makes_the_key_dead(access: Access, users: Users) -> None:
    api_key = access.generate()
    access.validate(api_key).is_active = False
    assert access.validate(api_key) is None


def test_a_key_survives_a_restart(path: Path, users: Users) -> None:
    api_key = make(path, users).generate()
    assert make(path, users).validate(api_key) is not None


def test_a_new_key_ends_the_old_one_with_its_user_and_sessions(access: Access, users: Users) -> None:
    old = access.generate()
    old_user = access.record.user if access.record else ""
    new = access.generate()
    assert access.validate(old) is None
    assert access.validate(new) is not None
    assert old_user not in users.users
    assert users.calls == [f"logout {old_user}", f"remove {old_user}"]


def test_revoking_ends_the_sessions_before_it_removes_the_user(
    access: Access, users: Users, path: Path
) -> None:
    api_key = access.generate()
    name = access.record.user if access.record else ""
    assert access.revoke()
    assert users.calls == [f"logout {name}", f"remove {name}"]
    assert [user.name for user in users.sessions] == ["admin"]
    assert list(users.users) == ["admin"]
    assert access.validate(api_key) is None
    assert not path.exists()
    assert not access.revoke()


def test_a_key_whose_file_cannot_be_deleted_is_dead_all_the_same(
    access: Access, users: Users, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_key = access.generate()

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(KeyStore, "delete", read_only)
    with pytest.raises(OSError, match="Read-only"):
        access.revoke()
    assert list(users.users) == ["admin"]
    assert access.validate(api_key) is None
    assert make(path, users).validate(api_key) is None


def test_a_user_whose_key_file_was_lost_is_removed_too(path: Path, users: Users) -> None:
    make(path, users).generate()
    path.unlink()
    assert make(path, users).revoke()
    assert list(users.users) == ["admin"]


def test_no_user_is_made_on_an_octoprint_that_is_not_set_up(access: Access, users: Users) -> None:
    users.customized = False
    with pytest.raises(NotSetUp, match="setup wizard"):
        access.generate()
    assert list(users.users) == ["admin"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"user": "x"}', "\x00"])
def test_a_damaged_file_means_no_key_and_is_said(
    path: Path, users: Users, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content)
    access = make(path, users)
    assert access.record is None
    assert "generate a new key" in caplog.text


def test_a_key_that_cannot_be_stored_leaves_no_user_behind(
    access: Access, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    with pytest.raises(OSError, match="No space"):
        access.generate()
    assert list(users.users) == ["admin"]
    assert access.record is None


def test_a_full_disk_does_not_make_the_key_invalid(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    api_key = access.generate()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    assert access.validate(api_key) is not None


def test_the_last_use_is_noted(access: Access, path: Path) -> None:
    api_key = access.generate()
    access.validate(api_key)
    assert access.record is not None
    assert access.record.last_used is not None
    assert json.loads(path.read_text())["last_used"] == access.record.last_used


def test_the_guard_lets_a_service_user_do_what_is_listed_and_nobody_else_is_asked(access: Access) -> None:
    access.generate()
    name = access.record.user if access.record else ""
    for method, endpoint in ALLOWED:
        assert not access.denies(name, method, endpoint)
    assert access.denies(name, "POST", "api.printerState")
    assert access.denies(name, "GET", "api.getSettings")
    assert access.denies(name, "GET", None)
    assert not access.denies("admin", "GET", "api.getSettings")
    assert not access.denies(None, "GET", "api.getSettings")


def test_the_guard_knows_a_service_user_even_without_a_key(access: Access) -> None:
    access.generate()
    name = access.record.user if access.record else ""
    access.revoke()
    assert access.denies(name, "GET", "api.getSettings")
