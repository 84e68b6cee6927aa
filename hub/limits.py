"""Limits of rates and of connections, for addresses and for single connections.

Theory of operation. A token bucket holds up to `burst` tokens and gets `rate` tokens a second; an
action takes one, and is refused without one. A bucket is one number: the time at which it will be
full. Taking a token moves that time later by 1/rate seconds, and the bucket is empty if the time is
burst/rate seconds away. A bucket that is full needs no memory. Times are arguments, in seconds of a
monotonic clock.
"""

import math
from collections.abc import Hashable
from typing import Final, NamedTuple

from hub.addresses import block
from hub.errors import ErrorCode, Refusal
from hub.observer import Observer
from hub.reports import Limit
from hub.settings import Settings

KEYS: Final = 50_000  # keys that each of a table's two halves remembers
BURST: Final = 2  # a bucket of one connection holds the tokens of so many seconds
EXCESS: Final = 10.0  # seconds of refused messages after which a connection is closed
PAUSE: Final = 2.0  # seconds without a refused message after which that time begins anew
MAX_PAUSE: Final = 2.0  # maximum of the seconds for which the reading of a connection pauses
_ROUNDING: Final = 1e-6  # seconds by which a bucket may be overdrawn, since floats are rounded


def exceeded(what: str, limit: str, value: int) -> Refusal:
    """Return the refusal of something that would exceed a limit.

    Args:
        what: what the limit counts, such as "topics".
        limit: the name of the setting.
        value: its value.
    """
    return Refusal(ErrorCode.LIMIT_EXCEEDED, f"Too many {what}: at most {value} ({limit})")


class Rate(NamedTuple):
    """The size and speed of token buckets."""

    cost: float  # seconds in which a token comes back
    span: float  # seconds in which an empty bucket becomes full

    @classmethod
    def of(cls, tokens: int, seconds: int = 1) -> "Rate":
        """Return a rate of `tokens` a second; a full bucket holds the tokens of `seconds`."""
        return cls(1 / tokens, seconds + _ROUNDING)


NO_LIMIT: Final = Rate(0.0, math.inf)


class RateTable:
    """A bucket for each key.

    State: the time at which the bucket of each key is full, in two halves. Takes go to the new
    half. After one span the old half has only full buckets and is forgotten, and the new half
    becomes the old one. If the new half has KEYS keys, this happens early, so that memory is
    bounded; the forgotten keys then have full buckets too soon.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._new: dict[Hashable, float] = {}
        self._old: dict[Hashable, float] = {}
        self._turned = 0.0  # when the halves were changed

    def take(self, key: Hashable, now: float) -> float:
        """Take a token at `now`, in seconds.

        Returns:
            0 if there was one, else the seconds until there is one.
        """
        full_at = max(self._new.get(key) or self._old.get(key, now), now) + self._rate.cost
        wait = full_at - now - self._rate.span
        if wait > 0:
            return wait
        self._new[key] = full_at
        if len(self._new) >= KEYS:
            self._turn(now)
        return 0.0

    def sweep(self, now: float) -> None:
        """Forget buckets that are full at `now`."""
        if now - self._turned >= self._rate.span:
            self._turn(now)

    def _turn(self, now: float) -> None:
        self._old, self._new = self._new, {}
        self._turned = now

    def __len__(self) -> int:
        """The number of remembered buckets."""
        return len(self._new.keys() | self._old.keys())


class ConnectionCounts:
    """State: the number of open WebSockets and streams of each address, if there is a limit."""

    def __init__(self, limit: int) -> None:
        """`limit` is 0 for none."""
        self.limit = limit
        self._counts: dict[str, int] = {}

    def add(self, address: str) -> None:
        """Count a connection."""
        if self.limit:
            key = block(address)
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, address: str) -> None:
        """Stop counting a connection."""
        if self.limit:
            key = block(address)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def full(self, address: str) -> bool:
        """Return whether an address has as many connections as it may have."""
        return 0 < self.limit <= self._counts.get(block(address), 0)

    def __len__(self) -> int:
        """Return the number of addresses with connections."""
        return len(self._counts)


class RequestLimits:
    """Limits of HTTP requests. Each use of a limit is reported to the observer.

    State: the buckets of addresses and callers.
    """

    def __init__(
        self, settings: Settings, connections: ConnectionCounts, observer: Observer
    ) -> None:
        self._connect_rate = settings.connect_rate_per_ip
        self._request_rate = settings.request_rate
        self._connections = connections
        self._observer = observer
        self._connects = RateTable(Rate.of(self._connect_rate)) if self._connect_rate else None
        self._requests = RateTable(Rate.of(self._request_rate)) if self._request_rate else None

    def connect(self, address: str, now: float) -> Refusal | None:
        """Return the refusal of a new WebSocket or stream; None if an address may open it."""
        refusal = self.attempt(address, now)
        if refusal is None and self._connections.full(address):
            text = f"Too many connections: at most {self._connections.limit}"
            refusal = self._refuse(Limit.MAX_CONNECTIONS_PER_IP, text)
        return refusal

    def attempt(self, address: str, now: float) -> Refusal | None:
        """Count an attempt to connect; return its refusal, or None if it is within the rate."""
        wait = 0.0 if self._connects is None else self._connects.take(block(address), now)
        if not wait:
            return None
        text = f"Too many new connections: at most {self._connect_rate} a second"
        return self._refuse(Limit.CONNECT_RATE_PER_IP, text, wait)

    def request(self, caller: Hashable, now: float) -> Refusal | None:
        """Return the refusal of a request; None if the caller may make it.

        Args:
            caller: the API key, subject or address by which requests are counted.
            now: the time in seconds.
        """
        if self._requests is not None:
            wait = self._requests.take(caller, now)
            if wait:
                text = f"Too many requests: at most {self._request_rate} a second"
                return self._refuse(Limit.REQUEST_RATE, text, wait)
        return None

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full at `now`."""
        for table in (self._connects, self._requests):
            if table is not None:
                table.sweep(now)

    def _refuse(self, limit: Limit, text: str, wait: float = 0.0) -> Refusal:
        self._observer.limited(limit)
        return Refusal(ErrorCode.RATE_LIMITED, f"{text} ({limit})", retry_after_ms=_ms(wait))


