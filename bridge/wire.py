"""What travels between the plugin and the bridge, and the signature that protects it.

In flows what either side wants to say, out flows what may be put on the network, and the way back:
whatever arrives is checked here, once, and is typed from then on. Python 3.9 and the standard library
only, because the plugin runs it inside OctoPrint.

A plugin pushes *batches*. A batch belongs to one *instance* (one run of the plugin) and covers the
sequence numbers ``after + 1 .. through`` of that instance. The events listed are those of that range
that still matter; a missing number was superseded by a later event of its kind, on purpose. A batch
whose ``after`` is beyond what the bridge holds means loss. What the plugin still has of it (from ``kept_from``
on) it sends again, when the bridge acknowledges a number before ``after``; for the rest the bridge asks for a
snapshot. An empty batch is a sign of life.

Both directions are signed as Standard Webhooks describes it (``webhook-id``, ``webhook-timestamp``,
``webhook-signature: v1,<base64 HMAC-SHA256>``) with a secret derived from the machine's API key; the key
itself never travels in a push.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

VERSION = 1
PATH = "/push"
MAX_BODY_BYTES = 1 << 20
MAX_EVENTS = 500
MAX_FILES = 100
TOLERANCE_S = 300

KEY_ID_HEADER = "MESBridge-Key-Id"
ID_HEADER = "Webhook-Id"
TIMESTAMP_HEADER = "Webhook-Timestamp"
SIGNATURE_HEADER = "Webhook-Signature"

STATES = frozenset(
    {
        "disconnected",
        "connecting",
        "error",
        "operational",
        "transferring",
        "starting",
        "printing",
        "pausing",
        "paused",
        "resuming",
        "finishing",
        "cancelling",
    }
)
RESULTS = frozenset({"completed", "cancelled", "failed"})

SNAPSHOT = "snapshot"
STATE = "state"
JOB_STARTED = "job_started"
JOB_PAUSED = "job_paused"
JOB_RESUMED = "job_resumed"
JOB_ENDED = "job_ended"
PROGRESS = "progress"
HEATERS = "heaters"
FILES = "files"
FEEDSTOCK = "feedstock"
FILAMENT_CHANGE = "filament_change"
ERROR = "error"
SHUTDOWN = "shutdown"

COALESCED = frozenset({PROGRESS, HEATERS, FILES, FEEDSTOCK})
"""Kinds of which only the newest waiting event matters; all others are kept, in order."""


class WireError(ValueError):
    """Something that arrived is not what this module describes; the text says where and what."""


class SignatureError(Exception):
    """A message whose origin or age cannot be trusted; `reason` is ``missing``, ``forged`` or ``clock``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# --------------------------------------------------------------------------- times


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(timezone.utc)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: ``2026-11-23T19:17:13.000000Z``."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """The reverse of `format_time`; any RFC 3339 offset is accepted. Raises `ValueError`."""
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    if moment.tzinfo is None:
        raise ValueError(f"time without an offset: {text!r}")
    return moment.astimezone(timezone.utc)


# --------------------------------------------------------------------------- payloads

_Check = Callable[[Any, str], Any]

# JSON can spell half a character ("\\ud800"), and so can the name of a file; neither SQLite nor UTF-8 can.
_SURROGATES = re.compile("[\ud800-\udfff]")


def _text(limit: int) -> _Check:
    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > limit:
            raise WireError(f"{where}: a text of at most {limit} characters is expected")
        if _SURROGATES.search(value):
            raise WireError(f"{where}: a text that UTF-8 can carry is expected")
        return value

    return check


def _one_of(allowed: frozenset[str]) -> _Check:
    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise WireError(f"{where}: one of {', '.join(sorted(allowed))} is expected")
        return value

    return check


def _number(low: float = -math.inf, high: float = math.inf) -> _Check:
    def check(value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise WireError(f"{where}: a number between {low:g} and {high:g} is expected")
        if not math.isfinite(value):
            raise WireError(f"{where}: a finite number is expected")
        return value

    return check


def _whole(low: int, high: int) -> _Check:
    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WireError(f"{where}: a whole number between {low} and {high} is expected")
        return value

    return check


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise WireError(f"{where}: true or false is expected")
    return value


def _time(value: Any, where: str) -> str:
    try:
        return format_time(parse_time(value))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise WireError(f"{where}: a time such as 2026-11-23T19:17:13Z is expected") from None


def _optional(check: _Check) -> _Check:
    return lambda value, where: None if value is None else check(value, where)


def _record(**fields: _Check) -> _Check:
    """An object with these fields; a missing one counts as null, an unknown one is refused."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WireError(f"{where}: an object is expected")
        for name in value:
            if name not in fields:
                raise WireError(f"{where}.{name}: unknown; the bridge may be older than the plugin")
        return {name: field(value.get(name), f"{where}.{name}") for name, field in fields.items()}

    return check


