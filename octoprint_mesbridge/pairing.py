"""Pairing as the plugin does it: the half of `bridge.handshake` that has a key to hand over.

In flow a person's wishes (request, confirm, cancel) and the bridge's answers; out flows, once, the sealed key,
and then where to push to. The key is made only when the person has said here that both codes are alike *and*
the bridge's person has accepted; it is withdrawn when the bridge says that it did not take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from bridge import handshake, wire

from .hello import JSON_HEADERS, cleaned, refusal
from .line import Answer, Line, Unreachable, address_without_path, base_url, certificate_to_pin
from .notice import N_, Notice, NoticeError

REQUESTING = "requesting"
COMPARING = "comparing"
CONFIRMED = "confirmed"
DONE = "done"
REFUSED = "refused"
EXPIRED = "expired"
FAILED = "failed"
CANCELLED = "cancelled"
ENDS = frozenset({DONE, REFUSED, EXPIRED, FAILED, CANCELLED})

LONGEST_S = 3600.0
"""A pairing lasts no longer, whatever the bridge says."""

_MOST = 64 * 1024
_FAREWELL_S = 2.0
"""A request that comes next waits for the farewell of the one before."""


class Owner(Protocol):
    """What a pairing needs of the plugin; called from its thread."""

    def introduction(self) -> Mapping[str, str]:
        """``uuid``, ``name``, ``octoprint_version`` and ``plugin_version`` of this OctoPrint."""

    def make_key(self) -> str:
        """A new API key, which nothing is signed with yet; one that was there stays in use.

        Raises `NoticeError` or `OSError`.
        """

    def withdraw_key(self) -> None:
        """End the key made last. Raises `OSError`."""

    def keep_key(self) -> None:
        """The bridge may have the key made last: sign with it, too."""

    def paired(self, url: str, certificate: str | None) -> None:
        """Push to the bridge at `url` from now on, pinning `certificate` (SHA-256, hex) if there is one."""

    def pairing_changed(self) -> None:
        """Something new is to be seen in `Pairing.status`."""


@dataclass(frozen=True)
class Timing:
    """All in seconds."""

    poll: float = 2.0
    connect: float = 3.05
    read: float = 15.0


class _Ended(NoticeError):
    """The pairing is over; `sure` when the bridge certainly does not use the key."""

    def __init__(self, state: str, notice: Notice, sure: bool = False) -> None:
        super().__init__(notice)
        self.state = state
        self.sure = sure


class Pairing:
    """One request at a time; a new one takes the place of the one before. For any thread."""

    def __init__(self, owner: Owner, logger: Any, timing: Timing | None = None) -> None:
        self._owner = owner
        self._logger = logger
        self._timing = timing or Timing()
        self._lock = threading.Lock()
        self._attempt: _Attempt | None = None

    def request(self, bridge_url: str, octoprint_url: str) -> None:
        """Ask the bridge at `bridge_url`, which shall reach this OctoPrint at `octoprint_url` ("": unsaid).

        Raises `BadAddress`.
        """
        bridge = base_url(bridge_url)
        own = base_url(octoprint_url) if octoprint_url.strip() else ""
        with self._lock:
            before = self._attempt
            if before is not None:
                before.cancel()
            self._attempt = _Attempt(self._owner, self._logger, self._timing, bridge, own, before)
            self._attempt.start()

    def confirm(self, code: str) -> bool:
        """Say that both sides show `code`; False when that is not (any more) what is to be confirmed."""
        attempt = self._attempt
        return attempt is not None and attempt.confirm(code)

    def cancel(self) -> None:
        """End the pairing; forget one that has ended."""
        with self._lock:
            if self._attempt is not None and not self._attempt.cancel():
                self._attempt = None

    def stop(self, timeout: float) -> None:
        """OctoPrint ends: end the thread, waiting for at most `timeout` seconds."""
        attempt = self._attempt
        if attempt is not None:
            attempt.leave()
            attempt.join(timeout)

    def status(self) -> dict[str, Any] | None:
        """None, or the state and what to show; ``message`` is a notice, ``expires`` an RFC 3339 text or None."""
        attempt = self._attempt
        return None if attempt is None else attempt.status()


class _Attempt:
    """One pairing and its thread."""

    def __init__(
        self, owner: Owner, logger: Any, timing: Timing, bridge: str, own: str, before: _Attempt | None
    ) -> None:
        self._owner = owner
        self._logger = logger
        self._timing = timing
        self._bridge = bridge
        self._own = own
        self._before = before
        self._condition = threading.Condition()
        self._state = REQUESTING
        self._message = Notice(N_("Asking the bridge at %(place)s"), {"place": bridge})
        self._code: str | None = None
        self._bridge_name: str | None = None
        self._expires: str | None = None
        self._deadline = float("inf")
        self._trouble: Notice | None = None
        self._offered = False
        self._sent = False
        self._adopting = False
        self._leaving = False
        self._session: handshake.Session | None = None
        self._certificate: str | None = None
        self._line = Line()
        self._thread = threading.Thread(target=self._run, name="mesbridge.pairing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        with self._condition:
            return {
                "state": self._state,
                "code": self._code if self._state in (COMPARING, CONFIRMED) else None,
                "bridge_url": self._bridge,
                "bridge_name": self._bridge_name,
                "message": self._trouble or self._message,
                "expires": self._expires,
            }

    def confirm(self, code: str) -> bool:
        with self._condition:
            if code != self._code:
                return False
        return self._show(CONFIRMED, _waiting_for_bridge(), after=COMPARING)

    def cancel(self) -> bool:
        """Whether there was anything to end."""
        with self._condition:
            if self._adopting and self._state not in ENDS:
                return True  # too late: the bridge has the key, and the person has agreed
        if not self._show(CANCELLED, Notice(N_("Pairing was cancelled"))):
            return False
        self._line.abandon()
        return True

    def leave(self) -> None:
        """Cancel, because OctoPrint ends; a key that the bridge may have by now stays valid."""
        with self._condition:
            self._leaving = self._state not in ENDS
        self.cancel()

    # ----------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()  # it may have a key to withdraw, which must not be the next one
                self._before = None
            self._pair()
        except _Ended as end:
            self._finish(end)
        except (Unreachable, handshake.PairingError) as error:
            notice = error.notice if isinstance(error, Unreachable) else _not_understood(self._bridge, error)
            self._finish(_Ended(FAILED, notice))
        except Exception as error:  # whatever it is, a person waits for an end
            self._logger.error("Pairing went wrong in an unforeseen way", exc_info=error)
            reason = {"reason": f"{type(error).__name__}: {error}"}
            self._finish(_Ended(FAILED, Notice(N_("Unforeseen: %(reason)s"), reason)))
        finally:
            self._line.close()
            self._say_farewell()

    def _pair(self) -> None:
        certificate = certificate_to_pin(self._bridge, self._timing.connect)
        self._certificate = certificate
        self._call()
        half = handshake.Half()
        reveal = half.reveal()
        introduction = self._introduction(reveal, certificate)
        answer = self._introduce(introduction)
        lasts = min(answer.expires_in, LONGEST_S)
        with self._condition:
            self._deadline = time.monotonic() + lasts
            self._expires = wire.format_time(wire.utc_now() + timedelta(seconds=lasts))
            self._bridge_name = answer.bridge_name
        session = self._session = half.session(answer.public, introduction, answer, reveal)
        said = self._ask(session, "reveal", handshake.encode(reveal))
        with self._condition:
            self._code = session.code
        self._show(
            COMPARING,
            Notice(
                N_(
                    "Compare this code with the one that `mesbridge pair list` shows at the bridge; confirm only if"
                    " they are the same"
                )
            ),
        )
        self._logger.info("Pairing with the bridge at %s waits for its code to be compared", self._bridge)
        sealed: bytes | None = None
        while not (said.state == handshake.SERVED and sealed):
            self._end_with(said)
            if said.state == handshake.ACCEPTED and sealed is None and self._is_confirmed():
                sealed = self._seal(session)
                if not self._show(
                    CONFIRMED, Notice(N_("Both sides have agreed; the bridge is given the key"))
                ):
                    raise _Ended(self._state, self._message, sure=True)  # while the key was made
                self._sent = True
                said = self._ask(session, "key", sealed)
            else:
                if said.state == handshake.ACCEPTED:
                    self._show(COMPARING, _accepted_there(), after=COMPARING)
                self._wait()
                said = self._ask(session, "state", b"{}")
        self._adopt(certificate)

    def _call(self) -> None:
        """Have a line to the bridge. Raises `_Ended` when somebody cancelled meanwhile."""
        line = Line(self._certificate)
        with self._condition:
            self._line = line
            if self._state in ENDS:
                raise _Ended(self._state, self._message, sure=True)

    def _introduction(self, reveal: handshake.Reveal, certificate: str | None) -> handshake.Introduction:
        own = self._owner.introduction()
        return handshake.Introduction(
            commitment=handshake.commitment(reveal),
            uuid=own["uuid"],
            name=cleaned(own["name"], 128),
            url=self._own,
            octoprint_version=cleaned(own["octoprint_version"], 64),
            plugin_version=cleaned(own["plugin_version"], 64),
            certificate=certificate,
            https=self._bridge.startswith("https:"),
        )

    def _introduce(self, introduction: handshake.Introduction) -> handshake.Answer:
        answer = self._post("", handshake.encode(introduction), {})
        if answer.status != 200 or answer.body is None:
            raise _Ended(FAILED, _not_taken(self._bridge, answer))
        return handshake.decode_answer(answer.body)

    def _seal(self, session: handshake.Session) -> bytes:
        self._offered = True  # from here on there is a key to care for
        try:
            return handshake.encode_sealed(session.seal(self._owner.make_key()))
        except NoticeError as error:
            self._offered = False
            raise _Ended(FAILED, error.notice) from error
        except OSError as error:
            self._offered = False
            template = N_("No key could be made for the bridge: %(reason)s")
            raise _Ended(FAILED, Notice(template, {"reason": str(error)})) from error

    def _adopt(self, certificate: str | None) -> None:
        with self._condition:
            if self._state in ENDS:
                raise _Ended(self._state, self._message, sure=True)
            self._adopting = True
        self._offered = False
        try:
            self._owner.paired(self._bridge, certificate)
        except OSError as error:
            template = N_(
                "Paired, but the settings could not be saved (%(reason)s): enter the bridge's address again"
            )
            raise _Ended(FAILED, Notice(template, {"reason": str(error)})) from error
        self._logger.info("Paired with the bridge at %s", self._bridge)
        self._show(DONE, Notice(N_("Paired with the bridge")))

    def _end_with(self, said: handshake.State) -> None:
        """Raises `_Ended` when `said` is the end. The bridge's words are for the cases that nobody foresaw."""
        if said.state == handshake.SERVED:
            template = N_("The bridge says that it has a key which it was never given: do not trust it")
            raise _Ended(FAILED, Notice(template))
        if said.state == handshake.REFUSED:
            raise _Ended(REFUSED, Notice(N_("This OctoPrint was refused at the bridge")), sure=True)
        if said.state == handshake.EXPIRED:
            raise _Ended(EXPIRED, _too_late(), sure=True)
        if said.state == handshake.CANCELLED:
            raise _Ended(CANCELLED, Notice(N_("Pairing was cancelled")), sure=True)
        if said.state == handshake.FAILED:
            template = N_("The bridge could not take this OctoPrint: %(message)s")
            raise _Ended(FAILED, Notice(template, {"message": cleaned(said.message, 500)}), sure=True)

    # ----------------------------------------------------------------- talking

    def _ask(self, session: handshake.Session, what: str, body: bytes) -> handshake.State:
        """The bridge's signed answer, however often it takes. Raises `_Ended`."""
        while True:
            try:
                said = self._ask_once(session, what, body)
                self._say(None)
                return said
            except NoticeError as error:
                if isinstance(error, _Ended):
                    raise
                self._logger.debug("Pairing: %s", error)
                if time.monotonic() + self._timing.poll >= self._deadline:
                    template = N_("The time for pairing is over: %(reason)s")
                    raise _Ended(EXPIRED, Notice(template, {"reason": error.notice})) from error
                self._say(error.notice)
            self._wait()

    def _ask_once(self, session: handshake.Session, what: str, body: bytes) -> handshake.State:
        key, message_id = session.signing_key, wire.new_message_id()
        path = f"/{session.signing_key.key_id.rpartition('-')[2]}/{what}"
        answer = self._post(path, body, wire.sign(key, message_id, wire.utc_now(), body))
        content = answer.body or b""
        try:
            wire.verify_reply(key, message_id, answer.headers, content)
        except wire.SignatureError:
            raise self._unsigned(answer) from None
        return handshake.decode_state(content)

    def _say_farewell(self) -> None:
        """Tell the bridge that nobody goes on here, so that nobody accepts it there; once, and as well as may be."""
        if self._session is None or self._state not in (CANCELLED, FAILED) or self._leaves_key:
            return
        self._timing = replace(self._timing, read=min(self._timing.read, _FAREWELL_S))
        self._line = Line(self._certificate)
        body = handshake.encode(handshake.State(handshake.CANCELLED))
        try:
            self._ask_once(self._session, "cancel", body)
        except (NoticeError, handshake.PairingError) as error:
            self._logger.debug("Pairing: the bridge was not told of its end: %s", error)
        finally:
            self._line.close()

    def _unsigned(self, answer: Answer) -> NoticeError:
        """What to make of an answer that anybody could have given."""
        place = {"place": self._bridge, "status": answer.status}
        if answer.status == 404:
            template = N_(
                "The bridge at %(place)s does not know this request any more; it may have been restarted: request"
                " pairing again"
            )
            return _Ended(EXPIRED, Notice(template, place))
        if answer.status == 422:
            return _Ended(FAILED, _not_taken(self._bridge, answer))
        if answer.status == 401 and refusal(answer)[0] != "replayed":
            template = N_(
                "What listens at %(place)s does not share this pairing's secret: somebody may stand in between."
                " Request pairing again; if that repeats, look who is in your network"
            )
            return _Ended(FAILED, Notice(template, place))
        return NoticeError(
            Notice(N_("%(place)s answers HTTP %(status)d without the bridge's signature"), place)
        )

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        url = self._bridge + handshake.PATH + path
        timing = self._timing
        return self._line.post(url, body, {**JSON_HEADERS, **headers}, timing.connect, timing.read, _MOST)

    # ----------------------------------------------------------------- state

    def _is_confirmed(self) -> bool:
        with self._condition:
            return self._state == CONFIRMED

    def _wait(self) -> None:
        """Until the next question is due or somebody confirmed. Raises `_Ended` when the pairing is over."""
        with self._condition:
            before = self._state
            if before not in ENDS:
                self._condition.wait_for(lambda: self._state != before, self._timing.poll)
            if self._state in ENDS:
                raise _Ended(self._state, self._message, sure=True)
        if time.monotonic() >= self._deadline:
            raise _Ended(EXPIRED, _too_late())

    def _show(self, state: str, message: Notice, after: str | None = None) -> bool:
        """Go on to `state`, from `after` if that is given; an end is not left any more."""
        with self._condition:
            if self._state in ENDS or self._state != (after or self._state):
                return False
            if (state, message) == (self._state, self._message):
                return True
            self._state, self._message, self._trouble = state, message, None
            if state in ENDS:
                self._code = None
            self._condition.notify_all()
        self._owner.pairing_changed()
        return True

    def _say(self, trouble: Notice | None) -> None:
        """Show `trouble` for as long as it lasts."""
        with self._condition:
            if self._state in ENDS or self._trouble == trouble:
                return
            self._trouble = trouble
        self._owner.pairing_changed()

    def _finish(self, end: _Ended) -> None:
        with self._condition:
            if self._state in ENDS:  # a person ended it; whatever happened after that is nobody's concern
                end = _Ended(self._state, self._message, sure=not self._leaves_key)
        notice = self._care_for_key(end) if self._offered else end.notice
        if not self._show(end.state, notice):
            with self._condition:
                self._message = notice
            self._owner.pairing_changed()
        self._logger.warning("Pairing with the bridge at %s ended: %s", self._bridge, notice)

    @property
    def _leaves_key(self) -> bool:
        """Whether nobody may wait for the bridge's last word on a key that was sent to it."""
        return self._leaving and self._sent

    def _care_for_key(self, end: _Ended) -> Notice:
        self._offered = False
        said = {"reason": end.notice}
        if not end.sure:
            self._owner.keep_key()
            return Notice(
                N_(
                    "%(reason)s. It is not known whether the bridge took the key, so that both the new one and the"
                    " one before it stay valid: if the bridge does not connect soon, pair again"
                ),
                said,
            )
        try:
            self._owner.withdraw_key()
        except (OSError, NoticeError) as error:
            self._logger.error("The key made for pairing could not be withdrawn: %s", error)
            return Notice(N_("%(reason)s. The key made for it could not be withdrawn: revoke it"), said)
        if self._sent and end.state == CANCELLED:
            return Notice(
                N_(
                    "%(reason)s while the key was on its way to the bridge. That key is not valid any more, but the"
                    " bridge may have it: pair again"
                ),
                said,
            )
        return Notice(N_("%(reason)s. The key made for it was withdrawn"), said)


