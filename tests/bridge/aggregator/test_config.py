"""config.json as a whole: the published examples, the versions, and every way to get an entry wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.aggregator import Config, ConfigUnreadable, MachineEntry, Problem, load

KEY = "A0A00B123E454H122BD513FE58B5E9BC"

V14_FILE = """{
  "type": "OCTOPRINT",
  "url": "http://192.168.1.41:5000",
  "custom_name": "my_octoprint_machine",
  "authentication_file_path": "secret.txt", // contents as shown below without ""
  "mes_id": [
    1
  ]
}
"""
V14_INLINE = """{
  "type": "OCTOPRINT",
  "url": "http://192.168.1.41:5000",
  "custom_name": "my_octoprint_machine",
  "authentication_file_path": "A0A00B123E454H122BD513FE58B5E9BC",
  "mes_id": [
    1
  ]
}
"""
V13 = """{
  "type": "octoprint",
  "url": "http://192.168.1.41:5000",
  "custom_name": "my_octoprint_machine",
  "authentication_file_path": "secret.txt",
  "mes_id": [1],
  "umati_server_port": 4841
}
"""
V11 = """{
  "type": "OCTOPRINT",
  "url": "http://192.168.1.41:5000",
  "api_key": "A0A00B123E454H122BD513FE58B5E9BC",
  "mes_id": [1, 2],
  "umati_server_port": 4840
}
"""
CARBON = """{
  "type": "CARBON3D",
  "url": "https://api.carbon3d.com",
  "custom_name": "my_carbon3d_machine",
  "unique_name": "3P01CM",
  "authentication_file_path": {
    "client_id": "CLIENT_ID",
    "client_secret": "RSA_PRIVATE_KEY"
  },
  "mes_id": [
    1
  ]
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secret = tmp_path / "secret.txt"
    secret.write_text(KEY + "\n")
    secret.chmod(0o600)
    return tmp_path


def read(folder: Path, content: object) -> Config:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    return load(path)


def read_one(folder: Path, content: object) -> MachineEntry:
    [machine] = read(folder, content).machines
    return machine


def entry(**changes: Any) -> dict[str, Any]:
    """A good 1.4+ entry; None takes a key out."""
    good = {"type": "OCTOPRINT", "url": "http://h:5000", "authentication_file_path": KEY, "mes_id": [1]}
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def only(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    assert problem.hint
    assert KEY not in str(problem) + problem.hint
    return problem


@pytest.mark.parametrize(
    ("text", "version", "source", "name", "mes_id", "port"),
    [
        (V14_FILE, "1.4+", "file", "my_octoprint_machine", (1,), None),
        (V14_INLINE, "1.4+", "inline", "my_octoprint_machine", (1,), None),
        (V13, "1.2-1.3", "file", "my_octoprint_machine", (1,), 4841),
        (V11, "1.1", "api_key", None, (1, 2), 4840),
    ],
)
def test_the_examples_of_every_aggregator_version_are_served_as_they_stand(
    text: str,
    version: str,
    source: str,
    name: str | None,
    mes_id: tuple[int, ...],
    port: int | None,
    folder: Path,
) -> None:
    machine = read_one(folder, text)
    assert machine.problems == ()
    assert machine.served
    assert (machine.config_version, machine.credential.source) == (version, source)
    assert (machine.custom_name, machine.mes_id, machine.umati_server_port) == (name, mes_id, port)
    assert machine.url == "http://192.168.1.41:5000"
    assert machine.credential.path == (folder / "secret.txt" if source == "file" else None)
    assert machine.credential.key is not None
    assert machine.credential.key.reveal() == KEY


def test_entries_of_other_machine_types_are_left_to_the_aggregator(folder: Path) -> None:
    config = read(folder, f'{{"machines": [{CARBON}, {V14_FILE}]}}')
    carbon, octoprint = config.machines
    assert config.ok
    assert (carbon.left_to_aggregator, carbon.served, carbon.problems) == (True, False, ())
    assert (carbon.type, carbon.custom_name) == ("CARBON3D", "my_carbon3d_machine")
    assert carbon.credential.key is None
    assert octoprint.served


@pytest.mark.parametrize("spelling", ["OCTOPRINT", "octoprint", "OctoPrint"])
def test_the_type_is_compared_without_regard_to_case(spelling: str, folder: Path) -> None:
    machine = read_one(folder, entry(type=spelling))
    assert machine.served
    assert machine.type == spelling


@pytest.mark.parametrize(
    "content",
    [
        entry(),
        [entry()],
        {"whatever": [entry()]},
        {
            "proxy": {},
            "mes": [{"id": 1, "url": "http://mes", "api_token": "x"}],
            "logging": [],
            "m": [entry()],
        },
        {"handlers": [{"type": "file", "level": "info"}], "m": [entry()]},
        {"m": [entry(type=None)]},
    ],
)
def test_the_entries_are_found_wherever_they_stand(content: object, folder: Path) -> None:
    assert len(read(folder, content).machines) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": [entry()], "b": [entry(url="http://i")]}, "not clear which"),
        ({}, "no array"),
        ({"a": [1, 2]}, "no array"),
        ([1, 2], "no machine entries"),
        ("42", "single value"),
    ],
)
def test_a_file_in_which_no_entries_can_be_found_says_why(content: object, says: str, folder: Path) -> None:
    config = read(folder, content)
    assert not config.ok
    assert config.machines == ()
    assert says in only(config.problems).message


