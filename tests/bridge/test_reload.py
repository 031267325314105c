"""Machines that come, change and go while the bridge runs, and whoever else writes config.json meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge import wire
from bridge.adoption import Adoption
from bridge.aggregator import Secret, load
from bridge.fleet import Fleet
from bridge.machine import Machine
from bridge.mes import Registration
from bridge.opcua import AddressUnavailable
from bridge.reload import Reloader, Unusable
from bridge.settings import IdentificationSettings, MesSettings, Settings
from bridge.site import Served, Site, assign, differences
from bridge.sources.pairing import Accepted
from bridge.sources.presence import Presence
from bridge.sources.push import PushReceiver
from bridge.sources.verification import Candidate
from bridge.umati import MachineIdentity

LONG = 43


@dataclass
class Parts:
    """All of a site's parts that a machine has to be in, as far as they remember it; none does any I/O."""

    shown: dict[str, MachineIdentity] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    own_ports: set[int] = field(default_factory=lambda: {4841})
    taken: set[int] = field(default_factory=set)
    told: dict[str, tuple[int, ...]] = field(default_factory=dict)
    asked: dict[str, Candidate] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    instances: list[tuple[MesSettings, ...]] = field(default_factory=list)
    broken: str | None = None

    def __post_init__(self) -> None:
        never: Any = None
        self.presence = Presence(never, 30.0, lambda: 0.0)
        self.receiver = PushReceiver(never, self.presence.heard)
        me: Any = self
        self.site = Site(Fleet(), me, me, self.presence, self.receiver, me, me)

    def add_machine(self, machine: str, who: MachineIdentity, now: Machine) -> None:
        assert machine not in self.shown
        if machine == self.broken:
            raise RuntimeError("the address space is full")
        self.shown[machine] = who
        self.touched.append(machine)

    def change_machine(self, machine: str, who: MachineIdentity) -> None:
        assert self.shown[machine] != who
        self.shown[machine] = who
        self.touched.append(machine)

    def remove_machine(self, machine: str) -> None:
        del self.shown[machine]
        self.touched.append(machine)

    def give_port(self, machine: str, port: int | None) -> None:
        assert machine not in self.shown
        self.ports.pop(machine, None)
        if port is not None:
            assert port in self.own_ports
            self.ports[machine] = port

    async def open_port(self, port: int) -> None:
        if port in self.taken:
            raise AddressUnavailable(f"another program uses {port}")
        self.own_ports.add(port)

    async def close_unused_ports(self) -> None: ...

    def endpoint_url_of(self, machine: str) -> str:
        return "opc.tcp://here"

    def node_id(self, machine: str) -> str:
        assert machine in self.shown
        return f"s={machine}"

    def register(self, machine: str, mes_ids: tuple[int, ...], _: Registration, __: Machine) -> None:
        self.told[machine] = mes_ids
        self.touched.append(machine)

    def withdraw(self, machine: str) -> None:
        del self.told[machine]

    def change(self, instances: tuple[MesSettings, ...], machines: Any) -> None:
        self.instances.append(instances)

    def ask(self, candidate: Candidate) -> None:
        self.asked[candidate.machine] = candidate
        self.touched.append(candidate.machine)

    def forget(self, machine: str) -> None:  # of the verification, and of what is pulled
        self.asked.pop(machine, None)

    def state(self) -> Any:
        """What all of them make of the machines."""
        believed = {(one.machine, key) for key, one in self.receiver._senders.items()}
        watched = set(self.presence._machines)
        return self.shown, self.ports, self.told, self.asked, believed, watched, list(self.site)


def served(machine: str, **changes: Any) -> Served:
    key = changes.pop("key", machine * LONG)
    one = Served(
        machine,
        0,
        None,
        f"http://{machine}",
        Secret(key),
        wire.PushKey.derive(key),
        (1,),
        IdentificationSettings(),
    )
    return replace(one, **changes)


