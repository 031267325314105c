"""Makes types.json.z: the standard address space and the companion models, imported once at development time.

In: the nodeset files of the npm package node-opcua-nodesets (fetched with `npm pack` unless a folder is given)
and the ones in `nodesets/` beside this file. Out: the table that `typetable` reads at start. It holds neither
times nor anything of the Python version, so that the same nodesets always give the same bytes.

Run it as `python -m bridge.opcua.compiler [--nodesets DIR] [--check]`; with --check it writes nothing and exits 1
when the committed table is another one. It needs lxml and, without --nodesets, npm.
"""

import argparse
import asyncio
import base64
import contextlib
import enum
import json
import logging
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncua
from asyncua import Server, ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.ua import ua_binary

from .typetable import FORMAT, NO_INDEX, TABLE_PATH

NODESETS_PACKAGE = "node-opcua-nodesets"
NODESETS_VERSION = "2.182.0"
STANDARD = "Opc.Ua.NodeSet2.xml"
OWN_NODESETS = Path(__file__).parent / "nodesets"
XML = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
TYPES = "{http://opcfoundation.org/UA/2008/02/Types.xsd}"
FIRST_MODEL = 2


class Model(NamedTuple):
    """A companion model: the prefix that browse paths use, its namespace and its file."""

    prefix: str
    uri: str
    file: str


MODELS = (  # in the order of their dependencies, which is also that of their namespace indexes (from 2)
    Model("di", "http://opcfoundation.org/UA/DI/", "Opc.Ua.Di.NodeSet2.xml"),
    Model("ia", "http://opcfoundation.org/UA/IA/", "Opc.Ua.IA.NodeSet2.xml"),
    Model("mach", "http://opcfoundation.org/UA/Machinery/", "Opc.Ua.Machinery.NodeSet2.xml"),
    Model("irdi", "http://opcfoundation.org/UA/Dictionary/IRDI", "Opc.Ua.IRDI.NodeSet2.xml"),
    Model("padim", "http://opcfoundation.org/UA/PADIM/", "Opc.Ua.PADIM.NodeSet2.xml"),
    Model(
        "pv",
        "http://opcfoundation.org/UA/Machinery/ProcessValues/",
        "Opc.Ua.Machinery.ProcessValues.NodeSet2.xml",
    ),
    Model("isa", "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/", "opc.ua.isa95-jobcontrol.nodeset2.xml"),
    Model("jobs", "http://opcfoundation.org/UA/Machinery/Jobs/", "Opc.Ua.Machinery.Jobs.Nodeset2.xml"),
    Model("res", "http://opcfoundation.org/UA/Machinery/Result/", "Opc.Ua.Machinery_Result.NodeSet2.xml"),
    Model("mt", "http://opcfoundation.org/UA/MachineTool/", "Opc.Ua.MachineTool.NodeSet2.xml"),
    Model("am", "http://opcfoundation.org/UA/AdditiveManufacturing/", "additive-manufacturing-nodes.xml"),
)


def namespace_index(uri: str) -> int:
    """The index that the served namespace array gives to a model; 0 and 1 are the standard and the server's own."""
    return next(index for index, model in enumerate(MODELS, FIRST_MODEL) if model.uri == uri)


