"""The log of connections and subscriptions: an observer, and the fields that describe a client.

State: `EventLog` counts the callers that are refused for want of a valid credential.
"""

from collections.abc import Callable
from typing import Final

from hub.access import Principal
from hub.delivery.client import Client, peer_address
from hub.errors import FAULTS, LOST, ErrorCode, RefusalReason
from hub.logs import events
from hub.observer import Observer
from hub.reports import SlowAction

BLOCKED: Final = 1.0  # seconds that the event loop is late before it is logged
MANY: Final = 100  # refusals with UNAUTHORIZED within MANY_IN that are logged as many
MANY_IN: Final = 60.0  # seconds


class EventLog(Observer):
    """Logs what happens to connections, and when the server or its callers need attention."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds of a monotonic clock."""
        self._clock = clock
        self._unauthorized = 0  # refusals since `_since`
        self._since = clock()
        self._many = False  # whether many are being refused, which was logged

    def joined(self, client: Client) -> None:
        if events.CONNECTED.enabled:
            events.CONNECTED.log(**client_fields(client))

    def left(self, client: Client, reason: str, seconds: float) -> None:
        # A stream has no Close. If its client leaves while events are on the way, TCP reports a
        # reset, as for a lost connection.
        left = reason == LOST and not client.framing.answers_pings
        if reason in FAULTS and not left:
            events.FAILED.log(**client_fields(client), reason=reason, seconds=seconds)
        elif events.ENDED.enabled:
            events.ENDED.log(**client_fields(client), reason=reason, seconds=seconds)

    def slow(self, client: Client, action: SlowAction) -> None:
        events.SLOW_CONSUMER.log(**client_fields(client), action=action)

    def subscribed(self, client: Client, topic: str) -> None:
        if events.SUBSCRIBED.enabled:
            events.SUBSCRIBED.log(**client_fields(client), topic=topic)

    def unsubscribed(self, client: Client, topic: str) -> None:
        if events.UNSUBSCRIBED.enabled:
            events.UNSUBSCRIBED.log(**client_fields(client), topic=topic)

    def lagged(self, seconds: float) -> None:
        if seconds >= BLOCKED:
            events.LOOP_BLOCKED.log(seconds=seconds)

    def refused(self, reason: RefusalReason) -> None:
        if reason is ErrorCode.UNAUTHORIZED:
            self._count_unauthorized()

    def _count_unauthorized(self) -> None:
        """Log that many callers are refused; log it again only after MANY_IN with fewer."""
        now = self._clock()
        if now - self._since >= MANY_IN:
            # If the window ended more than MANY_IN ago, a window without refusals has followed it.
            self._many &= self._unauthorized >= MANY and now - self._since < 2 * MANY_IN
            self._unauthorized, self._since = 0, now
        self._unauthorized += 1
        if self._unauthorized == MANY and not self._many:
            self._many = True
            events.MANY_REFUSED.log(count=MANY, seconds=now - self._since)


def client_fields(client: Client) -> dict[str, object]:
    """Return the fields of the log that describe a connection."""
    return {
        "connection": client.number,
        "address": client.address,
        "peer": peer_address(client.transport),
        **caller_fields(client.principal),
        "client_id": client.name or client.client_id,
    }


def caller_fields(caller: Principal) -> dict[str, object]:
    """Return the fields of the log that describe a caller; empty values for an anonymous one."""
    return {"subject": caller.subject, "key_name": caller.key_name}
