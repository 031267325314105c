"""Clients with a certificate of the test's choice, and connections that speak only as much OPC UA as they are told."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.ua_binary import uatcp_to_binary

from bridge.opcua import OpcUaServer

from .authority import URI, Holder
from .conftest import PASSWORD

Mode = ua.MessageSecurityMode
SECONDS = 30  # until something counts as never happening


async def prepared(
    server: OpcUaServer,
    holder: Holder,
    folder: Path,
    *,
    policy: Any = SecurityPolicyBasic256Sha256,
    mode: Mode = Mode.SignAndEncrypt,
    uri: str = URI,
    user: str | None = "ann",
    password: str = PASSWORD,
) -> Client:
    """A client that is not connected yet."""
    certificate, key = holder.write(folder)
    client = Client(server.endpoint_url, timeout=SECONDS)
    client.application_uri = uri
    await client.set_security(policy, certificate=str(certificate), private_key=str(key), mode=mode)
    if user is not None:
        client.set_user(user)
        client.set_password(password)
    return client


@contextlib.asynccontextmanager
async def connected(
    server: OpcUaServer, holder: Holder, folder: Path, **settings: Any
) -> AsyncIterator[Client]:
    """A client with a session; that it may be gone in the end is no matter."""
    client = await prepared(server, holder, folder, **settings)
    await client.connect()
    try:
        yield client
    finally:
        with contextlib.suppress(ua.UaError, ConnectionError, OSError, asyncio.TimeoutError):
            await client.disconnect()


async def gone(client: Client) -> None:
    """Until the server has ended the client's connection."""
    async with asyncio.timeout(SECONDS):
        while client.uaclient.protocol is not None and not client.uaclient.protocol.is_closed:
            await asyncio.sleep(0.01)


class Raw:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: OpcUaServer, port: int = 0) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port or server.port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def greet(self, buffer_size: int = 65535) -> None:
        """Hello, and its answer."""
        hello = ua.Hello(EndpointUrl="opc.tcp://x", ReceiveBufferSize=buffer_size, SendBufferSize=buffer_size)
        self.send(uatcp_to_binary(ua.MessageType.Hello, hello))
        kind, _ = await self.receive()
        assert kind == b"ACK"

    async def receive(self) -> tuple[bytes, bytes]:
        """Type and body of one message."""
        async with asyncio.timeout(SECONDS):
            start = await self.reader.readexactly(8)
            (size,) = struct.unpack("<I", start[4:])
            return start[:3], await self.reader.readexactly(size - 8)

    async def error(self) -> int:
        """The status of the Error message that comes next, after which the connection ends."""
        kind, body = await self.receive()
        assert kind == b"ERR"
        await self.ended()
        status: int = struct.unpack("<I", body[:4])[0]
        return status

    async def said_no(self) -> None:
        """Until the server has ended the connection, whatever it said before."""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                await self.reader.read()
        self.writer.close()

    async def ended(self) -> None:
        """Until the server ends the connection, without another word."""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                assert await self.reader.read() == b""
        self.writer.close()