@pytest.mark.parametrize("content", [[], {"machines": []}, [json.loads(CARBON)]])
def test_a_file_without_octoprint_machines_is_well_with_a_warning(content: object, folder: Path) -> None:
    config = read(folder, content)
    assert config.ok
    assert only(config.problems).severity == "warning"


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"url": 5000}, "url", "must be a text, not a number"),
        ({"url": ["http://h"]}, "url", "not an array"),
        ({"url": "192.168.1.41:5000"}, "url", "does not begin with http"),
        ({"url": "octopi.local"}, "url", "does not begin with http"),
        ({"url": "ftp://h"}, "url", "does not begin with http"),
        ({"url": "http:/h"}, "url", "does not begin with http"),
        ({"url": "http://"}, "url", "no host"),
        ({"url": "http://h:99999"}, "url", "valid host and port"),
        ({"url": "http://h:x"}, "url", "valid host and port"),
        ({"url": "http://h:"}, "url", "no valid port"),
        ({"url": "http://h:0"}, "url", "no valid port"),
        ({"url": "http://[::1"}, "url", "valid host"),
        ({"url": "http://192.168.1.410"}, "url", "neither a name nor an IP"),
        ({"url": "http://<ip>"}, "url", "neither a name nor an IP"),
        ({"url": "http://h h"}, "url", "blank"),
        ({"url": "http://h\\x"}, "url", "backslash"),
        ({"url": "http://h/?apikey=1"}, "url", "query"),
        ({"url": "http://h/#temp"}, "url", "fragment"),
        ({"url": "http://user:word@h"}, "url", "credentials"),
        ({"url": None}, "url", "is missing"),
        ({"url": " "}, "url", "is empty"),
        ({"type": None}, "type", "is missing"),
        ({"type": 1}, "type", "short text"),
        ({"type": "OCTOPRNT"}, "type", "misspelt"),
        ({"type": "Octo Print"}, "type", "misspelt"),
        ({"custom_name": 7}, "custom_name", "must be a text"),
        ({"custom_name": "a\nb"}, "custom_name", "control"),
        ({"mes_id": None}, "mes_id", "is missing"),
        ({"mes_id": []}, "mes_id", "is empty"),
        ({"mes_id": 1}, "mes_id", "not a number"),
        ({"mes_id": "1"}, "mes_id", "not a text"),
        ({"mes_id": ["1"]}, "mes_id", "not a text"),
        ({"mes_id": [True]}, "mes_id", "not true or false"),
        ({"mes_id": [1.5]}, "mes_id", "with a fraction"),
        ({"mes_id": [[1]]}, "mes_id", "not an array"),
        ({"authentication_file_path": None}, "authentication_file_path", "is missing"),
        ({"authentication_file_path": ""}, "authentication_file_path", "is empty"),
        ({"authentication_file_path": 12}, "authentication_file_path", "must be a text"),
        ({"authentication_file_path": {"client_id": "x"}}, "authentication_file_path", "not an object"),
        ({"authentication_file_path": "gone.txt"}, "authentication_file_path", "no file"),
        ({"authentication_file_path": None, "api_key": 1}, "api_key", "must be a text"),
        ({"authentication_file_path": None, "api_key": ""}, "api_key", "is empty"),
        (
            {"authentication_file_path": "secret.txt", "umati_server_port": "4841"},
            "umati_server_port",
            "not a text",
        ),
        (
            {"authentication_file_path": "secret.txt", "umati_server_port": 1.5},
            "umati_server_port",
            "fraction",
        ),
        (
            {"authentication_file_path": "secret.txt", "umati_server_port": 0},
            "umati_server_port",
            "between 1 and",
        ),
        (
            {"authentication_file_path": "secret.txt", "umati_server_port": 65536},
            "umati_server_port",
            "between 1",
        ),
        ({"url": None, "URL": "http://h"}, "url", "written differently"),
        ({"url": None, "uri": "http://h"}, "url", "written differently"),
        ({"mes_id": None, "mesId": [1]}, "mes_id", "written differently"),
        ({"authentication_file_path": None, "API_KEY": KEY}, "api_key", "written differently"),
        (
            {"authentication_file_path": None, "authentification_file_path": KEY},
            "authentication_file_path",
            "written",
        ),
    ],
)
def test_each_bad_value_is_one_error_at_its_key_and_the_others_are_served(
    changes: dict[str, Any], key: str, says: str, folder: Path
) -> None:
    first = entry(url="http://first", authentication_file_path=KEY[::-1])
    last = entry(url="http://last", authentication_file_path="0" * 32)
    config = read(folder, [first, entry(**changes), last])
    assert [machine.served for machine in config.machines] == [True, False, True]
    assert not config.ok
    problem = only(config.machines[1].problems)
    assert (problem.severity, problem.key) == ("error", key)
    assert says in problem.message


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"url": " http://h "}, "url", "blanks around"),
        ({"url": "http://h/api/version"}, "url", "into OctoPrint's API"),
        ({"custom_name": "  "}, "custom_name", "is blank"),
        ({"mes_id": [1, 2, 1]}, "mes_id", "named twice"),
        ({"customName": "x"}, "custom_name", "misspelt"),
        ({"umati_server_port": 4841}, "umati_server_port", "gone in 1.4"),
        ({"api_key": "B" * 32}, "api_key", "ended with Aggregator 1.1"),
        ({"api_key": ""}, "api_key", "ended with Aggregator 1.1"),
        ({"authentication_file_path": None, "api_key": KEY, "custom_name": "x"}, "custom_name", "came with"),
        ({"authentication_file_path": "", "api_key": KEY}, "authentication_file_path", "used instead"),
    ],
)
def test_what_is_odd_but_clear_is_a_warning_and_served(
    changes: dict[str, Any], key: str, says: str, folder: Path
) -> None:
    machine = read_one(folder, entry(**changes))
    assert machine.served
    problem = only(machine.problems)
    assert (problem.severity, problem.key) == ("warning", key)
    assert says in problem.message