def _too_late() -> Notice:
    return Notice(N_("The codes were not compared and accepted in time: request pairing again"))


def _accepted_there() -> Notice:
    template = N_(
        "Accepted at the bridge. Compare this code with the one that `mesbridge pair list` shows there; confirm only"
        " if they are the same"
    )
    return Notice(template)


def _waiting_for_bridge() -> Notice:
    return Notice(N_("Waiting until the request is accepted at the bridge, with `mesbridge pair accept`"))


def _not_understood(place: str, error: Exception) -> Notice:
    template = N_(
        "%(place)s does not answer as a MESBridge of this version does (%(reason)s): check the address"
    )
    return Notice(template, {"place": place, "reason": cleaned(str(error), 300)})


def _not_taken(place: str, answer: Answer) -> Notice:
    code, message = refusal(answer)
    said = {"place": place, "status": answer.status, "message": message}
    if answer.status == 403 and code == "closed":
        return Notice(
            N_(
                "Pairing is not open on the bridge at %(place)s: run `mesbridge pair open` there, then try again"
            ),
            said,
        )
    if answer.status == 403 and code == "certificate":
        return Notice(
            N_(
                "The certificate that is seen here is not that of the bridge at %(place)s: something stands between"
                " them. If that is a proxy of your own, give it a certificate that this computer trusts; if not, do"
                " not go on, and look who is in your network"
            ),
            said,
        )
    if answer.status == 403 and code == "plain":
        return Notice(
            N_(
                "The bridge behind %(place)s is heard over https, but was asked over plain http here: something stands"
                " between them. Enter the bridge's own https address, and look who is in your network"
            ),
            said,
        )
    if answer.status == 429:
        return Notice(
            N_(
                "The bridge at %(place)s has too many pairing requests: refuse some there, or run"
                " `mesbridge pair open` there again; then request pairing again"
            ),
            said,
        )
    without_path = address_without_path(place)
    if answer.status == 404 and without_path:
        return Notice(
            N_(
                "%(place)s takes no pairing requests: check the address, which usually ends after the port, as"
                " %(meant)s does"
            ),
            {**said, "meant": without_path},
        )
    if answer.status == 404:
        return Notice(
            N_(
                "%(place)s takes no pairing requests: check the address, and that the bridge is as new as this plugin"
            ),
            said,
        )
    if code:
        return Notice(N_("The bridge at %(place)s does not take the request: %(message)s"), said)
    return Notice(
        N_("%(place)s answers HTTP %(status)d and not as a MESBridge does: check the address"), said
    )
