"""A config.json for another version of the Aggregator: the same machines, and every comment where it was."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.aggregator import Config, jsonc, load
from bridge.aggregator.convert import Conversion, Place, Target, convert
from bridge.aggregator.credential import resolve_path_or_key
from bridge.aggregator.remove import applied, removals

KEY = "A0A00B123E454H122BD513FE58B5E9BC"


def converted(folder: Path, text: str, target: Target, *, inline: bool = False) -> tuple[Conversion, Config]:
    """`text` as config.json of `folder`, converted there, secret files and all; and the result as it is read."""
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8", newline="")
    path.chmod(0o600)
    names = iter(range(10_000))

    def new_file(_: object) -> str:
        return next(name for n in names if not (folder / (name := f"made-{n}.txt")).exists())

    place = Place(
        new_file, lambda file, written: written, lambda value: resolve_path_or_key(value, folder).is_key
    )
    done = convert(text, load(path), target, place, inline=inline)
    for secret in done.secrets:
        (folder / secret.name).touch(mode=0o600)
        (folder / secret.name).write_text(secret.key.reveal())
    path.write_text(done.text, encoding="utf-8", newline="")
    return done, load(path)


def machines_of(config: Config, *, named: bool = True) -> list[Any]:
    return [
        (one.type, one.url, one.credential.key, one.custom_name if named else None, one.mes_id)
        for one in config.machines
    ]


# --------------------------------------------------------------------------- any file


def gaps(newline: str) -> st.SearchStrategy[str]:
    """What may stand between two tokens, with comments that look like JSON."""
    one = st.sampled_from(
        ["", "", " ", "\t", newline, newline + "  ", f"// , : ] }}{newline}", '/* , : } "\n */']
    )
    return st.lists(one, max_size=3).map("".join)


@st.composite
def written(draw: st.DrawFn, value: Any, newline: str, commas: bool = False) -> str:
    """`value` as somebody might have written it; `commas`: maybe with one after the last part."""
    gap = gaps(newline)
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key)}{draw(gap)}:{draw(gap)}{draw(written(one, newline, commas))}"
            for key, one in value.items()
        ]
    elif isinstance(value, list):
        parts = [draw(written(one, newline, commas)) for one in value]
    else:
        return json.dumps(value, ensure_ascii=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inside = ",".join(f"{draw(gap)}{part}{draw(gap)}" for part in parts)
    if commas and draw(st.integers(0, 3)) == 0:
        inside += "," + draw(gap)
    return opening + inside + closing


@st.composite
def entries(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """A good entry of any version, or of another machine type."""
    key = f"{number:04}" + draw(st.text("0123456789abcdefABCDEF-_", min_size=12, max_size=40))
    common = {
        "url": f"http://h{number}:5000",
        "mes_id": draw(st.lists(st.integers(0, 9), min_size=1, unique=True)),
    }
    name = draw(st.none() | st.just(f"ä {number}"))
    port = {"umati_server_port": 4900 + number} if draw(st.booleans()) else {}
    own: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"api_key": key} | port,
                {"authentication_file_path": f"s{number}.txt"} | port,
                {"authentication_file_path": key},
                {"authentication_file_path": key} | port,
                {"authentication_file_path": f"s{number}.txt", "api_key": "unused" * 4} | port,
                {"authentication_file_path": key, "api_key": None, "umati_server_port": None},
                {"authentication_file_path": None, "api_key": key} | port,
                {"authentication_file_path": " ", "api_key": "with/sep.arator" + key, "custom_name": None},
                {"authentication_file_path": f"s{number}.txt", "unknown": {"a": [1]}},
                {"authentication_file_path": {"client_secret": key}, "unique_name": "n"},
            ]
        )
    )
    foreign = isinstance(own.get("authentication_file_path"), dict)
    if name and "api_key" not in own and "custom_name" not in own:
        own["custom_name"] = name
    content = {"type": "CARBON3D" if foreign else "OCTOPRINT"} | common | own
    return {one: content[one] for one in draw(st.permutations(sorted(content)))}


@st.composite
def files(draw: st.DrawFn) -> str:
    content = [draw(entries(number)) for number in range(draw(st.integers(1, 3)))]
    layouts: list[Any] = [content, content[0], {"version": 1, "machines": content, "log": [1]}]
    whole = draw(st.sampled_from(layouts))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return draw(gaps(newline)) + draw(written(whole, newline, True)) + draw(gaps(newline))


COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|(//[^\r\n]*|/\*(?s:.)*?\*/)')


def comments(text: str) -> list[str]:
    return [match[1] for match in COMMENT.finditer(text) if match[1]]


def folder_with_secrets() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory()
    for number in range(3):
        file = Path(made.name) / f"s{number}.txt"
        file.touch(mode=0o600)
        file.write_text(f"in file {number}".replace(" ", "-") + "0123456789abcdef\n")
    return made


anything = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@anything
@given(files(), st.sampled_from(get_args(Target)), st.booleans())
def test_any_file_is_read_as_the_version_that_was_asked_for(text: str, target: Target, inline: bool) -> None:
    with folder_with_secrets() as name:
        folder = Path(name)
        (folder / "config.json").write_text(text, encoding="utf-8", newline="")
        before = load(folder / "config.json")
        done, after = converted(folder, text, target, inline=inline)
        assert machines_of(after, named=target != "1.1") == machines_of(before, named=target != "1.1")
        assert [one.served for one in after.machines] == [one.served for one in before.machines]
        for one in after.machines:
            if one.left_to_aggregator:
                continue
            said = {problem.message for problem in one.problems if "comma after" not in problem.message}
            # A key that looks like a path is odd wherever it stands, and at 1.1 it stands here.
            assert all("looks like a path" in message for message in said if target == "1.1")
            assert not said or target == "1.1"
            # Without a port, an entry of 1.2 looks like one of 1.4.
            wanted = {"1.1": ["1.1"], "1.2": ["1.2-1.3", "1.4+"], "1.4": ["1.4+"]}[target]
            assert one.config_version in wanted
            sources = {"1.1": ["api_key"], "1.2": ["file"], "1.4": ["file", "inline"]}[target]
            assert one.credential.source in sources
        assert comments(done.text) == comments(text)
        again, _ = converted(folder, done.text, target, inline=inline)
        assert again.text == done.text
        assert again.remarks == []


@anything
@given(files(), st.permutations(get_args(Target)))
def test_machines_survive_the_way_over_other_versions(text: str, way: list[Target]) -> None:
    with folder_with_secrets() as name:
        folder = Path(name)
        _, first = converted(folder, text, "1.4")
        named = True
        back: Target = "1.4"
        for target in [*way, back]:
            named = named and target != "1.1"
            now = (folder / "config.json").read_text(encoding="utf-8")
            _, after = converted(folder, now, target)
        assert machines_of(after, named=named) == machines_of(first, named=named)


@anything
@given(st.data())
def test_members_are_taken_out_of_any_object(data: st.DataObject) -> None:
    content = data.draw(
        st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 9), min_size=2)
    )
    text = data.draw(written(content, data.draw(st.sampled_from(["\n", "\r\n", "\r"]))))
    gone = data.draw(st.sets(st.sampled_from(sorted(content)), max_size=len(content) - 1))
    root = jsonc.parse(text).root
    assert isinstance(root, jsonc.Object)
    after = applied(text, removals(text, root, [root.index[key] for key in gone]))
    document = jsonc.parse(after)
    assert document.faults == ()
    assert document.root is not None
    assert jsonc.plain(document.root) == {key: value for key, value in content.items() if key not in gone}
    assert comments(after) == comments(text)


# --------------------------------------------------------------------------- what is said


def entry(**own: Any) -> dict[str, Any]:
    return {"type": "OCTOPRINT", "url": "http://h", "mes_id": [1]} | own


def said(done: Conversion) -> list[tuple[str, str | None, str]]:
    return [(one.severity, one.key, one.message) for one in done.remarks]


def test_a_name_has_no_place_in_1_1(tmp_path: Path) -> None:
    text = json.dumps([entry(authentication_file_path=KEY, custom_name="MK4")])
    done, after = converted(tmp_path, text, "1.1")
    assert said(done) == [
        ("warning", "custom_name", "Aggregator 1.1 knows no custom_name: 'MK4' is left out")
    ]
    assert (done.remarks[0].line, done.remarks[0].column) == (1, text.index('"custom_name"') + 1)
    assert after.machines[0].custom_name is None


def test_a_port_has_no_place_in_1_4(tmp_path: Path) -> None:
    done, after = converted(tmp_path, json.dumps([entry(api_key=KEY, umati_server_port=4841)]), "1.4")
    assert said(done) == [
        ("warning", "umati_server_port", "Aggregator 1.4 knows no umati_server_port: port 4841 is left out")
    ]
    assert "umati_server_port" not in done.text
    assert after.ok


def test_a_port_that_was_ignored_counts_again(tmp_path: Path) -> None:
    text = json.dumps([entry(authentication_file_path=KEY, umati_server_port=4841)])
    done, after = converted(tmp_path, text, "1.2")
    assert said(done) == [
        ("warning", "umati_server_port", "umati_server_port 4841 was ignored so far, and counts from now on")
    ]
    assert after.machines[0].umati_server_port == 4841


@pytest.mark.parametrize("port", [0, 65536, "4841", True])
def test_a_port_that_is_none_does_not_spoil_the_entry(port: object, tmp_path: Path) -> None:
    text = json.dumps([entry(authentication_file_path=KEY, umati_server_port=port)])
    done, after = converted(tmp_path, text, "1.2")
    assert said(done)[0][1:] == ("umati_server_port", "umati_server_port is no port, and is left out")
    assert after.machines[0].served


@pytest.mark.parametrize("target", get_args(Target))
def test_a_key_that_is_not_used_is_left_out(target: Target, tmp_path: Path) -> None:
    text = json.dumps([entry(api_key="0" * 32, authentication_file_path=KEY)])
    done, after = converted(tmp_path, text, target)
    assert said(done) == [
        (
            "warning",
            "api_key",
            "api_key is not used beside authentication_file_path, and what it holds is left out",
        )
    ]
    key = after.machines[0].credential.key
    assert key is not None
    assert key.reveal() == KEY
    assert after.machines[0].problems == ()
    assert "0" * 32 not in done.text


def test_the_safe_way_from_1_1_is_a_file_and_the_short_one_is_asked_for(tmp_path: Path) -> None:
    text = json.dumps([entry(api_key=KEY)])
    assert [one.name for one in converted(tmp_path, text, "1.4")[0].secrets] == ["made-0.txt"]
    done, after = converted(tmp_path, text, "1.4", inline=True)
    assert done.secrets == []
    assert after.machines[0].credential.source == "inline"


def test_a_key_that_looks_like_a_path_goes_into_a_file_all_the_same(tmp_path: Path) -> None:
    text = json.dumps([entry(api_key="a/b" + KEY)])
    done, after = converted(tmp_path, text, "1.4", inline=True)
    assert len(done.secrets) == 1
    assert "would be read as a path" in done.remarks[0].message
    assert after.machines[0].served


def test_an_entry_with_an_error_stays_and_the_others_are_converted(tmp_path: Path) -> None:
    bad = '{"type": "OCTOPRINT", "url": "http://g", "api_key": "' + KEY[::-1] + '"}'
    done, _ = converted(tmp_path, f"[\n{bad},\n{json.dumps(entry(api_key=KEY))}\n]", "1.2")
    assert bad in done.text
    assert said(done) == [("error", None, "this entry has an error, and stays as it is")]
    assert done.remarks[0].line == 2
    assert len(done.secrets) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"api_key": "K", "umati_server_port": 1, "a": 2}', '{"authentication_file_path": "F", "a": 2}'),
        ('{"umati_server_port": 1, "api_key": "K"}', '{"authentication_file_path": "F"}'),
        ('{ "api_key": "K", "umati_server_port": 1 }', '{ "authentication_file_path": "F" }'),
        ('{\n  "api_key": "K",\n  "umati_server_port": 1\n}', '{\n  "authentication_file_path": "F"\n}'),
        (
            '{\n  "umati_server_port": 1, // port\n  "api_key": "K" // key\n}',
            '{\n  // port\n  "authentication_file_path": "F" // key\n}',
        ),
    ],
)
def test_what_goes_leaves_no_hole(before: str, after: str, tmp_path: Path) -> None:
    rest = '"type": "OCTOPRINT", "url": "http://h", "mes_id": [1], '
    text = before.replace("{", "{" + rest, 1).replace('"K"', f'"{KEY}"')
    done, _ = converted(tmp_path, text, "1.4")
    assert done.text == after.replace("{", "{" + rest, 1).replace('"F"', '"made-0.txt"')
