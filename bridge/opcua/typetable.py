"""The compiled types: reads types.json.z and makes the NodeData of a node when somebody asks for it.

In: the table that `compiler` wrote. Out: NodeData objects as asyncua's importer would have made them, and the Python
classes of the structures and enumerations, registered with asyncua.
"""

import base64
import json
import struct
import zlib
from array import array
from itertools import accumulate
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common import structures104
from asyncua.common.utils import Buffer
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.ua import ua_binary

TABLE_PATH = Path(__file__).with_name("types.json.z")
FORMAT = 1
NO_INDEX = -1  # this node has no value, or no type definition
FORWARD = 0x8000  # flag beside the index of a reference type

GOOD = ua.StatusCode()
Id = ua.AttributeIds
Type = ua.VariantType


def good(variant: ua.Variant) -> ua.DataValue:
    """The value with status Good and without times; a status object of its own would cost memory."""
    return ua.DataValue(variant, GOOD)


class SharedValue(AttributeValue):
    """An attribute value that many nodes hold; whoever changes it for one node puts a copy in its place."""


class TypeTable:
    """Nodes of the standard namespace and of the companion models, made on demand.

    `namespaces` are the URIs by namespace index (index 1, the server's own, is empty); `prefixes` maps the short
    names of the models to their index.
    """

    def __init__(self, path: Path = TABLE_PATH) -> None:
        columns = json.loads(zlib.decompress(path.read_bytes()))
        if columns["format"] != FORMAT:
            raise ValueError(f"{path} has format {columns['format']}, not {FORMAT}: compile it again")
        self.namespaces: list[str] = columns["namespaces"]
        self.prefixes: dict[str, int] = columns["prefixes"]
        self._identifiers: list[int | str] = []
        self._node_namespaces = bytearray()
        self._indexes: list[dict[int | str, int]] = []
        for namespace, identifiers in enumerate(columns["identifiers"]):
            start = len(self._identifiers)
            self._indexes.append(dict(zip(identifiers, range(start, start + len(identifiers)), strict=True)))
            self._identifiers += identifiers
            self._node_namespaces += bytes((namespace,)) * len(identifiers)
        self._count = len(self._identifiers)
        for namespace, identifier in columns["outside"]:
            self._identifiers.append(identifier)
            self._node_namespaces.append(namespace)
        self._node_ids: dict[int, ua.NodeId] = {}  # those in use, by place
        self._names: list[str] = columns["names"]
        self._browse_namespaces = array("B", columns["browse_namespaces"])
        self._browse_names = array("H", columns["browse_names"])
        self._display_names: dict[str, list[str | None]] = columns["display_names"]
        self._node_classes = array("B", columns["node_classes"])
        self._attributes = array("H", columns["attributes"])
        self._attribute_sets: list[list[int]] = columns["attribute_sets"]
        self._values: list[str] = columns["values"]
        self._node_values = array("i", columns["node_values"])
        self._reference_ends = array("I", accumulate(columns["reference_counts"]))
        self._references = base64.b64decode(columns["references"])
        self._type_definitions = array("i", columns["type_definitions"])
        self._base_types: list[tuple[int, str]] = columns["base_types"]
        self._data_types: list[tuple[str, str, int, Any]] = columns["data_types"]
        self._shared: dict[Any, SharedValue] = {}
        self._faces: dict[int, tuple[ua.QualifiedName, ua.LocalizedText, ua.NodeClass]] = {}

    def __len__(self) -> int:
        return self._count

    def index(self, node_id: ua.NodeId) -> int | None:
        """The node's place in the table; None when it is not a node of the table."""
        namespace = node_id.NamespaceIndex
        if namespace >= len(self._indexes):
            return None
        index: int | None = self._indexes[namespace].get(node_id.Identifier)
        return index

    def node_id(self, index: int) -> ua.NodeId:
        node_id = self._node_ids.get(index)
        if node_id is None:
            node_id = ua.NodeId(self._identifiers[index], self._node_namespaces[index])
            self._node_ids[index] = node_id
        return node_id

    def node_ids(self) -> list[ua.NodeId]:
        """The ids of all nodes."""
        return [self.node_id(index) for index in range(self._count)]

    def make(self, index: int) -> NodeData:
        """A new NodeData; attribute values other than NodeId and Value are shared with other nodes."""
        node_id = self.node_id(index)
        browse_name, display_name, node_class = self._face(index)
        node = NodeData(node_id)
        attributes = node.attributes
        attributes[Id.NodeId] = AttributeValue(good(ua.Variant(node_id, Type.NodeId)))
        attributes[Id.BrowseName] = AttributeValue(good(ua.Variant(browse_name, Type.QualifiedName)))
        attributes[Id.NodeClass] = self._shared_value(node_class, ua.Variant(node_class, Type.Int32))
        attributes[Id.DisplayName] = AttributeValue(good(ua.Variant(display_name, Type.LocalizedText)))
        numbers = iter(self._attribute_sets[self._attributes[index]])
        for attribute, value in zip(numbers, numbers, strict=True):
            shared = self._shared.get(value)
            if shared is None:
                shared = self._shared[value] = SharedValue(good(self._decoded(value)))
            attributes[Id(attribute)] = shared
        if self._node_values[index] != NO_INDEX:
            attributes[Id.Value] = AttributeValue(good(self._decoded(self._node_values[index])))
        start = self._reference_ends[index - 1] if index else 0
        pairs = self._references[4 * start : 4 * self._reference_ends[index]]
        node.references = [self._reference(kind, target) for kind, target in struct.iter_unpack("<HH", pairs)]
        return node

    def _reference(self, kind: int, target: int) -> ua.ReferenceDescription:
        if target >= self._count:  # outside the table: nothing but its id is known
            return ua.ReferenceDescription(
                self.node_id(kind & ~FORWARD), kind >= FORWARD, self.node_id(target)
            )
        type_definition = self._type_definitions[target]
        return ua.ReferenceDescription(
            self.node_id(kind & ~FORWARD),
            kind >= FORWARD,
            self.node_id(target),
            *self._face(target),
            ua.NodeId() if type_definition == NO_INDEX else self.node_id(type_definition),
        )

    def _face(self, index: int) -> tuple[ua.QualifiedName, ua.LocalizedText, ua.NodeClass]:
        """What references show of this node; the objects are shared by all of them."""
        face = self._faces.get(index)
        if face is None:
            name = self._names[self._browse_names[index]]
            display = self._display_names.get(str(index))
            face = self._faces[index] = (
                ua.QualifiedName(name, self._browse_namespaces[index]),
                ua.LocalizedText(name) if display is None else ua.LocalizedText(*display),
                ua.NodeClass(self._node_classes[index]),
            )
        return face

    def _decoded(self, value: int) -> ua.Variant:
        return ua_binary.variant_from_binary(Buffer(base64.b64decode(self._values[value])))

    def _shared_value(self, key: Any, variant: ua.Variant) -> SharedValue:
        shared = self._shared.get((type(key), key))
        if shared is None:
            shared = self._shared[type(key), key] = SharedValue(good(variant))
        return shared

    def register_data_types(self) -> None:
        """Generate the classes of the models' structures and enumerations as `ua.<Name>` (30 ms; once a process)."""
        global _registered
        if _registered:
            return
        _registered = True
        for index, base in self._base_types:
            ua.basetype_by_datatype[self.node_id(index)] = base
        for kind, name, index, extra in self._data_types:
            node_id = self.node_id(index)
            if kind == "simple":
                if not hasattr(ua, name):
                    ua.register_basetype(name, node_id, getattr(ua, extra))
                continue
            definition = self.make(index).attributes[Id.DataTypeDefinition].value.Value.Value
            if kind == "structure":
                cls = structures104._generate_object(name, definition, data_type=node_id)[name]
                cls.data_type = node_id
                ua.register_extension_object(name, self.node_id(extra), cls, node_id)
            else:
                cls = structures104._generate_object(name, definition, enum=True, option_set=kind == "flags")[
                    name
                ]
                ua.register_enum(name, node_id, cls)


_registered = False