def readable(path: Path) -> str:
    """The nodeset's XML as asyncua 2.1.0 can import it whole.

    Left out: nodes for design tools only that have no parent (DI 1.05.0), and a default value that nests structures
    (Machinery Result 1.01.0). Added: inverse references to parents, without which asyncua makes each such child a
    component, properties too (PADIM 1.02.0); white space in values, without which it takes lists for empty. Changed:
    namespace indexes of qualified names in values, which it takes for the server's own.
    """
    from lxml import etree  # type: ignore[import-untyped]  # a tool of developers only

    root = etree.parse(path).getroot()
    uris = [uri.text for uri in root.iterfind(f"{XML}NamespaceUris/{XML}Uri")]
    served = {str(index): str(namespace_index(uri)) for index, uri in enumerate(uris, 1)}
    kinds = {
        (node.get("NodeId"), reference.text): reference.get("ReferenceType")
        for node in root
        for reference in node.iterfind(f"{XML}References/{XML}Reference")
        if reference.get("IsForward") != "false"
    }
    for node in [node for node in root if isinstance(node.tag, str)]:
        references, value = node.find(XML + "References"), node.find(XML + "Value")
        if references is None:
            continue
        if all(reference.get("IsForward") != "false" for reference in references):
            kind = kinds.get((node.get("ParentNodeId"), node.get("NodeId")))
            if kind is not None:
                inverse = etree.SubElement(
                    references, XML + "Reference", ReferenceType=kind, IsForward="false"
                )
                inverse.text = node.get("ParentNodeId")
            elif node.get("DesignToolOnly") == "true":
                root.remove(node)
                continue
        if value is None:
            continue
        if b"ResultMetaDataType" in etree.tostring(value):
            node.remove(value)
        for element in value.iter():
            if len(element) and element.text is None:
                element.text = " "
        for index in value.iterfind(f"{TYPES}QualifiedName/{TYPES}NamespaceIndex"):
            index.text = served.get(index.text, index.text)
    return str(etree.tostring(root, encoding="unicode"))


def nodeset_path(model: Model, nodesets: Path) -> Path:
    """The model's file: the package's, or ours for models that are not in the package."""
    own = OWN_NODESETS / model.file
    return own if own.exists() else nodesets / model.file


def correct(nodes: dict[ua.NodeId, NodeData], path: Path) -> None:
    """Set the attributes that asyncua gets wrong where the nodeset leaves them to their defaults (Part 6, annex F).

    Its own standard address space has every variable type abstract, and String for what may hold any type.
    """
    from lxml import etree

    root = etree.parse(path).getroot()
    uris = [uri.text for uri in root.iterfind(f"{XML}NamespaceUris/{XML}Uri")]
    aliases = {alias.get("Alias"): alias.text for alias in root.iterfind(f"{XML}Aliases/{XML}Alias")}

    def node_id(text: str) -> ua.NodeId:
        given = ua.NodeId.from_string(aliases.get(text, text))
        index = given.NamespaceIndex
        return ua.NodeId(given.Identifier, namespace_index(uris[index - 1]) if index else 0)

    for element in root.iterfind("*[@NodeId]"):
        node = nodes.get(node_id(element.get("NodeId")))
        if node is None:  # of a later version than asyncua's, or left out above
            continue
        right = {}
        if element.tag in (XML + "UAVariable", XML + "UAVariableType"):
            data_type = node_id(element.get("DataType", "i=24"))
            right[ua.AttributeIds.DataType] = ua.Variant(data_type, ua.VariantType.NodeId)
            rank = int(element.get("ValueRank", "-1"))
            right[ua.AttributeIds.ValueRank] = ua.Variant(rank, ua.VariantType.Int32)
        if element.tag.endswith("Type"):
            abstract = element.get("IsAbstract", "false") in ("true", "1")
            right[ua.AttributeIds.IsAbstract] = ua.Variant(abstract, ua.VariantType.Boolean)
        for attribute, variant in right.items():
            node.attributes[attribute] = AttributeValue(ua.DataValue(variant))


async def import_models(nodesets: Path) -> Server:
    """An asyncua server, not started, with the standard address space and all models in it."""
    server = Server()
    await server.iserver.init()
    await server.set_application_uri("")
    for model in MODELS:
        index = await server.register_namespace(model.uri)
        if model.prefix == "jobs":  # an OptionSet on Byte: opcua-asyncio issue 1869
            ua.basetype_by_datatype[ua.NodeId(3009, index)] = "Byte"
        await server.import_xml(xmlstring=readable(nodeset_path(model, nodesets)))
    await server.load_data_type_definitions()
    for path in (nodesets / STANDARD, *(nodeset_path(model, nodesets) for model in MODELS)):
        correct(server.iserver.aspace._nodes, path)
    return server


