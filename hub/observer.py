"""The observer: the hub's reports, from which logs, metrics and hooks are made.

The hub calls the methods synchronously, so they must be short and must not raise. What happens for
each message is not reported but counted, in plain integers of the hub and the fan-out
(hub/counters.py lists them). A hub has one observer; `Observers` makes one of several.
"""

from functools import partial
from typing import Any, Final

from hub.brokers.base import OutageReason
from hub.delivery.client import Client
from hub.errors import RefusalReason
from hub.reports import ConnectionKind, DropReason, GapCause, Limit, SlowAction


class Observer:
    """Ignores every report. Override the methods of those that you need."""

    def joined(self, client: Client) -> None:
        """A client has connected."""

    def not_connected(self, kind: ConnectionKind, reason: RefusalReason) -> None:
        """A request for a WebSocket or stream was refused. `refused` is called too."""

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

    def delivered(self, seconds: float) -> None:
        """The events of a topic and tick were given to the sockets of its subscribers.

        `seconds`: from the arrival of the first of them at the fan-out. Reported for a sample, at
        most a few times a second.
        """

    def slow(self, client: Client, action: SlowAction) -> None:
        """A client exceeds the bounds of its send queue.

        DROP_OLDEST is reported once until the queue is empty. A client that has no event to drop is
        disconnected with either value of BACKPRESSURE.
        """

    def dropped(self, reason: DropReason, messages: int) -> None:
        """Messages were dropped from the send queue of a congested client."""

    def recovered(self, complete: bool, events: int) -> None:
        """A subscribe asked for the events after its position: all of them follow, or none."""

    def gap(self, topic: str, cause: GapCause) -> None:
        """Events of a topic are lost, or may be, for all its subscribers or for one.

        They get a gap notice. DROP_OLDEST and RECOVERY are reported for each client.
        """

    def refused(self, reason: RefusalReason) -> None:
        """A command, a request, a message of a batch or a subscribe of a stream was refused."""

    def limited(self, limit: Limit) -> None:
        """A limit was applied."""

    def lagged(self, seconds: float) -> None:
        """The event loop was late by so many seconds; reported several times a second."""

    def broker_lost(self, reason: OutageReason) -> None:
        """An outage of the broker begins: the other nodes are out of reach.

        A shorter loss, during which commands are only queued, is no outage.
        """

    def broker_back(self) -> None:
        """The outage has ended: the other nodes are in reach again."""

    def broker_answered(self, seconds: float) -> None:
        """The broker's server has answered a command after so many seconds.

        Reported for one command a second, and so is `broker_returned`.
        """

    def broker_returned(self, seconds: float) -> None:
        """A message of this node to itself has come back after so many seconds."""


REPORTS: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observers(Observer):
    """Passes each report to several observers, in their order.

    A report that only one of them overrides is set to that observer's method, so that it costs no
    further call. A report that none overrides stays that of `Observer`.
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