@pytest.mark.parametrize(
    "url",
    [
        "http://h/",
        "https://octopi.local",
        "http://h.example/octoprint/",
        "http://[fe80::1]:5000",
        "http://prüfstand:80",
        "HTTP://H:5000",
        "http://my_printer",
    ],
)
def test_good_urls_are_kept_as_they_are(url: str, folder: Path) -> None:
    machine = read_one(folder, entry(url=url))
    assert machine.problems == ()
    assert machine.url == url


def test_keys_of_no_version_are_no_problem(folder: Path) -> None:
    assert read_one(folder, entry(location="hall 3", nested={"a": [1]}, _comment="x")).problems == ()


def test_null_stands_for_an_optional_key_that_is_not_set(folder: Path) -> None:
    machine = read_one(folder, V14_FILE.replace('"my_octoprint_machine"', 'null, "umati_server_port": null'))
    assert machine.problems == ()
    assert (machine.custom_name, machine.umati_server_port) == (None, None)


def test_a_port_used_twice_is_a_warning_on_both_since_the_bridge_has_one_endpoint(folder: Path) -> None:
    other = folder / "other.txt"
    other.write_text(KEY[::-1])
    other.chmod(0o600)
    one = entry(umati_server_port=4841, authentication_file_path="secret.txt")
    two = entry(umati_server_port=4841, url="http://i", authentication_file_path="other.txt")
    config = read(folder, [one, two, entry(url="http://j", authentication_file_path="2" * 32)])
    assert [machine.served for machine in config.machines] == [True, True, True]
    assert all("also used" in only(machine.problems).message for machine in config.machines[:2])


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_keys_in_a_file_that_others_can_read_are_warned_of(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps([entry()]))
    path.chmod(0o644)
    problem = only(load(path).problems)
    assert (problem.severity, "chmod 600" in problem.message) == ("warning", True)
    path.write_text(json.dumps([entry(authentication_file_path="secret.txt")]))
    assert load(path).problems == ()


