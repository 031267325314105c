"""What the standard's attributes and nodes say of roles (Part 3, 4.9 and 5.2.9; Part 18, 4.2): what is really allowed.

In: whether somebody is an operator, and whether a method is for observers too. Out: role permissions, and the role set
with the roles that there are.
"""

from collections.abc import Iterator

from asyncua import ua

from .declarations import HAS_COMPONENT, HAS_PROPERTY
from .readers import READING
from .space import LazyAddressSpace
from .typetable import good

Ids = ua.ObjectIds
Permission = ua.PermissionType
OBSERVER = ua.NodeId(Ids.WellKnownRole_Observer)
OPERATOR = ua.NodeId(Ids.WellKnownRole_Operator)
LOOK = Permission.Browse | Permission.ReadRolePermissions | Permission.Read | Permission.ReceiveEvents
ACT = LOOK | Permission.Call
_ROLE_SET = ua.NodeId(Ids.Server_ServerCapabilities_RoleSet)
_EVERYBODY = {  # whose members are known without a list
    ua.NodeId(Ids.WellKnownRole_Anonymous): ua.IdentityCriteriaType.Anonymous,
    ua.NodeId(Ids.WellKnownRole_AuthenticatedUser): ua.IdentityCriteriaType.AuthenticatedUser,
}
_ROLES = {*_EVERYBODY, OBSERVER, OPERATOR}
_DOWN = {HAS_COMPONENT, HAS_PROPERTY}


def _value(**permissions: ua.PermissionType) -> ua.DataValue:
    roles = {"observer": OBSERVER, "operator": OPERATOR}
    held = [ua.RolePermissionType(roles[name], allowed) for name, allowed in permissions.items()]
    return good(ua.Variant(held, ua.VariantType.ExtensionObject, is_array=True))


_OF_ALL = {False: _value(observer=LOOK, operator=ACT), True: _value(observer=ACT, operator=ACT)}
_OF_OBSERVER = {False: _value(observer=LOOK), True: _value(observer=ACT)}
_OF_OPERATOR = _value(operator=ACT)


def role_permissions(for_observers: bool = False) -> ua.DataValue:
    """RolePermissions (Part 3, 5.2.9) of a node; observers call a method that is for them too."""
    return _OF_ALL[for_observers]


def user_role_permissions(for_observers: bool = False) -> ua.DataValue:
    """UserRolePermissions (Part 3, 5.2.10) for the session whose request is served."""
    reading = READING.get()
    return _OF_OPERATOR if reading is not None and reading.reader.is_operator else _OF_OBSERVER[for_observers]


def access_restrictions(anonymous: bool) -> int:
    """DefaultAccessRestrictions (Part 3, 5.2.11): without anonymous clients nothing is told unsigned."""
    return 0 if anonymous else int(ua.AccessRestrictionType.SigningRequired)


def show_roles(space: LazyAddressSpace) -> None:
    """Leave the roles that there are in the role set, and nothing that would change them: a command does that."""
    for child in list(_children(space, _ROLE_SET)):
        if child not in _ROLES:
            _remove(space, child)
            continue
        for part in list(_children(space, child)):
            if space.value(part, ua.AttributeIds.BrowseName).Name != "Identities":
                _remove(space, part)
            elif child in _EVERYBODY:
                rules = [ua.IdentityMappingRuleType(_EVERYBODY[child], "")]
                told = good(ua.Variant(rules, ua.VariantType.ExtensionObject, is_array=True))
                space.node(part).attributes[ua.AttributeIds.Value].value = told
            else:  # who is in these is in the users file, for the administrator alone
                denied = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
                space.node(part).attributes[ua.AttributeIds.Value].value = denied


def _children(space: LazyAddressSpace, node_id: ua.NodeId) -> Iterator[ua.NodeId]:
    for reference in space.node(node_id).references:
        if reference.IsForward and reference.ReferenceTypeId in _DOWN:
            yield reference.NodeId


def _remove(space: LazyAddressSpace, node_id: ua.NodeId) -> None:
    for child in list(_children(space, node_id)):
        _remove(space, child)
    space.take_out(node_id)
