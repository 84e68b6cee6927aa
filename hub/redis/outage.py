"""What the log says while Redis cannot be reached: why, and what becomes of commands.

State: the reasons of the outage under way that were logged.
"""

import logging
import re
from collections.abc import Callable
from typing import Final

from hub.redis.address import RedisAddress

log = logging.getLogger(__name__)

KINDS: Final = 5  # reasons that are logged as they come; then one each PAUSE
PAUSE: Final = 60.0  # seconds

# Reasons that differ only in such words are one: numbers, addresses, hashes of scripts.
_VARIES: Final = re.compile(r"\w*\d\w*")

_STRICT: Final = "publish and subscribe are refused until it is back (REDIS_FAIL_MODE=strict)"
_LOCAL: Final = "events reach this server's own clients until it is back (REDIS_FAIL_MODE=local)"
_HISTORY: Final = "; topics with history refuse publish and subscribe (UNAVAILABLE)"


class Outage:
    """Logs each reason of an outage once. An attempt to connect fails every second."""

    def __init__(
        self, address: RedisAddress, clock: Callable[[], float], *, strict: bool, remembers: bool
    ) -> None:
        """`clock`: seconds; `strict`: REDIS_FAIL_MODE; `remembers`: whether any topic does."""
        self._address = address
        self._clock = clock
        if strict:
            self._consequence = _STRICT
        else:
            self._consequence = _LOCAL + _HISTORY if remembers else _LOCAL
        self._logged: dict[str, None] = {}  # the newest KINDS, the oldest first
        self._next = 0.0  # when one more may be logged, where there are so many

    def lost(self, why: str, fault: Exception | None = None) -> None:
        """A connection has ended, or could not be made; `fault` is one of this server."""
        kind = _VARIES.sub("#", why)
        if kind in self._logged:
            return
        if len(self._logged) == KINDS:
            if self._clock() < self._next:
                return
            del self._logged[next(iter(self._logged))]
        self._logged[kind] = None
        self._next = self._clock() + PAUSE
        level = logging.ERROR if fault else logging.WARNING
        log.log(level, "no Redis at %s: %s; retrying", self._address, why, exc_info=fault)

    def declare(self) -> None:
        """It has taken too long: commands are served without Redis, or refused."""
        log.warning("Redis is out of reach: %s", self._consequence)

    def end(self) -> None:
        """Redis is back."""
        self._logged.clear()
