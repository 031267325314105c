"""What new files mean for a bridge that runs: what is taken over, what waits, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aggregator import ConfigUnreadable, load
from bridge.inforce import AT_ONCE, merge, mes_changes, objections
from bridge.settings import (
    BridgeSettings,
    IdentificationSettings,
    MesSettings,
    OpcUaLimits,
    OpcUaSettings,
    PushSettings,
    Settings,
    WebSettings,
)

KEY = "k" * 43


def entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    key = f"{number:02}" * 22
    return {
        "type": "OCTOPRINT",
        "url": f"http://10.0.0.{number}",
        "authentication_file_path": key,
        "mes_id": [1],
    } | changes


def some_settings() -> st.SearchStrategy[Settings]:
    mes = st.builds(
        MesSettings,
        id=st.integers(0, 3),
        url=st.sampled_from(["http://a", "http://b"]),
        heartbeat=st.just(5.0),
    )
    return st.builds(
        Settings,
        bridge=st.builds(
            BridgeSettings,
            state_folder=st.sampled_from([Path("a"), Path("b")]),
            log_level=st.sampled_from(["debug", "info"]),
            name=st.sampled_from([None, "Hall"]),
            keep_days=st.sampled_from([1.0, 30.0]),
        ),
        push=st.builds(
            PushSettings,
            port=st.integers(0, 2),
            announce=st.booleans(),
            silent_after=st.sampled_from([5.0, 9.0]),
        ),
        opcua=st.builds(
            OpcUaSettings,
            anonymous=st.booleans(),
            limits=st.builds(OpcUaLimits, sessions=st.integers(1, 2)),
        ),
        web=st.builds(WebSettings, enabled=st.booleans()),
        identification=st.builds(IdentificationSettings, location=st.sampled_from([None, "here"])),
        mes=st.lists(mes, max_size=3, unique_by=lambda one: one.id).map(tuple),
    )


def values(settings: Any, place: str = "") -> dict[str, Any]:
    """Every value by its name; sections that are taken over whole count as one."""
    found: dict[str, Any] = {}
    for one in dataclasses.fields(settings):
        name, value = f"{place}{one.name}", getattr(settings, one.name)
        if dataclasses.is_dataclass(value) and name not in AT_ONCE:
            found |= values(value, f"{name}.")
        else:
            found[name] = value
    return found


@given(some_settings(), some_settings())
def test_each_setting_is_taken_over_at_once_or_named_as_waiting(old: Settings, new: Settings) -> None:
    merged = merge(old, new)
    was, wanted, now = values(old), values(new), values(merged.settings)
    different = {name for name in was if was[name] != wanted[name]}
    assert {*merged.keys, *merged.waiting} == different
    assert set(merged.keys) == different & AT_ONCE
    assert now == {name: wanted[name] if name in AT_ONCE else was[name] for name in was}


@given(some_settings(), some_settings())
def test_taking_over_the_same_again_changes_nothing_and_a_restart_would_make_the_rest_true(
    old: Settings, new: Settings
) -> None:
    once = merge(old, new)
    again = merge(once.settings, new)
    assert (again.settings, again.keys, again.waiting) == (once.settings, (), once.waiting)
    assert merge(new, new).waiting == ()


def test_every_name_that_is_taken_over_is_one_of_the_settings() -> None:
    assert set(values(Settings())) >= AT_ONCE


@given(some_settings(), some_settings())
def test_mes_instances_come_go_and_change(old: Settings, new: Settings) -> None:
    found = mes_changes(old.mes, new.mes)
    was, now = {one.id: one for one in old.mes}, {one.id: one for one in new.mes}
    rebuilt = {mes: one for mes, one in was.items() if mes not in found.removed}
    rebuilt |= {mes: now[mes] for mes in (*found.added, *found.changed)}
    assert rebuilt == now
    assert not {*found.added, *found.removed} & set(found.changed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def refused(path: Path, before: Any, after: Any) -> list[str | None]:
    """The keys for which `after` is refused where `before` is in force."""
    path.write_text(json.dumps(before))
    in_force = load(path)
    path.write_text(json.dumps(after))
    return [one.key for one in objections(in_force, load(path))]


def test_a_new_error_is_refused(path: Path) -> None:
    assert refused(path, [entry(1)], [entry(1), entry(2, url="no url")]) == ["url"]
    assert refused(path, [entry(1)], [entry(1, mes_id=[])]) == ["mes_id"]
    assert refused(path, [entry(1)], [entry(1), entry(2, authentication_file_path="no/such.txt")]) == [
        "authentication_file_path"
    ]


def test_two_entries_with_one_key_are_refused(path: Path) -> None:
    twin = entry(2, authentication_file_path=entry(1)["authentication_file_path"])
    assert refused(path, [entry(1)], [entry(1), twin]) == ["authentication_file_path"]


def test_an_error_that_was_there_before_keeps_no_change_out(path: Path) -> None:
    bad = entry(9, url="no url")
    assert refused(path, [bad, entry(1)], [entry(1, custom_name="Bay"), entry(2), bad]) == []
    assert refused(path, [bad, entry(1)], [bad, bad, entry(1)]) == ["url"]  # one more of them
    assert refused(path, [bad, entry(1)], [entry(1)]) == []


def test_a_machine_that_was_served_is_never_lost_to_an_error_that_another_has_too(path: Path) -> None:
    assert refused(
        path, [entry(9, url="no url"), entry(1)], [entry(9, url="no url"), entry(1, url="no url")]
    ) == ["url"]


def test_what_is_left_to_the_aggregator_is_none_of_our_business(path: Path) -> None:
    assert refused(path, [entry(1)], [entry(1), {"type": "EOS", "url": 5}]) == []


def test_no_half_written_file_takes_a_machine_away(path: Path) -> None:
    whole = json.dumps([entry(1), entry(2)], indent=1)
    path.write_text(whole)
    in_force = load(path)
    for length in range(len(whole)):
        path.write_text(whole[:length])
        try:
            found = objections(in_force, load(path))
        except ConfigUnreadable:
            continue
        assert found, whole[:length]


def test_the_name_of_a_secret_file_that_is_away_never_becomes_the_key(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "printer-one-key"
    secret.write_text(KEY)
    path.write_text(json.dumps([entry(1, authentication_file_path=secret.name), entry(2)]))
    in_force = load(path)
    secret.unlink()
    (problem,) = objections(in_force, load(path))
    assert (problem.key, str(secret) in problem.message) == ("authentication_file_path", True)
    path.write_text(json.dumps([entry(2), entry(3, authentication_file_path=secret.name)]))
    assert [one.message for one in objections(in_force, load(path))] == [
        problem.message
    ]  # wherever it is named
    secret.write_text("n" * 43)
    assert objections(in_force, load(path)) == []


def test_a_key_may_take_the_place_of_a_secret_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "printer-one-key").write_text(KEY)
    path.write_text(json.dumps([entry(1, authentication_file_path="printer-one-key")]))
    in_force = load(path)
    (tmp_path / "printer-one-key").unlink()
    path.write_text(json.dumps([entry(1)]))
    assert objections(in_force, load(path)) == []
