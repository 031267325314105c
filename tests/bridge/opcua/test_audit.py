"""Operators who subscribe to the Server object learn who comes, goes and calls methods, and never a secret."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge.opcua import OpcUaServer, Role, Template
from bridge.opcua.audit import thumbprint, without_secret

from .conftest import PASSWORD, machine_template, secure_client

Ids = ua.ObjectIds
Codes = ua.StatusCodes
Mode = ua.MessageSecurityMode.SignAndEncrypt
PATIENCE = 30  # seconds; against hanging only
METHOD = "MachineryBuildingBlocks.JobManagement.JobOrderResults.RequestJobResponseByJobOrderID"


class Recorder:
    """Keeps the events that a subscription told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        self.queue.put_nowait(event)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.queue.get(), PATIENCE)


async def listen(client: Client, *event_types: int) -> Recorder:
    told = Recorder()
    subscription = await client.create_subscription(10, told)
    await subscription.subscribe_events(
        client.nodes.server, [client.get_node(ua.NodeId(number)) for number in event_types]
    )
    return told


@pytest.fixture
async def closed(make_server: Any) -> AsyncIterator[OpcUaServer]:
    """A server with an operator and an observer, to which anonymous clients may come too."""
    server = make_server()
    for name, role in (("ann", Role.OPERATOR), ("bob", Role.OBSERVER)):
        server._iserver.logins._users.add(name, PASSWORD, role)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def ann(closed: OpcUaServer, tmp_path: Path) -> AsyncIterator[Client]:
    async with secure_client(closed, tmp_path / "ann", Mode, "ann", PASSWORD) as client:
        yield client


async def test_the_server_says_that_it_audits(closed: OpcUaServer, ann: Client) -> None:
    assert await ann.get_node(ua.NodeId(Ids.Server_Auditing)).read_value() is True


async def test_a_session_is_told_from_its_creation_to_its_end(
    closed: OpcUaServer, ann: Client, tmp_path: Path
) -> None:
    before = datetime.now(UTC)
    told = await listen(
        ann, Ids.AuditCreateSessionEventType, Ids.AuditActivateSessionEventType, Ids.AuditSessionEventType
    )
    async with secure_client(closed, tmp_path / "bob", Mode, "bob", PASSWORD):
        created, activated = await told.next(), await told.next()
    ended = await told.next()
    certificate = (tmp_path / "bob" / "certificate.der").read_bytes()
    assert [event.SourceName for event in (created, activated, ended)] == [
        "Session/CreateSession",
        "Session/ActivateSession",
        "Session/CloseSession",
    ]
    for event in (created, activated, ended):
        assert event.SourceNode == ua.NodeId(Ids.Server)
        assert event.ServerId == closed.application_uri
        assert event.Status is True
        assert before <= event.ActionTimeStamp <= event.Time <= datetime.now(UTC)
        assert event.ClientApplicationUri == "urn:example:client"
        assert event.SessionId == created.SessionId
    assert created.EventType == ua.NodeId(Ids.AuditCreateSessionEventType)
    assert created.ClientCertificate == certificate
    assert created.ClientCertificateThumbprint == hashlib.sha1(certificate).hexdigest().upper()
    assert created.RevisedSessionTimeout == 600_000
    assert created.SecureChannelId == activated.SecureChannelId != ""
    assert (created.ClientUserId, activated.ClientUserId, ended.ClientUserId) == ("", "bob", "bob")
    assert activated.UserIdentityToken.UserName == "bob"
    assert activated.UserIdentityToken.Password is None


