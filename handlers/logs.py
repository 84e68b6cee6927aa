"""Configuration of the log: format, level and filters."""

import logging

from aiohttp.http_exceptions import HttpProcessingError

from hub.event_log import RateLimit

# Loggers whose warnings repeat with every connection while the server is full.
_SELDOM = frozenset({"handlers.answers", "handlers.sockets"})


def configure_logs(level: str) -> None:
    """Log to standard error, from `level` (a name as in LOG_LEVEL) on."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit(_SELDOM))
    logging.getLogger("aiohttp.server").addFilter(_without_malformed_http)


def _without_malformed_http(record: logging.LogRecord) -> bool:
    """Drop aiohttp's tracebacks for malformed HTTP: the client gets a 400, and that is all."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)
