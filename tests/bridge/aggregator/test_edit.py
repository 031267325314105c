"""Writing a paired machine into config.json: what is added, and that nothing else is touched."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bridge.aggregator import Config, Secret, edit, jsonc, load
from bridge.aggregator.edit import EditError, Written, put
from bridge.aggregator.insert import NotEditable, add_entry, insertions, set_value
from bridge.aggregator.layout import find_entries

ENTRY: dict[str, Any] = {
    "type": "OCTOPRINT",
    "url": "http://h:1",
    "authentication_file_path": "secrets/h.txt",
    "mes_id": (1, 2),
}
OLD, NEW = "A0A00B123E454H122BD513FE58B5E9BC", "Zb7-new_key_of_43_characters_0123456789abcd"


# --------------------------------------------------------------------------- any file


def gaps(newline: str) -> st.SearchStrategy[str]:
    """What may stand between two tokens, with comments that look like JSON."""
    one = st.sampled_from(["", " ", "\t", newline, f"// , ] }} [{newline}", '/* , ] } "\n */'])
    return st.lists(one, max_size=3).map("".join)


@st.composite
def values(draw: st.DrawFn, value: Any, newline: str) -> str:
    """`value` as somebody might have written it: spaces and comments anywhere, maybe a comma at the end."""
    gap = gaps(newline)
    if isinstance(value, dict):
        parts = [
            f"{jsonc_text(key)}{draw(gap)}:{draw(gap)}{draw(values(one, newline))}"
            for key, one in value.items()
        ]
        opening, closing = "{}"
    elif isinstance(value, list):
        parts = [draw(values(one, newline)) for one in value]
        opening, closing = "[]"
    else:
        return jsonc_text(value)
    inside = ",".join(f"{draw(gap)}{part}{draw(gap)}" for part in parts)
    if parts and draw(st.booleans()):
        inside += "," + draw(gap)
    return f"{opening}{inside or draw(gap)}{closing}"


def jsonc_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


entries = st.fixed_dictionaries(
    {"type": st.sampled_from(["OCTOPRINT", "CARBON3D"]), "url": st.sampled_from(["http://ä:1", "x // y, ]"])},
    optional={
        "custom_name": st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5),
        "api_key": st.just("k" * 32),
        "authentication_file_path": st.just({"client_id": "1", "client_secret": "[2"})
        | st.just("secret.txt"),
        "mes_id": st.lists(st.integers(0, 9), min_size=1, max_size=3),
    },
)


@st.composite
def files(draw: st.DrawFn) -> str:
    machines = draw(st.lists(entries, max_size=3))
    layout = draw(st.sampled_from(["bare", "single", "named"]))
    content: Any = machines
    if layout == "single" and machines:
        content = machines[0]
    elif layout == "named":
        content = {"version": [], "machines": machines, "log": {"a": [1]}}
        if not machines:
            del content["version"]
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return draw(gaps(newline)) + draw(values(content, newline)) + draw(gaps(newline))


def machines_of(text: str) -> list[Any]:
    document = jsonc.parse(text)
    assert [fault for fault in document.faults if fault.severity == "error"] == [], text
    assert document.root is not None
    return [jsonc.plain(node) for node in find_entries(document.root).entries]


COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|(//[^\r\n]*|/\*(?s:.)*?\*/)')


def comments(text: str) -> list[str]:
    return [match[1] for match in COMMENT.finditer(text) if match[1]]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(files())
def test_an_entry_is_added_to_any_file_and_every_other_character_stays(text: str) -> None:
    before = machines_of(text)
    after = add_entry(text, ENTRY)
    assert machines_of(after) == [*before, ENTRY | {"mes_id": [1, 2]}]
    assert comments(after) == comments(text)
    rest, shift = after, 0
    for offset, added in insertions(text, ENTRY):
        assert after[offset + shift :].startswith(added)
        rest = rest[:offset] + rest[offset + len(added) :]
        shift += len(added)
    assert rest == text


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(files(), st.sampled_from(["authentication_file_path", "url"]), st.data())
def test_a_value_is_set_in_any_file_and_nothing_else(text: str, key: str, data: st.DataObject) -> None:
    before = machines_of(text)
    assume(before)
    index = data.draw(st.integers(0, len(before) - 1))
    after = set_value(text, index, key, "new/ä")
    assert machines_of(after) == [*before[:index], before[index] | {key: "new/ä"}, *before[index + 1 :]]
    if not isinstance(before[index].get(key), dict):
        assert comments(after) == comments(text)


# --------------------------------------------------------------------------- how it looks


def lines(*of: str) -> str:
    return "\n".join(of) + "\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            lines("[", '  {"type": "X", "url": "u"} // first', "  // the end", "]"),
            lines(
                "[",
                '  {"type": "X", "url": "u"}, // first',
                "  // the end",
                '  {"type": "OCTOPRINT", "url": "http://h:1", "authentication_file_path": "secrets/h.txt",'
                ' "mes_id": [1, 2]}',
                "]",
            ),
            id="one entry a line, with comments",
        ),
        pytest.param(
            lines("[", "\t{", '\t\t"type" : "X",', '\t\t"mes_id" : [', "\t\t\t1", "\t\t]", "\t},", "]"),
            lines(
                "[",
                "\t{",
                '\t\t"type" : "X",',
                '\t\t"mes_id" : [',
                "\t\t\t1",
                "\t\t]",
                "\t},",
                "\t{",
                '\t\t"type" : "OCTOPRINT",',
                '\t\t"url" : "http://h:1",',
                '\t\t"authentication_file_path" : "secrets/h.txt",',
                '\t\t"mes_id" : [',
                "\t\t\t1,",
                "\t\t\t2",
                "\t\t]",
                "\t}",
                "]",
            ),
            id="tabs, blanks before the colon, a comma at the end",
        ),
        pytest.param(
            lines("[{", ' "type": "X",', ' "url": "u"', "}]"),
            lines(
                "[{",
                ' "type": "X",',
                ' "url": "u"',
                "}, {",
                ' "type": "OCTOPRINT",',
                ' "url": "http://h:1",',
                ' "authentication_file_path": "secrets/h.txt",',
                ' "mes_id": [1, 2]',
                "}]",
            ),
            id="brackets together",
        ),
        pytest.param(
            lines("// my printer", "{", '  "type": "X",', '  "url": "u"', "}"),
            lines(
                "// my printer",
                "[",
                "{",
                '  "type": "X",',
                '  "url": "u"',
                "},",
                "{",
                '  "type": "OCTOPRINT",',
                '  "url": "http://h:1",',
                '  "authentication_file_path": "secrets/h.txt",',
                '  "mes_id": [1, 2]',
                "}",
                "]",
            ),
            id="a single entry",
        ),
        pytest.param(
            lines("{", '    "machines": []', "}"),
            lines(
                "{",
                '    "machines": [',
                "        {",
                '            "type": "OCTOPRINT",',
                '            "url": "http://h:1",',
                '            "authentication_file_path": "secrets/h.txt",',
                '            "mes_id": [1, 2]',
                "        }",
                "    ]",
                "}",
            ),
            id="an empty array in an object",
        ),
        pytest.param(
            "[]",
            lines(
                "[",
                "  {",
                '    "type": "OCTOPRINT",',
                '    "url": "http://h:1",',
                '    "authentication_file_path": "secrets/h.txt",',
                '    "mes_id": [1, 2]',
                "  }",
                "]",
            ).rstrip(),
            id="nothing but []",
        ),
    ],
)
def test_what_is_added_looks_like_its_neighbours(before: str, after: str) -> None:
    assert add_entry(before, ENTRY) == after


def test_a_comment_at_the_end_of_a_line_gets_no_blank_from_what_is_added() -> None:
    text = '{"type": "X", \n"url": "u" // all\n}'
    assert set_value(text, 0, "api_key", "k") == '{"type": "X", \n"url": "u", // all\n"api_key": "k"\n}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("// nothing yet\n", "begin it with []"),
        ('[{"type": "X" "url": "u"}]', "line 1: a comma is missing"),
        ('{"a": [], "b": []}', "several arrays"),
        (
            '{"a": [{"type": "X", "url": "u"}], "b": [{"type": "X", "url": "u"}]}',
            "not clear which one counts",
        ),
        ("[1, 2]", "no machine entries"),
        ("{}", "no array"),
    ],
)
def test_a_file_in_which_the_place_is_not_clear_is_left_alone(text: str, says: str) -> None:
    with pytest.raises(NotEditable, match=re.escape(says)):
        add_entry(text, ENTRY)


# --------------------------------------------------------------------------- files


class Folder:
    """A folder with a config.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "config.json"

    def write(self, text: str, encoding: str = "utf-8") -> None:
        self.file.write_bytes(text.encode(encoding))
        self.file.chmod(0o640)

    def secret(self, name: str, key: str = OLD) -> Path:
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(key + "\n")
        file.chmod(0o600)
        return file

    def put(self, url: str = "http://b:2", name: str | None = "Prusa MK4", key: str = NEW) -> Written:
        return put(self.file, url=url, name=name, mes_ids=(1,), key=Secret(key))

    def load(self) -> Config:
        return load(self.file)

    def content(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.path)): p.read_bytes() for p in self.path.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write(
        lines(
            "[",
            '  {"type": "OCTOPRINT", "url": "http://a:1", "authentication_file_path": "secret.txt", "mes_id": [1]},',
            '  {"type": "OCTOPRINT", "url": "http://i:1/",  // key',
            f'   "authentication_file_path": "{OLD[::-1]}", "mes_id": [2]}},',
            '  {"type": "octoprint", "url": "http://k:1", "api_key": "' + OLD.lower() + '", "mes_id": [3]}',
            "]",
        )
    )
    made.secret("secret.txt")
    return made


