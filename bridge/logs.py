"""How the service writes its log: a line for people, or a JSON object a line for machines. To standard error."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog

from bridge.hints import with_settings

_SENTENCES = ("event", "hint", "detail")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_shown_from = logging.INFO
_render: structlog.typing.Processor = structlog.processors.JSONRenderer()


def configure(level: str, form: str, settings: Path | None = None) -> None:
    """Set up structlog, and let through only what libraries say of warnings and errors; may be called again.

    `level` is debug, info, warning or error; `form` is human or json; `settings` is the file with which the bridge
    runs, for the commands that its lines suggest.
    """

    def suggest(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for key in _SENTENCES:
            if isinstance(event.get(key), str):
                event[key] = with_settings(event[key], settings)
        return event

    global _shown_from, _render
    _shown_from = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form == "human":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    _render = renderer
    # Loggers that are in use keep what they were made with: level and form are looked up for each line.
    structlog.configure(
        processors=[
            _drop_what_is_below,
            suggest,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s [%(name)s] %(message)s", stream=sys.stderr)


def _drop_what_is_below(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if _LEVELS.get(name, logging.ERROR) < _shown_from:
        raise structlog.DropEvent
    return event


def _shown(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.ProcessorReturnValue:
    if isinstance(_render, structlog.processors.JSONRenderer):
        event = structlog.processors.format_exc_info(logger, name, event)
    return _render(logger, name, event)