def some_machines() -> st.SearchStrategy[list[Served]]:
    """Each machine at most once, as config.json has it at some time; no two have one key, as `assign` sees to it."""
    one = st.builds(
        lambda machine, key, **changes: served(machine, key=(machine + key) * 20, **changes),
        st.sampled_from("abc"),
        st.sampled_from("xy"),
        name=st.sampled_from([None, "Bay"]),
        url=st.sampled_from(["http://h", "http://i"]),
        mes_ids=st.sampled_from([(1,), (1, 2)]),
        port=st.sampled_from([None, 4841]),
        index=st.integers(0, 3),
        paired=st.booleans(),
    )
    return st.lists(one, max_size=3, unique_by=lambda one: one.machine)


@given(st.lists(some_machines(), max_size=4), some_machines())
def test_whatever_was_before_the_parts_stand_as_if_the_bridge_had_been_started_with_the_last(
    before: list[list[Served]], last: list[Served]
) -> None:
    changed, started = Parts(), Parts()
    for entries in before:
        changed.site.apply(entries)
    changed.site.apply(last)
    for one in last:
        started.site.serve(one)
    *state, order = changed.state()
    *wanted, _ = started.state()
    assert state == wanted
    assert sorted(order, key=lambda one: one.machine) == sorted(last, key=lambda one: one.machine)


@given(some_machines(), some_machines())
def test_only_what_is_another_is_touched_and_named(before: list[Served], now: list[Served]) -> None:
    parts = Parts()
    parts.site.apply(before)
    parts.touched.clear()
    applied = parts.site.apply(now)
    was, is_ = {one.machine: one for one in before}, {one.machine: one for one in now}
    assert set(applied.added) == is_.keys() - was.keys()
    assert set(applied.removed) == was.keys() - is_.keys()
    others = {m for m in was.keys() & is_.keys() if replace(was[m], index=is_[m].index) != is_[m]}
    assert applied.changed == {m: differences(was[m], is_[m]) for m in others}
    assert all(applied.changed.values())
    assert set(parts.touched) == {*applied.added, *applied.removed, *applied.changed}
    assert not applied.failed
    parts.touched.clear()
    assert not parts.site.apply(now)
    assert parts.touched == []


def test_a_machine_that_cannot_be_served_keeps_no_other_from_it() -> None:
    parts = Parts(broken="b")
    with capture_logs() as logs:
        applied = parts.site.apply([served("a"), served("b"), served("c")])
    assert (applied.added, applied.failed) == (["a", "c"], ["b"])
    assert [line["machine"] for line in logs] == ["b"]


def test_the_pushes_of_a_machine_that_is_gone_are_those_of_nobody() -> None:
    parts, key_id = Parts(), wire.PushKey.derive("a" * LONG).key_id
    parts.site.apply([served("a"), served("b")])
    assert parts.receiver.sender(key_id) is not None
    parts.site.apply([served("b")])
    assert parts.receiver.sender(key_id) is None


async def test_a_sign_of_life_that_was_on_its_way_when_its_machine_was_removed_is_nothing() -> None:
    parts = Parts()
    parts.site.apply([served("a")])
    parts.site.apply([])
    await parts.presence.heard("a")


def test_a_machine_whose_port_was_taken_at_the_start_gets_it_later() -> None:
    parts, one = Parts(), served("a", port=4900)
    parts.site.serve(one)
    assert (parts.ports, not parts.site.apply([one])) == ({}, True)
    parts.own_ports.add(4900)
    assert parts.site.apply([one]).changed == {"a": ["umati_server_port"]}
    assert parts.ports == {"a": 4900}


