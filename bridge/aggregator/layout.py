"""Where the machine entries stand in a config.json.

In: the tree of the file. Out: the list of their nodes, or what is wrong instead. The names of the Aggregator's
top-level keys are not public, so the entries are recognised by what they hold: the file is a bare array of them, a
single entry, or an object in which exactly one top-level array holds entries.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bridge.aggregator.jsonc import Array, Node, Object, Scalar
from bridge.aggregator.problem import Finding

MEANINGS: Final = {
    "type": '`"OCTOPRINT"`, in upper or lower case',
    "url": "base URL of that OctoPrint; http or https, without user, password or query",
    "custom_name": "name shown in the MES; unset: read from the machine",
    "api_key": "the key itself",
    "authentication_file_path": "the file that holds the key; from 1.4 the key itself is allowed too",
    "mes_id": "array of whole numbers: the MES instances that show this machine",
    "umati_server_port": (
        "the OPC UA port of this machine alone, 1 to 65535: there, and only there, a client finds it below `Machines`;"
        " machines without one share the port of the settings"
    ),
}
"""The keys of our entries, as people read of them."""
KNOWN_KEYS: Final = (*MEANINGS, "unique_name")
_BESIDE_TYPE: Final = frozenset(KNOWN_KEYS) - {"type"}
_TELLING: Final = frozenset({"api_key", "authentication_file_path", "mes_id", "umati_server_port"})


class Layout(NamedTuple):
    """`findings` are about the file as a whole, and stand at `offset`."""

    entries: list[Node]
    offset: int
    findings: tuple[Finding, ...] = ()


def find_entries(root: Node) -> Layout:
    """Finds the machine entries. An element of the found array that is no entry at all is in the list too."""
    if isinstance(root, Array):
        return _bare(root)
    if isinstance(root, Scalar):
        return _none(root, "the file holds a single value instead of machines")
    if _is_entry(root, typed=True):
        return Layout([root], root.start)
    arrays = [member for member in root.members if isinstance(member.value, Array)]
    # An entry that lacks its type is still an entry, but other arrays may hold something alike: typed ones go first.
    for typed in (True, False):
        holding = [member for member in arrays if _holds_entries(member.value, typed=typed)]
        if len(holding) == 1:
            node = holding[0].value
            return Layout(node.items if isinstance(node, Array) else [], node.start)
        if holding:
            finding = Finding(
                "error",
                f"{len(holding)} arrays of this object hold machine entries; it is not clear which one counts",
                "bring all machines into one array",
            )
            return Layout([], holding[1].start, (finding,))
    if _is_entry(root, typed=False):
        return Layout([root], root.start)
    if arrays and all(isinstance(member.value, Array) and not member.value.items for member in arrays):
        return Layout([], arrays[0].value.start, (_NO_MACHINES,))
    return _none(root, "no array at the top level of this object holds machine entries")


_NO_MACHINES = Finding(
    "warning",
    "the file holds no machines yet",
    "pair an OctoPrint that has the plugin, which writes its entry: `mesbridge pair open`, while the bridge runs",
)


def _bare(root: Array) -> Layout:
    if not root.items:
        return Layout([], root.start, (_NO_MACHINES,))
    if not any(isinstance(item, Object) for item in root.items):
        return _none(root, "this array holds no machine entries")
    return Layout(root.items, root.start)


def _none(root: Node, message: str) -> Layout:
    hint = (
        'a machine entry is an object such as {"type": "OCTOPRINT", "url": ..., "authentication_file_path": ..., '
        '"mes_id": [1]}; put the entries into one array'
    )
    return Layout([], root.start, (Finding("error", message, hint),))


def _holds_entries(node: Node, *, typed: bool) -> bool:
    return isinstance(node, Array) and any(_is_entry(item, typed=typed) for item in node.items)


def _is_entry(node: Node, *, typed: bool) -> bool:
    if not isinstance(node, Object):
        return False
    names = {key.lower() for key in node.index}
    if typed:
        return "type" in names and not names.isdisjoint(_BESIDE_TYPE)
    mes_id = node.index.get("mes_id")
    return len(names & _TELLING) >= 2 and (mes_id is None or isinstance(mes_id.value, Array))