def _table(check_value: _Check, limit: int = 64) -> _Check:
    name = _text(64)

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > limit:
            raise WireError(f"{where}: an object of at most {limit} entries is expected")
        return {name(key, where): check_value(item, f"{where}.{key}") for key, item in value.items()}

    return check


def _list(check_item: _Check, limit: int) -> _Check:
    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > limit:
            raise WireError(f"{where}: a list of at most {limit} entries is expected")
        return [check_item(item, f"{where}[{index}]") for index, item in enumerate(value)]

    return check


_LONGEST = 1e9
_seconds = _number(0, _LONGEST)
_percent = _number(0, 100)
_celsius = _number(-300, 5000)
_name = _text(512)
_run = _text(64)
_layer = _whole(0, 1 << 31)

_heaters = _table(_record(actual=_optional(_celsius), target=_optional(_celsius)))
_filament = _table(_record(length=_optional(_number(0, _LONGEST)), volume=_optional(_number(0, _LONGEST))))
_job = _record(
    run=_run,
    file=_name,
    path=_optional(_text(4096)),
    origin=_optional(_text(64)),
    size=_optional(_whole(0, 1 << 53)),
    started=_time,
    estimated_print_time=_optional(_seconds),
    filament=_optional(_filament),
)
_progress = _record(
    run=_optional(_run),
    completion=_optional(_percent),
    print_time=_optional(_seconds),
    print_time_left=_optional(_seconds),
    layer=_optional(_layer),
    layers=_optional(_layer),
)
_file = _record(
    path=_text(4096),
    size=_optional(_whole(0, 1 << 53)),
    date=_optional(_time),
    estimated_print_time=_optional(_seconds),
    filament=_optional(_filament),
)
_spool = _record(
    identifier=_optional(_name),
    name=_optional(_name),
    material=_optional(_name),
    manufacturer=_optional(_name),
    remaining=_optional(_number(-_LONGEST, _LONGEST)),
)
_profile = _record(
    name=_optional(_name),
    model=_optional(_name),
    extruders=_whole(0, 32),
    heated_bed=_flag,
    heated_chamber=_flag,
)
_printer = _record(
    uuid=_optional(_text(64)),
    name=_optional(_name),
    octoprint_version=_text(64),
    plugin_version=_optional(_text(64)),
    firmware=_optional(_name),
    profile=_profile,
    identity=_table(_name),
)

