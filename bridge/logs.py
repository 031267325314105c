"""How the service writes its log: a line for people, or a JSON object a line for machines. To standard error.

In: events, as the bridge's modules and the libraries name them. Out: lines; each that is about a machine has its id as
`machine` and what people call it as `name`. To systemd's journal each goes with its priority and, for people,
without the time, which the journal shows itself.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
from structlog.typing import EventDict, Processor

from bridge.hints import with_settings

_SENTENCES = ("event", "hint", "detail")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_names: Callable[[str], str | None] = lambda machine: None  # noqa: E731


def know_names(names: Callable[[str], str | None]) -> None:
    """From now on lines show what people call a machine; `names` tells it by the machine's id, in any thread."""
    global _names
    _names = names


def configure(level: str, form: str, settings: Path | None = None) -> None:
    """Set up structlog, and let through only what libraries say of errors; may be called again.

    `level` is debug, info, warning or error; `form` is human or json; `settings` is the file with which the bridge
    runs, for the commands that its lines suggest.
    """

    def suggest(logger: object, name: str, event: EventDict) -> EventDict:
        for key in _SENTENCES:
            if isinstance(event.get(key), str):
                event[key] = with_settings(event[key], settings)
        return event

    threshold = logging.getLevelNamesMapping()[level.upper()]
    journal = _is_journal()
    common: list[Processor] = [
        suggest,
        _named,
        structlog.processors.add_log_level,
        *([] if journal and form == "human" else [structlog.processors.TimeStamper(fmt="iso", utc=True)]),
        *([structlog.processors.format_exc_info] if form == "json" else [_printable]),
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if form == "human":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not journal,
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=0,
        )
    ending: list[Processor] = [_prioritised(renderer) if journal else renderer]
    structlog.configure(
        processors=[*common, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # the level may change
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _of_library, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)


def _of_library(logger: logging.Logger, name: str, event: EventDict) -> EventDict:
    """Say which library speaks; nothing else tells its lines from ours."""
    event["library"] = event["_record"].name
    return event


def _named(logger: object, name: str, event: EventDict) -> EventDict:
    machine = event.get("machine")
    if isinstance(machine, str) and "name" not in event:
        known = _names(machine)
        if known is not None:
            event["name"] = known
    return event


def _printable(logger: object, name: str, event: EventDict) -> EventDict:
    """For people: no text from a printer, a file or a network moves the cursor of their terminal."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(c if c.isprintable() else "?" for c in value)
    return event


def _is_journal() -> bool:
    """Whether standard error goes to systemd's journal, which names it by device and inode."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _prioritised(renderer: Processor) -> Processor:
    def render(logger: object, name: str, event: EventDict) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        text = str(renderer(logger, name, event))
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    return render
