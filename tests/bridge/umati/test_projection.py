from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from asyncua import ua
from asyncua.ua import ua_binary
from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.settings import IdentificationSettings
from bridge.umati.identification import identify
from bridge.umati.profile import Profile, profile_of
from bridge.umati.projection import nameplate
from bridge.umati.readings import Reading
from tests.bridge.events import HEATERS, JOB, START, Story, printing
from tests.bridge.umati.projected import BED, PROGRAM, TOOL, changes, shown, whole

PREDICTED = "Notification.Prognoses.JobEnd.PredictedTime"
END_OF = "Notification.Prognoses.JobEnd.SourceIdentifier"
WAITING = ua.StatusCodes.BadWaitingForInitialData
NO_COMMUNICATION = ua.StatusCodes.BadNoCommunication
LAST_USABLE = ua.StatusCodes.UncertainLastUsableValue


def test_temperatures_are_shown_as_they_were_measured_and_when() -> None:
    story = printing()
    heard = story.tell(wire.HEATERS).record.time
    story.tell(wire.PROGRESS)
    readings = whole(story.machine)
    for path, value in (
        (f"{TOOL}.AnalogSignal", 210.1),
        (f"{TOOL}.ProcessValueSetpoint", 210.0),
        (f"{BED}.AnalogSignal", 59.8),
        (f"{BED}.ProcessValueSetpoint", 60.0),
    ):
        reading = readings[path]
        assert (reading.value.Value, reading.value.VariantType) == (value, ua.VariantType.Double)
        assert (reading.time, reading.status) == (heard, 0)


def test_a_temperature_that_nobody_knows_is_bad_and_never_a_good_zero() -> None:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT, heaters={"tool0": {"actual": None, "target": None}})
    readings = whole(story.machine)
    assert {
        readings[f"{at}.{part}"].status
        for at in (TOOL, BED)
        for part in ("AnalogSignal", "ProcessValueSetpoint")
    } == {WAITING}


def test_progress_is_unknown_before_any_job_and_before_its_first_report() -> None:
    assert whole(Story().machine)[f"{PROGRAM}.Progress"].status == WAITING
    story = printing()
    assert whole(story.machine)[f"{PROGRAM}.Progress"].status == WAITING
    heard = story.tell(wire.PROGRESS).record.time
    progress = whole(story.machine)[f"{PROGRAM}.Progress"]
    assert (progress.value.Value, progress.time, progress.status) == (50.0, heard, 0)


def test_live_values_turn_bad_when_the_printer_is_lost_but_keep_what_they_had() -> None:
    story = printing()
    story.tell(wire.PROGRESS)
    profile = profile_of(story.machine)
    lost = story.link("lost")
    written = dict(changes(lost, profile))
    for path, value in ((f"{TOOL}.AnalogSignal", 210.1), (f"{PROGRAM}.Progress", 50.0)):
        reading = written[path]
        assert (reading.value.Value, reading.time, reading.status) == (
            value,
            lost.record.time,
            NO_COMMUNICATION,
        )
    assert not any(path.startswith(f"{PROGRAM}.State") for path in written)
    back = dict(changes(story.link("up"), profile))
    assert back[f"{TOOL}.AnalogSignal"].status == 0
    assert back[f"{TOOL}.AnalogSignal"].time == story.machine.heaters["tool0"].time


def test_a_disconnected_printer_leaves_no_good_temperatures_behind() -> None:
    story = printing()
    profile = profile_of(story.machine)
    story.tell(wire.JOB_ENDED)
    story.states("disconnected")
    written = dict(changes(story.transitions[-1], profile))
    assert written[f"{TOOL}.AnalogSignal"].status == NO_COMMUNICATION
    assert whole(story.machine, profile)[f"{TOOL}.AnalogSignal"].status == NO_COMMUNICATION


def test_values_from_before_a_restart_are_uncertain_until_the_printer_is_heard() -> None:
    story = Story()
    story.tell(wire.SNAPSHOT)
    assert whole(story.machine)[f"{TOOL}.AnalogSignal"].status == LAST_USABLE


def test_what_an_ended_job_reached_stays_good() -> None:
    story = printing()
    story.tell(wire.JOB_ENDED)
    story.link("lost")
    progress = whole(story.machine)[f"{PROGRAM}.Progress"]
    assert (progress.value.Value, progress.status) == (100.0, 0)


def test_only_what_differs_is_written() -> None:
    story = printing()
    profile = profile_of(story.machine)
    story.tell(wire.HEATERS)
    assert changes(story.transitions[-1], profile) == []
    story.tell(wire.HEATERS, heaters={**HEATERS, "bed": {"actual": 60.1, "target": 60.0}})
    assert [path for path, _ in changes(story.transitions[-1], profile)] == [f"{BED}.AnalogSignal"]
    story.tell(wire.PROGRESS)
    written = [path for path, _ in changes(story.transitions[-1], profile)]
    assert written == [
        f"{PROGRAM}.Progress",
        PREDICTED,
        END_OF,
        "MachineryBuildingBlocks.OperationCounters.OperationDuration",
    ]