def key_of(folder: Folder, index: int) -> str:
    entry = folder.load().machines[index]
    assert entry.served
    assert entry.credential.key is not None
    return entry.credential.key.reveal()


def test_a_new_machine_is_served_with_its_key_in_a_file_of_its_own(folder: Folder) -> None:
    written = folder.put()
    assert (written.index, written.line, written.replaced) == (3, 6, False)
    assert written.secret_file == folder.path / "secrets" / "octoprint-prusa-mk4.txt"
    assert key_of(folder, 3) == NEW
    entry = folder.load().machines[3]
    assert (entry.url, entry.custom_name, entry.mes_id) == ("http://b:2", "Prusa MK4", (1,))
    assert entry.problems == ()
    assert written.secret_file.stat().st_mode & 0o777 == 0o600
    assert written.secret_file.parent.stat().st_mode & 0o777 == 0o700
    assert NEW not in folder.file.read_text()
    assert folder.file.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in folder.path.iterdir()) == ["config.json", "secret.txt", "secrets"]


def test_a_secret_file_that_is_there_is_never_taken_for_another_machine(folder: Folder) -> None:
    theirs = folder.secret("secrets/octoprint-prusa-mk4.txt", "somebody else's")
    assert folder.put().secret_file == folder.path / "secrets" / "octoprint-prusa-mk4-2.txt"
    assert theirs.read_text() == "somebody else's\n"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/passwd", "octoprint-etc-passwd.txt"),
        ("Größe Ü", "octoprint-gr-e.txt"),
        ("打印机", "octoprint-b.txt"),
        (None, "octoprint-b.txt"),
        ("x" * 200, f"octoprint-{'x' * 40}.txt"),
    ],
)
def test_a_secret_file_is_named_after_the_machine_and_stays_in_its_folder(
    folder: Folder, name: str | None, file: str
) -> None:
    assert folder.put(name=name).secret_file == folder.path / "secrets" / file
    assert key_of(folder, 3) == NEW


