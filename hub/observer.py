"""The observer: the hub's reports, from which logs, metrics and hooks are made.

The hub calls the methods synchronously, so they must be short and must not raise. The fan-out
reports a count once a tick, and never a single delivery. A hub has one observer; `Observers` makes
one of several.
"""

from functools import partial
from typing import Any, Final

from hub.brokers.base import OutageReason
from hub.delivery.client import Client
from hub.errors import RefusalReason


class Observer:
    """Ignores every report. Override the methods of those that you need."""

    def joined(self, client: Client) -> None:
        """A client has connected."""

    def left(self, client: Client, reason: str, seconds: float) -> None:
        """A connection has ended after so many seconds, and its subscriptions with it.

        `reason` is in `hub.errors.REASONS`. No `unsubscribed` follows for its subscriptions.
        """

    def subscribed(self, client: Client, topic: str) -> None:
        """A client has become a subscriber of a topic."""

    def unsubscribed(self, client: Client, topic: str) -> None:
        """A subscription has ended.

        The client ended it, the topic was deleted, or a new token does not allow it.
        """

    def published(self, topic: str, size: int) -> None:
        """A message has passed the gate; its event has `size` bytes.

        Called before the broker answers. The broker may still refuse it, or know its idempotency
        key and not send it.
        """

    def delivered(self, events: int) -> None:
        """So many events were given to subscribers in this tick, each counted per subscriber.

        Subscribers that were closing are counted; the events of recoveries are not.
        """

    def dropped(self) -> None:
        """An event was dropped from the send queue of a congested client, which stays connected.

        The send queue of a client that is disconnected is not reported.
        """

    def slow(self, client: Client, action: str) -> None:
        """A client exceeds the bounds of its send queue.

        `action` is a value of BACKPRESSURE. "disconnect": the client is closed, with either value.
        "drop_oldest": its events are being dropped, which is reported once until its queue is
        empty.
        """

    def recovered(self, complete: bool, events: int) -> None:
        """A subscribe asked for the events after its position: all of them follow, or none."""

    def gap(self, topic: str) -> None:
        """Events of a topic may be lost for all its subscribers, or for one that recovers.

        They get a gap notice.
        """

    def refused(self, reason: RefusalReason) -> None:
        """A command, a request, a message of a batch or a subscribe of a stream was refused."""

    def limited(self, limit: str) -> None:
        """A limit was applied; `limit` names its setting, or what is limited if it has none."""

    def lagged(self, seconds: float) -> None:
        """The event loop turned later than it should by so many seconds.

        Reported several times a second.
        """

    def broker_lost(self, reason: OutageReason) -> None:
        """An outage of the broker begins: the other nodes are out of reach.

        A shorter loss, during which commands are only queued, is no outage.
        """

    def broker_back(self) -> None:
        """The outage has ended: the other nodes are in reach again."""


REPORTS: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observers(Observer):
    """Passes each report to several observers, in their order.

    A report that one of them overrides is that one's method, and one that none overrides costs
    what it costs `Observer`.
    """

    def __init__(self, *observers: Observer) -> None:
        for name in REPORTS:
            ignore = getattr(Observer, name)
            calls = [getattr(it, name) for it in observers]
            calls = [call for call in calls if getattr(call, "__func__", None) is not ignore]
            if calls:
                setattr(self, name, calls[0] if len(calls) == 1 else partial(_call_all, calls))


def _call_all(calls: list[Any], *arguments: object) -> None:
    for call in calls:
        call(*arguments)
