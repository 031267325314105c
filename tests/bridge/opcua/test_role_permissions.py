"""What clients read of roles and permissions is what they are allowed to do."""

from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from bridge.opcua import OpcUaServer, Role
from bridge.opcua.roles import ACT, LOOK, OBSERVER, OPERATOR

from .authority import issue
from .clients import connected
from .conftest import PASSWORD, machine_template

Id = ua.AttributeIds
Ids = ua.ObjectIds
CLIENT = issue()
RESULTS = "MachineryBuildingBlocks.JobManagement.JobOrderResults"
METHOD = f"{RESULTS}.RequestJobResponseByJobOrderID"


async def permissions(client: Client, node_id: ua.NodeId, attribute: ua.AttributeIds) -> dict[ua.NodeId, int]:
    read = await client.get_node(node_id).read_attribute(attribute)
    return {one.RoleId: int(one.Permissions) for one in read.Value.Value}


async def answer(*_: Any) -> list[ua.Variant]:
    return [ua.Variant("done")]


@pytest.mark.parametrize("for_observers", [False, True])
async def test_permissions_say_what_a_call_is_answered(
    make_server: Any, tmp_path: Path, for_observers: bool
) -> None:
    server: OpcUaServer = make_server(anonymous=False)
    for name, role in (("ann", Role.OBSERVER), ("olga", Role.OPERATOR)):
        server._iserver.logins._users.add(name, PASSWORD, role)
    machine = server.add_instance("m1", "One", machine_template(server), server.node_id("mach", 1001))
    machine.template.on_call(METHOD, answer, for_observers=for_observers)
    await server.start()
    for user, role in (("ann", OBSERVER), ("olga", OPERATOR)):
        async with connected(server, CLIENT, tmp_path, user=user) as client:
            own = await permissions(client, machine.node_id(METHOD), Id.UserRolePermissions)
            assert own.keys() == {role}
            every = await permissions(client, machine.node_id(METHOD), Id.RolePermissions)
            assert every[role] == own[role]
            request = ua.CallMethodRequest(
                machine.node_id(RESULTS), machine.node_id(METHOD), [ua.Variant("job")]
            )
            (result,) = await client.uaclient.call([request])
            denied = result.StatusCode.value == ua.StatusCodes.BadUserAccessDenied
            assert denied != bool(own[role] & ua.PermissionType.Call)
            assert await permissions(client, machine.node_id(), Id.UserRolePermissions) == {
                role: int(ACT if role == OPERATOR else LOOK)
            }
    await server.stop()


@pytest.mark.parametrize(
    ("anonymous", "restrictions"), [(False, ua.AccessRestrictionType.SigningRequired), (True, 0)]
)
async def test_the_namespace_says_what_is_so_by_default(
    make_server: Any, tmp_path: Path, anonymous: bool, restrictions: int
) -> None:
    server: OpcUaServer = make_server(anonymous=anonymous)
    server._iserver.logins._users.add("ann", PASSWORD)
    await server.start()
    about = server.instances.get("urn:example:plant")
    async with connected(server, CLIENT, tmp_path, user="ann") as client:
        value = Id.Value
        defaults = await permissions(client, about.node_id("DefaultRolePermissions"), value)
        assert defaults == {OBSERVER: int(LOOK), OPERATOR: int(ACT)}
        path = about.node_id("DefaultUserRolePermissions")
        assert await permissions(client, path, value) == {OBSERVER: int(LOOK)}
        server._iserver.logins._users.set_role("ann", Role.OPERATOR)
        assert await permissions(client, path, value) == {OPERATOR: int(ACT)}
        assert await client.get_node(about.node_id("DefaultAccessRestrictions")).read_value() == restrictions
    await server.stop()


async def test_the_role_set_has_the_roles_that_there_are(client: Client) -> None:
    roles = await client.get_node(ua.NodeId(Ids.Server_ServerCapabilities_RoleSet)).get_children()
    names = [(await role.read_browse_name()).Name for role in roles]
    assert names == ["Anonymous", "AuthenticatedUser", "Observer", "Operator"]
    for role in roles:
        assert [(await part.read_browse_name()).Name for part in await role.get_children()] == ["Identities"]
    identities = ua.NodeId(Ids.WellKnownRole_Anonymous_Identities)
    (rule,) = await client.get_node(identities).read_value()
    assert rule.CriteriaType is ua.IdentityCriteriaType.Anonymous
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await client.get_node(ua.NodeId(Ids.WellKnownRole_Operator_Identities)).read_value()
    assert refused.value.code == ua.StatusCodes.BadUserAccessDenied
    with pytest.raises(ua.UaStatusCodeError) as gone:
        await client.get_node(ua.NodeId(Ids.WellKnownRole_SecurityAdmin)).read_browse_name()
    assert gone.value.code == ua.StatusCodes.BadNodeIdUnknown
