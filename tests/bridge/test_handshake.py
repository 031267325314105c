"""The handshake: both sides agree, and whoever changes anything on the way makes the codes differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dh
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import handshake
from bridge.handshake import Answer, Half, Introduction, PairingError, Reveal, Session, State

PLUGIN, BRIDGE = Half(), Half()
PRIME = handshake._PRIME

printable = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=80)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
introductions = st.builds(
    Introduction,
    commitment=st.just(handshake.commitment(PLUGIN.reveal())),
    uuid=printable.map(lambda text: text[:64]),
    name=printable.map(lambda text: text[:128]),
    url=printable,
    octoprint_version=printable.map(lambda text: text[:64]),
    plugin_version=printable.map(lambda text: text[:64]),
    certificate=st.none() | digests,
    https=st.booleans(),
)
answers = st.builds(
    Answer,
    id=st.text("0123456789abcdef", min_size=8, max_size=8),
    public=st.just(BRIDGE.public),
    nonce=st.just(BRIDGE.nonce),
    bridge_id=printable.map(lambda text: text[:64]),
    bridge_name=printable.map(lambda text: text[:128]),
    expires_in=st.floats(0.1, 86400) | st.integers(1, 86400),
)
INTRODUCTION = Introduction(
    handshake.commitment(PLUGIN.reveal()), "u", "MK4", "http://h:1", "1.11.8", "0.1.0"
)
ANSWER = Answer("01234567", BRIDGE.public, BRIDGE.nonce, "bridge-1", "Hall 3", 600.0)


def sessions(
    introduction: Introduction = INTRODUCTION, answer: Answer = ANSWER, reveal: Reveal | None = None
) -> tuple[Session, Session]:
    """The plugin's session, which knows what it said itself, and the bridge's, with what arrived of it."""
    arrived = reveal or PLUGIN.reveal()
    return (
        PLUGIN.session(ANSWER.public, INTRODUCTION, ANSWER, PLUGIN.reveal()),
        BRIDGE.session(arrived.public, introduction, answer, arrived),
    )


def test_the_prime_is_that_of_ffdhe3072() -> None:
    # RFC 7919, A.2: p = 2^3072 - 2^3008 + ([2^2942 * e] + 2625351) * 2^64 - 1
    assert 2**3072 - 2**3008 + (_floor_of_e(2942) + 2625351) * 2**64 - 1 == PRIME


def _floor_of_e(bits: int) -> int:
    """The whole part of 2^bits * e."""
    spare = 64
    term, total, n = 1 << (bits + spare), 0, 0
    while term:
        total += term
        n += 1
        term //= n
    return total >> spare


@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
def test_another_implementation_agrees_on_the_secret() -> None:
    parameters = dh.DHParameterNumbers(PRIME, 2).parameters()
    theirs = parameters.generate_private_key()
    public = theirs.public_key().public_numbers().y
    mine = dh.DHPublicNumbers(int(PLUGIN.public, 16), parameters.parameter_numbers()).public_key()
    assert int.from_bytes(theirs.exchange(mine), "big") == pow(public, PLUGIN._exponent, PRIME)


@settings(deadline=None, max_examples=30)
@given(introductions, answers, st.text(max_size=250))
def test_both_sides_agree_after_everything_has_travelled(
    introduction: Introduction, answer: Answer, text: str
) -> None:
    introduction_there = handshake.decode_introduction(handshake.encode(introduction))
    answer_there = handshake.decode_answer(handshake.encode(answer))
    reveal_there = handshake.decode_reveal(handshake.encode(PLUGIN.reveal()))
    assert handshake.commitment(reveal_there) == introduction_there.commitment
    plugin = PLUGIN.session(answer_there.public, introduction, answer_there, PLUGIN.reveal())
    bridge = BRIDGE.session(reveal_there.public, introduction_there, answer, reveal_there)
    assert plugin.code == bridge.code
    assert plugin.signing_key == bridge.signing_key
    sealed = handshake.decode_sealed(handshake.encode_sealed(plugin.seal(text)))
    assert bridge.open(sealed) == text


CHANGES: list[Callable[[], tuple[Session, Session]]] = [
    *(
        lambda name=name: sessions(introduction=replace(INTRODUCTION, **{name: "f" * 64}))  # type: ignore[misc]
        for name in asdict(INTRODUCTION)
    ),
    *(
        lambda name=name: sessions(answer=replace(ANSWER, **{name: "f" * 32}))  # type: ignore[misc]
        for name in asdict(ANSWER)
        if name != "expires_in"
    ),
    lambda: sessions(answer=replace(ANSWER, expires_in=601.0)),
    lambda: sessions(reveal=Reveal(Half().public, PLUGIN.nonce)),
    lambda: sessions(reveal=Reveal(PLUGIN.public, "f" * 32)),
    lambda: sessions(reveal=Reveal("0" + PLUGIN.public, PLUGIN.nonce)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_on_the_way_makes_another_code_and_another_session(
    change: Callable[[], tuple[Session, Session]],
) -> None:
    plugin, bridge = change()
    assert plugin.signing_key.secret != bridge.signing_key.secret
    assert plugin.code != bridge.code  # by chance equal once in a million runs
    with pytest.raises(PairingError, match="not sealed by the other side"):
        bridge.open(plugin.seal("key"))


def test_someone_in_between_shares_a_secret_with_each_side_but_shows_two_codes() -> None:
    middle = Half()
    his_introduction = replace(INTRODUCTION, commitment=handshake.commitment(middle.reveal()))
    his_answer = replace(ANSWER, public=middle.public, nonce=middle.nonce)
    plugin = PLUGIN.session(his_answer.public, INTRODUCTION, his_answer, PLUGIN.reveal())
    with_plugin = middle.session(PLUGIN.public, INTRODUCTION, his_answer, PLUGIN.reveal())
    bridge = BRIDGE.session(middle.public, his_introduction, ANSWER, middle.reveal())
    with_bridge = middle.session(BRIDGE.public, his_introduction, ANSWER, middle.reveal())
    assert plugin.signing_key == with_plugin.signing_key
    assert bridge.signing_key == with_bridge.signing_key
    assert plugin.code != bridge.code


def test_a_commitment_binds_to_number_and_nonce() -> None:
    said = PLUGIN.reveal()
    assert handshake.commitment(said) != handshake.commitment(replace(said, nonce=BRIDGE.nonce))
    assert handshake.commitment(said) != handshake.commitment(replace(said, public=BRIDGE.public))
    assert handshake.commitment(said) == handshake.commitment(Reveal(said.public, said.nonce))


@pytest.mark.parametrize("number", [0, 1, PRIME - 1, PRIME, PRIME + 1, 2 * PRIME - 1, 2**3072 - 1])
def test_a_number_that_would_make_the_secret_known_is_refused(number: int) -> None:
    with pytest.raises(PairingError, match="within the group"):
        BRIDGE.session(f"{number:x}", INTRODUCTION, ANSWER, PLUGIN.reveal())


def test_each_half_is_new_and_within_the_group() -> None:
    halves = [Half() for _ in range(5)]
    assert len({half.public for half in halves}) == len({half.nonce for half in halves}) == 5
    assert all(half._exponent.bit_length() == handshake._EXPONENT_BITS for half in halves)
    # A number of the group of prime order: nothing of the exponent shows in it.
    assert all(pow(int(half.public, 16), (PRIME - 1) // 2, PRIME) == 1 for half in halves)


def test_the_code_has_six_digits_and_leading_zeros() -> None:
    code = sessions()[0].code
    assert len(code) == 7
    assert code[3] == "-"
    assert (code[:3] + code[4:]).isdecimal()
    codes = {Session("x", bytes([n])).code for n in range(200)}
    assert len(codes) > 195
    assert any(code.startswith("0") for code in codes)


def test_what_was_sealed_opens_nowhere_else_and_not_when_changed() -> None:
    plugin, bridge = sessions()
    sealed = base64.b64decode(plugin.seal("the key"))
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(PairingError):
            bridge.open(base64.b64encode(changed).decode())
    for cut in (0, 31, 32, 40, len(sealed) - 1):
        with pytest.raises(PairingError):
            bridge.open(base64.b64encode(sealed[:cut]).decode())
    for odd in ("", "no base64!", "ä", "A", "=" * 8):
        with pytest.raises(PairingError):
            bridge.open(odd)
    with pytest.raises(PairingError):
        Session("01234567", b"another secret").open(plugin.seal("the key"))


def test_sealing_twice_shows_neither_that_it_was_the_same_nor_the_difference() -> None:
    plugin, bridge = sessions()
    one, other = (base64.b64decode(plugin.seal(text))[48:] for text in ("A" * 32, "B" * 32))
    assert bytes(a ^ b for a, b in zip(one, other, strict=True)) != bytes([ord("A") ^ ord("B")]) * 32
    assert plugin.seal("A") != plugin.seal("A")
    assert b"AAAA" not in base64.b64decode(plugin.seal("A" * 100))
    assert bridge.open(plugin.seal("A")) == "A"


def test_no_secret_shows_in_a_text() -> None:
    session = sessions()[0]
    assert repr(session) == str(session) == "Session(pair-01234567)"
    assert session.signing_key.secret.hex() not in repr(session.signing_key)


MESSAGES: list[tuple[Callable[[bytes], Any], Any]] = [
    (handshake.decode_introduction, INTRODUCTION),
    (handshake.decode_answer, ANSWER),
    (handshake.decode_reveal, PLUGIN.reveal()),
    (handshake.decode_state, State("waiting", "compare")),
]


@pytest.mark.parametrize(("decode", "message"), MESSAGES)
def test_a_message_arrives_as_it_was_sent(decode: Callable[[bytes], Any], message: Any) -> None:
    assert decode(handshake.encode(message)) == message


ODD: list[Any] = [None, 7, True, [], {}, "x" * 5000, "line\nbreak", "\x1b[2J", "\u202egnp", "\ud800", "\x00"]


@pytest.mark.parametrize(("decode", "message"), MESSAGES)
def test_a_message_with_one_bad_field_is_refused_and_the_field_is_named(
    decode: Callable[[bytes], Any], message: Any
) -> None:
    sound = json.loads(handshake.encode(message))
    for name in asdict(message):
        for odd in ODD:
            if (name, odd) in (("certificate", None), ("expires_in", 7), ("https", True)):
                continue
            with pytest.raises(PairingError, match=name):
                decode(json.dumps(sound | {name: odd}).encode())
    for odd in (0, -1, 86401, float("nan"), float("inf")):
        if "expires_in" in sound:
            with pytest.raises(PairingError, match="expires_in"):
                decode(json.dumps(sound | {"expires_in": odd}).encode())


@pytest.mark.parametrize("decode", [one for one, _ in MESSAGES] + [handshake.decode_sealed])
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"null", b'"x"', b"[" * 15000, b"{}", b'{"version": 2}', b"9" * 15000],
)
def test_what_is_no_message_of_this_version_is_refused(decode: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(PairingError):
        decode(body)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(
        ["commitment", "name", "public", "nonce", "id", "state", "message", "sealed", "expires_in"]
    ),
)
def test_nothing_that_arrives_makes_the_reading_fail_in_another_way(value: Any, name: str) -> None:
    for decode, message in MESSAGES:
        body = json.loads(handshake.encode(message)) | {name: value}
        try:
            decoded = decode(json.dumps(body).encode())
        except PairingError:
            continue
        assert type(decoded) is type(message)