def test_a_machine_whose_key_is_in_a_file_gets_the_new_one_there(folder: Folder) -> None:
    before = folder.file.read_bytes()
    written = folder.put("http://A:1/")
    assert written == Written(0, 2, True, folder.path / "secret.txt")
    assert key_of(folder, 0) == NEW
    assert folder.file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644])
def test_a_secret_file_that_is_replaced_is_for_its_owner_only(folder: Folder, mode: int) -> None:
    (folder.path / "secret.txt").chmod(mode)
    folder.put("http://a:1")
    assert (folder.path / "secret.txt").stat().st_mode & 0o7777 == 0o600


def test_a_secret_file_has_its_mode_again_when_the_change_is_taken_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(change: object, index: int) -> int:
        raise EditError("not as it was")

    there = folder.path / "secret.txt"
    there.chmod(0o640)
    monkeypatch.setattr(edit._Edit, "_check", refuse)
    with pytest.raises(EditError, match="not as it was"):
        folder.put("http://a:1")
    assert (there.read_text(), there.stat().st_mode & 0o7777) == (OLD + "\n", 0o640)


def test_a_secret_file_that_cannot_be_replaced_is_left_and_another_one_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = edit.swap

    def refuse(file: Path, content: bytes, mode: int | None = None) -> None:
        if file.name == "secret.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        swap(file, content, mode)

    monkeypatch.setattr(edit, "swap", refuse)
    assert folder.put("http://a:1").secret_file == folder.path / "secrets" / "octoprint-prusa-mk4.txt"
    assert key_of(folder, 0) == NEW
    assert (folder.path / "secret.txt").read_text() == OLD + "\n"


