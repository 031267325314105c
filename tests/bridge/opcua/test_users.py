"""The users file: hashes only, for its owner only, and refused with its line when it is broken."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.opcua import Role, Users, UsersError


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(tmp_path / "pki" / "users.json")


def test_only_the_right_password_of_a_known_user_is_accepted(users: Users) -> None:
    users.add("ann", "correct horse")
    assert users.verify("ann", "correct horse")
    assert users.verify("ann", "correct horse")  # remembered
    assert not users.verify("ann", "correct horse ")
    assert not users.verify("ann", "")
    assert not users.verify("bob", "correct horse")


def test_without_a_file_nobody_is_accepted(users: Users) -> None:
    assert users.names() == []
    assert not users.verify("ann", "x")


def test_the_file_is_private_and_holds_no_password(users: Users) -> None:
    users.add("ann", "correct horse")
    users.add("bob", "correct horse")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    text = users.path.read_text()
    assert "correct horse" not in text
    held = json.loads(text)["users"]
    assert held["ann"]["salt"] != held["bob"]["salt"]
    assert held["ann"]["hash"] != held["bob"]["hash"]
    assert [path.name for path in users.path.parent.iterdir()] == ["users.json"]


def test_a_change_made_by_another_process_counts_at_once(users: Users) -> None:
    users.add("ann", "old")
    assert users.verify("ann", "old")
    other = Users(users.path)
    other.add("ann", "new")
    other.add("bob", "his")
    assert users.verify("ann", "new")
    assert not users.verify("ann", "old")
    assert users.names() == ["ann", "bob"]
    other.remove("ann")
    assert not users.verify("ann", "new")


def test_who_has_no_role_in_an_older_file_observes(users: Users) -> None:
    users.add("ann", "x", Role.OPERATOR)
    held = json.loads(users.path.read_text())
    del held["users"]["ann"]["role"]
    users.path.write_text(json.dumps(held))
    older = Users(users.path)
    assert older.verify("ann", "x")
    assert older.role("ann") is Role.OBSERVER
    assert older.role("bob") is None


def test_a_role_is_kept_by_another_password_and_a_password_by_another_role(users: Users) -> None:
    users.add("ann", "x")
    assert users.role("ann") is Role.OBSERVER
    before = users.credential("ann")
    users.set_role("ann", Role.OPERATOR)
    assert users.credential("ann") == before
    users.add("ann", "y")
    assert users.credential("ann") != before
    assert users.role("ann") is Role.OPERATOR
    with pytest.raises(UsersError, match="no user 'bob'"):
        users.set_role("bob", Role.OPERATOR)


def test_an_unknown_user_cannot_be_removed_and_an_empty_password_not_set(users: Users) -> None:
    users.add("ann", "x")
    with pytest.raises(UsersError, match="no user 'bob'; there are ann"):
        users.remove("bob")
    with pytest.raises(UsersError, match="a password that is not empty"):
        users.add("bob", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-5], r"users.json, line \d+: "),
        (lambda text: "[]", 'line 1: an object with "users"'),
        (lambda text: text.replace('"n"', '"m"'), "line 3: user 'ann' needs exactly hash, n, p, r, salt"),
        (lambda text: text.replace("observer", "admin"), "has a role that is none of observer, operator"),
        (lambda text: text.replace('"observer"', "[]"), "has a role that is none of observer, operator"),
        (lambda text: text.replace("16384", "16383"), "line 3: user 'ann' has costs"),
        (lambda text: text.replace("16384", "-2"), "line 3: user 'ann' has an n, r or p"),
        (lambda text: text.replace("16384", str(2**40)), "line 3: user 'ann' has costs"),
        (
            lambda text: text.replace('"salt": "', '"salt": "?'),
            "line 3: user 'ann' has a salt or hash that is",
        ),
        (
            lambda text: text.replace('"hash": "', '"hash": "AAAA'),
            "line 3: user 'ann' has a salt or hash of the",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_line(users: Users, change, message: str) -> None:
    users.add("ann", "x")
    users.path.write_text(change(users.path.read_text()))
    with pytest.raises(UsersError, match=message):
        Users(users.path).verify("ann", "x")


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_name_and_password_that_can_be_written_works(tmp_path: Path, name: str, password: str) -> None:
    users = Users(tmp_path / "any.json")
    users.add(name, password)
    assert Users(users.path).verify(name, password)
