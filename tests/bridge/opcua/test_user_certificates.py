"""A user comes in by proving to have the key of a certificate that the users file names; everybody else is refused."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    sign_asymmetric,
)
from structlog.testing import capture_logs

from bridge.opcua import OpcUaServer, Role, Users, UsersError
from bridge.opcua import server as server_module
from bridge.opcua.logins import MOST_WAITING_AFTER_REFUSAL
from bridge.opcua.user_certificates import ALGORITHMS, ProvenCertificate, claimed_user, prove
from tests import needs

from .authority import DAY, NOW, Holder, issue
from .clients import gone, prepared
from .conftest import PASSWORD

Codes = ua.StatusCodes
CLIENT = issue()
USER = issue("carla", uri=None)
STRANGER = issue("stranger", uri=None)
POLICIES = [SecurityPolicyBasic256Sha256, SecurityPolicyAes128Sha256RsaOaep, SecurityPolicyAes256Sha256RsaPss]
STATE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
SECURITY = ua.NodeId(
    ua.ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray
)
PATIENCE = 60  # seconds; against hanging only


@pytest.fixture
async def server(make_server: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpcUaServer]:
    """A server with a user who has a certificate, and one who has a password."""
    monkeypatch.setattr(server_module, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("bridge.opcua.logins.PAUSE", 0.0)
    server: OpcUaServer = make_server(anonymous=False)
    users = server._iserver.logins._users
    users.add_certificate("carla", USER.certificate, Role.OPERATOR)
    users.add("ann", PASSWORD)
    await server.start()
    yield server
    await server.stop()


async def by_certificate(server: OpcUaServer, holder: Holder, folder: Path, **settings: Any) -> Client:
    """A client that is not connected yet, of a user with this certificate and key."""
    client = await prepared(server, CLIENT, folder, user=None, **settings)
    client.user_certificate, client.user_private_key = holder.certificate, holder.key
    return client


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("mode", [ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt])
async def test_a_user_comes_in_by_certificate(
    server: OpcUaServer, tmp_path: Path, policy: Any, mode: ua.MessageSecurityMode
) -> None:
    async with await by_certificate(server, USER, tmp_path, policy=policy, mode=mode) as client:
        assert await client.get_node(STATE).read_value() == ua.ServerState.Running
        (session,) = server._iserver._external_sessions.values()
        assert (session.user.name, session.is_operator) == ("carla", True)
        if mode is ua.MessageSecurityMode.SignAndEncrypt:
            (told,) = await client.get_node(SECURITY).read_value()
            assert (told.ClientUserIdOfSession, told.AuthenticationMechanism) == ("carla", "Certificate")


@pytest.mark.parametrize(
    ("holder", "status"),
    [
        (STRANGER, Codes.BadIdentityTokenRejected),
        (Holder(USER.certificate, STRANGER.key), Codes.BadUserSignatureInvalid),
        (issue("carla", uri=None, begin=NOW - 2 * DAY, end=NOW - DAY), Codes.BadIdentityTokenInvalid),
        (issue("carla", uri=None, begin=NOW + DAY), Codes.BadIdentityTokenInvalid),
        (
            issue("carla", uri=None),
            Codes.BadIdentityTokenRejected,
        ),  # the same name and key, but not the certificate
        (issue("weak", uri=None, bits=1024), Codes.BadIdentityTokenInvalid),
    ],
    ids=["unknown", "of another's key", "ended", "not begun", "reissued", "weak"],
)
async def test_others_are_refused_and_it_is_logged(
    server: OpcUaServer, tmp_path: Path, holder: Holder, status: int
) -> None:
    client = await by_certificate(server, holder, tmp_path)
    with capture_logs() as logs, pytest.raises(ua.UaStatusCodeError) as refused:
        await client.connect()
    assert refused.value.code == status
    (line,) = [one for one in logs if "login by certificate refused" in one["event"]]
    assert (line["status"], line["address"]) == (ua.StatusCode(status).name, "127.0.0.1")


async def test_refusals_of_one_address_wait_and_who_is_right_does_not(
    server: OpcUaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = server._iserver.logins

    def forged() -> Any:
        raise ServiceError(Codes.BadUserSignatureInvalid)

    monkeypatch.setattr("bridge.opcua.logins.PAUSE", 3600.0)
    with pytest.raises(ServiceError):
        await logins.admit_certificate("10.0.0.1", forged)
    waits = asyncio.create_task(logins.admit_certificate("10.0.0.1", forged))
    await asyncio.sleep(0.05)
    assert not waits.done()
    with pytest.raises(ServiceError):
        await logins.admit_certificate("10.0.0.2", forged)
    assert await logins.admit_certificate("10.0.0.1", lambda: ProvenCertificate(USER.der)) == "carla"
    waits.cancel()


async def test_too_many_refusals_of_one_address_are_told_at_once(
    server: OpcUaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = server._iserver.logins

    def forged() -> Any:
        raise ServiceError(Codes.BadUserSignatureInvalid)

    monkeypatch.setattr("bridge.opcua.logins.PAUSE", 3600.0)
    with pytest.raises(ServiceError):
        await logins.admit_certificate("10.0.0.1", forged)
    tries = [asyncio.create_task(logins.admit_certificate("10.0.0.1", forged)) for _ in range(20)]
    while sum(one.done() for one in tries) < 20 - MOST_WAITING_AFTER_REFUSAL:
        await asyncio.sleep(0)
    errors = [one.exception() for one in tries if one.done()]
    assert {error.code for error in errors if isinstance(error, ServiceError)} == {
        Codes.BadUserSignatureInvalid
    }
    for one in tries:
        one.cancel()


async def test_audit_events_say_who_came_and_who_wanted_to(server: OpcUaServer, tmp_path: Path) -> None:
    async with await by_certificate(server, USER, tmp_path) as client:
        told: asyncio.Queue[Any] = asyncio.Queue()
        subscription = await client.create_subscription(10, Events(told))
        kind = client.get_node(ua.NodeId(ua.ObjectIds.AuditActivateSessionEventType))
        await subscription.subscribe_events(client.nodes.server, [kind])
        with pytest.raises(ua.UaStatusCodeError):
            await (await by_certificate(server, STRANGER, tmp_path)).connect()
        refused = await asyncio.wait_for(told.get(), PATIENCE)
        assert (refused.ClientUserId, refused.Status) == ("CN=stranger", False)
        assert refused.StatusCodeId.value == Codes.BadIdentityTokenRejected
        async with await by_certificate(server, USER, tmp_path):
            done = await asyncio.wait_for(told.get(), PATIENCE)
        assert (done.ClientUserId, done.Status) == ("carla", True)
        assert done.UserIdentityToken.CertificateData == USER.der


class Events:
    """Puts the events that a subscription tells into a queue."""

    def __init__(self, told: asyncio.Queue[Any]) -> None:
        self.told = told

    def event_notification(self, event: Any) -> None:
        self.told.put_nowait(event)


async def test_a_certificate_of_the_channel_is_nobodys(server: OpcUaServer) -> None:
    logins = server._iserver.logins
    assert (
        logins.get_user(server._iserver, certificate=USER.der) is None
    )  # as asyncua gives it for no user at all
    user = logins.get_user(server._iserver, certificate=ProvenCertificate(USER.der))
    assert user is not None
    assert user.name == "carla"


@pytest.mark.parametrize("change", ["remove", "password", "certificate"])
async def test_the_sessions_of_who_has_it_no_more_end(
    server: OpcUaServer, tmp_path: Path, change: str
) -> None:
    client = await by_certificate(server, USER, tmp_path)
    await client.connect()
    users = Users(tmp_path / "users.json")
    if change == "remove":
        users.remove("carla")
    elif change == "password":
        users.add("carla", PASSWORD)
    else:
        users.add_certificate("carla", STRANGER.certificate)
    await gone(client)
    await client.disconnect()


async def test_a_session_ends_with_the_certificate(
    server: OpcUaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await by_certificate(server, USER, tmp_path)
    await client.connect()

    class Later:
        @staticmethod
        def now(zone: Any) -> Any:
            return NOW + timedelta(days=4000)

    monkeypatch.setattr("bridge.opcua.users.datetime", Later)
    await gone(client)
    await client.disconnect()


CHALLENGE = b"certificate" + b"n" * 32


def signed(policy: Any, challenge: bytes = CHALLENGE, holder: Holder = USER) -> ua.SignatureData:
    signature, algorithm = sign_asymmetric(holder.key, challenge, policy.URI)
    return ua.SignatureData(Algorithm=algorithm, Signature=signature)


TOKEN = ua.X509IdentityToken(CertificateData=USER.der)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_signature_is_that_of_the_policy(policy: Any) -> None:
    wanted = [policy.AsymmetricSignatureURI]
    assert prove(TOKEN, signed(policy), CHALLENGE, wanted) == USER.der
    for other in set(ALGORITHMS) - set(wanted):
        with pytest.raises(ServiceError) as refused:
            prove(TOKEN, signed(policy), CHALLENGE, [other])
        assert refused.value.code == Codes.BadUserSignatureInvalid


@pytest.mark.parametrize(
    "signature",
    [
        signed(POLICIES[0], b"certificate" + b"m" * 32),  # recorded in another session
        signed(POLICIES[0], holder=STRANGER),
        ua.SignatureData(),
        ua.SignatureData(Algorithm=ALGORITHMS[0], Signature=b""),
        ua.SignatureData(Algorithm=ALGORITHMS[1], Signature=signed(POLICIES[0]).Signature),
        ua.SignatureData(Algorithm="http://www.w3.org/2000/09/xmldsig#rsa-sha1", Signature=b"x" * 256),
    ],
    ids=["replayed", "another's", "none", "empty", "wrong algorithm", "SHA-1"],
)
def test_other_signatures_are_refused(signature: ua.SignatureData) -> None:
    with pytest.raises(ServiceError) as refused:
        prove(TOKEN, signature, CHALLENGE)
    assert refused.value.code == Codes.BadUserSignatureInvalid


VERSION = bytes((0xA0, 3, 2, 1))  # [0] EXPLICIT INTEGER of one byte (RFC 5280, 4.1)
UNKNOWN_VERSION = USER.der.replace(VERSION + b"\x02", VERSION + b"\x07", 1)
UNKNOWN_KEY = USER.der.replace(bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d017f7f"), 1)
UNKNOWN_HASH = USER.der.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d01017f"))
ODD_CERTIFICATES = [UNKNOWN_VERSION, UNKNOWN_KEY, UNKNOWN_HASH]


@pytest.mark.parametrize("content", ODD_CERTIFICATES)
def test_an_odd_certificate_is_refused_like_any_other(content: bytes) -> None:
    assert content != USER.der
    token = ua.X509IdentityToken(CertificateData=content)
    with pytest.raises(ServiceError) as refused:
        prove(token, signed(POLICIES[0]), CHALLENGE)
    assert refused.value.code == Codes.BadIdentityTokenInvalid
    assert claimed_user(token) in ("", "CN=carla")


@pytest.mark.parametrize("content", [None, b"", b"nonsense", USER.der[:-1]])
def test_what_is_no_certificate_is_refused(content: bytes | None) -> None:
    token = ua.X509IdentityToken(CertificateData=content)
    with pytest.raises(ServiceError) as refused:
        prove(token, signed(POLICIES[0]), CHALLENGE)
    assert refused.value.code == Codes.BadIdentityTokenInvalid
    assert claimed_user(token) == ""


def test_a_certificate_is_kept_for_one_user_and_in_place_of_a_password(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.add("ann", PASSWORD, Role.OPERATOR)
    users.add_certificate("ann", USER.certificate)
    read = Users(tmp_path / "users.json")
    assert (read.holder(USER.der), read.certificate("ann"), read.role("ann")) == (
        "ann",
        USER.certificate,
        Role.OPERATOR,
    )
    assert not read.verify("ann", PASSWORD)
    assert not read.verify("ann", "")
    with pytest.raises(
        UsersError, match="user 'ann' has this certificate: remove that user, or make another one"
    ):
        users.add_certificate("bob", USER.certificate)
    ended = issue("old", begin=NOW - 2 * DAY, end=NOW - DAY)
    with pytest.raises(UsersError, match=r"cannot be used: it is valid from .*; make another one"):
        users.add_certificate("bob", ended.certificate)
    users.add("ann", PASSWORD)
    assert (users.holder(USER.der), users.certificate("ann")) == (None, None)
    users.path.write_text('{"users": {"eve": {"certificate": "AAAA"}}}')
    with pytest.raises(
        UsersError, match="line 1: user 'eve' has a certificate that is not the base64 of a DER"
    ):
        Users(users.path).names()


@pytest.mark.e2e
@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"])
async def test_node_opcua_comes_in_by_certificate(server: OpcUaServer, tmp_path: Path, policy: str) -> None:
    certificate, key = USER.write(tmp_path / "carla")
    process = await asyncio.create_subprocess_exec(
        *(needs.node(), str(Path(__file__).with_name("connect.js")), server.endpoint_url, "SignAndEncrypt"),
        *(str(tmp_path / "node"), "", "", "", policy, str(certificate), str(key)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert json.loads(output.decode().splitlines()[-1]) == {"connected": True}, errors.decode()
