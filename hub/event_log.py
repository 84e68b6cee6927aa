"""The log of connections and subscriptions: an observer."""

import logging

from hub.delivery.client import Client, peer_address
from hub.errors import FAULTS
from hub.observer import Observer

log = logging.getLogger(__name__)


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
    where = peer_address(client.transport)
    if not where.startswith((f"{client.address}:", f"[{client.address}]:")):  # behind a proxy
        where = f"{client.address} (by {where})"
    name = f" ({client.name!r:.100})" if client.name else ""
    return f"connection {client.number} from {where}{name}"
