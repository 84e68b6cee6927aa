"""The counts of what is reported to the observer, in plain integers for the metrics.

What happens for each message is not reported, but counted where it happens: `Hub.published`,
`Dispatcher.carried_out` and `refused`, `Fanout.deliveries` and `delivered_bytes`. All counts only
grow from the start of the process on.
"""

from bisect import bisect_left
from enum import StrEnum
from typing import Final

from hub.brokers.base import OutageReason
from hub.delivery.client import Client
from hub.errors import MESSAGE_TIMEOUT, REASONS, WRITE_TIMEOUT, ErrorCode, RefusalReason
from hub.errors import RequestRefusal as Refused
from hub.observer import Observer
from hub.reports import ConnectionKind, DropReason, GapCause, Limit, SlowAction

# Upper bounds of the buckets, in seconds.
AGES: Final = (1.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0)
LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TRIPS: Final = (0.0001, 0.00025, 0.0005, *LAGS[:-1])


class ConnectResult(StrEnum):
    """The result of an attempt to open a WebSocket or stream."""

    # Also for a WebSocket that is accepted to be closed at once: browsers hide other refusals.
    ACCEPTED = "accepted"
    DENIED = "denied"  # by access, ALLOWED_ORIGINS or ALLOWED_HOSTS
    LIMITED = "limited"  # by a limit of one address
    FULL = "full"  # MAX_CONNECTIONS
    SHUTDOWN = "shutdown"  # the server shuts down
    INVALID = "invalid"  # no valid request


_RESULTS: Final[dict[RefusalReason, ConnectResult]] = {
    ErrorCode.UNAUTHORIZED: ConnectResult.DENIED,
    ErrorCode.FORBIDDEN: ConnectResult.DENIED,
    Refused.ORIGIN: ConnectResult.DENIED,
    Refused.HOST: ConnectResult.DENIED,
    ErrorCode.RATE_LIMITED: ConnectResult.LIMITED,
    Refused.FULL: ConnectResult.FULL,
    Refused.SHUTDOWN: ConnectResult.SHUTDOWN,
}


class Action(StrEnum):
    """What was done about a slow client."""

    DISCONNECT = SlowAction.DISCONNECT
    DROP_OLDEST = SlowAction.DROP_OLDEST
    CUT = "cut"  # it acknowledged no byte for WRITE_TIMEOUT


class Histogram:
    """State: the number of values in each bucket, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds`: the upper bounds of the buckets, ascending. A last bucket has no bound."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Counters(Observer):
    """State: all counts. Each dict has every possible key from the start."""

    def __init__(self) -> None:
        self.connections = {(kind, it): 0 for kind in ConnectionKind for it in ConnectResult}
        self.disconnects = dict.fromkeys(sorted(REASONS), 0)
        self.connection_seconds = Histogram(AGES)
        self.delivery_lag = Histogram(LAGS)
        self.slow_consumers = dict.fromkeys(Action, 0)
        self.drops = dict.fromkeys(DropReason, 0)
        self.recoveries = {True: 0, False: 0}  # by whether the missed events followed
        self.recovered_events = 0
        self.gaps = dict.fromkeys(GapCause, 0)
        self.refusals: dict[RefusalReason, int] = dict.fromkeys([*ErrorCode, *Refused], 0)
        del self.refusals[ErrorCode.SLOW_CONSUMER]  # the one code that refuses nothing
        self.limits = dict.fromkeys(Limit, 0)
        self.loop_lag = Histogram(LAGS)
        self.outages = dict.fromkeys(OutageReason, 0)
        self.broker_answers = Histogram(TRIPS)
        self.broker_returns = Histogram(TRIPS)

    def joined(self, client: Client) -> None:
        self.connections[client.framing.kind, ConnectResult.ACCEPTED] += 1

    def not_connected(self, kind: ConnectionKind, reason: RefusalReason) -> None:
        self.connections[kind, _RESULTS.get(reason, ConnectResult.INVALID)] += 1

    def left(self, client: Client, reason: str, seconds: float) -> None:
        self.disconnects[reason] += 1
        self.connection_seconds.add(seconds)
        if reason == WRITE_TIMEOUT:
            self.slow_consumers[Action.CUT] += 1
        elif reason == MESSAGE_TIMEOUT.reason:
            self.limits[Limit.MESSAGE_TIMEOUT] += 1

    def delivered(self, seconds: float) -> None:
        self.delivery_lag.add(seconds)

    def slow(self, client: Client, action: SlowAction) -> None:
        self.slow_consumers[Action(action)] += 1

    def dropped(self, reason: DropReason, messages: int) -> None:
        self.drops[reason] += messages

    def recovered(self, complete: bool, events: int) -> None:
        self.recoveries[complete] += 1
        self.recovered_events += events

    def gap(self, topic: str, cause: GapCause) -> None:
        self.gaps[cause] += 1

    def refused(self, reason: RefusalReason) -> None:
        self.refusals[reason] += 1

    def limited(self, limit: Limit) -> None:
        self.limits[limit] += 1

    def lagged(self, seconds: float) -> None:
        self.loop_lag.add(seconds)

    def broker_lost(self, reason: OutageReason) -> None:
        self.outages[reason] += 1

    def broker_answered(self, seconds: float) -> None:
        self.broker_answers.add(seconds)

    def broker_returned(self, seconds: float) -> None:
        self.broker_returns.add(seconds)
