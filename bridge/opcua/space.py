"""The lazy address space: nodes of the type table appear when asked for, instance nodes exist only as values.

In: the type table, and an `InstanceNodes` that knows the nodes of the instance namespace. Out: an asyncua
AddressSpace, and its node management service with what it lacks for such nodes.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from asyncua import ua
from asyncua.crypto.permission_rules import User
from asyncua.server.address_space import (
    AddressSpace,
    AttributeValue,
    NodeData,
    NodeManagementService,
)

from .changes import Change
from .ports import SCOPE
from .typetable import SharedValue, TypeTable

HAS_SUBTYPE = ua.NodeId(ua.ObjectIds.HasSubtype)


class Watcher(Protocol):
    """Is told what an attribute becomes; asyncua, for nodes of its own kind, calls it."""

    def push(self, change: Change) -> None: ...


Watchers = dict[int, Watcher]  # monitored items of one attribute, by handle


class VirtualNode(Protocol):
    """A node without a NodeData: made for one access and forgotten."""

    @property
    def nodeid(self) -> ua.NodeId: ...
    @property
    def attributes(self) -> Any: ...
    @property
    def references(self) -> list[ua.ReferenceDescription]: ...


class InstanceNodes(Protocol):
    """Whoever knows the nodes of one namespace."""

    namespace: int

    def find(self, node_id: ua.NodeId) -> VirtualNode | None: ...


class LazyNodes(dict[ua.NodeId, Any]):
    """The address space's nodes: those in use as items, all others made when they are first asked for."""

    def __init__(self, table: TypeTable, instances: InstanceNodes) -> None:
        super().__init__()
        self._table = table
        self._instances = instances
        self._deleted: set[ua.NodeId] = set()

    def __missing__(self, node_id: ua.NodeId) -> Any:
        if node_id.NamespaceIndex == self._instances.namespace:
            node = self._instances.find(node_id)
            if node is not None:
                return node
        index = self._table.index(node_id)
        if index is None or node_id in self._deleted:
            raise KeyError(node_id)
        made = self[self._table.node_id(index)] = self._table.make(index)
        return made

    def get(self, node_id: ua.NodeId, default: Any = None) -> Any:
        try:
            return self[node_id]
        except KeyError:
            return default

    def __contains__(self, node_id: object) -> bool:
        if not isinstance(node_id, ua.NodeId):
            return False
        if super().__contains__(node_id):
            return True
        if node_id.NamespaceIndex == self._instances.namespace:
            return self._instances.find(node_id) is not None
        return self._table.index(node_id) is not None and node_id not in self._deleted

    def __delitem__(self, node_id: ua.NodeId) -> None:
        self.pop(node_id, None)
        self._deleted.add(node_id)


