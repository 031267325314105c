"""What the running bridge adds to pairing: where a machine is shown, and whose key an acceptance replaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bridge import adoption as adoption_module
from bridge import identity, wire
from bridge.adoption import Adoption
from bridge.aggregator import Secret, load
from bridge.control import Refused
from bridge.settings import IdentificationSettings, MesSettings, Settings
from bridge.site import Served
from bridge.sources.pairing import Accepted, AdoptionError, Request

KEY = "k" * 43
SERVED = Served(
    "octoprint-1",
    0,
    None,
    "http://octopi.local/",
    Secret(KEY),
    wire.PushKey.derive(KEY),
    (2, 3),
    IdentificationSettings(),
)


class OneMachine(list[Served]):
    """A site with `SERVED`, which is the OctoPrint "u-1"."""

    def printer_uuid(self, machine: str) -> str | None:
        return "u-1"


def adoption(*mes: int) -> Adoption:
    known = tuple(MesSettings(one, "http://mes.example", "s", token_env="T") for one in mes)
    return Adoption(Path("config.json"), Settings(mes=known), Path("state"), cast(Any, OneMachine([SERVED])))


def request(url: str, uuid: str = "u-1") -> Request:
    now = wire.utc_now()
    return Request("0a1b2c3d", "123-456", "X", url, uuid, "10.0.0.7", "1", "1", "waiting", now, now, "")


def test_an_octoprint_that_is_served_under_another_address_is_not_taken_in_a_second_time_unasked() -> None:
    with pytest.raises(Refused, match=r"octoprint-1, at .*--url http://octopi.local/.*--url http://10.0.0.7"):
        adoption(1).check_elsewhere(request("http://10.0.0.7"))


@pytest.mark.parametrize(
    ("url", "uuid"), [("http://OctoPi.local", "u-1"), ("http://10.0.0.7", "u-2"), ("", "u-1")]
)
def test_any_other_octoprint_and_the_same_one_at_its_address_are_taken_in(url: str, uuid: str) -> None:
    adoption(1).check_elsewhere(request(url, uuid))


def test_a_machine_that_is_served_stays_in_its_mes() -> None:
    assert adoption(1).mes_ids("http://OctoPi.local") == (2, 3)
    for url in ("http://OctoPi.local", "http://octopi.local:80"):
        assert adoption(1).known(url) is SERVED
    assert adoption(1).known("http://octopi.local:x") is None


def test_a_new_machine_is_shown_in_the_only_mes_of_the_settings() -> None:
    assert adoption(4).mes_ids("http://other.local") == (4,)
    assert adoption(4).known("http://other.local") is None


@pytest.mark.parametrize(("mes", "there"), [((), "name none"), ((1, 2), "know 1, 2")])
def test_among_none_or_several_the_mes_is_to_be_named(mes: tuple[int, ...], there: str) -> None:
    with pytest.raises(Refused, match=f"{there}.*--mes N"):
        adoption(*mes).mes_ids("http://other.local")


class Folder:
    """A config.json with one machine, a state folder, and an adoption for both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        self.state.mkdir()
        self.config = path / "config.json"
        self.config.write_text(
            '[{"type": "OCTOPRINT", "url": "http://a", "authentication_file_path": "secret.txt", "mes_id": [1]}]'
        )
        (path / "secret.txt").write_text("s" * 43)
        self.served: list[Served] = []
        self.fault: Exception | None = None
        self.adoption = Adoption(self.config, Settings(), self.state, cast(Any, self))

    def __iter__(self) -> Iterator[Served]:
        return iter(self.served)

    def serve(self, one: Served) -> None:
        if self.fault is not None:
            raise self.fault
        self.served.append(one)

    async def adopt(self, url: str = "http://octopi.local", key: str = KEY) -> str:
        return await self.adoption.adopt(Accepted("0a1b2c3d", "u-1", "Prusa", url, (1,), Secret(key)))

    def content(self) -> dict[str, bytes]:
        return {
            str(one.relative_to(self.path)): one.read_bytes()
            for one in self.path.rglob("*")
            if one.is_file() and one.parent != self.state
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_an_adopted_machine_is_written_down_served_and_known_as_paired(folder: Folder) -> None:
    assert (await folder.adopt()).startswith("this machine is served as octoprint-")
    [one] = folder.served
    assert (one.url, one.key, one.paired) == ("http://octopi.local", Secret(KEY), True)


@pytest.mark.parametrize("url", ["http://octopi.local", "http://a"])
@pytest.mark.parametrize("file", ["machines.json", "paired.json"])
async def test_without_its_memory_the_bridge_leaves_everything_as_it_was(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, file: str, url: str
) -> None:
    """The plugin hears that it failed, and withdraws the key: it must not stay in the files."""
    before, write = folder.content(), identity.write_private

    def full(path: Path, content: bytes) -> None:
        if path.name == file:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(identity, "write_private", full)
    with pytest.raises(AdoptionError, match=f"not written down: .*{file}.* then pair again"):
        await folder.adopt(url)
    assert folder.content() == before
    assert folder.served == []


async def test_a_machine_with_the_key_of_another_one_is_not_written_down(folder: Folder) -> None:
    before = folder.content()
    with pytest.raises(AdoptionError, match="this key is already used by the entry on line 1"):
        await folder.adopt(key="s" * 43)
    assert folder.content() == before


async def test_a_change_by_somebody_else_at_the_same_moment_is_said(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(path: Path) -> Any:
        path.write_text("[]")
        return load(path)

    monkeypatch.setattr(adoption_module, "load", changed)
    with pytest.raises(AdoptionError, match="was changed by somebody else at this moment; pair again"):
        await folder.adopt()
    assert folder.config.read_text() == "[]"
    assert folder.served == []


async def test_an_unforeseen_fault_before_it_is_served_leaves_everything_as_it_was(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object) -> list[Served]:
        raise RecursionError

    before = folder.content()
    monkeypatch.setattr(adoption_module, "assign", odd)
    with pytest.raises(RecursionError):
        await folder.adopt()
    assert folder.content() == before


async def test_a_machine_that_is_written_but_cannot_be_shown_yet_is_paired_all_the_same(
    folder: Folder,
) -> None:
    folder.fault = RuntimeError("the address space is full")
    with capture_logs() as logged:
        assert "when it is restarted" in await folder.adopt()
    assert "restart the bridge" in logged[-1]["event"]
    assert logged[-1]["exc_info"]
    assert load(folder.config).machines[1].credential.key == Secret(KEY)
