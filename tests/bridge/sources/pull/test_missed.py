"""What ended while nobody looked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge import wire
from bridge.machine import Machine
from bridge.sources.pull import missed
from octoprint_mesbridge.occurrence import Occurrence
from tests.bridge.events import START, Story, printing

LATER = START + timedelta(hours=1)


def printed(path: str, minutes: float, *, took: float | None = 300.0, success: bool = True) -> dict[str, Any]:
    """A file whose last print ended so many minutes after the start of the story."""
    last = {"date": (START + timedelta(minutes=minutes)).timestamp(), "success": success}
    return {
        "path": path,
        "name": path.rpartition("/")[2],
        "origin": "local",
        "type": "machinecode",
        "prints": {"last": last if took is None else {**last, "printTime": took}},
    }


def found(known: Machine, files: Iterable[Any] = (), **now: Any) -> list[Occurrence]:
    running, job, progress = now.get("running"), now.get("job", {}), now.get("progress", {})
    return missed.jobs(known, running, files, job, progress, LATER, lambda: "pull-new")


def told(occurrences: Iterable[Occurrence]) -> list[tuple[str, float]]:
    return [(one.kind, (one.time - START).total_seconds() / 60) for one in occurrences]


def idle() -> Machine:
    story = Story()
    story.tell(wire.SNAPSHOT)
    return story.machine


def test_a_print_that_began_and_ended_meanwhile_is_told_with_its_true_times() -> None:
    occurrences = found(idle(), [printed("a/b.gcode", 30)])
    assert told(occurrences) == [(wire.JOB_STARTED, 25.0), (wire.JOB_ENDED, 30.0)]
    assert occurrences[0].data["path"] == "a/b.gcode"
    assert occurrences[1].data["result"] == "completed"


def test_several_prints_are_told_in_their_order_and_folders_are_looked_into() -> None:
    folder = {"type": "folder", "children": [printed("f/late.gcode", 50), printed("f/early.gcode", 10)]}
    assert [time for _, time in told(found(idle(), [printed("mid.gcode", 30), folder]))] == [
        5.0,
        10.0,
        25.0,
        30.0,
        45.0,
        50.0,
    ]


def test_the_end_of_the_print_that_was_running_is_found() -> None:
    known = printing().machine
    occurrences = found(known, [printed("models/benchy.gcode", 20)])
    assert told(occurrences) == [(wire.JOB_ENDED, 20.0)]
    assert occurrences[0].data["run"] == "run-1"


def test_a_failed_end_says_so_as_far_as_octoprint_knows() -> None:
    [end] = found(printing().machine, [printed("models/benchy.gcode", 20, took=None, success=False)])
    assert (end.data["result"], end.data["reason"]) == ("failed", missed.UNSEEN)


def test_a_failed_print_of_unknown_start_is_left_out() -> None:
    assert found(idle(), [printed("a.gcode", 20, took=None, success=False)]) == []


def test_what_was_told_before_is_not_told_again() -> None:
    story = printing()
    story.tell(wire.JOB_ENDED)
    ended = (story.now - START).total_seconds() / 60
    assert found(story.machine, [printed("models/benchy.gcode", ended + 0.1)]) == []
    assert found(story.machine, [printed("old.gcode", -10)]) == []


def test_a_machine_that_was_never_heard_has_no_past() -> None:
    assert found(Machine(), [printed("a.gcode", 20)]) == []


def test_the_print_that_still_runs_has_not_ended() -> None:
    assert found(printing().machine, running={"run": "run-1"}) == []


def test_without_files_the_end_is_seen_in_what_octoprint_still_shows() -> None:
    story = printing()
    story.tell(wire.PROGRESS, completion=50.0, print_time=290.0)
    job = {"file": {"path": "models/benchy.gcode"}}
    [end] = found(story.machine, job=job, progress={"completion": 100.0, "printTime": 590.0})
    assert (end.kind, end.data["result"], end.data["print_time"]) == (wire.JOB_ENDED, "completed", 590.0)
    assert end.time == story.now + timedelta(seconds=300)


def test_another_file_or_an_unfinished_one_proves_no_end() -> None:
    known = printing().machine
    assert found(known, job={"file": {"path": "x.gcode"}}, progress={"completion": 100.0}) == []
    shown = {"file": {"path": "models/benchy.gcode"}}
    assert found(known, job=shown, progress={"completion": 80.0}) == []
    assert found(known, job=shown, progress={"completion": None}) == []


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["prints", "last", "date", "success", "printTime", "children", "path"]), inner
        ),
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_odd_lists_are_no_obstacle(files: list[Any]) -> None:
    for one in found(printing().machine, files):
        wire.PAYLOADS[one.kind](one.data, one.kind)
