"""The limit on repeated lines of the log.

State: `RateLimit` counts the lines of each kind in a window of time. A kind is an event together
with its `reason`. For lines of other libraries, it is a logger together with the text of a message.
"""

import logging
from dataclasses import dataclass
from typing import Final

from hub.logs.events import LEFT_OUT, OFTEN, Event, Limit

KINDS: Final = 1_000  # kinds that are counted at a time; all others count as one kind


class RateLimit:
    """Decides which lines are written. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._windows: dict[tuple[object, object], _Window] = {}

    def admit(self, record: logging.LogRecord) -> tuple[bool, logging.LogRecord | None]:
        """Decide whether a line is written.

        Returns:
            The decision; and a line to write first, with the number of lines that an earlier
            window left out. The latter is None if that window left none out.
        """
        event: Event | None = getattr(record, "event", None)
        limit = OFTEN if event is None else event.limit
        if limit is None:
            return True, None
        key = self._key(record)
        window = self._windows.get(key)
        report = None
        if window is None or window.is_over(record.created):
            report = None if window is None else window.report()
            window = self._windows[key] = _Window(record, limit)
        if window.lines < limit.lines:
            window.lines += 1
            return True, report
        window.left_out += 1
        return False, report

    def close(self, now: float) -> list[logging.LogRecord]:
        """Close the windows that are over, and return a line for each that left lines out.

        `now`: seconds since the epoch.
        """
        over = [key for key, it in self._windows.items() if it.is_over(now)]
        reports = [self._windows.pop(key).report() for key in over]
        return [it for it in reports if it is not None]

    def _key(self, record: logging.LogRecord) -> tuple[object, object]:
        event: Event | None = getattr(record, "event", None)
        if event is not None:
            key: tuple[object, object] = event, record.__dict__["fields"].get("reason")
        else:
            key = record.name, str(record.msg)
        # The number of kinds is bounded: asyncio reports faults with the address of an object in
        # the text, so each such line would be a kind of its own.
        return key if key in self._windows or len(self._windows) < KINDS else ("others", None)


@dataclass(slots=True)
class _Window:
    """The lines of one kind since the first one."""

    first: logging.LogRecord
    limit: Limit
    lines: int = 0  # that were written
    left_out: int = 0

    def is_over(self, now: float) -> bool:
        # The clock may be set back: a window that begins later is over, too.
        return not self.first.created <= now < self.first.created + self.limit.seconds

    def report(self) -> logging.LogRecord | None:
        """Return a line with the number of lines that were left out; None if none were."""
        if not self.left_out:
            return None
        first = self.first
        record = logging.LogRecord(first.name, first.levelno, "", 0, LEFT_OUT.name, (), None)
        reason = getattr(first, "fields", {}).get("reason")
        fields = {"of": first.getMessage(), "reason": reason, "count": self.left_out}
        record.__dict__.update(event=LEFT_OUT, fields=fields)
        return record
