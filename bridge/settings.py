"""The bridge's own settings: a TOML file in, checked and typed values out.

What config.json says of the machines is not repeated here. `settings.sample.toml` beside this file documents
every key; a test holds it against the classes below. Unknown keys are refused, since a misspelt one would
otherwise silently do nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import socket
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SAMPLE = Path(__file__).with_name("settings.sample.toml")
CONNECTIONS_BESIDE_SESSIONS = 10
"""OPC UA connections without a session: clients that look for endpoints, come back, or log in."""


class SettingsError(Exception):
    """The settings cannot be used; each problem names file, line and key, and says what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def default_state_folder() -> Path:
    """Where the bridge keeps its log, certificates and users unless told otherwise."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "MESBridge"
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "mesbridge"


def _choice(*values: str) -> Any:
    return {"choices": values}


def _range(low: float, high: float, unit: str = "") -> Any:
    return {"range": (low, high), "unit": unit}


_HOST = {"pattern": (r"[A-Za-z0-9._:\-\[\]]+", "a host name or IP address")}
_URL = {"url": True}
_PATH = {
    "pattern": (
        r"([A-Za-z0-9._~/\-]|\{service_id\})*",
        "the path below the url, such as services/{service_id}",
    )
}
_PROXY = {
    "pattern": (
        r"(http://[A-Za-z0-9._:\-\[\]]+/?)?",
        "the address of an HTTP proxy such as http://proxy.plant.example:3128 without password, or nothing for none",
    )
}
_MAY_BE_EMPTY = {"may_be_empty": True}


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """``[bridge]``"""

    state_folder: Path = field(default_factory=default_state_folder)
    log_level: str = field(default="info", metadata=_choice("debug", "info", "warning", "error"))
    log_format: str = field(default="human", metadata=_choice("human", "json"))
    name: str | None = field(default=None, metadata={"printable": 128})
    keep_days: float = field(default=30.0, metadata=_range(1, 3650, "days"))
    log_size: int = field(default=1024, metadata=_range(16, 1_000_000, "MB"))

    @property
    def shown_name(self) -> str:
        """What people know this bridge by: its name, else that of the computer."""
        return self.name or socket.gethostname()


@dataclass(frozen=True, slots=True)
class PushSettings:
    """``[push]``: where plugins deliver their events. Times in seconds."""

    host: str = field(default="127.0.0.1", metadata=_HOST)
    port: int = field(default=8484, metadata=_range(0, 65535))
    announce: bool = True
    https: bool = False
    certificate_file: Path | None = None
    private_key_file: Path | None = None
    silent_after: float = field(default=30.0, metadata=_range(5, 3600, "s"))


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``[web]``: the status page, and what monitors ask."""

    enabled: bool = True
    host: str = field(default="127.0.0.1", metadata=_HOST)
    port: int = field(default=8486, metadata=_range(0, 65535))
    metrics_token_file: Path | None = None
    https: bool = False
    login: bool = False

    @property
    def asks_login(self) -> bool:
        """Whether one has to log in."""
        return self.login or not self.only_here

    @property
    def only_here(self) -> bool:
        """Whether nobody but this computer can reach the page."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class OpcUaLimits:
    """``[opcua.limits]``: how much the server does for its clients. `message_size` in bytes."""

    connections: int = field(default=500, metadata=_range(1, 20_000))
    sessions: int = field(default=100, metadata=_range(1, 10_000))
    subscriptions: int = field(default=1000, metadata=_range(1, 100_000))
    subscriptions_per_session: int = field(default=100, metadata=_range(1, 100_000))
    monitored_items: int = field(default=200_000, metadata=_range(1, 10_000_000))
    monitored_items_per_subscription: int = field(default=100_000, metadata=_range(1, 10_000_000))
    queue_size: int = field(default=1000, metadata=_range(1, 100_000))
    select_clauses: int = field(default=250, metadata=_range(1, 10_000))
    where_elements: int = field(default=100, metadata=_range(1, 10_000))
    operations: int = field(default=10_000, metadata=_range(1, 100_000))
    method_calls: int = field(default=100, metadata=_range(1, 10_000))
    continuation_points: int = field(default=10, metadata=_range(1, 1000))
    references_per_response: int = field(default=20_000, metadata=_range(1, 1_000_000))
    references_examined: int = field(default=200_000, metadata=_range(1000, 10_000_000))
    message_size: int = field(default=4 * 2**20, metadata=_range(2**16, 2**30, "bytes"))
    array_length: int = field(default=100_000, metadata=_range(100, 10_000_000))


@dataclass(frozen=True, slots=True)
class OpcUaSettings:
    """``[opcua]``: the server. `minimum_publishing_interval` in milliseconds, `activation_timeout` in seconds."""

    host: str = field(default="127.0.0.1", metadata=_HOST)
    port: int = field(default=4840, metadata=_range(0, 65535))
    announced_host: str | None = field(default=None, metadata=_HOST)
    anonymous: bool = False
    anonymous_role: str = field(default="observer", metadata=_choice("observer", "operator"))
    trust: str = field(default="list", metadata=_choice("list", "any"))
    instance_namespace: str = field(
        default="urn:mesbridge:machines",
        metadata={"pattern": (r"\S+:\S+", "a URI such as urn:plant:machines")},
    )
    application_name: str = "MESBridge"
    minimum_publishing_interval: float = field(default=10.0, metadata=_range(0, 60000, "ms"))
    activation_timeout: float = field(default=30.0, metadata=_range(1, 3600, "s"))
    stacklight: bool = False
    production_plan: bool = False
    type_dictionaries: bool = True
    limits: OpcUaLimits = field(default_factory=OpcUaLimits)


@dataclass(frozen=True, slots=True)
class IdentificationSettings:
    """``[identification]`` for all machines, ``[machine.identification]`` for one; all may be absent."""

    manufacturer: str | None = None
    model: str | None = None
    product_code: str | None = None
    serial_number: str | None = None
    product_instance_uri: str | None = None
    year_of_construction: int | None = field(default=None, metadata=_range(1980, 2200))
    initial_operation_date: date | None = None
    location: str | None = None
    asset_id: str | None = None


@dataclass(frozen=True, slots=True)
class FeedstockSettings:
    """``[[machine.feedstock]]``: what one tool of the machine is fed with; `tool` counts from 0."""

    tool: int = field(metadata=_range(0, 31))
    name: str | None = field(default=None, metadata={"printable": 128})
    material: str | None = field(default=None, metadata={"printable": 128})
    manufacturer: str | None = field(default=None, metadata={"printable": 128})
    identifier: str | None = field(default=None, metadata={"printable": 128})
    external_identifier: str | None = field(default=None, metadata={"printable": 128})


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """``[[machine]]``: what only the bridge needs to know of the config.json entry with this `url`."""

    url: str = field(metadata=_URL)
    identification: IdentificationSettings = field(default_factory=IdentificationSettings)
    feedstock: tuple[FeedstockSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class MesSettings:
    """``[[mes]]``: one MES instance, named in `mes_id` of config.json by its `id`. Times in seconds."""

    id: int = field(metadata=_range(0, 2**31))
    url: str = field(metadata=_URL)
    adapter: str = field(default="contract", metadata=_choice("contract", "cloudevents"))
    service_id: str | None = field(
        default=None, metadata={"pattern": (r"[A-Za-z0-9._~\-]+", "letters, digits, '.', '_', '~' and '-'")}
    )
    path: str = field(default="services/{service_id}", metadata=_PATH | _MAY_BE_EMPTY)
    token_file: Path | None = None
    token_env: str | None = None
    auth_header: str = field(
        default="Authorization", metadata={"pattern": (r"[A-Za-z0-9\-]+", "the name of an HTTP header")}
    )
    auth_scheme: str = field(
        default="Token",
        metadata={"pattern": (r"[A-Za-z0-9\-]*", "one word such as Token, or nothing")} | _MAY_BE_EMPTY,
    )
    timeout: float = field(default=10.0, metadata=_range(0.1, 300, "s"))
    connect_timeout: float = field(default=5.0, metadata=_range(0.1, 300, "s"))
    proxy: str | None = field(default=None, metadata=_PROXY | _MAY_BE_EMPTY)
    proxy_credentials_file: Path | None = None
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    heartbeat: float = field(default=10.0, metadata=_range(1, 3600, "s"))
    lease: float = field(default=30.0, metadata=_range(2, 7200, "s"))
    estimate_change: float = field(default=60.0, metadata=_range(1, 86400, "s"))


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file."""

    bridge: BridgeSettings = field(default_factory=BridgeSettings)
    push: PushSettings = field(default_factory=PushSettings)
    opcua: OpcUaSettings = field(default_factory=OpcUaSettings)
    web: WebSettings = field(default_factory=WebSettings)
    identification: IdentificationSettings = field(default_factory=IdentificationSettings)
    machine: tuple[MachineSettings, ...] = ()
    mes: tuple[MesSettings, ...] = ()

    def identification_of(self, url: str) -> IdentificationSettings:
        """What the settings say of the machine with this `url`: its own section before the common one."""
        own = next((m.identification for m in self.machine if _same_url(m.url, url)), None)
        if own is None:
            return self.identification
        said = {
            f.name: getattr(own, f.name) for f in dataclasses.fields(own) if getattr(own, f.name) is not None
        }
        return dataclasses.replace(self.identification, **said)

    def feedstock_of(self, url: str) -> tuple[FeedstockSettings, ...]:
        """What the settings say that the tools of the machine with this `url` are fed with."""
        return next((m.feedstock for m in self.machine if _same_url(m.url, url)), ())


