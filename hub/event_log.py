"""The log of connections and subscriptions, and a limit on the lines that clients can cause.

State: the number of lines of each message text in the current window of time.
"""

import logging
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from hub.delivery.client import Client, Transport
from hub.errors import FAULTS
from hub.observer import Observer

log = logging.getLogger(__name__)

LINES: Final = 10  # of one message text that are logged in a second
SELDOM: Final = 60.0  # seconds between two lines of a warning that has one cause for all clients
TEXTS: Final = 1_000  # message texts that are counted at a time


class EventLog(Observer):
    """Logs a connection that ended by a fault at level info, and every other event at debug."""

    def joined(self, client: Client) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s connected", described(client))

    def left(self, client: Client, reason: str, seconds: float) -> None:
        level = logging.INFO if reason in FAULTS else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "%s ended: %s", described(client), reason)

    def subscribed(self, client: Client, topic: str) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s subscribed to %.100r", described(client), topic)

    def unsubscribed(self, client: Client, topic: str) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s unsubscribed from %.100r", described(client), topic)


def described(client: Client) -> str:
    """Return a client's connection number, address and name as text for the log."""
    where = address(client.transport)
    if not where.startswith((f"{client.address}:", f"[{client.address}]:")):  # behind a proxy
        where = f"{client.address} (by {where})"
    name = f" ({client.name!r:.100})" if client.name else ""
    return f"connection {client.number} from {where}{name}"


def address(transport: Transport) -> str:
    """Return the address of the other side of a connection as text for the log."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return "an unknown address"
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
