"""The bridge's side of pairing: in come plugins that want to hand over their key, out come keys to adopt.

The protocol is that of `bridge.handshake`. A `PairingDesk` keeps all requests in memory, shows them to the
bridge's person, and hands an accepted one's key to whoever writes it down and serves the machine. Everything
that arrives is untrusted until the person has compared the codes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from bridge import handshake, wire
from bridge.aggregator import Secret
from bridge.handshake import ACCEPTED, CANCELLED, EXPIRED, FAILED, REFUSED, SERVED, WAITING

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

LONGEST_OPEN_MINUTES = 24 * 60
REQUEST_LASTS = timedelta(minutes=10)
MOST_AT_ONCE = 20
MOST_OF_ONE_ADDRESS = 3
MOST_IN_VAIN = 40
"""So many requests may come to nothing in one opening. Each is a guess in a million for someone in between: he
knows the code of a request of his own before he shows his number to the bridge, and may drop it and ask again."""

MOST_MESSAGES = 2000
"""Of one request: many times what a plugin needs, which asks every two seconds."""

_BODY_WITHIN_S = 10.0
_LONGEST_MESSAGE_ID = 64
_ENDED = frozenset({SERVED, REFUSED, CANCELLED, EXPIRED, FAILED})
_KEY_LENGTH = range(16, 257)
_TO_COMPARE = "compare the code here and in OctoPrint; if they are alike: `mesbridge pair accept {}`"
_UNNAMED = "octoprint"
"""What a plugin calls an OctoPrint that its owner gave no name, in lower case."""

_TO_CONFIRM = "accepted; the key comes when the codes are confirmed in OctoPrint, too"


class PairingRefused(Exception):
    """What the bridge's person asked for cannot be done; the text says why, and what to do."""


class AdoptionError(Exception):
    """A key that was handed over cannot be written down or served; the text is shown on both sides."""


