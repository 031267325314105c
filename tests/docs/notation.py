"""How names and values of OPC UA are written in the documentation: with prefixes for namespaces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from datetime import datetime
from typing import Any

from asyncua import Client, ua

from tests.bridge.opcua.type_system import TypeSystem

MODELS = {
    "http://opcfoundation.org/UA/": "",
    "http://opcfoundation.org/UA/DI/": "di",
    "http://opcfoundation.org/UA/IA/": "ia",
    "http://opcfoundation.org/UA/Machinery/": "mach",
    "http://opcfoundation.org/UA/Dictionary/IRDI": "irdi",
    "http://opcfoundation.org/UA/PADIM/": "padim",
    "http://opcfoundation.org/UA/Machinery/ProcessValues/": "pv",
    "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/": "isa",
    "http://opcfoundation.org/UA/Machinery/Jobs/": "jobs",
    "http://opcfoundation.org/UA/Machinery/Result/": "res",
    "http://opcfoundation.org/UA/MachineTool/": "mt",
    "http://opcfoundation.org/UA/AdditiveManufacturing/": "am",
    "urn:mesbridge:machines": "own",
}
"""The prefix of each namespace."""


class Notation:
    """Writes what one server says; `uris` is its NamespaceArray."""

    def __init__(self, types: TypeSystem, uris: list[str]) -> None:
        self.types = types
        self._prefixes = [MODELS.get(uri, uri) for uri in uris]

    @classmethod
    async def of(cls, client: Client) -> Notation:
        return cls(TypeSystem(client), await client.get_namespace_array())

    def name(self, namespace: int, name: str) -> str:
        """``mt:Production``; without a prefix what is of the standard namespace."""
        prefix = self._prefixes[namespace]
        return f"{prefix}:{name}" if prefix else name

    def path(self, path: str) -> tuple[str, ...]:
        """The names of a browse path that has namespace indexes: ``/11:Production/11:ActiveProgram``."""
        parts = (part.partition(":") for part in path.split("/")[1:])
        return tuple(self.name(int(index), name) for index, _, name in parts)

    async def type_name(self, node_id: ua.NodeId) -> str:
        """The name of a type or data type."""
        found = await self.types.attribute(node_id, ua.AttributeIds.BrowseName)
        return self.name(found.NamespaceIndex, found.Name)

    async def data_type(self, node_id: ua.NodeId) -> str:
        """The data type of a variable; ``[]`` after that of an array."""
        rank = await self.types.attribute(node_id, ua.AttributeIds.ValueRank)
        name = await self.type_name(await self.types.attribute(node_id, ua.AttributeIds.DataType))
        return f"{name}[]" if rank >= 1 else name

    async def arguments(self, method: ua.NodeId) -> str:
        """What a method takes and gives: ``(JobOrderID: String) → (ReturnStatus: UInt64)``."""
        sides = []
        for name in ("InputArguments", "OutputArguments"):
            node_id = await self.types.child(method, name)
            held = [] if node_id is None else (await self.types.value(node_id)).Value.Value or []
            told = [
                f"{one.Name}: {await self.type_name(one.DataType)}{'[]' if one.ValueRank >= 1 else ''}"
                for one in held
            ]
            sides.append(f"({', '.join(told)})")
        return " → ".join(sides)

    async def example(self, variable: ua.NodeId) -> str:
        """The value of a variable, and its status unless that is Good."""
        data = await self.types.value(variable)
        told = [] if data.Value.Value is None else [self.value(data.Value.Value)]
        told += await self._enumerated(variable, data.Value.Value)
        if not data.StatusCode.is_good():
            told.append(data.StatusCode.name)
        return " ".join(told) or "null"

    async def _enumerated(self, variable: ua.NodeId, value: Any) -> list[str]:
        """What a value of an enumeration is called."""
        data_type = await self.types.attribute(variable, ua.AttributeIds.DataType)
        if not await self.types.is_a(data_type, ua.NodeId(ua.ObjectIds.Enumeration)):
            return []
        definition = await self.types.attribute(data_type, ua.AttributeIds.DataTypeDefinition)
        return [field.Name for field in definition.Fields if field.Value == value]

    def value(self, value: Any) -> str:
        """A value in few words."""
        match value:
            case None:
                return "null"
            case ua.LocalizedText():
                return self.value(value.Text or "")
            case ua.StatusCode():
                return value.name
            case ua.QualifiedName():
                return f"`{self.name(value.NamespaceIndex, value.Name)}`"
            case ua.NodeId():
                kind = "s" if isinstance(value.Identifier, str) else "i"
                return f"`{self.name(value.NamespaceIndex, f'{kind}={value.Identifier}')}`"
            case datetime():
                return f"`{value:%Y-%m-%dT%H:%M:%SZ}`"
            case str():
                return f"`{value}`" if value else "empty"
            case float():
                return f"{value:.15g}"
            case [first, *_] if _is_structure(first):
                return f"{len(value)} {type(first).__name__}"
            case list():
                return f"[{', '.join(map(self.value, value))}]" if value else "empty"
            case _ if _is_structure(value):
                return f"1 {type(value).__name__}"
            case _:
                return (
                    f"{int(value)}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
                )


def _is_structure(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, ua.LocalizedText | ua.QualifiedName | ua.NodeId)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    lines = [list(head), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