async def test_a_login_that_is_one_too_many_learns_no_more_than_from_a_wrong_password(
    closed: OpcUaServer, ann: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await listen(ann, Ids.AuditActivateSessionEventType)
    monkeypatch.setattr("bridge.opcua.logins.MOST_WAITING", 0)
    with pytest.raises((ua.UaError, ConnectionError)):
        async with secure_client(closed, tmp_path / "bob", Mode, "bob", "a wrong guess"):
            pytest.fail("the session was accepted")
    event = await told.next()
    assert event.StatusCodeId.value == Codes.BadUserAccessDenied
    assert not closed._iserver.logins._tries["127.0.0.1"].refused  # nobody looked at it


async def test_a_refused_login_is_told_without_the_password(
    closed: OpcUaServer, ann: Client, tmp_path: Path
) -> None:
    told = await listen(ann, Ids.AuditActivateSessionEventType)
    with pytest.raises((ua.UaError, ConnectionError)):
        async with secure_client(closed, tmp_path / "bob", Mode, "bob", "a wrong guess"):
            pytest.fail("the session was accepted")
    event = await told.next()
    assert (event.Status, event.ClientUserId) == (False, "bob")
    assert event.StatusCodeId.value == Codes.BadUserAccessDenied
    assert event.Severity == 500
    assert event.Message.Text.startswith("Session/ActivateSession: ")
    assert "guess" not in repr(vars(event))
    (shown,) = (
        await ann.get_node(ua.NodeId(Ids.Server_ServerDiagnostics_ServerDiagnosticsSummary)).read_value(),
    )
    assert (shown.SecurityRejectedSessionCount, shown.SecurityRejectedRequestsCount) == (1, 1)


async def test_a_session_that_cannot_be_created_is_told(closed: OpcUaServer, ann: Client) -> None:
    told = await listen(ann, Ids.AuditCreateSessionEventType)
    closed._iserver.anonymous = False
    with pytest.raises(ua.UaStatusCodeError):
        await Client(closed.endpoint_url).connect()
    event = await told.next()
    assert (event.Status, event.StatusCodeId.value) == (False, Codes.BadSecurityPolicyRejected)
    assert event.SessionId == ua.NodeId()


async def test_a_session_that_is_lost_is_told_as_terminated(
    closed: OpcUaServer, ann: Client, tmp_path: Path
) -> None:
    async with secure_client(closed, tmp_path / "bob", Mode, "bob", PASSWORD) as bob:
        told = await listen(ann, Ids.AuditSessionEventType)
        bob.disconnect_socket()
        event = await told.next()
    assert (event.SourceName, event.ClientUserId) == ("Session/Terminated", "bob")


async def test_a_call_is_told_with_its_arguments_and_how_it_ended(closed: OpcUaServer, ann: Client) -> None:
    template: Template = machine_template(closed)

    async def answer(instance: Any, *arguments: ua.Variant) -> Any:
        return (
            [ua.Variant(7, ua.VariantType.Int32)]
            if arguments[0].Value == "job"
            else ua.StatusCode(Codes.BadNotFound)
        )

    template.on_call(METHOD, answer)
    machine = closed.add_instance("m1", "Machine 1", template, closed.node_id("mach", 1001))
    told = await listen(ann, Ids.AuditUpdateMethodEventType)
    owner = machine.node_id(METHOD.rpartition(".")[0])
    long = "x" * 5000
    calls = [
        ua.CallMethodRequest(owner, machine.node_id(METHOD), [ua.Variant(text, ua.VariantType.String)])
        for text in ("job", "none", long)
    ]
    await ann.uaclient.call(calls)
    done, failed, large = await told.next(), await told.next(), await told.next()
    assert (done.SourceNode, done.SourceName, done.MethodId) == (
        owner,
        "Attribute/Call",
        machine.node_id(METHOD),
    )
    assert (done.Status, done.ClientUserId, done.ServerId) == (True, "ann", closed.application_uri)
    assert [argument.Value for argument in done.InputArguments] == ["job"]
    assert [argument.Value for argument in done.OutputArguments] == [7]
    assert (failed.Status, failed.StatusCodeId.value) == (False, Codes.BadNotFound)
    assert large.InputArguments == []  # too large to wait in queues


async def test_the_clients_own_entry_id_is_kept(closed: OpcUaServer, ann: Client, tmp_path: Path) -> None:
    told = await listen(ann, Ids.AuditUpdateMethodEventType)
    request = ua.CallRequest()
    request.RequestHeader.AuditEntryId = "entry 42"
    request.Parameters.MethodsToCall = [ua.CallMethodRequest(ua.NodeId(Ids.Server), ua.NodeId(Ids.Server))]
    await ann.uaclient.protocol.send_request(request)
    assert (await told.next()).ClientAuditEntryId == "entry 42"


async def test_a_call_that_is_not_for_the_users_role_is_told_too(
    closed: OpcUaServer, ann: Client, tmp_path: Path
) -> None:
    machine = closed.add_instance("m1", "One", machine_template(closed), closed.node_id("mach", 1001))
    told = await listen(ann, Ids.AuditUpdateMethodEventType)
    owner, method = machine.node_id(METHOD.rpartition(".")[0]), machine.node_id(METHOD)
    async with secure_client(closed, tmp_path / "bob", Mode, "bob", PASSWORD) as bob:
        (result,) = await bob.uaclient.call([ua.CallMethodRequest(owner, method)])
    assert result.StatusCode.value == Codes.BadUserAccessDenied
    denied = await told.next()
    assert (denied.SourceNode, denied.MethodId, denied.Status) == (owner, method, False)
    assert denied.StatusCodeId.value == Codes.BadUserAccessDenied


async def test_who_is_no_operator_or_has_no_name_learns_nothing(
    closed: OpcUaServer, ann: Client, tmp_path: Path
) -> None:
    async with (
        Client(closed.endpoint_url) as nobody,
        secure_client(closed, tmp_path / "bob", Mode, "bob", PASSWORD) as bob,
    ):
        machine = closed.add_instance("m1", "One", machine_template(closed), closed.node_id("mach", 1001))
        told = await listen(ann, Ids.AuditUpdateMethodEventType)
        hidden = [await listen(one, Ids.BaseEventType) for one in (nobody, bob)]
        call = ua.CallMethodRequest(ua.NodeId(Ids.Server), ua.NodeId(Ids.Server))
        await ann.uaclient.call([call])
        await told.next()
        closed.emit_event(
            machine, [""], ua.NodeId(Ids.BaseEventType), {"Message": ua.LocalizedText("public")}
        )
        assert [(await one.next()).Message.Text for one in hidden] == ["public", "public"]


def test_tokens_lose_their_secrets() -> None:
    named = ua.UserNameIdentityToken(PolicyId="p", UserName="ann", Password=b"secret")
    assert without_secret(named) == ua.UserNameIdentityToken(PolicyId="p", UserName="ann", Password=None)
    assert named.Password == b"secret"  # the login still needs it
    issued = ua.IssuedIdentityToken(PolicyId="p", TokenData=b"secret")
    assert without_secret(issued) == ua.IssuedIdentityToken(PolicyId="p", TokenData=None)
    assert without_secret(ua.AnonymousIdentityToken(PolicyId="p")) == ua.AnonymousIdentityToken(PolicyId="p")
    assert without_secret(ua.ExtensionObject(Body=b"secret")) is None


def test_no_certificate_has_no_thumbprint() -> None:
    assert thumbprint(b"") == ""