def test_an_unclosed_bracket_behind_a_url_is_not_blamed_on_a_comment(folder: Path) -> None:
    path = folder / "config.json"
    for text, blamed in (('[{"url": "http://x"', False), ('[{"url": "x" // ]}', True)):
        path.write_text(text)
        config = load(path)
        hints = [problem.hint for machine in config.machines for problem in machine.problems]
        assert any("comment" in hint for hint in hints) is blamed, text


def test_a_path_in_api_key_is_warned_of(folder: Path) -> None:
    [machine] = read(
        folder, [{"type": "OCTOPRINT", "url": "http://h", "api_key": "secret.txt", "mes_id": [1]}]
    ).machines
    assert any("looks like a path" in problem.message for problem in machine.problems)


def test_a_port_used_by_a_machine_of_another_type_is_a_warning(folder: Path) -> None:
    ours = entry(authentication_file_path="secret.txt", umati_server_port=4841)
    theirs = {"type": "EOS", "url": "opc.tcp://h", "umati_server_port": 4841, "mes_id": [1]}
    config = read(folder, [theirs, ours])
    assert config.ok
    assert only(config.machines[1].problems).severity == "warning"
    assert config.machines[0].problems == ()


@pytest.mark.parametrize("other", ["http://h:5000", "http://H:5000/"])
def test_of_two_entries_with_one_url_the_later_is_refused(other: str, folder: Path) -> None:
    config = read(folder, [entry(), entry(url=other, authentication_file_path=KEY[::-1])])
    assert [machine.served for machine in config.machines] == [True, False]
    assert config.machines[0].problems == ()
    problem = only(config.machines[1].problems)
    assert (problem.severity, problem.key) == ("error", "url")
    assert "this url is already used by the entry on line 1" in problem.message


@pytest.mark.parametrize("name", ["authentication_file_path", "api_key"])
def test_of_two_entries_with_one_key_the_later_is_refused_and_the_key_not_shown(
    name: str, folder: Path
) -> None:
    other = entry(**{"url": "http://i", "authentication_file_path": None, name: KEY})
    config = read(folder, [entry(), other])
    assert [machine.served for machine in config.machines] == [True, False]
    problem = only(config.machines[1].problems)
    assert (problem.severity, problem.key) == ("error", name)
    assert "this key is already used by the entry on line 1" in problem.message


def test_an_entry_that_is_refused_itself_keeps_no_other_one_out(folder: Path) -> None:
    broken = entry(mes_id=[])
    same_key = entry(url="http://i")
    same_url_as_that = entry(url="http://i", authentication_file_path=KEY[::-1])
    config = read(folder, [broken, entry(), same_key, same_url_as_that])
    assert [machine.served for machine in config.machines] == [False, True, False, True]


def test_one_name_in_two_entries_is_a_warning_on_the_later(folder: Path) -> None:
    config = read(
        folder,
        [
            entry(custom_name="x"),
            entry(custom_name="x", url="http://i", authentication_file_path=KEY[::-1]),
        ],
    )
    assert only(config.machines[1].problems).key == "custom_name"


@pytest.mark.parametrize("key", ["custom_name", "type", "url"])
def test_a_key_pasted_into_another_place_too_is_found_and_not_shown(key: str, folder: Path) -> None:
    value = f"http://h/{KEY}" if key == "url" else KEY
    machine = read_one(folder, entry(**{key: value}))
    assert getattr(machine, key) is None
    assert KEY not in repr(machine)


