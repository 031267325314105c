from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import identity
from bridge.identity import Known, assign


def test_a_machine_keeps_its_id_when_order_url_or_key_change() -> None:
    ids, known = assign([("http://a", "ka"), ("http://b", "kb")], [])
    again, known = assign([("http://b/", "kb"), ("http://a", "new key")], known)
    assert again == ids[::-1]
    moved, known = assign([("http://elsewhere", "new key"), ("http://b", "kb")], known)
    assert moved == ids


def test_a_machine_that_was_removed_gets_its_id_back() -> None:
    [a, b], known = assign([("http://a", "ka"), ("http://b", "kb")], [])
    [only], known = assign([("http://b", "kb")], known)
    [back, still], _ = assign([("http://a", "ka2"), ("http://b", "kb")], known)
    assert (only, back, still) == (b, a, b)


def test_the_first_id_follows_from_the_url_alone() -> None:
    assert assign([("http://a", "k1")], [])[0] == assign([("HTTP://A/", "k2")], [])[0]


def test_a_new_machine_at_the_url_of_a_moved_one_gets_another_id() -> None:
    [first], known = assign([("http://a", "ka")], [])
    ids, _ = assign([("http://a", "kb"), ("http://c", "ka")], known)
    assert ids[1] == first != ids[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://h", "http://h:80"),
        ("https://h/", "HTTPS://H:443"),
        ("http://H:5000/a", "http://h:5000/a/"),
        ("http://[::1]:5000", "http://[::1]:5000/"),
    ],
)
def test_a_machine_whose_url_is_written_otherwise_and_whose_key_is_new_stays_the_same(
    one: str, other: str
) -> None:
    [first], known = assign([(one, "k1")], [])
    [again], known = assign([(other, "k2")], known)
    [back], _ = assign([(one, "k3")], known)
    assert (again, back) == (first, first)


def test_machines_whose_paths_differ_in_case_are_two() -> None:
    ids, known = assign([("http://h/A", "k1"), ("http://h/a", "k2")], [])
    assert len(set(ids)) == 2
    assert assign([("http://h/a", "k3"), ("http://h/A", "k4")], known)[0] == ids[::-1]


@pytest.mark.parametrize("url", ["HTTP://Host:5000/OctoPrint/", "http://host:5000/OctoPrint"])
def test_a_url_that_was_stored_earlier_in_another_form_still_matches(url: str) -> None:
    stored = Known("octoprint-1", "http://host:5000/octoprint", "k1")
    assert assign([(url, "k2")], [stored])[0] == ["octoprint-1"]


def test_ids_are_made_of_what_they_were_made_of_ever_since() -> None:
    assert assign([("HTTP://Host:5000/OctoPrint/", "k")], [])[0] == ["octoprint-0ecf2dc5"]


entry = st.tuples(
    st.sampled_from([f"http://h{n}" for n in range(6)]), st.sampled_from([f"k{n}" for n in range(6)])
)
entries = st.lists(entry, unique_by=(lambda e: e[0], lambda e: e[1]), max_size=6)


@given(st.lists(entries, max_size=5))
def test_ids_are_unique_and_repeating_a_config_changes_nothing(configs: list[list[tuple[str, str]]]) -> None:
    known: list[Known] = []
    for config in configs:
        ids, known = assign(config, known)
        assert len(set(ids)) == len(config)
        assert len({k.machine for k in known}) == len(known)
        assert assign(config, known)[0] == ids


def test_what_was_saved_is_loaded_and_private(tmp_path: Path) -> None:
    path = tmp_path / "machines.json"
    assert identity.load(path) == []
    identity.save(path, [Known("m", "http://a", "k")])
    assert identity.load(path) == [Known("m", "http://a", "k")]
    assert path.stat().st_mode & 0o077 == 0


def test_an_older_list_still_knows_a_machine_by_what_did_not_change_since() -> None:
    ids, older = assign([("http://a", "ka"), ("http://b", "kb")], [])
    _, known = assign([("http://a2", "ka"), ("http://b", "kb2")], older)
    assert assign([("http://a2", "ka"), ("http://b", "kb2")], older)[0] == ids
    assert assign([("http://a2", "ka2"), ("http://b", "kb2")], known)[0] == ids
    assert assign([("http://a2", "ka2"), ("http://b", "kb2")], older)[0][0] not in ids


def test_another_octoprint_at_the_url_of_one_that_was_removed_is_the_same_machine() -> None:
    ids, known = assign([("http://a", "ka")], [])
    _, known = assign([], known)
    assert assign([("http://a", "another")], known)[0] == ids


def test_an_octoprint_that_first_had_a_url_of_its_own_stays_a_new_machine_at_the_url_of_another() -> None:
    [old], known = assign([("http://a", "ka")], [])
    [new], known = assign([("http://first.example", "another")], known)
    [corrected], known = assign([("http://a", "another")], known)
    assert corrected == new != old
    assert assign([("http://a", "another")], known)[0] == [new]


@pytest.mark.parametrize(
    "text",
    [
        '{"machines": [{}]}',
        '{"machines": [{"machine": 1, "url": "http://a", "key_id": "k"}]}',
        '{"machines": {"machine": "m"}}',
        "[]",
        '{"machines": [',
        "",
    ],
)
def test_a_damaged_file_is_refused_in_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "machines.json"
    path.write_text(text)
    with pytest.raises(identity.IdentityError, match="machines.json.*backup"):
        identity.load(path)


def test_a_list_that_cannot_be_kept_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(identity, "write_private", full)
    with pytest.raises(identity.IdentityError, match=r"machines\.json.*No space left on device; check"):
        identity.save(tmp_path / "machines.json", [])


def test_a_key_that_was_paired_stays_so_when_no_machine_has_it_for_a_while(tmp_path: Path) -> None:
    one, two = (f"{n}" * 24 for n in "12")
    assert identity.paired(tmp_path) == frozenset()
    identity.remember_paired(tmp_path, one)
    identity.save(
        tmp_path / "machines.json", [Known("m", "http://a", "f" * 24)]
    )  # its secret file is another one
    identity.remember_paired(tmp_path, two)
    assert identity.paired(tmp_path) == {one, two}
    assert (tmp_path / "paired.json").stat().st_mode & 0o077 == 0


def test_of_ten_thousand_paired_keys_the_one_paired_longest_ago_is_forgotten(tmp_path: Path) -> None:
    key_ids = [f"{n:024x}" for n in range(10_001)]
    (tmp_path / "paired.json").write_text(json.dumps({"key_ids": key_ids[:10_000]}))
    identity.remember_paired(tmp_path, key_ids[0])  # paired anew, so the newest
    assert identity.paired(tmp_path) == set(key_ids[:10_000])
    identity.remember_paired(tmp_path, key_ids[10_000])
    assert identity.paired(tmp_path) == {key_ids[0], *key_ids[2:]}


def test_a_damaged_list_of_paired_keys_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "paired.json").write_text('{"key_ids": [1]}')
    with pytest.raises(identity.IdentityError, match=r"paired\.json: .*backup"):
        identity.paired(tmp_path)
