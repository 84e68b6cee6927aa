"""Log lines about a Redis that cannot be reached.

State: the reasons that were logged since Redis was last connected.
"""

import logging
import re
from collections.abc import Callable
from typing import Final

from hub.redis.address import RedisAddress

log = logging.getLogger(__name__)

KINDS: Final = 5  # reasons that are logged at once; then at most one each PAUSE
PAUSE: Final = 60.0  # seconds

# Reasons are the same if they differ only in words with digits: numbers, addresses, script hashes.
_VARIES: Final = re.compile(r"\w*\d\w*")

_STRICT: Final = "publish and subscribe are refused until it is back (REDIS_FAIL_MODE=strict)"
_LOCAL: Final = "events reach this server's own clients until it is back (REDIS_FAIL_MODE=local)"
_HISTORY: Final = "; topics with history refuse publish and subscribe (UNAVAILABLE)"


class OutageLog:
    """Logs each reason once, since an attempt to connect fails every second."""

    def __init__(
        self, address: RedisAddress, clock: Callable[[], float], *, strict: bool, remembers: bool
    ) -> None:
        """`clock`: seconds; `strict`: REDIS_FAIL_MODE; `remembers`: if topics have a history."""
        self._address = address
        self._clock = clock
        if strict:
            self._consequence = _STRICT
        else:
            self._consequence = _LOCAL + _HISTORY if remembers else _LOCAL
        self._logged: dict[str, None] = {}  # up to KINDS, oldest first
        self._next = 0.0  # the time when another reason may be logged

    def lost(self, why: str, fault: Exception | None = None) -> None:
        """Log why a connection ended, or could not be made.

        `fault`: an unexpected error of this server; it is logged with its traceback.
        """
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
        """An outage is declared: log how commands are answered."""
        log.warning("Redis is out of reach: %s", self._consequence)

    def end(self) -> None:
        """Redis is back: log the next reasons again."""
        self._logged.clear()
