"""asyncua's own log lines: only what an operator can act on, and through structlog like all others."""

import logging

import structlog

log = structlog.get_logger(__name__)

# Said at every start or refused connection; the refusals reach the client, and the server logs its own start.
_NOISE = (
    "asyncua.server.uaprocessor",
    "asyncua.server.internal_session",
    "asyncua.server.server",
    "asyncua.server.binary_server_asyncio",
    "asyncua.common.connection",
    "asyncua.uaprotocol",
    "asyncua.ua.uatypes",  # two models have a ProcessIrregularity: both are found by their NodeIds
)


class _Forwarder(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        quiet = record.levelno < logging.CRITICAL and record.name.startswith(_NOISE) and not record.exc_info
        level = logging.DEBUG if quiet else record.levelno
        log.log(level, record.getMessage(), source=record.name, exc_info=record.exc_info)


def tame_asyncua() -> None:
    """Send asyncua's warnings and errors to structlog and nowhere else; lower levels are not even made."""
    logger = logging.getLogger("asyncua")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not any(isinstance(handler, _Forwarder) for handler in logger.handlers):
        logger.addHandler(_Forwarder())
