"""The handler of the log, which writes to standard error."""

import asyncio
import logging
import math
import sys
import time
from typing import TextIO

from hub.logs import events
from hub.logs.events import ACCESS_LOGGER
from hub.logs.formats import JsonFormatter, TextFormatter
from hub.logs.limits import RateLimit


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes the lines that the limit admits, and how many it left out."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream`: None for standard error."""
        super().__init__(stream)
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if the limit admits it."""
        admitted, report = self._limit.admit(record)
        if report is not None:
            super().emit(report)
        if admitted:
            super().emit(record)

    def report(self, now: float) -> None:
        """Write how many lines were left out in the windows that are over.

        `now`: seconds since the epoch.
        """
        self.acquire()
        try:
            for record in self._limit.close(now):
                super().emit(record)
        finally:
            self.release()

    async def run(self) -> None:
        """Report once a second until cancelled; then report all lines that were left out."""
        try:
            while True:
                await asyncio.sleep(1.0)
                self.report(time.time())
        finally:
            self.report(math.inf)

    def close(self) -> None:
        """Write how many lines were left out until now; `logging` calls it at the exit."""
        self.report(math.inf)
        super().close()


def configure_logs(level: str, form: str, *, access: bool, worker: int = 0) -> LimitedHandler:
    """Write the lines of this server and of all libraries to standard error.

    Args:
        level: the name of a level, as in LOG_LEVEL.
        form: "text" or "json", as in LOG_FORMAT.
        access: whether the access log is written, regardless of the level.
        worker: the number that each line has as a field; 0 for none.

    Returns:
        The handler. Its `run` must run while the server does.
    """
    handler = LimitedHandler()
    handler.setFormatter(JsonFormatter(worker) if form == "json" else TextFormatter(worker))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    ACCESS_LOGGER.setLevel(logging.INFO if access else logging.NOTSET)
    logging.captureWarnings(True)
    sys.unraisablehook = _log_ignored
    return handler


def _log_ignored(fault: "sys.UnraisableHookArgs") -> None:
    """Log an exception that Python cannot raise, instead of printing it."""
    events.IGNORED_FAULT.log(fault.exc_value, place=repr(fault.object))