def test_all_problems_of_a_file_are_told_with_line_and_column(folder: Path) -> None:
    config = read(
        folder,
        '[\n  {"type": "OCTOPRINT",\n    "url": "h",\n    "mes_id": "1"},\n'
        f'  {{"type": "OCTOPRINT", "url": "http://i" "mes_id": [1], "authentication_file_path": "{KEY}"}},\n'
        f'  {{"type": "OCTOPRINT", "url": "http://j", "mes_id": [1], "authentication_file_path": "{KEY}"}}\n]',
    )
    found = [
        (machine.index, problem.line, problem.column, problem.key)
        for machine in config.machines
        for problem in machine.problems
    ]
    assert found == [
        (0, 2, 3, "authentication_file_path"),
        (0, 3, 12, "url"),
        (0, 4, 15, "mes_id"),
        (1, 5, 42, None),
    ]
    assert [machine.served for machine in config.machines] == [False, False, True]
    assert config.problems == ()


def test_an_entry_that_is_not_closed_is_refused_and_the_next_one_served(folder: Path) -> None:
    first, second = json.dumps(entry()), json.dumps(entry(url="http://i"))
    config = read(folder, f"[\n{first[:-1]},\n{second}\n]")
    assert [machine.served for machine in config.machines] == [False, True]
    assert (only(config.machines[0].problems).line, config.problems) == (2, ())


def test_a_duplicate_key_is_an_error_in_our_entries_only(folder: Path) -> None:
    double = ', "url": "http://h"'
    config = read(
        folder,
        f"[{CARBON.rstrip()[:-1]}{double}}}, {V14_INLINE.rstrip()[:-1]}{double}}}, {json.dumps(entry())}]",
    )
    carbon, ours, last = config.machines
    assert only(carbon.problems).severity == "warning"
    assert only(ours.problems).key == "url"
    assert (ours.served, last.served) == (False, True)


def test_an_element_that_is_no_object_is_an_error_of_its_own(folder: Path) -> None:
    config = read(folder, ["OCTOPRINT", entry()])
    assert "must be an object" in only(config.machines[0].problems).message
    assert config.machines[1].served


def test_a_utf16_file_is_read_with_a_warning(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(V14_INLINE.encode("utf-16"))
    path.chmod(0o600)
    config = load(path)
    assert config.machines[0].served
    assert "UTF-16" in only(config.problems).message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"hello", "text in quotes"),
        (b"machines:\n  - type: OCTOPRINT\n", "text in quotes"),
        (b"[section]\nname=x\n", "text in quotes"),
        (b"// nothing", "only comments"),
        (b'{"custom_name": "M\xfcller"}', "not valid UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not valid UTF-8"),
    ],
)
def test_a_file_that_is_no_json_is_unreadable(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(ConfigUnreadable, match=says):
        load(path)


def test_a_missing_file_a_folder_and_a_bad_name_are_unreadable(tmp_path: Path) -> None:
    for path, says in [
        (tmp_path / "none.json", "no such file"),
        (tmp_path, "folder"),
        (tmp_path / "a\0b", "no valid file name"),
        (tmp_path / ("x" * 300), "can't be read"),
    ]:
        with pytest.raises(ConfigUnreadable, match=says):
            load(path)


def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigUnreadable, match="may not be read"):
        load(tmp_path / "config.json")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    try:
        config = load(path)
    except ConfigUnreadable:
        return
    assert config.ok or config.problems or any(machine.problems for machine in config.machines)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["OCTOPRINT", "http://h", KEY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
KEYS = ["type", "url", "custom_name", "api_key", "authentication_file_path", "mes_id", "umati_server_port"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), anything), max_size=3))
def test_whatever_stands_in_the_entries_a_served_one_is_complete(
    tmp_path: Path, entries: list[object]
) -> None:
    config = read(tmp_path, entries)
    for machine in config.machines:
        if machine.served:
            assert machine.url
            assert machine.mes_id
            assert machine.credential.key is not None
        else:
            assert machine.left_to_aggregator or any(
                problem.severity == "error" for problem in machine.problems
            )


def test_the_examples_in_the_documentation_are_served(folder: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "config-json.md").read_text(encoding="utf-8")
    examples = [part.partition("```")[0] for part in text.split("```json\n")[1:]]
    versions = {read_one(folder, example).config_version for example in examples}
    assert versions == {"1.1", "1.2-1.3", "1.4+"}
    assert all(read(folder, example).ok for example in examples)