class InflowRates(NamedTuple):
    """The limits of what one WebSocket sends; None for no limit."""

    messages: Rate | None
    bytes: Rate | None

    @classmethod
    def of(cls, settings: Settings) -> "InflowRates":
        """Return the limits of the settings."""
        messages, data = settings.message_rate, settings.byte_rate
        return cls(
            Rate.of(messages, BURST) if messages else None, Rate.of(data, BURST) if data else None
        )


class Inflow:
    """The buckets of one WebSocket.

    State: the times at which its buckets are full, the time since which its messages have been
    refused, and the seconds for which its reading must pause. `take` is called once for each slice
    of frames.
    """

    __slots__ = (
        "_byte_cost",
        "_byte_span",
        "_bytes_full_at",
        "_cost",
        "_full_at",
        "_refused_at",
        "_refused_since",
        "_span",
        "pause",
    )

    def __init__(self, rates: InflowRates) -> None:
        # The rates are unpacked, since they are looked at for every read.
        self._cost, self._span = rates.messages or NO_LIMIT
        self._byte_cost, self._byte_span = rates.bytes or NO_LIMIT
        self._full_at = -math.inf
        self._bytes_full_at = -math.inf
        self._refused_at = -math.inf  # the newest refusal
        self._refused_since = 0.0  # the first refusal of an excess that goes on
        # Seconds for which the connection must not read; the connection resets it to 0.
        self.pause = 0.0

    def take(self, messages: int, size: int, now: float) -> int:
        """Take a token for each of some messages and bytes, and set `pause`.

        Returns:
            The number of the last messages that get no token.
        """
        full_at = self._bytes_full_at
        if full_at < now:
            full_at = now
        full_at += size * self._byte_cost
        self._bytes_full_at = full_at
        over = full_at - now - self._byte_span
        if over > 0:
            # What exceeds MAX_PAUSE is forgotten: one large read must not pause a client for
            # minutes.
            self.pause = min(over, MAX_PAUSE)
            self._bytes_full_at = now + self._byte_span + self.pause
        full_at = self._full_at
        if full_at < now:
            full_at = now
        full_at += messages * self._cost
        over = full_at - now - self._span
        if over <= 0:
            self._full_at = full_at
            return 0
        late = min(messages, math.ceil(over / self._cost))
        self._full_at = full_at - late * self._cost
        return late

    def refusal(self, now: float) -> Refusal:
        """Return the refusal of a message that got no token."""
        wait = self._full_at + self._cost - now - self._span
        text = "Too many messages: more than MESSAGE_RATE allows"
        return Refusal(ErrorCode.RATE_LIMITED, text, retry_after_ms=max(1, _ms(wait)))

    def add_refusal(self, now: float) -> bool:
        """Record a refused message.

        Returns:
            True if messages have been refused for EXCESS seconds, without a break of PAUSE.
        """
        if now - self._refused_at > PAUSE:
            self._refused_since = now
        self._refused_at = now
        return now - self._refused_since >= EXCESS


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1_000)
