"""A server on a free loopback port, a template of one kind of machine, and clients."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from bridge.opcua import Addition, BuildInfo, Instance, OpcUaServer, Role, Template, TrustList, Users
from bridge.opcua.certificates import load_or_create

BUILD = BuildInfo(product_uri="urn:example:product", manufacturer="Example", product="Test", version="1.2.3")
PERCENT = ua.EUInformation(
    "http://www.opcfoundation.org/UA/units/un/cefact",
    20529,
    ua.LocalizedText("%"),
    ua.LocalizedText("percent"),
)
PASSWORD = "a password for tests"


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate folder for all servers, since a key takes long to make."""
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
def make_server(tmp_path: Path, pki: Path) -> Callable[..., OpcUaServer]:
    """Servers that are not started."""
    users = Users(tmp_path / "users.json")

    def make(**settings: Any) -> OpcUaServer:
        return OpcUaServer(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "instance_namespace_uri": "urn:example:plant",
                "application_name": "Test",
                "certificate_folder": pki,
                "users": users,
                "trust": TrustList(tmp_path / "trust", accept_any=True),
                "anonymous_role": Role.OPERATOR,
                "build_info": BUILD,
                "anonymous": True,
                **settings,
            }
        )

    return make


@pytest.fixture
async def server(make_server: Callable[..., OpcUaServer]) -> AsyncIterator[OpcUaServer]:
    """A server that anybody may use."""
    server = make_server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: OpcUaServer) -> AsyncIterator[Client]:
    """An anonymous client of that server."""
    async with Client(server.endpoint_url) as client:
        yield client


def machine_template(server: OpcUaServer) -> Template:
    """A machine tool of the companion models with a process value, methods, an add-in and a node of a vendor's own."""
    process = "mt:Monitoring/mach:Process"
    return server.build_template(
        server.node_id("am", 1005),
        include=[
            process,
            "di:Identification/di:Model",
            "mt:Notification/mt:Messages",
            "mach:MachineryBuildingBlocks/jobs:JobManagement",
            "mt:Production/mt:ActiveProgram/mt:State/LastTransition",
        ],
        additions=[
            Addition(process, "own:Tool 0", server.node_id("am", 1002)),
            Addition(
                "mt:Production/mt:ActiveProgram",
                "own:Progress",
                ua.NodeId(ua.ObjectIds.AnalogUnitRangeType),
                data_type=ua.NodeId(ua.ObjectIds.Double),
            ),
        ],
        constants={
            f"{analog}.{name}": value
            for analog in ("Production.ActiveProgram.Progress", "Monitoring.Process.Tool 0.AnalogSignal")
            for name, value in (("EngineeringUnits", PERCENT), ("EURange", ua.Range(0, 100)))
        },
        data_types={"Monitoring.Process.Tool 0.AnalogSignal": ua.NodeId(ua.ObjectIds.Double)},
        notifiers=[""],
    )


@pytest.fixture
def machine(server: OpcUaServer) -> Instance:
    """One machine on the server."""
    return server.add_instance("m1", "Machine 1", machine_template(server), server.node_id("mach", 1001))


@contextlib.asynccontextmanager
async def secure_client(
    server: OpcUaServer, folder: Path, mode: ua.MessageSecurityMode, user: str | None, password: str | None
) -> AsyncIterator[Client]:
    """A connected client with a certificate of its own."""
    own = load_or_create(folder, "Test client", "urn:example:client", ["localhost"])
    client = Client(server.endpoint_url)
    client.application_uri = own.application_uri
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        certificate=str(folder / "certificate.der"),
        private_key=str(folder / "private_key.pem"),
        mode=mode,
    )
    if user is not None:
        client.set_user(user)
        client.set_password(password)
    async with client:
        yield client