def load(path: Path | None) -> Settings:
    """The settings in `path`, or the defaults without one. Relative paths count from the file's folder.

    Raises `SettingsError` with every problem found.
    """
    if path is None:
        return Settings()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(
            [f"{path}: cannot be read: {error.strerror}; give another file with --settings, or none at all"]
        ) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 text; save it as UTF-8"]) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: {error}; texts stand in quotes; {SAMPLE} shows every key"]) from None
    reader = _Reader(path, text)
    settings = typing.cast(Settings, reader.section(Settings, document, ()))
    reader.check_whole(settings)
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = _key_lines(text)
        self.problems: list[str] = []

    def refuse(self, where: tuple[str | int, ...], message: str) -> None:
        place = where
        while place and place not in self.lines:
            place = place[:-1]
        name = ".".join(str(part) for part in where if isinstance(part, str))
        self.problems.append(f"{self.path}:{self.lines.get(place, 1)}: {name}: {message}")

    def section(self, kind: type, table: Mapping[str, Any], where: tuple[str | int, ...]) -> Any:
        hints = typing.get_type_hints(kind)
        known = {f.name: f for f in dataclasses.fields(kind)}
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                self.refuse((*where, name), f"there is no such key; {advice}")
                continue
            checked = self.value(hints[name], known[name].metadata, value, (*where, name))
            if checked is not None:
                values[name] = checked
        for name, item in known.items():
            if (
                item.default is dataclasses.MISSING
                and item.default_factory is dataclasses.MISSING
                and name not in values
            ):
                if name not in table:
                    self.refuse((*where, name), "is missing; add it")
                values[name] = None
        return kind(**values)

    def value(self, hint: Any, rules: Mapping[str, Any], value: Any, where: tuple[str | int, ...]) -> Any:
        if isinstance(hint, types.UnionType):
            hint = next(option for option in typing.get_args(hint) if option is not type(None))
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                return self.refuse(where, f"a section [{where[-1]}] is expected, not a value")
            return self.section(typing.cast(type, hint), value, where)
        if typing.get_origin(hint) is tuple:
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                return self.refuse(where, f"sections [[{where[-1]}]] are expected")
            kind = typing.get_args(hint)[0]
            return tuple(self.section(kind, item, (*where, index)) for index, item in enumerate(value))
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        plain = str if hint is Path else hint
        if type(value) is not plain:
            names = {
                str: "a text in quotes",
                int: "a whole number",
                float: "a number",
                bool: "true or false",
                date: "a date such as 2024-05-01, without quotes,",
            }
            return self.refuse(where, f"{names[plain]} is expected")
        return self.rules(hint, rules, value, where)

    def rules(self, hint: Any, rules: Mapping[str, Any], value: Any, where: tuple[str | int, ...]) -> Any:
        if "range" in rules and not rules["range"][0] <= value <= rules["range"][1]:
            low, high = rules["range"]
            return self.refuse(where, f"a number from {low:g} to {high:g} is expected")
        if "choices" in rules and value not in rules["choices"]:
            return self.refuse(where, f"one of {', '.join(rules['choices'])} is expected")
        if "printable" in rules and not (value.isprintable() and 0 < len(value) <= rules["printable"]):
            return self.refuse(
                where, f"a text of at most {rules['printable']} printable characters is expected"
            )
        if "pattern" in rules and not re.fullmatch(rules["pattern"][0], value):
            return self.refuse(where, f"{rules['pattern'][1]} is expected")
        if "url" in rules and not _is_base_url(value):
            return self.refuse(
                where, "a URL such as https://mes.plant.example/api is expected, without password"
            )
        if hint is str and not value and "may_be_empty" not in rules:
            return self.refuse(where, "is empty; give a text or leave the key out")
        if hint is Path:
            return self.path.parent / Path(value).expanduser()
        return value

    def check_unique(self, where: tuple[str | int, ...], sections: tuple[Any, ...], key: str) -> None:
        seen: set[Any] = set()
        for index, section in enumerate(sections):
            value = getattr(section, key)
            if value is not None and value in seen:
                self.refuse((*where, index, key), f"{value} is there twice; give each section its own")
            seen.add(value)

    def check_whole(self, settings: Settings) -> None:
        push = settings.push
        if (push.certificate_file is None) != (push.private_key_file is None):
            self.refuse(
                ("push", "certificate_file"),
                "give certificate_file and private_key_file, or neither of them",
            )
        elif push.certificate_file is not None and not (push.https or settings.web.https):
            self.refuse(("push", "certificate_file"), "is for https: add https = true, or take it out")
        if settings.web.enabled and not settings.web.only_here and not settings.web.https:
            self.refuse(
                ("web", "host"),
                "others reach this address, and names and passwords would travel in clear: add https = true, or keep"
                " 127.0.0.1",
            )
        limits = settings.opcua.limits
        least = limits.sessions + CONNECTIONS_BESIDE_SESSIONS
        if limits.connections < least:
            self.refuse(
                ("opcua", "limits", "connections"),
                f"{limits.connections} are too few for {limits.sessions} sessions, each of which has a connection,"
                f" and {CONNECTIONS_BESIDE_SESSIONS} that ask what there is: give at least {least}, or fewer sessions",
            )
        for index, machine in enumerate(settings.machine):
            for key in ("tool", "identifier"):
                self.check_unique(("machine", index, "feedstock"), machine.feedstock, key)
        seen: set[int] = set()
        for index, mes in enumerate(settings.mes):
            where = ("mes", index)
            if mes.id in seen:
                self.refuse(
                    (*where, "id"), f"{mes.id} is there twice; give each MES instance an id of its own"
                )
            seen.add(mes.id)
            if (mes.token_file is None) == (mes.token_env is None):
                self.refuse((*where, "token_file"), "give either token_file or token_env, and not both")
            if mes.adapter == "contract" and "{service_id}" in mes.path and not mes.service_id:
                self.refuse(
                    (*where, "service_id"),
                    "is missing; add the one that the MES gave you, or a path without it, or another adapter",
                )
            for key in ("ca_file", "client_certificate_file"):
                if getattr(mes, key) is not None and not mes.url.lower().startswith("https:"):
                    self.refuse((*where, key), "is for https: change url, or take it out")
            for key, needed in _NEEDED:
                if getattr(mes, key) is not None and not getattr(mes, needed):
                    self.refuse((*where, key), f"is of no use alone: add {needed}, or take it out")
            if mes.lease <= mes.heartbeat:
                self.refuse(
                    (*where, "lease"), "must be longer than heartbeat, or the MES shows machines offline"
                )


_NEEDED = (("client_key_file", "client_certificate_file"), ("proxy_credentials_file", "proxy"))
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\-\s\"']+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"']+)\s*=")


def _key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Where sections and keys of a TOML text stand; only for messages, so that odd layouts may be missed."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    section: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            parts = [part.strip("\"' ") for part in header[2].split(".")]
            section = ()
            for place, part in enumerate(parts, 1):
                section = (*section, part)
                if header[1] == "[[" and place == len(parts):
                    counts[section] = counts.get(section, -1) + 1
                if section in counts:
                    section = (*section, counts[section])
            lines.setdefault(section, number)
        elif key := _KEY.match(line):
            lines.setdefault((*section, key[1].strip("\"'")), number)
    return lines


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    bare = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bare


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is one of those that no other computer reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_url(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()