def test_a_machine_whose_key_stands_in_the_entry_gets_a_file(folder: Folder) -> None:
    before = folder.file.read_text()
    written = folder.put("http://i:1", name=None)
    assert written == Written(1, 3, True, folder.path / "secrets" / "octoprint-i.txt")
    assert key_of(folder, 1) == NEW
    assert folder.file.read_text() == before.replace(OLD[::-1], "secrets/octoprint-i.txt")


def test_an_entry_of_the_oldest_kind_keeps_its_key_where_it_was(folder: Folder) -> None:
    before = folder.file.read_text()
    assert folder.put("http://k:1") == Written(2, 5, True, None)
    assert key_of(folder, 2) == NEW
    assert folder.file.read_text() == before.replace(OLD.lower(), NEW)


def test_a_secret_file_that_two_machines_share_is_left_to_the_other(folder: Folder) -> None:
    folder.write(folder.file.read_text().replace(OLD[::-1], "./secret.txt"))
    assert folder.put("http://a:1").secret_file == folder.path / "secrets" / "octoprint-prusa-mk4.txt"
    assert (key_of(folder, 0), key_of(folder, 1)) == (NEW, OLD)


FOREIGN = [
    '{"type": "FORMLABS", "url": "http://f", "authentication_file_path": "%s", "mes_id": [1]}',
    '{"type": "FORMLABS", "url": "http://f", "authentication_file_path": {"a": {"b": " ./%s "}}, "mes_id": [1]}',
    '{"type": "EOS", "url": "http://f", "extra": [{"key_file": "%s"}], "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "nonsense", "authentication_file_path": "%s", "mes_id": []}',
]


@pytest.mark.parametrize("other", FOREIGN)
def test_a_secret_file_that_a_machine_of_any_type_names_is_left_to_it(folder: Folder, other: str) -> None:
    folder.write(folder.file.read_text().replace("\n]", ",\n" + other % "secret.txt" + "\n]"))
    written = folder.put("http://a:1")
    assert (written.secret_file, written.left) == (
        folder.path / "secrets" / "octoprint-prusa-mk4.txt",
        folder.path / "secret.txt",
    )
    assert (folder.path / "secret.txt").read_text() == OLD + "\n"
    assert key_of(folder, 0) == NEW


@pytest.mark.parametrize("other", FOREIGN)
@pytest.mark.parametrize("url", ["http://b:2", "http://i:1"])
def test_a_secret_file_that_another_entry_waits_for_is_not_made(folder: Folder, other: str, url: str) -> None:
    there = other % "secrets/octoprint-prusa-mk4.txt"
    folder.write(folder.file.read_text().replace("\n]", ",\n" + there + "\n]"))
    assert folder.put(url).secret_file == folder.path / "secrets" / "octoprint-prusa-mk4-2.txt"


def test_a_text_that_can_be_no_name_of_a_file_is_no_hindrance(folder: Folder) -> None:
    other = '{"type": "EOS", "url": "http://f", "a": "\\u0000", "b": "' + "x/" * 5000 + '", "mes_id": [1]}'
    folder.write(folder.file.read_text().replace("\n]", ",\n" + other + "\n]"))
    assert folder.put("http://a:1").secret_file == folder.path / "secret.txt"


def test_an_entry_whose_key_is_missing_gets_one(folder: Folder) -> None:
    (folder.path / "secret.txt").unlink()
    assert folder.put("http://a:1").replaced
    assert key_of(folder, 0) == NEW
    folder.write('[{"type": "OCTOPRINT", "url": "http://a:1", "mes_id": [1]}]')
    assert folder.put("http://a:1").replaced
    assert key_of(folder, 0) == NEW


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(files())
def test_a_machine_is_served_from_any_file_beside_those_that_were(text: str) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = Folder(Path(path))
        folder.write(text)
        before = folder.load().machines
        assert folder.put().index == len(before)
        assert key_of(folder, len(before)) == NEW
        after = folder.load().machines
        assert [one.served for one in after[:-1]] == [one.served for one in before]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_encoding_of_the_file_is_kept(folder: Folder, encoding: str) -> None:
    folder.write(folder.file.read_text() + "// Größe", encoding)
    before = folder.file.read_bytes()
    folder.put(name="Größe")
    assert folder.load().machines[3].custom_name == "Größe"
    assert folder.file.read_bytes()[:4] == before[:4]
    assert folder.file.read_bytes().decode(encoding).endswith("]\n// Größe")


