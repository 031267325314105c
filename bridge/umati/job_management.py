"""Job management of a machine (OPC 40001-3, on OPC 10031-4): its nodes, its methods and its events.

In flow machines, transitions and method calls; out flow readings by path, the results of calls, and events.
The printer's jobs are told, none is taken: there are no methods to store, start or stop one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from asyncua import ua

from bridge.machine import Job, JobEnded, JobPaused, JobResumed, JobStarted, Link, Machine, Transition
from bridge.umati.job_orders import FeedstockOf, JobOrders, jobs_of
from bridge.umati.quality import quality_of
from bridge.umati.readings import GOOD, LAST_USABLE, NOT_ACTIVE, WAITING, Reading, Write

_JOBS = "MachineryBuildingBlocks.JobManagement"
CONTROL = f"{_JOBS}.JobOrderControl"
RESULTS = f"{_JOBS}.JobOrderResults"
ORDER_LIST = f"{CONTROL}.JobOrderList"
WORK_MASTERS = f"{CONTROL}.WorkMaster"
RESPONSE_LIST = f"{RESULTS}.JobOrderResponseList"
BY_ID = f"{RESULTS}.RequestJobResponseByJobOrderID"
BY_STATE = f"{RESULTS}.RequestJobResponseByJobOrderState"

INCLUDE = (
    "mach:MachineryBuildingBlocks/jobs:JobManagement",
    "mach:MachineryBuildingBlocks/jobs:JobManagement/jobs:JobOrderResults/isa:JobOrderResponseList",
)
CONTROL_TYPE = ("isa", 1008)
"""ISA95JobOrderReceiverSubStatesType: the states that are told have substates."""

NOTIFIERS = (CONTROL, RESULTS)
CONSTANTS = {
    f"{CONTROL}.MaxDownloadableJobOrders": 0,
    **{
        f"{CONTROL}.{name}": []
        for name in (
            "EquipmentID",
            "PhysicalAssetID",
            "MaterialClassID",
            "MaterialDefinitionID",
            "PersonnelID",
        )
    },
}
"""No job order can be downloaded, and so there is no class, equipment or person that one may name."""

STATUS_EVENT_TYPE = ("isa", 1006)

# OPC 10031-4, B.2: bits of ReturnStatus
NO_ERROR = 1 << 0
UNKNOWN_JOB_ORDER_ID = 1 << 1
INVALID_JOB_ORDER_STATUS = 1 << 3
INVALID_REQUEST = 1 << 32

_STATES = range(1, 7)  # of ISA95JobOrderReceiverObjectType
_UNCERTAIN = ua.StatusCode(ua.UInt32(ua.StatusCodes.Uncertain))
_VERBS = {JobStarted: "started", JobPaused: "paused", JobResumed: "resumed", JobEnded: "ended"}
_INFO = 100


class StatusEvent(NamedTuple):
    """A job order's state has changed; `fields` are those of ISA95JobOrderStatusEventType."""

    text: str
    severity: int
    fields: dict[str, Any]