def test_the_end_of_a_job_is_predicted_from_its_last_report_and_only_while_the_time_left_is_known() -> None:
    story = printing()
    assert {whole(story.machine)[path].status for path in (PREDICTED, END_OF)} == {WAITING}
    told = story.tell(wire.PROGRESS, print_time_left=290.0).record.time
    readings = whole(story.machine)
    end = told + timedelta(seconds=290)
    assert (readings[PREDICTED].value.Value, readings[PREDICTED].time) == (end, told)
    assert readings[END_OF].value.Value == "run-1"
    assert {readings[path].status for path in (PREDICTED, END_OF)} == {0}
    story.tell(wire.PROGRESS, print_time_left=None)
    assert whole(story.machine)[PREDICTED].status == WAITING


def test_a_time_left_that_no_calendar_holds_is_unknown() -> None:
    story = printing()
    for left in (1e12, 1e300):
        story.tell(wire.PROGRESS, print_time_left=left)
        assert whole(story.machine)[PREDICTED].status == WAITING


def test_the_end_of_a_job_is_not_predicted_when_it_is_over_or_out_of_reach() -> None:
    story = printing()
    story.tell(wire.PROGRESS)
    profile = profile_of(story.machine)
    lost = dict(changes(story.link("lost"), profile))
    assert (lost[PREDICTED].status, lost[END_OF].status) == (NO_COMMUNICATION, NO_COMMUNICATION)
    story.link("up")
    ended = dict(changes(story.tell(wire.JOB_ENDED), profile))
    assert (ended[PREDICTED].status, ended[END_OF].status) == (WAITING, WAITING)


def test_a_program_begins_and_ends_when_its_job_did() -> None:
    story = Story()
    story.position = 500
    story.link("up")
    story.tell(wire.SNAPSHOT, state="printing", job=JOB)
    written = changes(story.transitions[-1], Profile())
    states = [(r.value.Value.Text, r.time) for path, r in written if path == f"{PROGRAM}.State.CurrentState"]
    assert states == [("Running", story.now)]
    texts = {path: r for path, r in written if path in (f"{PROGRAM}.Name", f"{PROGRAM}.JobIdentifier")}
    assert {r.value.Value for r in texts.values()} == {"benchy.gcode", "run-1"}
    assert {r.time for r in texts.values()} == {START}


def last_transition(written: list[tuple[str, Reading]], machine: str) -> list[tuple[str, int, object]]:
    """Text, NodeId and time of each transition that was told."""
    last = f"{machine}.LastTransition"
    told = [dict(written[at - 3 : at + 1]) for at, (path, _) in enumerate(written) if path == last]
    return [
        (
            one[last].value.Value.Text,
            one[f"{last}.Id"].value.Value.Identifier,
            one[f"{last}.TransitionTime"].value.Value,
        )
        for one in told
    ]


def test_each_step_names_its_transition_and_when_it_happened() -> None:
    story = printing()
    story.states("printing")
    written = changes(story.tell(wire.JOB_PAUSED), Profile())
    assert last_transition(written, f"{PROGRAM}.State") == [("RunningToInterrupted", 109, story.now)]
    assert last_transition(written, "MachineryBuildingBlocks.MachineryItemState") == [
        ("FromExecutingToNotExecuting", 5022, story.now)
    ]
    lost = changes(story.link("lost"), Profile())
    assert last_transition(lost, "MachineryBuildingBlocks.MachineryOperationMode") == [
        ("FromProcessingToNone", 5051, story.now)
    ]


def test_a_jump_is_told_as_the_transitions_on_the_way() -> None:
    story = printing()
    story.states("printing")
    story.tell(wire.JOB_PAUSED)
    written = changes(story.tell(wire.JOB_ENDED, result="completed"), Profile())
    texts = [text for text, _, _ in last_transition(written, f"{PROGRAM}.State")]
    assert texts == ["InterruptedToRunning", "RunningToEnded"]


def test_the_year_of_construction_is_uncertain_when_nobody_knows_it() -> None:
    reading = whole(Story().machine)["Identification.YearOfConstruction"]
    assert (reading.value.Value, reading.status) == (0, ua.StatusCodes.UncertainInitialValue)


def test_the_first_day_of_operation_is_the_beginning_of_that_day() -> None:
    settings = IdentificationSettings(initial_operation_date=date(2024, 5, 1))
    plate = identify("m", "Left", "http://pi.plant:5000", settings, None)
    reading = dict(nameplate(plate, START))["Identification.InitialOperationDate"]
    assert (reading.value.Value, reading.status) == (datetime(2024, 5, 1, tzinfo=UTC), 0)


LEGAL = {
    ("Initializing", "Running"),
    ("Initializing", "Aborted"),
    ("Running", "Interrupted"),
    ("Running", "Ended"),
    ("Running", "Aborted"),
    ("Interrupted", "Running"),
    ("Interrupted", "Aborted"),
    ("Ended", "Initializing"),
    ("Aborted", "Initializing"),
}

