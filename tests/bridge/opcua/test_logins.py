"""Guessing passwords leads nowhere, slows nobody else down, and is seen in the log; so is a broken users file."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.opcua import Users, logins
from bridge.opcua.logins import MOST_WAITING, MOST_WAITING_AFTER_REFUSAL, Logins, TooManyTries

EVER = 3600.0  # a pause that no test outlives


class WatchedUsers(Users):
    """Users with hashes that cost nothing; notes the passwords checked, and how many at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.checked: list[str] = []
        self.most = self.now = 0
        self.go = threading.Event()
        self.go.set()

    def verify(self, name: str, password: str) -> bool:
        self.now += 1
        self.most = max(self.most, self.now)
        self.checked.append(password)
        self.go.wait(10)
        right = super().verify(name, password)
        self.now -= 1
        return right


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchedUsers:
    monkeypatch.setattr("bridge.opcua.users._COST", 2)
    users = WatchedUsers(tmp_path / "users.json")
    users.add("ann", "right")
    users.add("bob", "his")
    return users


@pytest.fixture
def guard(users: WatchedUsers) -> Iterator[Logins]:
    guard = Logins(users, anonymous=False)
    yield guard
    guard.close()


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    return lambda seconds: monkeypatch.setattr(logins, "PAUSE", seconds)


async def test_refusals_are_logged_once_an_address_until_somebody_gets_in(guard: Logins, pause) -> None:
    pause(0.0)
    with capture_logs() as logs:
        for password in ("wrong-1", "wrong-2"):
            assert not await guard.admit("10.0.0.1", "ann", password)
        assert not await guard.admit("10.0.0.2", "e\x1b[2J\n" + "x" * 1000, "wrong-3")
        assert await guard.admit("10.0.0.1", "ann", "right")
        assert not await guard.admit("10.0.0.1", "ann", "wrong-4")
    assert [(entry["log_level"], entry["user"], entry["address"]) for entry in logs] == [
        ("warning", "ann", "10.0.0.1"),
        ("warning", "e?[2J?" + "x" * 58, "10.0.0.2"),
        ("info", "ann", "10.0.0.1"),
        ("warning", "ann", "10.0.0.1"),
    ]
    assert logs[2]["refused"] == 2
    assert "wrong" not in str([entry | {"event": ""} for entry in logs])


async def test_who_guessed_wrong_waits_and_nobody_else(guard: Logins, users: WatchedUsers, pause) -> None:
    assert await guard.admit("10.0.0.1", "bob", "his")
    pause(EVER)
    assert not await guard.admit("10.0.0.1", "ann", "wrong")
    guessing = [asyncio.create_task(guard.admit("10.0.0.1", "ann", f"guess-{n}")) for n in range(20)]
    await asyncio.sleep(0)
    assert await guard.admit("10.0.0.2", "ann", "right")
    assert await guard.admit("10.0.0.1", "bob", "his")  # known before, even from there
    assert users.checked == ["his", "wrong", "right"]
    for task in guessing:
        task.cancel()
    await asyncio.gather(*guessing, return_exceptions=True)


async def test_behind_guesses_of_the_same_address_nobody_waits_long(
    guard: Logins, users: WatchedUsers, pause
) -> None:
    assert await guard.admit("10.0.0.1", "bob", "his")
    pause(EVER)
    assert not await guard.admit("10.0.0.1", "ann", "wrong")
    guessing = [asyncio.create_task(guard.admit("10.0.0.1", "ann", f"guess-{n}")) for n in range(20)]
    while sum(task.done() for task in guessing) < 20 - MOST_WAITING_AFTER_REFUSAL:
        await asyncio.sleep(0)
    with pytest.raises(TooManyTries):
        await guard.admit("10.0.0.1", "ann", "right")
    assert await guard.admit("10.0.0.1", "bob", "his")  # known before
    assert users.checked == ["his", "wrong"]
    assert (
        guard._tries["10.0.0.1"].waiting == MOST_WAITING_AFTER_REFUSAL
    )  # that bob came in lets no more of them wait
    for task in guessing:
        task.cancel()
    await asyncio.gather(*guessing, return_exceptions=True)
    assert guard._tries["10.0.0.1"].waiting == 0


