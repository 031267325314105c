"""Observers look, operators call methods too; what changes in the users file changes for sessions that are open."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto import uacrypto

from bridge.opcua import Instance, OpcUaServer, Role, Users
from bridge.opcua import server as server_module
from bridge.opcua.transport import password_of

from .authority import issue, key
from .clients import SECONDS, connected, gone
from .conftest import PASSWORD, machine_template

Codes = ua.StatusCodes
CLIENT = issue()
SERVER_STATE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
RESULTS = "MachineryBuildingBlocks.JobManagement.JobOrderResults"
METHOD = f"{RESULTS}.RequestJobResponseByJobOrderID"


@pytest.fixture
async def server(make_server: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpcUaServer]:
    """A server with an observer and an operator."""
    monkeypatch.setattr(server_module, "_LOOK_EVERY_S", 0.01)
    server: OpcUaServer = make_server(anonymous=False)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def users(server: OpcUaServer, tmp_path: Path) -> Users:
    """The file, as a command sees it."""
    users = Users(tmp_path / "users.json")
    users.add("ann", PASSWORD)
    users.add("olga", PASSWORD, Role.OPERATOR)
    return users


def add_machine(server: OpcUaServer) -> Instance:
    """A machine with a method."""
    machine = server.add_instance("m1", "Machine 1", machine_template(server), server.node_id("mach", 1001))

    async def answer(instance: Instance, *arguments: Any) -> list[ua.Variant]:
        return [ua.Variant("done")]

    machine.template.on_call(METHOD, answer)
    return machine


@pytest.fixture
def machine(server: OpcUaServer) -> Instance:
    return add_machine(server)


async def call(client: Client, machine: Instance) -> Any:
    return await client.get_node(machine.node_id(RESULTS)).call_method(machine.node_id(METHOD), "job 1")


async def executable(client: Client, machine: Instance) -> tuple[bool, bool]:
    node = client.get_node(machine.node_id(METHOD))
    read = [
        (await node.read_attribute(attribute)).Value.Value
        for attribute in (ua.AttributeIds.Executable, ua.AttributeIds.UserExecutable)
    ]
    return read[0], read[1]


async def test_an_observer_looks_and_calls_nothing(
    server: OpcUaServer, users: Users, machine: Instance, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path / "client", user="ann") as client:
        assert await client.get_node(machine.node_id("")).get_children()
        assert await executable(client, machine) == (True, False)
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await call(client, machine)
        assert refused.value.code == Codes.BadUserAccessDenied


async def test_an_observer_calls_the_methods_of_the_server_itself(
    server: OpcUaServer, users: Users, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path / "client", user="ann") as client:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await client.nodes.server.call_method("0:GetMonitoredItems", ua.Variant(1, ua.VariantType.UInt32))
        assert refused.value.code != Codes.BadUserAccessDenied


async def test_an_operator_calls(
    server: OpcUaServer, users: Users, machine: Instance, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path / "client", user="olga") as client:
        assert await executable(client, machine) == (True, True)
        assert await call(client, machine) == "done"


async def test_another_role_counts_for_the_next_call(
    server: OpcUaServer, users: Users, machine: Instance, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path / "client", user="olga") as client:
        users.set_role("olga", Role.OBSERVER)
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await call(client, machine)
        assert refused.value.code == Codes.BadUserAccessDenied
        users.set_role("olga", Role.OPERATOR)
        assert await call(client, machine) == "done"


@pytest.mark.parametrize("change", ["remove", "password"])
async def test_who_is_removed_or_has_another_password_is_out_and_nobody_else(
    server: OpcUaServer, users: Users, tmp_path: Path, change: str
) -> None:
    async with (
        connected(server, CLIENT, tmp_path / "client", user="ann") as client,
        connected(server, CLIENT, tmp_path / "client", user="olga") as stays,
    ):
        if change == "remove":
            users.remove("ann")
        else:
            users.add("ann", "another password")
        await gone(client)
        assert await stays.get_node(SERVER_STATE).read_value() == ua.ServerState.Running


async def test_a_users_file_that_breaks_ends_no_session(
    server: OpcUaServer, users: Users, machine: Instance, tmp_path: Path
) -> None:
    async with connected(server, CLIENT, tmp_path / "client", user="olga") as client:
        users.path.write_text("{")
        await server._iserver.end_sessions()
        assert await client.get_node(SERVER_STATE).read_value() == ua.ServerState.Running
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await call(client, machine)
        assert refused.value.code == Codes.BadUserAccessDenied


@pytest.mark.parametrize(("role", "calls"), [(Role.OBSERVER, False), (Role.OPERATOR, True)])
async def test_what_anonymous_clients_may_do_is_a_setting(make_server: Any, role: Role, calls: bool) -> None:
    server: OpcUaServer = make_server(anonymous=True, anonymous_role=role)
    await server.start()
    one = add_machine(server)
    async with Client(server.endpoint_url, timeout=SECONDS) as client:
        assert await executable(client, one) == (True, calls)
    await server.stop()


NONCE = b"n" * 32
KEY = key("server")


def token(algorithm: str | None, content: bytes) -> ua.UserNameIdentityToken:
    return ua.UserNameIdentityToken(UserName="ann", Password=content, EncryptionAlgorithm=algorithm)


def secret(password: bytes, nonce: bytes, length: int | None = None) -> bytes:
    whole = len(password) + len(nonce) if length is None else length
    return whole.to_bytes(4, "little") + password + nonce


OAEP = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
OAEP_SHA256 = "http://opcfoundation.org/UA/security/rsa-oaep-sha2-256"
RSA_1_5 = "http://www.w3.org/2001/04/xmlenc#rsa-1_5"


def encrypted(algorithm: str, plain: bytes) -> bytes:
    how = {
        OAEP: uacrypto.encrypt_rsa_oaep,
        OAEP_SHA256: uacrypto.encrypt_rsa_oaep_sha256,
        RSA_1_5: uacrypto.encrypt_rsa15,
    }
    done: bytes = how[algorithm](KEY.public_key(), plain)
    return done


@pytest.mark.parametrize("algorithm", [OAEP, OAEP_SHA256])
def test_a_password_is_read_when_it_was_encrypted_for_this_session(algorithm: str) -> None:
    sent = token(algorithm, encrypted(algorithm, secret("pässword".encode(), NONCE)))
    assert password_of(sent, KEY, NONCE) == "pässword"


@pytest.mark.parametrize(
    ("algorithm", "plain", "fault"),
    [
        (OAEP, secret(b"password", b"m" * 32), "for another session"),  # where it was recorded
        (OAEP, secret(b"password", b""), "cut off"),
        (OAEP, secret(b"password", NONCE, length=1000), "cut off"),
        (OAEP, secret(b"password", NONCE, length=3), "cut off"),
        (OAEP, b"\x00", "cut off"),
        (OAEP_SHA256, secret(b"\xff", NONCE), "codec"),
        (RSA_1_5, secret(b"password", NONCE), "not taken with"),
    ],
)
def test_other_passwords_are_refused(algorithm: str, plain: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        password_of(token(algorithm, encrypted(algorithm, plain)), KEY, NONCE)


@pytest.mark.parametrize(("content", "fault"), [(b"", "length"), (b"nonsense" * 32, "Decryption failed")])
def test_what_cannot_be_decrypted_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        password_of(token(OAEP, content), KEY, NONCE)
