"""`mesbridge check`: its exit status, what it prints, and that it never prints a key."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.commands import check

KEY = "A0A00B123E454H122BD513FE58B5E9BC"

PROBLEM = {
    "type": "object",
    "properties": {
        "severity": {"enum": ["error", "warning"]},
        "line": {"type": ["integer", "null"], "minimum": 1},
        "column": {"type": ["integer", "null"], "minimum": 1},
        "key": {"type": ["string", "null"]},
        "message": {"type": "string", "minLength": 1},
        "hint": {"type": "string", "minLength": 1},
    },
}
MACHINE = {
    "type": "object",
    "properties": {
        "index": {"type": "integer"},
        "type": {"type": ["string", "null"]},
        "served": {"type": "boolean"},
        "config_version": {"enum": ["1.1", "1.2-1.3", "1.4+", None]},
        "custom_name": {"type": ["string", "null"]},
        "url": {"type": ["string", "null"]},
        "credential": {
            "type": "object",
            "properties": {
                "source": {"enum": ["inline", "file", "api_key", None]},
                "path": {"type": ["string", "null"]},
            },
        },
        "mes_id": {"type": "array", "items": {"type": "integer"}},
        "umati_server_port": {"type": ["integer", "null"]},
        "problems": {"type": "array", "items": PROBLEM},
    },
}
RESULT = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "machines": {"type": "array", "items": MACHINE},
        "problems": {"type": "array", "items": PROBLEM},
    },
}
for schema in (PROBLEM, MACHINE, RESULT, MACHINE["properties"]["credential"]):  # type: ignore[index]
    schema["required"] = list(schema["properties"])
    schema["additionalProperties"] = False


def entry(**changes: Any) -> dict[str, Any]:
    good = {"type": "OCTOPRINT", "url": "http://h:5000", "authentication_file_path": KEY, "mes_id": [1]}
    return {**good, **changes}


def write(folder: Path, content: object) -> Path:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    return path


def run(path: Path) -> tuple[int, str, dict[str, Any]]:
    """The exit status, the text for people and the JSON."""
    text, plain = io.StringIO(), io.StringIO()
    status = check.run(path, None, False, text)
    assert check.run(path, None, True, plain) == status
    result = json.loads(plain.getvalue())
    jsonschema.validate(result, RESULT)
    assert result["ok"] == (status == 0)
    return status, text.getvalue(), result


def test_a_good_file_exits_0_and_explains_each_key(tmp_path: Path) -> None:
    secret = tmp_path / "one.txt"
    secret.write_text(KEY[::-1])
    secret.chmod(0o600)
    path = write(
        tmp_path,
        [
            entry(custom_name="inline one"),
            entry(url="http://i", custom_name="file one", authentication_file_path="one.txt"),
            {"type": "octoprint", "url": "http://j", "api_key": KEY.lower(), "mes_id": [1]},
            {"type": "CARBON3D", "url": "https://c", "authentication_file_path": {"client_secret": "s"}},
        ],
    )
    status, text, result = run(path)
    assert status == 0
    assert [machine["served"] for machine in result["machines"]] == [True, True, True, False]
    assert [machine["credential"]["source"] for machine in result["machines"]] == [
        "inline",
        "file",
        "api_key",
        None,
    ]
    assert result["machines"][1]["credential"]["path"] == str(secret)
    assert "no path separator and no file extension" in text
    assert f"in the file {secret}" in text
    assert "as api_key" in text
    assert "left to the Aggregator (type CARBON3D)" in text
    assert text.endswith(
        "3 of 3 OctoPrint machines can be served. 1 left to the Aggregator. Errors: 0, warnings: 0.\n"
    )


def test_problems_exit_1_and_stand_as_file_line_column_with_the_remedy_beneath(tmp_path: Path) -> None:
    text = '[\n{"type": "OCTOPRINT", "url": "http://h",\n "mes_id": "1", "api_key": "KEY"}]'
    path = write(tmp_path, text.replace("KEY", KEY))
    status, text, result = run(path)
    assert status == 1
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if "error:" in line)
    assert lines[at].strip().startswith(f"{path}:3:12: error: mes_id must be an array")
    assert "such as [1]" in lines[at + 1]
    assert "NOT SERVED" in text
    assert result["machines"][0]["problems"][0]["line"] == 3


@pytest.mark.parametrize("content", [None, "", "no json", "\0"])
def test_a_file_that_can_not_be_read_exits_2(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config.json" if content is None else write(tmp_path, content)
    status, text, result = run(path)
    assert status == 2
    assert "can't be read" in text
    assert result["machines"] == []
    assert result["problems"]


def test_a_file_without_machines_exits_0_with_a_warning(tmp_path: Path) -> None:
    status, _, result = run(write(tmp_path, []))
    assert status == 0
    assert [problem["severity"] for problem in result["problems"]] == ["warning"]


def test_a_terminal_without_unicode_and_odd_names_do_not_break_the_output(tmp_path: Path) -> None:
    path = write(
        tmp_path, [entry(custom_name="Drucker ü 打印"), entry(url="http://i", custom_name="\x1b[31m")]
    )
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", errors="strict") as stdout:
        assert check.run(path, None, False, stdout) == 1
        stdout.flush()
        shown = raw.getvalue()
    assert b"\x1b" not in shown
    assert b"Drucker \\xfc" in shown


def test_the_password_in_a_url_is_never_shown(tmp_path: Path) -> None:
    for url in (
        "http://user:PaSsWoRd@h",
        "http://user:Pa/PaSsWoRd@h",
        "//user:PaSsWoRd@h",
        "http://h/?k=PaSsWoRd",
    ):
        _, text, result = run(write(tmp_path, [entry(url=url)]))
        assert "PaSsWoRd" not in text + json.dumps(result)


# A place for a key, however wrong; `%s` is the key.
TEMPLATES = [
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": "%s", "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "api_key": "%s", "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "api_key": "%s", "authentication_file_path": "x.txt", "mes_id": 1}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": %s, "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": "%s, "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": %s", "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path: "%s", "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path", "%s": "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "%s": 1, "%s": 2, "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "API-KEY": "%s", "mes_id": [1]}',
    '{"type": "OCTOPRINT", "url": "http://h", "authentication_file_path": ["%s"], "mes_id": ["%s"]}',
    '{"type": "OCTOPRINT", "url": "http://h/%s", "custom_name": "%s", "api_key": "%s", "mes_id": [1]}',
    '{"type": "%s", "url": "http://h", "api_key": "%s", "mes_id": [1], "umati_server_port": "%s"}',
    '{"type": "OCTOPRINT", "url": "http://h/?apikey=%s", "api_key": "\\%s", "mes_id": [1]}',
    '{"type": "FORMLABS", "url": "http://h", "authentication_file_path": {"password": "%s"}, "mes_id": [1]}',
    '{"type": "FORMLABS", "url": "http://h", "custom_name": "%s", "authentication_file_path": "%s", "mes_id": [1]}',
    "%s",
    '"%s"',
    '["%s", {"type": "OCTOPRINT"}]',
    '{"%s": {"type": "OCTOPRINT", "url": "http://h", "mes_id": [1]}}',
]


def shapes(raw: bytes) -> list[str]:
    text = base64.b64encode(raw).decode()
    return [
        raw.hex()[:32].upper(),
        text,
        text[:30].replace("+", "-"),
        f"{text[:10]}/{text[10:]}",
        text[:16] + ".x",
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers().map(lambda seed: hashlib.sha256(str(seed).encode()).digest()),
    st.integers(0, 4),
    st.sampled_from(TEMPLATES),
    st.sampled_from([None, b"%s", b"%s\n%s", b'"%s"', b"\xef\xbb\xbf%s\r\n", b"%s\xff", b"%s\0"]),
)
def test_no_part_of_a_key_is_ever_shown(
    tmp_path: Path, raw: bytes, shape: int, template: str, secret_file: bytes | None
) -> None:
    key = shapes(raw)[shape]
    secret = tmp_path / "x.txt"
    secret.unlink(missing_ok=True)
    if secret_file is not None and "FORMLABS" not in template:  # secret files of other types are never opened
        secret.write_bytes(secret_file.replace(b"%s", key.encode()))
        template = template.replace('"authentication_file_path": "%s"', '"authentication_file_path": "x.txt"')
    _, text, result = run(write(tmp_path, template.replace("%s", key)))
    shown = text + json.dumps(result)
    assert not any(key[at : at + 8] in shown for at in range(len(key) - 7))
