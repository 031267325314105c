"""What Server/Namespaces says of the namespace of the instances (Part 5, 6.3.13).

It names neither version nor date, and no node that every server has: its nodes are the instances of this moment.
"""

from collections.abc import Mapping
from typing import Any

from asyncua import ua

from .instances import Instance
from .roles import access_restrictions, role_permissions, user_role_permissions
from .template import TemplateNode
from .times import EPOCH

PERMISSIONS = ("DefaultRolePermissions", "DefaultUserRolePermissions", "DefaultAccessRestrictions")
"""What the type leaves optional."""


def namespace_metadata(uri: str, anonymous: bool) -> Mapping[str, Any]:
    """The values of a NamespaceMetadataType object by path."""
    return {
        "NamespaceUri": uri,
        "NamespaceVersion": "",
        "NamespacePublicationDate": EPOCH,
        "IsNamespaceSubset": False,
        "StaticNodeIdTypes": [],
        "StaticNumericNodeIdRange": [],
        "StaticStringNodeIdPattern": "",
        "DefaultRolePermissions": role_permissions().Value,
        "DefaultAccessRestrictions": access_restrictions(anonymous),
    }


class NamespaceMetadata(Instance):
    """The object; what it says of the user's permissions is for whoever reads it."""

    __slots__ = ()

    def data_value(self, node: TemplateNode) -> ua.DataValue:
        """The present value of a variable."""
        if node.path == "DefaultUserRolePermissions":
            return user_role_permissions()
        return super().data_value(node)
