"""The legacy type dictionaries of companion models (OPC 10000-5, D.5), which some older clients cannot read.

Structures are described by their DataTypeDefinition; whoever can read that needs no dictionary.
"""

from collections.abc import Iterator

from asyncua import ua

from .declarations import HAS_COMPONENT, HAS_PROPERTY
from .space import LazyAddressSpace

_SYSTEMS = (
    ua.NodeId(ua.ObjectIds.OPCBinarySchema_TypeSystem),
    ua.NodeId(ua.ObjectIds.XmlSchema_TypeSystem),
)


def hide_type_dictionaries(space: LazyAddressSpace) -> None:
    """Take all dictionaries but those of the standard namespace out of the address space, and what refers to them."""
    for system in _SYSTEMS:
        for dictionary in list(_parts(space, system)):
            if dictionary.NamespaceIndex:
                for description in list(_parts(space, dictionary)):
                    for leaf in [*_parts(space, description), description]:
                        space.take_out(leaf)
                space.take_out(dictionary)


def _parts(space: LazyAddressSpace, node_id: ua.NodeId) -> Iterator[ua.NodeId]:
    parts = (HAS_COMPONENT, HAS_PROPERTY)
    for reference in space.node(node_id).references:
        if reference.IsForward and reference.ReferenceTypeId in parts and reference.NodeId in space:
            yield reference.NodeId
