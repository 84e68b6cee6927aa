"""Configuration of the log: format, level and filters.

State: `RateLimit` counts the lines of each message text.
"""

import logging
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

LINES: Final = 10  # of one message text that are logged in a second
SELDOM: Final = 60.0  # seconds between two lines of a warning that has one cause for all clients
TEXTS: Final = 1_000  # message texts that are counted at a time

# Loggers whose warnings repeat with every connection while the server is full.
_SELDOM = frozenset({"handlers.answers", "handlers.sockets"})


def configure_logs(level: str) -> None:
    """Log to standard error, from `level` (a name as in LOG_LEVEL) on."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit(_SELDOM))


class RateLimit(logging.Filter):
    """Limits the lines of each message text; the first line after a pause counts the others.

    LINES of a text pass within a second. Of a warning by one of the loggers in `seldom`, one line
    passes within SELDOM seconds.
    """

    def __init__(self, seldom: Container[str] = ()) -> None:
        super().__init__()
        self._seldom = seldom
        self._texts: dict[str, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is to be logged; add the number of those that were not."""
        lines, seconds = LINES, 1.0
        if record.levelno == logging.WARNING and record.name in self._seldom:
            lines, seconds = 1, SELDOM
        text = str(record.msg)
        if len(self._texts) >= TEXTS:  # the loop's own faults have an object's address in the text
            self._texts.clear()
        window = self._texts.get(text)
        # The clock may be set back: a window that begins later is over, too.
        if window is None or not window.start <= record.created < window.start + seconds:
            if window is not None and window.left_out:
                record.msg = f"{record.getMessage()} ({window.left_out} more like it were left out)"
                record.args = ()
            window = self._texts[text] = _Window(record.created)
        if window.logged < lines:
            window.logged += 1
            return True
        window.left_out += 1
        return False


@dataclass(slots=True)
class _Window:
    """The lines of one message text since `start`, in seconds since the epoch."""

    start: float
    logged: int = 0
    left_out: int = 0
