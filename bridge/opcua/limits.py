"""How much the server does for its clients at once; what it tells them of this stands in `capabilities`."""

from collections.abc import Sized
from dataclasses import dataclass

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError

KILOBYTE = 1024
CHUNK_SIZE = 65535  # bytes, the largest
_SMALLEST_CHUNK = 8 * KILOBYTE  # that a client may choose as its largest (Part 6, 7.1.2.3)


@dataclass(frozen=True, slots=True)
class Limits:
    """Each is the largest that is accepted; what is more gets the standard's status code for it.

    `message_size` is in bytes, of a request and of a response alike. `array_length` counts the elements of all
    arrays of a request together, `references_examined` the references that it makes the server look through. A
    connection is cut off when `unsent` bytes wait for a client that does not take them. Of more than `connections`, on
    whatever port, the oldest without a session goes.
    """

    connections: int = 500
    sessions: int = 100
    subscriptions: int = 1000
    subscriptions_per_session: int = 100
    monitored_items: int = 200_000
    monitored_items_per_subscription: int = 100_000
    queue_size: int = 1000
    select_clauses: int = 250
    where_elements: int = 100
    operations: int = 10_000
    method_calls: int = 100
    continuation_points: int = 10
    references_per_response: int = 20_000
    references_examined: int = 200_000
    message_size: int = 4 * KILOBYTE * KILOBYTE
    array_length: int = 100_000

    @property
    def transport(self) -> TransportLimits:
        """What the transport is told (Part 6, 7.1.2.4)."""
        chunks = 2 * self.message_size // _SMALLEST_CHUNK + 1
        return TransportLimits(CHUNK_SIZE, CHUNK_SIZE, chunks, self.message_size)

    @property
    def unsent(self) -> int:
        """Bytes."""
        return 4 * self.message_size


def check_operations(operations: Sized | None, limit: int) -> None:
    """ServiceError BadNothingToDo for none, BadTooManyOperations for more than the limit (Part 4, 7.38)."""
    if not operations:
        raise ServiceError(ua.StatusCodes.BadNothingToDo)
    if len(operations) > limit:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)