@dataclass(frozen=True, slots=True)
class Request:
    """A plugin's wish to be paired, as it is shown to the bridge's person; times are UTC.

    `code` is None until the plugin has revealed its number; `message` says what comes next, or how it ended.
    """

    id: str
    code: str | None
    name: str
    url: str
    uuid: str
    address: str
    octoprint_version: str
    plugin_version: str
    state: str
    since: datetime
    expires: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is to be adopted. `mes_ids` is None when the person did not name any."""

    id: str
    uuid: str
    name: str
    url: str
    mes_ids: tuple[int, ...] | None
    key: Secret


@dataclass(slots=True)
class _Pairing:
    """One request, from its introduction to its end."""

    half: handshake.Half = field(repr=False)
    introduction: handshake.Introduction
    answer: handshake.Answer
    address: str
    since: datetime
    expires: datetime
    state: str = WAITING
    message: str = "the plugin has not shown its number yet"
    session: handshake.Session | None = None
    reckoned: handshake.Session | None = None
    url: str = ""
    name: str = ""
    mes_ids: tuple[int, ...] | None = None
    adopting: bool = False
    seen: set[str] = field(default_factory=set)

    def shown(self) -> Request:
        said = self.introduction
        return Request(
            id=self.answer.id,
            code=None if self.session is None else self.session.code,
            name=self.name,
            url=self.url,
            uuid=said.uuid,
            address=self.address,
            octoprint_version=said.octoprint_version,
            plugin_version=said.plugin_version,
            state=self.state,
            since=self.since,
            expires=self.expires,
            message=self.message,
        )

    def logged(self) -> dict[str, str]:
        """What every line of the log says of it: the code, too, as soon as there is one. It is no secret."""
        code = {} if self.session is None else {"code": self.session.code}
        return {
            "request": self.answer.id,
            **code,
            "name": self.name,
            "url": self.url,
            "address": self.address,
        }


class PairingDesk:
    """Takes requests while it is open, and lets a person accept or refuse each.

    `certificate` is the SHA-256 of the bridge's own certificate (hexadecimal), None over plain http. `adopt` is
    awaited with each key that was handed over, one at a time; it returns what to tell the people, or raises
    `AdoptionError`. `clock` gives the present moment, aware.
    """

    def __init__(
        self,
        bridge_id: str,
        bridge_name: str,
        certificate: str | None,
        adopt: Callable[[Accepted], Awaitable[str]],
        clock: Callable[[], datetime] = wire.utc_now,
    ) -> None:
        self._bridge_id = bridge_id
        self.name_bridge(bridge_name)
        self.certificate = certificate
        self._adopt = adopt
        self._clock = clock
        self._open_until: datetime | None = None
        self._tries_left = 0
        self._pairings: dict[str, _Pairing] = {}
        self._one_at_a_time = asyncio.Lock()

    def name_bridge(self, name: str) -> None:
        """What plugins are shown as the bridge's name from now on."""
        self._bridge_name = _printable(name)[:128]

    # ----------------------------------------------------------------- the bridge's person

    def open(self, minutes: float) -> datetime:
        """Take requests for so long; returns until when. Raises `PairingRefused`."""
        if not 0 < minutes <= LONGEST_OPEN_MINUTES:
            raise PairingRefused(
                f"pairing can be open for more than 0 and at most {LONGEST_OPEN_MINUTES} minutes"
            )
        self._open_until = self._clock() + timedelta(minutes=minutes)
        self._tries_left = MOST_IN_VAIN
        log.info("pairing is open", until=wire.format_time(self._open_until))
        return self._open_until

    def close(self) -> None:
        """Take no more requests; those that are there go on."""
        if self.is_open:
            log.info("pairing is closed")
        self._open_until = None

    @property
    def is_open(self) -> bool:
        return self.open_until is not None

    @property
    def open_until(self) -> datetime | None:
        """None when pairing is closed."""
        if self._open_until is not None and self._clock() >= self._open_until:
            log.info("pairing is closed: its time is over")
            self._open_until = None
        return self._open_until

    def requests(self) -> list[Request]:
        """All that are known, the oldest first; one that has ended is kept for some minutes."""
        self._tidy()
        return [one.shown() for one in self._pairings.values()]

    def accept(
        self,
        request_id: str,
        url: str | None = None,
        mes_ids: tuple[int, ...] | None = None,
        name: str | None = None,
    ) -> Request:
        """Let the plugin hand over its key. What is given counts instead of what the plugin says of itself.

        A machine without a name is called as its address is. Raises `PairingRefused`.
        """
        one = self._waiting(request_id)
        if one.session is None:
            raise PairingRefused(f"request {request_id} has no code to compare yet; try again in a moment")
        url = one.url if url is None else url.strip()
        if name is None:
            name = "" if one.name.strip().lower() == _UNNAMED else one.name
        name = name.strip()
        if not _is_url(url):
            raise PairingRefused(
                f"under which address does the bridge reach this OctoPrint? {_shown(url)} is none;"
                " say it with --url, such as http://192.168.1.41:5000"
            )
        if not name.isprintable():
            raise PairingRefused("the name contains a control or invisible character; choose another one")
        if mes_ids is not None and not mes_ids:
            raise PairingRefused("name at least one MES instance, such as 1")
        one.url, one.name, one.mes_ids = url, name or url.partition("://")[2].rstrip("/"), mes_ids
        one.state, one.message = ACCEPTED, _TO_CONFIRM
        log.info("pairing accepted", **one.logged())
        return one.shown()

    def refuse(self, request_id: str) -> Request:
        """End a request without a key. Raises `PairingRefused`."""
        one = self._known(request_id)
        if one.state in _ENDED or one.adopting:
            raise PairingRefused(f"request {request_id} has ended already: {one.state}")
        self._end(one, REFUSED, "refused at the bridge")
        return one.shown()

    def _known(self, request_id: str) -> _Pairing:
        self._tidy()
        one = self._pairings.get(request_id)
        if one is None:
            raise PairingRefused(
                f"there is no request {_shown(request_id)}; to see those there are: `mesbridge pair list`"
            )
        return one

    def _waiting(self, request_id: str) -> _Pairing:
        one = self._known(request_id)
        if one.state != WAITING:
            raise PairingRefused(f"request {request_id} does not wait any more: {one.state}, {one.message}")
        return one

    # ----------------------------------------------------------------- plugins

    def add_routes(self, app: web.Application) -> None:
        """Have `app` answer plugins."""
        app.router.add_post(handshake.PATH, self._introduced)
        app.router.add_post(handshake.PATH + "/{id}/reveal", self._revealed)
        app.router.add_post(handshake.PATH + "/{id}/state", self._asked)
        app.router.add_post(handshake.PATH + "/{id}/key", self._handed)
        app.router.add_post(handshake.PATH + "/{id}/cancel", self._cancelled)

    async def _introduced(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if not self.is_open:
            message = "this bridge takes no requests now; its administrator opens pairing with `mesbridge pair open`"
            raise _refused(web.HTTPForbidden, "closed", message)
        said = _decoded(handshake.decode_introduction, body)
        if said.url and not _is_url(said.url):
            message = "url: the address of this OctoPrint is expected, such as http://192.168.1.41:5000"
            raise _refused(web.HTTPUnprocessableEntity, "malformed", message)
        self._tidy()
        address = request.remote or "unknown"
        replaced = self._replaced(address, said.uuid)
        self._count()
        self._check_certificate(said)
        for earlier in replaced:
            del self._pairings[earlier.answer.id]
            log.info("pairing requested again", **earlier.logged())
        # A thread would gain nothing: the interpreter is held for these milliseconds either way.
        half, now = handshake.Half(), self._clock()
        answer = handshake.Answer(
            id=handshake.new_pairing_id(),
            public=half.public,
            nonce=half.nonce,
            bridge_id=self._bridge_id,
            bridge_name=self._bridge_name,
            expires_in=REQUEST_LASTS.total_seconds(),
        )
        one = _Pairing(half, said, answer, address, now, now + REQUEST_LASTS, url=said.url, name=said.name)
        self._pairings[answer.id] = one
        log.info("pairing requested", **one.logged())
        return web.Response(body=handshake.encode(answer), content_type="application/json")

    def _replaced(self, address: str, uuid: str) -> list[_Pairing]:
        """The requests that a new one takes the place of. Raises the refusal if there is no room for it."""
        alive = [one for one in self._pairings.values() if one.state not in _ENDED]
        theirs = [one for one in alive if one.address == address]
        # An accepted one stays: the new one may come from anybody who knows that OctoPrint's uuid.
        replaced = [one for one in theirs if one.state == WAITING and one.introduction.uuid == uuid]
        if len(alive) - len(replaced) >= MOST_AT_ONCE or len(theirs) - len(replaced) >= MOST_OF_ONE_ADDRESS:
            message = "too many requests wait at this bridge; refuse some there, or wait until they expire"
            raise _refused(web.HTTPTooManyRequests, "too_many", message)
        return replaced

    def _count(self) -> None:
        if self._tries_left <= 0:
            log.warning("pairing is closed: too many requests came to nothing", limit=MOST_IN_VAIN)
            self._open_until = None
            message = (
                "too many requests came to nothing, so the bridge has closed pairing; open it again there"
            )
            raise _refused(web.HTTPTooManyRequests, "too_many", message)
        self._tries_left -= 1

    def _check_certificate(self, said: handshake.Introduction) -> None:
        if self.certificate is not None and not said.https:
            log.warning(
                "pairing refused: a plugin asks over plain http, somebody else passes it on", name=said.name
            )
            message = (
                "this bridge is heard over https, and the plugin asked over plain http: something stands between them."
                " Give the plugin the https address of the bridge, and look who is in your network"
            )
            raise _refused(web.HTTPForbidden, "plain", message)
        if said.certificate is None or said.certificate == self.certificate:
            return
        log.warning("pairing refused: the plugin saw another certificate than this bridge's", name=said.name)
        message = (
            "the certificate that this plugin saw is not the bridge's: something stands between them. If that is a"
            " proxy of your own, give it a certificate that the plugin's computer trusts; if not, do not go on,"
            " and look who is in your network"
        )
        raise _refused(web.HTTPForbidden, "certificate", message)

    async def _revealed(self, request: web.Request) -> web.Response:
        body = await _body(request)
        one = self._asked_for(request)
        revealed = _decoded(handshake.decode_reveal, body)
        if not hmac.compare_digest(handshake.commitment(revealed), one.introduction.commitment):
            raise _refused(web.HTTPUnauthorized, "forged", "this is not what the introduction had promised")
        session = one.reckoned
        if session is None:
            try:
                # Kept, as it cannot change any more: else each repetition, signed or not, would hold up the loop.
                session = one.reckoned = one.half.session(
                    revealed.public, one.introduction, one.answer, revealed
                )
            except handshake.PairingError as error:
                self._end(one, FAILED, str(error))
                raise _refused(web.HTTPUnprocessableEntity, "malformed", str(error)) from None
        message_id = self._believed(request, one, session, body)
        if one.session is None:
            one.session = session
            if one.state == WAITING:
                one.message = _TO_COMPARE.format(one.answer.id)
                log.info("pairing waits for its codes to be compared", **one.logged())
        return self._state(one, session, message_id)

    async def _asked(self, request: web.Request) -> web.Response:
        body = await _body(request)
        one, session = self._in_session(request)
        return self._state(one, session, self._believed(request, one, session, body))

    async def _handed(self, request: web.Request) -> web.Response:
        body = await _body(request)
        one, session = self._in_session(request)
        message_id = self._believed(request, one, session, body)
        if one.state == ACCEPTED and not one.adopting:
            try:
                key = session.open(handshake.decode_sealed(body))
            except handshake.PairingError as error:
                self._end(one, FAILED, str(error))
            else:
                await self._take(one, key)
        return self._state(one, session, message_id)

    async def _cancelled(self, request: web.Request) -> web.Response:
        body = await _body(request)
        one, session = self._in_session(request)
        message_id = self._believed(request, one, session, body)
        # The body says it again, as the path is not signed.
        if _decoded(handshake.decode_state, body).state != CANCELLED:
            raise _refused(web.HTTPUnprocessableEntity, "malformed", "state: cancelled is expected")
        if not one.adopting:
            self._end(one, CANCELLED, "cancelled in OctoPrint")
        return self._state(one, session, message_id)

    async def _take(self, one: _Pairing, key: str) -> None:
        if len(key) not in _KEY_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
            self._end(
                one, FAILED, "what the plugin handed over is no API key; generate a new one in OctoPrint"
            )
            return
        said = one.introduction
        accepted = Accepted(one.answer.id, said.uuid, one.name, one.url, one.mes_ids, Secret(key))
        one.adopting = True
        outcome = (FAILED, "the bridge could not take the machine in; its log says why")
        try:
            async with self._one_at_a_time:
                outcome = (SERVED, await self._adopt(accepted))
        except AdoptionError as error:
            outcome = (FAILED, str(error))
        finally:
            one.adopting = False
            self._end(one, *outcome)
        # A pairing that came to something is no guess.
        self._tries_left += outcome[0] == SERVED

    def _asked_for(self, request: web.Request) -> _Pairing:
        self._tidy()
        one = self._pairings.get(request.match_info["id"])
        if one is None:
            message = "the bridge does not know this request (any more); request pairing again"
            raise _refused(web.HTTPNotFound, "unknown", message)
        return one

    def _in_session(self, request: web.Request) -> tuple[_Pairing, handshake.Session]:
        one = self._asked_for(request)
        if one.session is None:
            raise _refused(web.HTTPNotFound, "unknown", "the number has to be revealed first")
        return one, one.session

    def _believed(self, request: web.Request, one: _Pairing, session: handshake.Session, body: bytes) -> str:
        """The message's id. A wrong clock does no harm: a pairing is short, and no id is taken twice in it."""
        key, headers = session.signing_key, request.headers
        try:
            message_id = wire.verify(key, headers, body, wire.utc_now())
        except wire.SignatureError as error:
            if error.reason != "clock":
                raise _refused(web.HTTPUnauthorized, error.reason, str(error)) from None
            message_id = headers[wire.ID_HEADER]
        if message_id in one.seen:
            raise _refused(web.HTTPUnauthorized, "replayed", "this message was already taken once")
        if len(one.seen) >= MOST_MESSAGES or len(message_id) > _LONGEST_MESSAGE_ID:
            raise _refused(web.HTTPTooManyRequests, "too_many", "this is more than a pairing needs")
        one.seen.add(message_id)
        return message_id

    def _state(self, one: _Pairing, session: handshake.Session, message_id: str) -> web.Response:
        body = handshake.encode(handshake.State(one.state, one.message))
        headers = wire.sign_reply(session.signing_key, message_id, wire.utc_now(), body)
        return web.Response(body=body, headers=headers, content_type="application/json")

    # ----------------------------------------------------------------- time

    def _end(self, one: _Pairing, state: str, message: str) -> None:
        if one.state in _ENDED:
            return
        one.state, one.message = state, _printable(message)[:2048]
        one.expires = self._clock() + REQUEST_LASTS
        log.info("pairing ended", **one.logged(), state=state, detail=one.message)

    def _tidy(self) -> None:
        """End what has waited too long, and forget what ended long ago."""
        now = self._clock()
        for one in list(self._pairings.values()):
            if one.expires > now or one.adopting:
                continue
            if one.state in _ENDED:
                del self._pairings[one.answer.id]
            else:
                missing = "the key did not come" if one.state == ACCEPTED else "nobody accepted"
                self._end(one, EXPIRED, f"{missing} in time; request pairing again")
        ended = [one for one in self._pairings.values() if one.state in _ENDED]
        for one in ended[: -MOST_AT_ONCE or None]:
            del self._pairings[one.answer.id]


async def _body(request: web.Request) -> bytes:
    limit = handshake.MAX_BODY_BYTES
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            body = bytearray()
            async for part in request.content.iter_any():
                body += part
                if len(body) > limit:
                    message = f"at most {limit} bytes"
                    raise _refused(web.HTTPUnprocessableEntity, "malformed", message)
    except TimeoutError:
        raise _refused(web.HTTPRequestTimeout, "malformed", "the request did not come in time") from None
    return bytes(body)


def _decoded(decode: Callable[[bytes], _T], body: bytes) -> _T:
    try:
        return decode(body)
    except handshake.PairingError as error:
        raise _refused(web.HTTPUnprocessableEntity, "malformed", str(error)) from None


def _refused(kind: type[web.HTTPException], error: str, message: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": error, "message": message}), content_type="application/json")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return sound and not any(c in text for c in " @?#\\") and text.isprintable()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _shown(text: str) -> str:
    return repr(_printable(text)[:100])