PAYLOADS: Mapping[str, _Check] = {
    SNAPSHOT: _record(
        reason=_one_of(frozenset({"start", "connected", "requested"})),
        state=_one_of(STATES),
        error=_optional(_text(2048)),
        job=_optional(_job),
        progress=_optional(_progress),
        heaters=_heaters,
        printer=_printer,
    ),
    STATE: _record(state=_one_of(STATES), error=_optional(_text(2048))),
    JOB_STARTED: _job,
    JOB_PAUSED: _record(run=_run),
    JOB_RESUMED: _record(run=_run),
    JOB_ENDED: _record(
        run=_run,
        result=_one_of(RESULTS),
        reason=_optional(_text(2048)),
        print_time=_optional(_seconds),
        completion=_optional(_percent),
    ),
    PROGRESS: _progress,
    HEATERS: _record(heaters=_heaters),
    FILES: _record(files=_list(_file, MAX_FILES)),
    FEEDSTOCK: _record(tools=_table(_spool, 32)),
    FILAMENT_CHANGE: _record(run=_optional(_run)),
    ERROR: _record(text=_text(2048)),
    SHUTDOWN: _record(),
}
"""Per kind, the check of its data. Units: seconds, percent, degrees Celsius, bytes; of filament mm, cm³ and g.

``job.run`` is made new by the plugin for each print and names it for ever; ``job.started`` is when the print
began, by the clock of the machine that runs OctoPrint. ``heaters`` are OctoPrint's own names (``tool0``,
``bed``, ``chamber``). ``printer.uuid`` stays the same for the life of an OctoPrint installation;
it and ``printer.plugin_version`` are null where no plugin is there to tell them.
``files`` are the newest of the files that the printer can print, at most `MAX_FILES`; ``layer`` is the layer that is
being printed, from 1, of ``layers``; ``tools`` are the spools that are mounted, by OctoPrint's name of the tool.
A snapshot says nothing of files and spools: they follow it, where they are known.
"""


# --------------------------------------------------------------------------- messages


@dataclass(frozen=True)
class Event:
    """One thing that happened, at `time` by the printer's clock; `seq` orders it within its instance."""

    seq: int
    time: datetime
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """What one push says: the numbers ``after + 1 .. through`` of `instance`; see the module's text.

    `kept_from` is the number from which on the plugin can send everything again; None when it cannot.
    """

    instance: str
    after: int
    through: int
    events: tuple[Event, ...]
    sent: datetime
    kept_from: int | None = None

    def rewindable(self, known: int) -> bool:
        """Whether numbers are missing between those `known` and these, and the plugin can send some of them again."""
        return self.kept_from is not None and max(known + 1, self.kept_from) <= self.after


@dataclass(frozen=True)
class Reply:
    """The bridge's answer: everything up to `ack` is durable; `snapshot` asks for a full picture."""

    ack: int
    snapshot: bool


_SEQ = _whole(0, 1 << 53)
_INSTANCE = re.compile(r"[!-9;-~]{1,64}")


def _instance(value: Any) -> str:
    """It becomes a part of keys that travel on in headers, where only ASCII passes, with colons between the parts."""
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value):
        raise WireError(
            "instance: 1 to 64 printable ASCII characters, without blanks and colons, are expected"
        )
    return value


def encode_batch(batch: Batch) -> bytes:
    """The body of a push."""
    return _dump(
        {
            "version": VERSION,
            "instance": batch.instance,
            "after": batch.after,
            "through": batch.through,
            "sent": format_time(batch.sent),
            **({} if batch.kept_from is None else {"kept_from": batch.kept_from}),
            "events": [
                {"seq": e.seq, "time": format_time(e.time), "kind": e.kind, "data": e.data}
                for e in batch.events
            ],
        }
    )


def decode_batch(body: bytes) -> Batch:
    """The batch in `body`, checked to the last field. Raises `WireError`."""
    message = _load(body)
    version = message.get("version")
    if version != VERSION:
        raise WireError(f"version: {VERSION} is expected; install the same MESBridge version on both sides")
    instance = _instance(message.get("instance"))
    after = _SEQ(message.get("after"), "after")
    through = _SEQ(message.get("through"), "through")
    sent = parse_time(_time(message.get("sent"), "sent"))
    kept_from = _optional(_SEQ)(message.get("kept_from"), "kept_from")
    listed = message.get("events")
    if through < after:
        raise WireError("after, through: a range of numbers is expected")
    if not isinstance(listed, list) or len(listed) > MAX_EVENTS:
        raise WireError(f"events: a list of at most {MAX_EVENTS} events is expected")
    events = []
    last = after
    for index, item in enumerate(listed):
        event = _event(item, f"events[{index}]")
        if not last < event.seq <= through:
            raise WireError(f"events[{index}].seq: numbers must rise within after + 1 .. through")
        last = event.seq
        events.append(event)
    return Batch(instance, after, through, tuple(events), sent, kept_from)


