"""The bytes of a connection cut into messages (Part 6, 7.1.2), no more of them than the server keeps up with.

In: bytes. Out: messages for the processor of the connection; the connection ends with the first that is too large.
"""

from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.ua import ua_binary

log = structlog.get_logger(__name__)

MESSAGES_WAITING = 16  # of one connection; what it sends beyond waits in the network
_HEADER_SIZE = 8  # bytes: type, chunk type and size
_SECURED = {ua.MessageType.SecureOpen, ua.MessageType.SecureMessage, ua.MessageType.SecureClose}
_CHANNEL_ID_SIZE = 4


class LimitedProtocol(OPCUAProtocol):
    """asyncua's connection, which would hold everything that a client sends, in a copy for each message."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._received = bytearray()
        self._waits = False

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._received += data
        self._cut()

    def _cut(self) -> None:
        received = self._received
        while not self._waits and len(received) >= _HEADER_SIZE:
            size = int.from_bytes(received[4:8], "little")
            smallest = _HEADER_SIZE + (_CHANNEL_ID_SIZE if bytes(received[:3]) in _SECURED else 0)
            if not smallest < size <= self.limits.max_recv_buffer:
                self._refuse(size)
                return
            if len(received) < size:
                return
            message = Buffer(bytes(received[:size]))
            del received[:size]
            self.messages.put_nowait((ua_binary.header_from_binary(message), message))
            if self.messages.qsize() >= MESSAGES_WAITING:
                self._waits = True
                self.transport.pause_reading()

    def _refuse(self, size: int) -> None:
        log.debug(
            "an OPC UA connection is ended: no message has this size", address=self.peer_name, size=size
        )
        self._received.clear()
        refusal = ua.ErrorMessage(ua.StatusCode(ua.StatusCodes.BadTcpMessageTooLarge))
        self.transport.write(ua_binary.uatcp_to_binary(ua.MessageType.Error, refusal))
        self.transport.close()

    async def _process_one_msg(self, header: Any, buf: Buffer) -> bool:
        goes_on: bool = await super()._process_one_msg(header, buf)
        if goes_on and self._waits and self.messages.empty():
            self._waits = False
            self.transport.resume_reading()
            self._cut()
        return goes_on
