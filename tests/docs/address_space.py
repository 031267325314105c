"""Makes docs/address-space.md: hand-written prose, with tables read from the running server.

The prose is in ``address-space.md`` beside this module, ``{{name}}`` where a table belongs; what only people know of
nodes, states and events is in ``texts.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.example import connected, printing
from tests.docs.nodes import node_tables
from tests.docs.tables import event_tables, namespace_table, situation_table, state_table
from tests.docs.texts import Texts

DOCUMENT = Path(__file__).parents[2] / "docs" / "address-space.md"
PROSE = Path(__file__).with_name("address-space.md")


async def document() -> str:
    """The whole document. TextsError for a node, state or event without a text, and the other way round."""
    texts = Texts()
    async with connected(printing()) as (client, _):
        namespaces = await namespace_table(client)
    events, fields = await event_tables(texts)
    tables = {
        "namespaces": namespaces,
        "nodes": await node_tables(texts),
        "situations": situation_table(),
        "states": state_table(),
        "events": events,
        "event fields": fields,
    }
    return re.sub(r"\{\{(.+?)\}\}", lambda place: tables[place[1]], PROSE.read_text(encoding="utf-8"))
