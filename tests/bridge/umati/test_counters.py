from __future__ import annotations

from pathlib import Path

from asyncua import Client, ua

from bridge import wire
from bridge.machine import codec
from bridge.umati.profile import profile_of
from tests.bridge.events import Story, printing
from tests.bridge.umati.projected import changes, whole
from tests.bridge.umati.test_server import serving, story, value

COUNTERS = "MachineryBuildingBlocks.OperationCounters"
POWER_ON, OPERATION, CYCLES = (
    f"{COUNTERS}.{name}" for name in ("PowerOnDuration", "OperationDuration", "OperationCycleCounter")
)
HOURS = "Monitoring.MachineTool.PowerOnDuration"
PARTS = tuple(
    f"{place}.OperationCounters.PartsProducedInLifetime"
    for place in ("MachineryBuildingBlocks", "Monitoring.MachineTool")
)


def test_counters_of_a_machine_that_was_never_heard_of_are_unknown_and_not_zero() -> None:
    readings = whole(Story().machine)
    assert {readings[path].status for path in (POWER_ON, OPERATION, CYCLES, HOURS)} == {
        ua.StatusCodes.BadWaitingForInitialData
    }


def test_an_operation_is_counted_when_it_begins_and_lasts_as_long_as_it_prints() -> None:
    told = printing()
    told.tell(wire.PROGRESS, print_time=150.0)
    assert whole(told.machine)[CYCLES].value.Value == 1
    assert whole(told.machine)[OPERATION].value.Value == 120_000.0
    told.tell(wire.JOB_ENDED, print_time=580.0)
    ended = whole(told.machine)[OPERATION]
    assert (ended.value.Value, ended.status) == (540_000.0, 0)


def test_the_time_powered_on_grows_while_the_printer_is_heard_and_is_told_once_a_minute() -> None:
    told = story()
    profile = profile_of(told.machine)
    writes = []
    for _ in range(125):
        writes += [reading for path, reading in changes(told.tell(wire.HEATERS), profile) if path == POWER_ON]
    assert [reading.value.Value for reading in writes] == [60_000.0, 120_000.0]
    assert [reading.status for reading in writes] == [0, 0]


def test_the_time_powered_on_is_the_same_in_hours_and_does_not_grow_when_disconnected() -> None:
    told = story()
    told.position += 2 * 3600
    told.states("disconnected")
    told.position += 5 * 3600
    told.tell(wire.HEATERS)
    readings = whole(told.machine)
    assert readings[POWER_ON].value.Value == 2 * 3_600_000.0
    assert readings[HOURS].value.Value == 2


def test_a_part_is_produced_by_each_job_that_is_completed_and_by_no_other() -> None:
    told = printing()
    told.tell(wire.JOB_ENDED, result="cancelled")
    assert [whole(told.machine)[path].value.Value for path in PARTS] == [0, 0]
    told.tell(wire.JOB_STARTED, run="run-2")
    ended = told.tell(wire.JOB_ENDED, run="run-2")
    written = dict(changes(ended, profile_of(told.machine)))
    assert [written[path].value.Value for path in PARTS] == [1, 1]


def test_counters_go_on_after_a_restart() -> None:
    told = printing()
    told.tell(wire.PROGRESS, print_time=150.0)
    again = codec.load(codec.dump({"m": told.machine}))["m"]
    readings = whole(told.machine), whole(again)
    for path in (POWER_ON, OPERATION, CYCLES, HOURS):
        assert readings[0][path].value == readings[1][path].value
    assert readings[1][CYCLES].value.Value == 1


async def test_a_client_sees_a_cycle_counted_when_a_job_begins(tmp_path: Path) -> None:
    told = story()
    async with serving(tmp_path, told) as server, Client(server.endpoint_url) as client:
        assert await value(client, CYCLES) == 0
        server.handle(told.tell(wire.JOB_STARTED))
        assert await value(client, CYCLES) == 1
        assert await value(client, POWER_ON) == 0.0
