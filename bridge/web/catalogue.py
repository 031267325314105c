"""The metrics of ``/metrics``, each with its name, kind, text and labels. Out: what Prometheus is told of them, and the
table in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.web.exposition import Metric

_MACHINE = ("machine", "name")

BUILD = Metric("mesbridge_build", "info", "The version of MESBridge and of Python", ("version", "python"))
CPU = Metric("process_cpu_seconds", "counter", "Processor time of the bridge, in seconds")
MEMORY = Metric("process_resident_memory_bytes", "gauge", "Memory that the bridge has in use")
STARTED = Metric("process_start_time_seconds", "gauge", "When the bridge was started, in seconds since 1970")
FILES = Metric("process_open_fds", "gauge", "Files and connections that are open")
MOST_FILES = Metric("process_max_fds", "gauge", "How many of them there may be")

EVENTS = Metric(
    "mesbridge_events",
    "counter",
    "Events that came since the start: pushed by a plugin, or pulled from an OctoPrint without one",
    ("source",),
)
BATCHES = Metric("mesbridge_push_batches", "counter", "Pushes of plugins that were taken")
GAPS = Metric("mesbridge_event_gaps", "counter", "Times that events of a plugin were missing")
SNAPSHOTS = Metric("mesbridge_snapshot_requests", "counter", "Times that a plugin was asked for a snapshot")
REFUSED_PUSHES = Metric(
    "mesbridge_pushes_refused",
    "counter",
    "Pushes that were not taken, by the reason that they were told",
    ("reason",),
)

LOG_SIZE = Metric(
    "mesbridge_log_size_bytes",
    "gauge",
    "Size of the log on the disk: the database, and wal, what is not yet taken over into it",
    ("file",),
)
LOG_LIMIT = Metric("mesbridge_log_size_limit_bytes", "gauge", "What log_size of the settings allows")
LOG_POSITION = Metric("mesbridge_log_position", "gauge", "The last position of the log")
LOG_CHECKPOINT = Metric(
    "mesbridge_log_checkpoint_position", "gauge", "The position from which the next start goes on"
)
LOG_FORGOTTEN = Metric(
    "mesbridge_log_events_forgotten", "counter", "Old events and samples that were forgotten"
)
LOG_FAILURES = Metric("mesbridge_log_write_failures", "counter", "Times that the log could not be written")

LAG_EVENTS = Metric(
    "mesbridge_sink_lag_events",
    "gauge",
    "What a sink has before it: opcua and mes count records of the log, mes-1 messages that wait for MES 1",
    ("sink",),
)
LAG_SECONDS = Metric(
    "mesbridge_sink_lag_seconds",
    "gauge",
    "For how long the first of what waits for a MES has waited; 0 when nothing does",
    ("sink",),
)

MES_REQUESTS = Metric(
    "mesbridge_mes_deliveries",
    "counter",
    "Requests to a MES, of registrations and signs of life too, by what became of them",
    ("mes", "outcome"),
)
MES_WAITING = Metric("mesbridge_mes_waiting", "gauge", "Messages that wait for a MES", ("mes",))
MES_REFUSED = Metric(
    "mesbridge_mes_refused", "gauge", "Messages that a MES refused, and that are kept", ("mes",)
)
MES_REACHABLE = Metric(
    "mesbridge_mes_reachable", "gauge", "1 as long as the MES can be told something", ("mes",)
)
MES_MACHINES = Metric("mesbridge_mes_machines", "gauge", "Machines that are registered at a MES", ("mes",))

MES_SIZE = Metric(
    "mesbridge_mes_store_size_bytes", "gauge", "Size on the disk of what waits for MES or was refused"
)

CONNECTIONS = Metric("mesbridge_opcua_connections", "gauge", "Connections of OPC UA clients")
SESSIONS = Metric("mesbridge_opcua_sessions", "gauge", "Sessions of OPC UA clients that are logged in")
SUBSCRIPTIONS = Metric("mesbridge_opcua_subscriptions", "gauge", "Their subscriptions")
ITEMS = Metric("mesbridge_opcua_monitored_items", "gauge", "What they monitor")
NOTIFICATIONS = Metric("mesbridge_opcua_notifications", "counter", "Changes and events that they were told")
REJECTED_SESSIONS = Metric("mesbridge_opcua_sessions_rejected", "counter", "Sessions that were refused")
REJECTED_REQUESTS = Metric("mesbridge_opcua_requests_rejected", "counter", "Requests that were refused")

MACHINES = Metric("mesbridge_machines", "gauge", "Machines that are served")
MACHINE = Metric(
    "mesbridge_machine",
    "info",
    "What a machine is: its OctoPrint's version, and that of the plugin",
    (*_MACHINE, "octoprint", "plugin"),
)
UP = Metric("mesbridge_machine_up", "gauge", "1 as long as its OctoPrint is heard of", _MACHINE)
HEARD = Metric(
    "mesbridge_machine_heard_timestamp_seconds",
    "gauge",
    "When the newest event of the machine happened, by the clock of its OctoPrint, in seconds since 1970",
    _MACHINE,
)
STATE = Metric(
    "mesbridge_machine_state",
    "gauge",
    "1 for the state that the printer is in, 0 for the others",
    (*_MACHINE, "state"),
)
PROGRESS = Metric(
    "mesbridge_machine_job_progress_ratio",
    "gauge",
    "How much of the running job is done, from 0 to 1",
    _MACHINE,
)
JOBS = Metric("mesbridge_machine_jobs", "counter", "Jobs that have ended, by how", (*_MACHINE, "result"))
PRINTING = Metric(
    "mesbridge_machine_printing_seconds", "counter", "For how long the machine has printed", _MACHINE
)
ACTUAL = Metric(
    "mesbridge_machine_temperature_celsius", "gauge", "Temperature of a heater", (*_MACHINE, "heater")
)
TARGET = Metric(
    "mesbridge_machine_target_temperature_celsius",
    "gauge",
    "Temperature that a heater is to have; 0 is off",
    (*_MACHINE, "heater"),
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def table() -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| name | kind | labels | what it says |"
    yield "|---|---|---|---|"
    for one in ALL:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        yield f"| `{one.sample_name}` | {one.kind} | {labels} | {one.text} |"
