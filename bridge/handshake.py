"""Pairing: how a plugin hands its API key to a bridge over a network in which anybody may listen or interfere.

Both sides agree on a secret by Diffie-Hellman (ffdhe3072, RFC 7919) and show a person the same short code,
made of all that was said. The plugin commits to its number before it sees the bridge's, so that someone in
between has one guess in a million to make the two codes alike, and no second one. Only when the person has
compared the codes on both sides does the key travel, encrypted. Python 3.9 and the standard library only: the
plugin runs it inside OctoPrint.

    plugin                                bridge
    POST /pair      introduction     ->   (only while pairing is open)
                                     <-   answer: id, public number, nonce
    POST /pair/ID/reveal  reveal     ->   signed from here on, both ways, as pushes are
                                     <-   state           (only if the commitment fits)
    POST /pair/ID/state   {}         ->
                                     <-   state
    POST /pair/ID/key     sealed key ->   (only after the bridge's person has accepted)
                                     <-   state
    POST /pair/ID/cancel  state      ->   (CANCELLED: the plugin's person does not go on; in place of the key)
                                     <-   state

Over https the certificate that the plugin saw is part of what the code is made of.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge import wire

VERSION = 1
PATH = "/pair"
MAX_BODY_BYTES = 16 * 1024

WAITING = "waiting"
ACCEPTED = "accepted"
SERVED = "served"
REFUSED = "refused"
CANCELLED = "cancelled"
EXPIRED = "expired"
FAILED = "failed"
STATES = frozenset({WAITING, ACCEPTED, SERVED, REFUSED, CANCELLED, EXPIRED, FAILED})
"""`WAITING` for the bridge's person; `ACCEPTED`: send the key; `SERVED`: done; the others end it without a key."""

_PRIME = int(
    "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695a9e13641146433fbcc939dce249b3ef9"
    "7d2fe363630c75d8f681b202aec4617ad3df1ed5d5fd65612433f51f5f066ed0856365553ded1af3b557135e7f57c935"
    "984f0c70e0e68b77e2a689daf3efe8721df158a136ade73530acca4f483a797abc0ab182b324fb61d108a94bb2c8e3fb"
    "b96adab760d7f4681d4f42a3de394df4ae56ede76372bb190b07a7c8ee0a6d709e02fce1cdf7e2ecc03404cd28342f61"
    "9172fe9ce98583ff8e4f1232eef28183c3fe3b1b4c6fad733bb5fcbc2ec22005c58ef1837d1683b2c6f34a26c1b2effa"
    "886b4238611fcfdcde355b3b6519035bbc34f4def99c023861b46fc9d6e6c9077ad91d2691f7f7ee598cb0fac186d91c"
    "aefe130985139270b4130c93bc437944f4fd4452e2d74dd364f2e21e71f54bff5cae82ab9c9df69ee86d2bc522363a0d"
    "abc521979b0deada1dbf9a42d5c4484e0abcd06bfa53ddef3c1b20ee3fd59d7c25e41d2b66c62e37ffffffffffffffff",
    16,
)
"""The safe prime of the group ffdhe3072 (RFC 7919, appendix A.2); its generator is 2."""

_EXPONENT_BITS = 320
"""RFC 7919, section 5.2, asks for 275 at least."""

_SEAL_NONCE_BYTES = 16

_NONCE = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{8}")


class PairingError(ValueError):
    """What arrived is no sound part of a pairing; the text says what."""


@dataclass(frozen=True)
class Introduction:
    """What a plugin says of its OctoPrint.

    `certificate`: SHA-256 of the bridge's one, if it is to be pinned. `https`: whether the bridge is asked over https.
    """

    commitment: str
    uuid: str
    name: str
    url: str
    octoprint_version: str
    plugin_version: str
    certificate: str | None = None
    https: bool = False


@dataclass(frozen=True)
class Answer:
    """The bridge's half; `expires_in` in seconds."""

    id: str
    public: str
    nonce: str
    bridge_id: str
    bridge_name: str
    expires_in: float


@dataclass(frozen=True)
class Reveal:
    """What the plugin had committed to."""

    public: str
    nonce: str


@dataclass(frozen=True)
class State:
    """How a pairing stands; `message` is English and for people."""

    state: str
    message: str = ""


class Half:
    """One side's secret number and nonce, for one pairing."""

    def __init__(self) -> None:
        self._exponent = secrets.randbits(_EXPONENT_BITS) | 1 << (_EXPONENT_BITS - 1)
        self.public = f"{pow(2, self._exponent, _PRIME):x}"
        self.nonce = secrets.token_hex(16)

    def reveal(self) -> Reveal:
        return Reveal(self.public, self.nonce)

    def session(self, other: str, introduction: Introduction, answer: Answer, reveal: Reveal) -> Session:
        """What both sides share now; `other` is the other side's public number. Raises `PairingError`."""
        number = int(other, 16)
        if not 1 < number < _PRIME - 1:
            raise PairingError("public: a number within the group is expected")
        shared = pow(number, self._exponent, _PRIME).to_bytes(384, "big")
        said = [VERSION, asdict(introduction), asdict(answer), asdict(reveal)]
        transcript = hashlib.sha256(json.dumps(said, sort_keys=True).encode("utf-8")).digest()
        return Session(answer.id, hmac.new(transcript, shared, hashlib.sha256).digest())


def commitment(reveal: Reveal) -> str:
    """What binds the plugin to `reveal` without showing it."""
    return hashlib.sha256(f"{reveal.public}.{reveal.nonce}".encode("ascii")).hexdigest()


