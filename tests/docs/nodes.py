"""The nodes of the example machine as tables, one for each object directly below the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from asyncua import Client, ua

from tests.bridge.opcua.walker import Found, Walker
from tests.docs.example import NAME, SWITCHES, connected, printing
from tests.docs.notation import Notation, table
from tests.docs.texts import Texts

HEAD = ("path", "type", "data type", "unit, range", "rule", "example", "fed by")
TOLD_WITH_THEIR_PARENT = {
    "EngineeringUnits",
    "EURange",
    "InstrumentRange",
    "InputArguments",
    "OutputArguments",
}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One node; `pattern` is that of its text, and `fed_by` the text."""

    path: Path
    kind: str
    data_type: str
    unit: str
    rule: str
    example: str
    pattern: str
    fed_by: str

    def like(self, other: Row) -> bool:
        """Whether one line can tell of both."""
        return "*" in self.pattern and replace(other, path=self.path, example=self.example) == self


async def node_tables(texts: Texts) -> str:
    """All tables. TextsError for a node without a text, and for a text without a node."""
    async with connected(printing()) as (client, _):
        rows = [row async for row in _rows(client, texts)]
    for switch in SWITCHES:
        async with connected(printing(), **{switch: False}) as (client, _):
            rows = _only_with(f"opcua.{switch}", rows, {path async for path, _ in _nodes(client)})
    return "\n\n".join(
        f"### {top}\n{table(HEAD, map(_cells, _merged(group)))}"
        for top, group in groupby(sorted(rows, key=_top), key=_top)
    )


def _top(row: Row) -> str:
    """The object directly below the machine."""
    return row.path[0]


def _only_with(setting: str, rows: Iterable[Row], without: set[Path]) -> list[Row]:
    """Say of the nodes that are not there `without` the setting that they need it."""
    return [
        row if row.path in without else replace(row, fed_by=f"only with `{setting}`: {row.fed_by}")
        for row in rows
    ]


async def _nodes(client: Client) -> AsyncIterator[tuple[Path, Found]]:
    notation = await Notation.of(client)
    index = await client.get_namespace_index("urn:mesbridge:machines")
    walker = Walker(client)
    await walker.walk(ua.NodeId(NAME, index))
    for path, found in walker.found.items():
        names = notation.path(path)
        if names[-1] not in TOLD_WITH_THEIR_PARENT:
            yield names, found


async def _rows(client: Client, texts: Texts) -> AsyncIterator[Row]:
    notation = await Notation.of(client)
    nodes = [node async for node in _nodes(client)]
    texts.check_nodes([path for path, _ in nodes])
    for path, found in nodes:
        pattern, text = texts.of(path)
        kind, data_type, unit, example = "Method", "", "", ""
        if found.type_definition is not None:
            kind = await notation.type_name(found.type_definition)
        if found.node_class is ua.NodeClass.Method:
            data_type = await notation.arguments(found.node_id)
        elif found.node_class is ua.NodeClass.Variable:
            data_type = await notation.data_type(found.node_id)
            unit = await _unit(notation, found.node_id)
            example = await notation.example(found.node_id)
        rule = ", ".join([found.rule or "own", *(["demanded by umati"] if texts.demanded(path) else [])])
        yield Row(path, kind, data_type, unit, rule, example, pattern, text)


async def _unit(notation: Notation, variable: ua.NodeId) -> str:
    """The unit with its code, and the range, as their nodes say."""
    told = []
    for name in ("EngineeringUnits", "EURange"):
        node_id = await notation.types.child(variable, name)
        held = None if node_id is None else (await notation.types.value(node_id)).Value.Value
        if isinstance(held, ua.EUInformation):
            told.append(f"{held.DisplayName.Text} ({held.UnitId})")
        elif isinstance(held, ua.Range):
            told.append(f"{held.Low:g} to {held.High:g}")
    return ", ".join(told)


def _merged(rows: Iterable[Row]) -> Iterator[tuple[list[Path], Row]]:
    """Rows that tell the same, with the paths of all."""
    merged: list[tuple[list[Path], Row]] = []
    for row in rows:
        for paths, first in merged:
            if first.like(row):
                paths.append(row.path)
                break
        else:
            merged.append(([row.path], row))
    yield from merged


def _cells(merged: tuple[list[Path], Row]) -> list[str]:
    paths, row = merged
    names = [", ".join(dict.fromkeys(names)) for names in zip(*paths, strict=True)]
    below = " / ".join(names[1:]) or "(itself)"
    return [below, row.kind, row.data_type, row.unit, row.rule, row.example, row.fed_by]