def _event(item: Any, where: str) -> Event:
    if not isinstance(item, dict):
        raise WireError(f"{where}: an object is expected")
    kind = item.get("kind")
    check = PAYLOADS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise WireError(f"{where}.kind: unknown; the bridge may be older than the plugin: upgrade the bridge")
    return Event(
        seq=_SEQ(item.get("seq"), f"{where}.seq"),
        time=parse_time(_time(item.get("time"), f"{where}.time")),
        kind=str(kind),
        data=check(item.get("data"), f"{where}.data"),
    )


def encode_reply(reply: Reply) -> bytes:
    """The body of the answer to a push."""
    return _dump({"ack": reply.ack, "snapshot": reply.snapshot})


def decode_reply(body: bytes) -> Reply:
    """The reverse of `encode_reply`. Raises `WireError`."""
    message = _load(body)
    return Reply(ack=_SEQ(message.get("ack"), "ack"), snapshot=_flag(message.get("snapshot"), "snapshot"))


def _dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def _load(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise WireError("body: JSON in UTF-8 is expected") from None
    if not isinstance(message, dict):
        raise WireError("body: a JSON object is expected")
    return message


# --------------------------------------------------------------------------- signature


@dataclass(frozen=True)
class PushKey:
    """What both sides derive from an API key: a public `key_id` and the `secret` that signs."""

    key_id: str
    secret: bytes

    @classmethod
    def derive(cls, api_key: str) -> PushKey:
        """The same on both sides; neither value leads back to the key."""
        key = api_key.encode("utf-8")
        name = hmac.new(key, b"MESBridge key id 1", hashlib.sha256).hexdigest()[:24]
        return cls(name, hmac.new(key, b"MESBridge push secret 1", hashlib.sha256).digest())

    def __repr__(self) -> str:
        return f"PushKey({self.key_id})"


def new_message_id() -> str:
    """A fresh ``webhook-id``."""
    return "msg_" + secrets.token_hex(12)


def sign(key: PushKey, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers that make `body` a push that the bridge believes."""
    timestamp = int(moment.timestamp())
    return {
        KEY_ID_HEADER: key.key_id,
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: _signature(key, message_id, timestamp, body),
    }


def verify(key: PushKey, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Check a push and return its ``webhook-id``. Raises `SignatureError`.

    `headers` must compare names without case, as those of aiohttp and requests do.
    """
    message_id, timestamp, given = (headers.get(n) for n in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if not message_id or not timestamp or not given or not timestamp.isdecimal() or len(timestamp) > 12:
        raise SignatureError("missing", "the signature headers are missing or malformed")
    if not message_id.isascii():  # a server may have put what cannot be encoded there
        raise SignatureError("missing", "the signature headers are malformed")
    expected = _signature(key, message_id, int(timestamp), body).encode()
    matches = [hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in given.split(" ")[:8]]
    if not any(matches):
        raise SignatureError("forged", "the signature does not fit the message and the key")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise SignatureError("clock", f"the message's time is more than {TOLERANCE_S} s away from this clock")
    return message_id


def sign_reply(key: PushKey, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers that make `body` the answer to the push `message_id`, and to no other."""
    return sign(key, _reply_id(message_id), moment, body)


def verify_reply(key: PushKey, message_id: str, headers: Mapping[str, str], body: bytes) -> datetime:
    """Check the answer to the push `message_id`; returns the bridge's clock. Raises `SignatureError`.

    An answer is bound to one push by its id, so that its age needs no check: a plugin whose clock is wrong
    learns the bridge's time from it.
    """
    stamped = headers.get(TIMESTAMP_HEADER) or ""
    moment = (
        datetime.fromtimestamp(int(stamped), timezone.utc)
        if stamped.isdecimal() and len(stamped) < 11
        else None
    )
    if moment is None or headers.get(ID_HEADER) != _reply_id(message_id):
        raise SignatureError(
            "missing", "the answer is not signed: something other than the bridge may have sent it"
        )
    verify(key, headers, body, moment)
    return moment


def _reply_id(message_id: str) -> str:
    return message_id + ".reply"


def _signature(key: PushKey, message_id: str, timestamp: int, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key.secret, content, hashlib.sha256).digest()).decode("ascii")
