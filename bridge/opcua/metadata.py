"""What Server/Namespaces says of the namespace of the instances (Part 5, 6.3.13).

It names neither version nor date, and no node that every server has: its nodes are the instances of this moment.
"""

from collections.abc import Mapping
from typing import Any

from .times import EPOCH


def namespace_metadata(uri: str) -> Mapping[str, Any]:
    """The values of a NamespaceMetadataType object by path."""
    return {
        "NamespaceUri": uri,
        "NamespaceVersion": "",
        "NamespacePublicationDate": EPOCH,
        "IsNamespaceSubset": False,
        "StaticNodeIdTypes": [],
        "StaticNumericNodeIdRange": [],
        "StaticStringNodeIdPattern": "",
    }