class JobManagement:
    """The jobs of all machines, as `orders` puts them."""

    def __init__(self, orders: JobOrders) -> None:
        self._orders = orders

    def whole(self, machine: Machine, since: datetime, feedstock: FeedstockOf) -> Iterator[Write]:
        """Everything; `since` is the time of what has no time of its own."""
        yield from self._lists(machine, _newest(machine) or since, feedstock)
        yield WORK_MASTERS, self._work_masters(machine, machine.files_since or since)
        for part in ("", ".Id"):
            # The state machine describes the states of orders and is in none itself (OPC 10031-4, 6.2.1.2).
            yield f"{CONTROL}.CurrentState{part}", Reading(None, since, NOT_ACTIVE)

    def changes(self, transition: Transition, feedstock: FeedstockOf) -> Iterator[Write]:
        """What `transition` made different."""
        before, after, time = transition.before, transition.after, transition.record.time
        requalified = _status(before) != _status(after)
        orders_differ = requalified or _order_keys(before) != _order_keys(after)
        if orders_differ or _progress(before) != _progress(after):
            for path, reading in self._lists(after, time, feedstock):
                if orders_differ or path != ORDER_LIST:
                    yield path, reading
        if before.files is not after.files or before.link is not after.link:
            yield WORK_MASTERS, self._work_masters(after, time)

    def events(self, transition: Transition, feedstock: FeedstockOf) -> Iterator[StatusEvent]:
        """One event for each change of a job order's state, in order."""
        for change in transition.changes:
            if isinstance(change, JobStarted | JobPaused | JobResumed | JobEnded):
                job, spools = change.job, transition.after.spools
                fields = {
                    "JobOrder": self._orders.order(job, feedstock),
                    "JobState": self._orders.states(job),
                    "JobResponse": self._orders.response(job, spools, feedstock),
                }
                yield StatusEvent(f"Job order of {job.file} {_VERBS[type(change)]}", _INFO, fields)

    def by_id(
        self, machine: Machine, feedstock: FeedstockOf, job_order_id: str | None
    ) -> ua.CallMethodResult:
        """RequestJobResponseByJobOrderID (OPC 10031-4, 6.2.7.2)."""
        job = next((job for job in jobs_of(machine) if job.run == job_order_id), None)
        if job is None:
            return _result(self._orders.nothing(), UNKNOWN_JOB_ORDER_ID)
        return _result(self._orders.response(job, machine.spools, feedstock), NO_ERROR)

    def by_state(
        self, machine: Machine, feedstock: FeedstockOf, states: Sequence[Any] | None
    ) -> ua.CallMethodResult:
        """RequestJobResponseByJobOrderState (OPC 10031-4, 6.2.7.3): jobs that are in all of these states."""
        if not states or states[0].BrowsePath.Elements:
            return _result([], INVALID_REQUEST)
        if states[0].StateNumber not in _STATES:
            return _result([], INVALID_JOB_ORDER_STATUS)
        found = [
            self._orders.response(job, machine.spools, feedstock)
            for job in jobs_of(machine)
            if self._orders.is_in(job, states)
        ]
        return _result(found, NO_ERROR)

    def _lists(self, machine: Machine, time: datetime, feedstock: FeedstockOf) -> Iterator[Write]:
        status, orders = _status(machine), self._orders
        yield ORDER_LIST, Reading(partial(orders.order_list, machine, feedstock), time, status)
        yield RESPONSE_LIST, Reading(partial(orders.response_list, machine, feedstock), time, status)

    def _work_masters(self, machine: Machine, time: datetime) -> Reading:
        status = GOOD if machine.link is Link.UP else LAST_USABLE
        if machine.files is None:
            status = WAITING
        return Reading(partial(self._orders.work_masters, machine.files or ()), time, status)


def _status(machine: Machine) -> int:
    """Of the lists: what has ended is history, and true without a connection; only an active job may go on unseen."""
    if machine.heard is None:
        return WAITING
    if machine.active_job is None or quality_of(machine).status == GOOD:
        return GOOD
    return LAST_USABLE


def _order_keys(machine: Machine) -> tuple[object, ...]:
    """What the orders and their states are made of."""
    job: Job | None = machine.active_job
    newest = machine.finished[-1].run if machine.finished else None
    return (newest, None) if job is None else (newest, job.run, job.state, job.layers, *machine.spools)


def _progress(machine: Machine) -> tuple[object, ...]:
    """When the responses are told anew: a list of many jobs is too long to be told with every report of the printer."""
    job = machine.active_job
    if job is None:
        return (None,)
    return (None if job.completion is None else int(job.completion), job.layer, *machine.spools.values())


def _newest(machine: Machine) -> datetime | None:
    job = machine.job
    return None if job is None else job.ended or job.progress_time or job.started


def _result(output: Any, status: int) -> ua.CallMethodResult:
    """Without an error Good, else Uncertain: a Bad call has no outputs, thus no ReturnStatus (OPC 10031-4, B.2)."""
    return ua.CallMethodResult(
        ua.StatusCode() if status == NO_ERROR else _UNCERTAIN,
        OutputArguments=[
            ua.Variant(output, ua.VariantType.ExtensionObject, is_array=isinstance(output, list)),
            ua.Variant(status, ua.VariantType.UInt64),
        ],
    )