class LazyAddressSpace(AddressSpace):
    """An AddressSpace over the type table; attribute values that nodes share are copied when one node changes."""

    def __init__(self, table: TypeTable, instances: InstanceNodes) -> None:
        super().__init__()
        self._nodes: LazyNodes = LazyNodes(table, instances)
        self._watchers: dict[int, Watchers] = {}  # where each handle is
        self._instances = instances

    @property
    def instance_namespace(self) -> int:
        """The index of the namespace in which nodes come and go."""
        return self._instances.namespace

    def shows(self, target: ua.NodeId) -> bool:
        """Whether a reference to this node leads somewhere for the request that is being served."""
        elsewhere = target.NamespaceIndex != self._instances.namespace
        return elsewhere or SCOPE.get() is None or target in self._nodes

    def put(self, node: NodeData) -> None:
        """Add a node."""
        self._nodes[node.nodeid] = node

    def take_out(self, node_id: ua.NodeId) -> None:
        """Take a node of the table away, with the references that lead to it."""
        for reference in self.node(node_id).references:
            other = self._nodes.get(reference.NodeId)
            if isinstance(other, NodeData):
                other.references[:] = [back for back in other.references if back.NodeId != node_id]
        del self._nodes[node_id]

    def node(self, node_id: ua.NodeId) -> NodeData:
        """The node, or KeyError."""
        node: NodeData = self._nodes[node_id]
        return node

    def value(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> Any:
        """The plain value of an attribute; None when the node has no such attribute or no value."""
        data_value = self.read_attribute_value(node_id, attribute)
        return None if data_value.Value is None else data_value.Value.Value

    def _unshare(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> None:
        node = self._nodes.get(node_id)
        if isinstance(node, NodeData):
            held = node.attributes.get(attribute)
            if isinstance(held, SharedValue) and held.value is not None:
                node.attributes[attribute] = AttributeValue(held.value)

    async def write_attribute_value(
        self, nodeid: ua.NodeId, attr: ua.AttributeIds, value: ua.DataValue
    ) -> ua.StatusCode:
        """As asyncua's; values of instances are written through their Instance alone."""
        if isinstance(self._nodes.get(nodeid), NodeData):
            self._unshare(nodeid, attr)
        elif nodeid in self._nodes:
            return ua.StatusCode(ua.StatusCodes.BadNotWritable)
        return await super().write_attribute_value(nodeid, attr, value)

    def set_attribute_value_callback(
        self,
        nodeid: ua.NodeId,
        attr: ua.AttributeIds,
        callback: Callable[[ua.NodeId, ua.AttributeIds], ua.DataValue],
    ) -> ua.StatusCode:
        """As asyncua's."""
        self._unshare(nodeid, attr)
        return super().set_attribute_value_callback(nodeid, attr, callback)

    def set_attribute_value_setter(
        self, nodeid: ua.NodeId, attr: ua.AttributeIds, setter: Callable[..., Any]
    ) -> ua.StatusCode:
        """As asyncua's."""
        self._unshare(nodeid, attr)
        return super().set_attribute_value_setter(nodeid, attr, setter)

    def add_datachange_callback(
        self, nodeid: ua.NodeId, attr: ua.AttributeIds, callback: Callable[..., Any]
    ) -> tuple[ua.StatusCode, int]:
        """As asyncua's."""
        self._unshare(nodeid, attr)
        status, handle = super().add_datachange_callback(nodeid, attr, callback)
        if status.is_good():
            self._watchers[handle] = self._nodes[nodeid].attributes[attr].datachange_callbacks
        return status, handle

    def delete_datachange_callback(self, handle: int) -> None:
        """As asyncua's, also when the node went away before the monitored item did."""
        self._handle_to_attribute_map.pop(handle, None)
        self._watchers.pop(handle, {}).pop(handle, None)


class LazyNodeManagementService(NodeManagementService):
    """Adding and deleting nodes and references, but never on instances: they are as their template says."""

    def _virtual(self, *node_ids: ua.NodeId) -> bool:
        return any(
            node is not None and not isinstance(node, NodeData) for node in map(self._aspace.get, node_ids)
        )

    def _add_node(self, item: ua.AddNodesItem, user: User, check: bool = True) -> ua.AddNodesResult:
        if self._virtual(item.ParentNodeId):
            return ua.AddNodesResult(ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
        return super()._add_node(item, user, check)

    def _delete_node(self, item: ua.DeleteNodesItem, user: User) -> ua.StatusCode:
        if self._virtual(item.NodeId):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return super()._delete_node(item, user)

    def _add_reference(self, addref: ua.AddReferencesItem, user: User) -> ua.StatusCode:
        if self._virtual(addref.SourceNodeId):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return super()._add_reference(addref, user)

    def _delete_reference(self, item: ua.DeleteReferencesItem, user: User) -> ua.StatusCode:
        if self._virtual(item.SourceNodeId, item.TargetNodeId):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return super()._delete_reference(item, user)


def supertypes(space: LazyAddressSpace, type_id: ua.NodeId) -> Iterator[ua.NodeId]:
    """The type itself, then its supertypes up to the root of its kind."""
    current: ua.NodeId | None = type_id
    while current is not None and current in space:
        yield current
        current = next(
            (
                reference.NodeId
                for reference in space.node(current).references
                if not reference.IsForward and reference.ReferenceTypeId == HAS_SUBTYPE
            ),
            None,
        )