@contextlib.contextmanager
def recorded_registrations() -> Iterator[list[tuple[Any, ...]]]:
    """The data types that asyncua generates meanwhile, in order: (function name, *arguments)."""
    calls: list[tuple[Any, ...]] = []
    names = ("register_extension_object", "register_enum", "register_basetype")
    originals = {name: getattr(ua, name) for name in names}

    def recorder(name: str) -> Any:
        def register(*arguments: Any, **keywords: Any) -> Any:
            calls.append((name, *arguments))
            return originals[name](*arguments, **keywords)

        return register

    for name in names:
        setattr(ua, name, recorder(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(ua, name, original)


def plain(identifier: Any) -> int | str:
    return int(identifier) if isinstance(identifier, int) else "".join(identifier)


def sort_key(node_id: ua.NodeId) -> tuple[int, bool, int | str]:
    identifier = plain(node_id.Identifier)
    return node_id.NamespaceIndex, isinstance(identifier, str), identifier


class Interned:
    """Gives each distinct item the number of its first appearance."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._index: dict[Any, int] = {}

    def __call__(self, item: Any) -> int:
        if item not in self._index:
            self._index[item] = len(self.items)
            self.items.append(item)
        return self._index[item]


class Writer:
    """Turns an imported address space into the columns of the table."""

    def __init__(self, nodes: dict[ua.NodeId, NodeData], registrations: list[tuple[Any, ...]]) -> None:
        self.node_ids = sorted(nodes, key=sort_key)
        self.nodes = [nodes[node_id] for node_id in self.node_ids]
        self.registrations = registrations
        targets = {
            node_id
            for node in self.nodes
            for reference in node.references
            for node_id in (reference.ReferenceTypeId, reference.NodeId)
        }
        named = {argument for call in registrations for argument in call if isinstance(argument, ua.NodeId)}
        self.outside = sorted((targets | named) - nodes.keys(), key=sort_key)
        self.index = {node_id: i for i, node_id in enumerate([*self.node_ids, *self.outside])}
        self.names = Interned()
        self.values = Interned()
        self.attribute_sets = Interned()

    def columns(self, namespaces: list[str]) -> dict[str, Any]:
        """The table as lists; the n-th item of each column belongs to the n-th node."""
        identifiers: list[list[int | str]] = [[] for _ in namespaces]
        for node_id in self.node_ids:
            identifiers[node_id.NamespaceIndex].append(plain(node_id.Identifier))
        rows = [self.row(node) for node in self.nodes]
        browse_namespaces, browse_names, displays, classes, attributes, values, references, types = zip(
            *rows, strict=True
        )
        return {
            "format": FORMAT,
            "made_from": {NODESETS_PACKAGE: NODESETS_VERSION, "asyncua": asyncua.__version__},
            "namespaces": namespaces,
            "prefixes": {model.prefix: namespaces.index(model.uri) for model in MODELS},
            "identifiers": identifiers,
            "outside": [[node_id.NamespaceIndex, plain(node_id.Identifier)] for node_id in self.outside],
            "names": self.names.items,
            "browse_namespaces": browse_namespaces,
            "browse_names": browse_names,
            "display_names": {str(i): display for i, display in enumerate(displays) if display},
            "node_classes": classes,
            "attributes": attributes,
            "attribute_sets": self.attribute_sets.items,
            "values": [base64.b64encode(value).decode() for value in self.values.items],
            "node_values": values,
            "reference_counts": [len(blob) // 4 for blob in references],
            "references": base64.b64encode(b"".join(references)).decode(),
            "type_definitions": types,
            "base_types": [
                [self.index[node_id], name]
                for node_id, name in ua.basetype_by_datatype.items()
                if node_id.NamespaceIndex and node_id in self.index
            ],
            "data_types": [self.data_type(call) for call in self.registrations],
        }

    def row(self, node: NodeData) -> tuple[Any, ...]:
        values = {
            attribute: held.value.Value
            for attribute, held in node.attributes.items()
            if held.value is not None and held.value.Value is not None
        }
        browse_name = values[ua.AttributeIds.BrowseName].Value
        display = values[ua.AttributeIds.DisplayName].Value
        shown = None
        if display.Text != browse_name.Name or display.Locale is not None:
            shown = [display.Text, display.Locale]
        attribute_set: list[int] = []
        for attribute, variant in sorted(values.items()):
            if attribute in (
                ua.AttributeIds.NodeId,
                ua.AttributeIds.BrowseName,
                ua.AttributeIds.DisplayName,
                ua.AttributeIds.NodeClass,
                ua.AttributeIds.Value,
            ) or (attribute == ua.AttributeIds.Description and variant.Value.Text is None):
                continue
            attribute_set += (int(attribute), self.values(ua_binary.variant_to_binary(variant)))
        value = values.get(ua.AttributeIds.Value)
        references = bytearray()
        type_definition = NO_INDEX
        for reference in node.references:
            kind, target = self.index[reference.ReferenceTypeId], self.index[reference.NodeId]
            references += struct.pack("<HH", kind | 0x8000 if reference.IsForward else kind, target)
            if reference.IsForward and reference.ReferenceTypeId.Identifier == ua.ObjectIds.HasTypeDefinition:
                type_definition = target
        return (
            int(browse_name.NamespaceIndex),
            self.names("".join(browse_name.Name)),
            shown,
            int(values[ua.AttributeIds.NodeClass].Value),
            self.attribute_sets(tuple(attribute_set)),
            NO_INDEX if value is None else self.values(ua_binary.variant_to_binary(value)),
            bytes(references),
            type_definition,
        )

    def data_type(self, call: tuple[Any, ...]) -> list[Any]:
        """[kind, name, node, and: encoding node of a structure | base class of a simple type | null]"""
        function, name, *arguments = call
        if function == "register_extension_object":
            encoding, _, node = arguments
            return ["structure", name, self.index[node], self.index[encoding]]
        node, cls = arguments
        if function == "register_basetype":
            return ["simple", name, self.index[node], cls.__name__]
        return ["flags" if issubclass(cls, enum.IntFlag) else "enumeration", name, self.index[node], None]


def table_bytes(
    nodes: dict[ua.NodeId, NodeData], registrations: list[tuple[Any, ...]], namespaces: list[str]
) -> bytes:
    """The bytes of types.json.z for an imported address space."""
    columns = Writer(nodes, registrations).columns(namespaces)
    return zlib.compress(json.dumps(columns, separators=(",", ":"), ensure_ascii=False).encode(), 9)


async def compile_table(nodesets: Path) -> bytes:
    """The bytes of types.json.z made from the nodeset files in this folder."""
    with recorded_registrations() as registrations:
        server = await import_models(nodesets)
    return table_bytes(server.iserver.aspace._nodes, registrations, await server.get_namespace_array())


def content(table: bytes) -> bytes:
    """What the table says, apart from how this zlib compressed it."""
    return zlib.decompress(table)


@contextlib.contextmanager
def fetched_nodesets() -> Iterator[Path]:
    """The nodesets of the npm package, in a folder that lives as long as the context."""
    with tempfile.TemporaryDirectory() as folder:
        package = f"{NODESETS_PACKAGE}@{NODESETS_VERSION}"
        packed = subprocess.run(  # noqa: S603
            ["npm", "pack", "--silent", package],  # noqa: S607
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        with tarfile.open(Path(folder) / packed.stdout.strip()) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder) / "package" / "nodesets"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bridge.opcua.compiler", description="Make types.json.z.")
    parser.add_argument("--nodesets", type=Path, help="folder of nodeset files, instead of npm's package")
    parser.add_argument("--check", action="store_true", help="only say whether the committed table is right")
    options = parser.parse_args(arguments)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it reports harmless things in these nodesets
    source = contextlib.nullcontext(options.nodesets) if options.nodesets else fetched_nodesets()
    with source as folder:
        table = asyncio.run(compile_table(folder))
    if options.check:
        if TABLE_PATH.exists() and content(TABLE_PATH.read_bytes()) == content(table):
            return 0
        print(
            f"{TABLE_PATH} is not what the nodesets give: run `python -m bridge.opcua.compiler`",
            file=sys.stderr,
        )
        return 1
    TABLE_PATH.write_bytes(table)
    print(f"{TABLE_PATH}: {len(table)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
