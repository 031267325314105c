"""Imports the nodesets of a folder and prints as JSON how the committed table differs from them.

A process of its own, because importing registers data types for the whole process.
"""

import asyncio
import json
import logging
import sys
from collections import Counter
from pathlib import Path

from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary

from bridge.opcua import compiler
from bridge.opcua.instances import Instances
from bridge.opcua.space import LazyAddressSpace
from bridge.opcua.typetable import TABLE_PATH, TypeTable


def reference_key(reference: ua.ReferenceDescription) -> tuple[object, ...]:
    return (
        reference.ReferenceTypeId,
        reference.IsForward,
        reference.NodeId,
        reference.BrowseName,
        reference.DisplayName,
        reference.NodeClass,
        reference.TypeDefinition,
    )


def attributes(node: object) -> dict[int, object]:
    """Encoded values by attribute id, without those that say nothing; a NodeId has several encodings, so itself."""
    return {
        int(attribute): held.value.Value.Value
        if attribute == ua.AttributeIds.NodeId
        else variant_to_binary(held.value.Value)
        for attribute, held in node.attributes.items()
        if held.value is not None
        and held.value.Value is not None
        and not (attribute == ua.AttributeIds.Description and held.value.Value.Value.Text is None)
    }


async def compare(nodesets: Path) -> dict[str, object]:
    with compiler.recorded_registrations() as registrations:
        server = await compiler.import_models(nodesets)
    imported = server.iserver.aspace._nodes
    table = compiler.table_bytes(imported, registrations, await server.get_namespace_array())
    lazy = LazyAddressSpace(TypeTable(), Instances(namespace=99))
    counts: Counter[str] = Counter()
    differences: list[str] = []
    for node_id, node in imported.items():
        made = lazy.node(node_id)
        counts["nodes"] += 1
        counts["references"] += len(node.references)
        if list(map(reference_key, node.references)) != list(map(reference_key, made.references)):
            differences.append(f"references of {node_id.to_string()}")
        wanted, got = attributes(node), attributes(made)
        counts["attributes"] += len(wanted)
        differences += [
            f"attribute {key} of {node_id.to_string()}"
            for key in wanted.keys() | got.keys()
            if wanted.get(key) != got.get(key)
        ]
    return {
        "same_table": compiler.content(TABLE_PATH.read_bytes()) == compiler.content(table),
        "differences": differences,
        "only_in_table": len(TypeTable()) - len(imported),
        **counts,
    }


if __name__ == "__main__":
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    print(json.dumps(asyncio.run(compare(Path(sys.argv[1])))))
