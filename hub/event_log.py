"""The log of what the hub reports, and a limit on how much of it clients can cause.

State: how many lines of each kind were logged within the last second.
"""

import logging
from typing import Final

from hub.delivery.client import Client, Transport
from hub.errors import FAULTS
from hub.observer import Observer

log = logging.getLogger(__name__)

LINES: Final = 10  # of one kind that are logged in a second
KINDS: Final = 1_000  # that are counted at a time


class EventLog(Observer):
    """Logs the end of a connection that is somebody's fault as info, all else as debug."""

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
    """A client for the log: the number and the address of its connection, and its name."""
    where = address(client.transport)
    name = f" ({client.name!r:.100})" if client.name else ""
    return f"connection {client.number} from {where}{name}"


def address(transport: Transport) -> str:
    """The other side of a connection, for the log."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return "an unknown address"
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class RateLimit(logging.Filter):
    """Passes LINES records a second of each message text, and says how many it has left out."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, list[int]] = {}  # the second, lines logged in it, lines left out

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if len(self._kinds) >= KINDS:  # the loop's own faults have an object's address in the text
            self._kinds.clear()
        kind = self._kinds.setdefault(str(record.msg), [0, 0, 0])
        if kind[0] != second:
            if kind[2]:
                record.msg = f"{record.getMessage()} ({kind[2]} more like it were left out)"
                record.args = ()
            kind[:] = second, 0, 0
        kind[1] += 1
        kind[2] += kind[1] > LINES
        return kind[1] <= LINES
