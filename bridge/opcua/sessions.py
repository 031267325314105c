"""Sessions that know who uses them and from where.

In: requests of activated sessions. Out: asyncua's answers, or BadUserAccessDenied for a method that is not for the
user's role.
"""

from typing import Any

from asyncua import ua
from asyncua.server.internal_session import InternalSession

from .instances import InstanceNode
from .logins import Logins
from .users import Role


class GuardedSession(InternalSession):
    """A client's session. Roles are asked for at each call, so that a change counts at once."""

    client_certificate: bytes | None = None
    """That of the channel on which the session was created, as it was sent; None without security."""
    owner: Any = None
    """The processor of the connection that the session is on."""
    credential: str | None = None
    """What `Logins.credential` was when the user came in."""

    @property
    def is_operator(self) -> bool:
        """Whether the user may call the methods of machines."""
        logins: Logins = self.iserver.logins
        return logins.role(self.user) is Role.OPERATOR

    async def call(self, params: list[ua.CallMethodRequest]) -> Any:
        """As asyncua's; methods of instances are for operators, those of the server itself for all (Part 4, 5.12.2)."""
        if self.is_operator:
            return await super().call(params)
        denied = ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return [
            ua.CallMethodResult(denied) if self._of_instance(one.ObjectId) else (await super().call([one]))[0]
            for one in params
        ]

    async def read(self, params: ua.ReadParameters) -> Any:
        """As asyncua's; UserExecutable (Part 3, 5.7) is what `call` would do."""
        results = await super().read(params)
        asked = [
            index
            for index, one in enumerate(params.NodesToRead)
            if one.AttributeId == ua.AttributeIds.UserExecutable
        ]
        if asked and not self.is_operator:
            results = list(results)
            for index in asked:
                value = results[index].Value
                if value is not None and value.Value and self._of_instance(params.NodesToRead[index].NodeId):
                    results[index] = ua.DataValue(ua.Variant(False))
        return results

    def _of_instance(self, node_id: ua.NodeId) -> bool:
        return isinstance(self.aspace.get(node_id), InstanceNode)
