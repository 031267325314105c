"""How nodes become lines of the documentation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asyncua import ua

from tests.docs.example import connected, printing
from tests.docs.nodes import Row, _merged, _only_with
from tests.docs.notation import Notation, table

ROW = Row(("Process", "own:Bed"), "am:ProcessValueAMType", "", "°C", "own", "60", "Process/own:*", "a heater")


def test_a_node_that_a_setting_switches_on_says_so() -> None:
    other = replace(ROW, path=("Process",))
    with_setting, without = _only_with("opcua.lamp", [ROW, other], {other.path})
    assert with_setting.fed_by == "only with `opcua.lamp`: a heater"
    assert without is other


def test_nodes_of_one_text_that_are_alike_share_a_line_and_others_do_not() -> None:
    chamber = replace(ROW, path=("Process", "own:Chamber"), example="35")
    tool = replace(ROW, path=("Process", "own:Tool 0"), unit="°F")
    assert [paths for paths, _ in _merged([ROW, tool, chamber])] == [[ROW.path, chamber.path], [tool.path]]


def test_nodes_with_a_text_of_their_own_have_a_line_of_their_own() -> None:
    own = replace(ROW, pattern="Process/own:Bed")
    assert len(list(_merged([own, replace(own, path=("Process", "own:Chamber"))]))) == 2


async def test_a_method_is_written_with_its_arguments() -> None:
    async with connected(printing()) as (client, _):
        isa = await client.get_namespace_index("http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/")
        notation = await Notation.of(client)
        methods = {
            reference.BrowseName.Name: reference.NodeId
            async for reference in notation.types.children(ua.NodeId(1003, isa))
        }
        assert await notation.arguments(methods["RequestJobResponseByJobOrderState"]) == (
            "(JobOrderState: isa:ISA95StateDataType[])"
            " → (JobResponses: isa:ISA95JobResponseDataType[], ReturnStatus: UInt64)"
        )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (ua.LocalizedText("MK4"), "`MK4`"),
        ("", "empty"),
        ([], "empty"),
        ([1, 2], "[1, 2]"),
        (None, "null"),
        (True, "True"),
        (60.0, "60"),
        (ua.NodeId(5006, 1), "`mach:i=5006`"),
    ],
)
def test_values_are_written_in_few_words(value: object, written: str) -> None:
    notation = Notation(None, ["http://opcfoundation.org/UA/", "http://opcfoundation.org/UA/Machinery/"])
    assert notation.value(value) == written


def test_a_cell_cannot_end_its_column() -> None:
    assert table(("a",), [["x|y"]]).splitlines()[2] == r"| x\|y |"