def test_a_link_stays_a_link(folder: Folder) -> None:
    real = folder.path / "elsewhere" / "real.json"
    real.parent.mkdir()
    folder.file.rename(real)
    folder.file.symlink_to(real)
    assert folder.put().secret_file == folder.path / "secrets" / "octoprint-prusa-mk4.txt"
    assert folder.file.is_symlink()
    assert len(load(folder.file).machines) == 4
    assert key_of(folder, 3) == NEW


def test_the_owner_of_the_file_stays(folder: Folder) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(folder.file, 1234, 2345)
    folder.put()
    assert (folder.file.stat().st_uid, folder.file.stat().st_gid) == (1234, 2345)


@pytest.mark.parametrize("reason", [errno.EBUSY, errno.EACCES, errno.EPERM])
def test_a_file_that_cannot_be_swapped_is_written_in_place(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(file: Path, content: bytes) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(edit, "swap", refuse)
    inode = folder.file.stat().st_ino
    folder.put()
    assert key_of(folder, 3) == NEW
    assert folder.file.stat().st_ino == inode


# --------------------------------------------------------------------------- when it goes wrong


@pytest.fixture
def unharmed(folder: Folder) -> Callable[..., str]:
    """Tries, expects an error, and that nothing at all has changed; returns what was said."""

    def attempt(*args: Any, **named: Any) -> str:
        before = folder.content()
        with pytest.raises(EditError) as caught:
            folder.put(*args, **named)
        assert folder.content() == before
        assert not any((folder.path / "secrets").glob("*"))
        assert NEW not in str(caught.value)
        return str(caught.value)

    return attempt


def test_a_file_that_is_not_to_be_written_is_left_alone(
    folder: Folder, unharmed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = unharmed()
    assert "may not be written" in said
    assert "by hand" in said


def test_a_full_disk_leaves_everything_as_it_was(
    folder: Folder, unharmed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(edit, "swap", full)
    assert "No space left on device" in unharmed()


def test_a_file_with_faults_is_repaired_by_a_person_first(
    folder: Folder, unharmed: Callable[..., str]
) -> None:
    folder.write(folder.file.read_text().replace("},\n", "}\n", 1))
    assert "line 2: a comma is missing" in unharmed()


def test_a_missing_file_is_told(folder: Folder, unharmed: Callable[..., str]) -> None:
    folder.file.unlink()
    assert "there is no such file" in unharmed()


@pytest.mark.parametrize("url", ["http://u:p@h", "ftp://h", "http://h:0", "http://[::1", "http://h/?a", ""])
def test_a_url_that_could_not_be_served_is_not_written(unharmed: Callable[..., str], url: str) -> None:
    assert "url" in unharmed(url) or "address" in unharmed(url)


def test_an_entry_that_cannot_be_served_for_another_reason_keeps_its_old_key(
    folder: Folder, unharmed: Callable[..., str]
) -> None:
    folder.write(folder.file.read_text().replace("[1]", "[]").replace("[2]", "[]"))
    assert "mes_id is empty" in unharmed("http://a:1")
    assert "mes_id is empty" in unharmed("http://i:1")


def test_a_change_by_somebody_else_at_the_same_moment_is_not_overwritten(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(text: str, entry: Any) -> str:
        folder.write(text + "// mine\n")
        return add_entry(text, entry)

    monkeypatch.setattr(edit, "add_entry", add)
    with pytest.raises(EditError, match="changed by somebody else"):
        folder.put()
    assert folder.file.read_text().endswith("// mine\n")
    assert len(folder.load().machines) == 3


def test_a_change_that_would_touch_other_machines_is_taken_back(
    unharmed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(text: str, entry: Any) -> str:
        return add_entry(text, entry).replace("http://a:1", "http://z:1")

    monkeypatch.setattr(edit, "add_entry", damage)
    assert "other machines" in unharmed()


class Unused(Exception):
    pass


@pytest.mark.parametrize("url", ["http://a:1", "http://i:1", "http://k:1", "http://b:2"])
def test_what_cannot_be_used_is_taken_back_whole(folder: Folder, url: str) -> None:
    seen: list[Written] = []

    def use(written: Written) -> None:
        seen.append(written)
        assert key_of(folder, written.index) == NEW
        raise Unused

    before = folder.content()
    with pytest.raises(Unused):
        put(folder.file, url=url, name="Prusa", mes_ids=(1,), key=Secret(NEW), use=use)
    assert folder.content() == before
    assert len(seen) == 1
    assert not (folder.path / "secrets").exists()


@pytest.mark.parametrize("url", ["http://k:1", "http://b:2"])
def test_what_somebody_else_wrote_after_us_is_not_taken_back(folder: Folder, url: str) -> None:
    def use(written: Written) -> None:
        folder.file.write_text(folder.file.read_text() + "// mine\n")
        raise Unused("the log is full")

    with pytest.raises(
        EditError, match=r"the log is full \(.*config.json is left as somebody else has changed"
    ):
        put(folder.file, url=url, name="Prusa", mes_ids=(1,), key=Secret(NEW), use=use)
    assert folder.file.read_text().endswith("// mine\n")


def test_a_secret_file_that_somebody_else_wrote_after_us_is_not_taken_back(folder: Folder) -> None:
    def use(written: Written) -> None:
        (folder.path / "secret.txt").write_text("theirs")
        raise Unused("the log is full")

    with pytest.raises(EditError, match=r"the log is full \(.*secret.txt is left"):
        put(folder.file, url="http://a:1", name=None, mes_ids=(1,), key=Secret(NEW), use=use)
    assert (folder.path / "secret.txt").read_text() == "theirs"


def test_a_change_by_somebody_else_right_after_ours_stays_and_is_told(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite = edit._overwrite

    def and_another(file: Path, content: bytes) -> None:
        overwrite(file, content)
        file.write_bytes(content.replace(b"http://a:1", b"http://a:99"))

    monkeypatch.setattr(edit, "_overwrite", and_another)
    with pytest.raises(EditError, match="changed by somebody else at this moment.*is left"):
        folder.put()
    assert "http://a:99" in folder.file.read_text()


def test_a_file_that_is_written_in_place_is_whole_again_when_the_disk_is_full(
    folder: Folder, unharmed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, content: bytes) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    write_over = edit._write_over

    def half(there: Any, content: bytes) -> None:
        if b"octoprint-prusa-mk4" in content:
            there.seek(0)
            there.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_over(there, content)

    monkeypatch.setattr(edit, "swap", refuse)
    monkeypatch.setattr(edit, "_write_over", half)
    assert "No space left on device" in unharmed()


def test_what_a_killed_edit_left_half_written_is_removed_by_the_next_and_nothing_else(folder: Folder) -> None:
    left = []
    (folder.path / "secrets").mkdir()
    for name in ("config.json", "secret.txt", "secrets/octoprint-a.txt"):
        file = folder.path / name
        handle, path = tempfile.mkstemp(
            dir=file.parent, prefix=f".{file.name}.", suffix=edit.TEMPORARY_SUFFIX
        )
        os.close(handle)
        left.append(Path(path))
    others = [
        folder.path / name
        for name in (".config.json.swp", ".config.json.abcdefgh", "x.mesbridge", ".mesbridge")
    ]
    for other in others:
        other.touch()
    folder.put("http://a:1")
    assert [one for one in left if one.exists()] == []
    assert [one for one in others if not one.exists()] == []


def test_a_secret_file_that_is_a_link_to_itself_stops_no_tidying(folder: Folder) -> None:
    (folder.path / "loop.txt").symlink_to("loop.txt")
    entry = {"machine_type": "OCTOPRINT", "url": "http://a:1", "authentication_file_path": "loop.txt"}
    folder.file.write_text(json.dumps([entry]))
    edit.tidy(load(folder.file))


def test_an_edit_that_is_killed_leaves_what_the_next_one_knows(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    before = set(folder.content())
    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", kill)
        killed.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            folder.put("http://a:1")
    assert len(set(folder.content()) - before) == 1
    edit.tidy(load(folder.file))
    assert set(folder.content()) == before


def test_secret_files_that_no_entry_names_are_found(folder: Folder) -> None:
    named, orphan = folder.put().secret_file, folder.secret("secrets/octoprint-orphan.txt")
    folder.secret("secrets/of-the-aggregator.txt")
    assert named != orphan
    assert edit.unnamed_secrets(folder.file) == [orphan]
    folder.file.write_bytes(b"\xff\x00\xff")
    assert edit.unnamed_secrets(folder.file) == []