_temperature = st.none() | st.floats(-20, 400)
_heaters = st.dictionaries(
    st.sampled_from(["tool0", "tool1", "bed", "chamber", "W. x%"]),
    st.fixed_dictionaries({"actual": _temperature, "target": _temperature}),
)
_runs = st.sampled_from(["run-1", "run-2"])
_job = st.none() | st.fixed_dictionaries({**{k: st.just(v) for k, v in JOB.items()}, "run": _runs})
_progress = st.fixed_dictionaries({"run": st.none() | _runs, "completion": st.none() | st.floats(0, 100)})
_event = st.one_of(
    st.tuples(st.just("link"), st.fixed_dictionaries({"link": st.sampled_from(["up", "lost"])})),
    st.tuples(st.just(wire.STATE), st.fixed_dictionaries({"state": st.sampled_from(sorted(wire.STATES))})),
    st.tuples(st.just(wire.JOB_STARTED), st.fixed_dictionaries({"run": _runs})),
    st.tuples(
        st.just(wire.JOB_ENDED),
        st.fixed_dictionaries({"run": _runs, "result": st.sampled_from(sorted(wire.RESULTS))}),
    ),
    st.tuples(st.sampled_from([wire.JOB_PAUSED, wire.JOB_RESUMED]), st.fixed_dictionaries({"run": _runs})),
    st.tuples(st.just(wire.PROGRESS), _progress),
    st.tuples(st.just(wire.HEATERS), st.fixed_dictionaries({"heaters": _heaters})),
    st.tuples(
        st.just(wire.SNAPSHOT),
        st.fixed_dictionaries(
            {"state": st.sampled_from(sorted(wire.STATES)), "job": _job, "heaters": _heaters}
        ),
    ),
    st.tuples(st.sampled_from([wire.ERROR, wire.SHUTDOWN, wire.FILAMENT_CHANGE]), st.just({})),
)
ALL_HEATERS = Profile(("tool0", "tool1", "bed", "chamber", "W. x%"))


@given(st.lists(_event, max_size=30))
def test_whatever_happens_the_written_changes_add_up_to_the_whole_and_every_step_is_legal(
    events: list[tuple[str, dict[str, object]]],
) -> None:
    story = Story()
    nodes = whole(story.machine, ALL_HEATERS)
    state = shown(nodes, f"{PROGRAM}.State")[0]
    for kind, data in events:
        transition = story.link(str(data["link"])) if kind == "link" else story.tell(kind, **data)
        for path, reading in changes(transition, ALL_HEATERS):
            assert ua_binary.variant_to_binary(reading.value)
            shown_before = nodes[path].value
            assert shown_before is None or reading.value.VariantType is shown_before.VariantType
            assert reading.time.tzinfo is not None
            nodes[path] = reading
            if path == f"{PROGRAM}.State.CurrentState":
                following = reading.value.Value.Text
                assert (state, following) in LEGAL
                state = following
    for path, reading in whole(story.machine, ALL_HEATERS).items():
        if not path.startswith("Identification.") and "LastTransition" not in path:  # those are history
            assert (nodes[path].value, nodes[path].status) == (reading.value, reading.status), path


def test_a_job_seen_first_as_running_is_initializing_before() -> None:
    story = printing()
    story.tell(wire.JOB_ENDED)
    story.tell(wire.SNAPSHOT, state="printing", job={**JOB, "run": "run-2"})
    written = changes(story.transitions[-1], Profile())
    assert [r.value.Value.Text for path, r in written if path == f"{PROGRAM}.State.CurrentState"] == [
        "Initializing",
        "Running",
    ]
    assert [path for path, _ in written].index(f"{PROGRAM}.JobIdentifier") == 1


def test_times_are_those_of_the_printer() -> None:
    story = printing()
    story.states("paused")
    written = dict(changes(story.transitions[-1], Profile()))
    assert {reading.time for reading in written.values()} == {story.now}
    assert whole(story.machine)[f"{PROGRAM}.Name"].time == START


@pytest.mark.parametrize("kind", [wire.JOB_PAUSED, wire.FILAMENT_CHANGE])
def test_an_event_that_changes_nothing_shown_writes_nothing(kind: str) -> None:
    story = Story()
    story.link("up")
    story.tell(wire.SNAPSHOT)
    story.tell(kind)
    assert changes(story.transitions[-1], profile_of(story.machine)) == []


def test_a_job_that_ended_unseen_is_aborted_under_its_own_name_before_the_next_is_shown() -> None:
    story = printing()
    story.tell(wire.SNAPSHOT, state="printing", job={**JOB, "run": "run-2", "file": "vase.gcode"})
    written = changes(story.transitions[-1], Profile())
    watched = (f"{PROGRAM}.State.CurrentState", f"{PROGRAM}.Name")
    texts = [r.value.Value for path, r in written if path in watched]
    assert [getattr(text, "Text", text) for text in texts] == [
        "Aborted",
        "vase.gcode",
        "Initializing",
        "Running",
    ]
