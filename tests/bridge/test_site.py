"""Machines that join, change and hand over their keys while the bridge runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import identity, wire
from bridge.aggregator import Secret, load
from bridge.fleet import Fleet
from bridge.log.sqlite import SqliteLog
from bridge.machine import Machine, Transition
from bridge.mes import Registration
from bridge.settings import IdentificationSettings, Settings
from bridge.site import Served, Site, assign
from bridge.sources.presence import Presence
from bridge.sources.pull import PullSource
from bridge.sources.push import PushReceiver
from bridge.sources.verification import Verification
from bridge.umati import MachineIdentity
from tests.bridge.events import DATA, PRINTER

FIRST, SECOND = "a" * 43, "b" * 43


@dataclass
class Umati:
    """What the OPC UA server was told to show."""

    shown: dict[str, tuple[MachineIdentity, Machine]] = field(default_factory=dict)
    changed: list[Transition] = field(default_factory=list)
    own_ports: frozenset[int] = frozenset()

    def add_machine(self, machine: str, who: MachineIdentity, now: Machine) -> None:
        assert machine not in self.shown
        self.shown[machine] = (who, now)

    def change_machine(self, machine: str, who: MachineIdentity) -> None:
        self.shown[machine] = (who, self.shown[machine][1])

    def give_port(self, machine: str, port: int | None) -> None:
        assert machine not in self.shown

    def endpoint_url_of(self, machine: str) -> str:
        return f"opc.tcp://here:4840/{machine}"

    def remove_machine(self, machine: str) -> None:
        del self.shown[machine]

    def node_id(self, machine: str) -> str:
        return f"nsu=x;s={machine}"

    def handle(self, transition: Transition) -> None:
        self.changed.append(transition)


@dataclass
class Mes:
    registered: list[tuple[str, tuple[int, ...], Registration, Machine]] = field(default_factory=list)

    def register(self, *what: Any) -> None:
        self.registered.append(what)


@dataclass
class Parts:
    site: Site
    fleet: Fleet
    store: SqliteLog
    umati: Umati
    mes: Mes
    receiver: PushReceiver
    presence: Presence
    verification: Verification


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    fleet, umati, mes = Fleet(), Umati(), Mes()
    store = SqliteLog(tmp_path / "log.sqlite", fleet.take)
    presence = Presence(store, 30.0, lambda: 0.0)
    receiver = PushReceiver(store, presence.heard)
    pull = PullSource(store, fleet.__getitem__, presence.heard, 30.0, lambda: 0.0)
    verification = Verification(pull.follow)
    site = Site(fleet, umati, mes, presence, receiver, verification, pull)  # type: ignore[arg-type]
    fleet.sinks = [umati, site]
    yield Parts(site, fleet, store, umati, mes, receiver, presence, verification)
    await store.close()


def served(machine: str, key: str, **changes: Any) -> Served:
    one = Served(
        machine=machine,
        index=0,
        name="Bay 12",
        url=f"http://{machine}",
        key=Secret(key),
        push_key=wire.PushKey.derive(key),
        mes_ids=(1,),
        identification=IdentificationSettings(),
    )
    return replace(one, **changes)


async def push(parts: Parts, machine: str, *kinds: str) -> None:
    now = wire.utc_now()
    events = tuple(wire.Event(n, now, kind, DATA[kind]) for n, kind in enumerate(kinds, 1))
    await parts.store.append(machine, wire.Batch("i", 0, len(events), events, now))


def believed(parts: Parts, key: str) -> str | None:
    sender = parts.receiver.sender(wire.PushKey.derive(key).key_id)
    return sender and sender.machine


async def test_a_machine_that_joins_is_in_every_part(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST))
    assert list(parts.umati.shown) == ["m"]
    assert [one[:2] for one in parts.mes.registered] == [("m", (1,))]
    assert believed(parts, FIRST) == "m"
    await parts.presence.heard("m")
    assert (len(parts.site), "m" in parts.site) == (1, True)


async def test_a_machine_of_which_the_log_knows_joins_as_it_is_now(parts: Parts) -> None:
    await push(parts, "m", wire.SNAPSHOT)
    parts.site.serve(served("m", FIRST))
    assert parts.umati.shown["m"][1] is parts.fleet["m"]
    assert parts.mes.registered[0][3] is parts.fleet["m"]
    assert parts.mes.registered[0][2].opcua_endpoint == parts.umati.endpoint_url_of("m")
    assert parts.fleet["m"] != Machine()


async def test_a_new_key_takes_the_place_of_the_old_and_nothing_else_changes(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST))
    shown = parts.umati.shown["m"]
    parts.site.serve(served("m", SECOND))
    assert (believed(parts, FIRST), believed(parts, SECOND)) == (None, "m")
    assert parts.umati.shown["m"] is shown
    assert len(parts.site) == 1


async def test_another_name_is_shown_under_the_same_machine(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST))
    parts.site.serve(served("m", FIRST, name="Bay 13"))
    assert parts.umati.shown["m"][0].custom_name == "Bay 13"
    assert parts.mes.registered[-1][2].name == "Bay 13"


async def test_the_key_of_one_machine_leaves_the_others_alone(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST))
    parts.site.serve(served("n", "n" * 43))
    parts.site.serve(served("m", SECOND))
    assert believed(parts, "n" * 43) == "n"


async def test_what_comes_after_it_joined_reaches_it_and_another_printer_is_registered(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST))
    await push(parts, "m", wire.SNAPSHOT)
    assert [one.record.kind for one in parts.umati.changed] == [wire.SNAPSHOT]
    assert len(parts.mes.registered) == 2
    assert parts.mes.registered[-1][3].printer == parts.fleet["m"].printer


async def test_two_entries_for_one_octoprint_are_named_when_its_plugin_has_told_of_itself_twice(
    parts: Parts,
) -> None:
    parts.site.serve(served("m", FIRST))
    parts.site.serve(served("n", SECOND, index=1))
    with capture_logs() as logs:
        await push(parts, "m", wire.SNAPSHOT)
        assert logs == []
        await push(parts, "n", wire.SNAPSHOT, wire.SNAPSHOT)
    (line,) = logs
    assert "two entries of config.json seem to be one OctoPrint" in line["event"]
    assert (line["entry"], line["other_entry"]) == (1, 0)
    assert (line["url"], line["other_url"]) == ("http://n", "http://m")
    assert [one[0] for one in parts.mes.registered[-2:]] == ["m", "n"]  # both are told: one may be a copy


async def test_an_octoprint_whose_url_and_key_changed_at_once_is_new_and_that_is_said(parts: Parts) -> None:
    await push(parts, "gone", wire.SNAPSHOT)
    parts.site.serve(served("m", FIRST))
    with capture_logs() as logs:
        await push(parts, "m", wire.SNAPSHOT)
    (line,) = logs
    assert "was another machine before" in line["event"]
    assert (line["machine"], line["was"]) == ("m", "gone")


async def test_two_entries_for_one_octoprint_are_named_again_at_each_start(parts: Parts) -> None:
    await push(parts, "m", wire.SNAPSHOT)
    await push(parts, "n", wire.SNAPSHOT)
    with capture_logs() as logs:
        parts.site.serve(served("m", FIRST))
        parts.site.serve(served("n", SECOND, index=1))
        parts.site.serve(served("n", SECOND, index=1, name="Bay 13"))
    (line,) = logs
    assert "two entries of config.json seem to be one OctoPrint" in line["event"]
    assert (line["entry"], line["other_entry"]) == (1, 0)


async def test_another_octoprint_with_the_url_or_key_of_a_machine_goes_on_as_it_and_that_is_said(
    parts: Parts,
) -> None:
    parts.site.serve(served("m", FIRST))
    await push(parts, "m", wire.SNAPSHOT)
    other = {**DATA[wire.SNAPSHOT], "printer": {**PRINTER, "uuid": "another"}}
    now = wire.utc_now()
    with capture_logs() as logs:
        await parts.store.append("m", wire.Batch("j", 0, 1, (wire.Event(1, now, wire.SNAPSHOT, other),), now))
    (line,) = logs
    assert "this machine has another OctoPrint than before" in line["event"]
    assert (line["machine"], line["url"]) == ("m", "http://m")
    assert [one[0] for one in parts.mes.registered] == ["m", "m", "m"]


async def test_machines_that_take_each_others_place_are_both_named(parts: Parts) -> None:
    async def tell(machine: str, uuid: str, instance: str) -> None:
        data = {**DATA[wire.SNAPSHOT], "printer": {**PRINTER, "uuid": uuid}}
        now = wire.utc_now()
        event = wire.Event(1, now, wire.SNAPSHOT, data)
        await parts.store.append(machine, wire.Batch(instance, 0, 1, (event,), now))

    for machine, key, uuid in (("m", FIRST, "left"), ("n", SECOND, "right")):
        parts.site.serve(served(machine, key))
        await tell(machine, uuid, "before")
    with capture_logs() as logs:
        await tell("m", "right", "after")
        await tell("n", "left", "after")
    another = [line["machine"] for line in logs if "another OctoPrint than before" in line["event"]]
    assert another == ["m", "n"]


def test_a_list_of_machines_that_is_gone_is_said_once_there_was_a_log(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        f'[{{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": "{FIRST}", "mes_id": [1]}}]'
    )
    with capture_logs() as logs:
        [first] = assign(load(path), Settings(), tmp_path)
        (tmp_path / "log.sqlite").touch()
        assign(load(path), Settings(), tmp_path)
        assert logs == []
        (tmp_path / "machines.json").unlink()
        [again] = assign(load(path), Settings(), tmp_path)
    (line,) = logs
    assert "the list of known machines is gone" in line["event"]
    assert again.machine == first.machine


def test_ids_are_kept_when_the_file_is_read_again_with_one_machine_more(tmp_path: Path) -> None:
    def entry(n: int, key: str) -> str:
        return (
            f'{{"type": "OCTOPRINT", "url": "http://10.0.0.{n}", "authentication_file_path": "{key}",'
            ' "mes_id": [1]}'
        )

    path = tmp_path / "config.json"
    path.write_text(f"[{entry(1, FIRST)}]")
    before = assign(load(path), Settings(), tmp_path)
    path.write_text(f"[{entry(2, SECOND)}, {entry(1, FIRST)}]")
    after = assign(load(path), Settings(), tmp_path)
    assert after[1].machine == before[0].machine
    path.write_text(f"[{entry(1, 'c' * 43)}]")
    rekeyed = assign(load(path), Settings(), tmp_path)
    assert [one.machine for one in rekeyed] == [before[0].machine]
    known = {one.machine: one.key_id for one in identity.load(tmp_path / "machines.json")}
    assert known[before[0].machine] == wire.PushKey.derive("c" * 43).key_id


def test_a_machine_counts_as_paired_as_long_as_it_has_the_key_of_the_pairing(tmp_path: Path) -> None:
    path, secret = tmp_path / "config.json", tmp_path / "secret.txt"
    path.write_text(
        '[{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": "secret.txt", "mes_id": [1]}]'
    )

    def paired(key: str) -> bool:
        secret.write_text(key)
        [one] = assign(load(path), Settings(), tmp_path)
        return one.paired

    assert not paired(FIRST)
    identity.remember_paired(tmp_path, wire.PushKey.derive(FIRST).key_id)
    assert paired(FIRST)
    assert not paired(SECOND)


async def test_the_key_of_a_paired_machine_is_left_to_its_plugin(parts: Parts) -> None:
    parts.site.serve(served("m", FIRST, paired=True))
    parts.site.serve(served("n", SECOND))
    assert parts.verification.by_plugin == {"m"}
    parts.site.serve(served("m", "c" * 43))
    assert parts.verification.by_plugin == set()


def test_two_entries_for_one_place_are_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    entry = '{"type": "OCTOPRINT", "url": "%s", "authentication_file_path": "%s", "mes_id": [1]}'
    path.write_text(f"[{entry % ('http://h', FIRST)}, {entry % ('http://h:80/', SECOND)}]")
    assert [one.index for one in assign(load(path), Settings(), tmp_path)] == [0]
