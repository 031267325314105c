"""The bridge's key and the user it stands for."""

from __future__ import annotations

import json
import logging
import stat
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import wire
from octoprint_mesbridge.access import OFFER, OVERLAP, Access, Leaving, NoKey, NotSetUp
from octoprint_mesbridge.keys import USER_PREFIX, KeyStore
from octoprint_mesbridge.rights import JOB_CONTROL, READING, STATUS, Request, allows


class User:
    def __init__(self, name: str, **rights: Any) -> None:
        self.name = name
        self.rights = rights
        self.is_active = rights.get("active", True)
        self.permissions = [SimpleNamespace(key=key) for key in rights.get("permissions", [])]

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


class Clock:
    """The time that somebody may set, and the one that nobody can; both stand still unless moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
        self.run = 1000.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.run

    def passes(self, **span: float) -> None:
        self.time += timedelta(**span)
        self.run += timedelta(**span).total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Judged(Access):
    """`Access` with what the hook for keys does in one step."""

    def validate(self, api_key: Any, address: str | None = "192.0.2.7") -> Any:
        record = self.find(api_key)
        return None if record is None else self.use(record, address)


def make(path: Path, users: Users, clock: Clock | None = None, **rest: Any) -> Judged:
    clock = clock or Clock()
    access = Judged(
        KeyStore(path), users, logging.getLogger("test"), now=clock.now, monotonic=clock.monotonic, **rest
    )
    access.guard_attached()
    return access


@pytest.fixture
def access(path: Path, users: Users, clock: Clock) -> Iterator[Judged]:
    access = make(path, users, clock)
    yield access
    access.close()


def test_a_key_stands_for_an_active_user_who_may_read_the_status_and_nothing_else(
    access: Judged, users: Users
) -> None:
    user = access.validate(access.generate())
    assert user.rights["permissions"] == list(STATUS) == ["STATUS"]
    assert user.rights["groups"] == []
    assert user.rights["active"] is True
    assert len(user.rights["password"]) >= 32
    assert ":" not in user.name


def test_no_key_is_accepted_before_the_guard_is_in_place(path: Path, users: Users) -> None:
    access = Access(KeyStore(path), users, logging.getLogger("test"))
    api_key = access.generate()
    assert access.find(api_key) is None
    access.guard_attached()
    assert access.find(api_key) is not None


@pytest.mark.parametrize("wrong", ["", "x" * 43, None, 5, "\udc80", b"key"])
def test_anything_else_is_no_key_and_raises_nothing(access: Judged, wrong: Any) -> None:
    access.generate()
    assert access.validate(wrong) is None


def test_the_file_is_private_and_does_not_hold_the_key(access: Judged, path: Path) -> None:
    api_key = access.generate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert api_key not in text
    assert api_key[:4] == json.loads(text)["prefix"]
    assert access.record is not None
    assert access.record.push_key == wire.PushKey.derive(api_key)
    assert access.record.secret not in repr(access.record)


def test_a_user_whom_an_administrator_deactivated_makes_the_key_dead(access: Judged, users: Users) -> None:
    api_key = access.generate()
    access.validate(api_key).is_active = False
    assert access.validate(api_key) is None


def test_a_key_survives_a_restart(path: Path, users: Users) -> None:
    api_key = make(path, users).generate()
    assert make(path, users).validate(api_key) is not None


def test_a_new_key_ends_the_old_one_with_its_user_and_sessions(access: Judged, users: Users) -> None:
    old = access.generate()
    old_user = access.record.user if access.record else ""
    new = access.generate()
    assert access.validate(old) is None
    assert access.validate(new) is not None
    assert old_user not in users.users
    assert users.calls == [f"logout {old_user}", f"remove {old_user}"]


def test_revoking_ends_the_sessions_before_it_removes_the_user(
    access: Judged, users: Users, path: Path
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
    access: Judged, users: Users, path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_no_user_is_made_on_an_octoprint_that_is_not_set_up(access: Judged, users: Users) -> None:
    users.customized = False
    with pytest.raises(NotSetUp, match="setup wizard"):
        access.generate()
    assert list(users.users) == ["admin"]


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"user": "x"}', "\x00", "\xff", '{"previous": {}}', "[" * 100_000],
)
def test_a_damaged_file_means_no_key_and_is_said_with_what_to_do(
    path: Path, users: Users, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content, encoding="latin-1")
    access = make(path, users)
    assert access.record is None
    assert access.push_keys() == ()
    assert access.status() is None
    told = str(access.trouble())
    assert str(path) in told
    assert "Generate a new key" in told
    assert told in caplog.text
    assert access.validate(access.generate()) is not None
    assert access.trouble() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", "admin"),
        ("user", None),
        ("sha256", "é" * 64),
        ("secret", "no hex"),
        ("created", "yesterday"),
        ("job_control", "yes"),
        ("last_used", 5),
        ("more", "x"),
    ],
)
def test_a_file_that_somebody_changed_is_not_believed(
    access: Judged, path: Path, users: Users, name: str, value: Any
) -> None:
    api_key = access.generate()
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    changed = make(path, users)
    assert changed.validate(api_key) is None
    assert "damaged" in str(changed.trouble())


def test_a_file_of_version_0_1_0_keeps_its_key(access: Judged, path: Path, users: Users) -> None:
    api_key = access.generate()
    old = json.loads(path.read_text())
    fields = ("user", "sha256", "prefix", "created", "key_id", "secret", "last_used")
    path.write_text(json.dumps({name: old[name] for name in fields}))
    upgraded = make(path, users)
    assert upgraded.validate(api_key) is not None
    assert upgraded.trouble() is None
    status = upgraded.status()
    assert status is not None
    assert status["job_control"] is False
    assert status["previous"] is None


def test_a_key_that_cannot_be_stored_leaves_no_user_behind(
    access: Judged, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    with pytest.raises(OSError, match="No space"):
        access.generate()
    assert list(users.users) == ["admin"]
    assert access.record is None


def test_a_full_disk_does_not_make_the_key_invalid(access: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    api_key = access.generate()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    assert access.validate(api_key) is not None


def test_the_last_use_is_shown_exactly_and_written_every_15_minutes_at_most(
    access: Judged, path: Path, clock: Clock
) -> None:
    api_key = access.generate()
    access.validate(api_key, "192.0.2.1")
    first = json.loads(path.read_text())
    clock.passes(minutes=14)
    access.validate(api_key, "192.0.2.2")
    status = access.status()
    assert status is not None
    assert (status["last_used"], status["last_address"]) == ("2026-11-23T12:14:00.000000Z", "192.0.2.2")
    assert json.loads(path.read_text()) == first
    assert (first["last_used"], first["last_address"]) == ("2026-11-23T12:00:00.000000Z", "192.0.2.1")
    clock.passes(minutes=1)
    access.validate(api_key, "192.0.2.3")
    assert json.loads(path.read_text())["last_address"] == "192.0.2.3"


def test_the_last_use_is_written_when_octoprint_ends(access: Judged, path: Path, clock: Clock) -> None:
    api_key = access.generate()
    access.validate(api_key)
    clock.passes(minutes=5)
    access.validate(api_key, "x" * 1000)
    access.close()
    kept = json.loads(path.read_text())
    assert kept["last_used"] == "2026-11-23T12:05:00.000000Z"
    assert kept["last_address"] == "x" * 64


def test_a_key_without_use_is_not_written_again_at_the_end(
    access: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.generate()
    monkeypatch.setattr(KeyStore, "save", lambda *_: pytest.fail("nothing has changed"))
    access.close()


# ~~ rotation


def test_after_a_rotation_both_keys_are_valid_and_pushes_may_be_signed_with_either(
    access: Judged, clock: Clock
) -> None:
    old = access.generate()
    new = access.rotate(timedelta(hours=2))
    assert access.validate(old).name != access.validate(new).name
    assert access.push_keys() == (
        (wire.PushKey.derive(new), None),
        (wire.PushKey.derive(old), clock.time + timedelta(hours=2)),
    )
    status = access.status()
    assert status is not None
    assert status["prefix"] == new[:4]
    assert status["previous"] == {
        "prefix": old[:4],
        "last_used": "2026-11-23T12:00:00.000000Z",
        "last_address": "192.0.2.7",
        "valid_until": "2026-11-23T14:00:00.000000Z",
    }


def test_a_rotation_without_overlap_ends_the_old_key_at_once(access: Judged, users: Users) -> None:
    old = access.generate()
    new = access.rotate(timedelta(0))
    assert access.validate(old) is None
    assert [name for name in users.users if name != "admin"] == [access.validate(new).name]


def test_a_second_rotation_ends_the_oldest_key(access: Judged, users: Users) -> None:
    first = access.generate()
    second = access.rotate(timedelta(hours=1))
    third = access.rotate(timedelta(hours=1))
    assert access.validate(first) is None
    assert access.validate(second) is not None
    assert access.validate(third) is not None
    assert len(users.users) == 3


def test_there_must_be_a_key_to_rotate(access: Judged, users: Users) -> None:
    with pytest.raises(NoKey, match="generate one"):
        access.rotate(timedelta(hours=1))
    assert list(users.users) == ["admin"]


def test_a_rotation_keeps_the_rights_unless_told_otherwise(access: Judged) -> None:
    access.generate(job_control=True)
    assert access.validate(access.rotate(timedelta(hours=1))).rights["permissions"] == list(JOB_CONTROL)
    less = access.validate(access.rotate(timedelta(hours=1), job_control=False))
    assert less.rights["permissions"] == ["STATUS"]


def test_a_rotation_that_cannot_be_kept_leaves_the_old_key_in_use(
    access: Judged, users: Users, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = access.generate()
    before = (path.read_text(), sorted(users.users))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    with pytest.raises(OSError, match="No space"):
        access.rotate(timedelta(hours=1))
    assert (path.read_text(), sorted(users.users)) == before
    assert access.validate(old) is not None
    assert len(access.push_keys()) == 1


def test_an_overlap_can_be_ended_before_its_time(access: Judged, users: Users, path: Path) -> None:
    old = access.generate()
    old_user = access.validate(old).name
    new = access.rotate(timedelta(hours=1))
    users.calls.clear()
    assert access.end_overlap()
    assert users.calls == [f"logout {old_user}", f"remove {old_user}"]
    assert access.validate(old) is None
    assert access.validate(new) is not None
    assert len(access.push_keys()) == 1
    assert "previous" not in json.loads(path.read_text())
    assert make(path, users).validate(old) is None
    assert not access.end_overlap()


def test_an_overlap_whose_end_cannot_be_kept_is_over_all_the_same(
    access: Judged, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = access.generate()
    new = access.rotate(timedelta(hours=1))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    with pytest.raises(OSError, match="No space"):
        access.end_overlap()
    assert access.validate(old) is None
    assert access.validate(new) is not None
    assert len(users.users) == 2


def test_while_keys_are_exchanged_the_old_one_is_never_refused_and_the_new_user_may_do_nothing(
    access: Judged, users: Users, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = access.generate()
    looked: list[bool] = []

    def look() -> float:
        monkeypatch.setattr(access._lifetimes, "_monotonic", clock.monotonic)
        looked.append(access.find(old) is not None)
        monkeypatch.setattr(access._lifetimes, "_monotonic", look)
        return clock.run

    def add(name: str, password: str, **rights: Any) -> None:
        Users.add_user(users, name, password, **rights)
        looked.append(access.denies(name, Request("GET", "api.jobState")))

    monkeypatch.setattr(access._lifetimes, "_monotonic", look)
    monkeypatch.setattr(users, "add_user", add)
    new = access.rotate(timedelta(hours=1))
    assert len(looked) > 2
    assert all(looked)
    assert not access.denies(access.validate(new).name, Request("GET", "api.jobState"))


def test_revoking_ends_both_keys(access: Judged, users: Users, path: Path) -> None:
    old = access.generate()
    new = access.rotate(timedelta(hours=1))
    assert access.revoke()
    assert access.validate(old) is None
    assert access.validate(new) is None
    assert list(users.users) == ["admin"]
    assert [user.name for user in users.sessions] == ["admin"]
    assert not path.exists()


def test_the_old_key_is_dead_when_its_time_is_over_even_before_anybody_cleared_it_away(
    access: Judged, clock: Clock
) -> None:
    old = access.generate()
    old_user = access.validate(old).name
    new = access.rotate(timedelta(hours=1))
    clock.passes(minutes=59)
    assert access.validate(old) is not None
    assert not access.denies(old_user, Request("GET", "api.jobState"))
    clock.passes(minutes=1)
    assert access.validate(old) is None
    assert access.denies(old_user, Request("GET", "api.jobState"))
    assert access.validate(new) is not None
    assert len(access.push_keys()) == 1
    status = access.status()
    assert status is not None
    assert status["previous"] is None


def test_the_old_keys_user_and_sessions_end_with_it_without_any_request(path: Path, users: Users) -> None:
    changed = threading.Event()
    access = Judged(KeyStore(path), users, logging.getLogger("test"), on_change=changed.set)
    access.guard_attached()
    access.generate()
    old_user = access.record.user if access.record else ""
    access.rotate(timedelta(seconds=0.2))
    assert old_user in users.users
    assert changed.wait(30.0)
    assert old_user not in users.users
    assert users.calls == [f"logout {old_user}", f"remove {old_user}"]
    assert "previous" not in json.loads(path.read_text())
    access.close()


def test_nothing_watches_the_clock_without_an_old_key_or_after_the_end(access: Judged) -> None:
    def watchers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "mesbridge.keys"]

    access.generate()
    assert watchers() == []
    access.rotate(timedelta(hours=1))
    assert watchers() == ["mesbridge.keys"]
    access.close()
    deadline = time.monotonic() + 30
    while watchers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watchers() == []


def test_a_clock_that_is_set_back_does_not_make_the_old_key_live_longer(access: Judged, clock: Clock) -> None:
    old = access.generate()
    access.rotate(timedelta(hours=1))
    clock.passes(minutes=30)
    clock.time -= timedelta(days=1)
    assert access.validate(old) is not None
    clock.passes(minutes=30)
    assert access.validate(old) is None


def test_a_clock_that_is_set_forward_ends_the_old_key(access: Judged, clock: Clock) -> None:
    old = access.generate()
    access.rotate(timedelta(hours=1))
    clock.time += timedelta(hours=1)
    assert access.validate(old) is None


def test_an_old_key_lives_on_over_a_restart_and_no_longer_than_it_may(
    access: Judged, path: Path, users: Users, clock: Clock
) -> None:
    old = access.generate()
    new = access.rotate(timedelta(hours=2))
    clock.passes(hours=1)
    access.close()

    clock.run = 5.0  # a new start, an hour later
    later = make(path, users, clock)
    later.start()
    assert later.validate(old) is not None
    clock.passes(hours=1)
    assert later.validate(old) is None
    assert later.validate(new) is not None
    later.close()


def test_a_start_with_a_clock_that_is_behind_gives_the_old_key_no_more_than_its_overlap(
    access: Judged, path: Path, users: Users, clock: Clock
) -> None:
    old = access.generate()
    access.rotate(timedelta(hours=2))
    access.close()

    clock.time -= timedelta(days=300)  # a machine without a clock of its own, and no network yet
    later = make(path, users, clock)
    assert later.validate(old) is not None
    clock.passes(hours=2)
    assert later.validate(old) is None


def test_what_ended_while_octoprint_was_off_is_cleared_away_at_its_start(
    access: Judged, path: Path, users: Users, clock: Clock
) -> None:
    access.generate()
    new = access.rotate(timedelta(hours=1))
    access.close()
    clock.passes(hours=3)
    later = make(path, users, clock)
    assert len(users.users) == 3, "nothing is done before the start"
    later.start()
    assert sorted(users.users) == ["admin", later.validate(new).name]
    assert "previous" not in json.loads(path.read_text())


def test_a_start_removes_a_user_without_a_key_and_makes_none(path: Path, users: Users) -> None:
    users.add_user(USER_PREFIX + "0815", "x", True, ["STATUS"], [])
    make(path, users).start()
    assert list(users.users) == ["admin"]
    assert not path.exists()


def test_users_that_cannot_be_removed_keep_nothing_from_starting_and_nothing_alive(
    access: Judged, path: Path, users: Users, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = access.generate()
    new = access.rotate(timedelta(hours=1))
    access.close()
    clock.passes(hours=1)

    def read_only(name: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(users, "remove_user", read_only)
    later = make(path, users, clock)
    later.start()
    newest = later.rotate(timedelta(0))
    assert later.validate(old) is None
    assert later.validate(new) is None
    assert later.validate(newest) is not None


def test_a_start_with_an_unreadable_file_leaves_everything_as_it_is(path: Path, users: Users) -> None:
    users.add_user(USER_PREFIX + "0815", "x", True, ["STATUS"], [])
    path.write_text("{")
    make(path, users).start()
    assert USER_PREFIX + "0815" in users.users


def test_a_key_whose_user_was_removed_or_deactivated_says_so_and_what_helps(
    access: Judged, users: Users
) -> None:
    user = access.validate(access.generate())
    assert access.trouble() is None
    user.is_active = False
    assert "deactivated" in str(access.trouble())
    assert user.name in str(access.trouble())
    user.is_active = True
    del user.permissions[:]
    assert "no longer has the permissions STATUS" in str(access.trouble())
    users.remove_user(user.name)
    assert "was removed. Replace the key" in str(access.trouble())


# ~~ a key on offer to a bridge


def key_id(api_key: str) -> str:
    return wire.PushKey.derive(api_key).key_id


@pytest.fixture
def overlapping(access: Judged) -> tuple[str, str, str]:
    """A key of which the bridge did not hear yet, the one before, which it uses, and one that is offered to it."""
    old = access.generate(job_control=True)
    return old, access.rotate(timedelta(hours=24)), access.offer()


def test_an_offered_key_is_valid_beside_all_others_and_takes_nothing_from_them(
    access: Judged, overlapping: tuple[str, str, str], clock: Clock, users: Users
) -> None:
    old, current, offered = overlapping
    assert all(access.find(key) is not None for key in overlapping)
    assert access.push_keys() == (
        (wire.PushKey.derive(offered), None),
        (wire.PushKey.derive(current), None),
        (wire.PushKey.derive(old), clock.time + timedelta(hours=24)),
    )
    status = access.status()
    assert status is not None
    assert (status["prefix"], status["previous"]["prefix"]) == (current[:4], old[:4])
    assert len(users.users) == 4


@pytest.mark.parametrize("seen", ["a push", "a request"])
def test_an_offered_key_that_somebody_uses_is_in_use_and_the_one_before_ends_in_a_while(
    overlapping: tuple[str, str, str], access: Judged, clock: Clock, path: Path, users: Users, seen: str
) -> None:
    old, current, offered = overlapping
    changes: list[None] = []
    access._on_change = lambda: changes.append(None)
    assert not access.take_up(key_id(current))
    assert changes == []
    if seen == "a push":
        assert access.take_up(key_id(offered))
    else:
        assert access.validate(offered).rights["permissions"] == list(JOB_CONTROL)
    assert len(changes) == 1
    assert not access.take_up(key_id(offered))
    assert access.validate(old) is None
    assert access.record is not None
    assert (access.record.key_id, access.record.end) == (key_id(offered), None)
    assert make(path, users, clock).push_keys() == access.push_keys()
    clock.passes(seconds=OVERLAP.total_seconds())
    assert access.validate(current) is None
    clock.passes(days=30)
    assert access.validate(offered) is not None


def test_an_offered_key_that_is_withdrawn_leaves_everything_as_it_was(
    access: Judged, overlapping: tuple[str, str, str], users: Users, path: Path, clock: Clock
) -> None:
    old, current, offered = overlapping
    record = access.find(offered)
    assert record is not None
    user = record.user
    assert access.withdraw(key_id(offered))
    assert users.calls == [f"logout {user}", f"remove {user}"]
    assert access.find(offered) is None
    assert not access.withdraw(key_id(offered))
    again = make(path, users, clock)
    for one in (access, again):
        assert one.validate(old) is not None
        assert one.validate(current) is not None
        assert len(one.push_keys()) == 2


def test_an_offered_key_that_nobody_used_ends_after_a_day_and_survives_a_crash_until_then(
    access: Judged, overlapping: tuple[str, str, str], path: Path, users: Users, clock: Clock
) -> None:
    _, current, offered = overlapping
    clock.passes(seconds=(OFFER / 2).total_seconds())
    later = make(path, users, clock)  # nothing was closed before
    later.start()
    assert later.find(offered) is not None
    clock.passes(seconds=(OFFER / 2).total_seconds())
    assert later.find(offered) is None
    later.start()
    assert len(users.users) == 2
    assert "offered" not in json.loads(path.read_text())
    assert later.validate(current) is not None
    later.close()


def test_of_several_offers_the_one_that_is_used_counts_and_those_made_after_it_stay(
    access: Judged, overlapping: tuple[str, str, str]
) -> None:
    old, current, first = overlapping
    second, third = access.offer(), access.offer()

    def valid() -> list[bool]:
        return [access.find(key) is not None for key in (old, current, first, second, third)]

    assert valid() == [True] * 5
    assert access.withdraw(key_id(third)), "a pairing that failed"
    third = access.offer()
    assert access.take_up(key_id(second))
    assert valid() == [False, True, False, True, True]
    assert access.take_up(key_id(third))
    assert valid() == [False, False, False, True, True]


def test_so_many_keys_are_on_offer_at_most_and_a_rotation_or_a_revocation_ends_them(
    access: Judged, users: Users
) -> None:
    current = access.generate()
    offers = [access.offer() for _ in range(4)]
    assert [access.find(key) is not None for key in (current, *offers)] == [True, False, True, True, True]
    new = access.rotate(timedelta(hours=1))
    assert [access.find(key) is not None for key in (current, *offers, new)] == [True, *[False] * 4, True]
    assert len(users.users) == 3
    offered = access.offer()
    access.revoke()
    assert access.find(offered) is None
    assert list(users.users) == ["admin"]


def test_an_offered_key_is_what_is_in_use_where_there_was_none_and_revoked_when_withdrawn(
    access: Judged, users: Users, path: Path
) -> None:
    api_key = access.offer()
    assert access.validate(api_key) is not None
    assert access.push_keys() == ((wire.PushKey.derive(api_key), None),)
    assert access.withdraw(key_id(api_key))
    assert access.validate(api_key) is None
    assert list(users.users) == ["admin"]
    assert not path.exists()


def test_a_key_that_was_replaced_meanwhile_is_not_withdrawn(access: Judged) -> None:
    first = access.offer()
    second = access.rotate(timedelta(hours=1))
    assert not access.withdraw(key_id(first))
    assert access.validate(second) is not None


def test_a_key_that_was_taken_up_and_is_withdrawn_gives_its_place_back(access: Judged, clock: Clock) -> None:
    before = access.generate()
    offered = access.offer()
    assert access.take_up(key_id(offered))
    assert access.withdraw(key_id(offered))
    clock.passes(days=30)
    assert access.validate(before) is not None
    assert access.push_keys() == ((wire.PushKey.derive(before), None),)


@pytest.mark.parametrize("change", ["offer", "take up", "withdraw"])
def test_what_cannot_be_kept_of_an_offer_changes_nothing(
    access: Judged,
    users: Users,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: str,
) -> None:
    access.generate()
    offered = access.offer()
    before = (path.read_text(), access.push_keys(), sorted(users.users))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStore, "save", full)
    if change == "take up":
        assert not access.take_up(key_id(offered))
        assert not access.take_up(key_id(offered))
        assert caplog.text.count("could not be kept: ") == 1
    else:
        with pytest.raises(OSError, match="No space"):
            access.offer() if change == "offer" else access.withdraw(key_id(offered))
    assert (path.read_text(), access.push_keys(), sorted(users.users)) == before


def test_the_use_of_an_offered_key_is_noted_with_it(access: Judged, path: Path) -> None:
    access.generate()
    access.validate(access.offer())
    assert json.loads(path.read_text())["last_address"] == "192.0.2.7"


def test_a_user_whom_octoprint_does_not_know_any_more_disturbs_no_exchange_of_keys(
    access: Judged, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnknownUser(Exception):
        pass

    def gone(name: str) -> None:
        raise UnknownUser(name)

    access.generate()
    offered = access.offer()
    monkeypatch.setattr(users, "remove_user", gone)
    access.rotate(timedelta(0))
    monkeypatch.undo()
    assert access.find(offered) is None


def test_a_plugin_that_is_being_uninstalled_makes_no_key_any_more(access: Judged, users: Users) -> None:
    access.generate()
    access.retire()
    for make_key in (access.generate, access.offer):
        with pytest.raises(Leaving, match="being uninstalled"):
            make_key()
    with pytest.raises(NoKey):
        access.rotate(timedelta(0))
    assert list(users.users) == ["admin"]


def test_what_a_crash_left_of_a_writing_is_removed_at_the_start(path: Path, users: Users) -> None:
    left = path.with_name(".key.json-x7")
    left.write_text("{}")
    other = path.with_name("key.json.mine")
    other.write_text("{}")
    make(path, users).start()
    assert not left.exists()
    assert other.exists()


# ~~ what a key may ask


def test_the_guard_lets_a_service_user_do_what_is_listed_and_nobody_else_is_asked(access: Judged) -> None:
    access.generate()
    name = access.record.user if access.record else ""
    for method, endpoint in READING:
        assert not access.denies(name, Request(method, endpoint, body={"passive": True}))
    assert access.denies(name, Request("POST", "api.printerState"))
    assert access.denies(name, Request("HEAD", "api.printerState"))
    assert access.denies(name, Request("GET", "api.getSettings"))
    assert access.denies(name, Request("GET", "api.readGcodeFiles"))
    assert access.denies(name, Request("GET", None))
    assert not access.denies("admin", Request("GET", "api.getSettings"))
    assert not access.denies(None, Request("GET", "api.getSettings"))


def test_the_guard_knows_a_service_user_even_without_a_key(access: Judged) -> None:
    access.generate()
    name = access.record.user if access.record else ""
    access.revoke()
    assert access.denies(name, Request("GET", "api.jobState"))


def test_during_an_overlap_each_key_has_the_rights_that_it_was_made_with(access: Judged) -> None:
    old = access.validate(access.generate()).name
    new = access.validate(access.rotate(timedelta(hours=1), job_control=True)).name
    listing = Request("GET", "api.readGcodeFiles")
    assert access.denies(old, listing)
    assert not access.denies(new, listing)


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        (Request("GET", "api.readGcodeFiles"), True),
        (Request("POST", "api.uploadGcodeFile", {"target": "local"}, form={"print": "true"}), True),
        (Request("POST", "api.uploadGcodeFile", {"target": "local"}, form={"foldername": "x"}), False),
        (Request("POST", "api.uploadGcodeFile", {"target": "local"}, {"foldername": "x"}), False),
        (Request("POST", "api.uploadGcodeFile", {"target": "local"}, {"file.path": "/etc/passwd"}), False),
        (Request("POST", "api.uploadGcodeFile", {"target": "sdcard"}), False),
        (Request("POST", "api.gcodeFileCommand", body={"command": "select", "print": True}), True),
        (Request("POST", "api.gcodeFileCommand", body={"command": "copy"}), False),
        (Request("POST", "api.gcodeFileCommand", body={"command": ["select"]}), False),
        (Request("POST", "api.gcodeFileCommand"), False),
        (Request("DELETE", "api.deleteGcodeFile"), False),
        (Request("POST", "api.controlJob", body={"command": "cancel"}), True),
        (Request("POST", "api.controlJob", body={"command": "anything new"}), False),
        (Request("POST", "api.printerCommand", body={"command": "M112"}), False),
        (Request("POST", "api.login", body={"passive": True}), True),
        (Request("POST", "api.login", body={"passive": True, "user": "a", "pass": "b"}), False),
        (Request("POST", "api.login", body={"user": "a", "pass": "b"}), False),
    ],
)
def test_job_control_allows_listing_uploading_selecting_and_printing(
    request_: Request, allowed: bool
) -> None:
    assert allows(True, request_) is allowed
    if request_.endpoint != "api.login":
        assert not allows(False, request_)
