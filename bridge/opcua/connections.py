"""The bytes of a connection cut into messages (Part 6, 7.1.2), no more of them than the server keeps up with.

In: bytes. Out: messages for the processor of the connection; the connection ends with the first that is none or too
large, and of too many connections the oldest that nobody uses.
"""

import asyncio
import socket
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.ua import ua_binary

from .transport import StrictProcessor

Codes = ua.StatusCodes
MESSAGES_WAITING = 16  # of one connection; what it sends beyond waits in the network
_HEADER_SIZE = 8  # bytes: type, chunk type and size
_KINDS = {b"HEL", b"OPN", b"MSG", b"CLO"}
_SECURED = {b"OPN", b"MSG", b"CLO"}
_CHUNKS = {b"F", b"C", b"A"}  # final, intermediate, abort
_CHANNEL_ID_SIZE = 4


class LimitedProtocol(OPCUAProtocol):
    """asyncua's connection, which would hold everything that a client sends, in a copy for each message.

    While it has no session, another connection may take its place.
    """

    processor: StrictProcessor | None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._received = bytearray()
        self._waits = False

    @property
    def has_session(self) -> bool:
        """Whether a user has come in."""
        return self.processor is not None and self.processor.has_session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncua's; of too many connections the oldest without a session goes (Part 4, 5.6.2)."""
        if len(self.clients) >= self.iserver.max_connections:
            idle = next((one for one in self.clients if not one.has_session), None)
            if idle is not None:
                self.clients.remove(idle)
                idle.transport.abort()
        connected: socket.socket | None = transport.get_extra_info("socket")
        if connected is not None:
            # Else a short answer waits until the one before it is acknowledged; asyncio knows only sockets of its own.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._received += data
        self._cut()

    def _cut(self) -> None:
        received = self._received
        while not self._waits and len(received) >= _HEADER_SIZE:
            fault = self._fault(bytes(received[:_HEADER_SIZE]))
            if fault is not None:
                self._wait()
                received.clear()
                self.messages.put_nowait((None, fault))
                return
            size = int.from_bytes(received[4:8], "little")
            if len(received) < size:
                return
            message = Buffer(bytes(received[:size]))
            del received[:size]
            self.messages.put_nowait((ua_binary.header_from_binary(message), message))
            if self.messages.qsize() >= MESSAGES_WAITING:
                self._wait()

    def _wait(self) -> None:
        self._waits = True
        self.transport.pause_reading()

    def _fault(self, start: bytes) -> int | None:
        """The status code for bytes with which no message begins, or one that is longer than agreed."""
        kind, size = start[:3], int.from_bytes(start[4:], "little")
        if kind not in _KINDS or start[3:4] not in _CHUNKS:
            return int(Codes.BadTcpMessageTypeInvalid)
        smallest = _HEADER_SIZE + (_CHANNEL_ID_SIZE if kind in _SECURED else 0)
        longest = (self.limits if self.processor is None else self.processor.agreed).max_recv_buffer
        return None if smallest < size <= longest else int(Codes.BadTcpMessageTooLarge)

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        if header is None:  # what came before is answered
            if self.processor is not None:
                self.processor.refuse(buf)
            return False
        goes_on: bool = await super()._process_one_msg(header, buf)
        if goes_on and self._waits and self.messages.empty():
            self._waits = False
            self.transport.resume_reading()
            self._cut()
        return goes_on
