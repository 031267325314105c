"""Lets named users in, and neither lets guessers get far nor lets them slow the server down.

In: user names and passwords, or certificates, and the address they come from. Out: yes or no, and in the log what an
administrator should know: an address that is refused, once, and a users file that cannot be used, once.

Tries of one address wait for each other, and only so many: an address that guesses costs a second's wait a try, and
neither memory nor hours. Behind a proxy all people share an address; who was let in before does not wait even then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole

from .errors import UsersError
from .user_certificates import ProvenCertificate
from .users import Role, Users

log = structlog.get_logger(__name__)

Codes = ua.StatusCodes

PAUSE = 1.0  # seconds between two tries from one address, unless the first was right
LONGEST_WAIT = 5.0
"""Seconds after which a try from an address that guesses is not checked any more."""
MOST_WAITING = 100
"""Tries of one address that may wait: as many clients as one computer may have that come back at once."""
MOST_WAITING_AFTER_REFUSAL = 5
REMEMBERED_ADDRESSES = 1000
LONGEST_SHOWN_NAME = 64


class TooManyTries(Exception):
    """So much waits for an answer there that this try is not looked at; it may be made again."""

    retry_after = int(LONGEST_WAIT)
    """Seconds until that may be worth it."""


@dataclass(slots=True)
class _Tries:
    """What one address did lately; its passwords are checked one after the other."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_at: float = 0.0  # in the time of the event loop
    refused: int = 0
    waiting: int = 0

    @contextlib.asynccontextmanager
    async def one_more(self) -> AsyncIterator[None]:
        """Wait for one's turn, and as long as the last refusal demands. Raises `TooManyTries`."""
        loop = asyncio.get_running_loop()
        came = loop.time()
        if self.waiting >= (MOST_WAITING_AFTER_REFUSAL if self.refused else MOST_WAITING):
            raise TooManyTries
        self.waiting += 1
        try:
            async with self.turn:
                pause = self.next_at - loop.time()
                if pause > 0 and loop.time() - came >= LONGEST_WAIT:
                    raise TooManyTries  # it came before it was known that they guess there
                await asyncio.sleep(max(0.0, pause))
                self.next_at = loop.time() + PAUSE  # counts too when the client hangs up before the answer
                yield
        finally:
            self.waiting -= 1


class Logins:
    """Asks the users file. asyncua knows it as its user manager; no session of a client is ever an administrator's.

    Hashes are made in one thread: guessing keeps one core busy at most, and never the event loop. A password that
    was right before needs none, so that known clients come back whatever else goes on.
    """

    def __init__(
        self, users: Users, anonymous: bool, anonymous_role: Role = Role.OBSERVER, door: str = "OPC UA"
    ) -> None:
        self._users = users
        self._door = door  # what it is that people log in to, for the log
        self._anonymous = anonymous
        self._anonymous_role = anonymous_role
        self._tries: dict[str, _Tries] = {}
        self._fault: str | None = None
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="passwords")  # its thread starts when needed

    def close(self) -> None:
        """Check no more passwords."""
        self._hashing.shutdown(wait=False, cancel_futures=True)

    async def admit(self, address: str, name: str, password: str) -> bool:
        """Whether this is the user's password; with a wait when `address` gave a wrong one a moment ago.

        Raises `TooManyTries`.
        """
        try:
            right = self._users.remembers(name, password) or await self._check(address, name, password)
        except UsersError as error:
            if str(error) != self._fault:
                log.error(f"no user can log in to {self._door}", reason=str(error))
            self._fault = str(error)
            return False
        if self._fault is not None:
            log.info(f"users can log in to {self._door} again")
            self._fault = None
        if right:
            refused = self._let_in(address)
            if refused:
                log.info(f"{self._door} login accepted", user=_shown(name), address=address, refused=refused)
        return right

    async def admit_certificate(self, address: str, prove: Callable[[], ProvenCertificate]) -> str:
        """The user whose certificate `prove` gives; ServiceError as it raises, or BadIdentityTokenRejected.

        Who is right comes in at once, since a signature costs little to check; refusals of one address wait, and those
        too many are told at once.
        """
        status, reason = Codes.BadIdentityTokenRejected, "no user has this certificate"
        try:
            name = self._users.holder(prove())
            if name is not None:
                self._let_in(address)
                return name
        except UsersError as error:
            reason = str(error)
        except ServiceError as error:
            status, reason = error.code, "the certificate or its signature is not valid"
        with contextlib.suppress(TooManyTries):
            await self._refuse(address, status, reason)
        raise ServiceError(status)

    async def _refuse(self, address: str, status: int, reason: str) -> None:
        tries = self._tries_of(address)
        async with tries.one_more():
            tries.refused += 1
            if tries.refused == 1:
                log.warning(
                    "OPC UA login by certificate refused; more from there are not logged",
                    reason=reason,
                    status=ua.StatusCode(status).name,
                    address=address,
                )

    def _let_in(self, address: str) -> int:
        """Forget what was refused there; returns how often that was. Those who wait there go on waiting."""
        tries = self._tries.get(address)
        if tries is None:
            return 0
        if not tries.waiting:
            del self._tries[address]
        refused, tries.refused = tries.refused, 0
        return refused

    def _tries_of(self, address: str) -> _Tries:
        if address not in self._tries and len(self._tries) >= REMEMBERED_ADDRESSES:
            idle = next((one for one, tries in self._tries.items() if not tries.waiting), None)
            if idle is None:
                raise TooManyTries
            del self._tries[idle]
        return self._tries.setdefault(address, _Tries())

    async def _check(self, address: str, name: str, password: str) -> bool:
        tries = self._tries_of(address)
        loop = asyncio.get_running_loop()
        async with tries.one_more():
            right = await loop.run_in_executor(self._hashing, self._users.verify, name, password)
            if right:
                tries.next_at = 0.0
                return True
            tries.refused += 1
            if tries.refused == 1:
                log.warning(
                    f"{self._door} login refused: wrong user name or password; more from there are not logged",
                    user=_shown(name),
                    address=address,
                )
            return False

    def role(self, user: User) -> Role | None:
        """The role that the user has now; None when it is no user any more, or that cannot be told."""
        if user.name is None:
            return self._anonymous_role if self._anonymous else None
        try:
            return self._users.role(user.name)
        except UsersError:
            return None

    def credential(self, user: User) -> str | None:
        """What stays the same as long as the user's sessions may go on. Raises UsersError."""
        return None if user.name is None else self._users.credential(user.name)

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        """asyncua's question, put after `admit`: the session's user, or None to refuse it. Never makes a hash.

        `certificate` is the channel's own, unless it was proven to be a user's.
        """
        if isinstance(certificate, ProvenCertificate):
            try:
                holder = self._users.holder(certificate)
            except UsersError:
                return None
            return None if holder is None else User(UserRole.User, holder)
        if username is None:
            return User(UserRole.User) if self._anonymous else None
        try:
            known = self._users.remembers(username, password or "")
        except UsersError:
            return None
        return User(UserRole.User, username) if known else None


def _shown(name: str) -> str:
    """The name as it may stand in a log: whoever is refused chose it."""
    return "".join(c if c.isprintable() else "?" for c in name[:LONGEST_SHOWN_NAME])