class Files:
    """A config.json that a bridge runs with, and whoever takes over what changes in it."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.json"
        self.state = folder / "state"
        self.state.mkdir()
        self.write("a")
        self.parts = Parts()
        settings, config = Settings(), load(self.config)
        me: Any = self.parts
        for one in assign(config, settings, self.state):
            self.parts.site.serve(one)
        self.adoption = Adoption(self.config, settings, self.state, self.parts.site)
        self.reloader = Reloader(
            config, None, settings, self.state, self.parts.site, me, me, self.adoption, lambda new: None
        )

    def write(self, *machines: str, **changes: Any) -> None:
        self.config.write_text(
            json.dumps(
                [
                    {
                        "type": "OCTOPRINT",
                        "url": f"http://{machine}",
                        "authentication_file_path": machine * LONG,
                        "mes_id": [1],
                    }
                    | changes
                    for machine in machines
                ]
            )
        )
        self.config.chmod(0o600)

    @property
    def urls(self) -> list[str]:
        return sorted(one.url for one in self.parts.site)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_files_that_did_not_change_lead_to_nothing_and_no_word(files: Files) -> None:
    with capture_logs() as logs:
        assert not await files.reloader.reload()
    assert logs == []


async def test_what_a_pairing_wrote_is_no_change(files: Files) -> None:
    await files.adoption.adopt(Accepted("0a1b2c3d", "u-1", "Prusa", "http://b", (1,), Secret("k" * LONG)))
    files.parts.touched.clear()
    with capture_logs() as logs:
        assert not await files.reloader.reload()
    assert files.parts.touched == []
    assert [line for line in logs if line["log_level"] != "error"] == []  # MES 1 has no section
    assert files.urls == ["http://a", "http://b"]


async def test_a_pairing_and_a_reload_at_once_leave_what_the_file_says(files: Files) -> None:
    files.write("a", "c")
    await asyncio.gather(
        files.reloader.reload(),
        files.adoption.adopt(Accepted("0a1b2c3d", "u-1", "Prusa", "http://b", (1,), Secret("k" * LONG))),
        files.reloader.reload(),
    )
    await files.reloader.reload()
    assert files.urls == ["http://a", "http://b", "http://c"]
    assert len(load(files.config).machines) == 3


async def test_while_a_pairing_writes_nobody_reads(files: Files) -> None:
    async with files.adoption.lock:
        reading = asyncio.create_task(files.reloader.reload())
        files.config.write_text("half")
        await asyncio.sleep(0.1)
        files.write("a")
    assert not await reading


async def test_a_refused_file_changes_nothing_and_is_said_once(files: Files) -> None:
    files.config.write_text(files.config.read_text()[:-1])
    for times in (1, 0):
        with capture_logs() as logs, pytest.raises(Unusable) as refused:
            await files.reloader.reload()
        assert len([line for line in logs if "not taken over" in line["event"]]) == times
        assert f"{files.config}:1:" in str(refused.value)
    assert files.urls == ["http://a"]


async def test_a_secret_file_that_is_away_for_a_moment_leaves_its_machine_the_key(files: Files) -> None:
    secret = files.config.parent / "printer-one-key"
    secret.write_text("a" * LONG)
    files.write("a", authentication_file_path=secret.name)
    await files.reloader.reload()
    for written in ("a" * LONG, "b" * LONG):
        (asked,) = files.parts.asked.values()
        secret.unlink()
        with pytest.raises(Unusable, match=r"the secret file .*printer-one-key is gone.*put the file back"):
            await files.reloader.reload()
        assert list(files.parts.asked.values()) == [asked]
        assert secret in files.reloader.files()
        secret.write_text(written)
        await files.reloader.reload()
        assert [one.key.reveal() for one in files.parts.site] == [written]


async def test_a_port_that_was_taken_is_asked_for_again_until_the_machine_has_it(files: Files) -> None:
    (machine,) = files.parts.shown
    files.parts.taken.add(4900)
    files.write("a", umati_server_port=4900, authentication_file_path="a.txt")
    (files.config.parent / "a.txt").write_text("a" * LONG)
    for _ in range(2):
        with capture_logs() as logs:
            assert not await files.reloader.reload()
        (told,) = [line for line in logs if line["event"].startswith("a port of its own cannot be given")]
        assert (told["port"], files.parts.ports) == (4900, {})
    files.parts.taken.clear()
    change = await files.reloader.reload()
    assert change.machines.changed == {machine: ["umati_server_port"]}
    assert files.parts.ports == {machine: 4900}
    assert not await files.reloader.reload()


async def test_a_url_that_changes_leaves_the_machine_the_same(files: Files) -> None:
    (before,) = files.parts.site
    files.write("a", url="http://z")
    change = await files.reloader.reload()
    (now,) = files.parts.site
    assert (now.machine, now.url) == (before.machine, "http://z")
    assert change.machines.changed == {before.machine: ["url"]}


async def test_the_files_that_a_refused_config_names_are_watched_too(files: Files, tmp_path: Path) -> None:
    files.write("a", authentication_file_path="secrets/one.txt")
    with pytest.raises(Unusable):
        await files.reloader.reload()
    assert tmp_path / "secrets" / "one.txt" in files.reloader.files()
