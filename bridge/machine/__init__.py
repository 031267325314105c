"""The domain: what a printer and its job are, and how events change them. Pure: no clock, socket or file.

In flow records of the log, out flow transitions: the machine before and after, and what happened to it.
"""

from bridge.machine.model import (
    ACTIVE_JOB_STATES,
    HISTORY,
    Counters,
    Filament,
    File,
    Heater,
    Job,
    JobState,
    Link,
    Machine,
    Printer,
    Result,
    Spool,
)
from bridge.machine.transition import (
    Change,
    FilamentChangeRequested,
    JobEnded,
    JobPaused,
    JobResumed,
    JobStarted,
    LinkChanged,
    PrinterError,
    StateChanged,
    Transition,
    apply,
)

__all__ = [
    "ACTIVE_JOB_STATES",
    "HISTORY",
    "Change",
    "Counters",
    "Filament",
    "FilamentChangeRequested",
    "File",
    "Heater",
    "Job",
    "JobEnded",
    "JobPaused",
    "JobResumed",
    "JobStarted",
    "JobState",
    "Link",
    "LinkChanged",
    "Machine",
    "Printer",
    "PrinterError",
    "Result",
    "Spool",
    "StateChanged",
    "Transition",
    "apply",
]
