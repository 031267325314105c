"""The state machine of the active program (mt:ProductionProgramStateMachineType, OPC 40501-1), and its legal ways.

In flow a machine's job states, which may jump; out flow the single steps that the specification allows, so that
a subscriber sees each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from functools import cache

from bridge.machine import Job, JobEnded, JobPaused, JobResumed, JobStarted, JobState, Machine, Transition
from bridge.umati.states import State


class ProgramState(Enum):
    """States of mt:ProductionProgramStateMachineType; Initializing is also the state before any program."""

    INITIALIZING = State("Initializing", 0, "mt", 5039)
    RUNNING = State("Running", 1, "mt", 5041)
    ENDED = State("Ended", 2, "mt", 5038)
    INTERRUPTED = State("Interrupted", 3, "mt", 5040)
    ABORTED = State("Aborted", 4, "mt", 5037)


_OF_JOB = {
    JobState.INITIALIZING: ProgramState.INITIALIZING,
    JobState.RUNNING: ProgramState.RUNNING,
    JobState.INTERRUPTED: ProgramState.INTERRUPTED,
    JobState.ENDED: ProgramState.ENDED,
    JobState.ABORTED: ProgramState.ABORTED,
}

LEGAL = {
    ProgramState.INITIALIZING: (ProgramState.RUNNING, ProgramState.ABORTED),
    ProgramState.RUNNING: (ProgramState.INTERRUPTED, ProgramState.ENDED, ProgramState.ABORTED),
    ProgramState.INTERRUPTED: (ProgramState.RUNNING, ProgramState.ABORTED),
    ProgramState.ENDED: (ProgramState.INITIALIZING,),
    ProgramState.ABORTED: (ProgramState.INITIALIZING,),
}
"""The transitions that the type declares, without Running to Running."""


def program_state(job: Job | None) -> ProgramState:
    """The state that shows `job`."""
    return ProgramState.INITIALIZING if job is None else _OF_JOB[job.state]


@cache
def way(previous: ProgramState, following: ProgramState) -> tuple[ProgramState, ...]:
    """The shortest legal way: the states after `previous` up to `following`; empty when they are the same."""
    ways: deque[tuple[ProgramState, ...]] = deque([(previous,)])
    while ways[0][-1] is not following:
        path = ways.popleft()
        ways.extend((*path, state) for state in LEGAL[path[-1]] if state not in path)
    return ways[0][1:]


def steps(before: Machine, transition: Transition) -> Iterator[tuple[Job, tuple[ProgramState, ...]]]:
    """What the active program goes through: each job it shows on the way, and the states it takes for it."""
    state = program_state(before.job)
    for job in _stations(transition):
        following = program_state(job)
        yield job, way(state, following)
        state = following


def _stations(transition: Transition) -> Iterator[Job]:
    for change in transition.changes:
        if isinstance(change, JobStarted | JobPaused | JobResumed | JobEnded):
            yield change.job
    if transition.after.job is not None:
        yield transition.after.job
