from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

from bridge.opcua import Limits
from bridge.settings import SAMPLE, Settings, SettingsError, load

MES = '[[mes]]\nid = 1\nurl = "http://mes.example"\nservice_id = "s"\ntoken_env = "T"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, text))
    return refused.value.problems


def sample_with_everything_switched_on() -> str:
    """The sample with the keys that have no default no longer commented out."""
    return re.sub(r"^# (\[|[a-z_]+ = )", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def keys_of(kind: Any) -> dict[str, Any]:
    """The keys that a settings class knows, as nested dictionaries."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        found[name] = keys_of(inner) if dataclasses.is_dataclass(inner) else None
    return found


def keys_in(value: Any) -> Any:
    if isinstance(value, list):
        return keys_in(value[0])
    return {name: keys_in(item) for name, item in value.items()} if isinstance(value, dict) else None


def test_the_sample_documents_every_key_and_no_other() -> None:
    document = tomllib.loads(sample_with_everything_switched_on())
    document["machine"][0]["identification"] = document["identification"]
    assert keys_in(document) == keys_of(Settings)


def test_the_sample_as_it_stands_says_the_defaults() -> None:
    assert load(SAMPLE) == Settings()


def test_files_of_a_mes_count_from_the_folder_of_the_settings(tmp_path: Path) -> None:
    https = MES.replace("http:", "https:")
    mes = load(write(tmp_path, https + 'ca_file = "plant/ca.pem"\nproxy = ""\n')).mes[0]
    assert (mes.ca_file, mes.proxy) == (tmp_path / "plant" / "ca.pem", "")


def test_the_sample_with_everything_switched_on_shows_the_defaults_too(tmp_path: Path) -> None:
    text = sample_with_everything_switched_on().replace("token_env", "# token_env")
    text = text.replace("https = false", "https = true")
    mes = load(write(tmp_path, text)).mes[0]
    for field in dataclasses.fields(mes):
        if field.default not in (dataclasses.MISSING, None):
            assert getattr(mes, field.name) == field.default, field.name


def test_connections_that_just_suffice_for_the_sessions_are_taken(tmp_path: Path) -> None:
    limits = load(write(tmp_path, "[opcua.limits]\nsessions = 5\nconnections = 15\n")).opcua.limits
    assert (limits.sessions, limits.connections) == (5, 15)


def test_the_limits_of_the_opc_ua_server_are_its_own_unless_set(tmp_path: Path) -> None:
    assert dataclasses.asdict(Settings().opcua.limits) == dataclasses.asdict(Limits())
    limits = load(write(tmp_path, "[opcua.limits]\nsessions = 5\n")).opcua.limits
    assert (limits.sessions, limits.operations) == (5, Limits().operations)


def test_a_limit_that_would_let_nobody_in_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[opcua.limits]\nsessions = 0\n")
    assert problem.endswith("settings.toml:2: opcua.limits.sessions: a number from 1 to 10000 is expected")


def test_no_file_means_the_defaults() -> None:
    assert load(None) == Settings()


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, '[bridge]\nstate_folder = "state"\n'))
    assert loaded.bridge.state_folder == tmp_path / "state"


def test_the_machines_own_identification_goes_before_the_common_one(tmp_path: Path) -> None:
    loaded = load(
        write(
            tmp_path,
            '[identification]\nmanufacturer = "Common"\nlocation = "Hall 3"\n'
            '[[machine]]\nurl = "http://A/"\n[machine.identification]\nmanufacturer = "Own"\n',
        )
    )
    assert loaded.identification_of("http://a").manufacturer == "Own"
    assert loaded.identification_of("http://a").location == "Hall 3"
    assert loaded.identification_of("http://b").manufacturer == "Common"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[bridge\n", "settings.toml: "),
        ("x = 1\n", "settings.toml:1: x: there is no such key"),
        ("\n[opcua]\nprot = 1\n", "settings.toml:3: opcua.prot: there is no such key; did you mean port?"),
        ("[opcua]\nport = 70000\n", "settings.toml:2: opcua.port: a number from 0 to 65535"),
        ('[opcua]\nport = "4840"\n', "opcua.port: a whole number"),
        ("[opcua]\nport = true\n", "opcua.port: a whole number"),
        ('[opcua]\nanonymous = "yes"\n', "opcua.anonymous: true or false"),
        ('[opcua]\nhost = "http://x"\n', "opcua.host: a host name or IP address"),
        ('[opcua]\ntrust = "all"\n', "opcua.trust: one of list, any is expected"),
        ('[opcua]\nanonymous_role = "admin"\n', "opcua.anonymous_role: one of observer, operator"),
        ("[opcua.limits]\nconnections = 0\n", "opcua.limits.connections: a number from 1 to 20000"),
        ("[opcua]\nactivation_timeout = 0\n", "opcua.activation_timeout: a number from 1 to 3600"),
        ('[bridge]\nlog_level = "loud"\n', "bridge.log_level: one of debug"),
        ("bridge = 1\n", "bridge: a section [bridge]"),
        ("[mes]\nid = 1\n", "mes: sections [[mes]]"),
        ("[[mes]]\nid = 1\n", "mes.url: is missing"),
        (MES.replace("http://mes", "http://user:pw@mes"), "mes.url: a URL"),
        (MES.replace("http:", "ftp:"), "mes.url: a URL"),
        (MES + 'token_file = "t"\n', "settings.toml:6: mes.token_file: give either"),
        (MES.replace('token_env = "T"', ""), "mes.token_file: give either"),
        (
            "[opcua.limits]\nsessions = 491\n",
            "opcua.limits.connections: 500 are too few for 491 sessions",
        ),
        (
            "[opcua.limits]\nsessions = 5\nconnections = 14\n",
            "settings.toml:3: opcua.limits.connections: 14 are too few for 5 sessions, each of which has a connection,"
            " and 10 that ask what there is: give at least 15, or fewer sessions",
        ),
        (MES + MES, "settings.toml:7: mes.id: 1 is there twice"),
        (MES + "lease = 5\n", "settings.toml:6: mes.lease: must be longer"),
        (MES.replace('"s"', '"a/b"'), "mes.service_id"),
        (MES + 'ca_file = "ca.pem"\n', "settings.toml:6: mes.ca_file: is for https: change url"),
        (MES + 'client_certificate_file = "c.pem"\n', "mes.client_certificate_file: is for https"),
        (MES + 'client_key_file = "k.pem"\n', "mes.client_key_file: is of no use alone: add client_cert"),
        (MES + 'proxy_credentials_file = "p"\n', "mes.proxy_credentials_file: is of no use alone: add proxy"),
        (MES + 'proxy = "http://user:pw@proxy:3128"\n', "mes.proxy: the address of an HTTP proxy"),
        (MES + 'proxy = "socks5://proxy:1080"\n', "mes.proxy: the address of an HTTP proxy"),
        (MES + 'auth_header = "Au:th"\n', "mes.auth_header: the name of an HTTP header"),
        (
            '[push]\nhttps = true\ncertificate_file = "c"\n',
            "push.certificate_file: give certificate_file and",
        ),
        (
            '[push]\ncertificate_file = "c"\nprivate_key_file = "k"\n',
            "settings.toml:2: push.certificate_file: is for https",
        ),
        ('[bridge]\nname = ""\n', "bridge.name: a text of at most 128 printable characters"),
        ('[bridge]\nname = "a\\u200bb"\n', "bridge.name: a text of at most 128 printable characters"),
        ('[identification]\nmodel = ""\n', "identification.model: is empty"),
        (
            '[identification]\ninitial_operation_date = "1 May"\n',
            "settings.toml:2: identification.initial_operation_date: a date such as 2024-05-01",
        ),
    ],
)
def test_a_bad_setting_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    assert any(complaint in problem for problem in problems(tmp_path, text)), problems(tmp_path, text)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "x = 1\n[push]\nport = -1\n[opcua]\nport = -1\n")) == 3


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml: cannot be read"):
        load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'[bridge]\nstate_folder = "\xe9"\n')
    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path / "latin.toml")


def test_a_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    assert not any("hunter2" in p for p in problems(tmp_path, MES.replace("http://", "http://u:hunter2@")))


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().push.port = 1  # type: ignore[misc]


FEEDSTOCK = """[[machine]]
url = "http://a"
[[machine]]
url = "http://b"
[[machine.feedstock]]
tool = 0
name = "Galaxy Black"
identifier = "17"
[[machine.feedstock]]
tool = 1
"""


def test_feedstock_is_said_for_each_tool_of_a_machine(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, FEEDSTOCK))
    assert loaded.feedstock_of("http://a") == loaded.feedstock_of("http://elsewhere") == ()
    assert [(one.tool, one.name) for one in loaded.feedstock_of("http://b/")] == [
        (0, "Galaxy Black"),
        (1, None),
    ]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("tool = 0", "settings.toml:12: machine.feedstock.tool: 0 is there twice; give each section its own"),
        ("tool = 32", "settings.toml:12: machine.feedstock.tool: a number from 0 to 31 is expected"),
        ("name = 'x'", "settings.toml:11: machine.feedstock.tool: is missing; add it"),
        (
            "tool = 2\nidentifier = '17'",
            "settings.toml:13: machine.feedstock.identifier: 17 is there twice; give each section its own",
        ),
    ],
)
def test_feedstock_that_cannot_be_is_refused_at_its_line(tmp_path: Path, wrong: str, problem: str) -> None:
    text = FEEDSTOCK + "[[machine.feedstock]]\n" + wrong + "\n"
    (found,) = problems(tmp_path, text)
    assert found.endswith(problem)