class Session:
    """The secret of one pairing, and what is derived from it (HKDF, RFC 5869). Its text shows no secret."""

    def __init__(self, identity: str, secret: bytes) -> None:
        self._secret = secret
        self.signing_key = wire.PushKey(f"pair-{identity}", self._derive(b"signature", 32))

    @property
    def code(self) -> str:
        """Six digits, for a person to compare: ``123-456``."""
        number = int.from_bytes(self._derive(b"code", 8), "big") % 1_000_000
        return f"{number // 1000:03}-{number % 1000:03}"

    def seal(self, text: str) -> str:
        """`text` encrypted and authenticated."""
        plain, nonce = text.encode("utf-8"), secrets.token_bytes(_SEAL_NONCE_BYTES)
        hidden = nonce + _xor(plain, self._derive(b"encryption " + nonce, len(plain)))
        return base64.b64encode(self._tag(hidden) + hidden).decode("ascii")

    def open(self, sealed: str) -> str:
        """The reverse of `seal`. Raises `PairingError`."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            tag, hidden = raw[:32], raw[32:]
            if len(hidden) > 1024 or not hmac.compare_digest(tag, self._tag(hidden)):
                raise PairingError("sealed: was not sealed by the other side of this pairing")
            nonce, hidden = hidden[:_SEAL_NONCE_BYTES], hidden[_SEAL_NONCE_BYTES:]
            return _xor(hidden, self._derive(b"encryption " + nonce, len(hidden))).decode("utf-8")
        except (TypeError, UnicodeError) as error:
            raise PairingError("sealed: was not sealed by the other side of this pairing") from error
        except ValueError as error:
            if isinstance(error, PairingError):
                raise
            raise PairingError("sealed: Base64 is expected") from error

    def _tag(self, hidden: bytes) -> bytes:
        return hmac.new(self._derive(b"authentication", 32), hidden, hashlib.sha256).digest()

    def _derive(self, purpose: bytes, length: int) -> bytes:
        block, derived, count = b"", b"", 0
        while len(derived) < length:
            count += 1
            content = block + b"MESBridge pairing 1 " + purpose + bytes([count])
            block = hmac.new(self._secret, content, hashlib.sha256).digest()
            derived += block
        return derived[:length]

    def __repr__(self) -> str:
        return f"Session({self.signing_key.key_id})"


# --------------------------------------------------------------------------- messages


def encode(message: Introduction | Answer | Reveal | State) -> bytes:
    """The body that carries `message`."""
    return json.dumps({"version": VERSION, **asdict(message)}).encode("utf-8")


def encode_sealed(sealed: str) -> bytes:
    """The body that carries the sealed key."""
    return json.dumps({"version": VERSION, "sealed": sealed}).encode("utf-8")


def decode_introduction(body: bytes) -> Introduction:
    """Raises `PairingError`, as all of these do, when anything is missing, too long or of another shape."""
    message = _load(body)
    certificate = message.get("certificate")
    return Introduction(
        commitment=_matching(message, "commitment", _DIGEST),
        uuid=_text(message, "uuid", 64),
        name=_text(message, "name", 128),
        url=_text(message, "url", 1024),
        octoprint_version=_text(message, "octoprint_version", 64),
        plugin_version=_text(message, "plugin_version", 64),
        certificate=None if certificate is None else _matching(message, "certificate", _DIGEST),
        https=_flag(message, "https"),
    )


def decode_answer(body: bytes) -> Answer:
    message = _load(body)
    expires_in = message.get("expires_in")
    if (
        isinstance(expires_in, bool)
        or not isinstance(expires_in, (int, float))
        or not 0 < expires_in <= 86400
    ):
        raise PairingError("expires_in: seconds are expected")
    return Answer(
        id=_matching(message, "id", _ID),
        public=_public(message),
        nonce=_matching(message, "nonce", _NONCE),
        bridge_id=_text(message, "bridge_id", 64),
        bridge_name=_text(message, "bridge_name", 128),
        expires_in=expires_in,
    )


def decode_reveal(body: bytes) -> Reveal:
    message = _load(body)
    return Reveal(public=_public(message), nonce=_matching(message, "nonce", _NONCE))


def decode_state(body: bytes) -> State:
    message = _load(body)
    state = message.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise PairingError("state: one of " + ", ".join(sorted(STATES)) + " is expected")
    return State(state, _text(message, "message", 2048))


def decode_sealed(body: bytes) -> str:
    return _text(_load(body), "sealed", 2048)


def new_pairing_id() -> str:
    """A fresh `Answer.id`."""
    return secrets.token_hex(4)


def _load(body: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise PairingError("body: JSON in UTF-8 is expected") from None
    if not isinstance(message, dict):
        raise PairingError("body: a JSON object is expected")
    if message.get("version") != VERSION:
        raise PairingError("version: install the same MESBridge version on both sides")
    return message


def _text(message: Mapping[str, Any], name: str, limit: int) -> str:
    value = message.get(name)
    if not isinstance(value, str) or len(value) > limit or not _is_sound(value):
        raise PairingError(f"{name}: a text of at most {limit} printable characters is expected")
    return value


def _flag(message: Mapping[str, Any], name: str) -> bool:
    value = message.get(name)
    if not isinstance(value, bool):
        raise PairingError(f"{name}: true or false is expected")
    return value


def _is_sound(text: str) -> bool:
    return all(character.isprintable() for character in text)


def _matching(message: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise PairingError(f"{name}: hexadecimal digits of a fixed length are expected")
    return value


def _public(message: Mapping[str, Any]) -> str:
    value = message.get("public")
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{1,768}", value):
        raise PairingError("public: a number within the group is expected")
    return value


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other))
