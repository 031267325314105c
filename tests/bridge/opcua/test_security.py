"""By default only named users get in, and only on secured channels: by asyncua's client and by node-opcua's."""

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge.opcua import Instance, OpcUaServer
from tests import needs

from .conftest import PASSWORD, machine_template, secure_client

Mode = ua.MessageSecurityMode
SIGNAL = "Monitoring.Process.Tool 0.AnalogSignal"
MODES = [Mode.Sign, Mode.SignAndEncrypt]


@pytest.fixture
async def closed(make_server) -> AsyncIterator[OpcUaServer]:
    """A server as it is by default, with one user."""
    server = make_server(anonymous=False)
    users = server._iserver.logins._users
    users.add("ann", PASSWORD)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("mode", MODES)
async def test_a_user_with_the_right_password_gets_in(
    closed: OpcUaServer, tmp_path: Path, mode: Mode
) -> None:
    async with secure_client(closed, tmp_path / "client", mode, "ann", PASSWORD) as client:
        assert "urn:example:plant" in await client.get_namespace_array()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("user", "password"), [("ann", "wrong"), ("ann", ""), ("bob", PASSWORD), ("admin", ""), (None, None)]
)
async def test_a_wrong_password_an_unknown_user_and_anonymous_are_refused(
    closed: OpcUaServer, tmp_path: Path, mode: Mode, user: str | None, password: str | None
) -> None:
    with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError)):
        async with secure_client(closed, tmp_path / "client", mode, user, password):
            pytest.fail("the session was accepted")


async def test_only_secured_endpoints_for_users_are_offered(closed: OpcUaServer) -> None:
    endpoints = await Client(closed.endpoint_url).connect_and_get_server_endpoints()
    assert {endpoint.SecurityMode for endpoint in endpoints} == set(MODES)
    assert {endpoint.SecurityPolicyUri.rpartition("#")[2] for endpoint in endpoints} == {
        "Basic256Sha256",
        "Aes128_Sha256_RsaOaep",
        "Aes256_Sha256_RsaPss",
    }
    tokens = {token.TokenType for endpoint in endpoints for token in endpoint.UserIdentityTokens}
    assert tokens == {ua.UserTokenType.UserName, ua.UserTokenType.Certificate}
    assert {endpoint.EndpointUrl for endpoint in endpoints} == {closed.endpoint_url}


async def test_on_an_unsecured_channel_nothing_but_discovery_is_answered(closed: OpcUaServer) -> None:
    client = Client(closed.endpoint_url)
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    assert await client.get_endpoints()
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.create_session()
    assert refused.value.code == ua.StatusCodes.BadSecurityPolicyRejected
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.nodes.server.read_browse_name()
    assert refused.value.code == ua.StatusCodes.BadSecurityPolicyRejected
    await client.close_secure_channel()
    client.disconnect_socket()


async def test_nobody_registers_other_servers_here(server: OpcUaServer, closed: OpcUaServer) -> None:
    for one in (server, closed):
        client = Client(one.endpoint_url)
        await client.connect_sessionless()
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await client.uaclient.register_server(ua.RegisteredServer())
        assert refused.value.code == ua.StatusCodes.BadServiceUnsupported
        await client.disconnect_sessionless()


async def test_a_login_does_not_hold_up_the_server(closed: OpcUaServer, tmp_path: Path, monkeypatch) -> None:
    threads = set()
    users = closed._iserver.logins._users
    verify = users.verify

    def watched(name: str, password: str) -> bool:
        threads.add(threading.current_thread())
        return verify(name, password)

    monkeypatch.setattr(users, "verify", watched)
    async with secure_client(closed, tmp_path / "client", Mode.SignAndEncrypt, "ann", PASSWORD):
        pass
    with pytest.raises((ua.UaError, ConnectionError)):
        async with secure_client(closed, tmp_path / "client", Mode.SignAndEncrypt, "bob", PASSWORD):
            pass
    assert threads
    assert threading.main_thread() not in threads


async def test_a_users_file_that_breaks_lets_nobody_in(closed: OpcUaServer, tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text("{")
    with pytest.raises((ua.UaError, ConnectionError)):
        async with secure_client(closed, tmp_path / "client", Mode.SignAndEncrypt, "ann", PASSWORD):
            pytest.fail("the session was accepted")


async def test_anonymous_sessions_are_possible_when_wanted(client: Client) -> None:
    assert await client.get_namespace_array()
    modes = {endpoint.SecurityMode for endpoint in await client.get_endpoints()}
    assert modes == {Mode.None_, *MODES}


async def node_opcua(*arguments: str) -> dict[str, Any]:
    """What connect.js says."""
    process = await asyncio.create_subprocess_exec(
        needs.node(),
        str(Path(__file__).with_name("connect.js")),
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = output.decode().splitlines()
    assert lines, errors.decode()
    return json.loads(lines[-1])


@pytest.mark.e2e
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_node_opcua_reads_and_subscribes_as_a_user(
    closed: OpcUaServer, tmp_path: Path, mode: str
) -> None:
    machine: Instance = closed.add_instance(
        "m1", "Machine 1", machine_template(closed), closed.node_id("mach", 1001)
    )
    machine.write(SIGNAL, 1.0)

    async def heat() -> None:
        while True:
            await asyncio.sleep(0.05)
            machine.write(SIGNAL, machine.read(SIGNAL).Value.Value + 1.0)

    heating = asyncio.create_task(heat())
    answer = await node_opcua(
        closed.endpoint_url,
        mode,
        str(tmp_path / "node"),
        "ann",
        PASSWORD,
        machine.node_id(SIGNAL).to_string(),
    )
    heating.cancel()
    assert answer["connected"], answer
    assert answer["status"] == "Good"
    first, second = answer["changes"]
    assert second == first + 1.0


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("mode", "user", "password"),
    [
        ("SignAndEncrypt", "ann", "wrong"),
        ("SignAndEncrypt", "", ""),
        ("None", "ann", PASSWORD),
        ("None", "", ""),
    ],
)
async def test_node_opcua_is_refused_without_user_password_or_security(
    closed: OpcUaServer, tmp_path: Path, mode: str, user: str, password: str
) -> None:
    answer = await node_opcua(closed.endpoint_url, mode, str(tmp_path / "node"), user, password, "")
    assert not answer["connected"], answer
    assert answer["error"]
