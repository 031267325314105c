"""The virtual stack light."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncua import Client, ua

from bridge import wire
from bridge.umati.readings import Reading
from bridge.umati.stacklight import STACKLIGHT, Stacklight
from tests.bridge.events import START, Story, printing
from tests.bridge.umati.projected import NAMESPACES
from tests.bridge.umati.test_server import node, serving, story, value

PART = Stacklight(lambda prefix, number: ua.NodeId(number, NAMESPACES[prefix]))


def lit(readings: dict[str, Reading]) -> list[str]:
    return [path.split(".")[2] for path, reading in readings.items() if reading.value.Value]


def ready() -> Story:
    told = Story()
    told.link("up")
    told.tell(wire.SNAPSHOT, heaters={})
    return told


def waiting() -> Story:
    told = printing()
    told.tell(wire.JOB_PAUSED)
    return told


def broken() -> Story:
    told = printing()
    told.tell(wire.ERROR)
    told.states("error")
    return told


@pytest.mark.parametrize(
    ("told", "lights"), [(ready, []), (printing, ["Green"]), (waiting, ["Yellow"]), (broken, ["Red"])]
)
def test_one_light_at_most_shows_what_the_machine_is_about(told, lights: list[str]) -> None:
    assert lit(dict(PART.whole(told().machine, START))) == lights


def test_changes_say_which_lights_went_on_and_off() -> None:
    told = printing()
    told.states("printing")
    written = dict(PART.changes(told.tell(wire.JOB_PAUSED)))
    assert {path.split(".")[2]: reading.value.Value for path, reading in written.items()} == {
        "Yellow": True,
        "Green": False,
    }
    assert {reading.time for reading in written.values()} == {told.now}
    assert list(PART.changes(told.tell(wire.HEATERS))) == []


def test_out_of_reach_nobody_knows_what_is_lit() -> None:
    told = printing()
    lost = dict(PART.changes(told.link("lost")))
    assert {reading.status for reading in lost.values()} == {ua.StatusCodes.BadNoCommunication}
    assert len(lost) == 3
    assert {reading.status for reading in dict(PART.changes(told.link("up"))).values()} == {0}


async def test_a_client_finds_three_lights_in_order_where_a_setting_asks_for_them(tmp_path: Path) -> None:
    told = story()
    async with (
        serving(tmp_path, told, stacklight=True) as server,
        Client(server.endpoint_url) as client,
    ):
        lights = await (await node(client, STACKLIGHT)).get_children(ua.ObjectIds.HasOrderedComponent)
        assert [(await light.read_display_name()).Text for light in lights] == ["Green", "Yellow", "Red"]
        assert await value(client, f"{STACKLIGHT}.Yellow.SignalColor") == 4
        numbers = [await value(client, f"{STACKLIGHT}.{light}.NumberInList") for light in ("Green", "Red")]
        assert numbers == [0, 2]  # from the base up
        server.handle(told.tell(wire.JOB_STARTED))
        assert await value(client, f"{STACKLIGHT}.Green.SignalOn") is True


async def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path, story()) as server, Client(server.endpoint_url) as client:
        with pytest.raises(ua.UaStatusCodeError):
            await (await node(client, STACKLIGHT)).read_browse_name()