async def test_who_waited_long_enough_for_those_who_guess_is_told_to_come_again(
    guard: Logins, users: WatchedUsers, pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause(0.2)
    monkeypatch.setattr(logins, "LONGEST_WAIT", 0.5)
    guesses = [
        guard.admit("10.0.0.1", "ann", f"guess-{n}") for n in range(MOST_WAITING)
    ]  # nothing is known yet
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(answer is False for answer in answers) == len(users.checked) in (2, 3, 4)
    assert all(answer is False or isinstance(answer, TooManyTries) for answer in answers)
    users.checked.clear()
    assert await guard.admit("10.0.0.1", "ann", "right")


async def test_a_whole_plant_behind_one_address_that_is_right_comes_in(guard: Logins, pause) -> None:
    pause(EVER)
    who = [("ann", "right")] * MOST_WAITING
    assert all(await asyncio.gather(*(guard.admit("10.0.0.1", *one) for one in who)))


async def test_addresses_of_which_somebody_waits_are_not_forgotten_and_no_more_are_taken(
    guard: Logins, monkeypatch: pytest.MonkeyPatch, pause
) -> None:
    pause(EVER)
    monkeypatch.setattr(logins, "REMEMBERED_ADDRESSES", 3)
    for number in range(3):
        assert not await guard.admit(f"10.0.0.{number}", "ann", "wrong")
    waiting = [asyncio.create_task(guard.admit(f"10.0.0.{number}", "ann", "again")) for number in range(3)]
    while sum(tries.waiting for tries in guard._tries.values()) < 3:
        await asyncio.sleep(0)
    with pytest.raises(TooManyTries):
        await guard.admit("10.0.0.9", "ann", "right")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await guard.admit("10.0.0.9", "ann", "right")


async def test_who_hangs_up_before_the_answer_waits_too(guard: Logins, users: WatchedUsers, pause) -> None:
    pause(EVER)
    users.go.clear()
    first = asyncio.create_task(guard.admit("10.0.0.1", "ann", "wrong"))
    while not users.checked:
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    users.go.set()
    second = asyncio.create_task(guard.admit("10.0.0.1", "ann", "again"))
    await asyncio.sleep(0)
    assert await guard.admit("10.0.0.2", "ann", "right")
    assert users.checked == ["wrong", "right"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_one_hash_is_made_at_a_time_however_many_ask(guard: Logins, users: WatchedUsers) -> None:
    answers = await asyncio.gather(*(guard.admit(f"10.0.0.{n}", "ann", f"guess-{n}") for n in range(30)))
    assert not any(answers)
    assert len(users.checked) == 30
    assert users.most == 1


async def test_clients_of_one_computer_that_are_right_do_not_wait(
    guard: Logins, users: WatchedUsers, pause
) -> None:
    pause(EVER)
    who = [("ann", "right"), ("bob", "his"), ("ann", "right"), ("bob", "his")]
    assert all(await asyncio.gather(*(guard.admit("10.0.0.1", *one) for one in who)))


async def test_only_so_many_addresses_are_remembered(guard: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "REMEMBERED_ADDRESSES", 3)
    for number in range(10):
        assert not await guard.admit(f"10.0.0.{number}", "ann", "wrong")
    assert len(guard._tries) == 3


async def test_a_users_file_that_breaks_lets_nobody_in_and_is_logged_once(
    guard: Logins, users: WatchedUsers, pause
) -> None:
    pause(0.0)
    assert await guard.admit("10.0.0.1", "ann", "right")
    whole = users.path.read_text()
    with capture_logs() as logs:
        users.path.write_text(whole[:-9])
        for _ in range(3):
            assert not await guard.admit("10.0.0.1", "ann", "right")
        assert guard.get_user(None, "ann", "right") is None
        users.path.unlink()
        users.path.write_text(whole)
        assert await guard.admit("10.0.0.1", "ann", "right")
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert "users.json, line" in logs[0]["reason"]


async def test_asyncua_is_told_the_same_without_a_hash(guard: Logins, users: WatchedUsers) -> None:
    assert guard.get_user(None, "ann", "right") is None
    assert await guard.admit("10.0.0.1", "ann", "right")
    assert guard.get_user(None, "ann", "right").name == "ann"
    assert guard.get_user(None, "ann", "wrong") is None
    assert guard.get_user(None) is None
    assert users.checked == ["right"]
