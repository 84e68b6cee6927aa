"""Log lines about a Redis that cannot be reached.

State: the reasons that were seen since Redis was last connected, and whether an outage is declared.
"""

import re
from collections.abc import Callable
from typing import Final

from hub.brokers.base import OutageReason
from hub.logs import events
from hub.redis.address import RedisAddress

KINDS: Final = 5  # reasons that are logged without a delay; further ones at most once in PAUSE
PAUSE: Final = 60.0  # seconds

# Reasons are the same if they differ only in words with digits: numbers, addresses, script hashes.
_VARIES: Final = re.compile(r"\w*\d\w*")

_STRICT: Final = "publish and subscribe are refused until it is back (REDIS_FAIL_MODE=strict)"
_LOCAL: Final = "events reach this server's own clients until it is back (REDIS_FAIL_MODE=local)"
_HISTORY: Final = "; topics with history refuse publish and subscribe (UNAVAILABLE)"


class OutageLog:
    """Logs an outage once, with its reasons, and each new reason while it lasts.

    An attempt to connect fails every second. A loss that ends before an outage is declared is only
    a field of the line about the next connection.
    """

    def __init__(
        self, address: RedisAddress, clock: Callable[[], float], *, strict: bool, remembers: bool
    ) -> None:
        """Create the log of a Redis that is not connected yet.

        Args:
            address: of Redis.
            clock: returns seconds of a monotonic clock.
            strict: whether REDIS_FAIL_MODE is strict.
            remembers: whether any topic has a history.
        """
        self._address = address
        self._clock = clock
        if strict:
            self._consequence = _STRICT
        else:
            self._consequence = _LOCAL + _HISTORY if remembers else _LOCAL
        self._seen: dict[str, str] = {}  # up to KINDS reasons by their kind, oldest first
        self._next = 0.0  # the time when another reason may be logged
        self._since: float | None = None  # when Redis was lost; None while it is connected
        self._declared = False

    def lost(self, why: str, fault: Exception | None = None) -> None:
        """Note why a connection ended or could not be made; log it in an outage.

        `fault`: an unexpected error of this server; it is logged with its traceback.
        """
        if self._since is None:
            self._since = self._clock()
        if not self._is_new(why):
            return
        if fault is not None:
            events.REDIS_FAULT.log(fault, redis=self._address, detail=why)
        elif self._declared:
            events.REDIS_STILL_LOST.log(redis=self._address, detail=why)

    def _is_new(self, why: str) -> bool:
        """Return whether a reason is of a new kind and may be logged now; if so, note the kind."""
        kind = _VARIES.sub("#", why)
        if kind in self._seen:
            return False
        if len(self._seen) == KINDS:
            if self._clock() < self._next:
                return False
            del self._seen[next(iter(self._seen))]
        self._seen[kind] = why
        self._next = self._clock() + PAUSE
        return True

    def declare(self, reason: OutageReason) -> None:
        """Log that an outage begins: why, and how commands are answered."""
        self._declared = True
        events.REDIS_LOST.log(
            redis=self._address,
            reason=reason,
            detail=self._details(),
            consequence=self._consequence,
        )

    def end(self) -> None:
        """Log that Redis is connected, and forget the reasons."""
        seconds = None if self._since is None else self._clock() - self._since
        detail = "" if self._declared else self._details()
        events.REDIS_JOINED.log(redis=self._address, seconds=seconds, detail=detail)
        self._seen.clear()
        self._since = None
        self._declared = False

    def _details(self) -> str:
        return "; ".join(self._seen.values())
